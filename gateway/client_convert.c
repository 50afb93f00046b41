/*
 * Content as the next hop can take it: no 8-bit text without 8BITMIME (RFC
 * 6152, 3), no line that is too long (RFC 5321, 4.5.3.1.6).  It is written anew
 * while it is sent, so that a large message takes no more memory than another.
 */
#include "config.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/convert.h"
#include "gateway/client_private.h"

/* More than any listener takes (max_header). */
#define HEADER_MAX (17u << 20)

/* The header and a little more; -1: errno. */
static int
read_header(const struct client_content *content, struct arena *arena,
    struct buf *header)
{
	struct slice_reader reader = { .slices = content->slices,
	    .count = content->count };
	size_t scanned = 0;
	const char *bytes;
	ssize_t n;

	while (header->len < HEADER_MAX && (n = slice_read(&reader,
	    SLICE_READ_MAX, arena, &bytes)) != 0) {
		if (n == -1)
			return -1;
		buf_append(header, bytes, (size_t)n);
		if (memmem(header->data + scanned, header->len - scanned,
		    "\r\n\r\n", 4) != NULL)
			break;
		scanned = header->len < 3 ? 0 : header->len - 3;
	}
	return 0;
}

bool
client_header_is_utf8(const struct client_content *content,
    struct arena *arena)
{
	struct buf bytes = BUF_INIT;
	const char *end;
	bool utf8;

	/* One that cannot be read is found out when it's sent. */
	(void)read_header(content, arena, &bytes);
	end = bytes.len > 0 ? memmem(bytes.data, bytes.len, "\r\n\r\n", 4) :
	    NULL;
	utf8 = bytes.len > 0 && mime_has_eight_bit(bytes.data, end != NULL ?
	    (size_t)(end - bytes.data) : bytes.len);
	buf_release(&bytes);
	return utf8;
}

/* The slices from that octet on. */
static const struct slice *
cut_slices(const struct client_content *content, struct arena *arena,
    size_t offset, size_t *count)
{
	size_t i = 0;
	struct slice *rest;

	while (i < content->count && content->slices[i].len <= offset)
		offset -= content->slices[i++].len;
	*count = content->count - i;
	rest = arena_alloc(arena, (*count + 1) * sizeof(*rest));
	memcpy(rest, content->slices + i, *count * sizeof(*rest));
	if (*count > 0) {
		if (rest->data != NULL)
			rest->data += offset;
		rest->offset += (off_t)offset;
		rest->len -= offset;
	}
	return rest;
}

static int
add_length(void *size, const char *bytes, size_t len)
{
	(void)bytes;
	*(size_t *)size += len;
	return 0;
}

/* Puts the new header in place of content, and the conversion behind it. */
static int
replace(struct client_content *content, const struct headers *headers,
    struct arena *arena, const struct conversion *conversion)
{
	struct slice *slice = arena_alloc(arena, sizeof(*slice));
	struct buf text = BUF_INIT;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		buf_append(&text, h->raw, h->len);
	buf_puts(&text, "\r\n");
	*slice = (struct slice){ .data = arena_memdup(arena, text.data,
	    text.len), .fd = -1, .len = text.len };
	buf_release(&text);
	content->slices = slice;
	content->count = 1;
	content->size = slice->len;
	content->conversion = conversion;
	return convert_write(conversion, arena, add_length, &content->size);
}

static enum convert_result
convert(struct client_content *content, struct arena *arena, unsigned want,
    const char **why)
{
	struct conversion *conversion = arena_alloc(arena, sizeof(*conversion));
	struct buf bytes = BUF_INIT;
	struct headers headers = { 0 };
	const struct slice *body;
	enum convert_result result = CONVERT_UNREADABLE;
	size_t used, count;

	if (read_header(content, arena, &bytes) == -1)
		goto out;
	used = headers_parse(&headers, arena, bytes.data, bytes.len);
	if (bytes.len - used >= 2 && memcmp(bytes.data + used, "\r\n", 2) == 0)
		used += 2;
	body = cut_slices(content, arena, used, &count);
	result = convert_plan(conversion, &headers, arena, body, count, want,
	    why);
	if (result != CONVERT_PLANNED)
		goto out;
	convert_header(conversion, &headers, arena);
	if (replace(content, &headers, arena, conversion) == -1)
		result = CONVERT_UNREADABLE;
out:
	buf_release(&bytes);
	return result;
}

enum convert_result
client_convert(const struct client *client, struct client_content *content,
    struct arena *arena, const char **why)
{
	unsigned want = client->lmtp ? 0 : MIME_WANT_LINES;
	struct mime_scan scan = { 0 };

	if (!client->offers.eight_bit)
		want |= MIME_WANT_SEVEN_BIT | MIME_WANT_ASCII;
	if (want == 0)
		return CONVERT_NOT_NEEDED;
	if (slices_scan(content->slices, content->count, arena, &scan) == -1)
		return CONVERT_UNREADABLE;
	content->eight_bit = scan.eight_bit;
	if (!scan.eight_bit)
		want &= MIME_WANT_LINES;
	if (!scan.long_line)
		want &= ~(unsigned)MIME_WANT_LINES;
	return want == 0 ? CONVERT_NOT_NEEDED :
	    convert(content, arena, want, why);
}
