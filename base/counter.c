/* Counters in shared memory: records that describe themselves. */
#include "base/counter.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/counter_block.h"

#define TABLES_MAX 64
#define INDEX_SIZE 4096			/* more than twice the records */

const int64_t histogram_bounds[HISTOGRAM_BUCKETS - 1] = {
	100, 300, 1000, 3000, 10000, 30000, 100000, 300000, 1000000, 3000000,
	10000000, 30000000, 60000000, 120000000, 300000000
};

static struct {
	const struct counter_row *rows;
	size_t count;
} tables[TABLES_MAX];
static size_t table_count;

static struct counter_block private_block;
static struct counter_block *block = &private_block;

/* Where records begin (in words, plus one), by hash of name and labels. */
static uint16_t places[INDEX_SIZE];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* What a full block gives out. */
static struct counter spare_counter;
static struct histogram spare_histogram;

void
counter_describe(const struct counter_row *rows, size_t count)
{
	if (table_count == TABLES_MAX)
		return;
	tables[table_count].rows = rows;
	tables[table_count++].count = count;
}

const struct counter_row *
counter_row_find(const char *name, size_t len)
{
	for (size_t t = 0; t < table_count; t++)
		for (size_t i = 0; i < tables[t].count; i++) {
			const struct counter_row *row = &tables[t].rows[i];

			if (strlen(row->name) == len &&
			    memcmp(row->name, name, len) == 0)
				return row;
		}
	return NULL;
}

size_t
counter_block_size(void)
{
	return sizeof(struct counter_block);
}

static size_t
value_size(enum counter_kind kind)
{
	return kind == COUNTER_HISTOGRAM ? sizeof(struct histogram) :
	    sizeof(struct counter);
}

static size_t
words(size_t bytes)
{
	return (bytes + 7) / 8 * 8;
}

bool
counter_block_next(const struct counter_block *from, size_t *offset,
    struct counter_view *view)
{
	struct counter_record record;
	size_t end = atomic_load_explicit(&from->used, memory_order_acquire);
	size_t at = *offset, text;

	if (end > sizeof(from->records))
		end = sizeof(from->records);
	if (at >= end || end - at < sizeof(record))
		return false;
	memcpy(&record, from->records + at, sizeof(record));
	if (record.kind > COUNTER_HISTOGRAM || record.name_len == 0)
		return false;
	at += sizeof(record);
	text = words((size_t)record.name_len + record.label_len);
	if (end - at < text + value_size(record.kind))
		return false;
	view->kind = record.kind;
	view->name = (const char *)from->records + at;
	view->name_len = record.name_len;
	view->labels = view->name + record.name_len;
	view->label_len = record.label_len;
	view->value = from->records + at + text;
	*offset = at + text + value_size(record.kind);
	return true;
}

static uint32_t
hash(const char *name, size_t name_len, const char *labels, size_t label_len)
{
	uint32_t h = 2166136261u;	/* FNV-1a */

	for (size_t i = 0; i < name_len; i++)
		h = (h ^ (unsigned char)name[i]) * 16777619u;
	for (size_t i = 0; i < label_len; i++)
		h = (h ^ (unsigned char)labels[i]) * 16777619u;
	return h;
}

static void
remember(const struct counter_view *view, size_t offset)
{
	uint32_t i = hash(view->name, view->name_len, view->labels,
	    view->label_len);

	while (places[i % INDEX_SIZE] != 0)
		i++;
	places[i % INDEX_SIZE] = (uint16_t)(offset / 8 + 1);
}

static bool
is_gauge(const struct counter_view *view)
{
	const struct counter_row *row =
	    counter_row_find(view->name, view->name_len);

	return row == NULL ? view->kind == COUNTER_GAUGE :
	    row->kind == COUNTER_GAUGE;
}

/* The value that was read, for its owner to change. */
static void *
value_in(struct counter_block *of, const struct counter_view *view)
{
	return of->records + ((const unsigned char *)view->value -
	    of->records);
}

void
counter_attach(struct counter_block *to)
{
	struct counter_view view;
	size_t next = 0, offset = 0;

	pthread_mutex_lock(&lock);
	if (to->magic != COUNTER_MAGIC || to->version != COUNTER_VERSION) {
		memset(to, 0, sizeof(*to));
		to->magic = COUNTER_MAGIC;
		to->version = COUNTER_VERSION;
	}
	memset(places, 0, sizeof(places));
	while (counter_block_next(to, &next, &view)) {
		if (is_gauge(&view) && view.kind != COUNTER_HISTOGRAM)
			atomic_store(&((struct counter *)value_in(to,
			    &view))->value, 0);
		remember(&view, offset);
		offset = next;
	}
	/* Behind a record that is broken nothing can be trusted. */
	if (offset != atomic_load(&to->used)) {
		memset(to->records + offset, 0, sizeof(to->records) - offset);
		atomic_store(&to->used, (uint32_t)offset);
	}
	block = to;
	pthread_mutex_unlock(&lock);
}

