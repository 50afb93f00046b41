/* Between history.c (writing), history_query.c and history_trim.c. */
#ifndef GATEWAY_HISTORY_INTERNAL_H
#define GATEWAY_HISTORY_INTERNAL_H

#include <sqlite3.h>

#include "gateway/history.h"

/*
 * The events of message n have the keys n * 65536 + 0, 1, ...: they lie side
 * by side, need no index of their own, and go in one stretch.  0 is kept for
 * the arrival, which the gateway may tell later than the relay a delivery.
 */
#define EVENT_BITS 16
#define EVENTS_MAX ((int64_t)1 << EVENT_BITS)

enum history_statement {
	ST_BEGIN, ST_COMMIT, ST_FIND, ST_FIND_ENDS, ST_ADD_MESSAGE,
	ST_DESCRIBE, ST_SET_OUTCOME, ST_ADD_EVENT,
	ST_OLDEST, ST_NOT_DUE, ST_DELETE_EVENTS, ST_DELETE_MESSAGES,
	ST_PAGES, ST_FREE_PAGES, ST_SHRINK,
	ST_MESSAGE, ST_EVENTS, ST_LIST, ST_SEARCH, ST_NEWEST,
	ST_COUNT
};

/* Where a message is whose events came lately. */
struct history_place {
	char id[HISTORY_ID_MAX + 1];
	int64_t number;
	int64_t next;			/* key of its next event */
	bool arrived;			/* the first key is taken */
};

#define HISTORY_PLACES 8192

struct history {
	char *path;
	int64_t keep_ms, max_size, page_size;
	sqlite3 *db;			/* NULL: none could be begun */
	sqlite3_stmt *statements[ST_COUNT];
	unsigned uncommitted;
	bool in_transaction;
	bool failing;			/* said so in the log */
	uint64_t events, lost;
	struct history_place places[HISTORY_PLACES];
};

/* A statement without bindings; NULL if there is no database. */
sqlite3_stmt *history_statement(struct history *, enum history_statement);

/*
 * Steps: SQLITE_ROW, SQLITE_DONE, or another code, after which the statement
 * is reset and what can be done about it has been done.
 */
int history_step(struct history *, sqlite3_stmt *);

/* The first column of the first row; missing if there is no row, or NULL. */
int64_t history_number(struct history *, sqlite3_stmt *, int64_t missing);

/* Begins a transaction unless one is begun; false: it can't. */
bool history_begin(struct history *);

#endif
