/*
 * What is learnt, on both back ends: the failures known of others, what both
 * languages reckon, estimates.
 */
#include "policy/reputation_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/reputation_estimate.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define SECOND	INT64_C(1000)
#define HOUR	(3600 * SECOND)
#define DAY	(24 * HOUR)
#define FIRST	"rep:{n192.0.2.0/24}a192.0.2.1"
#define SECOND_KEY "rep:{n192.0.2.0/24}"

static enum answer
tell(struct rig *rig, const char *id, int64_t good, int64_t bad, bool undo)
{
	char event[64];
	const char *why;

	snprintf(event, sizeof(event), "repe:{n192.0.2.0/24}%s", id);
	return rep_learn(rig->store, &(struct rep_change){ FIRST, SECOND_KEY,
	    event, id, bad > 0 ? OUTCOME_SPAM : OUTCOME_HAM, good, bad,
	    true, undo }, &why);
}

static struct rep_state
look(struct rig *rig, int64_t *now)
{
	struct rep_state states[2];
	const char *why;

	CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states, now,
	    &why) != ANSWER_UNKNOWN);
	CU_ASSERT(memcmp(&states[0], &states[1], sizeof(states[0])) == 0);
	return states[0];
}

/* Within so many millionths of what it should be. */
static bool
about(int64_t weight, double messages, double tolerance)
{
	return fabs((double)weight - messages * REP_MESSAGE) <= tolerance;
}

/* A clean message, then 300 of spam in 18 minutes: that is a spammer. */
static void
be_burst(struct rig *rig)
{
	struct rep_estimate e, neighbour;
	struct rep_state state;
	char id[16];
	int64_t now;

	CU_ASSERT(tell(rig, "clean", REP_MESSAGE, 0, false) == ANSWER_YES);
	for (int i = 0; i < 300; i++) {
		store_shift_clock(rig->store, 3600);
		snprintf(id, sizeof(id), "s%d", i);
		CU_ASSERT(tell(rig, id, 0, REP_MESSAGE, false) == ANSWER_YES);
	}
	state = look(rig, &now);
	e = rep_estimate(&rep_unknown, &state, now);
	CASE_ASSERT(rig->back_end, e.mean > 0.98 && e.low > 0.95);
	CASE_ASSERT(rig->back_end, rep_score(&e) > 900);
	CASE_ASSERT(rig->back_end, about(state.bad[REP_FORTNIGHT], 300, 3e5));
	CASE_ASSERT(rig->back_end, state.bad[REP_HOUR] > 260 * REP_MESSAGE);

	/* Its neighbour, of whom nothing is known, is suspect, no more. */
	neighbour = rep_estimate(&e, &(struct rep_state){ 0 }, now);
	CASE_ASSERT(rig->back_end, neighbour.mean > 0.9 &&
	    neighbour.low < 0.7 && neighbour.low > 0.4);
}

/* Fifty in one second count fifty. */
static void
be_second(struct rig *rig)
{
	struct rep_state state;
	char id[16];
	int64_t now;

	for (int i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "s%d", i);
		CU_ASSERT(tell(rig, id, 0, REP_MESSAGE, false) == ANSWER_YES);
	}
	state = look(rig, &now);
	for (int i = 0; i < REP_SPANS; i++)
		CASE_ASSERT(rig->back_end, about(state.bad[i], 50, 2e5));
}

