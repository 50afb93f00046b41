/*
 * The history's writing side: transactions of many events, so that an event
 * costs microseconds and no system call of its own.
 */
#include "config.h"

#include "gateway/history.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/event.h"
#include "gateway/history_internal.h"

#define COMMIT_EVENTS 1000

/* A predecessor may still be closing. */
#define BUSY_MS 3000

#define SCHEMA_VERSION 1

/*
 * Exclusive: no second process, so no shared index of the log, which would
 * need shared memory in a file.  NORMAL: a crash of the machine may lose the
 * last seconds, never the database; it syncs at checkpoints only.
 */
static const char set_up[] =
    "PRAGMA locking_mode = EXCLUSIVE;"
    "PRAGMA auto_vacuum = INCREMENTAL;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA synchronous = NORMAL;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA cache_size = -16384;"
    "PRAGMA journal_size_limit = 8388608;"
    "PRAGMA wal_autocheckpoint = 2000;";

static const char schema[] =
    "BEGIN IMMEDIATE;"
    "CREATE TABLE IF NOT EXISTS messages (number INTEGER PRIMARY KEY,"
    " id TEXT NOT NULL, time INTEGER NOT NULL, client TEXT NOT NULL,"
    " sender TEXT NOT NULL, recipients TEXT NOT NULL,"
    " outcome TEXT NOT NULL);"
    "CREATE INDEX IF NOT EXISTS messages_id ON messages (id);"
    "CREATE TABLE IF NOT EXISTS events (key INTEGER PRIMARY KEY,"
    " time INTEGER NOT NULL, kind TEXT NOT NULL, outcome TEXT NOT NULL,"
    " recipients TEXT NOT NULL, text TEXT NOT NULL);"
    "PRAGMA user_version = 1;"
    "COMMIT;";

#define COLUMNS "number, time, id, client, sender, recipients, outcome"

static const char *const queries[ST_COUNT] = {
	[ST_BEGIN] = "BEGIN IMMEDIATE",
	[ST_COMMIT] = "COMMIT",
	[ST_FIND] = "SELECT number FROM messages WHERE id = ?1",
	[ST_FIND_ENDS] = "SELECT max(key), min(key) FROM events "
	    "WHERE key >= ?1 AND key < ?2",
	[ST_ADD_MESSAGE] = "INSERT INTO messages "
	    "(id, time, client, sender, recipients, outcome) "
	    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[ST_DESCRIBE] = "UPDATE messages SET client = ?2, sender = ?3, "
	    "recipients = ?4, outcome = CASE outcome WHEN '' THEN ?5 "
	    "ELSE outcome END WHERE number = ?1",
	[ST_SET_OUTCOME] = "UPDATE messages SET outcome = ?2 "
	    "WHERE number = ?1",
	[ST_ADD_EVENT] = "INSERT INTO events "
	    "(key, time, kind, outcome, recipients, text) "
	    "VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[ST_OLDEST] = "SELECT number, time FROM messages "
	    "ORDER BY number LIMIT 1",
	[ST_NOT_DUE] = "SELECT number FROM messages WHERE number > ?1 "
	    "AND number < ?2 AND time BETWEEN ?3 AND ?4 "
	    "ORDER BY number LIMIT 1",
	[ST_DELETE_EVENTS] = "DELETE FROM events WHERE key IN "
	    "(SELECT key FROM events WHERE key < ?1 ORDER BY key LIMIT ?2)",
	[ST_DELETE_MESSAGES] = "DELETE FROM messages WHERE number < ?1",
	[ST_PAGES] = "PRAGMA page_count",
	[ST_FREE_PAGES] = "PRAGMA freelist_count",
	[ST_SHRINK] = "PRAGMA incremental_vacuum(100)",
	[ST_MESSAGE] = "SELECT " COLUMNS " FROM messages WHERE id = ?1",
	[ST_EVENTS] = "SELECT key, time, kind, outcome, recipients, text "
	    "FROM events WHERE key >= ?1 AND key < ?2 ORDER BY key LIMIT ?3",
	[ST_LIST] = "SELECT " COLUMNS " FROM messages "
	    "WHERE number < ?1 ORDER BY number DESC LIMIT ?2",
	[ST_SEARCH] = "SELECT " COLUMNS " FROM messages "
	    "WHERE number < ?1 AND number >= ?4 AND (id LIKE ?3 ESCAPE '\\' "
	    "OR sender LIKE ?3 ESCAPE '\\' OR recipients LIKE ?3 ESCAPE '\\' "
	    "OR client LIKE ?3 ESCAPE '\\') ORDER BY number DESC LIMIT ?2",
	[ST_NEWEST] = "SELECT max(number) FROM messages",
};

