/*
 * The store in a file, by SQLite.
 *
 * All calls of a tenth of a second share a transaction, and its records are in
 * memory until it ends: what costs are the pages that it writes.  The answers
 * come before the commit; a commit that fails, or a crash, loses what was
 * learnt since, no more.  Another process (the successor in a reload) gets its
 * turn in between: waiting for it is up to the task, not to SQLite, which would
 * block the loop.
 */
#include <errno.h>
#include <event2/event.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/store_backend.h"
#include "policy/store_sqlite_cache.h"
#include "policy/store_sqlite_file.h"
#include "policy/store_sqlite_turn.h"
#include "policy/store_tally.h"

#define HOLD_MS		10	/* a transaction, while others wait */
#define HOLD_MAX_MS	100	/* while nobody does */
#define CHANGES_MAX	1000	/* what takes a few milliseconds to write */
#define LOCKED_RETRY_MS	1	/* another process commits */
#define LOCKED_PAUSE_MS	1000	/* it held the file over a whole budget */
#define BROKEN_PAUSE_MS	5000	/* the file is unusable */
#define PRUNE_EVERY_MS	2000
#define WHY_SIZE	512

#define PAGE_ROWS	200

enum { BEGIN, COMMIT, ROLLBACK, FOREIGN, GET, PUT, DELETE, SCAN,
	STATEMENTS };

static const char *const statement_texts[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[FOREIGN] = "PRAGMA data_version",
	[GET] = "SELECT " SQLITE_FIELDS " FROM record "
	    "WHERE key = ?1",
	[PUT] = "INSERT OR REPLACE INTO record(key, " SQLITE_FIELDS ") "
	    "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
	[DELETE] = "DELETE FROM record WHERE key = ?1",
	[SCAN] = ("SELECT " SQLITE_FIELDS ", key FROM record "
	    "WHERE key >= ?1 ORDER BY key LIMIT ?2"),
};

/* Columns of a query that begins with SQLITE_FIELDS. */
enum { COLUMN_NOTE = STORE_VALUES, COLUMN_EXPIRES, COLUMN_KEY };

struct sqlite {
	struct store *store;
	char *path;
	sqlite3 *db;			/* NULL: not open */
	sqlite3_stmt *statements[STATEMENTS];
	struct sqlite_cache *cache;
	int64_t version;		/* changes with others' commits */
	struct event *timer;		/* while in a transaction */
	struct sqlite_turn turn;
	bool in_transaction;
	int64_t begun;			/* when */
	int64_t not_before;		/* no attempt earlier */
	int64_t pruned;			/* when, */
	char *pruned_to;		/* and up to which key; NULL: to none */
	char why[WHY_SIZE];
};

/* What a step works on. */
struct store_records {
	struct sqlite *sqlite;
	int64_t now;
	int error;			/* SQLite's, of the first failure */
};

static void
disconnect(struct sqlite *sqlite)
{
	for (size_t i = 0; i < STATEMENTS; i++) {
		sqlite3_finalize(sqlite->statements[i]);
		sqlite->statements[i] = NULL;
	}
	sqlite3_close(sqlite->db);
	sqlite->db = NULL;
	sqlite->in_transaction = false;
}

static bool
is_busy(int rc)
{
	return (rc & 0xff) == SQLITE_BUSY || (rc & 0xff) == SQLITE_LOCKED;
}

/* Gives up for a while; a file that is only locked stays open. */
static void
fail(struct sqlite *sqlite, int rc)
{
	const char *text = sqlite->db != NULL && !is_busy(rc) ?
	    sqlite3_errmsg(sqlite->db) : sqlite3_errstr(rc);

	snprintf(sqlite->why, sizeof(sqlite->why), "%s: %s", sqlite->path,
	    text);
	store_away(sqlite->store, sqlite->why);
	sqlite_cache_clear(sqlite->cache);
	sqlite->not_before = task_deadline(is_busy(rc) ? LOCKED_PAUSE_MS :
	    BROKEN_PAUSE_MS);
	if (!is_busy(rc))
		disconnect(sqlite);
}

