/*
 * The store: small records (numbers and a note) under keys, which expire,
 * shared by all that ask: the processes of one machine (SQLite), or a fleet
 * (Redis).
 *
 * It is changed by steps.  A step reads and writes a few records as one, with
 * the store's own clock; for a back end on another machine it is a script that
 * runs there.  All calls are made in tasks.
 */
#ifndef POLICY_STORE_H
#define POLICY_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "base/option.h"

struct buf;
struct conf;
struct store;
struct store_records;

enum store_type { STORE_TYPE_SQLITE, STORE_TYPE_REDIS };

#define STORE_OPTIONS(ROW, o)						\
	ROW(o, type, choice, "sqlite", "sqlite|redis", NULL,		\
	    "sqlite: a file below state_directory, for one machine; redis: "	\
	    "shared by many.")						\
	ROW(o, server, strings, "127.0.0.1:6379", NULL, NULL,		\
	    "Redis servers, the first that takes writes is used: "	\
	    "\"192.0.2.1:6379\", \"unix:/path\"; the Sentinels, or some "	\
	    "nodes of the Cluster.")					\
	ROW(o, sentinel, string, NULL, NULL, NULL,			\
	    "Redis: the name by which the Sentinels know the master.")	\
	ROW(o, cluster, flag, "no", NULL, NULL,				\
	    "Redis: the servers are a Cluster.")			\
	ROW(o, user, string, NULL, NULL, NULL,				\
	    "Redis: user of the access list.")				\
	ROW(o, password, file, NULL, NULL, NULL,			\
	    "Redis: a file that holds the password; only the policy "	\
	    "process gets to see it.")					\
	ROW(o, tls_ca, file, NULL, NULL, NULL,				\
	    "Redis: TLS is spoken, and servers have certificates of "	\
	    "those in this file, in PEM.")				\
	ROW(o, tls_name, string, NULL, NULL, NULL,			\
	    "Redis: what certificates must name in place of the "	\
	    "server's address.")					\
	ROW(o, tls_cert, file, NULL, NULL, NULL,			\
	    "Redis: our own certificate, if the servers want one.")	\
	ROW(o, tls_key, file, NULL, NULL, NULL,				\
	    "Redis: its key.")						\
	ROW(o, database, number, "0", "0", "100000",			\
	    "Redis: number of the database.")				\
	ROW(o, budget, duration, "20ms", "1ms", "10s",			\
	    "How long one answer may take; later there is none, and mail "	\
	    "passes.")							\
	ROW(o, prefix, string, "millgate:", NULL, NULL,			\
	    "Redis: what our keys begin with.")

struct store_options { STORE_OPTIONS(OPTION_FIELD, store_options) };

extern const struct section_kind store_section;

/* Errors between options. */
void store_check_options(const struct conf *, struct buf *errors);

/* A record has this many numbers, a step at most so many keys and so on. */
#define STORE_VALUES	8
#define STORE_NOTE_MAX	500		/* bytes; the caller cuts what is longer */
#define STORE_KEYS	16
#define STORE_ARGUMENTS	10
#define STORE_TEXTS	3
#define STORE_RESULTS	16

/* The note, never NULL once it is read, lasts until the step ends. */
struct store_record {
	int64_t values[STORE_VALUES];
	const char *note;
	int64_t expires_ms;
};

/*
 * A step, written twice.  run works on records in this process and answers YES
 * or NO.  script is the body of a Lua function, with now, k[1]... (keys),
 * a[1]... (arguments), t[1]... (texts), get(key), which gives nil or a table of
 * [1] to [STORE_VALUES], note and expires, put(key, table, expires), for which
 * what the table does not hold is 0 or "", and del(key); it returns 1 or 0,
 * then the results.  Lua's numbers are exact below 2^53 only.  All keys of a
 * step name the same group in braces, {so}, since a cluster keeps those on one
 * node.
 */
