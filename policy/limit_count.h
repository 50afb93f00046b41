/*
 * Units counted in the store, for a rate (GCRA) or for how many there are at
 * a time.  Who asks for a unit takes it for good, or reserves it: reserved
 * units count in full until they are settled, that is charged or given back,
 * and free themselves if that does not happen.
 *
 * What was taken for a message is remembered with it: asked again about the
 * same recipient of the same message, the answer is the same and nothing more
 * is taken.  If it was reserved, the store remembers it, else this process
 * (limit_past.h).
 */
#ifndef POLICY_LIMIT_COUNT_H
#define POLICY_LIMIT_COUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/answer.h"

struct buf;
struct limit_past;
struct store;

/* A reservation that nobody renews lasts so long, and 1/4 more at most. */
#define LIMIT_LEASE_MS 600000

/* "outgoing" of "rate_limit outgoing": kind is what keys begin with. */
struct limit_scope {
	const char *kind, *name;
};

struct limit_take {
	struct limit_scope scope;
	const char *subject;		/* who is limited: "joe@example.org" */
	const char *message;		/* id, the same all over the fleet */
	const char *recipient;		/* one unit for it; or NULL and: */
	int64_t want;			/* units for the message in all */
	int64_t unit_us;		/* a unit is free again after this */
	int64_t burst;			/* units at a time */
	/* What it was taken for before; NULL: it is reserved. */
	struct limit_past *past;
};

struct limit_state {
	int64_t wait_ms;		/* NO: when there will be room */
	int64_t used;			/* NO: units, with those reserved */
	int64_t reserved;
};

/* YES: taken, now or before.  NO: there is no room.  UNKNOWN: *why. */
enum answer limit_count_take(struct store *, const struct limit_take *,
    struct limit_state *, const char **why);

/*
 * Charges up to count of the units that are reserved for the message, gives
 * the others back.  NO: none are, as when that was done before.
 */
enum answer limit_count_settle(struct store *, const struct limit_take *,
    int64_t count, const char **why);

/*
 * Appends a line for each subject that has units, or for that one: "SUBJECT
 * used=N reserved=N free_in=SECONDS".  NO: more lines than there is room for.
 */
enum answer limit_count_show(struct store *, const struct limit_scope *,
    const char *subject, struct buf *, const char **why);

/* Frees all of a subject's units.  NO: it has none. */
enum answer limit_count_reset(struct store *, const struct limit_scope *,
    const char *subject, const char **why);

#endif
