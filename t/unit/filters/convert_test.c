#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "filters/convert.h"
#include "t/unit/unit.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LINES MIME_WANT_LINES
#define SEVEN MIME_WANT_SEVEN_BIT
#define ALL (LINES | SEVEN)
#define ASCII (ALL | MIME_WANT_ASCII)

/*
 * In the cases % stands for 600 x, and @ for 999.  In what is wanted @ is these
 * in quoted-printable, * behind seven characters, and # in base64.
 */

#define V "MIME-Version: 1.0\r\n"
#define MIXED V "Content-Type: multipart/mixed; boundary=b\r\n"
#define E8 "Content-Transfer-Encoding: 8bit\r\n"
#define E7 "Content-Transfer-Encoding: 7bit\r\n"
#define QP "Content-Transfer-Encoding: quoted-printable\r\n"
#define B64 "Content-Transfer-Encoding: base64\r\n"
#define HTML "Content-Type: text/html\r\n"
#define PNG "Content-Type: image/png\r\n"

struct convert_case {
	const char *name;
	unsigned want;
	const char *message;
	const char *result;		/* NULL: as it is */
	const char *why;		/* or NULL */
};

static const struct convert_case cases[] = {
	{ "nothing", ASCII, "Subject: x\r\n\r\nabc\r\n", NULL, NULL },
	{ "no body", ASCII, "Subject: x\r\n\r\n", NULL, NULL },
	{ "a label alone", ALL, V E8 "\r\nabc\r\n", NULL, NULL },
	{ "8-bit that may stay", LINES, "A: b\r\n\r\n\xc3\xbc\r\n", NULL,
	    NULL },
	{ "a line that may stay", SEVEN, "A: b\r\n\r\n@\r\n", NULL, NULL },
	/* A single part. */
	{ "no MIME, UTF-8", ALL, "A: b\r\n\r\n\xc3\xbc\r\n",
	    "A: b\r\n" V "Content-Type: text/plain; charset=utf-8\r\n" QP
	    "\r\n=C3=BC\r\n", NULL },
	{ "no MIME, not UTF-8", ALL, "A: b\r\n\r\n\xfc\r\n",
	    "A: b\r\n" V "Content-Type: text/plain; charset=unknown-8bit\r\n"
	    QP "\r\n=FC\r\n", NULL },
	{ "no MIME, a long line", ALL, "A: b\r\n\r\n@\r\n",
	    "A: b\r\n" V "Content-Type: text/plain; charset=us-ascii\r\n" QP
	    "\r\n@\r\n", NULL },
	{ "no line end", ALL, "A: b\r\n\r\n\xc3\xbc", "A: b\r\n" V
	    "Content-Type: text/plain; charset=utf-8\r\n" QP "\r\n=C3=BC",
	    NULL },
	{ "a type without a version", ALL, HTML "\r\n\xfc\r\n",
	    HTML V QP "\r\n=FC\r\n", NULL },
	{ "8bit", ALL, V E8 HTML "\r\n\xfc\r\n", V QP HTML "\r\n=FC\r\n",
	    NULL },
	{ "an image", ALL, V PNG "Content-Transfer-Encoding: binary\r\n"
	    "\r\n\x89PNG\r\n", V PNG B64 "\r\niVBORw0K\r\n", NULL },
	{ "an image without a line end", ALL, V PNG "\r\n\x89PNG",
	    V PNG B64 "\r\niVBORw==\r\n", NULL },
	{ "long quoted-printable", ALL, V QP "\r\na=C3=BC@\r\n",
	    V QP "\r\na=C3=BC*\r\n", NULL },
	{ "long base64", ALL, V PNG B64 "\r\n@x\r\n", V PNG B64 "\r\n#\r\n",
	    NULL },
	{ "an unknown encoding", ALL, V "Content-Transfer-Encoding: x\r\n"
	    "\r\n\xfc\r\n", NULL, "a part's encoding is unknown" },
	{ "two types", ALL, HTML PNG "\r\n\xfc\r\n", NULL,
	    "its MIME structure is ambiguous" },
	{ "S/MIME", ALL, V "Content-Type: application/pkcs7-mime\r\n\r\n\xfc",
	    NULL, "it is signed or encrypted" },
	{ "signed by DKIM", ALL, "DKIM-Signature: x\r\n\r\n\xfc\r\n", NULL,
	    "it is signed" },
	{ "sealed by ARC", ALL, "arc-seal: x\r\n\r\n@\r\n", NULL,
	    "it is signed" },
	{ "signed, nothing to do", ALL, "DKIM-Signature: x\r\n\r\na\r\n",
	    NULL, NULL },
	{ "a message", ALL, V "Content-Type: message/rfc822\r\n\r\n"
	    "A: b\r\n\r\n\xfc\r\n", NULL, "it holds another message" },
	/* The header. */
	{ "8-bit in the header", ALL, "A: \xfc\r\n\r\na\r\n", NULL, NULL },
	{ "8-bit in the header, for a host that cannot have it", ASCII,
	    "A: \xfc\r\n\r\na\r\n", NULL, "its header has 8-bit text" },
	{ "a long field", ALL, "A: b\r\nB: % c %\r\n d\r\n\r\na\r\n",
	    "A: b\r\nB: % c\r\n %\r\n d\r\n\r\na\r\n", NULL },
	{ "a long field and 8-bit", ALL, "A: % %\r\n" V HTML E8 "\r\n\xfc",
	    "A: %\r\n %\r\n" V HTML QP "\r\n=FC", NULL },
	{ "a long field that is signed", ALL,
	    "DKIM-Signature: x\r\nB: % %\r\n\r\na\r\n", NULL, "it is signed" },
	{ "a long field that may stay", SEVEN, "B: % %\r\n\r\na\r\n", NULL,
	    NULL },
	{ "a long field of S/MIME", ALL, "B: % %\r\n" V
	    "Content-Type: application/pkcs7-mime\r\n\r\nx", NULL,
	    "it is signed or encrypted" },
	{ "a name that fills the line", ALL, "@: x\r\n\r\na\r\n", NULL,
	    "its header cannot be folded" },
	{ "such a name in a part", ALL, MIXED "\r\n--b\r\n@: x\r\n\r\na"
	    "\r\n--b--\r\n", NULL, "a part's header cannot be folded" },
	/* Multiparts. */
	{ "two parts", ALL, MIXED E8 "\r\npre\r\n--b\r\n" HTML E8 "\r\n"
	    "\xfc\r\n--b \t\r\n" PNG E8 "\r\n\x89\r\n--b--\r\nafter\r\n",
	    MIXED E7 "\r\npre\r\n--b\r\n" HTML QP "\r\n"
	    "=FC\r\n--b \t\r\n" PNG B64 "\r\niQ==\r\n--b--\r\nafter\r\n",
	    NULL },
	{ "the other part stays", ALL, MIXED "\r\n--b\r\nX:y\r\n\r\n"
	    "=20 \t\r\n \r\n--b\r\n\r\n\xfc\r\n--b--", MIXED
	    "\r\n--b\r\nX:y\r\n\r\n=20 \t\r\n \r\n--b\r\n" QP "\r\n=FC\r\n"
	    "--b--", NULL },
	{ "its label goes with the others", ALL, MIXED E8 "\r\n--b\r\n" E8
	    "\r\nabc\r\n--b\r\n\r\n\xfc\r\n--b--\r\n", MIXED E7 "\r\n--b\r\n"
	    E7 "\r\nabc\r\n--b\r\n" QP "\r\n=FC\r\n--b--\r\n", NULL },
	{ "only lines are wanted", LINES, MIXED E8 "\r\n--b\r\n" E8
	    "\r\n\xfc\r\n--b\r\n\r\n@\r\n--b--\r\n", MIXED E8 "\r\n--b\r\n"
	    E8 "\r\n\xfc\r\n--b\r\n" QP "\r\n@\r\n--b--\r\n", NULL },
	{ "no final boundary", ALL, MIXED "\r\n--b\r\n\r\n\xfc\r\n",
	    MIXED "\r\n--b\r\n" QP "\r\n=FC\r\n", NULL },
	{ "no final boundary, an image", ALL, MIXED "\r\n--b\r\n" PNG
	    "\r\n\x89PNG", MIXED "\r\n--b\r\n" PNG B64 "\r\niVBORw==", NULL },
	{ "the same with a line end", ALL, MIXED "\r\n--b\r\n" PNG
	    "\r\n\x89PNG\r\n", MIXED "\r\n--b\r\n" PNG B64
	    "\r\niVBORw==\r\n", NULL },
	{ "the boundary is the last line", ALL, MIXED "\r\n--b\r\n\r\n"
	    "\xfc\r\n--b", MIXED "\r\n--b\r\n" QP "\r\n=FC\r\n--b", NULL },
	{ "look-alikes", ALL, MIXED "\r\n--b\r\n\r\n--bb\r\n-b\r\n--B\r\n"
	    "--b-\r\n --b\r\n\xfc\r\n--b--x\r\n--b--\r\n", MIXED
	    "\r\n--b\r\n" QP "\r\n=2D-bb\r\n=2Db\r\n=2D-B\r\n"
	    "=2D-b-\r\n --b\r\n=FC\r\n=2D-b--x\r\n--b--\r\n", NULL },
	{ "an empty part", ALL, MIXED "\r\n--b\r\n\r\n--b\r\n\r\n\xfc\r\n"
	    "--b--\r\n", MIXED "\r\n--b\r\n\r\n--b\r\n" QP "\r\n=FC\r\n"
	    "--b--\r\n", NULL },
	{ "a part without a body", ALL, MIXED "\r\n--b\r\nA: b\r\n--b\r\n"
	    "\r\n\xfc\r\n--b--\r\n", MIXED "\r\n--b\r\nA: b\r\n--b\r\n" QP
	    "\r\n=FC\r\n--b--\r\n", NULL },
	{ "a header without a blank line", ALL, MIXED "\r\n--b\r\nA: b\r\n"
	    "\xfc: d\r\n--b--\r\n", MIXED "\r\n--b\r\nA: b\r\n" QP "\r\n"
	    "=FC: d\r\n--b--\r\n", NULL },
	{ "the same of an image", ALL, MIXED "\r\n--b\r\n" PNG
	    "\x89PNG\r\n--b--\r\n", MIXED "\r\n--b\r\n" PNG B64 "\r\n"
	    "iVBORw==\r\n--b--\r\n", NULL },
	{ "no header and no blank line", ALL, MIXED "\r\n--b\r\n\xfc\r\n"
	    "--b--\r\n", MIXED "\r\n--b\r\n" QP "\r\n=FC\r\n--b--\r\n",
	    NULL },
	{ "a multipart without a blank line", ALL, MIXED "\r\n--b\r\n"
	    "Content-Type: multipart/mixed; boundary=c\r\nx\r\n--c\r\n\r\n"
	    "\xfc\r\n--c--\r\n--b--\r\n", NULL,
	    "its MIME structure is ambiguous" },
	{ "nested", ALL, MIXED "\r\n--b\r\nContent-Type: multipart/"
	    "alternative; boundary=b2\r\n" E8 "\r\n--b2\r\n\r\n\xfc\r\n"
	    "--b2\r\n" HTML "\r\n\xfc\r\n--b2--\r\n\r\n--b\r\n" PNG
	    "\r\n\x89\r\n--b--\r\n", MIXED "\r\n--b\r\nContent-Type: "
	    "multipart/alternative; boundary=b2\r\n" E7 "\r\n--b2\r\n" QP
	    "\r\n=FC\r\n--b2\r\n" HTML QP "\r\n=FC\r\n--b2--\r\n\r\n--b\r\n"
	    PNG B64 "\r\niQ==\r\n--b--\r\n", NULL },
	{ "nested, the inner one open", ALL, MIXED "\r\n--b\r\nContent-Type:"
	    " multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\n\xfc\r\n--b\r\n"
	    "\r\n\xfd\r\n--c\r\n--b--\r\n", MIXED "\r\n--b\r\nContent-Type:"
	    " multipart/mixed; boundary=c\r\n\r\n--c\r\n" QP "\r\n=FC\r\n"
	    "--b\r\n" QP "\r\n=FD\r\n=2D-c\r\n--b--\r\n", NULL },
	{ "nested, with one boundary", ALL, MIXED "\r\n--b\r\nContent-Type:"
	    " multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n\xfc\r\n"
	    "--b--\r\n", MIXED "\r\n--b\r\nContent-Type: multipart/mixed; "
	    "boundary=b\r\n\r\n--b\r\n" QP "\r\n=FC\r\n--b--\r\n", NULL },
	{ "nested, with boundaries that cannot be told apart", ALL, MIXED
	    "\r\n--b\r\nContent-Type: multipart/mixed; boundary=\"b--\"\r\n"
	    "\r\n\xfc\r\n--b--\r\n", NULL,
	    "its MIME structure is ambiguous" },
	{ "text before the parts", ALL, MIXED "\r\n\xfc\r\n--b\r\n\r\na\r\n"
	    "--b--\r\n", NULL, "it has text outside of its parts" },
	{ "text behind the parts", ALL, MIXED "\r\n--b\r\n\r\na\r\n--b--\r\n"
	    "@@", NULL, "it has text outside of its parts" },
	{ "no part at all", ALL, MIXED "\r\n\xfc\r\n", NULL,
	    "it has text outside of its parts" },
	{ "no boundary", ALL, V "Content-Type: multipart/mixed\r\n\r\n\xfc",
	    NULL, "its MIME structure is ambiguous" },
	{ "a multipart in base64", ALL, MIXED B64 "\r\n--b\r\n\r\n\xfc\r\n"
	    "--b--\r\n", NULL, "its MIME structure is ambiguous" },
	{ "a signed part that is 7-bit", ALL, MIXED "\r\n--b\r\nContent-Type:"
	    " multipart/signed; boundary=s\r\n" E8 "\r\n--s\r\n" E8 "\r\n"
	    "a \r\n--s--\r\n--b\r\n\r\n\xfc\r\n--b--\r\n", MIXED
	    "\r\n--b\r\nContent-Type:"
	    " multipart/signed; boundary=s\r\n" E8 "\r\n--s\r\n" E8 "\r\n"
	    "a \r\n--s--\r\n--b\r\n" QP "\r\n=FC\r\n--b--\r\n", NULL },
	{ "a signed part that is not", ALL, MIXED "\r\n--b\r\nContent-Type:"
	    " multipart/signed; boundary=s\r\n\r\n--s\r\n\r\n\xfc\r\n"
	    "--s--\r\n--b--\r\n", NULL, "it holds what is signed or encrypted"
	    },
	{ "a message that is 7-bit", ALL, MIXED "\r\n--b\r\nContent-Type: "
	    "message/rfc822\r\n" E8 "\r\n" E8 "\r\na\r\n--b\r\n\r\n\xfc\r\n"
	    "--b--", MIXED "\r\n--b\r\nContent-Type: message/rfc822\r\n" E7
	    "\r\n" E8 "\r\na\r\n--b\r\n" QP "\r\n=FC\r\n--b--", NULL },
	{ "a message that is not", ALL, MIXED "\r\n--b\r\nContent-Type: "
	    "message/rfc822\r\n\r\nA: b\r\n\r\n\xfc\r\n--b--\r\n", NULL,
	    "it holds another message" },
	{ "a digest", ALL, V "Content-Type: multipart/digest; boundary=b\r\n"
	    "\r\n--b\r\n\r\nA: b\r\n\r\n\xfc\r\n--b--\r\n", NULL,
	    "it holds another message" },
	{ "a long field of a part", ALL, MIXED "\r\n--b\r\nB: % %\r\n\r\na \r\n"
	    "--b--\r\n", MIXED "\r\n--b\r\nB: %\r\n %\r\n\r\na \r\n"
	    "--b--\r\n", NULL },
	{ "a type that folding would change", ALL, V
	    "Content-Type: text/@; x=y\r\n\r\na\r\n", NULL,
	    "its header cannot be folded" },
	{ "a type of a part that folding would change", ALL, MIXED
	    "\r\n--b\r\nContent-Type: text/@\r\n\r\na\r\n--b--\r\n", NULL,
	    "a part's header cannot be folded" },
	{ "8-bit in a part's header", ALL, MIXED "\r\n--b\r\nB: \xfc\r\n\r\n"
	    "\xfc\r\n--b--\r\n", MIXED "\r\n--b\r\nB: \xfc\r\n" QP "\r\n"
	    "=FC\r\n--b--\r\n", NULL },
	{ "the same for a host that cannot have it", ASCII, MIXED
	    "\r\n--b\r\nB: \xfc\r\n\r\na\r\n--b--\r\n", NULL,
	    "a part's header has 8-bit text" },
};

