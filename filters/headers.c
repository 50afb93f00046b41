/*
 * The header section of a message (RFC 5322, 2.2 and 4.5) as raw fields, and
 * the changes that filters make to it.
 *
 * Fields that came in are never rewritten.  What a filter adds is made safe:
 * its lines end in CRLF and go on with white space, so no value can begin
 * another field or the body.
 */
#include "filters/mail.h"

#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"

#define LINE_MAX_OCTETS 998		/* RFC 5322, 2.1.1, without CRLF */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* RFC 5322, 3.6.8: printable ASCII but the colon. */
static size_t
name_length(const char *bytes, size_t len)
{
	size_t n = 0;

	while (n < len && bytes[n] >= 33 && bytes[n] <= 126 && bytes[n] != ':')
		n++;
	return n;
}

static void
link_before(struct headers *headers, struct header *before,
    struct header *header)
{
	header->next = before;
	header->previous = before != NULL ? before->previous : headers->last;
	if (header->previous != NULL)
		header->previous->next = header;
	else
		headers->first = header;
	if (before != NULL)
		before->previous = header;
	else
		headers->last = header;
	headers->count++;
	headers->bytes += header->len;
}

/* Parsing */

/* The length of the line that begins there, with its LF if it has one. */
static size_t
line_length(const char *bytes, size_t len)
{
	const char *lf = memchr(bytes, '\n', len);

	return lf != NULL ? (size_t)(lf - bytes) + 1 : len;
}

/*
 * The bytes of the field that begins there, folds included; 0 if none does.
 * RFC 5322, 4.5.8 allows white space before the colon.
 */
static size_t
field_length(const char *bytes, size_t len, size_t *name_len, bool *clean)
{
	size_t at, end = line_length(bytes, len);

	*name_len = name_length(bytes, end);
	for (at = *name_len; at < end && is_blank(bytes[at]); at++)
		;
	if (*name_len == 0 || at == end || bytes[at] != ':')
		return 0;
	for (at = end, *clean = true;; at = end) {
		if (at < 2 || bytes[at - 1] != '\n' || bytes[at - 2] != '\r')
			*clean = false;
		if (at == len || !is_blank(bytes[at]))
			return at;
		end = at + line_length(bytes + at, len - at);
	}
}

/* A field whose lines do not all end in CRLF; each lacks at most one CR. */
static void
field_repair(struct header *header, struct arena *arena, const char *bytes,
    size_t len)
{
	struct buf fixed = BUF_INIT;
	size_t at = 0;

	while (at < len) {
		size_t line = line_length(bytes + at, len - at);
		size_t text = line;

		if (text > 0 && bytes[at + text - 1] == '\n')
			text--;
		if (text > 0 && bytes[at + text - 1] == '\r')
			text--;
		buf_append(&fixed, bytes + at, text);
		buf_append(&fixed, "\r\n", 2);
		at += line;
	}
	header->raw = arena_memdup(arena, fixed.data, fixed.len);
	header->len = fixed.len;
	buf_release(&fixed);
}

size_t
headers_parse(struct headers *headers, struct arena *arena, const char *bytes,
    size_t len)
{
	size_t at = 0, field, name_len;
	bool clean;

	while (at < len && (field = field_length(bytes + at, len - at,
	    &name_len, &clean)) > 0) {
		struct header *header = arena_alloc(arena, sizeof(*header));

		header->raw = bytes + at;
		header->len = field;
		header->name_len = name_len;
		if (!clean)
			field_repair(header, arena, bytes + at, field);
		link_before(headers, NULL, header);
		at += field;
	}
	return at;
}

/* Reading */

const char *
header_name(const struct header *header, struct arena *arena)
{
	return arena_strndup(arena, header->raw, header->name_len);
}

const char *
header_value(const struct header *header, struct arena *arena, bool unfold)
{
	const char *end = header->raw + header->len - 2;	/* CRLF */
	const char *at = memchr(header->raw + header->name_len, ':',
	    header->len - header->name_len);
	char *value, *to;

	at++;
	while (unfold && at < end && (is_blank(*at) || *at == '\r' ||
	    *at == '\n'))
		at++;
	value = to = arena_alloc(arena, (size_t)(end - at) + 1);
	for (; at < end; at++) {
		if (unfold && *at == '\r' && at + 1 < end && at[1] == '\n')
			at++;
		else
			*to++ = *at == '\0' ? ' ' : *at;
	}
	while (unfold && to > value && is_blank(to[-1]))
		to--;
	*to = '\0';
	return value;
}

bool
header_is(const struct header *header, const char *name)
{
	return strncasecmp(header->raw, name, header->name_len) == 0 &&
	    name[header->name_len] == '\0';
}