/* Nothing counts twice: neither an event nor its taking back. */
static void
be_once(struct rig *rig)
{
	struct rep_state state;
	char note[STORE_NOTE_MAX + 1];
	struct store_record record;
	int64_t now, counts[OUTCOME_KINDS];
	const char *why;

	CU_ASSERT(tell(rig, "a", 0, REP_MESSAGE, true) == ANSWER_NO);
	CU_ASSERT(tell(rig, "a", 0, REP_MESSAGE, false) == ANSWER_YES);
	for (int i = 0; i < 5; i++)
		CU_ASSERT(tell(rig, "a", 0, REP_MESSAGE, false) == ANSWER_NO);
	CU_ASSERT(tell(rig, "b", 3 * REP_MESSAGE, 0, false) == ANSWER_YES);
	state = look(rig, &now);
	CASE_ASSERT(rig->back_end, about(state.bad[REP_DAY], 1, 500));
	CASE_ASSERT(rig->back_end, about(state.good[REP_DAY], 3, 2000));

	/* A day later: what is left of it goes, the other stays. */
	store_shift_clock(rig->store, DAY);
	CU_ASSERT(tell(rig, "a", 0, 7, true) == ANSWER_YES);
	CU_ASSERT(tell(rig, "a", 0, 7, true) == ANSWER_NO);
	state = look(rig, &now);
	for (int i = 0; i < REP_SPANS; i++)
		CASE_ASSERT(rig->back_end, state.bad[i] <= 2);
	CASE_ASSERT(rig->back_end, about(state.good[REP_DAY], 1.5, 500));
	CU_ASSERT(store_read(rig->store, FIRST, &record, note,
	    &why) == ANSWER_YES);
	rep_counts_parse(note, counts);
	CASE_ASSERT(rig->back_end, counts[OUTCOME_SPAM] == 0 &&
	    counts[OUTCOME_HAM] == 1);

	/* It was spam after all. */
	CU_ASSERT(tell(rig, "a", 0, REP_MESSAGE, false) == ANSWER_YES);
	state = look(rig, &now);
	CASE_ASSERT(rig->back_end, about(state.bad[REP_DAY], 1, 500));

	/* What has been forgotten is not taken back from others. */
	CU_ASSERT(store_forget(rig->store, FIRST, &why) == ANSWER_YES);
	CU_ASSERT(store_forget(rig->store, FIRST, &why) == ANSWER_NO);
	CU_ASSERT(store_forget(rig->store, SECOND_KEY, &why) == ANSWER_YES);
	CU_ASSERT(tell(rig, "b", 0, 0, true) == ANSWER_YES);
	state = look(rig, &now);
	CASE_ASSERT(rig->back_end, state.good[0] == 0 && state.bad[0] == 0);
	CU_ASSERT(store_read(rig->store, FIRST, &record, note,
	    &why) == ANSWER_NO);

	/* After a week nobody repeats an event. */
	CU_ASSERT(tell(rig, "c", 0, REP_MESSAGE, false) == ANSWER_YES);
	store_shift_clock(rig->store, 7 * DAY + SECOND);
	CU_ASSERT(tell(rig, "c", 0, REP_MESSAGE, false) == ANSWER_YES);
}

/* Idle values decay when they are read, and in the end are gone. */
static void
be_idle(struct rig *rig)
{
	struct rep_state state;
	int64_t now;

	CU_ASSERT(tell(rig, "a", 0, 64 * REP_MESSAGE, false) == ANSWER_YES);
	store_shift_clock(rig->store, 2 * HOUR);
	state = look(rig, &now);
	CASE_ASSERT(rig->back_end, about(state.bad[REP_HOUR], 16, 2e5));
	CASE_ASSERT(rig->back_end, about(state.bad[REP_DAY],
	    64 * exp2(-2 / 24.0), 2e4));
	store_shift_clock(rig->store, 14 * DAY - 2 * HOUR);
	state = look(rig, &now);
	CASE_ASSERT(rig->back_end, state.bad[REP_HOUR] == 0);
	CASE_ASSERT(rig->back_end, about(state.bad[REP_DAY],
	    64 / 16384.0, 10));
	CASE_ASSERT(rig->back_end, about(state.bad[REP_FORTNIGHT], 32, 1e4));
	store_shift_clock(rig->store, 43 * DAY);
	state = look(rig, &now);
	CASE_ASSERT(rig->back_end, state.bad[REP_FORTNIGHT] == 0);
}

/* A clock that goes back neither adds nor loses anything. */
static void
be_backwards(struct rig *rig)
{
	struct rep_state before, after;
	int64_t now;

	CU_ASSERT(tell(rig, "a", 0, 2 * REP_MESSAGE, false) == ANSWER_YES);
	store_shift_clock(rig->store, -HOUR);
	before = look(rig, &now);
	CU_ASSERT(tell(rig, "b", REP_MESSAGE, 0, false) == ANSWER_YES);
	after = look(rig, &now);
	CASE_ASSERT(rig->back_end, before.bad[0] == 2 * REP_MESSAGE);
	CASE_ASSERT(rig->back_end, after.bad[0] == 2 * REP_MESSAGE &&
	    after.good[0] == REP_MESSAGE);
}

