/*
 * From evidence to an estimate: what share of an entity's next mail is spam,
 * and between which bounds that is.  Arithmetic alone.
 */
#ifndef POLICY_REPUTATION_ESTIMATE_H
#define POLICY_REPUTATION_ESTIMATE_H

#include "policy/reputation_state.h"

#define REP_PRIOR_MAX	4.0	/* messages that a prior is worth at most */
#define REP_ENOUGH	20.0	/* messages that tell all there is to know */

/* Bounds of 90 %.  evidence: in messages, what the prior is worth included. */
struct rep_estimate {
	double mean, low, high, evidence;
	enum rep_span span;		/* the half-life that decided */
	bool pinned;
};

/* Nothing is known: anything from 0 to 1, worth one message. */
extern const struct rep_estimate rep_unknown;

/*
 * What prior says, corrected by what is known of the entity itself.  prior may
 * be the estimate of less than it (a network's of an address), or of another
 * who sent the same mail (an address' of a domain).
 *
 * Each half-life gives an estimate.  That of fourteen days rests on most and
 * holds unless a shorter one, which has it as its prior, contradicts it, that
 * is, lies beyond its bounds: the day in either direction, the hour only for
 * the worse.  So a burst is noticed within minutes, and good behaviour has to
 * last.
 *
 * A pin alone counts while it lasts (now_ms), the entity's own or the prior's.
 */
struct rep_estimate rep_estimate(const struct rep_estimate *prior,
    const struct rep_state *, int64_t now_ms);

/*
 * Which of two estimates of one mail counts: a pin; else that of more evidence,
 * of which no more than REP_ENOUGH is wanted; else the second.
 */
const struct rep_estimate *rep_choose(const struct rep_estimate *,
    const struct rep_estimate *);

/* What a sum knows without one of its parts. */
struct rep_state rep_without(const struct rep_state *sum,
    const struct rep_state *part);

/*
 * From -1000, surely good, to 1000, surely spam: of all the estimate's bounds
 * allow, what is closest to 0.
 */
int rep_score(const struct rep_estimate *);

#endif
