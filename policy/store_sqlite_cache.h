/*
 * What SQLite's file holds, or is about to, in memory: a record that many ask
 * about is read once, and written once in a transaction.
 */
#ifndef POLICY_STORE_SQLITE_CACHE_H
#define POLICY_STORE_SQLITE_CACHE_H

#include <stdbool.h>

#include "policy/store.h"

struct sqlite_cache;

struct sqlite_cached {
	const char *key;
	struct store_record record;
	bool exists;			/* false: there is no such record */
	bool changed;			/* the file is still to be told */
	struct sqlite_cached *next;	/* of the same hash */
	struct sqlite_cached *next_changed;
};

struct sqlite_cache *sqlite_cache_new(void);
void sqlite_cache_free(struct sqlite_cache **);

/* NULL: nothing is known of that key. */
struct sqlite_cached *sqlite_cache_find(const struct sqlite_cache *,
    const char *key);

/* Adds a key that is not known yet, as one without a record. */
struct sqlite_cached *sqlite_cache_add(struct sqlite_cache *,
    const char *key);

/* What the file holds, or what it is to hold; NULL: no record.  Copied. */
void sqlite_cache_fill(struct sqlite_cache *, struct sqlite_cached *,
    const struct store_record *);
void sqlite_cache_change(struct sqlite_cache *, struct sqlite_cached *,
    const struct store_record *);

/* Takes out one that was changed, NULL: there are no more. */
struct sqlite_cached *sqlite_cache_changed(struct sqlite_cache *);

/* Forgets all, changed or not; nobody may hold a pointer into it. */
void sqlite_cache_clear(struct sqlite_cache *);

/* How many were changed, and whether it is as large as it should become. */
size_t sqlite_cache_changes(const struct sqlite_cache *);
bool sqlite_cache_full(const struct sqlite_cache *);

#endif
