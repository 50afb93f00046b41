/* What the outbound guard keeps of a user, and its step (guard.h). */
#ifndef POLICY_GUARD_WATCH_H
#define POLICY_GUARD_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/answer.h"

struct buf;
struct store;

enum guard_measure { GUARD_MESSAGES, GUARD_RECIPIENTS, GUARD_NEW,
	GUARD_BOUNCES, GUARD_MEASURES };
enum guard_level { GUARD_CALM, GUARD_SLOW, GUARD_HOLD, GUARD_SUSPEND };
enum guard_event { GUARD_RECIPIENT, GUARD_BOUNCE, GUARD_LOOK };

extern const char *const guard_measure_names[GUARD_MEASURES];

struct guard_limits {
	int64_t floor[GUARD_MEASURES];	/* never too many in an hour */
	int64_t factor;
	enum guard_level most;		/* it goes no further */
	int64_t suspend_ms;
};

struct guard_state {
	enum guard_level level;
	int64_t wait_ms;		/* slow, suspended: so long */
	bool first;			/* of that level, today */
	enum guard_measure worst;
	int64_t count[GUARD_MEASURES], limit[GUARD_MEASURES];
};

/*
 * An event of a user, of that message and recipient; each counts once.  YES: it
 * may go on (or is to be held); NO: not now; UNKNOWN: *why.
 */
enum answer guard_watch(struct store *, const struct guard_limits *,
    enum guard_event, const char *user, const char *message,
    const char *recipient, struct guard_state *, const char **why);

/* Lifts a suspension, forgets the last hours.  NO: nothing is known. */
enum answer guard_watch_release(struct store *, const char *user,
    const char **why);

/* Appends a line for each user who is known, or for that one. */
enum answer guard_watch_show(struct store *, const struct guard_limits *,
    const char *user, struct buf *, const char **why);

#endif
