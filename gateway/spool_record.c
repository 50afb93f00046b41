/* Headers of segments and of records, to bytes and back. */
#include "config.h"

#include "gateway/spool_record.h"

#include <endian.h>
#include <string.h>

#include "gateway/crc32c.h"

#define SEGMENT_MAGIC "MGSEGMNT"
#define SEGMENT_VERSION 1
#define SEGMENT_COPY 512	/* a sector of its own */
#define SEGMENT_USED 96
#define RECORD_VERSION 1

void
put_le16(void *p, uint16_t value)
{
	value = htole16(value);
	memcpy(p, &value, sizeof(value));
}

void
put_le32(void *p, uint32_t value)
{
	value = htole32(value);
	memcpy(p, &value, sizeof(value));
}

void
put_le64(void *p, uint64_t value)
{
	value = htole64(value);
	memcpy(p, &value, sizeof(value));
}

uint16_t
get_le16(const void *p)
{
	uint16_t value;

	memcpy(&value, p, sizeof(value));
	return le16toh(value);
}

uint32_t
get_le32(const void *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return le32toh(value);
}

uint64_t
get_le64(const void *p)
{
	uint64_t value;

	memcpy(&value, p, sizeof(value));
	return le64toh(value);
}

void
segment_header_encode(const struct segment_header *header, void *bytes)
{
	unsigned char *p = bytes;

	memset(p, 0, SEGMENT_HEADER_SIZE);
	memcpy(p, SEGMENT_MAGIC, 8);
	put_le32(p + 8, SEGMENT_VERSION);
	put_le32(p + 12, SEGMENT_USED);
	put_le64(p + 16, header->serial);
	put_le64(p + 24, header->mark);
	memcpy(p + 32, header->writer,
	    strnlen(header->writer, SEGMENT_WRITER_SIZE - 1));
	put_le64(p + 64, header->previous);
	put_le64(p + 72, header->previous_end);
	put_le32(p + 92, crc32c(0, p, 92));
	memcpy(p + SEGMENT_COPY, p, SEGMENT_USED);
}

static int
header_decode(const unsigned char *p, struct segment_header *header,
    const char **why)
{
	if (memcmp(p, SEGMENT_MAGIC, 8) != 0) {
		*why = "not a segment";
		return -1;
	}
	if (get_le32(p + 92) != crc32c(0, p, 92)) {
		*why = "the header is corrupt";
		return -1;
	}
	if (get_le32(p + 8) != SEGMENT_VERSION ||
	    get_le32(p + 12) != SEGMENT_USED || p[63] != '\0') {
		*why = "a segment of another version";
		return -1;
	}
	header->serial = get_le64(p + 16);
	header->mark = get_le64(p + 24);
	memcpy(header->writer, p + 32, SEGMENT_WRITER_SIZE);
	header->previous = get_le64(p + 64);
	header->previous_end = get_le64(p + 72);
	return 0;
}

int
segment_header_decode(const void *bytes, size_t len,
    struct segment_header *header, const char **why)
{
	const unsigned char *p = bytes;

	if (len < SEGMENT_HEADER_SIZE) {
		*why = "the header is not whole";
		return -1;
	}
	if (header_decode(p, header, why) == 0)
		return 0;
	return header_decode(p + SEGMENT_COPY, header, why);
}

static uint32_t
record_crc(const unsigned char *p)
{
	return crc32c(crc32c(0, p, 8), p + 12, RECORD_HEADER_SIZE - 12);
}

void
record_encode(const struct record *record, uint64_t mark, void *bytes)
{
	unsigned char *p = bytes;

	memset(p, 0, RECORD_HEADER_SIZE);
	put_le64(p, mark);
	p[12] = (unsigned char)record->type;
	p[13] = RECORD_VERSION;
	put_le16(p + 14, RECORD_HEADER_SIZE);
	put_le32(p + 16, record->envelope_len);
	put_le32(p + 20, record->envelope_crc);
	put_le64(p + 24, record->content_len);
	put_le32(p + 32, record->content_crc);
	put_le32(p + 36, record->generation);
	put_le64(p + 40, record->offset);
	put_le64(p + 48, record->committed);
	put_le32(p + 8, record_crc(p));
}

bool
record_decode(const void *bytes, size_t len, uint64_t mark, uint64_t offset,
    struct record *record)
{
	const unsigned char *p = bytes;

	if (len < RECORD_HEADER_SIZE || get_le64(p) != mark ||
	    get_le32(p + 8) != record_crc(p))
		return false;
	if (p[13] != RECORD_VERSION ||
	    get_le16(p + 14) != RECORD_HEADER_SIZE || get_le64(p + 40) != offset)
		return false;
	if (p[12] != RECORD_MESSAGE && p[12] != RECORD_LARGE)
		return false;
	record->type = p[12];
	record->envelope_len = get_le32(p + 16);
	record->envelope_crc = get_le32(p + 20);
	record->content_len = get_le64(p + 24);
	record->content_crc = get_le32(p + 32);
	record->generation = get_le32(p + 36);
	record->offset = offset;
	record->committed = get_le64(p + 48);
	return record->envelope_len <= RECORD_ENVELOPE_MAX &&
	    record->content_len <= RECORD_CONTENT_MAX;
}

uint64_t
record_length(const struct record *record)
{
	uint64_t len = RECORD_HEADER_SIZE + (uint64_t)record->envelope_len;

	return record->type == RECORD_LARGE ? len : len + record->content_len;
}

size_t
record_search(const void *bytes, size_t len, uint64_t mark, uint64_t base)
{
	const char *start = bytes, *p = start;
	struct record record;
	char wanted[8];

	put_le64(wanted, mark);
	while ((p = memmem(p, len - (size_t)(p - start), wanted, 8)) != NULL) {
		size_t at = (size_t)(p - start);

		if (record_decode(p, len - at, mark, base + at, &record))
			return at;
		p++;
	}
	return len;
}