struct header *
headers_find(const struct headers *headers, const char *name, size_t nth)
{
	for (struct header *h = headers->first; h != NULL; h = h->next)
		if (!h->hidden && header_is(h, name) && nth-- <= 1)
			return h;
	return NULL;
}

struct header *
headers_at(const struct headers *headers, size_t position)
{
	struct header *header = headers->first;

	while (header != NULL && position-- > 0)
		header = header->next;
	return header;
}

/* Writing */

static bool
all_blank(const char *line, size_t len)
{
	while (len > 0 && (is_blank(line[len - 1]) || line[len - 1] == '\r'))
		len--;
	return len == 0;
}

/*
 * Appends one line of a value, parted where it would be too long: in front of
 * white space if there is some, else anywhere but inside a UTF-8 letter.
 * used: octets that already stand on the line.
 */
static void
put_line(struct buf *to, const char *line, size_t len, size_t used)
{
	while (used + len > LINE_MAX_OCTETS) {
		/* The name alone may be too long. */
		size_t room = used < LINE_MAX_OCTETS ?
		    LINE_MAX_OCTETS - used : 0;
		size_t cut = room;

		/* Not at the line's own first blank: nothing would go. */
		while (cut > 1 && !is_blank(line[cut]))
			cut--;
		if (cut <= 1)
			for (cut = room; cut > 0 && cut + 3 > room &&
			    ((unsigned char)line[cut] & 0xc0) == 0x80; cut--)
				;
		buf_append(to, line, cut);
		line += cut;
		len -= cut;
		if (all_blank(line, len))
			return;
		buf_append(to, "\r\n", 2);
		used = 0;
		if (!is_blank(*line)) {
			buf_putc(to, '\t');
			used = 1;
		}
	}
	buf_append(to, line, len);
}

/*
 * The lines of a value as the mail contract promises, CRLF at the end.  A fold
 * of white space only goes (RFC 5322, 3.2.2): some take it for the header's end.
 */
static void
put_value(struct buf *to, const char *value)
{
	size_t used = to->len, len = strcspn(value, "\n");

	for (bool first = true;; first = false) {
		size_t text = len;

		if (text > 0 && value[text - 1] == '\r')
			text--;
		if (!first && !all_blank(value, text)) {
			buf_append(to, "\r\n", 2);
			used = 0;
			if (!is_blank(*value)) {
				buf_putc(to, '\t');
				used = 1;
			}
		}
		if (first || !all_blank(value, text))
			put_line(to, value, text, used);
		if (value[len] == '\0')
			break;
		value += len + 1;
		len = strcspn(value, "\n");
	}
	buf_append(to, "\r\n", 2);
}

/* A bare CR is a line's end to some: it becomes a space. */
static void
tame_cr(struct buf *text)
{
	for (size_t i = 0; i < text->len; i++)
		if (text->data[i] == '\r' && text->data[i + 1] != '\n')
			text->data[i] = ' ';
}

static void
header_compose(struct header *header, struct arena *arena, const char *name,
    size_t name_len, const char *value, bool lead)
{
	struct buf raw = BUF_INIT;

	buf_append(&raw, name, name_len);
	buf_puts(&raw, lead ? ": " : ":");
	put_value(&raw, value);
	tame_cr(&raw);
	header->raw = arena_memdup(arena, raw.data, raw.len);
	header->len = raw.len;
	header->name_len = name_len;
	header->added = true;
	buf_release(&raw);
}

struct header *
headers_add(struct headers *headers, struct arena *arena,
    struct header *before, const char *name, const char *value, bool lead)
{
	size_t name_len = strlen(name);
	struct header *header;

	/* A name that leaves the value no room on its line is no name. */
	if (name_len == 0 || name_len > LINE_MAX_OCTETS / 2 ||
	    name_length(name, name_len) != name_len)
		return NULL;
	header = arena_alloc(arena, sizeof(*header));
	header_compose(header, arena, name, name_len, value, lead);
	link_before(headers, before, header);
	return header;
}

void
headers_change(struct headers *headers, struct arena *arena,
    struct header *header, const char *value, bool lead)
{
	headers->bytes -= header->len;
	header_compose(header, arena, header->raw, header->name_len, value,
	    lead);
	headers->bytes += header->len;
}

void
headers_delete(struct headers *headers, struct header *header)
{
	if (header->previous != NULL)
		header->previous->next = header->next;
	else
		headers->first = header->next;
	if (header->next != NULL)
		header->next->previous = header->previous;
	else
		headers->last = header->previous;
	header->deleted = true;
	headers->count--;
	headers->bytes -= header->len;
}

void
headers_restore(struct headers *headers, struct arena *arena,
    struct header *header, struct header *before, const char *value, bool lead)
{
	header_compose(header, arena, header->raw, header->name_len, value,
	    lead);
	header->deleted = false;
	link_before(headers, before, header);
}
