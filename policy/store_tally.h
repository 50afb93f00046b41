/* Tallies between the two halves of each back end. */
#ifndef POLICY_STORE_TALLY_H
#define POLICY_STORE_TALLY_H

#include "policy/store_backend.h"

struct redisReply;
struct redis_script;
struct sqlite3;

#define TALLY_WORDS_MAX	8
#define TALLY_LIST_MAX	1000

/* An open tally has id 0. */
#define TALLY_SCHEMA							\
	"CREATE TABLE IF NOT EXISTS tally(subject TEXT, begin INTEGER,"	\
	" id INTEGER, due INTEGER, lease INTEGER, head TEXT, lost INTEGER,"	\
	" PRIMARY KEY(subject, begin, id)) WITHOUT ROWID;"		\
	"CREATE TABLE IF NOT EXISTS tally_row(subject TEXT, begin INTEGER,"	\
	" id INTEGER, row TEXT, count INTEGER,"				\
	" PRIMARY KEY(subject, begin, id, row)) WITHOUT ROWID"

/* The open database in a transaction; NULL: *why. */
struct sqlite3 *store_sqlite_begin(void *state, const char **why);

/* Gives the file up for a while; UNKNOWN. */
enum answer store_sqlite_failed(void *state, int rc);

/* Now, not at the end of the turn of the loop. */
void store_sqlite_commit(void *state);

/*
 * Runs a script: the first words are keys and get the prefix, the others are
 * arguments.  NULL: *why.
 */
struct redisReply *store_redis_eval(void *state,
    const struct redis_script *, size_t keys, const char *const *words,
    size_t count, const char **why);

#define TALLY_BACKEND(name)						\
	enum answer tally_##name##_add(void *, const struct store_tally *,	\
	    const char **why);						\
	enum answer tally_##name##_claim(void *, const char *subject,	\
	    bool now, int64_t lease_ms, int64_t shift_ms, struct buf *,	\
	    const char **why);						\
	enum answer tally_##name##_done(void *, const char *subject,	\
	    int64_t begin_ms, int64_t id, const char **why);		\
	enum answer tally_##name##_list(void *, struct buf *, const char **why);

TALLY_BACKEND(sqlite)
TALLY_BACKEND(redis)

#endif
