/* Records of the journal, to bytes and back. */
#include "config.h"

#include <string.h>

#include "gateway/crc32c.h"
#include "gateway/journal.h"
#include "gateway/journal_file.h"
#include "gateway/spool_record.h"

#define MAGIC "MGJOURNL"
#define FORMAT_VERSION 1

void
journal_header_encode(uint64_t serial, void *bytes)
{
	unsigned char *p = bytes;

	memset(p, 0, JOURNAL_HEADER_SIZE);
	memcpy(p, MAGIC, 8);
	put_le32(p + 8, FORMAT_VERSION);
	put_le32(p + 12, JOURNAL_RECORD_SIZE);
	put_le64(p + 16, serial);
	put_le32(p + 28, crc32c(0, p, 28));
}

static bool
header_fits(const unsigned char *p, uint64_t serial)
{
	return memcmp(p, MAGIC, 8) == 0 && get_le32(p + 8) == FORMAT_VERSION &&
	    get_le32(p + 12) == JOURNAL_RECORD_SIZE &&
	    get_le64(p + 16) == serial &&
	    get_le32(p + 28) == crc32c(0, p, 28);
}

static uint32_t
record_crc(const unsigned char *p, uint64_t serial)
{
	return crc32c((uint32_t)serial, p + 4, JOURNAL_RECORD_SIZE - 4);
}

void
journal_encode(const struct journal_record *record, uint64_t serial,
    void *bytes)
{
	unsigned char *p = bytes;

	memset(p, 0, JOURNAL_RECORD_SIZE);
	p[4] = (unsigned char)record->type;
	put_le32(p + 8, record->generation);
	put_le32(p + 12, record->recipient);
	put_le64(p + 16, (uint64_t)record->next_try_ms);
	put_le32(p + 24, record->attempts);
	memcpy(p + 32, record->id, strnlen(record->id, ENVELOPE_ID_SIZE - 1));
	put_le32(p, record_crc(p, serial));
}

bool
journal_decode(const void *bytes, uint64_t serial,
    struct journal_record *record)
{
	const unsigned char *p = bytes;

	if (get_le32(p) != record_crc(p, serial))
		return false;
	if (p[4] < JOURNAL_DELIVERED || p[4] > JOURNAL_RELEASED ||
	    p[32] == '\0' || p[32 + ENVELOPE_ID_SIZE - 1] != '\0')
		return false;
	record->type = p[4];
	record->generation = get_le32(p + 8);
	record->recipient = get_le32(p + 12);
	record->next_try_ms = (int64_t)get_le64(p + 16);
	record->attempts = get_le32(p + 24);
	memcpy(record->id, p + 32, ENVELOPE_ID_SIZE);
	return true;
}

int
journal_parse(const void *bytes, size_t len, uint64_t serial,
    journal_replay_f *replay, void *argument)
{
	const unsigned char *p = bytes, *end = p + len;
	struct journal_record record;
	int corrupt = 0;

	if (len < JOURNAL_HEADER_SIZE || !header_fits(p, serial))
		return -1;
	/* Records are of one size, so those behind a corrupt one are found. */
	for (p += JOURNAL_HEADER_SIZE; end - p >= JOURNAL_RECORD_SIZE;
	    p += JOURNAL_RECORD_SIZE) {
		if (journal_decode(p, serial, &record))
			replay(&record, serial, argument);
		else
			corrupt++;
	}
	return corrupt + (p < end);
}