static void
forget_places(struct history *history)
{
	memset(history->places, 0, sizeof(history->places));
}

static void
close_database(struct history *history)
{
	for (int i = 0; i < ST_COUNT; i++) {
		sqlite3_finalize(history->statements[i]);
		history->statements[i] = NULL;
	}
	sqlite3_close(history->db);
	history->db = NULL;
	history->uncommitted = 0;
	history->in_transaction = false;
	forget_places(history);
}

static int
read_number(sqlite3 *db, const char *query, int64_t *number)
{
	sqlite3_stmt *statement;
	int rc;

	rc = sqlite3_prepare_v2(db, query, -1, &statement, NULL);
	if (rc != SQLITE_OK)
		return rc;
	if ((rc = sqlite3_step(statement)) == SQLITE_ROW) {
		*number = sqlite3_column_int64(statement, 0);
		rc = SQLITE_OK;
	}
	sqlite3_finalize(statement);
	return rc;
}

/* An SQLite result code; a database of another kind counts as corrupt. */
static int
open_database(struct history *history)
{
	int64_t version = 0;
	int rc;

	rc = sqlite3_open_v2(history->path, &history->db,
	    SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
	    NULL);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_busy_timeout(history->db, BUSY_MS);
	rc = sqlite3_exec(history->db, set_up, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = read_number(history->db, "PRAGMA user_version", &version);
	if (rc == SQLITE_OK && version != 0 && version != SCHEMA_VERSION)
		return SQLITE_NOTADB;
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(history->db, schema, NULL, NULL, NULL);
	if (rc == SQLITE_OK)
		rc = read_number(history->db, "PRAGMA page_size",
		    &history->page_size);
	for (int i = 0; rc == SQLITE_OK && i < ST_COUNT; i++)
		rc = sqlite3_prepare_v3(history->db, queries[i], -1,
		    SQLITE_PREPARE_PERSISTENT, &history->statements[i], NULL);
	return rc;
}

static bool
is_corrupt(int rc)
{
	rc &= 0xff;
	return rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB;
}

/* One is kept, so that corruption that comes again doesn't fill the disk. */
static void
set_aside(const struct history *history)
{
	static const char *const endings[] = { "-wal", "-shm", "-journal" };
	char path[4096], to[4096];

	snprintf(to, sizeof(to), "%s.corrupt", history->path);
	if (rename(history->path, to) != 0)
		log_error(NULL, "history: cannot rename %s: %s",
		    history->path, strerror(errno));
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", history->path,
		    endings[i]);
		unlink(path);
	}
	log_error(NULL, "history: %s is corrupt; it was renamed to %s, and a "
	    "new one begins", history->path, to);
}

static int
open_or_begin(struct history *history)
{
	int rc = open_database(history);

	if (!is_corrupt(rc))
		return rc;
	close_database(history);
	set_aside(history);
	return open_database(history);
}

struct history *
history_open(const struct history_settings *settings, const char **why)
{
	static char problem[256];
	struct history *history = calloc(1, sizeof(*history));
	int rc;

	if (history == NULL ||
	    (history->path = strdup(settings->path)) == NULL)
		fatal("out of memory");
	history->keep_ms = settings->keep_ms;
	history->max_size = settings->max_size;
	if ((rc = open_or_begin(history)) == SQLITE_OK)
		return history;
	snprintf(problem, sizeof(problem), "history: %s: %s", settings->path,
	    sqlite3_errstr(rc));
	*why = problem;
	close_database(history);
	free(history->path);
	free(history);
	return NULL;
}

void
history_close(struct history **historyp)
{
	struct history *history = *historyp;

	if (history == NULL)
		return;
	history_commit(history);
	close_database(history);
	free(history->path);
	free(history);
	*historyp = NULL;
}

