#include "filters/milter_codec.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/arena.h"
#include "base/buf.h"
#include "t/unit/unit.h"

/* A string literal's bytes, its final NUL left out. */
#define BYTES(s) s, sizeof(s) - 1

static void
frames(void)
{
	static const struct {
		const char *name, *bytes;
		size_t len;
		int want;
		size_t size;
		const char *why;
	} cases[] = {
		{ "nothing", BYTES(""), 0, 5, NULL },
		{ "half a length", BYTES("\0\0\0"), 0, 5, NULL },
		{ "length only", BYTES("\0\0\0\1"), 0, 5, NULL },
		{ "a whole one", BYTES("\0\0\0\1c"), 1, 5, NULL },
		{ "with payload", BYTES("\0\0\0\3yab"), 1, 7, NULL },
		{ "a part", BYTES("\0\0\0\3ya"), 0, 7, NULL },
		{ "length 0", BYTES("\0\0\0\0c"), -1, 5, "length 0" },
		{ "at the limit", BYTES("\0\0\0\101"), 0, 69, NULL },
		{ "beyond the limit", BYTES("\0\0\0\102c"), -1, 5, "66" },
		{ "clamd", BYTES("UNKNOWN COMMAND"), -1, 5, "UNKNOWN" },
		{ "HTTP", BYTES("HTTP/1.1 400"), -1, 5, "HTTP/1.1" },
	};
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int got = milter_packet_parse(cases[i].bytes, cases[i].len,
		    64, &packet, why);

		CASE_ASSERT(cases[i].name, got == cases[i].want);
		CASE_ASSERT(cases[i].name, packet.size == cases[i].size);
		if (cases[i].why != NULL)
			CASE_ASSERT(cases[i].name,
			    strstr(why, cases[i].why) != NULL);
	}
}

static void
put_sockaddr(struct buf *out, const char *text)
{
	struct sockaddr_storage ss = { 0 };
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;
	struct sockaddr_un *un = (struct sockaddr_un *)&ss;

	if (inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(0x1234);
	} else if (inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(0x1234);
	} else if (text[0] == '/') {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof(un->sun_path), "%s", text);
	}
	milter_put_connect(out, "h", (struct sockaddr *)&ss);
}

static void
connects(void)
{
	static const struct {
		const char *address, *want;
		size_t len;
	} cases[] = {
		{ "192.0.2.1", BYTES("Ch\0" "4\x12\x34" "192.0.2.1\0") },
		{ "2001:db8::1", BYTES("Ch\0" "6\x12\x34" "2001:db8::1\0") },
		{ "::ffff:192.0.2.1",
		    BYTES("Ch\0" "4\x12\x34" "192.0.2.1\0") },
		{ "/run/x", BYTES("Ch\0L\0\0/run/x\0") },
		{ "none", BYTES("Ch\0U") },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_INIT;
		struct milter_packet packet;
		struct milter_command command;
		const char *why;
		char text[MILTER_WHY_SIZE];

		put_sockaddr(&out, cases[i].address);
		CASE_ASSERT(cases[i].address, out.len == cases[i].len + 4);
		CASE_ASSERT(cases[i].address, out.len == cases[i].len + 4 &&
		    memcmp(out.data + 4, cases[i].want, cases[i].len) == 0);
		CASE_ASSERT(cases[i].address, milter_packet_parse(out.data,
		    out.len, 65535, &packet, text) == 1);
		CASE_ASSERT(cases[i].address,
		    milter_command_parse(&packet, &command, &why) == 0);
		CASE_ASSERT(cases[i].address,
		    command.family == cases[i].want[3]);
		buf_release(&out);
	}
}

static void
envelopes(void)
{
	static const char *const args[] = { "SIZE=1000", "ORCPT=rfc822;a", 0 };
	struct buf out = BUF_INIT;
	struct milter_packet packet;
	struct milter_command command;
	const char *why;
	char text[MILTER_WHY_SIZE];
	size_t at = 0;

	milter_put_envelope(&out, MILTER_MAIL, "", args);
	CU_ASSERT_EQUAL_FATAL(milter_packet_parse(out.data, out.len, 65535,
	    &packet, text), 1);
	CU_ASSERT_EQUAL_FATAL(milter_command_parse(&packet, &command, &why),
	    0);
	CU_ASSERT_STRING_EQUAL(command.first, "<>");
	CU_ASSERT_STRING_EQUAL(milter_argument_next(&command, &at),
	    "SIZE=1000");
	CU_ASSERT_STRING_EQUAL(milter_argument_next(&command, &at),
	    "ORCPT=rfc822;a");
	CU_ASSERT_PTR_NULL(milter_argument_next(&command, &at));
	buf_release(&out);
}

