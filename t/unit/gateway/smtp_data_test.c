/* Content decoded: dots, line ends, smuggling, chunks, header and body. */
#include "gateway/smtp_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "t/unit/unit.h"

static void
gather(void *argument, const char *bytes, size_t len)
{
	buf_append(argument, bytes, len);
}

/* Decodes text in chunks of that size; returns the bytes used. */
static size_t
decode(struct smtp_data *data, const char *text, size_t len, size_t chunk,
    struct buf *out)
{
	size_t used = 0;

	while (used < len && data->position != SMTP_DATA_DONE) {
		size_t part = len - used < chunk ? len - used : chunk;
		char *copy = malloc(part);

		memcpy(copy, text + used, part);
		used += smtp_data_decode(data, copy, part, gather, out);
		free(copy);
	}
	return used;
}

struct text {
	const char *bytes;
	size_t len;
};
#define TEXT(s) { s, sizeof(s) - 1 }

static bool
holds(const struct buf *out, struct text want)
{
	return out->len == want.len &&
	    (want.len == 0 || memcmp(out->data, want.bytes, want.len) == 0);
}

static const struct data_case {
	const char *name;
	struct text input, want;
	size_t behind;			/* bytes behind the end */
} data_cases[] = {
	{ "plain", TEXT("a: b\r\n\r\nc\r\n.\r\n"), TEXT("a: b\r\n\r\nc\r\n"),
	    0 },
	{ "empty", TEXT(".\r\n"), TEXT(""), 0 },
	{ "a stuffed dot", TEXT("..\r\n.\r\n"), TEXT(".\r\n"), 0 },
	{ "a stuffed line", TEXT("x\r\n..y\r\n.\r\n"), TEXT("x\r\n.y\r\n"), 0 },
	{ "a dot and text", TEXT(".y\r\n.\r\n"), TEXT("y\r\n"), 0 },
	{ "dots within", TEXT("a.b.\r\n.\r\n"), TEXT("a.b.\r\n"), 0 },
	{ "commands behind", TEXT("x\r\n.\r\nQUIT\r\n"), TEXT("x\r\n"), 6 },
	{ "empty lines", TEXT("\r\n\r\n.\r\n"), TEXT("\r\n\r\n"), 0 },
	{ "eight bits", TEXT("\xC3\xA9\xFF\r\n.\r\n"), TEXT("\xC3\xA9\xFF\r\n"),
	    0 },
};

static void
data_decoded(void)
{
	for (size_t i = 0; i < sizeof data_cases / sizeof *data_cases; i++) {
		const struct data_case *c = &data_cases[i];

		for (size_t chunk = 1; chunk <= c->input.len; chunk++) {
			struct buf out = BUF_INIT;
			struct smtp_data data;
			size_t used;

			smtp_data_init(&data, SMTP_BARE_REJECT, true);
			used = decode(&data, c->input.bytes, c->input.len,
			    chunk, &out);
			CASE_ASSERT(c->name, holds(&out, c->want));
			CASE_ASSERT(c->name,
			    data.position == SMTP_DATA_DONE);
			CASE_ASSERT(c->name,
			    used == c->input.len - c->behind);
			CASE_ASSERT(c->name, !data.bare && !data.nul);
			buf_release(&out);
		}
	}
}

/*
 * What other servers took for the end of the data.  Behind each stands a
 * transaction, and then the true end: all of it must be one message.
 */
#define INNER "MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
static const struct smuggling_case {
	const char *name;
	struct text end;
	bool harmless;			/* no CR, LF or NUL out of place */
} smuggling_cases[] = {
	{ "LF.LF", TEXT("\n.\n"), false },
	{ "LF.CR", TEXT("\n.\r"), false },
	{ "CR.LF", TEXT("\r.\n"), false },
	{ "CR.CR", TEXT("\r.\r"), false },
	{ "LF.CRLF", TEXT("\n.\r\n"), false },
	{ "CR.CRLF", TEXT("\r.\r\n"), false },
	{ "CRLF.LF", TEXT("\r\n.\n"), false },
	{ "CRLF.CR", TEXT("\r\n.\r"), false },
	{ "CRLF NUL.CRLF", TEXT("\r\n\0.\r\n"), false },
	{ "CRLF.NUL CRLF", TEXT("\r\n.\0\r\n"), false },
	{ "CRLF.CRCRLF", TEXT("\r\n.\r\r\n"), false },
	{ "CRCRLF.CRCRLF", TEXT("\r\r\n.\r\r\n"), false },
	{ "LFLF.CRLF", TEXT("\n\n.\r\n"), false },
	{ "LF CR.CRLF", TEXT("\n\r.\r\n"), false },
	{ "CR NUL LF.CRLF", TEXT("\r\0\n.\r\n"), false },
	{ "CRLF.CR NUL LF", TEXT("\r\n.\r\0\n"), false },
	{ "VT.VT", TEXT("\v.\v"), true },
	{ "CRLF.VT", TEXT("\r\n.\v"), true },
	{ "FF.FF", TEXT("\f.\f"), true },
	{ "CRLF.FF", TEXT("\r\n.\f"), true },
	{ "NEL.NEL", TEXT("\xC2\x85.\xC2\x85"), true },
	{ "raw NEL", TEXT("\x85.\x85"), true },
	{ "U+2028", TEXT("\xE2\x80\xA8.\xE2\x80\xA8"), true },
	{ "U+2029", TEXT("\xE2\x80\xA9.\xE2\x80\xA9"), true },
	{ "full-width dot", TEXT("\r\n\xEF\xBC\x8E\r\n"), true },
	{ "ideographic stop", TEXT("\r\n\xE3\x80\x82\r\n"), true },
	{ "dot, space", TEXT("\r\n. \r\n"), true },
	{ "dot, tab", TEXT("\r\n.\t\r\n"), true },
	{ "space, dot", TEXT("\r\n .\r\n"), true },
	{ "two dots", TEXT("\r\n..\r\n"), true },
	{ "RS.RS", TEXT("\x1E.\x1E"), true },
};

