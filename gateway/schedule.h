/*
 * When to try again, how much at once: the arithmetic of the relay.  Pure:
 * times are arguments.
 */
#ifndef GATEWAY_SCHEDULE_H
#define GATEWAY_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

/* All in milliseconds. */
struct schedule {
	int64_t minimal_backoff, maximal_backoff;
	int64_t expire, bounce_expire;	/* bounces: messages of null sender */
};

/*
 * The pause after that many attempts: doubles from the minimum up to the
 * maximum, 10 % more or less by random so that what failed together does not
 * come again together.
 */
int64_t schedule_backoff(const struct schedule *, uint32_t attempts,
    uint32_t random);

/*
 * Whether to give up.  The wall clock says how old a message is, and it may
 * jump: so the message must also have had a quarter of the attempts that
 * back-off would have made in that time.  A queue is never bounced at once for
 * a wrong clock, nor after the relay stood still for a week.
 */
bool schedule_expired(const struct schedule *, int64_t age, uint32_t attempts,
    bool bounce);

/* Attempts that back-off makes within that time. */
uint32_t schedule_attempts(const struct schedule *, int64_t lifetime);

/*
 * How many connections a destination may have: grows by one for each window
 * of successes, halves with each failure to connect; when failures go on it is
 * suspended.
 */
struct window {
	uint32_t limit;			/* now */
	uint32_t maximum;
	uint32_t successes;		/* since it grew */
	uint32_t failures;		/* in a row */
};

#define WINDOW_INITIAL 5
#define WINDOW_FAILURES_MAX 3

void window_init(struct window *, uint32_t maximum);
void window_success(struct window *);

/* True: suspend the destination. */
bool window_failure(struct window *);

/* After a suspension: one connection probes. */
void window_probe(struct window *);

#endif
