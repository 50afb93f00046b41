/*
 * Entries.  They come from slabs and go to a free list, as there may be a
 * million; the hash table doubles.
 */
#include "config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/queue_internal.h"

#define SLAB_ENTRIES 256
#define FIRST_HASH 1024

/* --- recipients --- */

static size_t
word_count(uint32_t count)
{
	return (count + 63) / 64;
}

void
bits_alloc(union bits *bits, uint32_t count)
{
	bits->few = 0;
	if (count <= 64)
		return;
	bits->many = calloc(word_count(count), sizeof(uint64_t));
	assert(bits->many != NULL);
}

void
bits_free(union bits *bits, uint32_t count)
{
	if (count > 64)
		free(bits->many);
	bits->few = 0;
}

bool
bits_get(const union bits *bits, uint32_t count, uint32_t i)
{
	const uint64_t *words = count <= 64 ? &bits->few : bits->many;

	return words[i / 64] >> i % 64 & 1;
}

void
bits_set(union bits *bits, uint32_t count, uint32_t i)
{
	uint64_t *words = count <= 64 ? &bits->few : bits->many;

	words[i / 64] |= (uint64_t)1 << i % 64;
}

void
bits_copy(union bits *to, const union bits *from, uint32_t count)
{
	bits_alloc(to, count);
	if (count <= 64)
		to->few = from->few;
	else
		memcpy(to->many, from->many,
		    word_count(count) * sizeof(uint64_t));
}

/* --- look-up --- */

static uint64_t
hash_of(const char *id)
{
	uint64_t hash = 0xcbf29ce484222325;	/* FNV-1a; ids are our own */

	for (; *id != '\0'; id++)
		hash = (hash ^ (unsigned char)*id) * 0x100000001b3;
	return hash ^ hash >> 32;
}

static void
hash_grow(struct queue *q)
{
	size_t size = q->hash_size == 0 ? FIRST_HASH : q->hash_size * 2;
	struct entry **hash = calloc(size, sizeof(*hash)), *e;

	assert(hash != NULL);
	for (size_t i = 0; i < q->hash_size; i++)
		while ((e = q->hash[i]) != NULL) {
			size_t at = hash_of(e->public.id) & (size - 1);

			q->hash[i] = e->next;
			e->next = hash[at];
			hash[at] = e;
		}
	free(q->hash);
	q->hash = hash;
	q->hash_size = size;
}

void
entry_link(struct queue *q, struct entry *e)
{
	size_t at;

	if (q->count >= q->hash_size)
		hash_grow(q);
	at = hash_of(e->public.id) & (q->hash_size - 1);
	e->next = q->hash[at];
	q->hash[at] = e;
	q->count++;
}

void
entry_unlink(struct queue *q, struct entry *e)
{
	struct entry **p = &q->hash[hash_of(e->public.id) &
	    (q->hash_size - 1)];

	while (*p != e)
		p = &(*p)->next;
	*p = e->next;
	q->count--;
}

struct entry *
entry_find(const struct queue *q, const char *id)
{
	struct entry *e;

	if (q->hash_size == 0)
		return NULL;
	e = q->hash[hash_of(id) & (q->hash_size - 1)];
	while (e != NULL && strcmp(e->public.id, id) != 0)
		e = e->next;
	return e;
}

/* --- memory --- */

static void
slab_add(struct queue *q)
{
	struct entry *slab = calloc(SLAB_ENTRIES, sizeof(*slab));

	q->slabs = realloc(q->slabs, (q->slab_count + 1) * sizeof(*q->slabs));
	assert(slab != NULL && q->slabs != NULL);
	q->slabs[q->slab_count++] = slab;
	for (size_t i = 0; i < SLAB_ENTRIES; i++) {
		slab[i].next = q->free_entries;
		q->free_entries = &slab[i];
	}
}

struct entry *
entry_new(struct queue *q, const char *id, uint32_t recipients)
{
	struct entry *e;

	if (q->free_entries == NULL)
		slab_add(q);
	e = q->free_entries;
	q->free_entries = e->next;
	memset(e, 0, sizeof(*e));
	memcpy(e->public.id, id, sizeof(e->public.id));
	e->recipients = recipients;
	bits_alloc(&e->done, recipients);
	return e;
}

void
entry_free(struct queue *q, struct entry *e)
{
	if (!e->gone || e->public.busy || e->readers > 0 || e->is_moving)
		return;
	bits_free(&e->done, e->recipients);
	e->next = q->free_entries;
	q->free_entries = e;
}

void
entry_enter(struct entry *e, struct segment *s, const struct record *record)
{
	e->segment = s;
	e->offset = record->offset;
	e->length = (uint32_t)record_length(record);
	e->generation = record->generation;
	e->large = record->type == RECORD_LARGE;
	e->before = NULL;
	e->after = s->first;
	if (s->first != NULL)
		s->first->before = e;
	s->first = e;
	s->live++;
	s->live_bytes += e->length;
}

void
entry_leave(struct entry *e)
{
	struct segment *s = e->segment;

	if (e->before != NULL)
		e->before->after = e->after;
	else
		s->first = e->after;
	if (e->after != NULL)
		e->after->before = e->before;
	e->before = e->after = NULL;
	s->live--;
	s->live_bytes -= e->length;
}

void
index_free(struct queue *q)
{
	for (size_t i = 0; i < q->hash_size; i++)
		for (struct entry *e = q->hash[i]; e != NULL; e = e->next) {
			bits_free(&e->done, e->recipients);
			if (e->is_moving)
				bits_free(&e->moving, e->recipients);
		}
	for (size_t i = 0; i < q->slab_count; i++)
		free(q->slabs[i]);
	free(q->slabs);
	free(q->hash);
}
