/* When to try again, how much at once. */
#include "gateway/schedule.h"

#include <stddef.h>

static int64_t
doubled(const struct schedule *schedule, uint32_t attempts)
{
	int64_t pause = schedule->minimal_backoff;

	if (pause < 1)
		pause = 1;
	for (uint32_t i = 1; i < attempts; i++) {
		if (pause > schedule->maximal_backoff / 2)
			return schedule->maximal_backoff;
		pause *= 2;
	}
	return pause < schedule->maximal_backoff ? pause :
	    schedule->maximal_backoff;
}

int64_t
schedule_backoff(const struct schedule *schedule, uint32_t attempts,
    uint32_t random)
{
	int64_t pause = doubled(schedule, attempts);
	int64_t tenth = pause / 10;

	if (tenth == 0)
		return pause;
	return pause - tenth + (int64_t)(random % (uint64_t)(2 * tenth + 1));
}

uint32_t
schedule_attempts(const struct schedule *schedule, int64_t lifetime)
{
	int64_t time = 0, pause;
	uint32_t attempts = 1;

	for (;; attempts++) {
		pause = doubled(schedule, attempts);
		if (pause >= schedule->maximal_backoff || attempts > 1000)
			break;
		time += pause;
		if (time > lifetime)
			return attempts;
	}
	if (pause < 1)
		pause = 1;
	if (lifetime > time)
		attempts += (uint32_t)((lifetime - time) / pause);
	return attempts;
}

bool
schedule_expired(const struct schedule *schedule, int64_t age,
    uint32_t attempts, bool bounce)
{
	int64_t lifetime = bounce ? schedule->bounce_expire : schedule->expire;
	uint32_t wanted;

	if (age <= lifetime)
		return false;
	wanted = schedule_attempts(schedule, lifetime) / 4;
	return attempts >= (wanted > 0 ? wanted : 1);
}

void
window_init(struct window *window, uint32_t maximum)
{
	window->maximum = maximum > 0 ? maximum : 1;
	window->limit = window->maximum < WINDOW_INITIAL ? window->maximum :
	    WINDOW_INITIAL;
	window->successes = 0;
	window->failures = 0;
}

void
window_success(struct window *window)
{
	window->failures = 0;
	if (window->limit >= window->maximum)
		return;
	if (++window->successes < window->limit)
		return;
	window->successes = 0;
	window->limit++;
}

bool
window_failure(struct window *window)
{
	window->successes = 0;
	window->limit = window->limit > 1 ? window->limit / 2 : 1;
	return ++window->failures >= WINDOW_FAILURES_MAX;
}

void
window_probe(struct window *window)
{
	window->limit = 1;
	window->successes = 0;
	window->failures = WINDOW_FAILURES_MAX - 1;
}