static int
run_statement(struct sqlite *sqlite, int which)
{
	sqlite3_stmt *statement = sqlite->statements[which];
	int rc;

	while ((rc = sqlite3_step(statement)) == SQLITE_ROW)
		;
	sqlite3_reset(statement);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int
prepare_all(struct sqlite *sqlite)
{
	int rc;

	for (size_t i = 0; i < STATEMENTS; i++) {
		rc = sqlite3_prepare_v3(sqlite->db, statement_texts[i], -1,
		    SQLITE_PREPARE_PERSISTENT, &sqlite->statements[i], NULL);
		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}

static int
connect_file(struct sqlite *sqlite)
{
	int rc;

	if (sqlite->db != NULL && sqlite->statements[0] != NULL)
		return SQLITE_OK;
	disconnect(sqlite);
	rc = sqlite_file_open(sqlite->path, &sqlite->db);
	return rc == SQLITE_OK ? prepare_all(sqlite) : rc;
}

static int
prune(struct sqlite *sqlite)
{
	if (task_now() < sqlite->pruned + PRUNE_EVERY_MS)
		return SQLITE_OK;
	sqlite->pruned = task_now();
	return sqlite_file_prune(sqlite->db, &sqlite->pruned_to);
}

/* --- records in memory --- */

static void
bind_record(sqlite3_stmt *statement, const struct store_record *record)
{
	for (int i = 0; i < STORE_VALUES; i++)
		sqlite3_bind_int64(statement, i + 2, record->values[i]);
	sqlite3_bind_text(statement, COLUMN_NOTE + 2, record->note, -1,
	    SQLITE_STATIC);
	sqlite3_bind_int64(statement, COLUMN_EXPIRES + 2, record->expires_ms);
}

/* Writes what was changed. */
static int
write_changed(struct sqlite *sqlite)
{
	struct sqlite_cached *cached;
	int rc = SQLITE_OK;

	while (rc == SQLITE_OK && (cached = sqlite_cache_changed(
	    sqlite->cache)) != NULL) {
		int which = cached->exists ? PUT : DELETE;
		sqlite3_stmt *statement = sqlite->statements[which];

		sqlite3_bind_text(statement, 1, cached->key, -1,
		    SQLITE_STATIC);
		if (cached->exists)
			bind_record(statement, &cached->record);
		rc = run_statement(sqlite, which);
		sqlite3_clear_bindings(statement);
	}
	return rc;
}

/* Others have committed since we last did: what is in memory may be old. */
static int
look_for_others(struct sqlite *sqlite)
{
	sqlite3_stmt *statement = sqlite->statements[FOREIGN];
	int64_t version;
	int rc;

	rc = sqlite3_step(statement);
	version = sqlite3_column_int64(statement, 0);
	sqlite3_reset(statement);
	if (rc != SQLITE_ROW || version != sqlite->version)
		sqlite_cache_clear(sqlite->cache);
	sqlite->version = version;
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/* --- transactions --- */

static void
commit(struct sqlite *sqlite)
{
	int rc;

	if (!sqlite->in_transaction)
		return;
	rc = write_changed(sqlite);
	if (rc == SQLITE_OK)
		rc = prune(sqlite);
	if (rc == SQLITE_OK)
		rc = run_statement(sqlite, COMMIT);
	sqlite->in_transaction = false;
	if (rc == SQLITE_OK)
		return;
	fail(sqlite, rc);		/* closing it rolls back, too */
	if (sqlite->db != NULL)
		run_statement(sqlite, ROLLBACK);
}

static void
watch_time(struct sqlite *sqlite)
{
	const struct timeval soon = { 0, HOLD_MS * 1000 };

	event_add(sqlite->timer, &soon);
}

static void
look_at_time(evutil_socket_t fd, short what, void *argument)
{
	struct sqlite *sqlite = argument;

	(void)fd;
	(void)what;
	if (!sqlite->in_transaction)
		return;
	if (task_now() >= sqlite->begun + HOLD_MAX_MS ||
	    sqlite_turn_wanted(&sqlite->turn))
		commit(sqlite);
	else
		watch_time(sqlite);
}

static int
try_to_begin(struct sqlite *sqlite)
{
	int rc;

	if ((rc = connect_file(sqlite)) != SQLITE_OK)
		return rc;
	if (!sqlite_turn_take(&sqlite->turn))
		return SQLITE_BUSY;
	if ((rc = run_statement(sqlite, BEGIN)) != SQLITE_OK)
		return rc;
	sqlite_turn_give(&sqlite->turn);
	sqlite->in_transaction = true;
	sqlite->begun = task_now();
	watch_time(sqlite);
	return look_for_others(sqlite);
}

/* Makes sure that a transaction is open; waits for other processes. */
static int
begin(struct sqlite *sqlite, int64_t deadline)
{
	int rc;

	if (sqlite_cache_changes(sqlite->cache) >= CHANGES_MAX ||
	    sqlite_cache_full(sqlite->cache))
		commit(sqlite);
	if (sqlite_cache_full(sqlite->cache))
		sqlite_cache_clear(sqlite->cache);
	while (!sqlite->in_transaction) {
		rc = try_to_begin(sqlite);
		if (rc == SQLITE_OK)
			break;
		if (!is_busy(rc) || task_now() >= deadline ||
		    task_sleep(LOCKED_RETRY_MS) != 0) {
			sqlite_turn_give(&sqlite->turn);
			return rc;
		}
	}
	return SQLITE_OK;
}

int64_t
store_now(const struct store_records *records)
{
	return records->now;
}

/* The note is SQLite's, until the statement goes on. */
static void
read_columns(sqlite3_stmt *statement, struct store_record *record)
{
	const void *note = sqlite3_column_text(statement, COLUMN_NOTE);

	for (int i = 0; i < STORE_VALUES; i++)
		record->values[i] = sqlite3_column_int64(statement, i);
	record->note = note != NULL ? note : "";
	record->expires_ms = sqlite3_column_int64(statement, COLUMN_EXPIRES);
}

/* From the file if it is not in memory.  NULL: that failed. */
static struct sqlite_cached *
find_record(struct store_records *records, const char *key)
{
	struct sqlite *sqlite = records->sqlite;
	sqlite3_stmt *statement = sqlite->statements[GET];
	struct sqlite_cached *cached;
	int rc;

	if (records->error != SQLITE_OK)
		return NULL;
	if ((cached = sqlite_cache_find(sqlite->cache, key)) != NULL)
		return cached;
	sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW || rc == SQLITE_DONE)
		cached = sqlite_cache_add(sqlite->cache, key);
	else
		records->error = rc;
	if (rc == SQLITE_ROW) {
		struct store_record record;

		read_columns(statement, &record);
		sqlite_cache_fill(sqlite->cache, cached, &record);
	}
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return cached;
}

bool
store_get(struct store_records *records, const char *key,
    struct store_record *record)
{
	const struct sqlite_cached *cached = find_record(records, key);

	*record = (struct store_record){ .note = "" };
	if (cached == NULL || !cached->exists ||
	    cached->record.expires_ms <= records->now)
		return false;
	*record = cached->record;
	return true;
}

static void
change(struct store_records *records, const char *key,
    const struct store_record *record)
{
	struct sqlite_cache *cache = records->sqlite->cache;
	struct sqlite_cached *cached;

	if (records->error != SQLITE_OK)
		return;
	if ((cached = sqlite_cache_find(cache, key)) == NULL)
		cached = sqlite_cache_add(cache, key);
	sqlite_cache_change(cache, cached, record);
}

void
store_put(struct store_records *records, const char *key,
    const struct store_record *record)
{
	change(records, key, record);
}

void
store_delete(struct store_records *records, const char *key)
{
	change(records, key, NULL);
}

/* For what is done at once; UNKNOWN if not even that may begin. */
static enum answer
begin_records(struct sqlite *sqlite, int64_t shift_ms, int64_t deadline,
    struct store_records *records, const char **why)
{
	*records = (struct store_records){ .sqlite = sqlite };
	*why = sqlite->why;
	if (task_now() < sqlite->not_before)
		return ANSWER_UNKNOWN;
	records->error = begin(sqlite, deadline);
	records->now = clock_wall_ms() + shift_ms;
	return ANSWER_YES;
}

/* The answer stands if nothing failed. */
static enum answer
end_records(const struct store_records *records, int64_t deadline,
    enum answer answer)
{
	struct sqlite *sqlite = records->sqlite;

	if (records->error == SQLITE_OK) {
		store_back(sqlite->store);
		return answer;
	}
	/* Cancelled; or others failed, and said so, while this one waited. */
	if (is_busy(records->error) && (task_now() < deadline ||
	    task_now() < sqlite->not_before))
		return ANSWER_UNKNOWN;
	fail(sqlite, records->error);
	return ANSWER_UNKNOWN;
}

static enum answer
sqlite_run(void *state, const struct store_call *call, int64_t *results,
    const char **why)
{
	struct store_records records;
	enum answer answer = ANSWER_UNKNOWN;

	if (begin_records(state, call->shift_ms, call->deadline, &records,
	    why) == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (records.error == SQLITE_OK)
		answer = call->step->run(&records, call->keys,
		    call->arguments, call->texts, results);
	return end_records(&records, call->deadline, answer);
}

static enum answer
sqlite_read(void *state, const char *key, int64_t shift_ms, int64_t deadline,
    struct store_record *record, char note[], const char **why)
{
	struct store_records records;
	bool found;

	if (begin_records(state, shift_ms, deadline, &records,
	    why) == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	found = store_get(&records, key, record);
	snprintf(note, STORE_NOTE_MAX + 1, "%s", record->note);
	return end_records(&records, deadline, found ? ANSWER_YES : ANSWER_NO);
}

/* Reads from there on; false: that was the last page. */
static bool
read_page(struct store_records *records, const char *prefix, struct buf *from,
    struct store_page *page)
{
	sqlite3_stmt *statement = records->sqlite->statements[SCAN];
	bool more = false;
	int rc, rows = 0;

	sqlite3_bind_text(statement, 1, from->data, (int)from->len,
	    SQLITE_STATIC);
	sqlite3_bind_int64(statement, 2, PAGE_ROWS);
	while ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
		struct store_page_row *row = &page->rows[page->count];

		row->key = arena_strdup(page->arena, (const char *)
		    sqlite3_column_text(statement, COLUMN_KEY));
		more = strncmp(row->key, prefix, strlen(prefix)) == 0;
		if (!more)
			break;
		read_columns(statement, &row->record);
		row->record.note = arena_strdup(page->arena,
		    row->record.note);
		if (row->record.expires_ms > records->now)
			page->count++;
		more = ++rows == PAGE_ROWS;
		if (more) {
			buf_reset(from);
			buf_append(from, row->key, strlen(row->key) + 1);
			break;
		}
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		records->error = rc;
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return more;
}

/* from is the last key and its NUL, behind which comes the next. */
static enum answer
sqlite_scan(void *state, const char *prefix, int64_t shift_ms,
    struct buf *from, struct store_page *page, const char **why)
{
	int64_t deadline = task_deadline(STORE_SLOW_MS);
	struct store_records records;
	bool more = false;

	if (begin_records(state, shift_ms, deadline, &records,
	    why) == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (from->len == 0)
		buf_puts(from, prefix);
	if (records.error == SQLITE_OK)
		records.error = write_changed(records.sqlite);
	if (records.error == SQLITE_OK)
		more = read_page(&records, prefix, from, page);
	return end_records(&records, deadline, more ? ANSWER_YES : ANSWER_NO);
}

sqlite3 *
store_sqlite_begin(void *state, const char **why)
{
	struct sqlite *sqlite = state;
	int rc;

	*why = sqlite->why;
	if (task_now() < sqlite->not_before)
		return NULL;
	rc = begin(sqlite, task_deadline(STORE_SLOW_MS));
	if (rc == SQLITE_OK)
		return sqlite->db;
	fail(sqlite, rc);
	return NULL;
}

enum answer
store_sqlite_failed(void *state, int rc)
{
	fail(state, rc);
	return ANSWER_UNKNOWN;
}

void
store_sqlite_commit(void *state)
{
	commit(state);
}

static void *
sqlite_open(struct store *store, const struct conf *conf, const char *path,
    const char **why)
{
	struct sqlite *sqlite;
	int rc;

	(void)conf;
	(void)why;
	if ((sqlite = calloc(1, sizeof(*sqlite))) == NULL ||
	    (sqlite->path = strdup(path)) == NULL ||
	    (sqlite->timer = evtimer_new(task_base(), look_at_time,
	    sqlite)) == NULL)
		fatal("out of memory (store)");
	sqlite->cache = sqlite_cache_new();
	sqlite->turn = (struct sqlite_turn)SQLITE_TURN_INIT(sqlite->path);
	sqlite->store = store;
	/* A damaged file is known at the start, not at the first mail. */
	rc = connect_file(sqlite);
	if (rc != SQLITE_OK && !is_busy(rc))
		fail(sqlite, rc);
	return sqlite;
}

static void
sqlite_close(void *state)
{
	struct sqlite *sqlite = state;

	commit(sqlite);
	event_free(sqlite->timer);
	disconnect(sqlite);
	sqlite_turn_release(&sqlite->turn);
	sqlite_cache_free(&sqlite->cache);
	free(sqlite->path);
	free(sqlite->pruned_to);
	free(sqlite);
}

const struct store_backend store_sqlite = {
	.name = "sqlite",
	.open = sqlite_open,
	.close = sqlite_close,
	.run = sqlite_run,
	.read = sqlite_read,
	.scan = sqlite_scan,
	.tally_add = tally_sqlite_add,
	.tally_claim = tally_sqlite_claim,
	.tally_done = tally_sqlite_done,
	.tally_list = tally_sqlite_list,
};
