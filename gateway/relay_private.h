/* Shared by the parts of the relay. */
#ifndef GATEWAY_RELAY_PRIVATE_H
#define GATEWAY_RELAY_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/option.h"
#include "base/task.h"
#include "gateway/destination.h"
#include "gateway/nexthop.h"
#include "gateway/queue.h"
#include "gateway/relay.h"
#include "gateway/route.h"
#include "gateway/schedule.h"

#define RELAY_OPTIONS(ROW, o)						\
	ROW(o, minimal_backoff, duration, "5m", "1ms", "1d",		\
	    "The first pause after a delivery that failed for now; it "	\
	    "doubles each time.")					\
	ROW(o, maximal_backoff, duration, "66m", "1ms", "7d",		\
	    "The longest such pause.")					\
	ROW(o, expire, duration, "5d", "0s", "100d",			\
	    "A message undelivered for so long is returned.")		\
	ROW(o, bounce_expire, duration, "5d", "0s", "100d",		\
	    "A notification undelivered for so long is dropped.")	\
	ROW(o, delay_warning, duration, "0s", "0s", "100d",		\
	    "The sender is told of a delay of so long; 0s: never.")	\
	ROW(o, connection_idle, duration, "2s", "0s", "5m",		\
	    "A connection is kept open so long for another message.")	\
	ROW(o, connections, number, "500", "1", "20000",		\
	    "Connections at a time, to all destinations.")		\
	ROW(o, memory, size, "8M", "64K", "4G",				\
	    "Messages waiting for a connection are kept in memory up "	\
	    "to this, else read again from the spool.")			\
	ROW(o, connect_timeout, duration, "30s", "10ms", "10m",		\
	    "How long connecting may take.")				\
	ROW(o, greeting_timeout, duration, "5m", "10ms", "10m",		\
	    "How long a greeting may take.")				\
	ROW(o, command_timeout, duration, "5m", "10ms", "10m",		\
	    "How long the reply to a command may take.")		\
	ROW(o, data_timeout, duration, "10m", "10ms", "1h",		\
	    "How long the reply to the end of data may take.")		\
	ROW(o, total_timeout, duration, "1h", "100ms", "1d",		\
	    "How long one delivery may take in all.")

struct relay_options { RELAY_OPTIONS(OPTION_FIELD, relay_options) };

struct counter;
struct histogram;
struct message;

enum relay_result { RESULT_SENT, RESULT_DEFERRED, RESULT_BOUNCED };

struct relay {
	struct relay_settings settings;
	const struct relay_options *options;
	struct schedule schedule;
	struct nexthop_settings nexthop;
	struct routes *routes;
	struct destinations *destinations;
	struct queue *queue;

	struct message *incoming, **incoming_last;
	struct message **heap;		/* deferred, by time of the next try */
	size_t heap_count, heap_size;
	size_t incoming_count, active_count, held_count;
	size_t loaded_bytes;		/* of messages in memory */
	struct task_cond arrived;	/* something is incoming */
	struct task_cond due;		/* the heap's first has changed */
	struct task_cond roomy;		/* messages have left memory */
	struct task_cond loaded;	/* one of them has been read */
	struct task *router, *timer;
	bool draining;
	uint64_t round;			/* counts routed messages */
	int64_t clock_offset;		/* wall clock minus monotonic */

	struct counter *results[3];
	struct histogram *delay;
};

enum message_place { PLACE_INCOMING, PLACE_ACTIVE, PLACE_DEFERRED,
	PLACE_HELD };

/* A message in the queue, as the relay sees it. */
struct message {
	struct queue_entry *entry;
	enum message_place place;
	struct message *next;		/* incoming */
	size_t heap_index;
	uint32_t jobs;			/* destinations left in this round */
	uint32_t users;			/* of loaded */
	int64_t not_before_ms;		/* a suspension ends, wall clock */
	int64_t started_ms;		/* this round, wall clock */
	bool one_destination;		/* all recipients go the same way */
	bool announced;			/* logged as active */
	bool loading;			/* some task reads it just now */
	bool gone;			/* could not be read: set aside */
	bool warned;			/* the sender was told of the delay */
	struct queue_message *loaded;	/* or NULL */
	struct arena *arena;		/* loaded's */
};

/* One message to one destination. */
struct job {
	struct destination_job link;	/* first */
	struct message *message;
	struct destination *destination;
	int64_t queued_ms;		/* wall clock */
};

/* The times of Postfix's delays=a/b/c/d, wall clock. */
struct delivery_times {
	int64_t queued, taken, connected, done;
};

/* --- relay.c --- */

/* All but the TLS contexts. */
void relay_nexthop(const struct relay_options *, const char *hostname,
    struct nexthop_settings *);

/* Reads the message into memory; false: it is gone, and logged. */
bool message_load(struct relay *, struct message *);

/* Forgets it, if nobody uses it and memory is short or keep is false. */
void message_unload(struct relay *, struct message *, bool keep);

/* Takes it from where it waits, unless it is active / puts it at the end. */
void message_take_out(struct relay *, struct message *);
void message_try_now(struct relay *, struct message *);

/* A job has ended; with the last one the round ends. */
void message_job_done(struct relay *, struct job *);

/* --- relay_heap.c --- */

/* Its entry's next_try_ms says when; wakes the timer if it is the first. */
void relay_heap_push(struct relay *, struct message *);
void relay_heap_remove(struct relay *, struct message *);

/* When the ith is due; the first is relay->heap[0]. */
int64_t relay_heap_time(const struct relay *, size_t i);

/* --- relay_worker.c --- */

void relay_work(struct destination *);

/* --- relay_report.c --- */

/*
 * Writes down what became of recipients: log, counters, journal, and the
 * notifications that the sender is due.
 */
void relay_report(struct relay *, struct message *, const char *relay_name,
    const struct delivery_times *, struct delivery *results, size_t count,
    bool final, struct arena *);

void relay_event(struct relay *, const struct message *,
    const char *recipient, const char *outcome, const char *text);

#endif
