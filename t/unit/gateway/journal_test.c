#include <stdlib.h>
#include <string.h>

#include "gateway/journal.h"
#include "gateway/journal_file.h"
#include "t/unit/unit.h"

#define COUNT 5

static struct journal_record
sample(unsigned i)
{
	struct journal_record record = { .type = JOURNAL_DEFERRED,
		.generation = i, .recipient = i * 7, .attempts = 3,
		.next_try_ms = 1234567890123 };

	memcpy(record.id, "4bXk2w0", 8);
	record.id[6] = (char)('0' + i);
	return record;
}

struct seen {
	size_t count;
	unsigned last;
};

static void
see(const struct journal_record *record, uint64_t serial, void *argument)
{
	struct seen *seen = argument;
	struct journal_record want = sample(record->generation);

	CU_ASSERT(serial == 9);
	CU_ASSERT(strcmp(record->id, want.id) == 0);
	CU_ASSERT(record->type == want.type);
	CU_ASSERT(record->recipient == want.recipient);
	CU_ASSERT(record->attempts == 3);
	CU_ASSERT(record->next_try_ms == 1234567890123);
	seen->count++;
	seen->last = record->generation;
}

static size_t
make(unsigned char *bytes)
{
	journal_header_encode(9, bytes);
	for (unsigned i = 0; i < COUNT; i++) {
		struct journal_record record = sample(i);

		journal_encode(&record, 9, bytes + JOURNAL_HEADER_SIZE +
		    i * JOURNAL_RECORD_SIZE);
	}
	return JOURNAL_HEADER_SIZE + COUNT * JOURNAL_RECORD_SIZE;
}

static void
round_trip(void)
{
	unsigned char bytes[1024];
	struct seen seen = { 0, 0 };
	size_t len = make(bytes);

	CU_ASSERT(journal_parse(bytes, len, 9, see, &seen) == 0);
	CU_ASSERT(seen.count == COUNT && seen.last == COUNT - 1);
	CU_ASSERT(journal_parse(bytes, len, 8, see, &seen) == -1);
}

static void
torn(void)
{
	unsigned char bytes[1024];
	size_t len = make(bytes);

	for (size_t cut = 0; cut <= len; cut++) {
		unsigned char *copy = malloc(cut + 1);
		struct seen seen = { 0, 0 };
		int rc;

		memcpy(copy, bytes, cut);
		rc = journal_parse(copy, cut, 9, see, &seen);
		if (cut < JOURNAL_HEADER_SIZE) {
			CU_ASSERT(rc == -1);
		} else {
			size_t rest = cut - JOURNAL_HEADER_SIZE;

			CU_ASSERT(seen.count == rest / JOURNAL_RECORD_SIZE);
			CU_ASSERT(rc == (rest % JOURNAL_RECORD_SIZE != 0));
		}
		free(copy);
	}
}

/* Only the record that was hit is lost. */
static void
flipped(void)
{
	unsigned char bytes[1024];
	size_t len = make(bytes);

	for (size_t bit = JOURNAL_HEADER_SIZE * 8; bit < len * 8; bit += 7) {
		struct seen seen = { 0, 0 };

		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		CU_ASSERT(journal_parse(bytes, len, 9, see, &seen) == 1);
		CU_ASSERT(seen.count == COUNT - 1);
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

SUITE(journal, { "round trip", round_trip }, { "torn", torn },
    { "flipped", flipped })
