/*
 * The outbound guard's memory.
 *
 * The last hour is this one on the clock and as much of the one before as is
 * still in it.  A day's busiest hour goes into the baseline when the day is
 * over: by three tenths if it is above it, else by a twentieth; never more than
 * what was allowed, so that who steals an account can't teach it much.
 */
#include "policy/guard_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "policy/store.h"
#include "policy/subject.h"

#define HOUR		3600000
#define DAY		(24 * INT64_C(3600000))
#define KEEP		(90 * DAY)
#define MESSAGE_KEEP	(2 * INT64_C(3600000))
#define MARK_SIZE	6		/* of a recipient, in a note */
#define MARKS_SIZE	(STORE_NOTE_MAX / MARK_SIZE * MARK_SIZE)
#define USER_MAX	300
#define SHOWN_MAX	1000
#define KEY_SIZE	128

enum { KEY_NOW, KEY_PAST, KEY_BASE, KEY_MESSAGE, KEY_RECIPIENT, KEY_COUNT };
enum { ARG_EVENT, ARG_FLOOR, ARG_FACTOR = ARG_FLOOR + GUARD_MEASURES,
	ARG_MOST, ARG_SUSPEND, ARG_COUNT };
enum { TEXT_MARK, TEXT_USER, TEXT_COUNT };
enum { RESULT_LEVEL, RESULT_WAIT, RESULT_FIRST, RESULT_WORST, RESULT_COUNTS,
	RESULT_LIMITS = RESULT_COUNTS + GUARD_MEASURES,
	RESULT_COUNT = RESULT_LIMITS + GUARD_MEASURES };

/* Of the records; in the script plus 1.  The hour's counts are behind HOUR_NO. */
enum { HOUR_NO, TOLD = 1 + GUARD_MEASURES, UNTIL, LAST };
enum { PEAK = GUARD_MEASURES };		/* PAST: the hour before, then this */
enum { BASE_DAY = GUARD_MEASURES };	/* BASE: thousandths, then this */
enum { TAKEN, TAKEN_LEVEL };		/* of a message */

const char *const guard_measure_names[GUARD_MEASURES] = {
	[GUARD_MESSAGES] = "messages", [GUARD_RECIPIENTS] = "recipients",
	[GUARD_NEW] = "new_recipients", [GUARD_BOUNCES] = "bounces",
};

/* --- the step --- */

struct watch {
	struct store_record now, past, base, message;
	int64_t add[GUARD_MEASURES];
	bool known;			/* that recipient of that message */
};

static void
roll_hour(struct watch *w, int64_t hour)
{
	int64_t by = hour - w->now.values[HOUR_NO];

	if (by <= 0)
		return;
	for (int i = 0; i < GUARD_MEASURES; i++) {
		w->past.values[i] = by == 1 ? w->now.values[1 + i] : 0;
		w->now.values[1 + i] = 0;
	}
	w->now.values[HOUR_NO] = hour;
}

static void
learn(struct watch *w, const int64_t *a)
{
	for (int i = 0; i < GUARD_MEASURES; i++) {
		int64_t *base = &w->base.values[i];
		int64_t floor = a[ARG_FLOOR + i] * 1000;
		int64_t most = a[ARG_FACTOR] * (*base > floor ? *base : floor);
		int64_t peak = w->past.values[PEAK + i] * 1000;

		if (peak > most)
			peak = most;
		if (peak > *base)
			*base += (peak - *base) * 3 / 10;
		else
			*base -= (*base - peak) / 20;
		w->past.values[PEAK + i] = 0;
	}
}

static void
roll_day(struct watch *w, const int64_t *a, int64_t day)
{
	int64_t days;

	if (w->base.values[BASE_DAY] == 0)
		w->base.values[BASE_DAY] = day;
	days = day - w->base.values[BASE_DAY];
	if (days <= 0)
		return;
	for (int64_t i = 0; i < days && i < 30; i++)
		learn(w, a);
	w->base.values[BASE_DAY] = day;
	w->now.values[TOLD] = 0;
}

static bool
has_mark(const char *note, const char *mark)
{
	for (size_t len = strlen(note); len >= MARK_SIZE; len -= MARK_SIZE) {
		if (memcmp(note, mark, MARK_SIZE) == 0)
			return true;
		note += MARK_SIZE;
	}
	return false;
}

