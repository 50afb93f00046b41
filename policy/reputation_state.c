/*
 * The state of entities and its steps, in C and Lua.
 *
 * A decay by n ticks is a product of constants, one for each bit of n, in whole
 * numbers below 2^53.  Ticks are counted on the clock, not since the last
 * change, so that what changes ten times in a tick decays no less.
 */
#include "policy/reputation_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "policy/reputation_entity.h"
#include "policy/store.h"

#define TICKS		3600	/* of a half-life */
#define ONE_BITS	26	/* factors are 2^-26 of a whole number */
#define ONE		(INT64_C(1) << ONE_BITS)
#define WEIGHT_MAX	(INT64_C(1) << 50)
#define HALVINGS_MAX	52	/* nothing is left of any weight */
#define PIN_FOR_EVER_MS	(3650 * INT64_C(86400000))

/* As literals in the scripts. */
_Static_assert(REP_LIFETIME_MS == 4838400000, "lifetime in the scripts");
_Static_assert(REP_EVENT_MS == 604800000, "event time in the scripts");
_Static_assert(PIN_FOR_EVER_MS == 315360000000, "pin's time in the scripts");
_Static_assert(OUTCOME_KINDS == 9, "number of counts in the scripts");

static const int64_t tick_ms[REP_SPANS] = { 1000, 24000, 336000 };

/* 2^(26 - 2^i / 3600), rounded. */
static const int64_t factors[] = { 67095944, 67083027, 67057199, 67005574,
	66902443, 66696657, 66286981, 65475165, 63881236, 60808842, 55100251,
	45240487 };

void
rep_state_unpack(const int64_t values[STORE_VALUES], struct rep_state *state)
{
	for (int i = 0; i < REP_SPANS; i++) {
		state->good[i] = values[2 * i];
		state->bad[i] = values[2 * i + 1];
	}
	state->updated_ms = values[2 * REP_SPANS];
	state->pin = values[2 * REP_SPANS + 1];
}

void
rep_state_pack(const struct rep_state *state, int64_t values[STORE_VALUES])
{
	for (int i = 0; i < REP_SPANS; i++) {
		values[2 * i] = state->good[i];
		values[2 * i + 1] = state->bad[i];
	}
	values[2 * REP_SPANS] = state->updated_ms;
	values[2 * REP_SPANS + 1] = state->pin;
}

int64_t
rep_decay(int64_t weight, enum rep_span span, int64_t from_ms, int64_t to_ms)
{
	int64_t ticks = to_ms / tick_ms[span] - from_ms / tick_ms[span];
	int64_t factor = ONE;

	if (ticks <= 0 || weight == 0)
		return weight;
	if (ticks / TICKS >= HALVINGS_MAX)
		return 0;
	weight >>= ticks / TICKS;
	ticks %= TICKS;
	for (size_t i = 0; ticks > 0; i++, ticks >>= 1)
		if ((ticks & 1) != 0)
			factor = factor * factors[i] >> ONE_BITS;
	return (weight >> ONE_BITS) * factor +
	    ((weight & (ONE - 1)) * factor >> ONE_BITS);
}

void
rep_state_decay(struct rep_state *state, int64_t to_ms)
{
	if (to_ms <= state->updated_ms)
		return;
	for (int i = 0; i < REP_SPANS; i++) {
		state->good[i] = rep_decay(state->good[i], i,
		    state->updated_ms, to_ms);
		state->bad[i] = rep_decay(state->bad[i], i,
		    state->updated_ms, to_ms);
	}
	state->updated_ms = to_ms;
}

int64_t
rep_pin_make(int spam, int64_t until_ms)
{
	return (until_ms + 999) / 1000 * 1024 + spam + 1;
}

int64_t
rep_pin_until_ms(int64_t pin)
{
	return pin / 1024 * 1000;
}

int
rep_pin_score(int64_t pin, int64_t now_ms)
{
	int64_t until_ms = rep_pin_until_ms(pin);

	if (pin == 0 || (until_ms != 0 && until_ms <= now_ms))
		return -1;
	return (int)(pin % 1024) - 1;
}

void
rep_counts_parse(const char *note, int64_t counts[OUTCOME_KINDS])
{
	char *end;

	for (int i = 0; i < OUTCOME_KINDS; i++) {
		counts[i] = strtoll(note, &end, 10);
		note = *end == ',' ? end + 1 : end;
	}
}

