/*
 * SQLite's file.
 *
 * NORMAL in WAL mode: a power failure may lose the last seconds, and nothing is
 * synced but at a checkpoint.
 */
#include "policy/store_sqlite_file.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "policy/store_tally.h"

#define PRUNE_ROWS	2000

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
#define SETTINGS							\
	"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"		\
	"PRAGMA temp_store=MEMORY; PRAGMA journal_size_limit=16777216;"	\
	"PRAGMA cache_size=-32768; PRAGMA wal_autocheckpoint=4000"

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

int
sqlite_file_open(const char *path, sqlite3 **db)
{
	int rc;

	rc = sqlite3_open_v2(path, db, SQLITE_OPEN_READWRITE |
	    SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc == SQLITE_OK)
		rc = sqlite3_exec(*db, SETTINGS, NULL, NULL, NULL);
	return rc == SQLITE_OK ? bring_up_to_date(*db) : rc;
}

/* The last key of the next part; NULL: there are fewer records than that. */
static int
next_end(sqlite3 *db, const char *from, char **end)
{
	sqlite3_stmt *statement;
	int rc;

	*end = NULL;
	rc = sqlite3_prepare_v2(db, "SELECT key FROM record WHERE key > ?1 "
	    "ORDER BY key LIMIT 1 OFFSET ?2", -1, &statement, NULL);
	if (rc != SQLITE_OK)
		return rc;
	sqlite3_bind_text(statement, 1, from, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 2, PRUNE_ROWS - 1);
	rc = sqlite3_step(statement);
	if (rc == SQLITE_ROW && (*end = strdup((const char *)
	    sqlite3_column_text(statement, 0))) == NULL)
		fatal("out of memory (store)");
	sqlite3_finalize(statement);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/*
 * An index by the time when they expire would cost more, at each write, than
 * the records.
 */
int
sqlite_file_prune(sqlite3 *db, char **end)
{
	char *from = *end;
	sqlite3_stmt *statement = NULL;
	int rc;

	*end = NULL;
	rc = next_end(db, from != NULL ? from : "", end);
	if (rc == SQLITE_OK)
		rc = sqlite3_prepare_v2(db, "DELETE FROM record WHERE "
		    "key > ?1 AND (?2 IS NULL OR key <= ?2) AND expires <= ?3",
		    -1, &statement, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(statement, 1, from != NULL ? from : "", -1,
		    SQLITE_STATIC);
		sqlite3_bind_text(statement, 2, *end, -1, SQLITE_STATIC);
		sqlite3_bind_int64(statement, 3, clock_wall_ms());
		rc = sqlite3_step(statement);
	}
	sqlite3_finalize(statement);
	free(from);
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}
