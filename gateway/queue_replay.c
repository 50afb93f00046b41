/*
 * What the journals say, by id and generation, until all segments are read;
 * then it is freed.
 */
#include "config.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "gateway/queue_internal.h"

#define RECIPIENTS_MAX (16u << 20)

struct item {
	struct item *next;
	char id[ENVELOPE_ID_SIZE];
	uint32_t generation;
	struct replay_state state;
	uint64_t *words;
};

struct replay {
	struct arena *arena;
	struct item **hash;
	size_t size, count;
};

static size_t
hash_of(const char *id)
{
	size_t hash = 5381;

	for (; *id != '\0'; id++)
		hash = hash * 33 + (unsigned char)*id;
	return hash;
}

struct replay *
replay_new(void)
{
	struct replay *r = calloc(1, sizeof(*r));

	assert(r != NULL);
	r->arena = arena_new(1 << 16);
	return r;
}

void
replay_free(struct replay **rp)
{
	struct replay *r = *rp;

	if (r == NULL)
		return;
	arena_free(&r->arena);
	free(r->hash);
	free(r);
	*rp = NULL;
}

static void
grow(struct replay *r)
{
	size_t size = r->size == 0 ? 1024 : r->size * 2;
	struct item **hash = calloc(size, sizeof(*hash)), *item;

	assert(hash != NULL);
	for (size_t i = 0; i < r->size; i++)
		while ((item = r->hash[i]) != NULL) {
			size_t at = hash_of(item->id) & (size - 1);

			r->hash[i] = item->next;
			item->next = hash[at];
			hash[at] = item;
		}
	free(r->hash);
	r->hash = hash;
	r->size = size;
}

static struct item *
item_for(struct replay *r, const char *id, uint32_t generation)
{
	struct item *item;
	size_t at;

	if (r->count >= r->size)
		grow(r);
	at = hash_of(id) & (r->size - 1);
	for (item = r->hash[at]; item != NULL; item = item->next)
		if (item->generation == generation &&
		    strcmp(item->id, id) == 0)
			return item;
	item = arena_alloc(r->arena, sizeof(*item));
	memcpy(item->id, id, sizeof(item->id));
	item->generation = generation;
	item->next = r->hash[at];
	r->hash[at] = item;
	r->count++;
	return item;
}

static void
set_done(struct replay *r, struct item *item, uint32_t recipient)
{
	size_t need = recipient / 64 + 1;

	if (recipient == JOURNAL_ALL) {
		item->state.all = true;
		return;
	}
	if (recipient > RECIPIENTS_MAX)
		return;
	if (need > item->state.word_count) {
		size_t have = item->state.word_count;
		uint64_t *words;

		if (need < have * 2)
			need = have * 2;
		words = arena_alloc(r->arena, need * sizeof(*words));
		if (have > 0)
			memcpy(words, item->words, have * sizeof(*words));
		item->words = words;
		item->state.words = words;
		item->state.word_count = need;
	}
	item->words[recipient / 64] |= (uint64_t)1 << recipient % 64;
}

void
replay_add(const struct journal_record *record, uint64_t serial,
    void *argument)
{
	struct replay *r = argument;
	struct item *item = item_for(r, record->id, record->generation);
	struct replay_state *state = &item->state;

	if (state->first_journal == 0)
		state->first_journal = serial;
	state->last_journal = serial;
	switch (record->type) {
	case JOURNAL_DELIVERED:
	case JOURNAL_BOUNCED:
	case JOURNAL_DELETED:
	case JOURNAL_MOVED:
		set_done(r, item, record->recipient);
		return;
	case JOURNAL_DEFERRED:
		state->tried = true;
		state->attempts = record->attempts;
		state->next_try_ms = record->next_try_ms;
		return;
	case JOURNAL_HELD:
	case JOURNAL_RELEASED:
		state->hold_known = true;
		state->hold = record->type == JOURNAL_HELD;
		state->next_try_ms = record->next_try_ms;
		return;
	}
}

bool
replay_find(const struct replay *r, const char *id, uint32_t generation,
    struct replay_state *state)
{
	bool found = false, newer = false;

	if (r->size == 0)
		return false;
	for (struct item *item = r->hash[hash_of(id) & (r->size - 1)];
	    item != NULL; item = item->next) {
		if (strcmp(item->id, id) != 0)
			continue;
		if (item->generation > generation)
			newer = true;
		if (item->generation != generation)
			continue;
		*state = item->state;
		found = true;
	}
	if (!found)
		memset(state, 0, sizeof(*state));
	state->newer = newer;
	return found || newer;
}