void
rep_counts_print(const int64_t counts[OUTCOME_KINDS],
    char text[REP_COUNTS_SIZE])
{
	int len = 0;

	for (int i = 0; i < OUTCOME_KINDS; i++)
		len += snprintf(text + len, REP_COUNTS_SIZE - (size_t)len,
		    "%s%" PRId64, i > 0 ? "," : "", counts[i]);
}

/* --- learning --- */

/* Both scripts that decay begin with it. */
#define DECAY								\
    "local ticks = {1000, 24000, 336000}\n"				\
    "local factors = {67095944, 67083027, 67057199, 67005574, 66902443,\n" \
    "  66696657, 66286981, 65475165, 63881236, 60808842, 55100251,\n"	\
    "  45240487}\n"							\
    "local floor, one = math.floor, 67108864\n"				\
    "local function left(span, from, to)\n"				\
    "  local n = floor(to / ticks[span]) - floor(from / ticks[span])\n"	\
    "  if n <= 0 then return 0, nil end\n"				\
    "  local f, i, halvings = one, 1, floor(n / 3600)\n"		\
    "  n = n % 3600\n"							\
    "  while n > 0 do\n"						\
    "    if n % 2 == 1 then f = floor(f * factors[i] / one) end\n"	\
    "    n = floor(n / 2)\n"						\
    "    i = i + 1\n"							\
    "  end\n"								\
    "  return halvings, f\n"						\
    "end\n"								\
    "local function decay(w, halvings, f)\n"				\
    "  if not f then return w end\n"					\
    "  if halvings >= 52 then return 0 end\n"				\
    "  w = floor(w / 2 ^ halvings)\n"					\
    "  local low = w % one\n"						\
    "  return (w - low) / one * f + floor(low * f / one)\n"		\
    "end\n"								\
    "local function age(v)\n"						\
    "  if now <= v[7] then return end\n"				\
    "  for i = 1, 3 do\n"						\
    "    local halvings, f = left(i, v[7], now)\n"			\
    "    v[2 * i - 1] = decay(v[2 * i - 1], halvings, f)\n"		\
    "    v[2 * i] = decay(v[2 * i], halvings, f)\n"			\
    "  end\n"								\
    "  v[7] = now\n"							\
    "end\n"

enum { ARG_KIND, ARG_GOOD, ARG_BAD, ARG_WHOLE, ARG_UNDO, ARGS };
enum { KEY_FIRST, KEY_SECOND, KEY_EVENT, KEYS };

static int64_t
clamp(int64_t weight)
{
	return weight < 0 ? 0 : weight > WEIGHT_MAX ? WEIGHT_MAX : weight;
}

/* A pin may have it kept for longer. */
static void
put_state(struct store_records *records, const char *key,
    struct store_record *record, const struct rep_state *state)
{
	int64_t expires = store_now(records) + REP_LIFETIME_MS;

	rep_state_pack(state, record->values);
	if (state->pin == 0 || record->expires_ms < expires)
		record->expires_ms = expires;
	store_put(records, key, record);
}

/* sign -1 takes the event back, what has been left of it. */
static void
change(struct store_records *records, const char *key, const int64_t *event,
    int sign)
{
	int64_t counts[OUTCOME_KINDS], now = store_now(records);
	char note[REP_COUNTS_SIZE];
	struct store_record record;
	struct rep_state state;

	if (!store_get(records, key, &record) && sign < 0)
		return;
	rep_state_unpack(record.values, &state);
	rep_state_decay(&state, now);
	if (state.updated_ms == 0)
		state.updated_ms = now;
	for (int i = 0; i < REP_SPANS; i++) {
		state.good[i] = clamp(state.good[i] + sign * rep_decay(
		    event[REP_EVENT_GOOD], i, event[REP_EVENT_AT], now));
		state.bad[i] = clamp(state.bad[i] + sign * rep_decay(
		    event[REP_EVENT_BAD], i, event[REP_EVENT_AT], now));
	}
	rep_counts_parse(record.note, counts);
	counts[event[REP_EVENT_KIND]] += sign;
	if (counts[event[REP_EVENT_KIND]] < 0)
		counts[event[REP_EVENT_KIND]] = 0;
	rep_counts_print(counts, note);
	record.note = note;
	put_state(records, key, &record, &state);
}

