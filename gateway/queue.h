/*
 * The spool, the relay's side: the queue of messages that are not yet done.
 * Reads segments (after a start all of them, then what the writers' tails say),
 * keeps per message what is still to do, appends outcomes to the journal,
 * unlinks segments that are done and compacts those held by few messages.
 */
#ifndef GATEWAY_QUEUE_H
#define GATEWAY_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/mail.h"
#include "gateway/spool.h"

struct queue;

/* A message in the queue; small, as there may be a million. */
struct queue_entry {
	char id[ENVELOPE_ID_SIZE];
	int64_t arrived_ms;		/* wall clock */
	int64_t next_try_ms;		/* wall clock; 0: at once */
	uint32_t size;
	uint32_t attempts;
	uint32_t pending;		/* recipients still to do */
	bool hold;
	bool busy;			/* a delivery has it */
	void *user;			/* the scheduler's */
};

struct queue_settings {
	const char *directory;
	const struct spool_tail *tails;	/* one per writer slot, or NULL */
	size_t tail_count;
	struct spool *compaction;	/* where kept messages are moved to */
};

/*
 * Called for each message found: by queue_open for those on disk, by
 * queue_poll for new ones.
 */
typedef void queue_found_f(struct queue_entry *, void *argument);

/* Scans the spool.  Corrupt parts are set aside and logged.  NULL: *why. */
struct queue *queue_open(const struct queue_settings *settings,
    queue_found_f *found, void *argument, const char **why);
void queue_close(struct queue **);

/* Reads what the writers committed since; after a ring of the doorbell. */
void queue_poll(struct queue *);

/* Envelope and content of a message, recipients that are done left out. */
struct queue_message {
	struct envelope envelope;
	struct slice *content;
	size_t content_count;
	size_t size;
};

/*
 * Reads a message into the arena; slices stay valid until queue_put.  NULL and
 * *why if it cannot be read (then it was set aside, and logged).
 */
struct queue_message *queue_get(struct queue *, struct queue_entry *,
    struct arena *, const char **why);
void queue_put(struct queue *, struct queue_message **);

enum queue_outcome { QUEUE_DELIVERED, QUEUE_BOUNCED, QUEUE_DEFERRED,
	QUEUE_DELETED, QUEUE_HELD, QUEUE_RELEASED };

/*
 * Appends to the journal: this recipient (NULL: all that are left) is done, or
 * the message is deferred until next_try_ms.  A message whose recipients are
 * all done leaves the queue; the entry is freed when it is not busy.
 */
void queue_record(struct queue *, struct queue_entry *, const char *recipient,
    enum queue_outcome, int64_t next_try_ms);

/* Ends the scheduler's use of an entry (busy); frees it if it is done. */
void queue_release(struct queue *, struct queue_entry *);

struct queue_entry *queue_find(struct queue *, const char *id);
void queue_each(struct queue *, void (*f)(struct queue_entry *, void *),
    void *argument);
size_t queue_count(const struct queue *);

/* Unlinks what is done, compacts, syncs the journal; called every second. */
void queue_maintain(struct queue *);

#endif
