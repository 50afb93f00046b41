/* Back-off, expiry and the window of connections. */
#include "gateway/schedule.h"

#include <stddef.h>

#include "t/unit/unit.h"

#define SECOND 1000
#define MINUTE (60 * SECOND)
#define HOUR (60LL * MINUTE)
#define DAY (24 * HOUR)

static const struct schedule usual = { 5 * MINUTE, 66 * MINUTE, 5 * DAY,
    DAY };

static const struct {
	const char *name;
	uint32_t attempts;
	int64_t want;			/* without jitter */
} pauses[] = {
	{ "none yet", 0, 5 * MINUTE },		{ "first", 1, 5 * MINUTE },
	{ "second", 2, 10 * MINUTE },		{ "third", 3, 20 * MINUTE },
	{ "fourth", 4, 40 * MINUTE },		{ "fifth", 5, 66 * MINUTE },
	{ "hundredth", 100, 66 * MINUTE },	{ "most", UINT32_MAX,
	    66 * MINUTE },
};

static void
backoff(void)
{
	for (size_t i = 0; i < sizeof(pauses) / sizeof(pauses[0]); i++) {
		int64_t least = pauses[i].want - pauses[i].want / 10;
		int64_t most = pauses[i].want + pauses[i].want / 10;
		int64_t low = most, high = least;

		for (uint32_t r = 0; r < 5000000; r += 9973) {
			int64_t pause = schedule_backoff(&usual,
			    pauses[i].attempts, r);

			low = pause < low ? pause : low;
			high = pause > high ? pause : high;
		}
		CASE_ASSERT(pauses[i].name, low >= least && high <= most);
		/* The jitter uses what it may. */
		CASE_ASSERT(pauses[i].name, low < pauses[i].want * 92 / 100);
		CASE_ASSERT(pauses[i].name, high > pauses[i].want * 108 / 100);
	}
}

static const struct {
	const char *name;
	int64_t age;
	uint32_t attempts;
	bool bounce, want;
} ages[] = {
	{ "young", HOUR, 5, false, false },
	{ "young, many attempts", HOUR, 500, false, false },
	{ "old in due course", 5 * DAY + HOUR, 110, false, true },
	{ "the clock jumped ten days", 10 * DAY, 3, false, false },
	{ "the clock jumped back", -DAY, 110, false, false },
	{ "the relay stood still for a week", 7 * DAY, 1, false, false },
	{ "and then tried for a day", 8 * DAY, 30, false, true },
	{ "a bounce", 2 * DAY, 30, true, true },
	{ "as old, no bounce", 2 * DAY, 30, false, false },
};

static void
expiry(void)
{
	static const struct schedule quick = { 1, 2, 0, 0 };

	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++)
		CASE_ASSERT(ages[i].name, schedule_expired(&usual,
		    ages[i].age, ages[i].attempts, ages[i].bounce) ==
		    ages[i].want);
	/* Expiry at once still gives a message one attempt. */
	CU_ASSERT_FALSE(schedule_expired(&quick, 1, 0, false));
	CU_ASSERT_TRUE(schedule_expired(&quick, 1, 1, false));
}

static void
attempts(void)
{
	/* 5 + 10 + 20 + 40 minutes, then every 66. */
	CU_ASSERT(schedule_attempts(&usual, 4 * MINUTE) == 1);
	CU_ASSERT(schedule_attempts(&usual, 74 * MINUTE) == 4);
	CU_ASSERT(schedule_attempts(&usual, 75 * MINUTE + 66 * MINUTE) == 6);
	CU_ASSERT(schedule_attempts(&usual, 5 * DAY) > 100);
	CU_ASSERT(schedule_attempts(&usual, 5 * DAY) < 120);
}

static void
windows(void)
{
	struct window window;
	int successes = 0;

	window_init(&window, 20);
	CU_ASSERT(window.limit == WINDOW_INITIAL);
	for (; window.limit < 20 && successes < 1000; successes++)
		window_success(&window);
	/* 5 + 6 + ... + 19 */
	CU_ASSERT(successes == 180);
	window_success(&window);
	CU_ASSERT(window.limit == 20);
	CU_ASSERT_FALSE(window_failure(&window));
	CU_ASSERT(window.limit == 10);
	window_success(&window);
	CU_ASSERT_FALSE(window_failure(&window));
	CU_ASSERT_FALSE(window_failure(&window));
	CU_ASSERT_TRUE(window_failure(&window));
	CU_ASSERT(window.limit == 1);
	/* After the pause one failure is enough. */
	window_probe(&window);
	CU_ASSERT(window.limit == 1);
	CU_ASSERT_TRUE(window_failure(&window));
	window_init(&window, 2);
	CU_ASSERT(window.limit == 2);
}

SUITE(schedule, { "back-off", backoff }, { "expiry", expiry },
    { "attempts", attempts }, { "window", windows })
