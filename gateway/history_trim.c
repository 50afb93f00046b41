/* The history's bounds: what is too old or too much goes, a little at a time. */
#include "config.h"

#include <string.h>

#include "gateway/history_internal.h"

/* How much one call deletes. */
#define TRIM_MESSAGES 64
#define TRIM_EVENTS 500

/* A time so far ahead comes from a clock that was wrong. */
#define FUTURE_MS ((int64_t)24 * 3600 * 1000)

static int64_t
bytes_used(struct history *history)
{
	int64_t pages, free_pages;

	pages = history_number(history,
	    history_statement(history, ST_PAGES), 0);
	free_pages = history_number(history,
	    history_statement(history, ST_FREE_PAGES), 0);
	return (pages - free_pages) * history->page_size;
}

/* A limit that was lowered: gives pages back to the file system, a few. */
static bool
shrink(struct history *history)
{
	sqlite3_stmt *statement;
	int64_t pages;

	pages = history_number(history,
	    history_statement(history, ST_PAGES), 0);
	if (pages * history->page_size <= history->max_size)
		return false;
	statement = history_statement(history, ST_SHRINK);
	while (history_step(history, statement) == SQLITE_ROW)
		;
	return history_number(history,
	    history_statement(history, ST_PAGES), pages) < pages;
}

/* Deletes messages below that number, and of their events some at a time. */
static bool
delete_below(struct history *history, int64_t number)
{
	sqlite3_stmt *statement;

	if (!history_begin(history))
		return false;
	statement = history_statement(history, ST_DELETE_EVENTS);
	sqlite3_bind_int64(statement, 1, number << EVENT_BITS);
	sqlite3_bind_int64(statement, 2, TRIM_EVENTS);
	if (history_step(history, statement) != SQLITE_DONE)
		return false;
	if (sqlite3_changes(history->db) == TRIM_EVENTS)
		return true;
	statement = history_statement(history, ST_DELETE_MESSAGES);
	sqlite3_bind_int64(statement, 1, number);
	if (history_step(history, statement) != SQLITE_DONE)
		return false;
	for (size_t i = 0; i < HISTORY_PLACES; i++)
		if (history->places[i].number < number)
			history->places[i].number = 0;
	return true;
}

/* The first message, of the oldest few, that is young enough to stay. */
static int64_t
first_young(struct history *history, int64_t oldest, int64_t now_ms)
{
	sqlite3_stmt *statement = history_statement(history, ST_NOT_DUE);

	if (statement == NULL)
		return oldest;
	sqlite3_bind_int64(statement, 1, oldest);
	sqlite3_bind_int64(statement, 2, oldest + TRIM_MESSAGES);
	sqlite3_bind_int64(statement, 3, now_ms - history->keep_ms);
	sqlite3_bind_int64(statement, 4, now_ms + FUTURE_MS);
	return history_number(history, statement, oldest + TRIM_MESSAGES);
}

bool
history_trim(struct history *history, int64_t now_ms)
{
	sqlite3_stmt *statement = history_statement(history, ST_OLDEST);
	int64_t oldest, time_ms;

	if (history_step(history, statement) != SQLITE_ROW)
		return false;
	oldest = sqlite3_column_int64(statement, 0);
	time_ms = sqlite3_column_int64(statement, 1);
	sqlite3_reset(statement);
	/* Below the limit, so that freed pages serve before the file grows. */
	if (bytes_used(history) > history->max_size / 16 * 15)
		return delete_below(history, oldest + TRIM_MESSAGES);
	if (time_ms < now_ms - history->keep_ms ||
	    time_ms > now_ms + FUTURE_MS)
		return delete_below(history, first_young(history, oldest,
		    now_ms));
	return shrink(history);
}

void
history_statistics(struct history *history,
    struct history_statistics *statistics)
{
	sqlite3_stmt *statement;
	int64_t oldest;

	memset(statistics, 0, sizeof(*statistics));
	statistics->events = history->events + history->uncommitted;
	statistics->lost = history->lost;
	statistics->size = bytes_used(history);
	statement = history_statement(history, ST_OLDEST);
	if (history_step(history, statement) != SQLITE_ROW)
		return;
	oldest = sqlite3_column_int64(statement, 0);
	statistics->oldest_ms = sqlite3_column_int64(statement, 1);
	sqlite3_reset(statement);
	/* Numbers are given one by one and go from the lowest on. */
	statistics->messages = history_number(history,
	    history_statement(history, ST_NEWEST), oldest) - oldest + 1;
}
