/*
 * A segment: its header, then records with envelopes, as queue_read.c goes
 * through it.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "gateway/spool_envelope.h"
#include "gateway/spool_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	struct arena *arena = arena_new(0);
	struct segment_header header = { .mark = 0 };
	struct envelope envelope;
	struct record record;
	const char *why;
	size_t count, at = 0;

	/* The checksums are in the way of the envelope's parser. */
	spool_envelope_decode(bytes, len, arena, &envelope, &count, &why);
	spool_envelope_decode(bytes, len, NULL, &envelope, &count, &why);
	if (segment_header_decode(bytes, len, &header, &why) == 0)
		at = SEGMENT_HEADER_SIZE;
	while (at < len) {
		at += record_search(bytes + at, len - at, header.mark, at);
		if (!record_decode(bytes + at, len - at, header.mark, at,
		    &record))
			break;
		if (record_length(&record) <= len - at)
			spool_envelope_decode(bytes + at + RECORD_HEADER_SIZE,
			    record.envelope_len, arena, &envelope, &count,
			    &why);
		at++;
	}
	arena_free(&arena);
	return 0;
}