/* Is every CR followed by LF, every LF after CR, and no NUL there? */
static bool
is_clean(const struct buf *text)
{
	for (size_t i = 0; i < text->len; i++) {
		char byte = text->data[i];

		if (byte == '\0' || (byte == '\n' &&
		    (i == 0 || text->data[i - 1] != '\r')) ||
		    (byte == '\r' && (i + 1 == text->len ||
		    text->data[i + 1] != '\n')))
			return false;
	}
	return true;
}

static void
smuggle(const struct smuggling_case *c, enum smtp_bare policy, size_t chunk)
{
	struct buf input = BUF_INIT, out = BUF_INIT;
	struct smtp_data data;
	size_t used;

	buf_puts(&input, "Subject: x\r\n\r\nouter");
	buf_append(&input, c->end.bytes, c->end.len);
	buf_puts(&input, INNER "Subject: y\r\n\r\ninner\r\n.\r\nQUIT\r\n");
	smtp_data_init(&data, policy, true);
	used = decode(&data, input.data, input.len, chunk, &out);
	CASE_ASSERT(c->name, data.position == SMTP_DATA_DONE);
	CASE_ASSERT(c->name, used == input.len - strlen("QUIT\r\n"));
	CASE_ASSERT(c->name, strstr(out.data + 20, "RCPT TO:<c@d>") != NULL ||
	    memchr(out.data, '\0', out.len) != NULL);
	CASE_ASSERT(c->name, c->harmless == !(data.bare || data.nul));
	if (policy == SMTP_BARE_NORMALIZE || c->harmless)
		CASE_ASSERT(c->name, is_clean(&out));
	buf_release(&input);
	buf_release(&out);
}

static void
smuggling(void)
{
	for (size_t i = 0; i < sizeof smuggling_cases /
	    sizeof *smuggling_cases; i++)
		for (size_t chunk = 1; chunk < 120; chunk++) {
			smuggle(&smuggling_cases[i], SMTP_BARE_REJECT, chunk);
			smuggle(&smuggling_cases[i], SMTP_BARE_NORMALIZE,
			    chunk);
		}
}

static void
normalized(void)
{
	static const struct {
		const char *name;
		struct text input, want;
	} cases[] = {
		{ "bare LF", TEXT("a\nb\r\n.\r\n"), TEXT("a\r\nb\r\n") },
		{ "bare CR", TEXT("a\rb\r\n.\r\n"), TEXT("a b\r\n") },
		{ "NUL", TEXT("a\0\0b\r\n.\r\n"), TEXT("a  b\r\n") },
		{ "CR CR LF", TEXT("a\r\r\n.\r\n"), TEXT("a \r\n") },
		{ "LF . LF", TEXT("a\n.\nb\r\n.\r\n"),
		    TEXT("a\r\n.\r\nb\r\n") },
		{ "LF ..", TEXT("a\n..b\r\n.\r\n"), TEXT("a\r\n..b\r\n") },
		{ "LF LF", TEXT("\n\n\r\n.\r\n"), TEXT("\r\n\r\n\r\n") },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t chunk = 1; chunk <= cases[i].input.len; chunk++) {
			struct buf out = BUF_INIT;
			struct smtp_data data;

			smtp_data_init(&data, SMTP_BARE_NORMALIZE, true);
			decode(&data, cases[i].input.bytes,
			    cases[i].input.len, chunk, &out);
			CASE_ASSERT(cases[i].name, holds(&out,
			    cases[i].want));
			CASE_ASSERT(cases[i].name,
			    data.position == SMTP_DATA_DONE);
			buf_release(&out);
		}
}

