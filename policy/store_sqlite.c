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

#include "base/clock.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/store_backend.h"
#include "policy/store_tally.h"

#define LOCKED_RETRY_MS	1	/* another process commits */
#define LOCKED_PAUSE_MS	1000	/* it held the file over a whole budget */
#define BROKEN_PAUSE_MS	5000	/* the file is unusable */
#define PRUNE_EVERY_MS	10000
#define PRUNE_ROWS	1000
#define WHY_SIZE	512

#define VERSION		"1"
#define SCHEMA								\
	"CREATE TABLE IF NOT EXISTS record(key TEXT PRIMARY KEY,"		\
	" v1 INTEGER, v2 INTEGER, v3 INTEGER, v4 INTEGER,"		\
	" expires INTEGER NOT NULL) WITHOUT ROWID;"			\
	"CREATE INDEX IF NOT EXISTS record_expires ON record(expires);"	\
	"PRAGMA user_version=" VERSION

enum { BEGIN, COMMIT, ROLLBACK, GET, PUT, PRUNE, STATEMENTS };

static const char *const statement_texts[STATEMENTS] = {
	[BEGIN] = "BEGIN IMMEDIATE",
	[COMMIT] = "COMMIT",
	[ROLLBACK] = "ROLLBACK",
	[GET] = "SELECT v1, v2, v3, v4 FROM record "
	    "WHERE key = ?1 AND expires > ?2",
	[PUT] = "INSERT OR REPLACE INTO record(key, v1, v2, v3, v4, expires) "
	    "VALUES(?1, ?2, ?3, ?4, ?5, ?6)",
	[PRUNE] = "DELETE FROM record WHERE key IN "
	    "(SELECT key FROM record WHERE expires <= ?1 LIMIT ?2)",
};

struct sqlite {
	struct store *store;
	char *path;
	sqlite3 *db;			/* NULL: not open */
	sqlite3_stmt *statements[STATEMENTS];
	struct event *commit;
	bool in_transaction;
	int64_t not_before;		/* no attempt earlier */
	int64_t pruned;
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
		    "PRAGMA journal_size_limit=4194304", NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(sqlite->db, SCHEMA ";" TALLY_SCHEMA, NULL,
		    NULL, NULL);
	if (rc == SQLITE_OK)
		rc = prepare_all(sqlite);
	return rc;
}

static int
prune(struct sqlite *sqlite)
{
	sqlite3_stmt *statement = sqlite->statements[PRUNE];

	if (task_now() < sqlite->pruned + PRUNE_EVERY_MS)
		return SQLITE_OK;
	sqlite->pruned = task_now();
	sqlite3_bind_int64(statement, 1, clock_wall_ms());
	sqlite3_bind_int64(statement, 2, PRUNE_ROWS);
	return run_statement(sqlite, PRUNE);
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

bool
store_get(struct store_records *records, const char *key,
    int64_t values[STORE_VALUES])
{
	sqlite3_stmt *statement = records->sqlite->statements[GET];
	int rc;

	memset(values, 0, STORE_VALUES * sizeof(values[0]));
	if (records->error != SQLITE_OK)
		return false;
	sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 2, records->now);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		for (int i = 0; i < STORE_VALUES; i++)
			values[i] = sqlite3_column_int64(statement, i);
	else if (rc != SQLITE_DONE)
		records->error = rc;
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
	return rc == SQLITE_ROW;
}

void
store_put(struct store_records *records, const char *key,
    const int64_t values[STORE_VALUES], int64_t expires_ms)
{
	sqlite3_stmt *statement = records->sqlite->statements[PUT];
	int rc;

	if (records->error != SQLITE_OK)
		return;
	sqlite3_bind_text(statement, 1, key, -1, SQLITE_STATIC);
	for (int i = 0; i < STORE_VALUES; i++)
		sqlite3_bind_int64(statement, i + 2, values[i]);
	sqlite3_bind_int64(statement, STORE_VALUES + 2, expires_ms);
	rc = run_statement(records->sqlite, PUT);
	if (rc != SQLITE_OK)
		records->error = rc;
	sqlite3_clear_bindings(statement);
}

static enum answer
sqlite_run(void *state, const struct store_call *call, int64_t *results,
    const char **why)
{
	struct sqlite *sqlite = state;
	struct store_records records = { .sqlite = sqlite };
	enum answer answer = ANSWER_UNKNOWN;

	*why = sqlite->why;
	if (task_now() < sqlite->not_before)
		return ANSWER_UNKNOWN;
	records.error = begin(sqlite, call->deadline);
	if (records.error == SQLITE_OK) {
		records.now = clock_wall_ms() + call->shift_ms;
		answer = call->step->run(&records, call->keys,
		    call->arguments, results);
	}
	if (records.error == SQLITE_OK) {
		store_back(sqlite->store);
		return answer;
	}
	/* Cancelled; or others failed, and said so, while this one waited. */
	if (is_busy(records.error) && (task_now() < call->deadline ||
	    task_now() < sqlite->not_before))
		return ANSWER_UNKNOWN;
	fail(sqlite, records.error);
	return ANSWER_UNKNOWN;
}

sqlite3 *
store_sqlite_begin(void *state, const char **why)
{
	struct sqlite *sqlite = state;
	int rc;

	*why = sqlite->why;
	if (task_now() < sqlite->not_before)
		return NULL;
	rc = begin(sqlite, task_deadline(STORE_TALLY_MS));
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
	free(sqlite->path);
	free(sqlite);
}

const struct store_backend store_sqlite = {
	.name = "sqlite",
	.open = sqlite_open,
	.close = sqlite_close,
	.run = sqlite_run,
	.tally_add = tally_sqlite_add,
	.tally_claim = tally_sqlite_claim,
	.tally_done = tally_sqlite_done,
	.tally_list = tally_sqlite_list,
};