static enum answer
learn_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record event;
	int64_t *v = event.values;
	bool counts;

	(void)results;
	store_get(records, keys[KEY_EVENT], &event);
	counts = v[REP_EVENT_STATE] == REP_EVENT_COUNTS;
	if (counts != (a[ARG_UNDO] != 0))
		return ANSWER_NO;
	if (!counts) {
		v[REP_EVENT_KIND] = a[ARG_KIND];
		v[REP_EVENT_GOOD] = a[ARG_GOOD];
		v[REP_EVENT_BAD] = a[ARG_BAD];
		v[REP_EVENT_AT] = now;
		v[REP_EVENT_WHOLE] = a[ARG_WHOLE];
		event.note = texts[0];
	}
	change(records, keys[KEY_FIRST], v, counts ? -1 : 1);
	if (v[REP_EVENT_WHOLE] != 0)
		change(records, keys[KEY_SECOND], v, counts ? -1 : 1);
	v[REP_EVENT_STATE] = counts ? REP_EVENT_UNDONE : REP_EVENT_COUNTS;
	event.expires_ms = now + REP_EVENT_MS;
	store_put(records, keys[KEY_EVENT], &event);
	return ANSWER_YES;
}

static const struct store_step learn = {
	.name = "reputation_learn",
	.keys = KEYS, .arguments = ARGS, .texts = 1,
	.run = learn_run,
	.script = DECAY
	    "local e = get(k[3])\n"
	    "local counts = e and e[1] == 2\n"
	    "if counts and a[5] == 0 or not counts and a[5] ~= 0 then\n"
	    "  return 0\n"
	    "end\n"
	    "if not counts then\n"
	    "  e = {0, a[1], a[2], a[3], now, a[4], note = t[1]}\n"
	    "end\n"
	    "local sign, gain = counts and -1 or 1, {}\n"
	    "for i = 1, 3 do\n"
	    "  local halvings, f = left(i, e[5], now)\n"
	    "  gain[2 * i - 1] = sign * decay(e[3], halvings, f)\n"
	    "  gain[2 * i] = sign * decay(e[4], halvings, f)\n"
	    "end\n"
	    "local count = '^(' .. string.rep('%d+,', e[2]) .. ')(%d+)(.*)$'\n"
	    "local function change(key)\n"
	    "  local v = get(key)\n"
	    "  if not v then\n"
	    "    if counts then return end\n"
	    "    v = {0, 0, 0, 0, 0, 0, 0, 0, note = '', expires = 0}\n"
	    "  end\n"
	    "  age(v)\n"
	    "  if v[7] == 0 then v[7] = now end\n"
	    "  for i = 1, 6 do\n"
	    "    v[i] = math.min(math.max(v[i] + gain[i], 0), 2 ^ 50)\n"
	    "  end\n"
	    "  if not string.find(v.note, count) then\n"
	    "    v.note = string.match(v.note .. ',0,0,0,0,0,0,0,0,0',\n"
	    "      '%d.*')\n"
	    "  end\n"
	    "  local before, n, after = string.match(v.note, count)\n"
	    "  v.note = before .. math.max(n + sign, 0) .. after\n"
	    "  local expires = now + 4838400000\n"
	    "  if v[8] ~= 0 then expires = math.max(expires, v.expires) end\n"
	    "  put(key, v, expires)\n"
	    "end\n"
	    "change(k[1])\n"
	    "if e[6] ~= 0 then change(k[2]) end\n"
	    "e[1] = counts and 1 or 2\n"
	    "put(k[3], e, now + 604800000)\n"
	    "return 1\n",
};

enum answer
rep_learn(struct store *store, const struct rep_change *c, const char **why)
{
	const char *const keys[KEYS] = { c->first, c->second, c->event };
	const int64_t arguments[ARGS] = { c->kind, c->good, c->bad, c->whole,
		c->undo };
	char id[REP_EVENT_ID_MAX + 1];
	const char *const texts[] = { id };
	int64_t results[STORE_RESULTS];

	snprintf(id, sizeof(id), "%s", c->id);
	return store_run(store, &learn, keys, arguments, texts, results, why);
}

/* --- reading --- */

enum { RESULT_NOW = 2 * STORE_VALUES - 2, READ_RESULTS };
_Static_assert(READ_RESULTS <= STORE_RESULTS, "results of a read");

static bool
read_one(struct store_records *records, const char *key, int64_t *results)
{
	struct store_record record;
	struct rep_state state;
	bool found = store_get(records, key, &record);

	rep_state_unpack(record.values, &state);
	rep_state_decay(&state, store_now(records));
	rep_state_pack(&state, record.values);
	memcpy(results, record.values, 6 * sizeof(results[0]));
	results[6] = state.pin;
	return found;
}