static void
read_all(struct watch *w, struct store_records *records,
    const char *const *keys, const int64_t *a, const char *mark)
{
	struct store_record recipient;
	bool first;

	store_get(records, keys[KEY_NOW], &w->now);
	store_get(records, keys[KEY_PAST], &w->past);
	store_get(records, keys[KEY_BASE], &w->base);
	first = !store_get(records, keys[KEY_MESSAGE], &w->message);
	w->known = a[ARG_EVENT] != GUARD_LOOK && has_mark(w->message.note,
	    mark);
	if (w->known || a[ARG_EVENT] == GUARD_LOOK)
		return;
	if (a[ARG_EVENT] == GUARD_BOUNCE) {
		w->add[GUARD_BOUNCES] = 1;
		return;
	}
	w->add[GUARD_MESSAGES] = first;
	w->add[GUARD_RECIPIENTS] = 1;
	w->add[GUARD_NEW] = !store_get(records, keys[KEY_RECIPIENT],
	    &recipient);
}

static void
judge(const struct watch *w, const int64_t *a, int64_t now, int64_t *results)
{
	int64_t *level = &results[RESULT_LEVEL], count, limit, this;

	for (int i = 0; i < GUARD_MEASURES; i++) {
		count = w->now.values[1 + i] + w->past.values[i] *
		    (HOUR - now % HOUR) / HOUR + w->add[i];
		limit = a[ARG_FACTOR] * w->base.values[i] / 1000;
		if (limit < a[ARG_FLOOR + i])
			limit = a[ARG_FLOOR + i];
		this = count > 4 * limit ? GUARD_SUSPEND : count > 2 * limit ?
		    GUARD_HOLD : count > limit ? GUARD_SLOW : GUARD_CALM;
		if (this > *level) {
			*level = this;
			results[RESULT_WORST] = i;
		}
		results[RESULT_COUNTS + i] = count;
		results[RESULT_LIMITS + i] = limit;
	}
	if (*level > a[ARG_MOST])
		*level = a[ARG_MOST];
	if (w->now.values[UNTIL] > now)
		*level = GUARD_SUSPEND;
}

/* How long to wait; a suspension begins here. */
static void
delay(struct watch *w, const int64_t *a, int64_t now, int64_t *results)
{
	int64_t *v = w->now.values, pace;

	if (results[RESULT_LEVEL] == GUARD_SUSPEND) {
		if (v[UNTIL] <= now)
			v[UNTIL] = now + a[ARG_SUSPEND];
		results[RESULT_WAIT] = v[UNTIL] - now;
	} else if (results[RESULT_LEVEL] == GUARD_SLOW &&
	    a[ARG_EVENT] == GUARD_RECIPIENT) {
		pace = HOUR / results[RESULT_LIMITS + results[RESULT_WORST]];
		if (v[LAST] + pace > now)
			results[RESULT_WAIT] = v[LAST] + pace - now;
	}
	results[RESULT_FIRST] = results[RESULT_LEVEL] > v[TOLD];
	if (results[RESULT_FIRST] != 0)
		v[TOLD] = results[RESULT_LEVEL];
}

static void
put(struct store_records *records, const char *key,
    struct store_record *record, int64_t keep_ms)
{
	record->expires_ms = store_now(records) + keep_ms;
	store_put(records, key, record);
}

static void
put_all(struct watch *w, struct store_records *records,
    const char *const *keys, const int64_t *a, const char *mark,
    const int64_t *results)
{
	struct store_record recipient = { .note = "" };
	char note[STORE_NOTE_MAX + MARK_SIZE + 1];
	size_t len;

	for (int i = 0; i < GUARD_MEASURES; i++) {
		w->now.values[1 + i] += w->add[i];
		if (results[RESULT_LEVEL] < GUARD_HOLD &&
		    w->past.values[PEAK + i] < results[RESULT_COUNTS + i])
			w->past.values[PEAK + i] = results[RESULT_COUNTS + i];
	}
	if (a[ARG_EVENT] == GUARD_RECIPIENT)
		w->now.values[LAST] = store_now(records);
	w->message.values[TAKEN]++;
	w->message.values[TAKEN_LEVEL] = results[RESULT_LEVEL];
	len = (size_t)snprintf(note, sizeof(note), "%s%s", w->message.note,
	    mark);
	w->message.note = len > MARKS_SIZE ? note + MARK_SIZE : note;
	put(records, keys[KEY_NOW], &w->now, KEEP);
	put(records, keys[KEY_PAST], &w->past, KEEP);
	put(records, keys[KEY_BASE], &w->base, KEEP);
	put(records, keys[KEY_MESSAGE], &w->message, MESSAGE_KEEP);
	if (a[ARG_EVENT] == GUARD_RECIPIENT)
		put(records, keys[KEY_RECIPIENT], &recipient, KEEP);
}

