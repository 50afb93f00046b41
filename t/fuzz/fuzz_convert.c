/*
 * Conversion: whatever comes out decodes to what went in, needs no further
 * conversion, and has neither 8-bit text nor long lines.  The first octet says
 * what is wanted, and in what pieces the message is read.
 *
 * The decoder splits multiparts from the outside in, on the whole text, where
 * the walk goes line by line: they must come to the same.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/convert.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

#define DELIMITER_MAX 1000

/* Multiparts around an entity. */
struct around {
	const struct around *outer;
	const char *boundary;
	size_t depth;
};

struct decoder {
	struct arena *arena;
	struct buf *out;		/* all that the message says */
	const char *end;		/* of the message */
};

static void
check(bool holds)
{
	if (!holds)
		abort();
}

static int
base64_digit(char c)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "abcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;

	return at != NULL ? (int)(at - digits) : -1;
}

/* What comes behind a "=" is kept as it is. */
static void
decode_base64(struct buf *out, const char *bytes, size_t len)
{
	unsigned value = 0;
	int bits = 0;
	bool padded = false;

	for (size_t i = 0; i < len; i++) {
		int digit = base64_digit(bytes[i]);

		padded |= bytes[i] == '=';
		if (padded && digit != -1)
			buf_putc(out, bytes[i]);
		if (padded || digit == -1)
			continue;
		value = (value << 6 | (unsigned)digit) & 0xffffff;
		if ((bits += 6) >= 8)
			buf_putc(out, (value >> (bits -= 8)) & 0xff);
	}
}

static int
hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' :
	    tolower((unsigned char)c) - 'a' + 10;
}

/* One line without its CRLF; true: that is none. */
static bool
decode_quoted_line(struct buf *out, const char *line, size_t len)
{
	bool soft;

	while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
		len--;
	soft = len > 0 && line[len - 1] == '=';
	for (size_t i = 0; i < len - soft; i++) {
		if (line[i] == '=' && i + 2 < len &&
		    isxdigit((unsigned char)line[i + 1]) &&
		    isxdigit((unsigned char)line[i + 2])) {
			buf_putc(out, hex_digit(line[i + 1]) * 16 +
			    hex_digit(line[i + 2]));
			i += 2;
		} else {
			buf_putc(out, line[i]);
		}
	}
	return soft;
}

static void
decode_quoted(struct buf *out, const char *bytes, size_t len)
{
	const char *end = bytes + len;

	while (bytes < end) {
		const char *p = bytes;

		while (p < end && !(p[0] == '\r' && p + 1 < end &&
		    p[1] == '\n'))
			p++;
		if (!decode_quoted_line(out, bytes, (size_t)(p - bytes)) &&
		    p < end)
			buf_puts(out, "\r\n");
		bytes = p < end ? p + 2 : end;
	}
}

/* Fields but for those of MIME, and white space. */
static void
show_headers(struct decoder *d, const struct headers *headers)
{
	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		if (header_is(h, "MIME-Version") ||
		    header_is(h, "Content-Type") ||
		    header_is(h, "Content-Transfer-Encoding"))
			continue;
		for (size_t i = 0; i < h->len; i++)
			if (memchr(" \t\r\n", h->raw[i], 5) == NULL)
				buf_putc(d->out, h->raw[i]);
		buf_putc(d->out, '\n');
	}
}

static bool
clashes(struct decoder *d, const struct around *around, const char *boundary)
{
	const char *end = arena_printf(d->arena, "%s--", boundary);

	for (; around != NULL; around = around->outer)
		if (strcmp(boundary, around->boundary) == 0 ||
		    strcmp(end, around->boundary) == 0 ||
		    strcmp(boundary, arena_printf(d->arena, "%s--",
		    around->boundary)) == 0)
			return true;
	return false;
}

/* The next delimiter line at or behind at: its start, 0 in *end: none. */
static size_t
find_delimiter(const char *bytes, size_t len, size_t at, const char *boundary,
    size_t *end, bool *closes)
{
	size_t blen = strlen(boundary);

	for (; at < len; at = *end) {
		const char *lf = memchr(bytes + at, '\n', len - at);
		size_t text, i;

		*end = lf != NULL ? (size_t)(lf - bytes) + 1 : len;
		text = *end - at - (lf != NULL);
		if (lf != NULL && text > 0 && bytes[at + text - 1] == '\r')
			text--;
		if (text > DELIMITER_MAX || text < blen + 2 ||
		    memcmp(bytes + at, "--", 2) != 0 ||
		    memcmp(bytes + at + 2, boundary, blen) != 0)
			continue;
		i = blen + 2;
		*closes = i + 2 <= text && memcmp(bytes + at + i, "--", 2) == 0;
		if (*closes)
			i += 2;
		while (i < text && (bytes[at + i] == ' ' ||
		    bytes[at + i] == '\t'))
			i++;
		if (i == text)
			return at;
	}
	*end = 0;
	return len;
}

static void show_entity(struct decoder *, const char *, size_t, bool digest,
    const struct around *);

