#include <string.h>

#include "base/buf.h"
#include "t/unit/unit.h"

static void
appends(void)
{
	struct buf buf = BUF_INIT;

	buf_append(&buf, NULL, 0);
	CU_ASSERT_EQUAL(buf.len, 0);
	CU_ASSERT_STRING_EQUAL(buf.data, "");
	buf_append(&buf, "a\0b", 3);
	buf_puts(&buf, "cd");
	buf_putc(&buf, 'e');
	buf_printf(&buf, "%d", 42);
	CU_ASSERT_EQUAL(buf.len, 8);
	CU_ASSERT(memcmp(buf.data, "a\0bcde42", 9) == 0);
	buf_reset(&buf);
	CU_ASSERT_EQUAL(buf.len, 0);
	CU_ASSERT_STRING_EQUAL(buf.data, "");
	buf_release(&buf);
	CU_ASSERT_PTR_NULL(buf.data);
	buf_reset(&buf);
}

static void
grows(void)
{
	struct buf buf = BUF_INIT;

	for (int i = 0; i < 10000; i++)
		buf_putc(&buf, 'a' + i % 26);
	buf_printf(&buf, "%01000d", 5);
	CU_ASSERT_EQUAL(buf.len, 11000);
	CU_ASSERT_EQUAL(strlen(buf.data), 11000);
	CU_ASSERT_EQUAL(buf.data[9999], 'a' + 9999 % 26);
	CU_ASSERT_EQUAL(buf.data[10999], '5');
	memset(buf_reserve(&buf, 50000), 'x', 50000);
	buf.len += 50000;
	CU_ASSERT(buf.size > buf.len);
	buf_release(&buf);
}

static void
drains(void)
{
	static const struct { const char *name; size_t len; const char *rest; }
	cases[] = {
		{ "nothing",	0,	"abcdef" },
		{ "some",	2,	"cdef" },
		{ "all",	6,	"" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf buf = BUF_INIT;

		buf_puts(&buf, "abcdef");
		buf_drain(&buf, cases[i].len);
		CASE_ASSERT(cases[i].name,
		    strcmp(buf.data, cases[i].rest) == 0);
		CASE_ASSERT(cases[i].name, buf.len == strlen(cases[i].rest));
		buf_release(&buf);
	}
}

SUITE(buf,
    { "appends", appends },
    { "grows", grows },
    { "drains", drains })
