/* What the console takes from other processes: packets of events. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "gateway/event.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *packet = (const char *)data;
	struct buf again = BUF_INIT;
	struct event event, second;
	size_t offset = 0, before = 0, start = 0;

	while (event_unpack(packet, size, &offset, &event)) {
		assert(offset > before && offset <= size);
		assert(event.text + strlen(event.text) < packet + offset);
		before = offset;
		/* Packed again it says the same. */
		event_pack(&again, &event);
		assert(event_unpack(again.data, again.len, &start, &second));
		assert(start == again.len);
		assert(strcmp(event.id, second.id) == 0);
		assert(strcmp(event.text, second.text) == 0);
	}
	assert(offset == before);
	buf_release(&again);
	return 0;
}