/* The value of that record in our block, or NULL. */
static void *
find(const struct counter_view *want)
{
	uint32_t i = hash(want->name, want->name_len, want->labels,
	    want->label_len);
	struct counter_view view;
	size_t offset;

	for (; places[i % INDEX_SIZE] != 0; i++) {
		offset = (size_t)(places[i % INDEX_SIZE] - 1) * 8;
		if (counter_block_next(block, &offset, &view) &&
		    view.name_len == want->name_len &&
		    view.label_len == want->label_len &&
		    (view.kind == COUNTER_HISTOGRAM) ==
		    (want->kind == COUNTER_HISTOGRAM) &&
		    memcmp(view.name, want->name, view.name_len) == 0 &&
		    memcmp(view.labels, want->labels, view.label_len) == 0)
			return value_in(block, &view);
	}
	return NULL;
}

/* Appends a record, or returns NULL for lack of room. */
static void *
append(struct counter_view *view)
{
	struct counter_record record = { .kind = (uint8_t)view->kind,
	    .name_len = (uint8_t)view->name_len,
	    .label_len = (uint8_t)view->label_len };
	size_t at = atomic_load(&block->used);
	size_t text = words(view->name_len + view->label_len);
	size_t size = sizeof(record) + text + value_size(view->kind);
	unsigned char *p = block->records + at;

	if (sizeof(block->records) - at < size)
		return NULL;
	memset(p, 0, size);
	memcpy(p, &record, sizeof(record));
	p += sizeof(record);
	memcpy(p, view->name, view->name_len);
	memcpy(p + view->name_len, view->labels, view->label_len);
	/* The console must see the record whole or not at all. */
	atomic_store_explicit(&block->used, (uint32_t)(at + size),
	    memory_order_release);
	remember(view, at);
	return p + text;
}

static void *
get(const char *name, const char *labels, bool histogram)
{
	struct counter_view view = { .kind = COUNTER_TOTAL, .name = name,
	    .name_len = strlen(name), .labels = labels == NULL ? "" : labels };
	const struct counter_row *row =
	    counter_row_find(name, view.name_len);
	void *value = NULL;

	view.label_len = strlen(view.labels);
	if (histogram)
		view.kind = COUNTER_HISTOGRAM;
	else if (row != NULL && row->kind == COUNTER_GAUGE)
		view.kind = COUNTER_GAUGE;
	if (view.name_len == 0 || view.name_len > COUNTER_TEXT_MAX ||
	    view.label_len > COUNTER_TEXT_MAX)
		return NULL;
	pthread_mutex_lock(&lock);
	if ((value = find(&view)) == NULL)
		value = append(&view);
	pthread_mutex_unlock(&lock);
	return value;
}

struct counter *
counter_get(const char *name, const char *labels)
{
	struct counter *counter = get(name, labels, false);

	return counter == NULL ? &spare_counter : counter;
}

void
counter_add(struct counter *counter, int64_t n)
{
	atomic_fetch_add_explicit(&counter->value, n, memory_order_relaxed);
}

int64_t
counter_value(const struct counter *counter)
{
	return atomic_load_explicit(&counter->value, memory_order_relaxed);
}

void
counter_label(char *labels, size_t size, const char *name, const char *value)
{
	size_t len = strlen(labels);
	size_t need = strlen(name) + 5;		/* , = " " and the NUL */

	if (size < len + need)
		return;
	len += (size_t)snprintf(labels + len, size - len, "%s%s=\"",
	    len == 0 ? "" : ",", name);
	for (; *value != '\0' && size - len > 4; value++) {
		if (*value == '"' || *value == '\\' || *value == '\n')
			labels[len++] = '\\';
		labels[len++] = *value == '\n' ? 'n' :
		    (*value < ' ' || *value > '~') ? '?' : *value;
	}
	strcpy(labels + len, "\"");
}

struct histogram *
histogram_get(const char *name, const char *labels)
{
	struct histogram *histogram = get(name, labels, true);

	return histogram == NULL ? &spare_histogram : histogram;
}

void
histogram_observe(struct histogram *histogram, int64_t microseconds)
{
	size_t i = 0;

	while (i < HISTOGRAM_BUCKETS - 1 && microseconds > histogram_bounds[i])
		i++;
	atomic_fetch_add_explicit(&histogram->buckets[i], 1,
	    memory_order_relaxed);
	atomic_fetch_add_explicit(&histogram->sum, microseconds,
	    memory_order_relaxed);
}