struct store_step {
	const char *name;
	size_t keys, arguments, texts, results;
	enum answer (*run)(struct store_records *, const char *const *keys,
	    const int64_t *arguments, const char *const *texts,
	    int64_t *results);
	const char *script;
};

/* For a step's run: wall clock in milliseconds; records.  A failure is kept. */
int64_t store_now(const struct store_records *);

/* false, and the record is zeroes and "", if there is none. */
bool store_get(struct store_records *, const char *key,
    struct store_record *);

/* A note that is NULL is "". */
void store_put(struct store_records *, const char *key,
    const struct store_record *);
void store_delete(struct store_records *, const char *key);

/*
 * Opens the store of the configuration; path is SQLite's file.  It need not be
 * reachable now: then calls answer UNKNOWN, and the log says so.  NULL: *why
 * (an address that is none, no password).  To be called in a task or before the
 * loop.
 */
struct store *store_open(const struct conf *, const char *path,
    const char **why);

/* No call may be under way.  In a task; NULL is fine. */
void store_close(struct store **);

/*
 * Runs a step: YES, NO, with results; or UNKNOWN and *why (which lasts until
 * the next call): the store did not answer within its budget.
 */
enum answer store_run(struct store *, const struct store_step *,
    const char *const *keys, const int64_t *arguments,
    const char *const *texts, int64_t *results, const char **why);

/* Deletes a record.  YES; NO: there was none; UNKNOWN: *why. */
enum answer store_forget(struct store *, const char *key, const char **why);

/*
 * Reads one record outside of a step; its note is copied into note, of
 * STORE_NOTE_MAX + 1 bytes.  NO: there is none.
 */
enum answer store_read(struct store *, const char *key,
    struct store_record *, char note[], const char **why);

/*
 * Calls f for each record whose key begins with prefix, in any order, until f
 * returns other than 0.  What changes meanwhile may be seen or not.  It goes
 * page by page, between which others have their turn, and takes seconds if the
 * store is slow.  UNKNOWN: *why, and f may have seen some.
 */
enum answer store_scan(struct store *, const char *prefix,
    int (*f)(void *argument, const char *key, const struct store_record *),
    void *argument, const char **why);

/*
 * Tallies: texts that are counted, by subject and interval.  Only one process
 * of a fleet gets a tally that is due; it claims it until a deadline, takes the
 * texts, and has them removed when it is done with them.  Claiming closes the
 * tally: its id (never 0) and its texts change no more.
 */
#define STORE_TALLIES	10000		/* subjects and intervals at a time */
#define STORE_TALLY_ROWS 5000		/* different texts of one */
#define STORE_TALLY_ROW_MAX 2000
#define STORE_TALLY_KEEP_MS (7 * INT64_C(86400000))	/* once it is due */

struct store_tally {
	const char *subject;		/* no blanks in it */
	int64_t begin_ms, due_ms;
	const char *head, *row;		/* no LF in them; a row: 2,000 bytes */
	int64_t count;
};

/* YES; NO: there is no room for that text, or for that subject at all. */
enum answer store_tally_add(struct store *, const struct store_tally *,
    const char **why);

/*
 * Claims one that is due, or, if now, one of the subject (NULL: any) whether it
 * is due or not.  YES: appends "subject TAB begin TAB id TAB lost LF", lost
 * being what found no room, then the head, then "count TAB row" lines.
 */
enum answer store_tally_claim(struct store *, const char *subject, bool now,
    int64_t lease_ms, struct buf *, const char **why);

enum answer store_tally_done(struct store *, const char *subject,
    int64_t begin_ms, int64_t id, const char **why);

/* Appends "subject TAB begin TAB due LF" for each, at most 1,000. */
enum answer store_tally_list(struct store *, struct buf *, const char **why);

/* Moves the store's clock for this process, for tests that cannot wait. */
void store_shift_clock(struct store *, int64_t ms);

#endif
