/*
 * The history of messages and sessions: what became of each, by id, in an
 * SQLite database that one process writes and reads.  It is bounded in age and
 * size; what is oldest goes first.
 *
 * Nothing here waits, but no call takes longer than a few milliseconds: who
 * asks for much gets it in steps, between which other tasks run.
 */
#ifndef GATEWAY_HISTORY_H
#define GATEWAY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"

struct event;
struct history;

/* Longer ids are none of ours. */
#define HISTORY_ID_MAX 31

struct history_settings {
	const char *path;
	int64_t keep_ms;		/* older messages are deleted */
	int64_t max_size;		/* bytes */
};

/*
 * Opens the database or begins a new one.  One that is corrupt is renamed to
 * path.corrupt, now or whenever that shows, and the log says so.
 */
struct history *history_open(const struct history_settings *,
    const char **why);

/* Commits and closes; NULL is fine. */
void history_close(struct history **);

/* Adds an event to the present transaction; commits now and then. */
void history_add(struct history *, const struct event *);

/* Ends the present transaction; about once a second. */
void history_commit(struct history *);

/* Deletes some of what is too much; true: there is more. */
bool history_trim(struct history *, int64_t now_ms);

struct history_message {
	int64_t number;
	int64_t time_ms;		/* of the first event */
	const char *id, *client, *sender, *recipients, *outcome;
};

/* What they are given lives during the call; they must not wait. */
typedef void history_message_f(const struct history_message *, void *);
typedef void history_event_f(const struct event *, void *);

/* YES: f was called with the message of that id. */
enum answer history_find(struct history *, const char *id,
    history_message_f *, void *argument);

/*
 * Calls f for some of the message's events, beginning with *next (0 at first):
 * its arrival, then what happened since.  False: there are no more.
 */
bool history_events(struct history *, int64_t number, int64_t *next,
    history_event_f *, void *argument);

/*
 * Calls f for messages older than *before (INT64_MAX at first), newest first,
 * that have the text in their id, client, sender or recipients (NULL: all), at
 * most *left of them.  One call looks at a bounded number of messages.  False:
 * that was all.
 */
bool history_search(struct history *, const char *text, int64_t *before,
    size_t *left, history_message_f *, void *argument);

struct history_statistics {
	int64_t messages;
	int64_t size;			/* bytes in use */
	int64_t oldest_ms;		/* 0: there is none */
	uint64_t events;		/* taken since it was opened */
	uint64_t lost;			/* that could not be written */
};

void history_statistics(struct history *, struct history_statistics *);

#endif