static void
headers(void)
{
	static const struct {
		const char *name, *raw;
		bool leading;
		const char *want;
		size_t len;
	} cases[] = {
		{ "one space dropped", "A: v\r\n", false, BYTES("A\0v\0") },
		{ "one of two", "A:  v\r\n", false, BYTES("A\0 v\0") },
		{ "none", "A:v\r\n", false, BYTES("A\0v\0") },
		{ "a tab stays", "A:\tv\r\n", false, BYTES("A\0\tv\0") },
		{ "exact", "A:  v\r\n", true, BYTES("A\0  v\0") },
		{ "fold", "A: x\r\n\ty\r\n", false, BYTES("A\0x\n\ty\0") },
		{ "fold first", "A:\r\n v\r\n", false, BYTES("A\0\n v\0") },
		{ "empty", "A:\r\n", false, BYTES("A\0\0") },
		{ "blank only", "A: \r\n", false, BYTES("A\0\0") },
		{ "blank before colon", "A : v\r\n", false,
		    BYTES("A\0v\0") },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_INIT;
		size_t name_len = strcspn(cases[i].raw, " :");

		CASE_ASSERT(cases[i].name, milter_put_header(&out,
		    cases[i].raw, strlen(cases[i].raw), name_len,
		    cases[i].leading) == 0);
		CASE_ASSERT(cases[i].name, out.len == cases[i].len + 5);
		CASE_ASSERT(cases[i].name, out.len == cases[i].len + 5 &&
		    memcmp(out.data + 5, cases[i].want, cases[i].len) == 0);
		buf_release(&out);
	}
}

static void
header_limits(void)
{
	static const size_t sizes[] = { 65534, 65535, 65536, 200000 };
	char *raw = NULL;

	for (size_t i = 0; i < 4; i++) {
		struct buf text = BUF_INIT, out = BUF_INIT;
		int got;

		/* "X" NUL value NUL: the value is three bytes less. */
		buf_puts(&text, "X:");
		raw = buf_reserve(&text, sizes[i]);
		memset(raw, 'v', sizes[i] - 3);
		text.len += sizes[i] - 3;
		buf_puts(&text, "\r\n");
		buf_puts(&out, "before");
		got = milter_put_header(&out, text.data, text.len, 1, true);
		CU_ASSERT_EQUAL(got, sizes[i] <= MILTER_PAYLOAD_MAX ? 0 : -1);
		CU_ASSERT_EQUAL(out.len, got == 0 ? 6 + 5 + sizes[i] : 6);
		buf_release(&text);
		buf_release(&out);
	}
}

static void
negotiations(void)
{
	struct milter_negotiation n;
	const char *why;

	CU_ASSERT_EQUAL(milter_negotiation_parse(BYTES("\0\0\0\6\0\0\0\1"),
	    &n, &why), -1);
	CU_ASSERT_EQUAL(milter_negotiation_parse(
	    BYTES("\0\0\0\6\0\0\1\xff\0\x1f\xff\xff"), &n, &why), 0);
	CU_ASSERT_EQUAL(n.version, 6);
	CU_ASSERT_EQUAL(n.actions, 0x1ff);
	CU_ASSERT_EQUAL(n.protocol, 0x1fffff);
	CU_ASSERT_PTR_NULL(n.macros[MILTER_AT_CONNECT]);

	/* Unknown stage passed over, the last of a stage counts. */
	CU_ASSERT_EQUAL(milter_negotiation_parse(BYTES(
	    "\0\0\0\6\0\0\1\xff\0\0\0\0" "\0\0\0\2a\0" "\0\0\0\11zz\0"
	    "\0\0\0\2i, {auth_type}\0" "\0\0\0\5\0" "\0\0\0\6cut"),
	    &n, &why), 0);
	CU_ASSERT_STRING_EQUAL(n.macros[MILTER_AT_MAIL], "i, {auth_type}");
	CU_ASSERT_STRING_EQUAL(n.macros[MILTER_AT_EOM], "");
	CU_ASSERT_PTR_NULL(n.macros[MILTER_AT_EOH]);
	CU_ASSERT(n.macros_cut);
}

