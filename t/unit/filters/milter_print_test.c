/* The milter protocol in words, whatever its bytes. */
#include "filters/milter_print.h"

#include <string.h>

#include "base/buf.h"
#include "filters/milter_codec.h"
#include "filters/milter_macros.h"
#include "t/unit/unit.h"

#define P(code, payload) { code, payload, sizeof(payload) - 1, 0 }

static const struct {
	const char *name;
	bool from_filter;
	struct milter_packet packet;
	const char *want;
} cases[] = {
	{ "recipient", false, P('R', "<b@example.net>\0NOTIFY=NEVER\0"),
	    "rcpt <b@example.net> NOTIFY=NEVER" },
	{ "the same code of a filter", true, P('r', ""), "reject" },
	{ "macros", false, P('D', "Mi\0ID1\0"), "macros for mail: i ID1" },
	{ "macros of nothing", false, P('D', ""), "macros for ?:" },
	{ "client", false, P('C', "[192.0.2.1]\0" "4\0\x19" "192.0.2.1\0"),
	    "connect [192.0.2.1] 192.0.2.1 port 25" },
	{ "client, malformed", false, P('C', "x"),
	    "connect (malformed command)" },
	{ "field", false, P('L', "Subject\0 a\n b\0"),
	    "header Subject:  a\\n b" },
	{ "field without a value", false, P('L', "Subject"),
	    "header Subject" },
	{ "field, value without end", true, P('h', "A\0b"),
	    "add_header A: b" },
	{ "insert", true, P('i', "\0\0\0\2A\0b\0"),
	    "insert_header 2 A: b" },
	{ "insert, too short", true, P('i', "\0\0"), "insert_header" },
	{ "reply", true, P('y', "550 5.7.1 no\xff\0"),
	    "reply 550 5.7.1 no\\xff" },
	{ "body", false, P('B', "a\\\r\n"), "body 4 bytes \"a\\\\\\r\\n\"" },
	{ "negotiation, too short", true, P('O', "\0"),
	    "negotiate (negotiation packet is too short)" },
	{ "negotiation", true, P('O', "\0\0\0\6\0\0\0\1\0\x10\0\2"
	    "\0\0\0\2i\0"), "negotiate version 6, actions add_header, "
	    "protocol no_helo leading_space, macros at mail: i" },
	{ "unknown", true, P('\1', "x"), "unknown code 0x01 x" },
};

static void
packets(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf text = BUF_INIT;

		milter_print_packet(&text, cases[i].from_filter,
		    &cases[i].packet, cases[i].packet.len);
		CASE_ASSERT(cases[i].name, strcmp(text.data,
		    cases[i].want) == 0);
		buf_release(&text);
	}
}

static void
bits(void)
{
	struct buf text = BUF_INIT;

	milter_print_actions(&text, 0);
	CU_ASSERT_STRING_EQUAL(text.data, "none");
	buf_reset(&text);
	milter_print_actions(&text, 0x80000021);
	CU_ASSERT_STRING_EQUAL(text.data, "add_header quarantine 0x80000000");
	buf_reset(&text);
	milter_print_protocol(&text, 0x100400);
	CU_ASSERT_STRING_EQUAL(text.data, "skip leading_space");
	buf_release(&text);
	CU_ASSERT(milter_macro_exists("auth_authen"));
	CU_ASSERT(!milter_macro_exists("auth"));
}

/* Long text is cut, and no packet prints without bound. */
static void
long_text(void)
{
	static char bytes[65535];
	const struct milter_packet packet = { 'B', bytes, sizeof(bytes), 0 };
	struct buf text = BUF_INIT;

	milter_print_packet(&text, false, &packet, 100000);
	CU_ASSERT(text.len < 2000);
	CU_ASSERT(strncmp(text.data, "body 100000 bytes \"", 19) == 0);
	buf_release(&text);
}

SUITE(milter_print,
    { "packets", packets },
    { "bits", bits },
    { "long text", long_text })
