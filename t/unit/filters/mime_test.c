#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/mail.h"
#include "filters/mime.h"
#include "t/unit/unit.h"

#define X10 "xxxxxxxxxx"
#define X70 X10 X10 X10 X10 X10 X10 X10
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- encodings --- */

struct code_case {
	const char *name;
	enum mime_code code;
	const char *text, *want;
	size_t len;			/* 0: as a string */
};

static const struct code_case codes[] = {
	{ "plain", MIME_TO_QUOTED_PRINTABLE, "a b\r\n\r\nc\r\n",
	    "a b\r\n\r\nc\r\n", 0 },
	{ "8-bit", MIME_TO_QUOTED_PRINTABLE, "Gr\xc3\xbc\xc3\x9f" "e=\x7f\r\n",
	    "Gr=C3=BC=C3=9Fe=3D=7F\r\n", 0 },
	{ "a blank at a line's end", MIME_TO_QUOTED_PRINTABLE,
	    "a \r\nb\t\r\n \t\r\n", "a=20\r\nb=09\r\n =09\r\n", 0 },
	{ "a blank at the end", MIME_TO_QUOTED_PRINTABLE, "a ", "a=20", 0 },
	{ "a blank before a bare CR", MIME_TO_QUOTED_PRINTABLE, "a \rb",
	    "a =0Db", 0 },
	{ "a blank before a bare LF", MIME_TO_QUOTED_PRINTABLE, "a \nb",
	    "a =0Ab", 0 },
	{ "two CRs", MIME_TO_QUOTED_PRINTABLE, "a\r\r\nb", "a=0D\r\nb", 0 },
	{ "a CR at the end", MIME_TO_QUOTED_PRINTABLE, "a\r", "a=0D", 0 },
	{ "a NUL", MIME_TO_QUOTED_PRINTABLE, "a\0b", "a=00b", 3 },
	{ "no text", MIME_TO_QUOTED_PRINTABLE, "", "", 0 },
	{ "dots at the begin of lines", MIME_TO_QUOTED_PRINTABLE,
	    ".\r\n.a.\r\n", "=2E\r\n=2Ea.\r\n", 0 },
	{ "what looks like a boundary", MIME_TO_QUOTED_PRINTABLE,
	    "--b\r\na--b\r\n", "=2D-b\r\na--b\r\n", 0 },
	{ "75 characters", MIME_TO_QUOTED_PRINTABLE, X70 "12345\r\n",
	    X70 "12345\r\n", 0 },
	{ "76 characters", MIME_TO_QUOTED_PRINTABLE, X70 "123456\r\n",
	    X70 "12345=\r\n6\r\n", 0 },
	{ "an escape that does not fit", MIME_TO_QUOTED_PRINTABLE,
	    X70 "123\xff\r\n", X70 "123=\r\n=FF\r\n", 0 },
	{ "a boundary that a soft break would make", MIME_TO_QUOTED_PRINTABLE,
	    X70 "12345--b\r\n", X70 "12345=\r\n=2D-b\r\n", 0 },
	{ "a dot that a soft break would lay bare", MIME_TO_QUOTED_PRINTABLE,
	    X70 "12345.\r\n", X70 "12345=\r\n=2E\r\n", 0 },
	{ "a blank behind a soft break", MIME_TO_QUOTED_PRINTABLE,
	    X70 "12345 \r\n", X70 "12345=\r\n=20\r\n", 0 },
	{ "base64", MIME_TO_BASE64, "abcd", "YWJjZA==", 0 },
	{ "base64 of nothing", MIME_TO_BASE64, "", "", 0 },
	{ "base64 of a line", MIME_TO_BASE64,
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
	    "YWFhYWFhYWFh", 0 },
	{ "base64 of a line and an octet", MIME_TO_BASE64,
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab",
	    "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh"
	    "YWFhYWFhYWFh\r\nYg==", 0 },
	{ "base64 in lines of its own", MIME_REPAIR_BASE64,
	    "YWFh\r\nYW Fh!\xff\r\n\r\nYQ==\r\n", "YWFhYWFhYQ==", 0 },
	{ "base64 in one line", MIME_REPAIR_BASE64, X70 X10, X70 "xxxxxx\r\n"
	    "xxxx", 0 },
	{ "quoted-printable", MIME_REPAIR_QUOTED_PRINTABLE,
	    "a=3D=c3=BC=\r\nb \r\n", "a=3D=C3=BCb\r\n", 0 },
	{ "quoted-printable with 8-bit", MIME_REPAIR_QUOTED_PRINTABLE,
	    "\xc3=\r\n\xbc", "=C3=BC", 0 },
	{ "an = that escapes nothing", MIME_REPAIR_QUOTED_PRINTABLE,
	    "a=b=4x==41", "a=3Db=3D4x=3DA", 0 },
	{ "a soft break with a blank", MIME_REPAIR_QUOTED_PRINTABLE,
	    "a= \t\r\nb", "ab", 0 },
	{ "a soft break at the end", MIME_REPAIR_QUOTED_PRINTABLE, "a=", "a",
	    0 },
	{ "an escaped blank", MIME_REPAIR_QUOTED_PRINTABLE, "a=20\r\nb =\r\n",
	    "a=20\r\nb=20", 0 },
	{ "an escaped line end", MIME_REPAIR_QUOTED_PRINTABLE, "a=0D=0Ab",
	    "a\r\nb", 0 },
	{ "quoted-printable in one line", MIME_REPAIR_QUOTED_PRINTABLE,
	    X70 "1234567=20", X70 "12345=\r\n67=20", 0 },
};