static void
replies(void)
{
	static const struct {
		const char *name;
		char code;
		const char *payload;
		size_t len;
		int want;
	} cases[] = {
		{ "continue", 'c', BYTES(""), 0 },
		{ "data after continue", 'c', BYTES("x"), -1 },
		{ "data after accept", 'a', BYTES("x"), -1 },
		{ "data after progress", 'p', BYTES("x"), -1 },
		{ "shutdown", '4', BYTES(""), 0 },
		{ "unknown", 'Z', BYTES(""), -1 },
		{ "symbol list as a reply", 'l', BYTES(""), -1 },
		{ "no code at all", '\0', BYTES("550 x\0"), -1 },
		{ "header", 'h', BYTES("A\0b\0"), 0 },
		{ "header without NUL", 'h', BYTES("A\0b"), -1 },
		{ "header of one string", 'h', BYTES("A\0"), -1 },
		{ "header of three", 'h', BYTES("A\0b\0c\0"), -1 },
		{ "insert", 'i', BYTES("\0\0\0\1A\0b\0"), 0 },
		{ "insert, short index", 'i', BYTES("\0\0\1"), -1 },
		{ "change", 'm', BYTES("\xff\xff\xff\xff" "A\0\0"), 0 },
		{ "change of nothing", 'm', BYTES(""), -1 },
		{ "recipient", '+', BYTES("<a>\0"), 0 },
		{ "recipient without NUL", '+', BYTES("<a>"), -1 },
		{ "recipient with more", '+', BYTES("<a>\0b\0"), -1 },
		{ "recipient, arguments", '2', BYTES("<a>\0N\0"), 0 },
		{ "recipient, none", '2', BYTES("<a>\0"), 0 },
		{ "sender, three strings", 'e', BYTES("<a>\0b\0c\0"), -1 },
		{ "sender", 'e', BYTES("<>\0"), 0 },
		{ "body", 'b', BYTES("a\0b"), 0 },
		{ "quarantine", 'q', BYTES("why\0"), 0 },
		{ "quarantine without NUL", 'q', BYTES("why"), -1 },
	};
	struct milter_reply reply;
	const char *why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct milter_packet packet = { cases[i].code,
		    cases[i].payload, cases[i].len, cases[i].len + 5 };

		CASE_ASSERT(cases[i].name, milter_reply_parse(&packet, &reply,
		    &why) == cases[i].want);
	}
}

static void
commands(void)
{
	static const struct {
		const char *name;
		char code;
		const char *payload;
		size_t len;
		int want;
	} cases[] = {
		{ "connect", 'C', BYTES("h\0U"), 0 },
		{ "connect, more than unknown", 'C', BYTES("h\0U\0\0\0"), 0 },
		{ "connect, more than an address", 'C',
		    BYTES("h\0" "4\0\1x\0\0"), 0 },
		{ "connect, no family", 'C', BYTES("h\0"), -1 },
		{ "connect, no NUL", 'C', BYTES("h\0" "4\0\1x"), -1 },
		{ "connect, odd family", 'C', BYTES("h\0Z\0\1x\0"), -1 },
		{ "macros", 'D', BYTES("Mi\0x\0"), 0 },
		{ "macros for nothing", 'D', BYTES(""), -1 },
		{ "macros without NUL", 'D', BYTES("Mi\0x"), -1 },
		{ "helo", 'H', BYTES("x\0"), 0 },
		{ "helo with more", 'H', BYTES("x\0y\0"), -1 },
		{ "mail without NUL", 'M', BYTES("<x>\0S"), -1 },
		{ "header", 'L', BYTES("a\0b\0"), 0 },
		{ "header, one string", 'L', BYTES("a\0"), -1 },
		{ "eoh with data", 'N', BYTES("x"), -1 },
		{ "eob with data", 'E', BYTES("x"), 0 },
		{ "unknown", 'z', BYTES(""), -1 },
	};
	struct milter_command command;
	const char *why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct milter_packet packet = { cases[i].code,
		    cases[i].payload, cases[i].len, cases[i].len + 5 };

		CASE_ASSERT(cases[i].name, milter_command_parse(&packet,
		    &command, &why) == cases[i].want);
	}
}

