/* The history's reading side, in steps that other tasks run between. */
#include "config.h"

#include <string.h>

#include "base/buf.h"
#include "gateway/event.h"
#include "gateway/history_internal.h"

/* What one step reads: some events, or a scan of some milliseconds. */
#define EVENTS_STEP 50
#define LIST_STEP 200
#define SEARCH_STEP 2000

static const char *
text_at(sqlite3_stmt *statement, int column)
{
	const void *text = sqlite3_column_text(statement, column);

	return text != NULL ? text : "";
}

static void
read_message(sqlite3_stmt *statement, struct history_message *message)
{
	message->number = sqlite3_column_int64(statement, 0);
	message->time_ms = sqlite3_column_int64(statement, 1);
	message->id = text_at(statement, 2);
	message->client = text_at(statement, 3);
	message->sender = text_at(statement, 4);
	message->recipients = text_at(statement, 5);
	message->outcome = text_at(statement, 6);
}

enum answer
history_find(struct history *history, const char *id, history_message_f *f,
    void *argument)
{
	sqlite3_stmt *statement = history_statement(history, ST_MESSAGE);
	struct history_message message;
	int rc;

	if (statement == NULL)
		return ANSWER_UNKNOWN;
	sqlite3_bind_text(statement, 1, id, -1, SQLITE_STATIC);
	rc = history_step(history, statement);
	if (rc != SQLITE_ROW)
		return rc == SQLITE_DONE ? ANSWER_NO : ANSWER_UNKNOWN;
	read_message(statement, &message);
	f(&message, argument);
	sqlite3_reset(statement);
	return ANSWER_YES;
}

bool
history_events(struct history *history, int64_t number, int64_t *next,
    history_event_f *f, void *argument)
{
	sqlite3_stmt *statement = history_statement(history, ST_EVENTS);
	int64_t first = number << EVENT_BITS;
	int count = 0;

	if (statement == NULL)
		return false;
	sqlite3_bind_int64(statement, 1, first + *next);
	sqlite3_bind_int64(statement, 2, first + EVENTS_MAX);
	sqlite3_bind_int(statement, 3, EVENTS_STEP);
	while (history_step(history, statement) == SQLITE_ROW) {
		*next = sqlite3_column_int64(statement, 0) - first + 1;
		count++;
		f(&(struct event){
		    .time_ms = sqlite3_column_int64(statement, 1),
		    .id = "", .kind = text_at(statement, 2), .client = "",
		    .sender = "", .outcome = text_at(statement, 3),
		    .recipients = text_at(statement, 4),
		    .text = text_at(statement, 5),
		}, argument);
	}
	return count == EVENTS_STEP;
}

/* %text%, with what LIKE takes for more than itself escaped. */
static void
make_pattern(struct buf *pattern, const char *text)
{
	buf_putc(pattern, '%');
	for (; *text != '\0'; text++) {
		if (strchr("%_\\", *text) != NULL)
			buf_putc(pattern, '\\');
		buf_putc(pattern, *text);
	}
	buf_putc(pattern, '%');
}

/* Calls f for the rows; returns the number of the last, or 0. */
static int64_t
each_message(struct history *history, sqlite3_stmt *statement, size_t *left,
    history_message_f *f, void *argument)
{
	struct history_message message = { 0 };

	while (history_step(history, statement) == SQLITE_ROW) {
		read_message(statement, &message);
		f(&message, argument);
		if (*left > 0)
			--*left;
	}
	return message.number;
}

static bool
list(struct history *history, int64_t *before, size_t *left,
    history_message_f *f, void *argument)
{
	sqlite3_stmt *statement = history_statement(history, ST_LIST);
	int64_t last;

	if (statement == NULL || *left == 0)
		return false;
	sqlite3_bind_int64(statement, 1, *before);
	sqlite3_bind_int64(statement, 2,
	    *left < LIST_STEP ? (int64_t)*left : LIST_STEP);
	if ((last = each_message(history, statement, left, f, argument)) == 0)
		return false;
	*before = last;
	return *left > 0;
}

bool
history_search(struct history *history, const char *text, int64_t *before,
    size_t *left, history_message_f *f, void *argument)
{
	struct buf pattern = BUF_INIT;
	sqlite3_stmt *statement;
	int64_t from, first;

	if (text == NULL)
		return list(history, before, left, f, argument);
	if (*before == INT64_MAX)
		*before = history_number(history,
		    history_statement(history, ST_NEWEST), 0) + 1;
	first = history_number(history,
	    history_statement(history, ST_OLDEST), 0);
	statement = history_statement(history, ST_SEARCH);
	if (statement == NULL || first == 0 || *before <= first || *left == 0)
		return false;
	from = *before - SEARCH_STEP;
	make_pattern(&pattern, text);
	sqlite3_bind_int64(statement, 1, *before);
	sqlite3_bind_int64(statement, 2, (int64_t)*left);
	sqlite3_bind_text(statement, 3, pattern.data, -1, SQLITE_TRANSIENT);
	sqlite3_bind_int64(statement, 4, from);
	buf_release(&pattern);
	each_message(history, statement, left, f, argument);
	*before = from;
	return from > first && *left > 0;
}