/* Words of x in lines of so many, of which some are there already. */
static void
put_words(struct buf *out, int count, int width, int column, const char *end)
{
	for (; count > 0; count--) {
		if (column == width) {
			buf_puts(out, end);
			column = 0;
		}
		buf_putc(out, 'x');
		column++;
	}
}

/* The text with its signs spelled out. */
static char *
spell(const char *text, bool quoted)
{
	struct buf out = BUF_INIT;

	buf_puts(&out, "");
	for (; *text != '\0'; text++) {
		if (*text == '%')
			put_words(&out, 600, 600, 0, "");
		else if (*text == '@')
			put_words(&out, 999, quoted ? 75 : 999, 0, "=\r\n");
		else if (quoted && *text == '*')
			put_words(&out, 999, 75, 7, "=\r\n");
		else if (quoted && *text == '#')
			put_words(&out, 1000, 76, 0, "\r\n");
		else
			buf_putc(&out, *text);
	}
	return out.data;
}

static int
append(void *out, const char *bytes, size_t len)
{
	buf_append(out, bytes, len);
	return 0;
}

/* The message as it is converted; NULL: it stays as it is, and why or not. */
static char *
convert(const char *message, size_t len, unsigned want, size_t piece,
    const char **why)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	size_t used = headers_parse(&headers, arena, message, len);
	size_t count = 0;
	struct slice *slices = arena_alloc(arena, (len / piece + 1) *
	    sizeof(*slices));
	struct conversion conversion;
	struct buf out = BUF_INIT;
	enum convert_result result;

	if (len - used >= 2 && memcmp(message + used, "\r\n", 2) == 0)
		used += 2;
	for (; used < len; used += slices[count++].len)
		slices[count] = (struct slice){ .data = message + used,
		    .fd = -1, .len = len - used < piece ? len - used : piece };
	*why = NULL;
	result = convert_plan(&conversion, &headers, arena, slices, count,
	    want, why);
	CU_ASSERT((result == CONVERT_IMPOSSIBLE) == (*why != NULL));
	if (result == CONVERT_PLANNED) {
		convert_header(&conversion, &headers, arena);
		for (struct header *h = headers.first; h != NULL; h = h->next)
			buf_append(&out, h->raw, h->len);
		buf_puts(&out, "\r\n");
		CU_ASSERT_EQUAL(convert_write(&conversion, arena, append,
		    &out), 0);
	}
	arena_free(&arena);
	return out.data;
}