static enum answer
read_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	bool first = read_one(records, keys[0], results);
	bool second = read_one(records, keys[1], results + STORE_VALUES - 1);

	(void)a;
	(void)texts;
	results[RESULT_NOW] = store_now(records);
	return first || second ? ANSWER_YES : ANSWER_NO;
}

static const struct store_step read_both = {
	.name = "reputation_read",
	.keys = 2, .results = READ_RESULTS,
	.run = read_run,
	.script = DECAY
	    "local none = {0, 0, 0, 0, 0, 0, 0, 0}\n"
	    "local x, y = get(k[1]), get(k[2])\n"
	    "if x then age(x) end\n"
	    "if y then age(y) end\n"
	    "local found = (x or y) and 1 or 0\n"
	    "x, y = x or none, y or none\n"
	    "return found, x[1], x[2], x[3], x[4], x[5], x[6], x[8],\n"
	    "  y[1], y[2], y[3], y[4], y[5], y[6], y[8], now\n",
};

enum answer
rep_read(struct store *store, const char *first, const char *second,
    struct rep_state states[2], int64_t *now_ms, const char **why)
{
	const char *const keys[] = { first, second };
	int64_t results[STORE_RESULTS] = { 0 }, values[STORE_VALUES];
	enum answer answer;

	answer = store_run(store, &read_both, keys, NULL, NULL, results, why);
	if (answer == ANSWER_UNKNOWN)
		memset(results, 0, sizeof(results));
	*now_ms = results[RESULT_NOW];
	for (int i = 0; i < 2; i++) {
		memcpy(values, results + i * (STORE_VALUES - 1),
		    6 * sizeof(values[0]));
		values[6] = *now_ms;
		values[7] = results[i * (STORE_VALUES - 1) + 6];
		rep_state_unpack(values, &states[i]);
	}
	return answer;
}

/* --- what operators do --- */

/* A pin is kept until it ends, and then as long as any entity. */
static int64_t
expiry(int64_t pin, int64_t now)
{
	int64_t until = rep_pin_until_ms(pin);

	if (pin != 0 && until == 0)
		return now + PIN_FOR_EVER_MS;
	return (until > now ? until : now) + REP_LIFETIME_MS;
}

#define EXPIRY								\
    "local function expiry(pin)\n"					\
    "  local till = math.floor(pin / 1024) * 1000\n"			\
    "  if pin ~= 0 and till == 0 then return now + 315360000000 end\n"	\
    "  return math.max(now, till) + 4838400000\n"			\
    "end\n"

static enum answer
set_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record record = { .note = texts[0] };

	(void)results;
	memcpy(record.values, a, sizeof(record.values));
	if (record.values[6] > now)
		record.values[6] = now;
	record.expires_ms = expiry(a[7], now);
	store_put(records, keys[0], &record);
	return ANSWER_YES;
}

static const struct store_step set = {
	.name = "reputation_set",
	.keys = 1, .arguments = STORE_VALUES, .texts = 1,
	.run = set_run,
	.script = EXPIRY
	    "a[7] = math.min(a[7], now)\n"
	    "a.note = t[1]\n"
	    "put(k[1], a, expiry(a[8]))\n"
	    "return 1\n",
};

enum answer
rep_set(struct store *store, const char *key, const struct rep_state *state,
    const char *note, const char **why)
{
	int64_t arguments[STORE_VALUES], results[STORE_RESULTS];
	const char *const texts[] = { note };

	rep_state_pack(state, arguments);
	return store_run(store, &set, &key, arguments, texts, results, why);
}

static enum answer
pin_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record record;

	(void)texts;
	(void)results;
	store_get(records, keys[0], &record);
	record.values[7] = a[0];
	if (record.values[6] == 0)
		record.values[6] = now;
	record.expires_ms = expiry(a[0], now);
	store_put(records, keys[0], &record);
	return ANSWER_YES;
}

static const struct store_step pin_step = {
	.name = "reputation_pin",
	.keys = 1, .arguments = 1,
	.run = pin_run,
	.script = EXPIRY
	    "local v = get(k[1]) or {0, 0, 0, 0, 0, 0, 0, 0}\n"
	    "v[8] = a[1]\n"
	    "if v[7] == 0 then v[7] = now end\n"
	    "put(k[1], v, expiry(a[1]))\n"
	    "return 1\n",
};

enum answer
rep_pin(struct store *store, const char *key, int64_t pin, const char **why)
{
	int64_t results[STORE_RESULTS];

	return store_run(store, &pin_step, &key, &pin, NULL, results, why);
}
