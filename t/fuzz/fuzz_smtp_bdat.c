/*
 * Content that comes by BDAT: nothing in it ends it, dots stay, and the chunks
 * make no difference.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "gateway/smtp_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
gather(void *argument, const char *bytes, size_t len)
{
	buf_append(argument, bytes, len);
}

static void
decode(struct smtp_data *data, const char *text, size_t len, size_t chunk,
    struct buf *out)
{
	for (size_t used = 0; used < len; used += chunk) {
		size_t part = len - used < chunk ? len - used : chunk;

		assert(smtp_data_decode(data, text + used, part, gather,
		    out) == part);
		assert(data->position != SMTP_DATA_DONE);
	}
	smtp_data_finish(data, gather, out);
	assert(data->position == SMTP_DATA_DONE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	struct buf whole = BUF_INIT, cut = BUF_INIT;
	struct smtp_data one, many;

	if (size < 2)
		return 0;
	size--;
	smtp_data_init(&one, SMTP_BARE_REJECT, false);
	smtp_data_init(&many, SMTP_BARE_REJECT, false);
	decode(&one, text, size, size, &whole);
	decode(&many, text, size, data[0] % 16 + 1, &cut);
	assert(one.bare == many.bare && one.nul == many.nul);
	assert(whole.len == cut.len &&
	    memcmp(whole.data, cut.data, cut.len) == 0);
	assert(whole.len >= size && memcmp(whole.data, text, size) == 0);
	assert(whole.data[whole.len - 1] == '\n');
	buf_release(&whole);
	buf_release(&cut);
	return 0;
}
