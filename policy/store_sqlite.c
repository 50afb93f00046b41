/*
 * The store in a file, by SQLite.
 *
 * The calls of one turn of the loop share a transaction: what one costs is a
 * few look-ups in a cached tree.  The answers may come before the commit; a
 * commit that fails, or a crash, loses what was learnt since, no more.  Another
 * process (the successor in a reload) may hold the file for a moment: waiting
 * for it is up to the task, not to SQLite, which would block the loop.
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
#include "policy/store_tally.h"

#define LOCKED_RETRY_MS	1	/* another process commits */
#define LOCKED_PAUSE_MS	1000	/* it held the file over a whole budget */
#define BROKEN_PAUSE_MS	5000	/* the file is unusable */
#define PRUNE_EVERY_MS	2000
#define PRUNE_ROWS	2000
#define WHY_SIZE	512

#define PAGE_ROWS	200

#define VERSION		2
#define SCHEMA								\
	"CREATE TABLE IF NOT EXISTS record(key TEXT PRIMARY KEY,"	\
	" v1 INTEGER, v2 INTEGER, v3 INTEGER, v4 INTEGER,"		\
	" expires INTEGER NOT NULL) WITHOUT ROWID;"			\
	"DROP INDEX IF EXISTS record_expires;"
#define COLUMN(name, type)						\
	"ALTER TABLE record ADD COLUMN " name " " type " NOT NULL DEFAULT "
/* Of version 2, behind those of version 1. */
#define MORE_COLUMNS							\
	COLUMN("v5", "INTEGER") "0;" COLUMN("v6", "INTEGER") "0;"	\
	COLUMN("v7", "INTEGER") "0;" COLUMN("v8", "INTEGER") "0;"	\
	COLUMN("note", "TEXT") "''"
#define FIELDS		"v1, v2, v3, v4, v5, v6, v7, v8, note, expires"

enum { BEGIN, COMMIT, ROLLBACK, GET, PUT, DELETE, SCAN,
	PRUNE_END, PRUNE, STATEMENTS };

static const char *const statement_texts[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[GET] = "SELECT " FIELDS " FROM record "
	    "WHERE key = ?1 AND expires > ?2",
	[PUT] = "INSERT OR REPLACE INTO record(key, " FIELDS ") "
	    "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
	[DELETE] = "DELETE FROM record WHERE key = ?1",
	[SCAN] = ("SELECT " FIELDS ", key FROM record "
	    "WHERE key >= ?1 ORDER BY key LIMIT ?2"),
	[PRUNE_END] = "SELECT key FROM record WHERE key > ?1 "
	    "ORDER BY key LIMIT 1 OFFSET ?2",
	[PRUNE] = ("DELETE FROM record WHERE key > ?1 AND "
	    "(?2 IS NULL OR key <= ?2) AND expires <= ?3"),
};

/* Columns of a query that begins with FIELDS. */
enum { COLUMN_NOTE = STORE_VALUES, COLUMN_EXPIRES, COLUMN_KEY };

struct sqlite {
	struct store *store;
	char *path;
	sqlite3 *db;			/* NULL: not open */
	sqlite3_stmt *statements[STATEMENTS];
	struct event *commit;
	bool in_transaction;
	int64_t not_before;		/* no attempt earlier */
	int64_t pruned;			/* when, */
	char *pruned_to;		/* and up to which key; NULL: to none */
	struct arena *notes;		/* of the step at work */
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
	const char *text = sqlite->db != NULL ? sqlite3_errmsg(sqlite->db) :
	    sqlite3_errstr(rc);