/* In pieces of so many octets. */
static char *
code_text(const struct code_case *c, size_t len, size_t piece)
{
	struct buf out = BUF_INIT;
	struct mime_coder coder = { .code = c->code, .out = &out };

	for (size_t at = 0; at < len; at += piece)
		mime_code(&coder, c->text + at,
		    len - at < piece ? len - at : piece);
	mime_code_end(&coder);
	return out.data;
}

static void
encodes(void)
{
	for (size_t i = 0; i < COUNT(codes); i++) {
		const struct code_case *c = &codes[i];
		size_t len = c->len > 0 ? c->len : strlen(c->text);

		for (size_t piece = 1; piece <= len + 1; piece++) {
			char *text = code_text(c, len, piece);

			CASE_ASSERT(c->name, strcmp(text, c->want) == 0);
			if (strcmp(text, c->want) != 0)
				fprintf(stderr, "\n<%s>\n", text);
			free(text);
		}
	}
}

/* --- scanning --- */

static void
lines_are_measured(void)
{
	static const struct { const char *name; size_t len; const char *end;
	    bool want; } cases[] = {
		{ "998 octets", 998, "\r\n", false },
		{ "999 octets", 999, "\r\n", true },
		{ "998 octets, the end", 998, "", false },
		{ "5000 octets", 5000, "\r\n", true },
		{ "5000 octets, the end", 5000, "", true },
		{ "none", 0, "", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		for (size_t piece = 1; piece < 1100; piece += 499) {
			struct buf text = BUF_INIT;
			struct mime_scan scan = { 0 };

			buf_puts(&text, "short\r\n\r\nlines\r\n");
			for (size_t n = 0; n < cases[i].len; n++)
				buf_putc(&text, 'x');
			buf_puts(&text, cases[i].end);
			if (*cases[i].end != '\0')
				buf_puts(&text, "and more\r\n");
			for (size_t at = 0; at < text.len; at += piece)
				mime_scan(&scan, text.data + at,
				    text.len - at < piece ? text.len - at :
				    piece);
			CASE_ASSERT(cases[i].name,
			    scan.long_line == cases[i].want);
			CASE_ASSERT(cases[i].name, !scan.eight_bit);
			buf_release(&text);
		}
	}
}

static void
eight_bit_is_found(void)
{
	char text[200];

	memset(text, 'x', sizeof(text));
	for (size_t len = 0; len < sizeof(text); len++) {
		CU_ASSERT(!mime_has_eight_bit(text, len));
		text[len] = '\x80';
		CU_ASSERT(!mime_has_eight_bit(text, len));
		CU_ASSERT(mime_has_eight_bit(text, len + 1));
		CU_ASSERT(mime_has_eight_bit(text, sizeof(text)));
		text[len] = 'x';
	}
}

static void
utf8_is_told(void)
{
	static const struct { const char *name, *text; bool want; } cases[] = {
		{ "none", "", true }, { "ASCII", "abc", true },
		{ "two octets", "\xc3\xbc", true },
		{ "three", "\xe2\x82\xac", true },
		{ "four", "\xf0\x9f\x98\x80", true },
		{ "cut", "a\xe2\x82", false },
		{ "broken off", "\xe2\x82" "a", false },
		{ "Latin 1", "\xfc", false },
		{ "no begin", "\x82", false },
		{ "too long a form", "\xc0\xaf", false },
		{ "too long, three", "\xe0\x9f\xbf", false },
		{ "too long, four", "\xf0\x8f\xbf\xbf", false },
		{ "a surrogate", "\xed\xa0\x80", false },
		{ "beyond the last", "\xf4\x90\x80\x80", false },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct mime_utf8 utf8 = { 0 };

		for (const char *p = cases[i].text; *p != '\0'; p++)
			mime_utf8(&utf8, p, 1);
		CASE_ASSERT(cases[i].name,
		    mime_utf8_end(&utf8) == cases[i].want);
	}
}

/* --- headers --- */

static void
entities_are_read(void)
{
	static const struct { const char *name, *header; enum mime_kind kind;
	    enum mime_encoding encoding; const char *boundary; } cases[] = {
		{ "no MIME", "Subject: x\r\n", MIME_TEXT, MIME_7BIT, "" },
		{ "text", "content-type: TEXT/Plain; charset=utf-8\r\n"
		    "Content-transfer-encoding: 8BIT\r\n", MIME_TEXT,
		    MIME_8BIT, "" },
		{ "comments", "Content-Type: (a(b)\\)) text (c) / (d) html"
		    "\r\nContent-Transfer-Encoding: (e) base64 (f)\r\n",
		    MIME_TEXT, MIME_BASE64, "" },
		{ "an image", "Content-Type: image/png\r\n"
		    "Content-Transfer-Encoding: binary\r\n", MIME_OTHER,
		    MIME_8BIT, "" },
		{ "no subtype", "Content-Type: text\r\n", MIME_TEXT,
		    MIME_7BIT, "" },
		{ "no subtype of multipart", "Content-Type: multipart\r\n",
		    MIME_AMBIGUOUS, MIME_7BIT, "" },
		{ "multipart", "Content-Type: multipart/mixed;\r\n"
		    " boundary=\"a b\"; x=y\r\n", MIME_MULTIPART, MIME_7BIT,
		    "a b" },
		{ "a bare boundary", "Content-Type: multipart/mixed;"
		    "boundary=----=_P:1\r\n", MIME_MULTIPART, MIME_7BIT,
		    "----=_P:1" },
		{ "quoted characters", "Content-Type: multipart/mixed; boundary"
		    "=\"a\\\"\\b \"\r\n", MIME_MULTIPART, MIME_7BIT,
		    "a\"b" },
		{ "a semicolon at the end", "Content-Type: multipart/mixed; "
		    "boundary=a;\r\n", MIME_MULTIPART, MIME_7BIT, "a" },
		{ "no boundary", "Content-Type: multipart/mixed\r\n",
		    MIME_AMBIGUOUS, MIME_7BIT, "" },
		{ "an empty boundary", "Content-Type: multipart/mixed; "
		    "boundary=\"\"\r\n", MIME_AMBIGUOUS, MIME_7BIT, "" },
		{ "two boundaries", "Content-Type: multipart/mixed; "
		    "boundary=a; boundary=b\r\n", MIME_AMBIGUOUS, MIME_7BIT,
		    "a" },
		{ "a boundary in pieces", "Content-Type: multipart/mixed; "
		    "boundary*0=a; boundary*1=b\r\n", MIME_AMBIGUOUS,
		    MIME_7BIT, "" },
		{ "an open quote", "Content-Type: multipart/mixed; "
		    "boundary=\"a\r\n", MIME_AMBIGUOUS, MIME_7BIT, "" },
		{ "signed", "Content-Type: multipart/signed; boundary=a\r\n",
		    MIME_SEALED, MIME_7BIT, "" },
		{ "encrypted", "Content-Type: multipart/encrypted;boundary=a"
		    "\r\n", MIME_SEALED, MIME_7BIT, "" },
		{ "S/MIME", "Content-Type: application/x-pkcs7-mime\r\n",
		    MIME_SEALED, MIME_7BIT, "" },
		{ "a message", "Content-Type: message/rfc822\r\n",
		    MIME_MESSAGE, MIME_7BIT, "" },
		{ "two types", "Content-Type: text/plain\r\nContent-Type: "
		    "text/html\r\n", MIME_AMBIGUOUS, MIME_7BIT, "" },
		{ "two encodings", "Content-Transfer-Encoding: 8bit\r\n"
		    "Content-Transfer-Encoding: base64\r\n", MIME_AMBIGUOUS,
		    MIME_8BIT, "" },
		{ "an unknown encoding", "Content-Transfer-Encoding: x-uu\r\n",
		    MIME_TEXT, MIME_UNKNOWN_ENCODING, "" },
		{ "half an encoding", "Content-Transfer-Encoding: base64 x\r\n",
		    MIME_TEXT, MIME_UNKNOWN_ENCODING, "" },
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		struct mime_entity entity;

		headers_parse(&headers, arena, cases[i].header,
		    strlen(cases[i].header));
		mime_entity_read(&entity, &headers, arena, false);
		CASE_ASSERT(cases[i].name, entity.kind == cases[i].kind);
		CASE_ASSERT(cases[i].name,
		    entity.encoding == cases[i].encoding);
		CASE_ASSERT(cases[i].name, strcmp(entity.boundary,
		    cases[i].boundary) == 0);
		arena_free(&arena);
	}
}

static void
parts_of_digests(void)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct mime_entity entity;

	mime_entity_read(&entity, &headers, arena, true);
	CU_ASSERT(entity.kind == MIME_MESSAGE && !entity.typed);
	headers_add(&headers, arena, NULL, "Content-Type",
	    "multipart/digest; boundary=a", true);
	mime_entity_read(&entity, &headers, arena, true);
	CU_ASSERT(entity.kind == MIME_MULTIPART && entity.digest);
	arena_free(&arena);
}

SUITE(mime,
    { "encodes", encodes },
    { "lines are measured", lines_are_measured },
    { "8-bit octets are found", eight_bit_is_found },
    { "UTF-8 is told", utf8_is_told },
    { "entities are read", entities_are_read },
    { "parts of digests are messages", parts_of_digests })