static void
converts(void)
{
	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct convert_case *c = &cases[i];
		char *message = spell(c->message, false);
		char *want = c->result == NULL ? NULL : spell(c->result, true);
		size_t len = strlen(message);

		for (size_t piece = 1; piece <= len; piece += len / 7 + 1) {
			const char *why;
			char *got = convert(message, len, c->want, piece, &why);

			CASE_ASSERT(c->name, (want == NULL) == (got == NULL));
			CASE_ASSERT(c->name, (c->why == NULL) ==
			    (why == NULL));
			if (want != NULL && got != NULL &&
			    strcmp(want, got) != 0) {
				CASE_ASSERT(c->name, false);
				fprintf(stderr, "\n<%s>\n", got);
			}
			if (c->why != NULL && why != NULL)
				CASE_ASSERT(c->name, strcmp(why, c->why) == 0);
			free(got);
		}
		free(message);
		free(want);
	}
}

/* What was made needs no more. */
static void
converts_once(void)
{
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *message, *again;
		const char *why;

		if (cases[i].result == NULL || cases[i].want != ALL)
			continue;
		message = spell(cases[i].result, true);
		again = convert(message, strlen(message), ALL, 4096, &why);
		CASE_ASSERT(cases[i].name, again == NULL && why == NULL);
		free(message);
		free(again);
	}
}

