/*
 * The outbound guard's memory.
 *
 * The last hour is this one on the clock and as much of the one before as is
 * still in it.  A day's busiest hour goes into the baseline when the day is
 * over: by three tenths if it is above it, else by a twentieth; never more than
 * what was allowed, so that who steals an account can't teach it much.
 *
 * Away from home (guard_places.h) the limits are half of that, so that each
 * level comes one earlier; and several countries at a time are a measure of
 * their own.
 */
#include "policy/guard_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "policy/guard_places.h"
#include "policy/guard_script.h"
#include "policy/store.h"
#include "policy/subject.h"

#define HOUR		3600000
#define DAY		(24 * INT64_C(3600000))
#define KEEP		(90 * DAY)
#define MESSAGE_KEEP	(2 * INT64_C(3600000))
#define MARK_SIZE	6		/* of a recipient, in a note */
#define MARKS_SIZE	(STORE_NOTE_MAX / MARK_SIZE * MARK_SIZE)
#define SHOWN_MAX	1000
#define KEY_SIZE	128

enum { KEY_NOW, KEY_PAST, KEY_BASE, KEY_MESSAGE, KEY_RECIPIENT, KEY_PLACES,
	KEY_COUNT };
enum { ARG_EVENT, ARG_FLOOR, ARG_FACTOR = ARG_FLOOR + GUARD_MEASURES,
	ARG_MOST, ARG_SUSPEND, ARG_COUNT };
enum { TEXT_MARK, TEXT_USER, TEXT_COUNTRY, TEXT_COUNT };
enum { RESULT_LEVEL, RESULT_WAIT, RESULT_FIRST, RESULT_WORST, RESULT_COUNTS,
	RESULT_LIMITS = RESULT_COUNTS + GUARD_MEASURES,
	RESULT_COUNT = RESULT_LIMITS + GUARD_MEASURES };

/* Of the records; in the script plus 1.  The hour's counts are behind HOUR_NO. */
enum { HOUR_NO, TOLD = 1 + GUARD_COUNTED, UNTIL, LAST };
enum { PEAK = GUARD_COUNTED };		/* PAST: the hour before, then this */
enum { BASE_DAY = GUARD_COUNTED };	/* BASE: thousandths, then this */
enum { TAKEN, TAKEN_LEVEL };		/* of a message */

const char *const guard_measure_names[GUARD_MEASURES] = {
	[GUARD_MESSAGES] = "messages", [GUARD_RECIPIENTS] = "recipients",
	[GUARD_NEW] = "new_recipients", [GUARD_BOUNCES] = "bounces",
	[GUARD_COUNTRIES] = "countries",
};

/* --- the step --- */

struct watch {
	struct store_record now, past, base, message;
	int64_t add[GUARD_COUNTED];
	bool known;			/* that recipient of that message */
	struct guard_places places;
	bool away;			/* not at home */
};

static void
roll_hour(struct watch *w, int64_t hour)
{
	int64_t by = hour - w->now.values[HOUR_NO];

	if (by <= 0)
		return;
	for (int i = 0; i < GUARD_COUNTED; i++) {
		w->past.values[i] = by == 1 ? w->now.values[1 + i] : 0;
		w->now.values[1 + i] = 0;
	}
	w->now.values[HOUR_NO] = hour;
}