static enum answer
watch_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t now = store_now(records);
	struct watch w = { .known = false };

	memset(results, 0, RESULT_COUNT * sizeof(results[0]));
	read_all(&w, records, keys, a, texts[TEXT_MARK]);
	roll_hour(&w, now / HOUR);
	roll_day(&w, a, now / DAY);
	judge(&w, a, now, results);
	if (w.now.values[UNTIL] > now)
		results[RESULT_WAIT] = w.now.values[UNTIL] - now;
	if (w.known)
		results[RESULT_LEVEL] = w.message.values[TAKEN_LEVEL];
	if (w.known || a[ARG_EVENT] == GUARD_LOOK)
		return ANSWER_YES;
	delay(&w, a, now, results);
	w.now.note = texts[TEXT_USER];
	if (a[ARG_EVENT] == GUARD_RECIPIENT && results[RESULT_WAIT] > 0) {
		put(records, keys[KEY_NOW], &w.now, KEEP);
		put(records, keys[KEY_PAST], &w.past, KEEP);
		put(records, keys[KEY_BASE], &w.base, KEEP);
		return ANSWER_NO;
	}
	put_all(&w, records, keys, a, texts[TEXT_MARK], results);
	return ANSWER_YES;
}

static const struct store_step watch_step = {
	.name = "guard",
	.keys = KEY_COUNT, .arguments = ARG_COUNT, .texts = TEXT_COUNT,
	.results = RESULT_COUNT,
	.run = watch_run,
	.script =
	    "local event, factor, most, suspend = a[1], a[6], a[7], a[8]\n"
	    "local mark, keep = t[1], 90 * 86400000\n"
	    "local function none() return {0, 0, 0, 0, 0, 0, 0, 0} end\n"
	    "local n, p, b = get(k[1]) or none(), get(k[2]) or none(),\n"
	    "  get(k[3]) or none()\n"
	    "local m = get(k[4])\n"
	    "local first, known = not m, false\n"
	    "m = m or none()\n"
	    "local note = m.note or ''\n"
	    "for i = 1, #note, 6 do\n"
	    "  if note:sub(i, i + 5) == mark then known = event ~= 2 end\n"
	    "end\n"
	    "local add = {0, 0, 0, 0}\n"
	    "if event == 1 and not known then add[4] = 1 end\n"
	    "if event == 0 and not known then\n"
	    "  add = {first and 1 or 0, 1, get(k[5]) and 0 or 1, 0}\n"
	    "end\n"
	    "local hour, day = math.floor(now / 3600000),\n"
	    "  math.floor(now / 86400000)\n"
	    "if hour > n[1] then\n"
	    "  for i = 1, 4 do\n"
	    "    p[i] = hour == n[1] + 1 and n[1 + i] or 0\n"
	    "    n[1 + i] = 0\n"
	    "  end\n"
	    "  n[1] = hour\n"
	    "end\n"
	    "if b[5] == 0 then b[5] = day end\n"
	    "if day > b[5] then\n"
	    "  for d = 1, math.min(day - b[5], 30) do\n"
	    "    for i = 1, 4 do\n"
	    "      local peak = math.min(p[4 + i] * 1000,\n"
	    "        factor * math.max(b[i], a[1 + i] * 1000))\n"
	    "      if peak > b[i] then\n"
	    "        b[i] = b[i] + math.floor((peak - b[i]) * 3 / 10)\n"
	    "      else\n"
	    "        b[i] = b[i] - math.floor((b[i] - peak) / 20)\n"
	    "      end\n"
	    "      p[4 + i] = 0\n"
	    "    end\n"
	    "  end\n"
	    "  b[5], n[6] = day, 0\n"
	    "end\n"
	    "local left = 3600000 - now % 3600000\n"
	    "local level, worst, c, l = 0, 1, {}, {}\n"
	    "for i = 1, 4 do\n"
	    "  c[i] = n[1 + i] + math.floor(p[i] * left / 3600000) + add[i]\n"
	    "  l[i] = math.max(a[1 + i], math.floor(factor * b[i] / 1000))\n"
	    "  local x = c[i] > 4 * l[i] and 3 or c[i] > 2 * l[i] and 2 or\n"
	    "    c[i] > l[i] and 1 or 0\n"
	    "  if x > level then level, worst = x, i end\n"
	    "end\n"
	    "level = math.min(level, most)\n"
	    "local wait, told = 0, 0\n"
	    "if n[7] > now then level, wait = 3, n[7] - now end\n"
	    "local function answer(yes)\n"
	    "  return yes, level, wait, told, worst - 1, c[1], c[2], c[3],\n"
	    "    c[4], l[1], l[2], l[3], l[4]\n"
	    "end\n"
	    "if known then level = m[2] end\n"
	    "if known or event == 2 then return answer(1) end\n"
	    "if level == 3 then\n"
	    "  if n[7] <= now then n[7] = now + suspend end\n"
	    "  wait = n[7] - now\n"
	    "elseif level == 1 and event == 0 then\n"
	    "  wait = math.max(0, n[8] + math.floor(3600000 / l[worst]) - now)\n"
	    "end\n"
	    "if level > n[6] then n[6], told = level, 1 end\n"
	    "n.note = t[2]\n"
	    "local counts = event ~= 0 or wait == 0\n"
	    "if counts then\n"
	    "  for i = 1, 4 do\n"
	    "    n[1 + i] = n[1 + i] + add[i]\n"
	    "    if level < 2 then p[4 + i] = math.max(p[4 + i], c[i]) end\n"
	    "  end\n"
	    "  if event == 0 then n[8] = now end\n"
	    "  m[1], m[2], m.note = m[1] + 1, level, note .. mark\n"
	    "  if #m.note > 498 then m.note = m.note:sub(7) end\n"
	    "  put(k[4], m, now + 7200000)\n"
	    "  if event == 0 then put(k[5], none(), now + keep) end\n"
	    "end\n"
	    "put(k[1], n, now + keep)\n"
	    "put(k[2], p, now + keep)\n"
	    "put(k[3], b, now + keep)\n"
	    "return answer(counts and 1 or 0)\n",
};