/* Each has what is to be converted at its end. */
static void
limits_hold(void)
{
	static const struct { const char *name, *begin, *repeat;
	    size_t times; const char *why; } limits[] = {
		{ "parts", MIXED "\r\n", "--b\r\n\r\na\r\n",
		    MIME_PARTS_MAX - 1, NULL },
		{ "too many parts", MIXED "\r\n", "--b\r\n\r\na\r\n",
		    MIME_PARTS_MAX, "it has too many parts" },
		{ "a part's header", MIXED "\r\n--b\r\n", "A: 3456789\r\n",
		    MIME_HEADER_MAX / 12 - 1, NULL },
		{ "too long a header", MIXED "\r\n--b\r\n",
		    "A: 3456789\r\n", MIME_HEADER_MAX / 12 + 1,
		    "the header of a part is too long" },
	};

	for (size_t i = 0; i < COUNT(limits); i++) {
		struct buf text = BUF_INIT;
		const char *why;
		char *got;

		buf_puts(&text, limits[i].begin);
		for (size_t n = 0; n < limits[i].times; n++)
			buf_puts(&text, limits[i].repeat);
		if (strncmp(limits[i].repeat, "A:", 2) != 0)
			buf_puts(&text, "--b\r\n");
		buf_puts(&text, "\r\n\xfc\r\n--b--\r\n");
		got = convert(text.data, text.len, ALL, 65536, &why);
		CASE_ASSERT(limits[i].name, (why == NULL) ==
		    (limits[i].why == NULL));
		CASE_ASSERT(limits[i].name, why == NULL ||
		    strcmp(why, limits[i].why) == 0);
		CASE_ASSERT(limits[i].name, (got != NULL) == (why == NULL));
		free(got);
		buf_release(&text);
	}
}

