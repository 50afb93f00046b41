/* Records of SQLite's file in memory. */
#include "policy/store_sqlite_cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"

#define BUCKETS		16384		/* a power of two */
#define SIZE_MAX_BYTES	(8u << 20)

struct sqlite_cache {
	struct arena *arena;
	struct sqlite_cached *changed;
	size_t changes;
	struct sqlite_cached *buckets[BUCKETS];
};

struct sqlite_cache *
sqlite_cache_new(void)
{
	struct sqlite_cache *cache = calloc(1, sizeof(*cache));

	if (cache == NULL)
		fatal("out of memory (store)");
	cache->arena = arena_new(0);
	return cache;
}

void
sqlite_cache_free(struct sqlite_cache **cache)
{
	if (*cache == NULL)
		return;
	arena_free(&(*cache)->arena);
	free(*cache);
	*cache = NULL;
}

/* FNV-1a. */
static size_t
bucket_of(const char *key)
{
	uint32_t hash = 2166136261;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char)*key) * 16777619;
	return (hash ^ hash >> 16) % BUCKETS;
}

struct sqlite_cached *
sqlite_cache_find(const struct sqlite_cache *cache, const char *key)
{
	struct sqlite_cached *cached = cache->buckets[bucket_of(key)];

	while (cached != NULL && strcmp(cached->key, key) != 0)
		cached = cached->next;
	return cached;
}

struct sqlite_cached *
sqlite_cache_add(struct sqlite_cache *cache, const char *key)
{
	struct sqlite_cached **bucket = &cache->buckets[bucket_of(key)];
	struct sqlite_cached *cached = arena_alloc(cache->arena,
	    sizeof(*cached));

	cached->key = arena_strdup(cache->arena, key);
	cached->record.note = "";
	cached->next = *bucket;
	*bucket = cached;
	return cached;
}

void
sqlite_cache_fill(struct sqlite_cache *cache, struct sqlite_cached *cached,
    const struct store_record *record)
{
	const char *old = cached->record.note, *note;

	cached->exists = record != NULL;
	if (record == NULL)
		return;
	note = record->note != NULL ? record->note : "";
	cached->record = *record;
	/* Not over the old one, which a step may have in its hands. */
	cached->record.note = strcmp(note, old) == 0 ? old :
	    arena_strdup(cache->arena, note);
}

void
sqlite_cache_change(struct sqlite_cache *cache, struct sqlite_cached *cached,
    const struct store_record *record)
{
	sqlite_cache_fill(cache, cached, record);
	if (cached->changed)
		return;
	cached->changed = true;
	cached->next_changed = cache->changed;
	cache->changed = cached;
	cache->changes++;
}

struct sqlite_cached *
sqlite_cache_changed(struct sqlite_cache *cache)
{
	struct sqlite_cached *cached = cache->changed;

	if (cached == NULL)
		return NULL;
	cache->changed = cached->next_changed;
	cache->changes--;
	cached->changed = false;
	return cached;
}

void
sqlite_cache_clear(struct sqlite_cache *cache)
{
	memset(cache->buckets, 0, sizeof(cache->buckets));
	cache->changed = NULL;
	cache->changes = 0;
	arena_reset(cache->arena);
}

size_t
sqlite_cache_changes(const struct sqlite_cache *cache)
{
	return cache->changes;
}

bool
sqlite_cache_full(const struct sqlite_cache *cache)
{
	return arena_size(cache->arena) > SIZE_MAX_BYTES;
}
