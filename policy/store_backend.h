/* Between store.c and its back ends, one file each, ending in one struct. */
#ifndef POLICY_STORE_BACKEND_H
#define POLICY_STORE_BACKEND_H

#include <stdbool.h>

#include "policy/store.h"

#define STORE_PAGE_ROWS	1000

struct store_call {
	const struct store_step *step;
	const char *const *keys;
	const int64_t *arguments;
	const char *const *texts;
	int64_t shift_ms;		/* of the clock */
	int64_t deadline;		/* task.h */
};

/* A page of a scan: what it points to is the arena's. */
struct store_page {
	struct arena *arena;
	size_t count;
	struct store_page_row {
		const char *key;
		struct store_record record;
	} rows[STORE_PAGE_ROWS];
};

struct store_backend {
	const char *name;
	void *(*open)(struct store *, const struct conf *, const char *path,
	    const char **why);
	void (*close)(void *state);
	enum answer (*run)(void *state, const struct store_call *,
	    int64_t *results, const char **why);

	/* The record's note goes into note. */
	enum answer (*read)(void *state, const char *key, int64_t shift_ms,
	    int64_t deadline, struct store_record *, char note[],
	    const char **why);

	/*
	 * The next page of a scan: YES, or NO if it is the last one.  from,
	 * empty at first, is where the back end goes on.
	 */
	enum answer (*scan)(void *state, const char *prefix, int64_t shift_ms,
	    struct buf *from, struct store_page *, const char **why);

	/* Tallies (store.h); shift_ms is of the clock. */
	enum answer (*tally_add)(void *state, const struct store_tally *,
	    const char **why);
	enum answer (*tally_claim)(void *state, const char *subject, bool now,
	    int64_t lease_ms, int64_t shift_ms, struct buf *,
	    const char **why);
	enum answer (*tally_done)(void *state, const char *subject,
	    int64_t begin_ms, int64_t id, const char **why);
	enum answer (*tally_list)(void *state, struct buf *, const char **why);
};

/* How long a page of a scan or a step of a tally may take: nobody waits. */
#define STORE_SLOW_MS 5000

extern const struct store_backend store_sqlite, store_redis;

/*
 * A back end says when it stops answering and when it answers again; the log
 * has one line for each change.
 */
void store_away(struct store *, const char *why);
void store_back(struct store *);

struct redis_access;

/*
 * Who we are for Redis, and how it is met.  0; -1: *why, and which option is to
 * blame; either way it is to be released.
 */
int store_access_load(const struct conf *, struct redis_access *,
    const char **option, const char **why);
void store_access_release(struct redis_access *);

#endif
