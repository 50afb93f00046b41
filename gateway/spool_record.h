/*
 * What stands in a segment: its header, twice, then records.  All numbers are
 * little-endian.
 *
 * Segment header, 96 bytes at 0 and again at 512; records begin at 1024:
 *	0	"MGSEGMNT"
 *	8	version (4), length of the header (4)
 *	16	serial (8)
 *	24	mark (8): random, begins every record of this segment
 *	32	writer, padded with NUL (32)
 *	64	serial of the writer's segment before this (8), 0: not known
 *	72	where that one ended (8): nothing behind it is a message
 *	80	zero (12)
 *	92	CRC32C of all before (4)
 *
 * Record header, 64 bytes; the envelope and the content follow:
 *	0	mark (8)
 *	8	CRC32C of bytes 0-7 and 12-63 (4)
 *	12	type (1), version (1), length of the header (2)
 *	16	length of the envelope (4), its CRC32C (4)
 *	24	length of the content (8)
 *	32	CRC32C of the content (4), generation (4)
 *	40	offset of this record in the segment (8)
 *	48	how far the segment was on stable storage when this was written (8)
 *	56	zero (8)
 *
 * Nobody who sends mail knows the mark, so the search for the next record
 * behind a corrupt one cannot be led to a record made up in a message's text.
 */
#ifndef GATEWAY_SPOOL_RECORD_H
#define GATEWAY_SPOOL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_HEADER_SIZE 1024
#define SEGMENT_WRITER_SIZE 32
#define RECORD_HEADER_SIZE 64
#define RECORD_ENVELOPE_MAX (64u << 20)
#define RECORD_CONTENT_MAX ((uint64_t)1 << 40)

struct segment_header {
	uint64_t serial;
	uint64_t mark;
	char writer[SEGMENT_WRITER_SIZE];	/* NUL-ended */
	uint64_t previous;
	uint64_t previous_end;
};

enum record_type {
	RECORD_MESSAGE = 1,	/* the content follows the envelope */
	RECORD_LARGE = 2	/* the content is in large/<id>.msg */
};

struct record {
	enum record_type type;
	uint32_t generation;		/* how often compaction moved it */
	uint32_t envelope_len, envelope_crc;
	uint64_t content_len;
	uint32_t content_crc;
	uint64_t offset;
	uint64_t committed;
};

/* Fills SEGMENT_HEADER_SIZE bytes. */
void segment_header_encode(const struct segment_header *, void *bytes);

/* Reads whichever copy is whole; -1 and *why if none is. */
int segment_header_decode(const void *bytes, size_t len,
    struct segment_header *, const char **why);

/* Fills RECORD_HEADER_SIZE bytes. */
void record_encode(const struct record *, uint64_t mark, void *bytes);

/* False: these bytes are not the header of a record at that offset. */
bool record_decode(const void *bytes, size_t len, uint64_t mark,
    uint64_t offset, struct record *);

/* Bytes that the record takes in its segment, header included. */
uint64_t record_length(const struct record *);

/*
 * The first header of a record in these bytes, which begin at base in the
 * segment; len if there is none.
 */
size_t record_search(const void *bytes, size_t len, uint64_t mark,
    uint64_t base);

/* Numbers in files, whatever the processor's order. */
void put_le16(void *, uint16_t);
void put_le32(void *, uint32_t);
void put_le64(void *, uint64_t);
uint16_t get_le16(const void *);
uint32_t get_le32(const void *);
uint64_t get_le64(const void *);

#endif