/* So many multiparts, one in the other. */
static void
nest(size_t levels, const char *want)
{
	struct buf text = BUF_INIT;
	const char *why;
	char *got;

	for (size_t i = 0; i < levels; i++)
		buf_printf(&text, "Content-Type: multipart/mixed; boundary=b%zu"
		    "\r\n\r\n--b%zu\r\n", i, i);
	buf_puts(&text, "\r\n\xfc\r\n");
	got = convert(text.data, text.len, ALL, 65536, &why);
	CU_ASSERT((want == NULL) == (why == NULL));
	CU_ASSERT(why == NULL || strcmp(why, want) == 0);
	CU_ASSERT((got != NULL) == (why == NULL));
	free(got);
	buf_release(&text);
}

static void
levels_are_limited(void)
{
	nest(MIME_DEPTH_MAX, NULL);
	nest(MIME_DEPTH_MAX + 1, "its MIME structure is ambiguous");
}

/* Fields of three octets, of which each takes a hundred of memory. */
static void
headers_of_parts_take_no_memory(void)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct slice slice = { .fd = -1 };
	struct conversion conversion;
	struct buf text = BUF_INIT;
	const char *why;

	headers_add(&headers, arena, NULL, "Content-Type",
	    "multipart/mixed; boundary=b", true);
	for (int part = 0; part < 100; part++) {
		buf_puts(&text, "--b\r\n");
		for (int i = 0; i < 10000; i++)
			buf_puts(&text, "a:\r\n");
	}
	buf_puts(&text, "\r\n\xfc\r\n");
	slice.data = text.data;
	slice.len = text.len;
	CU_ASSERT_EQUAL(convert_plan(&conversion, &headers, arena, &slice, 1,
	    ALL, &why), CONVERT_PLANNED);
	CU_ASSERT(arena_size(arena) < text.len / 8);
	buf_release(&text);
	arena_free(&arena);
}

