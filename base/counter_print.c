/*
 * The sum of all processes' counters in Prometheus' text format 0.0.4.  The
 * blocks are not trusted: names and labels are copied, then checked, and what
 * is not right is left out, for one bad line spoils the whole scrape.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter_block.h"
#include "base/log.h"

/* More than a block can hold of the smallest records. */
#define SAMPLES_MAX 100000

struct sample {
	char name[COUNTER_TEXT_MAX + 1], labels[COUNTER_TEXT_MAX + 1];
	enum counter_kind kind;
	uint64_t values[HISTOGRAM_BUCKETS + 1];	/* the last: sum */
};

struct samples {
	struct sample *items;
	size_t count, size;
};

static bool
is_word_byte(char c, bool first)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
	    (!first && c >= '0' && c <= '9');
}

static size_t
word_length(const char *p)
{
	size_t n = 0;

	while (is_word_byte(p[n], n == 0))
		n++;
	return n;
}

/* name="value",name="value" with \\, \" and \n escaped; ASCII. */
static bool
labels_are_right(const char *p)
{
	size_t n;

	while (*p != '\0') {
		if ((n = word_length(p)) == 0 || p[n] != '=' ||
		    p[n + 1] != '"')
			return false;
		for (p += n + 2; *p != '"'; p++) {
			if (*p < ' ' || *p > '~')
				return false;
			if (*p == '\\' && strchr("\\\"n", *++p) == NULL)
				return false;
			if (*p == '\0')
				return false;
		}
		p++;
		if (*p == '\0')
			return true;
		if (*p++ != ',' || *p == '\0')
			return false;
	}
	return true;
}

static bool
read_sample(const struct counter_view *view, struct sample *sample)
{
	const struct counter_row *row;

	memset(sample, 0, sizeof(*sample));
	memcpy(sample->name, view->name, view->name_len);
	memcpy(sample->labels, view->labels, view->label_len);
	if (sample->name[word_length(sample->name)] != '\0' ||
	    sample->name[0] == '\0' || !labels_are_right(sample->labels))
		return false;
	sample->kind = view->kind;
	row = counter_row_find(sample->name, strlen(sample->name));
	if (row != NULL) {
		if ((row->kind == COUNTER_HISTOGRAM) !=
		    (view->kind == COUNTER_HISTOGRAM))
			return false;
		sample->kind = row->kind;
	}
	if (view->kind == COUNTER_HISTOGRAM) {
		const struct histogram *h = view->value;

		for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
			sample->values[i] = (uint64_t)atomic_load_explicit(
			    &h->buckets[i], memory_order_relaxed);
		sample->values[HISTOGRAM_BUCKETS] = (uint64_t)
		    atomic_load_explicit(&h->sum, memory_order_relaxed);
		return true;
	}
	sample->values[0] = (uint64_t)counter_value(view->value);
	return true;
}

static void
samples_add(struct samples *samples, const struct counter_view *view)
{
	struct sample *grown;

	if (samples->count == samples->size) {
		if (samples->size >= SAMPLES_MAX)
			return;
		samples->size = samples->size == 0 ? 256 : samples->size * 2;
		grown = reallocarray(samples->items, samples->size,
		    sizeof(*grown));
		if (grown == NULL)
			fatal("out of memory");
		samples->items = grown;
	}
	if (read_sample(view, &samples->items[samples->count]))
		samples->count++;
}

static int
compare(const void *a, const void *b)
{
	const struct sample *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	if (order == 0)
		order = (x->kind > y->kind) - (x->kind < y->kind);
	return order != 0 ? order : strcmp(x->labels, y->labels);
}

/* Adds up neighbours that are the same. */
static void
merge(struct samples *samples)
{
	size_t kept = 0;

	for (size_t i = 0; i < samples->count; i++) {
		struct sample *s = &samples->items[i];

		if (kept == 0 || compare(&samples->items[kept - 1], s) != 0) {
			samples->items[kept++] = *s;
			continue;
		}
		for (size_t v = 0; v <= HISTOGRAM_BUCKETS; v++)
			samples->items[kept - 1].values[v] += s->values[v];
	}
	samples->count = kept;
}

static void
print_head(struct buf *out, const struct sample *s)
{
	static const char *const types[] = { "counter", "gauge", "histogram" };
	const struct counter_row *row =
	    counter_row_find(s->name, strlen(s->name));

	if (row != NULL && row->help != NULL) {
		buf_printf(out, "# HELP %s ", s->name);
		for (const char *p = row->help; *p != '\0'; p++) {
			if (*p == '\\' || *p == '\n')
				buf_putc(out, '\\');
			buf_putc(out, *p == '\n' ? 'n' : *p);
		}
		buf_putc(out, '\n');
	}
	buf_printf(out, "# TYPE %s %s\n", s->name, types[s->kind]);
}

static void
print_histogram(struct buf *out, const struct sample *s)
{
	const char *comma = s->labels[0] == '\0' ? "" : ",";
	const char *open = s->labels[0] == '\0' ? "" : "{";
	const char *close = s->labels[0] == '\0' ? "" : "}";
	uint64_t total = 0;

	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		total += s->values[i];
		buf_printf(out, "%s_bucket{%s%sle=\"", s->name, s->labels,
		    comma);
		if (i < HISTOGRAM_BUCKETS - 1)
			buf_printf(out, "%g", (double)histogram_bounds[i] /
			    1e6);
		else
			buf_puts(out, "+Inf");
		buf_printf(out, "\"} %" PRIu64 "\n", total);
	}
	buf_printf(out, "%s_sum%s%s%s %.6f\n", s->name, open, s->labels,
	    close, (double)(int64_t)s->values[HISTOGRAM_BUCKETS] / 1e6);
	buf_printf(out, "%s_count%s%s%s %" PRIu64 "\n", s->name, open,
	    s->labels, close, total);
}

void
counter_print(struct buf *out, struct counter_block *const *blocks,
    size_t count)
{
	struct samples samples = { NULL, 0, 0 };
	const struct sample *head = NULL;
	struct counter_view view;

	for (size_t i = 0; i < count; i++) {
		size_t offset = 0;

		if (blocks[i] == NULL || blocks[i]->magic != COUNTER_MAGIC ||
		    blocks[i]->version != COUNTER_VERSION)
			continue;
		while (counter_block_next(blocks[i], &offset, &view))
			samples_add(&samples, &view);
	}
	if (samples.count > 0)
		qsort(samples.items, samples.count, sizeof(struct sample),
		    compare);
	merge(&samples);
	for (size_t i = 0; i < samples.count; i++) {
		const struct sample *s = &samples.items[i];

		if (head == NULL || strcmp(head->name, s->name) != 0)
			print_head(out, head = s);
		if (s->kind != head->kind)
			continue;
		if (s->kind == COUNTER_HISTOGRAM)
			print_histogram(out, s);
		else
			buf_printf(out, "%s%s%s%s %" PRId64 "\n", s->name,
			    s->labels[0] == '\0' ? "" : "{", s->labels,
			    s->labels[0] == '\0' ? "" : "}",
			    (int64_t)s->values[0]);
	}
	free(samples.items);
}
