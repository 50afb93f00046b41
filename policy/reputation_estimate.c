/*
 * Estimates.  The prior counts as so many messages of which its share is spam;
 * with those observed they give a share p of N, and the bounds are Wilson's
 * score interval: never outside 0 to 1, sensible for few messages, and easily
 * checked by hand.
 */
#include "policy/reputation_estimate.h"

#include <math.h>

#define Z 1.645			/* 5 % on either side */

const struct rep_estimate rep_unknown = { 0.5, 0, 1, 1, REP_FORTNIGHT,
	false };

static struct rep_estimate
observe(const struct rep_estimate *prior, const struct rep_state *state,
    enum rep_span span)
{
	double good = (double)state->good[span] / REP_MESSAGE;
	double bad = (double)state->bad[span] / REP_MESSAGE;
	double worth = fmin(prior->evidence, REP_PRIOR_MAX);
	double n = good + bad + worth;
	double p = (bad + worth * prior->mean) / n;
	double middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n);
	double half = Z / (1 + Z * Z / n) *
	    sqrt(p * (1 - p) / n + Z * Z / (4 * n * n));

	return (struct rep_estimate){ .mean = p, .low = fmax(middle - half, 0),
	    .high = fmin(middle + half, 1), .evidence = n, .span = span };
}

struct rep_estimate
rep_estimate(const struct rep_estimate *prior, const struct rep_state *state,
    int64_t now_ms)
{
	struct rep_estimate day, hour, best;
	int pin = rep_pin_score(state->pin, now_ms);

	if (pin >= 0)
		return (struct rep_estimate){ pin / 1000.0, pin / 1000.0,
		    pin / 1000.0, REP_ENOUGH, REP_FORTNIGHT, true };
	if (prior->pinned)
		return *prior;
	best = observe(prior, state, REP_FORTNIGHT);
	day = observe(&best, state, REP_DAY);
	if (day.low > best.high || day.high < best.low)
		best = day;
	hour = observe(&best, state, REP_HOUR);
	if (hour.low > best.high)
		best = hour;
	return best;
}

const struct rep_estimate *
rep_choose(const struct rep_estimate *first, const struct rep_estimate *second)
{
	if (first->pinned != second->pinned)
		return first->pinned ? first : second;
	return fmin(first->evidence, REP_ENOUGH) >
	    fmin(second->evidence, REP_ENOUGH) ? first : second;
}

struct rep_state
rep_without(const struct rep_state *sum, const struct rep_state *part)
{
	struct rep_state rest = *sum;

	for (int i = 0; i < REP_SPANS; i++) {
		rest.good[i] -= part->good[i];
		rest.bad[i] -= part->bad[i];
		if (rest.good[i] < 0)
			rest.good[i] = 0;
		if (rest.bad[i] < 0)
			rest.bad[i] = 0;
	}
	return rest;
}

int
rep_score(const struct rep_estimate *estimate)
{
	if (estimate->low > 0.5)
		return (int)lround((2 * estimate->low - 1) * 1000);
	if (estimate->high < 0.5)
		return (int)lround((2 * estimate->high - 1) * 1000);
	return 0;
}