	snprintf(sqlite->why, sizeof(sqlite->why), "%s: %s", sqlite->path,
	    text);
	store_away(sqlite->store, sqlite->why);
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

/* A number that a query gives; SQLite's code. */
static int
query_number(sqlite3 *db, const char *sql, int *number)
{
	sqlite3_stmt *statement;
	int rc;

	rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
	if (rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		*number = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	return rc == SQLITE_ROW ? SQLITE_OK : rc;
}

/*
 * Makes the tables, or adds what an older version did not have.  The columns
 * tell which it was: an older version puts its own number into a newer file.
 */
static int
bring_up_to_date(sqlite3 *db)
{
	char set_version[48];
	int rc, version = 0, notes = 0;

	rc = query_number(db, "PRAGMA user_version", &version);
	if (rc != SQLITE_OK || version == VERSION)
		return rc;
	snprintf(set_version, sizeof(set_version), "PRAGMA user_version=%d;"
	    "COMMIT", version > VERSION ? version : VERSION);
	rc = sqlite3_exec(db, "BEGIN IMMEDIATE;" SCHEMA TALLY_SCHEMA, NULL,
	    NULL, NULL);
	if (rc == SQLITE_OK)
		rc = query_number(db, "SELECT count(*) FROM "
		    "pragma_table_info('record') WHERE name = 'note'", &notes);
	if (rc == SQLITE_OK && notes == 0)
		rc = sqlite3_exec(db, MORE_COLUMNS, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(db, set_version, NULL, NULL, NULL);
	if (rc != SQLITE_OK && !sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

/*
 * NORMAL in WAL mode: a power failure may lose the last seconds, and nothing is
 * synced but at a checkpoint.
 */
static int
connect_file(struct sqlite *sqlite)
{
	int rc;

	if (sqlite->db != NULL && sqlite->statements[0] != NULL)
		return SQLITE_OK;
	disconnect(sqlite);
	rc = sqlite3_open_v2(sqlite->path, &sqlite->db, SQLITE_OPEN_READWRITE |
	    SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sqlite->db, "PRAGMA journal_mode=WAL;"
		    "PRAGMA synchronous=NORMAL; PRAGMA temp_store=MEMORY;"
		    "PRAGMA journal_size_limit=16777216;"
		    "PRAGMA cache_size=-32768; PRAGMA wal_autocheckpoint=4000", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = bring_up_to_date(sqlite->db);
	if (rc == SQLITE_OK)
		rc = prepare_all(sqlite);
	return rc;
}

/* The last key of the next part; NULL: there are fewer records than that. */
static int
prune_end(struct sqlite *sqlite, const char *from, char **end)
{
	sqlite3_stmt *statement = sqlite->statements[PRUNE_END];
	int rc;

	*end = NULL;
	sqlite3_bind_text(statement, 1, from, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 2, PRUNE_ROWS - 1);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW && (*end = strdup((const char *)
	    sqlite3_column_text(statement, 0))) == NULL)
		fatal("out of memory (store)");
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/*
 * Takes what has expired out of one part of the records after the other.  An
 * index by that time would cost more, at each write, than the records.
 */
static int
prune(struct sqlite *sqlite)
{
	sqlite3_stmt *statement = sqlite->statements[PRUNE];
	const char *from = sqlite->pruned_to != NULL ? sqlite->pruned_to : "";
	char *end;
	int rc;

	if (task_now() < sqlite->pruned + PRUNE_EVERY_MS)
		return SQLITE_OK;
	sqlite->pruned = task_now();
	if ((rc = prune_end(sqlite, from, &end)) != SQLITE_OK)
		return rc;
	sqlite3_bind_text(statement, 1, from, -1, SQLITE_STATIC);
	sqlite3_bind_text(statement, 2, end, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 3, clock_wall_ms());
	rc = run_statement(sqlite, PRUNE);
	sqlite3_clear_bindings(statement);
	free(sqlite->pruned_to);
	sqlite->pruned_to = end;
	return rc;
}

/* At the end of a turn of the loop. */
static void
commit(evutil_socket_t fd, short what, void *argument)
{
	struct sqlite *sqlite = argument;
	int rc;

	(void)fd;
	(void)what;
	if (!sqlite->in_transaction)
		return;
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

/* Makes sure that a transaction is open; waits for other processes. */
static int
begin(struct sqlite *sqlite, int64_t deadline)
{
	const struct timeval soon = { 0, 0 };
	int rc;

	while (!sqlite->in_transaction) {
		rc = connect_file(sqlite);
		if (rc == SQLITE_OK)
			rc = run_statement(sqlite, BEGIN);
		if (rc == SQLITE_OK) {
			sqlite->in_transaction = true;
			event_add(sqlite->commit, &soon);
			break;
		}
		if (!is_busy(rc) || task_now() >= deadline ||
		    task_sleep(LOCKED_RETRY_MS) != 0)
			return rc;
	}
	return SQLITE_OK;
}

int64_t
store_now(const struct store_records *records)
{
	return records->now;
}

static void
read_columns(sqlite3_stmt *statement, struct arena *arena,
    struct store_record *record)
{
	const void *note = sqlite3_column_text(statement, COLUMN_NOTE);

	for (int i = 0; i < STORE_VALUES; i++)
		record->values[i] = sqlite3_column_int64(statement, i);
	record->note = arena_strdup(arena, note != NULL ? note : "");
	record->expires_ms = sqlite3_column_int64(statement, COLUMN_EXPIRES);
}

bool
store_get(struct store_records *records, const char *key,
    struct store_record *record)
{
	sqlite3_stmt *statement = records->sqlite->statements[GET];
	int rc;

	*record = (struct store_record){ .note = "" };
	if (records->error != SQLITE_OK)
		return false;
	sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 2, records->now);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		read_columns(statement, records->sqlite->notes, record);
	else if (rc != SQLITE_DONE)
		records->error = rc;
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return rc == SQLITE_ROW;
}

static void
change(struct store_records *records, int which, const char *key)
{
	sqlite3_stmt *statement = records->sqlite->statements[which];
	int rc;

	sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
	rc = run_statement(records->sqlite, which);
	if (rc != SQLITE_OK)
		records->error = rc;
	sqlite3_clear_bindings(statement);
}

void
store_put(struct store_records *records, const char *key,
    const struct store_record *record)
{
	sqlite3_stmt *statement = records->sqlite->statements[PUT];

	if (records->error != SQLITE_OK)
		return;
	for (int i = 0; i < STORE_VALUES; i++)
		sqlite3_bind_int64(statement, i + 2, record->values[i]);
	sqlite3_bind_text(statement, COLUMN_NOTE + 2,
	    record->note != NULL ? record->note : "", -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, COLUMN_EXPIRES + 2, record->expires_ms);
	change(records, PUT, key);
}

void
store_delete(struct store_records *records, const char *key)
{
	if (records->error == SQLITE_OK)
		change(records, DELETE, key);
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
	arena_reset(sqlite->notes);
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
		read_columns(statement, page->arena, &row->record);
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
	commit(-1, 0, state);
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
	    (sqlite->commit = evtimer_new(task_base(), commit,
	    sqlite)) == NULL)
		fatal("out of memory (store)");
	sqlite->notes = arena_new(0);
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

	commit(-1, 0, sqlite);
	event_free(sqlite->commit);
	disconnect(sqlite);
	arena_free(&sqlite->notes);
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