/* The events of the transaction are lost: told once, counted always. */
static void
handle_failure(struct history *history, int rc)
{
	if (!history->failing)
		log_error(NULL, "history: %s; what happens meanwhile is not "
		    "recorded", sqlite3_errstr(rc));
	history->failing = true;
	history->lost += history->uncommitted;
	history->uncommitted = 0;
	if (is_corrupt(rc)) {
		close_database(history);
		set_aside(history);
		if ((rc = open_database(history)) != SQLITE_OK) {
			log_error(NULL, "history: cannot begin a new one: %s",
			    sqlite3_errstr(rc));
			close_database(history);
		}
		return;
	}
	/* A full disk has rolled it back already. */
	if (!sqlite3_get_autocommit(history->db))
		sqlite3_exec(history->db, "ROLLBACK", NULL, NULL, NULL);
	history->in_transaction = false;
	forget_places(history);
}

sqlite3_stmt *
history_statement(struct history *history, enum history_statement which)
{
	sqlite3_stmt *statement = history->statements[which];

	if (statement != NULL)
		sqlite3_reset(statement);
	return statement;
}

int
history_step(struct history *history, sqlite3_stmt *statement)
{
	int rc;

	if (statement == NULL)
		return SQLITE_ERROR;
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW)
		return rc;
	sqlite3_reset(statement);
	if (rc != SQLITE_DONE)
		handle_failure(history, rc);
	return rc;
}

static bool
run(struct history *history, enum history_statement which)
{
	return history_step(history, history_statement(history, which)) ==
	    SQLITE_DONE;
}

int64_t
history_number(struct history *history, sqlite3_stmt *statement, int64_t missing)
{
	int64_t number = missing;

	if (history_step(history, statement) != SQLITE_ROW)
		return missing;
	if (sqlite3_column_type(statement, 0) != SQLITE_NULL)
		number = sqlite3_column_int64(statement, 0);
	sqlite3_reset(statement);
	return number;
}

bool
history_begin(struct history *history)
{
	if (history->in_transaction)
		return true;
	/* A new database could not be begun: perhaps now. */
	if (history->db == NULL && open_database(history) != SQLITE_OK) {
		close_database(history);
		return false;
	}
	history->in_transaction = run(history, ST_BEGIN);
	return history->in_transaction;
}

void
history_commit(struct history *history)
{
	if (!history->in_transaction || !run(history, ST_COMMIT))
		return;
	history->in_transaction = false;
	history->events += history->uncommitted;
	history->uncommitted = 0;
	if (history->failing)
		log_info(NULL, "history: events are recorded again");
	history->failing = false;
}

static void
bind_text(sqlite3_stmt *statement, int at, const char *text)
{
	sqlite3_bind_text(statement, at, text, -1, SQLITE_STATIC);
}

/* It says nothing of what became of the message. */
static bool
is_shadow(const struct event *event)
{
	return strcmp(event->kind, "shadow") == 0;
}

static int64_t
add_message(struct history *history, const struct event *event)
{
	sqlite3_stmt *statement = history_statement(history, ST_ADD_MESSAGE);

	if (statement == NULL)
		return -1;
	bind_text(statement, 1, event->id);
	sqlite3_bind_int64(statement, 2, event->time_ms);
	bind_text(statement, 3, event->client);
	bind_text(statement, 4, event->sender);
	bind_text(statement, 5, event->recipients);
	bind_text(statement, 6, is_shadow(event) ? "" : event->outcome);
	if (history_step(history, statement) != SQLITE_DONE)
		return -1;
	return sqlite3_last_insert_rowid(history->db);
}

/* What keys of the message at that place are taken. */
static void
find_ends(struct history *history, struct history_place *place)
{
	sqlite3_stmt *statement = history_statement(history, ST_FIND_ENDS);
	int64_t first = place->number << EVENT_BITS;

	place->next = first + 1;
	place->arrived = false;
	if (statement == NULL)
		return;
	sqlite3_bind_int64(statement, 1, first);
	sqlite3_bind_int64(statement, 2, first + EVENTS_MAX);
	if (history_step(history, statement) != SQLITE_ROW)
		return;
	if (sqlite3_column_type(statement, 0) != SQLITE_NULL) {
		place->next = sqlite3_column_int64(statement, 0) + 1;
		place->arrived = sqlite3_column_int64(statement, 1) == first;
	}
	sqlite3_reset(statement);
}

/* Looks the message up; a place with number 0: there is none. */
static void
find_place(struct history *history, const char *id,
    struct history_place *place)
{
	sqlite3_stmt *statement = history_statement(history, ST_FIND);

