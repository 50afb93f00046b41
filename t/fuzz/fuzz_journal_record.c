/* A file of the relay's journal. */
#include <stddef.h>
#include <stdint.h>

#include "gateway/queue_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct replay *replay = replay_new();
	struct journal_record record;

	journal_parse(bytes, len, 9, replay_add, replay);
	/* The checksum is in the way of what the fields may say. */
	if (len >= JOURNAL_RECORD_SIZE && journal_decode(bytes, 9, &record))
		replay_add(&record, 9, replay);
	replay_free(&replay);
	return 0;
}
