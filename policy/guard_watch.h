/* What the outbound guard keeps of a user, and its step (guard.h). */
#ifndef POLICY_GUARD_WATCH_H
#define POLICY_GUARD_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/answer.h"

struct buf;
struct store;

/* Those before COUNTED are counts of an hour, for which there is a baseline. */
enum guard_measure { GUARD_MESSAGES, GUARD_RECIPIENTS, GUARD_NEW,
	GUARD_BOUNCES, GUARD_COUNTED, GUARD_COUNTRIES = GUARD_COUNTED,
	GUARD_MEASURES };
enum guard_level { GUARD_CALM, GUARD_SLOW, GUARD_HOLD, GUARD_SUSPEND };
enum guard_event { GUARD_RECIPIENT, GUARD_BOUNCE, GUARD_LOOK };

extern const char *const guard_measure_names[GUARD_MEASURES];

struct guard_limits {
	int64_t floor[GUARD_MEASURES];	/* never too many in an hour */
	int64_t factor;
	enum guard_level most;		/* it goes no further */
	int64_t suspend_ms;
};

/* What a user did.  Not of GUARD_LOOK: message, recipient. */
struct guard_deed {
	enum guard_event event;
	const char *user, *message, *recipient;
	const char *country;		/* "DE"; "": cannot tell */
};

struct guard_state {
	enum guard_level level;
	int64_t wait_ms;		/* slow, suspended: so long */
	bool first;			/* of that level, today */
	enum guard_measure worst;
	int64_t count[GUARD_MEASURES], limit[GUARD_MEASURES];
};

/*
 * Takes it down; the same recipient of a message counts once.  YES: it may go
 * on (or is to be held); NO: not now; UNKNOWN: *why.
 */
enum answer guard_watch(struct store *, const struct guard_limits *,
    const struct guard_deed *, struct guard_state *, const char **why);

/*
 * Lifts a suspension, forgets the last hours and countries where the user is
 * not at home.  NO: nothing is known.
 */
enum answer guard_watch_release(struct store *, const char *user,
    const char **why);

/* A user's name as it is shown: cut, with "?" for what would break a line. */
#define GUARD_USER_SIZE	301
const char *guard_user_print(const char *user, char shown[GUARD_USER_SIZE]);

/* Appends a line for each user who is known, or for that one. */
enum answer guard_watch_show(struct store *, const struct guard_limits *,
    const char *user, struct buf *, const char **why);

#endif