static enum answer
release_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record record;

	(void)a;
	(void)texts;
	(void)results;
	if (!store_get(records, keys[0], &record))
		return ANSWER_NO;
	store_delete(records, keys[0]);
	store_delete(records, keys[1]);
	return ANSWER_YES;
}

static const struct store_step release_step = {
	.name = "guard-release",
	.keys = 2,
	.run = release_run,
	.script = "if not get(k[1]) then return 0 end\n"
	    "del(k[1])\n"
	    "del(k[2])\n"
	    "return 1\n",
};

/* --- for others --- */

struct names {
	char keys[KEY_COUNT][KEY_SIZE];
	const char *pointers[KEY_COUNT];
	char mark[SUBJECT_DIGEST_HEX + 1];
};

static void
make_names(struct names *names, const char *user, enum guard_event event,
    const char *message, const char *recipient)
{
	char user_hex[SUBJECT_DIGEST_HEX + 1];
	char message_hex[SUBJECT_DIGEST_HEX + 1];

	subject_digest(&user, 1, user_hex);
	subject_digest(&message, 1, message_hex);
	subject_digest(&recipient, 1, names->mark);
	snprintf(names->keys[KEY_NOW], KEY_SIZE, "guard:{%s}", user_hex);
	snprintf(names->keys[KEY_PAST], KEY_SIZE, "guard-past:{%s}",
	    user_hex);
	snprintf(names->keys[KEY_BASE], KEY_SIZE, "guard-base:{%s}",
	    user_hex);
	snprintf(names->keys[KEY_MESSAGE], KEY_SIZE, "guard-by:{%s}:%s%s",
	    user_hex, event == GUARD_BOUNCE ? "b" : "", message_hex);
	snprintf(names->keys[KEY_RECIPIENT], KEY_SIZE, "guard-to:{%s}:%s",
	    user_hex, names->mark);
	names->mark[MARK_SIZE] = '\0';
	for (size_t i = 0; i < KEY_COUNT; i++)
		names->pointers[i] = names->keys[i];
}

