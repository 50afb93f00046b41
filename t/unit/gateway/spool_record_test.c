#include <string.h>

#include "gateway/spool_record.h"
#include "t/unit/unit.h"

static const struct segment_header header = { .serial = 77, .mark = 0x123456,
	.writer = "g0", .previous = 70, .previous_end = 4096 };
static const struct record sample = { .type = RECORD_MESSAGE, .generation = 3,
	.envelope_len = 100, .envelope_crc = 1, .content_len = 5000,
	.content_crc = 2, .offset = 1024, .committed = 512 };

static void
header_round_trip(void)
{
	unsigned char bytes[SEGMENT_HEADER_SIZE];
	struct segment_header got;
	const char *why;

	segment_header_encode(&header, bytes);
	CU_ASSERT(segment_header_decode(bytes, sizeof(bytes), &got,
	    &why) == 0);
	CU_ASSERT(got.serial == 77 && got.mark == 0x123456);
	CU_ASSERT(strcmp(got.writer, "g0") == 0);
	CU_ASSERT(got.previous == 70 && got.previous_end == 4096);
}

/* One sector may go: the other copy serves. */
static void
header_second_copy(void)
{
	unsigned char bytes[SEGMENT_HEADER_SIZE];
	struct segment_header got;
	const char *why;

	segment_header_encode(&header, bytes);
	memset(bytes, 0, 512);
	CU_ASSERT(segment_header_decode(bytes, sizeof(bytes), &got,
	    &why) == 0);
	CU_ASSERT(got.serial == 77);
	bytes[512 + 20] ^= 1;
	CU_ASSERT(segment_header_decode(bytes, sizeof(bytes), &got,
	    &why) == -1);
	CU_ASSERT(segment_header_decode(bytes, 1023, &got, &why) == -1);
}

static void
record_round_trip(void)
{
	unsigned char bytes[RECORD_HEADER_SIZE];
	struct record got;

	record_encode(&sample, 9, bytes);
	CU_ASSERT(record_decode(bytes, sizeof(bytes), 9, 1024, &got));
	CU_ASSERT(got.type == RECORD_MESSAGE && got.generation == 3);
	CU_ASSERT(got.envelope_len == 100 && got.envelope_crc == 1);
	CU_ASSERT(got.content_len == 5000 && got.content_crc == 2);
	CU_ASSERT(got.offset == 1024 && got.committed == 512);
	CU_ASSERT(record_length(&got) == 64 + 100 + 5000);
	got.type = RECORD_LARGE;
	CU_ASSERT(record_length(&got) == 64 + 100);
}

static void
record_elsewhere(void)
{
	unsigned char bytes[RECORD_HEADER_SIZE];
	struct record got;

	record_encode(&sample, 9, bytes);
	CU_ASSERT(!record_decode(bytes, sizeof(bytes), 8, 1024, &got));
	CU_ASSERT(!record_decode(bytes, sizeof(bytes), 9, 1025, &got));
	CU_ASSERT(!record_decode(bytes, sizeof(bytes) - 1, 9, 1024, &got));
}

static void
every_bit_counts(void)
{
	unsigned char bytes[RECORD_HEADER_SIZE];
	struct record got;

	record_encode(&sample, 9, bytes);
	for (size_t bit = 0; bit < sizeof(bytes) * 8; bit++) {
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
		CU_ASSERT(!record_decode(bytes, sizeof(bytes), 9, 1024, &got));
		bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
	}
}

static void
searches(void)
{
	unsigned char bytes[400];

	memset(bytes, 0, sizeof(bytes));
	CU_ASSERT(record_search(bytes, sizeof(bytes), 9, 900) == 400);
	put_le64(bytes + 50, 9);	/* the mark alone is not a record */
	record_encode(&sample, 9, bytes + 124);
	CU_ASSERT(record_search(bytes, sizeof(bytes), 9, 900) == 124);
	CU_ASSERT(record_search(bytes, sizeof(bytes), 9, 901) == 400);
	CU_ASSERT(record_search(bytes, 124 + 63, 9, 900) == 187);
}

SUITE(spool_record, { "header round trip", header_round_trip },
    { "header, second copy", header_second_copy },
    { "record round trip", record_round_trip },
    { "record elsewhere", record_elsewhere },
    { "every bit counts", every_bit_counts },
    { "searches", searches })
