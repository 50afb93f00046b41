/*
 * The relay: takes messages from the queue to where their routes lead, and
 * writes down what became of each recipient.  Everything runs in tasks of the
 * calling thread.
 *
 *	relay = relay_new(&settings, &why);
 *	queue = queue_open(&queue_settings, relay_found, relay, &why);
 *	relay_start(relay, queue);
 *	... queue_poll(queue) whenever the doorbell rings ...
 *	relay_drain(relay, deadline);
 *	relay_free(&relay);
 *	queue_close(&queue);
 */
#ifndef GATEWAY_RELAY_H
#define GATEWAY_RELAY_H

#include <stddef.h>
#include <stdint.h>

#include "base/option.h"
#include "gateway/queue.h"

struct buf;
struct conf;
struct envelope;
struct notices;
struct relay;

extern const struct section_kind relay_section;

/*
 * Hears what happened to a message, for the history: outcome "sent",
 * "deferred", "bounced", "removed" of a recipient ("" for all).
 */
typedef void relay_event_f(const char *id, const char *recipient,
    const char *outcome, const char *text, void *argument);

/* Hears of a recipient that the next hop refused for good. */
typedef void relay_bounced_f(const struct envelope *, const char *recipient,
    void *argument);

struct relay_settings {
	const struct conf *conf;	/* sections route and relay */
	const char *hostname;		/* ours */
	struct notices *notices;	/* by which notifications go */
	relay_event_f *event;		/* or NULL */
	void *event_argument;
	relay_bounced_f *bounced;	/* or NULL */
	void *bounced_argument;
};

/*
 * Reads routes and options and makes the TLS contexts: before the process
 * locks itself in.  NULL: *why.
 */
struct relay *relay_new(const struct relay_settings *, const char **why);

/* For queue_open(): takes an entry.  relay is the argument. */
void relay_found(struct queue_entry *, void *relay);

/*
 * Starts delivering; queue_maintain() and, should a doorbell be lost,
 * queue_poll() are called once a second from here.
 */
void relay_start(struct relay *, struct queue *);

/*
 * No new delivery begins; waits for those under way until the deadline.  0, or
 * -1 when some are still going on.
 */
int relay_drain(struct relay *, int64_t deadline);

/* After a drain that ended well. */
void relay_free(struct relay **);

/* --- what operators ask for --- */

/* Tries now: one message, or with NULL all; suspensions end.  How many. */
size_t relay_flush(struct relay *, const char *id);

/* 0, or -1 and *why: no such message, or it is being delivered just now. */
int relay_hold(struct relay *, const char *id, const char **why);
int relay_release(struct relay *, const char *id, const char **why);
int relay_delete(struct relay *, const char *id, const char **why);

struct relay_statistics {
	size_t incoming, active, deferred, held, destinations, connections;
};
void relay_statistics(const struct relay *, struct relay_statistics *);

/* One line for each destination: what it does, why it is suspended. */
void relay_print(const struct relay *, struct buf *);

#endif