/* A body in a file, and one that cannot be read to its end. */
static void
reads_files(void)
{
	char path[] = "/tmp/convert_test.XXXXXX";
	int fd = mkstemp(path);
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct slice slice = { .fd = fd, .offset = 3, .len = 200000 };
	struct conversion conversion;
	struct buf out = BUF_INIT;
	const char *why;

	unlink(path);
	for (int i = 0; i < 200003; i++)
		buf_putc(&out, i == 150000 ? 0xfc : i % 100 == 1 ? '\r' :
		    i % 100 == 2 ? '\n' : 'y');
	CU_ASSERT_EQUAL(write(fd, out.data, out.len), (ssize_t)out.len);
	buf_reset(&out);
	CU_ASSERT_EQUAL(convert_plan(&conversion, &headers, arena, &slice, 1,
	    ALL, &why), CONVERT_PLANNED);
	CU_ASSERT_EQUAL(convert_write(&conversion, arena, append, &out), 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "y=FC\r\n"));
	CU_ASSERT_EQUAL(ftruncate(fd, 190000), 0);
	CU_ASSERT_EQUAL(convert_write(&conversion, arena, append, &out), -1);
	CU_ASSERT_EQUAL(convert_plan(&conversion, &headers, arena, &slice, 1,
	    ALL, &why), CONVERT_UNREADABLE);
	buf_release(&out);
	arena_free(&arena);
	close(fd);
}