static void
be_pinned(struct rig *rig)
{
	struct rep_state state = { .good = { 5, 6, 7 }, .bad = { 8, 9, 10 },
		.updated_ms = INT64_C(1) << 50 };
	struct rep_state states[2];
	struct store_record record;
	char note[STORE_NOTE_MAX + 1];
	struct rep_estimate e;
	const char *why;
	int64_t now;

	CU_ASSERT(rep_set(rig->store, FIRST, &state, "1,2,3", &why) ==
	    ANSWER_YES);
	CU_ASSERT(rep_pin(rig->store, FIRST, rep_pin_make(250, 0), &why) ==
	    ANSWER_YES);
	CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states, &now,
	    &why) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, states[0].good[2] >= 6 &&
	    states[0].bad[1] >= 8);
	e = rep_estimate(&rep_unknown, &states[0], now);
	CASE_ASSERT(rig->back_end, e.mean == 0.25 && e.low == 0.25 &&
	    e.high == 0.25);
	CU_ASSERT(store_read(rig->store, FIRST, &record, note, &why) ==
	    ANSWER_YES);
	CASE_ASSERT(rig->back_end, strcmp(note, "1,2,3") == 0 &&
	    record.values[6] <= now);

	/* For a year, though nobody hears of it, and learning goes on. */
	store_shift_clock(rig->store, 365 * DAY);
	CU_ASSERT(tell(rig, "a", 0, REP_MESSAGE, false) == ANSWER_YES);
	store_shift_clock(rig->store, 365 * DAY);
	CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states, &now,
	    &why) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, rep_pin_score(states[0].pin, now) == 250);

	/* Until then, and no longer. */
	CU_ASSERT(rep_pin(rig->store, FIRST, rep_pin_make(1000, now + HOUR),
	    &why) == ANSWER_YES);
	CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states, &now,
	    &why) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, rep_pin_score(states[0].pin, now) == 1000);
	store_shift_clock(rig->store, HOUR + SECOND);
	CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states, &now,
	    &why) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, rep_pin_score(states[0].pin, now) == -1);
	CU_ASSERT(rep_pin(rig->store, FIRST, 0, &why) == ANSWER_YES);
	CU_ASSERT(store_read(rig->store, FIRST, &record, note, &why) ==
	    ANSWER_YES);
	CASE_ASSERT(rig->back_end, record.values[7] == 0);
}

/* A random walk, of which each back end must make the same. */
static int64_t walks[2][200][STORE_VALUES];
static char notes[2][STORE_NOTE_MAX + 1];

static void
be_walked(struct rig *rig)
{
	int which = strcmp(rig->back_end, "redis") == 0;
	struct rep_state state = { .updated_ms = INT64_C(1800000000000) };
	unsigned seed = 4711;
	struct store_record record;
	const char *why;
	char id[16];

	/* Both begin at the same time, a whole tick of all half-lives. */
	store_shift_clock(rig->store, 0);
	state.good[2] = (INT64_C(1) << 50) - 1;
	CU_ASSERT(rep_set(rig->store, FIRST, &state, "", &why) == ANSWER_YES);
	for (int i = 0; i < 200; i++) {
		int64_t weight = (int64_t)(seed = seed * 1103515245 + 12345) %
		    5000000 + 1;
		bool good = (seed & 0x10000) != 0;

		snprintf(id, sizeof(id), "w%d", i % 5 == 4 ? i - 3 : i);
		tell(rig, id, good ? weight : 0, good ? 0 : weight,
		    i % 5 == 4);
		CU_ASSERT(store_read(rig->store, FIRST, &record,
		    notes[which], &why) == ANSWER_YES);
		memcpy(walks[which][i], record.values, sizeof(walks[0][0]));
		walks[which][i][6] = 0;
	}
}