static void
learn(struct watch *w, const int64_t *a)
{
	for (int i = 0; i < GUARD_COUNTED; i++) {
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

/* Read only if the country can be told, and to look. */
static void
see_country(struct watch *w, struct store_records *records, const char *key,
    const int64_t *a, const char *country, int64_t now)
{
	struct store_record record;

	if (country[0] == '\0' && a[ARG_EVENT] != GUARD_LOOK)
		return;
	store_get(records, key, &record);
	guard_places_read(&w->places, record.note, now / HOUR);
	if (country[0] != '\0' && a[ARG_EVENT] == GUARD_RECIPIENT)
		w->away = !guard_places_see(&w->places, country, now / HOUR,
		    w->now.values[UNTIL] <= now);
}

static void
measure(const struct watch *w, const int64_t *a, int64_t now,
    int64_t counts[GUARD_MEASURES], int64_t limits[GUARD_MEASURES])
{
	for (int i = 0; i < GUARD_COUNTED; i++) {
		counts[i] = w->now.values[1 + i] + w->past.values[i] *
		    (HOUR - now % HOUR) / HOUR + w->add[i];
		limits[i] = a[ARG_FACTOR] * w->base.values[i] / 1000;
		if (limits[i] < a[ARG_FLOOR + i])
			limits[i] = a[ARG_FLOOR + i];
		if (w->away)
			limits[i] = (limits[i] + 1) / 2;
	}
	counts[GUARD_COUNTRIES] = guard_places_count(&w->places, now / HOUR);
	limits[GUARD_COUNTRIES] = a[ARG_FLOOR + GUARD_COUNTRIES];
}

static void
judge(const struct watch *w, const int64_t *a, int64_t now, int64_t *results)
{
	int64_t *level = &results[RESULT_LEVEL], this;
	int64_t *counts = &results[RESULT_COUNTS];
	int64_t *limits = &results[RESULT_LIMITS];

	measure(w, a, now, counts, limits);
	for (int i = 0; i < GUARD_MEASURES; i++) {
		int64_t count = counts[i], limit = limits[i];

		this = count > 4 * limit ? GUARD_SUSPEND : count > 2 * limit ?
		    GUARD_HOLD : count > limit ? GUARD_SLOW : GUARD_CALM;
		if (this > *level) {
			*level = this;
			results[RESULT_WORST] = i;
		}
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
	int64_t *v = w->now.values, pace, worst = results[RESULT_WORST];

	if (results[RESULT_LEVEL] == GUARD_SUSPEND) {
		if (v[UNTIL] <= now)
			v[UNTIL] = now + a[ARG_SUSPEND];
		results[RESULT_WAIT] = v[UNTIL] - now;
	} else if (results[RESULT_LEVEL] == GUARD_SLOW &&
	    a[ARG_EVENT] == GUARD_RECIPIENT) {
		/* Countries have no pace of their own. */
		if (worst == GUARD_COUNTRIES)
			worst = GUARD_RECIPIENTS;
		pace = HOUR / results[RESULT_LIMITS + worst];
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
put_places(const struct watch *w, struct store_records *records,
    const char *key)
{
	char note[GUARD_PLACES_NOTE];
	struct store_record record = { .note = note };

	if (!w->places.changed)
		return;
	guard_places_write(&w->places, note);
	put(records, key, &record, KEEP);
}

static void
put_all(struct watch *w, struct store_records *records,
    const char *const *keys, const int64_t *a, const char *mark,
    const int64_t *results)
{
	struct store_record recipient = { .note = "" };
	char note[STORE_NOTE_MAX + MARK_SIZE + 1];
	size_t len;

	for (int i = 0; i < GUARD_COUNTED; i++) {
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
	if (!w.known)
		see_country(&w, records, keys[KEY_PLACES], a,
		    texts[TEXT_COUNTRY], now);
	judge(&w, a, now, results);
	if (w.now.values[UNTIL] > now)
		results[RESULT_WAIT] = w.now.values[UNTIL] - now;
	if (w.known)
		results[RESULT_LEVEL] = w.message.values[TAKEN_LEVEL];
	if (w.known || a[ARG_EVENT] == GUARD_LOOK)
		return ANSWER_YES;
	delay(&w, a, now, results);
	w.now.note = texts[TEXT_USER];
	put_places(&w, records, keys[KEY_PLACES]);
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
	.script = GUARD_WATCH_SCRIPT,
};

static enum answer
release_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t hour = store_now(records) / HOUR;
	struct store_record record, places;
	struct watch w = { .known = false };

	(void)a;
	(void)texts;
	(void)results;
	if (!store_get(records, keys[0], &record))
		return ANSWER_NO;
	store_delete(records, keys[0]);
	store_delete(records, keys[1]);
	if (!store_get(records, keys[2], &places))
		return ANSWER_YES;
	guard_places_read(&w.places, places.note, hour);
	guard_places_forget(&w.places, hour);
	put_places(&w, records, keys[2]);
	return ANSWER_YES;
}

static const struct store_step release_step = {
	.name = "guard-release",
	.keys = 3,
	.run = release_run,
	.script = GUARD_RELEASE_SCRIPT,
};

/* --- for others --- */

struct names {
	char keys[KEY_COUNT][KEY_SIZE];
	const char *pointers[KEY_COUNT];
	char mark[SUBJECT_DIGEST_HEX + 1];
};

static void
make_names(struct names *names, const struct guard_deed *deed)
{
	char user_hex[SUBJECT_DIGEST_HEX + 1];
	char message_hex[SUBJECT_DIGEST_HEX + 1];

	subject_digest(&deed->user, 1, user_hex);
	subject_digest(&deed->message, 1, message_hex);
	subject_digest(&deed->recipient, 1, names->mark);
	snprintf(names->keys[KEY_NOW], KEY_SIZE, "guard:{%s}", user_hex);
	snprintf(names->keys[KEY_PAST], KEY_SIZE, "guard-past:{%s}",
	    user_hex);
	snprintf(names->keys[KEY_BASE], KEY_SIZE, "guard-base:{%s}",
	    user_hex);
	snprintf(names->keys[KEY_MESSAGE], KEY_SIZE, "guard-by:{%s}:%s%s",
	    user_hex, deed->event == GUARD_BOUNCE ? "b" : "", message_hex);
	snprintf(names->keys[KEY_RECIPIENT], KEY_SIZE, "guard-to:{%s}:%s",
	    user_hex, names->mark);
	snprintf(names->keys[KEY_PLACES], KEY_SIZE, "guard-from:{%s}",
	    user_hex);
	names->mark[MARK_SIZE] = '\0';
	for (size_t i = 0; i < KEY_COUNT; i++)
		names->pointers[i] = names->keys[i];
}

const char *
guard_user_print(const char *user, char shown[GUARD_USER_SIZE])
{
	snprintf(shown, GUARD_USER_SIZE, "%s", user);
	for (char *c = shown; *c != '\0'; c++)
		if ((unsigned char)*c < ' ')
			*c = '?';
	return shown;
}

enum answer
guard_watch(struct store *store, const struct guard_limits *limits,
    const struct guard_deed *deed, struct guard_state *state,
    const char **why)
{
	const int64_t *floor = limits->floor;
	const int64_t arguments[ARG_COUNT] = { deed->event, floor[0],
		floor[1], floor[2], floor[3], floor[4], limits->factor, limits->most,
		limits->suspend_ms };
	int64_t results[RESULT_COUNT] = { 0 };
	char shown[GUARD_USER_SIZE];
	struct names names;
	const char *const texts[TEXT_COUNT] = { names.mark, shown,
		deed->country };
	enum answer answer;

	make_names(&names, deed);
	guard_user_print(deed->user, shown);
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

static struct guard_deed
look_at(const char *user)
{
	return (struct guard_deed){ .event = GUARD_LOOK, .user = user,
	    .message = "", .recipient = "", .country = "" };
}

enum answer
guard_watch_release(struct store *store, const char *user, const char **why)
{
	const struct guard_deed deed = look_at(user);
	struct names names;
	const char *keys[3];

	make_names(&names, &deed);
	keys[0] = names.keys[KEY_NOW];
	keys[1] = names.keys[KEY_PAST];
	keys[2] = names.keys[KEY_PLACES];
	return store_run(store, &release_step, keys, NULL, NULL,
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
	const struct guard_deed deed = look_at(user);
	char note[STORE_NOTE_MAX + 1];
	struct guard_places places;
	struct store_record record;
	struct guard_state state;
	struct names names;
	enum answer from;

	make_names(&names, &deed);
	if (guard_watch(store, limits, &deed, &state, why) ==
	    ANSWER_UNKNOWN || (from = store_read(store,
	    names.keys[KEY_PLACES], &record, note, why)) == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	buf_printf(out, "%s %s", user, levels[state.level]);
	if (state.level == GUARD_SUSPEND && state.wait_ms > 0)
		buf_printf(out, " for=%lld", (long long)(state.wait_ms + 999) /
		    1000);
	for (int i = 0; i < (from == ANSWER_YES ? GUARD_MEASURES :
	    GUARD_COUNTED); i++)
		buf_printf(out, " %s=%lld/%lld", guard_measure_names[i],
		    (long long)state.count[i], (long long)state.limit[i]);
	if (from == ANSWER_YES) {
		guard_places_read(&places, note, 0);
		guard_places_print(&places, out);
	}
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