/* --- the filter --- */

static const struct section_kind top = { .name = "", .doc = "All.",
    .size = 1 };

static void
filters(const char *name, const char *text, const char *body,
    const char *result)
{
	const struct section_kind *kinds[] = { &top, filter_convert.options };
	struct buf errors = BUF_INIT;
	struct conf *conf = conf_load(NULL, text, kinds, 2, &errors);
	struct session session = { .hostname = "mx.example" };
	struct mail *mail = mail_new(&session, 1 << 20, "/tmp");
	struct filter_run run = { .filter = &filter_convert, .name = "convert",
	    .session = &session, .mail = mail };
	const char *why, *bytes;
	char *scratch = arena_alloc(mail->arena, BODY_READ_MAX);
	ssize_t len;

	headers_add(&mail->headers, mail->arena, NULL, "From", "a", true);
	body_append(mail->body, body, strlen(body));
	run.instance = filter_convert.setup(conf, NULL, &why);
	CU_ASSERT_EQUAL(filter_convert.eom(&run).action, ACTION_CONTINUE);
	len = body_read(mail->body, 0, scratch, &bytes);
	CASE_ASSERT(name, len == (ssize_t)strlen(result) &&
	    memcmp(bytes, result, (size_t)len) == 0);
	CASE_ASSERT(name, (headers_find(&mail->headers, "MIME-Version", 1) !=
	    NULL) == (strcmp(body, result) != 0));
	filter_convert.release(run.instance);
	mail_free(&mail);
	conf_free(&conf);
	buf_release(&errors);
}

static void
filter_converts(void)
{
	filters("all", "", "\xfc\r\n", "=FC\r\n");
	filters("long lines", "convert { what = long_lines }", "\xfc\r\n",
	    "\xfc\r\n");
	filters("nothing", "convert { }", "a\r\n", "a\r\n");
}

SUITE(convert,
    { "converts", converts },
    { "what was converted needs no more", converts_once },
    { "limits hold", limits_hold },
    { "levels are limited", levels_are_limited },
    { "headers of parts take no memory", headers_of_parts_take_no_memory },
    { "reads files", reads_files },
    { "the filter converts", filter_converts })