static void
show_multipart(struct decoder *d, const char *bytes, size_t len,
    const struct mime_entity *entity, const struct around *around)
{
	size_t start = 0, end, at, text_end;
	bool part = false, closes = false;

	do {
		at = find_delimiter(bytes, len, start, entity->boundary, &end,
		    &closes);
		text_end = at;
		/* The line end is the delimiter's, or the message's. */
		if (part && text_end > start && bytes[text_end - 1] == '\n' &&
		    (end != 0 || bytes + len == d->end))
			text_end -= text_end > start + 1 &&
			    bytes[text_end - 2] == '\r' ? 2 : 1;
		if (part) {
			buf_puts(d->out, "{\n");
			show_entity(d, bytes + start, text_end - start,
			    entity->digest, around);
			buf_puts(d->out, "}\n");
		} else {
			buf_append(d->out, bytes + start, text_end - start);
		}
		/* A bare LF may be a field's, which gets its CR. */
		if (end != 0 && text_end < at)
			buf_puts(d->out, "\r\n");
		if (end != 0)
			buf_append(d->out, bytes + at, end - at);
		part = !closes;
		start = end;
	} while (end != 0);
}

static void
show_body(struct decoder *d, const char *bytes, size_t len,
    const struct mime_entity *entity, bool blank, const struct around *around)
{
	struct around inner = { around, entity->boundary,
	    around != NULL ? around->depth + 1 : 1 };
	bool plain = entity->encoding == MIME_7BIT ||
	    entity->encoding == MIME_8BIT;

	buf_printf(d->out, "kind %d\n", (int)entity->kind);
	if (entity->kind == MIME_MULTIPART && plain && blank &&
	    inner.depth <= MIME_DEPTH_MAX &&
	    !clashes(d, around, entity->boundary))
		show_multipart(d, bytes, len, entity, &inner);
	else if (entity->kind > MIME_OTHER || plain ||
	    entity->encoding == MIME_UNKNOWN_ENCODING)
		buf_append(d->out, bytes, len);
	else if (entity->encoding == MIME_BASE64)
		decode_base64(d->out, bytes, len);
	else
		decode_quoted(d->out, bytes, len);
}

static void
show_entity(struct decoder *d, const char *bytes, size_t len, bool digest,
    const struct around *around)
{
	struct headers headers = { 0 };
	struct mime_entity entity;
	size_t used = headers_parse(&headers, d->arena, bytes, len);
	size_t blank = used < len && bytes[used] == '\n' ? 1 :
	    used + 1 < len && memcmp(bytes + used, "\r\n", 2) == 0 ? 2 : 0;

	mime_entity_read(&entity, &headers, d->arena, digest);
	show_headers(d, &headers);
	show_body(d, bytes + used + blank, len - used - blank, &entity,
	    blank > 0 || used == len || around == NULL, around);
}

static struct buf
show(const char *bytes, size_t len)
{
	struct buf out = BUF_INIT;
	struct decoder d = { arena_new(0), &out, bytes + len };

	buf_puts(&out, "");
	show_entity(&d, bytes, len, false, NULL);
	arena_free(&d.arena);
	return out;
}

static int
append(void *out, const char *bytes, size_t len)
{
	buf_append(out, bytes, len);
	return 0;
}

static enum convert_result
convert(const char *bytes, size_t len, unsigned want, size_t piece,
    struct buf *out)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct conversion conversion;
	struct slice *slices = arena_alloc(arena,
	    (len / piece + 1) * sizeof(*slices));
	size_t used = headers_parse(&headers, arena, bytes, len), count = 0;
	enum convert_result result;
	const char *why = NULL;

	if (used < len && bytes[used] == '\n')
		used++;
	else if (used + 1 < len && memcmp(bytes + used, "\r\n", 2) == 0)
		used += 2;
	for (; used < len; used += slices[count++].len)
		slices[count] = (struct slice){ .data = bytes + used, .fd = -1,
		    .len = len - used < piece ? len - used : piece };
	result = convert_plan(&conversion, &headers, arena, slices, count,
	    want, &why);
	check((result == CONVERT_IMPOSSIBLE) == (why != NULL));
	if (result == CONVERT_PLANNED) {
		convert_header(&conversion, &headers, arena);
		for (struct header *h = headers.first; h != NULL; h = h->next)
			buf_append(out, h->raw, h->len);
		buf_puts(out, "\r\n");
		check(convert_write(&conversion, arena, append, out) == 0);
	}
	arena_free(&arena);
	return result;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *bytes = (const char *)data + 1;
	unsigned want;
	struct buf out = BUF_INIT, again = BUF_INIT, before, after;
	struct mime_scan scan = { 0 };

	if (size == 0)
		return 0;
	want = data[0] % 8;
	size--;
	if (convert(bytes, size, want, data[0] / 8 + 1, &out) ==
	    CONVERT_PLANNED) {
		before = show(bytes, size);
		after = show(out.data, out.len);
		check(before.len == after.len && memcmp(before.data,
		    after.data, before.len) == 0);
		check(convert(out.data, out.len, want, 4096, &again) ==
		    CONVERT_NOT_NEEDED);
		mime_scan(&scan, out.data, out.len);
		check((want & MIME_WANT_LINES) == 0 || !scan.long_line);
		check((want & MIME_WANT_ASCII) == 0 ||
		    (want & MIME_WANT_SEVEN_BIT) == 0 || !scan.eight_bit);
		buf_release(&before);
		buf_release(&after);
	}
	buf_release(&out);
	buf_release(&again);
	return 0;
}