	place->number = 0;
	if (statement == NULL)
		return;
	bind_text(statement, 1, id);
	place->number = history_number(history, statement, 0);
	if (place->number != 0)
		find_ends(history, place);
}

/* FNV-1a */
static size_t
place_index(const char *id)
{
	uint32_t hash = 2166136261u;

	for (; *id != '\0'; id++)
		hash = (hash ^ (unsigned char)*id) * 16777619u;
	return hash % HISTORY_PLACES;
}

/*
 * A message as the gateway knows it may come behind its first delivery, which
 * the relay told first, or what a milter in the shadow said: it then describes
 * what is there.
 */
static void
describe(struct history *history, int64_t number, const struct event *event)
{
	sqlite3_stmt *statement = history_statement(history, ST_DESCRIBE);

	if (statement == NULL)
		return;
	sqlite3_bind_int64(statement, 1, number);
	bind_text(statement, 2, event->client);
	bind_text(statement, 3, event->sender);
	bind_text(statement, 4, event->recipients);
	bind_text(statement, 5, event->outcome);
	history_step(history, statement);
}

/* That all is done says less than how it was done. */
static bool
tells_outcome(const struct event *event)
{
	return event->outcome[0] != '\0' && event->text[0] != '\0';
}

static void
set_outcome(struct history *history, int64_t number,
    const struct event *event)
{
	sqlite3_stmt *statement = history_statement(history, ST_SET_OUTCOME);

	if (statement == NULL)
		return;
	sqlite3_bind_int64(statement, 1, number);
	bind_text(statement, 2, event->outcome);
	history_step(history, statement);
}

static bool
is_delivery(const struct event *event)
{
	return strcmp(event->kind, "delivery") == 0;
}

/* A place for a message that is new; NULL: failed. */
static struct history_place *
new_place(struct history *history, const struct event *event,
    struct history_place *place)
{
	int64_t number = add_message(history, event);

	if (number <= 0)
		return NULL;
	place->number = number;
	place->next = (number << EVENT_BITS) + 1;
	place->arrived = false;
	snprintf(place->id, sizeof(place->id), "%s", event->id);
	return place;
}

/* The message that the event belongs to, made if it is new; NULL: failed. */
static struct history_place *
place_of(struct history *history, const struct event *event)
{
	struct history_place *place =
	    &history->places[place_index(event->id)];
	struct history_place found;

	if (place->number == 0 || strcmp(place->id, event->id) != 0) {
		find_place(history, event->id, &found);
		if (!history->in_transaction)
			return NULL;
		if (found.number == 0)
			return new_place(history, event, place);
		snprintf(found.id, sizeof(found.id), "%s", event->id);
		*place = found;
	}
	if (!is_delivery(event) && event->client[0] != '\0')
		describe(history, place->number, event);
	else if (is_delivery(event) && tells_outcome(event))
		set_outcome(history, place->number, event);
	return history->in_transaction ? place : NULL;
}

static void
add_event(struct history *history, struct history_place *place,
    const struct event *event)
{
	sqlite3_stmt *statement = history_statement(history, ST_ADD_EVENT);
	bool arrival = !is_delivery(event) && !place->arrived &&
	    !is_shadow(event);

	if (statement == NULL)
		return;
	sqlite3_bind_int64(statement, 1, arrival ?
	    place->number << EVENT_BITS : place->next);
	sqlite3_bind_int64(statement, 2, event->time_ms);
	bind_text(statement, 3, event->kind);
	bind_text(statement, 4, event->outcome);
	bind_text(statement, 5, event->recipients);
	bind_text(statement, 6, event->text);
	if (history_step(history, statement) != SQLITE_DONE)
		return;
	if (arrival)
		place->arrived = true;
	else
		place->next++;
}

void
history_add(struct history *history, const struct event *event)
{
	size_t len = strlen(event->id);
	struct history_place *place;

	if (len == 0 || len > HISTORY_ID_MAX || !history_begin(history)) {
		history->lost++;
		return;
	}
	history->uncommitted++;
	if ((place = place_of(history, event)) == NULL)
		return;
	if (place->next < (place->number + 1) << EVENT_BITS)
		add_event(history, place, event);
	else
		history->lost++;
	if (history->uncommitted >= COMMIT_EVENTS)
		history_commit(history);
}