static void
bdat_decoded(void)
{
	static const struct {
		const char *name;
		struct text input, want;
		bool bare;
	} cases[] = {
		{ "a dot stays", TEXT("a\r\n.\r\nb\r\n"),
		    TEXT("a\r\n.\r\nb\r\n"), false },
		{ "two dots stay", TEXT("..\r\n"), TEXT("..\r\n"), false },
		{ "no line end", TEXT("abc"), TEXT("abc\r\n"), false },
		{ "empty", TEXT(""), TEXT(""), false },
		{ "CR at the end", TEXT("abc\r"), TEXT("abc\r\r\n"), true },
		{ "bare LF", TEXT("a\nb\r\n"), TEXT("a\nb\r\n"), true },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (size_t chunk = 1; chunk <= cases[i].input.len + 1;
		    chunk++) {
			struct buf out = BUF_INIT;
			struct smtp_data data;

			smtp_data_init(&data, SMTP_BARE_REJECT, false);
			decode(&data, cases[i].input.bytes,
			    cases[i].input.len, chunk, &out);
			smtp_data_finish(&data, gather, &out);
			CASE_ASSERT(cases[i].name, holds(&out,
			    cases[i].want));
			CASE_ASSERT(cases[i].name,
			    data.bare == cases[i].bare);
			buf_release(&out);
		}
}

/* Bytes that matter, in any order and cut anyhow: the result is the same. */
static void
random_chunks(void)
{
	static const char letters[] = "\r\n.\0a: ";
	unsigned seed = 1;

	for (int round = 0; round < 2000; round++) {
		struct buf input = BUF_INIT, whole = BUF_INIT, cut = BUF_INIT;
		enum smtp_bare policy = round % 2 ? SMTP_BARE_REJECT :
		    SMTP_BARE_NORMALIZE;
		struct smtp_data one, many;
		size_t used, again;

		for (int i = 0; i < 40; i++)
			buf_putc(&input, letters[rand_r(&seed) %
			    (sizeof letters - 1)]);
		smtp_data_init(&one, policy, true);
		smtp_data_init(&many, policy, true);
		used = decode(&one, input.data, input.len, input.len, &whole);
		again = decode(&many, input.data, input.len,
		    1 + (size_t)rand_r(&seed) % 7, &cut);
		CU_ASSERT(used == again);
		CU_ASSERT(one.position == many.position);
		CU_ASSERT(one.bare == many.bare && one.nul == many.nul);
		CU_ASSERT(holds(&cut, (struct text){ whole.data, whole.len }));
		buf_release(&input);
		buf_release(&whole);
		buf_release(&cut);
	}
}

static void
header_ends(void)
{
	static const struct {
		const char *name, *text;
		bool found;
		size_t header_len, body;
	} cases[] = {
		{ "usual", "A: b\r\n\r\nbody\r\n", true, 6, 8 },
		{ "folded", "A: b\r\n c\r\n\r\n", true, 10, 12 },
		{ "a blank fold", "A: b\r\n \r\n\r\n", true, 9, 11 },
		{ "no header", "\r\nbody\r\n", true, 0, 2 },
		{ "body at once", "hello\r\n", true, 0, 0 },
		{ "no empty line", "A: b\r\nhello there\r\n", true, 6, 6 },
		{ "mbox", "From a@b 12:00\r\nA: b\r\n", true, 0, 0 },
		{ "blank before the colon", "A : b\r\n\r\n", true, 7, 9 },
		{ "fold first", " A: b\r\n", true, 0, 0 },
		{ "empty name", ": b\r\n", true, 0, 0 },
		{ "not yet", "A: b\r\nC: d\r\n", false, 0, 0 },
		{ "not a line yet", "A: b\r\n\r", false, 0, 0 },
		{ "nothing", "", false, 0, 0 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t len = strlen(cases[i].text), scanned = 0;
		struct smtp_header_end end;
		bool found = false;

		/* Byte by byte: what was scanned is not looked at again. */
		for (size_t n = 0; n <= len && !found; n++)
			found = smtp_header_find_end(cases[i].text, n,
			    &scanned, &end);
		CASE_ASSERT(cases[i].name, found == cases[i].found);
		if (!found)
			continue;
		CASE_ASSERT(cases[i].name,
		    end.header_len == cases[i].header_len);
		CASE_ASSERT(cases[i].name, end.body == cases[i].body);
	}
}

SUITE(smtp_data,
	{ "DATA decoded", data_decoded },
	{ "smuggling", smuggling },
	{ "normalized", normalized },
	{ "BDAT decoded", bdat_decoded },
	{ "random chunks", random_chunks },
	{ "the header's end", header_ends })
