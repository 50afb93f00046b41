/* How a block of counters is laid out; for counter.c and counter_print.c. */
#ifndef BASE_COUNTER_BLOCK_H
#define BASE_COUNTER_BLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/counter.h"

#define COUNTER_BLOCK_SIZE 65536
#define COUNTER_MAGIC 0x4d47434eu	/* "MGCN" */
#define COUNTER_VERSION 1

/* The last bucket takes what is above all bounds. */
#define HISTOGRAM_BUCKETS 16

struct counter {
	_Atomic int64_t value;
};

struct histogram {
	_Atomic int64_t buckets[HISTOGRAM_BUCKETS];
	_Atomic int64_t sum;		/* microseconds */
};

/* Upper bounds of all buckets but the last. */
extern const int64_t histogram_bounds[HISTOGRAM_BUCKETS - 1];

/*
 * A record: this, name and labels (padded to words, no NUL), then a struct
 * counter or a struct histogram.  Records are appended, never moved.
 */
struct counter_record {
	uint8_t kind, name_len, label_len, reserved[5];
};

#define COUNTER_TEXT_MAX 255		/* for the name, and for the labels */

struct counter_block {
	uint32_t magic, version;
	_Atomic uint32_t used;		/* bytes of records */
	uint32_t reserved;
	unsigned char records[COUNTER_BLOCK_SIZE - 16];
};

/* A record as read; the pointers lead into the block. */
struct counter_view {
	enum counter_kind kind;
	const char *name, *labels;
	size_t name_len, label_len;
	const void *value;
};

/*
 * Reads the record at *offset and moves *offset behind it.  False at the end,
 * or at the first record that isn't right: another process, perhaps taken
 * over, writes the block, so each number is read once and bounded.
 */
bool counter_block_next(const struct counter_block *, size_t *offset,
    struct counter_view *);

/* The described row, or NULL. */
const struct counter_row *counter_row_find(const char *name, size_t len);

#endif