/* The same weights and times, decayed there and here. */
static void
be_decayed(struct rig *rig)
{
	unsigned seed = 815;
	const char *why;

	for (int i = 0; i < 300; i++) {
		struct rep_state state = { 0 }, states[2];
		int64_t now;

		CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states,
		    &now, &why) != ANSWER_UNKNOWN);
		for (int j = 0; j < REP_SPANS; j++) {
			seed = seed * 1103515245 + 12345;
			state.good[j] = (int64_t)seed << (seed >> 8) % 18;
			seed = seed * 1103515245 + 12345;
			state.bad[j] = seed >> (seed >> 8) % 30;
		}
		seed = seed * 1103515245 + 12345;
		state.updated_ms = now - ((int64_t)seed >> (seed >> 8) % 30);
		CU_ASSERT(rep_set(rig->store, FIRST, &state, "", &why) ==
		    ANSWER_YES);
		CU_ASSERT(rep_read(rig->store, FIRST, SECOND_KEY, states,
		    &now, &why) == ANSWER_YES);
		rep_state_decay(&state, now);
		CASE_ASSERT(rig->back_end, memcmp(&state, &states[0],
		    sizeof(state)) == 0);
	}
}

static void burst(void) { rig_each("", be_burst); }
static void second(void) { rig_each("", be_second); }
static void once(void) { rig_each("", be_once); }
static void idle(void) { rig_each("", be_idle); }
static void backwards(void) { rig_each("", be_backwards); }
static void pinned(void) { rig_each("", be_pinned); }
static void decayed(void) { rig_each("", be_decayed); }

static void
walked(void)
{
	rig_each("", be_walked);
	/* Some seconds apart, of which the hour's weights know. */
	for (int i = 0; i < 200; i++)
		for (int j = 0; j < STORE_VALUES; j++)
			CU_ASSERT(llabs(walks[0][i][j] - walks[1][i][j]) <=
			    walks[0][i][j] / 50 + 2);
	CU_ASSERT_STRING_EQUAL(notes[0], notes[1]);
}

/* How exact it is: many small decays against one, and against exp2(). */
static void
precision(void)
{
	static const int64_t spans_ms[] = { HOUR, DAY, 14 * DAY };
	int64_t begin = INT64_C(1800000000000) / 336000 * 336000;

	for (int s = 0; s < REP_SPANS; s++) {
		int64_t weight = 1000 * REP_MESSAGE, at = begin;
		int64_t end = begin + spans_ms[s];
		double want = 500.0 * REP_MESSAGE;

		CU_ASSERT(about(rep_decay(weight, s, begin, end), 500, 0));
		for (; at < end; at += spans_ms[s] / 36000)
			weight = rep_decay(weight, s, at, at +
			    spans_ms[s] / 36000);
		CU_ASSERT(fabs((double)weight - want) < want / 10000);
		for (int64_t t = 1; t < 40 * spans_ms[s]; t = t * 5 / 3 + 1) {
			want = 1e9 * exp2(-(double)t / (double)spans_ms[s]);
			CU_ASSERT(fabs((double)rep_decay(1000 * REP_MESSAGE,
			    s, begin, begin + t) - want) <= want / 3000 + 2);
		}
	}
	CU_ASSERT(rep_decay(5, REP_HOUR, begin, INT64_MAX / 2) == 0);
	CU_ASSERT(rep_decay(5, REP_HOUR, begin, begin - DAY) == 5);
}

static const struct estimate_case {
	const char *name;
	double good[REP_SPANS], bad[REP_SPANS];
	double mean_min, mean_max, low_min, high_max;
	enum rep_span span;
} estimates[] = {
	{ "nothing", { 0 }, { 0 }, .5, .5, 0, 1, REP_FORTNIGHT },
	{ "one spam", { 0 }, { 1, 1, 1 }, .7, .8, .2, 1, REP_FORTNIGHT },
	{ "one ham", { 1, 1, 1 }, { 0 }, .2, .3, 0, .8, REP_FORTNIGHT },
	{ "sixty ham", { 3, 10, 60 }, { 0 }, 0, .02, 0, .06, REP_FORTNIGHT },
	{ "thirty spam", { 0 }, { 30, 30, 30 }, .97, 1, .89, 1,
	    REP_FORTNIGHT },
	{ "old friend, burst of spam", { 60, 1400, 20000 }, { 290, 300, 300 },
	    .8, .85, .75, .88, REP_HOUR },
	{ "old friend, few spams", { 60, 1400, 20000 }, { 2, 2, 2 },
	    .02, .05, .005, .1, REP_HOUR },
	{ "old foe, good hour", { 50, 50, 50 }, { 1, 300, 5000 },
	    .8, .9, .8, .9, REP_DAY },
	{ "old foe, good day", { 50, 1000, 1000 }, { 0, 10, 5000 },
	    .009, .02, 0, .03, REP_DAY },
};

