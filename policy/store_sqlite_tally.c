/* Tallies in SQLite. */
#include <sqlite3.h>
#include <stdarg.h>

#include "base/buf.h"
#include "base/clock.h"
#include "policy/store_tally.h"

/*
 * Runs one statement with values: s a string or NULL, i a number.  Rows go to
 * text as fields parted by tabs, if it is not NULL.  SQLite's code; *rows.
 */
static int
run(sqlite3 *db, struct buf *text, int *rows, const char *sql,
    const char *types, ...)
{
	sqlite3_stmt *statement;
	va_list values;
	int rc, count = 0;

	rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
	if (rc != SQLITE_OK)
		return rc;
	va_start(values, types);
	for (int i = 0; types[i] != '\0'; i++)
		if (types[i] == 's')
			sqlite3_bind_text(statement, i + 1,
			    va_arg(values, const char *), -1, SQLITE_STATIC);
		else
			sqlite3_bind_int64(statement, i + 1,
			    va_arg(values, int64_t));
	va_end(values);
	for (; (rc = sqlite3_step(statement)) == SQLITE_ROW; count++)
		for (int i = 0; text != NULL &&
		    i < sqlite3_column_count(statement); i++) {
			buf_puts(text, (const char *)sqlite3_column_text(
			    statement, i));
			buf_putc(text, i + 1 < sqlite3_column_count(statement) ?
			    '\t' : '\n');
		}
	sqlite3_finalize(statement);
	if (rows != NULL)
		*rows = count;
	return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

#define OPEN " WHERE subject = ?1 AND begin = ?2 AND id = 0"

static enum answer
add_row(void *state, sqlite3 *db, const struct store_tally *t)
{
	int rc, full;

	rc = run(db, NULL, NULL, "UPDATE tally_row SET count = count + ?4" OPEN
	    " AND row = ?3", "sisi", t->subject, t->begin_ms, t->row,
	    t->count);
	if (rc != SQLITE_OK)
		return store_sqlite_failed(state, rc);
	if (sqlite3_changes(db) > 0)
		return ANSWER_YES;
	rc = run(db, NULL, &full, "SELECT 1 FROM tally_row" OPEN
	    " LIMIT 1 OFFSET ?3", "sii", t->subject, t->begin_ms,
	    (int64_t)STORE_TALLY_ROWS - 1);
	if (rc == SQLITE_OK && full > 0)
		rc = run(db, NULL, NULL, "UPDATE tally SET lost = lost + ?3"
		    OPEN, "sii", t->subject, t->begin_ms, t->count);
	else if (rc == SQLITE_OK)
		rc = run(db, NULL, NULL, "INSERT INTO tally_row VALUES(?1, "
		    "?2, 0, ?3, ?4)", "sisi", t->subject, t->begin_ms, t->row,
		    t->count);
	if (rc != SQLITE_OK)
		return store_sqlite_failed(state, rc);
	return full > 0 ? ANSWER_NO : ANSWER_YES;
}

enum answer
tally_sqlite_add(void *state, const struct store_tally *t, const char **why)
{
	sqlite3 *db = store_sqlite_begin(state, why);
	int rc, full = 0;

	if (db == NULL)
		return ANSWER_UNKNOWN;
	*why = "the store failed";
	rc = run(db, NULL, NULL, "UPDATE tally SET head = ?3" OPEN, "sis",
	    t->subject, t->begin_ms, t->head);
	if (rc == SQLITE_OK && sqlite3_changes(db) == 0) {
		rc = run(db, NULL, &full, "SELECT 1 FROM tally LIMIT 1 "
		    "OFFSET ?1", "i", (int64_t)STORE_TALLIES - 1);
		if (rc == SQLITE_OK && full > 0) {
			*why = "too many subjects";
			return ANSWER_NO;
		}
		if (rc == SQLITE_OK)
			rc = run(db, NULL, NULL, "INSERT INTO tally VALUES("
			    "?1, ?2, 0, ?3, 0, ?4, 0)", "siis", t->subject,
			    t->begin_ms, t->due_ms, t->head);
	}
	if (rc != SQLITE_OK)
		return store_sqlite_failed(state, rc);
	return add_row(state, db, t);
}

/* Those that nobody could send. */
static int
forget_old(sqlite3 *db, int64_t now)
{
	int64_t before = now - STORE_TALLY_KEEP_MS;
	int rc;

	rc = run(db, NULL, NULL, "DELETE FROM tally_row WHERE (subject, begin,"
	    " id) IN (SELECT subject, begin, id FROM tally WHERE due < ?1)",
	    "i", before);
	if (rc == SQLITE_OK)
		rc = run(db, NULL, NULL, "DELETE FROM tally WHERE due < ?1",
		    "i", before);
	return rc;
}

/* The one with the given lease is the one just claimed. */
static int
read_claimed(sqlite3 *db, int64_t lease, struct buf *text)
{
	int rc;

	rc = run(db, text, NULL, "SELECT subject, begin, id, lost FROM tally "
	    "WHERE lease = ?1", "i", lease);
	if (rc == SQLITE_OK)
		rc = run(db, text, NULL, "SELECT head FROM tally WHERE "
		    "lease = ?1", "i", lease);
	if (rc == SQLITE_OK)
		rc = run(db, text, NULL, "SELECT count, row FROM tally JOIN "
		    "tally_row USING(subject, begin, id) WHERE lease = ?1 "
		    "ORDER BY row", "i", lease);
	return rc;
}

/* Its rows follow the tally when it is closed. */
static int
close_claimed(sqlite3 *db, int64_t lease, int64_t id)
{
	int rc;

	rc = run(db, NULL, NULL, "UPDATE tally_row SET id = ?2 WHERE id = 0 "
	    "AND (subject, begin) IN (SELECT subject, begin FROM tally WHERE "
	    "lease = ?1 AND id = 0)", "ii", lease, id);
	if (rc == SQLITE_OK)
		rc = run(db, NULL, NULL, "UPDATE tally SET id = ?2 WHERE "
		    "lease = ?1 AND id = 0", "ii", lease, id);
	return rc;
}

enum answer
tally_sqlite_claim(void *state, const char *subject, bool force,
    int64_t lease_ms, int64_t shift_ms, struct buf *text, const char **why)
{
	int64_t now = clock_wall_ms() + shift_ms, lease = now + lease_ms;
	sqlite3 *db = store_sqlite_begin(state, why);
	int rc, used = 1;

	if (db == NULL)
		return ANSWER_UNKNOWN;
	*why = "the store failed";
	rc = forget_old(db, now);
	/* A lease tells claims apart, so each has a time of its own. */
	for (lease--; rc == SQLITE_OK && used > 0;)
		rc = run(db, NULL, &used, "SELECT 1 FROM tally WHERE "
		    "lease = ?1", "i", ++lease);
	if (rc == SQLITE_OK)
		rc = run(db, NULL, NULL, "UPDATE tally SET lease = ?1 WHERE "
		    "(subject, begin, id) IN (SELECT subject, begin, id FROM "
		    "tally WHERE lease <= ?2 AND (due <= ?2 OR ?3) AND "
		    "(?4 IS NULL OR subject = ?4) ORDER BY due LIMIT 1)",
		    "iiis", lease, now, (int64_t)force, subject);
	if (rc == SQLITE_OK && sqlite3_changes(db) == 0)
		return ANSWER_NO;
	if (rc == SQLITE_OK)
		rc = close_claimed(db, lease, now);
	if (rc == SQLITE_OK)
		rc = read_claimed(db, lease, text);
	if (rc != SQLITE_OK)
		return store_sqlite_failed(state, rc);
	/* Its id must outlive us: who sends it again uses the same. */
	store_sqlite_commit(state);
	return ANSWER_YES;
}

enum answer
tally_sqlite_done(void *state, const char *subject, int64_t begin_ms,
    int64_t id, const char **why)
{
	sqlite3 *db = store_sqlite_begin(state, why);
	int rc;

	if (db == NULL)
		return ANSWER_UNKNOWN;
	*why = "the store failed";
	rc = run(db, NULL, NULL, "DELETE FROM tally_row WHERE subject = ?1 "
	    "AND begin = ?2 AND id = ?3", "sii", subject, begin_ms, id);
	if (rc == SQLITE_OK)
		rc = run(db, NULL, NULL, "DELETE FROM tally WHERE "
		    "subject = ?1 AND begin = ?2 AND id = ?3", "sii", subject,
		    begin_ms, id);
	if (rc != SQLITE_OK)
		return store_sqlite_failed(state, rc);
	store_sqlite_commit(state);
	return ANSWER_YES;
}

enum answer
tally_sqlite_list(void *state, struct buf *text, const char **why)
{
	sqlite3 *db = store_sqlite_begin(state, why);
	int rc;

	if (db == NULL)
		return ANSWER_UNKNOWN;
	*why = "the store failed";
	rc = run(db, text, NULL, "SELECT subject, begin, due FROM tally "
	    "ORDER BY due LIMIT ?1", "i", (int64_t)TALLY_LIST_MAX);
	return rc == SQLITE_OK ? ANSWER_YES : store_sqlite_failed(state, rc);
}
