/*
 * Content that comes by DATA: whatever its chunks, the outcome is the same;
 * normalized, it holds no CR or LF of its own and no NUL; and only
 * CRLF "." CRLF ends it.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "gateway/smtp_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
gather(void *argument, const char *bytes, size_t len)
{
	assert(len > 0);
	buf_append(argument, bytes, len);
}

static size_t
decode(struct smtp_data *data, const char *text, size_t len, size_t chunk,
    struct buf *out)
{
	size_t used = 0;

	while (used < len && data->position != SMTP_DATA_DONE)
		used += smtp_data_decode(data, text + used,
		    len - used < chunk ? len - used : chunk, gather, out);
	return used;
}

/* Where the data ends by the book: behind CRLF "." CRLF, or "." CRLF first. */
static size_t
true_end(const char *text, size_t len)
{
	if (len >= 3 && memcmp(text, ".\r\n", 3) == 0)
		return 3;
	for (size_t i = 0; i + 5 <= len; i++)
		if (memcmp(text + i, "\r\n.\r\n", 5) == 0)
			return i + 5;
	return len;
}

static void
check_clean(const struct buf *out)
{
	for (size_t i = 0; i < out->len; i++) {
		assert(out->data[i] != '\0');
		assert(out->data[i] != '\n' ||
		    (i > 0 && out->data[i - 1] == '\r'));
		assert(out->data[i] != '\r' ||
		    (i + 1 < out->len && out->data[i + 1] == '\n'));
	}
}

static void
check(const char *text, size_t len, size_t chunk, enum smtp_bare policy)
{
	struct buf whole = BUF_INIT, cut = BUF_INIT;
	struct smtp_header_end end;
	struct smtp_data one, many;
	size_t used, scanned = 0;

	smtp_data_init(&one, policy, true);
	smtp_data_init(&many, policy, true);
	used = decode(&one, text, len, len, &whole);
	assert(used == decode(&many, text, len, chunk, &cut));
	assert(used == true_end(text, len));
	assert(one.position == many.position && one.bare == many.bare &&
	    one.nul == many.nul);
	assert(whole.len == cut.len);
	assert(whole.len == 0 || memcmp(whole.data, cut.data, cut.len) == 0);
	if (policy == SMTP_BARE_NORMALIZE || !(one.bare || one.nul))
		check_clean(&whole);
	if (whole.len > 0 && smtp_header_find_end(whole.data, whole.len,
	    &scanned, &end))
		assert(end.header_len <= end.body && end.body <= whole.len);
	buf_release(&whole);
	buf_release(&cut);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	check((const char *)data + 1, size - 1, data[0] % 16 + 1,
	    SMTP_BARE_REJECT);
	check((const char *)data + 1, size - 1, data[0] % 16 + 1,
	    SMTP_BARE_NORMALIZE);
	return 0;
}