static void
texts(void)
{
	static const struct {
		const char *name, *payload;
		size_t len;
		int code;		/* 0: refused */
		const char *enhanced, *text;
	} cases[] = {
		{ "plain", BYTES("550 no\0"), 550, NULL, "no" },
		{ "enhanced", BYTES("550 5.7.1 no\0"), 550, "5.7.1", "no" },
		{ "many lines", BYTES("451-4.7.1 a\r\n451 4.7.1 b\0"), 451,
		    "4.7.1", "a\nb" },
		{ "bare LF", BYTES("451-a\n451 b\0"), 451, NULL, "a\nb" },
		{ "421", BYTES("421 4.3.2 bye\0"), 421, "4.3.2", "bye" },
		{ "P65 percent", BYTES("550 5.7.1 100%% of %s%n\0"), 550, "5.7.1",
		    "100% of %s%n" },
		{ "P65 controls and 8 bit", BYTES("550 a\tb\1\xe4\0"), 550, NULL,
		    "ab?" },
		{ "no text", BYTES("550 5.7.1\0"), 550, "5.7.1", "" },
		{ "not enhanced", BYTES("550 5.7.1x\0"), 550, NULL, "5.7.1x" },
		{ "no NUL", BYTES("550 no"), 0, NULL, NULL },
		{ "NUL inside", BYTES("550 n\0o\0"), 0, NULL, NULL },
		{ "empty", BYTES("\0"), 0, NULL, NULL },
		{ "nothing", BYTES(""), 0, NULL, NULL },
		{ "two digits", BYTES("25\0"), 0, NULL, NULL },
		{ "class 2", BYTES("250 ok\0"), 0, NULL, NULL },
		{ "no space", BYTES("550x\0"), 0, NULL, NULL },
		{ "hyphen at the end", BYTES("550-x\0"), 0, NULL, NULL },
		{ "two codes", BYTES("550-x\r\n551 y\0"), 0, NULL, NULL },
		{ "space in the middle", BYTES("550 x\r\n550 y\0"), 0, NULL,
		    NULL },
		{ "line injected", BYTES("550 x\r\n250 y\0"), 0, NULL, NULL },
		{ "bare CR", BYTES("550 x\ry\0"), 0, NULL, NULL },
		{ "class mismatch", BYTES("550 4.7.1 x\0"), 0, NULL, NULL },
	};
	struct arena *arena = arena_new(0);
	struct milter_text text;
	const char *why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int got = milter_text_parse(cases[i].payload, cases[i].len,
		    arena, &text, &why);

		CASE_ASSERT(cases[i].name, got == (cases[i].code ? 0 : -1));
		if (got != 0)
			continue;
		CASE_ASSERT(cases[i].name, text.code == cases[i].code);
		CASE_ASSERT(cases[i].name,
		    strcmp(text.text, cases[i].text) == 0);
		CASE_ASSERT(cases[i].name, (text.enhanced == NULL) ==
		    (cases[i].enhanced == NULL));
		if (text.enhanced != NULL && cases[i].enhanced != NULL)
			CASE_ASSERT(cases[i].name, strcmp(text.enhanced,
			    cases[i].enhanced) == 0);
	}
	arena_free(&arena);
}

static void
texts_of_32_long_lines(void)
{
	struct arena *arena = arena_new(0);
	struct milter_text text;
	struct buf in = BUF_INIT;
	const char *why, *line;
	size_t lines = 0;

	for (int i = 0; i < 32; i++) {
		buf_puts(&in, i < 31 ? "550-" : "550 ");
		for (int j = 0; j < 980; j++)
			buf_putc(&in, 'x');
		if (i < 31)
			buf_puts(&in, "\r\n");
	}
	CU_ASSERT_EQUAL_FATAL(milter_text_parse(in.data, in.len + 1, arena,
	    &text, &why), 0);
	for (line = text.text; line != NULL; lines++) {
		const char *lf = strchr(line, '\n');

		CU_ASSERT((lf != NULL ? (size_t)(lf - line) : strlen(line)) <=
		    500);
		line = lf != NULL ? lf + 1 : NULL;
	}
	CU_ASSERT_EQUAL(lines, 96);
	buf_release(&in);
	arena_free(&arena);
}

static void
texts_go_round(void)
{
	struct arena *arena = arena_new(0);
	struct milter_packet packet;
	struct milter_text text;
	struct buf out = BUF_INIT;
	const char *why;
	char error[MILTER_WHY_SIZE];

	milter_put_text(&out, 550, "5.7.1", "100%\nno");
	CU_ASSERT_EQUAL_FATAL(milter_packet_parse(out.data, out.len, 65535,
	    &packet, error), 1);
	CU_ASSERT_STRING_EQUAL(packet.payload,
	    "550-5.7.1 100%%\r\n550 5.7.1 no");
	CU_ASSERT_EQUAL_FATAL(milter_text_parse(packet.payload, packet.len,
	    arena, &text, &why), 0);
	CU_ASSERT_STRING_EQUAL(text.text, "100%\nno");
	buf_release(&out);
	arena_free(&arena);
}

SUITE(milter_codec,
    { "frames", frames },
    { "connects", connects },
    { "envelopes", envelopes },
    { "headers", headers },
    { "headers at the limit", header_limits },
    { "negotiations", negotiations },
    { "replies", replies },
    { "commands", commands },
    { "texts", texts },
    { "32 long lines", texts_of_32_long_lines },
    { "texts go round", texts_go_round })
