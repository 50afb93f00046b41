#include <string.h>

#include "gateway/crc32c.h"
#include "t/unit/unit.h"

/* RFC 3720, B.4, and the usual check value. */
static void
known_values(void)
{
	static const struct {
		const char *name;
		unsigned char fill;
		size_t len;
		uint32_t want;
	} cases[] = {
		{ "nothing",		0, 0, 0 },
		{ "32 zeros",		0x00, 32, 0x8a9136aa },
		{ "32 ones",		0xff, 32, 0x62a8ab43 },
	};
	unsigned char bytes[32];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(bytes, cases[i].fill, sizeof(bytes));
		CASE_ASSERT(cases[i].name,
		    crc32c(0, bytes, cases[i].len) == cases[i].want);
		CASE_ASSERT(cases[i].name,
		    crc32c_portable(0, bytes, cases[i].len) == cases[i].want);
	}
	CU_ASSERT(crc32c(0, "123456789", 9) == 0xe3069283);
}

static void
implementations_agree(void)
{
	unsigned char bytes[300];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 197 + i / 7);
	for (size_t from = 0; from < 16; from++)
		for (size_t len = 0; len + from <= sizeof(bytes); len += 3)
			CU_ASSERT(crc32c(7, bytes + from, len) ==
			    crc32c_portable(7, bytes + from, len));
}

static void
continues(void)
{
	CU_ASSERT(crc32c(crc32c(0, "1234", 4), "56789", 5) == 0xe3069283);
}

SUITE(crc32c, { "known values", known_values },
    { "implementations agree", implementations_agree },
    { "continues", continues })
