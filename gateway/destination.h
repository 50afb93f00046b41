/*
 * Destinations of the relay: for each next hop a queue of jobs and a number of
 * workers, each with its connection.  Workers are handed out in turn among the
 * destinations that want one, so that no one of them starves the others.
 */
#ifndef GATEWAY_DESTINATION_H
#define GATEWAY_DESTINATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/task.h"
#include "gateway/schedule.h"

struct destinations;
struct route;

/* Something to deliver; embedded in the relay's own. */
struct destination_job {
	struct destination_job *next;
};

struct destination {
	const char *key;		/* see nexthop_key() */
	const struct route *route;
	const char *domain;		/* of its recipients, for MX; or NULL */
	struct window window;
	uint32_t workers, idle;
	size_t waiting;			/* jobs in the queue */
	int64_t suspended_until;	/* task_now(); 0: it is not */
	uint32_t suspensions;		/* in a row */
	char *reason;			/* of the suspension */
	uint64_t mark;			/* the router's */
	void *owner;			/* the relay */

	/* private */
	struct destination_job *first, **last;
	struct task_cond work;
	struct destinations *all;
	struct destination *next_ready, *next, *previous;
	bool ready;
	int64_t used_ms;
};

/* run works for the destination until it has nothing to do or must yield. */
typedef void destination_run_f(struct destination *);

struct destinations *destinations_new(uint32_t workers_max,
    destination_run_f *run);
void destinations_free(struct destinations **);

/* The destination of that key; made if there is none. */
struct destination *destination_get(struct destinations *, const char *key,
    const struct route *, const char *domain);

/* Appends a job and sees that somebody works. */
void destination_push(struct destination *, struct destination_job *);

/*
 * For workers: the next job; waits idle_ms for one.  NULL: end.  turn counts
 * the jobs that this worker has done; others that wait for a worker get theirs
 * after DESTINATION_TURN of them.
 */
struct destination_job *destination_next(struct destination *, int64_t idle_ms,
    unsigned turn);
#define DESTINATION_TURN 10

/* Takes all jobs out of the queue, as a list. */
struct destination_job *destination_take(struct destination *);

/* Takes out those for which is_wanted says so. */
struct destination_job *destination_pick(struct destination *,
    bool (*is_wanted)(const struct destination_job *, const void *argument),
    const void *argument);

/* No worker begins before that time (task_now()). */
void destination_suspend(struct destination *, int64_t until,
    const char *reason);
void destination_resume(struct destination *);
bool destination_suspended(struct destination *);

/* Forgets destinations not used for a while; calls f for the others. */
void destinations_sweep(struct destinations *, int64_t unused_ms);
void destinations_each(struct destinations *,
    void (*f)(struct destination *, void *), void *argument);

/* From now on workers end after the job that they have; none begins. */
void destinations_drain(struct destinations *);

/* Waits until no worker is left: 0; -1 at the deadline. */
int destinations_wait(struct destinations *, int64_t deadline);

size_t destinations_count(const struct destinations *);
uint32_t destinations_workers(const struct destinations *);

#endif