enum answer
guard_watch(struct store *store, const struct guard_limits *limits,
    enum guard_event event, const char *user, const char *message,
    const char *recipient, struct guard_state *state, const char **why)
{
	const int64_t *floor = limits->floor;
	const int64_t arguments[ARG_COUNT] = { event, floor[0], floor[1],
		floor[2], floor[3], limits->factor, limits->most,
		limits->suspend_ms };
	int64_t results[RESULT_COUNT] = { 0 };
	char shown[USER_MAX + 1];
	struct names names;
	const char *const texts[TEXT_COUNT] = { names.mark, shown };
	enum answer answer;

	make_names(&names, user, event, message, recipient);
	snprintf(shown, sizeof(shown), "%s", user);
	for (char *c = shown; *c != '\0'; c++)
		if ((unsigned char)*c < ' ')
			*c = '?';
	answer = store_run(store, &watch_step, names.pointers, arguments,
	    texts, results, why);
	memset(state, 0, sizeof(*state));
	if (answer == ANSWER_UNKNOWN)
		return answer;
	state->level = (enum guard_level)results[RESULT_LEVEL];
	state->wait_ms = results[RESULT_WAIT];
	state->first = results[RESULT_FIRST] != 0;
	state->worst = (enum guard_measure)results[RESULT_WORST];
	memcpy(state->count, results + RESULT_COUNTS, sizeof(state->count));
	memcpy(state->limit, results + RESULT_LIMITS, sizeof(state->limit));
	return answer;
}

enum answer
guard_watch_release(struct store *store, const char *user, const char **why)
{
	struct names names;

	make_names(&names, user, GUARD_LOOK, "", "");
	return store_run(store, &release_step, names.pointers, NULL, NULL,
	    NULL, why);
}

/* --- show --- */

struct found {
	struct arena *arena;
	const char *users[SHOWN_MAX];
	size_t count;
};

static int
find_user(void *argument, const char *key, const struct store_record *record)
{
	struct found *found = argument;

	(void)key;
	if (found->count == SHOWN_MAX)
		return 1;
	found->users[found->count++] = arena_strdup(found->arena,
	    record->note);
	return 0;
}

static enum answer
show_one(struct store *store, const struct guard_limits *limits,
    const char *user, struct buf *out, const char **why)
{
	static const char *const levels[] = { "calm", "slow", "hold",
		"suspended" };
	struct guard_state state;

	if (guard_watch(store, limits, GUARD_LOOK, user, "", "", &state,
	    why) == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	buf_printf(out, "%s %s", user, levels[state.level]);
	if (state.level == GUARD_SUSPEND && state.wait_ms > 0)
		buf_printf(out, " for=%lld", (long long)(state.wait_ms + 999) /
		    1000);
	for (int i = 0; i < GUARD_MEASURES; i++)
		buf_printf(out, " %s=%lld/%lld", guard_measure_names[i],
		    (long long)state.count[i], (long long)state.limit[i]);
	buf_putc(out, '\n');
	return ANSWER_YES;
}

enum answer
guard_watch_show(struct store *store, const struct guard_limits *limits,
    const char *user, struct buf *out, const char **why)
{
	struct found *found;
	enum answer answer;

	if (user != NULL)
		return show_one(store, limits, user, out, why);
	if ((found = calloc(1, sizeof(*found))) == NULL)
		fatal("out of memory (guard)");
	found->arena = arena_new(0);
	answer = store_scan(store, "guard:{", find_user, found, why);
	for (size_t i = 0; i < found->count && answer == ANSWER_YES; i++)
		answer = show_one(store, limits, found->users[i], out, why);
	arena_free(&found->arena);
	free(found);
	return answer;
}
