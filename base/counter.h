/*
 * Counters, gauges and histograms of a process, in memory that it shares with
 * the console, which sums over all processes and shows them to Prometheus.
 *
 * Each process has one block, handed to it by the master, which describes
 * itself: slots of name, labels and value, added at first use.  Increments are
 * relaxed atomic additions.  Without a block (tests) a private one serves.
 */
#ifndef BASE_COUNTER_H
#define BASE_COUNTER_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct counter;
struct counter_block;
struct histogram;

enum counter_kind { COUNTER_TOTAL, COUNTER_GAUGE, COUNTER_HISTOGRAM };

/* What the console tells Prometheus of a name; one table per module. */
struct counter_row {
	const char *name;		/* millgate_smtp_sessions_total */
	enum counter_kind kind;
	const char *help;
};

/* Makes rows known; static tables, once at start. */
void counter_describe(const struct counter_row *, size_t count);

/*
 * Behind a module's table: describes it in every process that is made of this
 * program, for the console shows what modules count that it never sets up.
 */
#define COUNTER_TABLE(rows)						\
	static __attribute__((constructor)) void			\
	rows##_describe(void)						\
	{								\
		counter_describe(rows, sizeof(rows) / sizeof((rows)[0])); \
	}

/* Bytes of one block. */
size_t counter_block_size(void);

/*
 * Uses that block (counter_block_size() bytes, zeroed when new) for this
 * process from now on; values that a predecessor left go on, gauges are reset.
 */
void counter_attach(struct counter_block *);

/*
 * The counter of that name and labels (Prometheus text without braces, such as
 * filter="spf", or NULL).  Never NULL: with a full block a spare is returned,
 * counted nowhere.
 */
struct counter *counter_get(const char *name, const char *labels);
void counter_add(struct counter *, int64_t);
int64_t counter_value(const struct counter *);

/*
 * Appends name="value" to labels, escaped, behind a comma if something stands
 * there: for values that are not known to be plain.  What is too long is cut.
 */
void counter_label(char *labels, size_t size, const char *name,
    const char *value);

/* Time in seconds, buckets from 100 µs to 300 s. */
struct histogram *histogram_get(const char *name, const char *labels);
void histogram_observe(struct histogram *, int64_t microseconds);

/* The sum over all blocks as Prometheus text format 0.0.4. */
void counter_print(struct buf *, struct counter_block *const *, size_t count);

#endif