static struct rep_state
state_of(const struct estimate_case *c)
{
	struct rep_state state = { 0 };

	for (int i = 0; i < REP_SPANS; i++) {
		state.good[i] = (int64_t)(c->good[i] * REP_MESSAGE);
		state.bad[i] = (int64_t)(c->bad[i] * REP_MESSAGE);
	}
	return state;
}

static void
estimated(void)
{
	for (size_t i = 0; i < sizeof(estimates) / sizeof(estimates[0]); i++) {
		const struct estimate_case *c = &estimates[i];
		struct rep_state state = state_of(c);
		struct rep_estimate e = rep_estimate(&rep_unknown, &state, 1);

		CASE_ASSERT(c->name, e.mean >= c->mean_min &&
		    e.mean <= c->mean_max);
		CASE_ASSERT(c->name, e.low >= c->low_min &&
		    e.high <= c->high_max);
		CASE_ASSERT(c->name, e.low <= e.mean && e.mean <= e.high);
		CASE_ASSERT(c->name, e.span == c->span);
	}
}

static void
chained(void)
{
	struct rep_state none = { 0 }, bad = state_of(&estimates[4]);
	struct rep_state good = state_of(&estimates[3]), rest;
	struct rep_estimate network, address, pin;

	/* A parent's word is worth four messages, however sure it is. */
	network = rep_estimate(&rep_unknown, &bad, 1);
	address = rep_estimate(&network, &none, 1);
	CU_ASSERT_DOUBLE_EQUAL(address.mean, network.mean, 1e-9);
	CU_ASSERT_DOUBLE_EQUAL(address.evidence, 4, 1e-9);
	CU_ASSERT(address.low < .65 && rep_score(&address) < 300);
	address = rep_estimate(&network, &good, 1);
	CU_ASSERT(address.mean < .1);

	/* A part is not counted again in the sum. */
	rest = rep_without(&bad, &bad);
	CU_ASSERT(memcmp(&rest, &none, sizeof(rest)) == 0);
	rest = rep_without(&none, &bad);
	CU_ASSERT(memcmp(&rest, &none, sizeof(rest)) == 0);

	/* A pin of the parent holds for the child, but for one of its own. */
	bad.pin = rep_pin_make(10, 0);
	network = rep_estimate(&rep_unknown, &bad, 1);
	address = rep_estimate(&network, &good, 1);
	CU_ASSERT(address.pinned && address.mean == .01);
	good.pin = rep_pin_make(990, 2000);
	pin = rep_estimate(&network, &good, 1999);
	CU_ASSERT(pin.pinned && pin.mean == .99);
	CU_ASSERT(rep_score(&pin) == 980);
	pin = rep_estimate(&network, &good, 2000);
	CU_ASSERT(pin.pinned && pin.mean == .01);
	CU_ASSERT(rep_score(&pin) == -980);
}

static void
chosen(void)
{
	struct rep_estimate much = { .evidence = 1000 }, enough = {
		.evidence = 25 }, little = { .evidence = 5 }, pin = {
		.evidence = 1, .pinned = true };

	CU_ASSERT(rep_choose(&much, &enough) == &enough);
	CU_ASSERT(rep_choose(&enough, &much) == &much);
	CU_ASSERT(rep_choose(&much, &little) == &much);
	CU_ASSERT(rep_choose(&little, &much) == &much);
	CU_ASSERT(rep_choose(&much, &pin) == &pin);
	CU_ASSERT(rep_choose(&pin, &much) == &pin);
}

SUITE(reputation_state,
    { "a burst after a clean message", burst },
    { "fifty in a second", second },
    { "nothing twice", once },
    { "idle values", idle },
    { "a clock that goes back", backwards },
    { "pins", pinned },
    { "decay in both languages", decayed },
    { "a walk in both languages", walked },
    { "precision", precision },
    { "estimates", estimated },
    { "chains of priors", chained },
    { "which estimate counts", chosen })
