/*
 * Counting for limits.
 *
 * The record of a subject holds the theoretical arrival time of GCRA, which is
 * when all its units will be free again, and what is reserved, by the time of
 * the reservation in steps of a quarter of the lease: what is older than that
 * is not looked at any more.  The record of a message beside it holds how much
 * of that is its own, and digests of its recipients.
 *
 * Reserved units do not drain: that a message was long under way must not give
 * its sender more.  So between any two moments no more is charged than the
 * burst and what became free meanwhile.
 */
#include "policy/limit_count.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "policy/limit_past.h"
#include "policy/store.h"
#include "policy/subject.h"

#define WIDTH_MS	(LIMIT_LEASE_MS / 4)
#define BUCKETS		5
#define KEPT_MS		3600000		/* reservations: settled until then */
#define MARK_SIZE	6		/* of a recipient, in a note */
#define MARKS_SIZE	(STORE_NOTE_MAX / MARK_SIZE * MARK_SIZE)
#define SUBJECT_MAX	300		/* what is shown of it */
#define SHOWN_MAX	1000
#define KEY_SIZE	256

/* Of a subject's record, a message's record; in the scripts plus 1. */
enum { ARRIVAL_US, EPOCH, HELD, UNIT_US = HELD + BUCKETS };
enum { TAKEN, RESERVED, RESERVED_EPOCH };

enum { KEY_SUBJECT, KEY_MESSAGE, KEY_COUNT };
enum { TAKE_UNIT_US, TAKE_BURST, TAKE_WANT, TAKE_WIDTH, TAKE_ARGUMENTS };
enum { TEXT_SUBJECT, TEXT_MARK, TEXT_COUNT };
enum { RESULT_WAIT_US, RESULT_USED, RESULT_HELD, RESULT_BACKLOG_US,
	RESULT_COUNT };
enum { SETTLE_COUNT, SETTLE_UNIT_US, SETTLE_WIDTH, SETTLE_ARGUMENTS };

/* --- steps --- */

/* Moves the buckets to the present; how much is reserved in all. */
static int64_t
roll(int64_t values[], int64_t epoch)
{
	int64_t by = epoch - values[EPOCH], sum = 0;

	if (by > 0) {
		for (int64_t i = BUCKETS - 1; i >= 0; i--)
			values[HELD + i] = i >= by ? values[HELD + i - by] : 0;
		values[EPOCH] = epoch;
	}
	for (int i = 0; i < BUCKETS; i++)
		sum += values[HELD + i];
	return sum;
}

/* Takes the message's own out of the buckets, unless they are too old. */
static void
give_back(int64_t values[], const int64_t message[])
{
	int64_t age = values[EPOCH] - message[RESERVED_EPOCH];

	if (age < 0 || age >= BUCKETS)
		return;
	values[HELD + age] -= message[RESERVED];
	if (values[HELD + age] < 0)
		values[HELD + age] = 0;
}

static void
charge(struct store_records *records, int64_t values[], int64_t units,
    int64_t unit_us)
{
	int64_t now_us = store_now(records) * 1000;

	if (values[ARRIVAL_US] < now_us)
		values[ARRIVAL_US] = now_us;
	values[ARRIVAL_US] += units * unit_us;
}

/* Kept as long as it says anything. */
static void
put_subject(struct store_records *records, const char *key,
    struct store_record *record, int64_t width)
{
	int64_t now = store_now(records);

	record->expires_ms = record->values[ARRIVAL_US] / 1000 + 1;
	if (roll(record->values, 0) > 0 && record->expires_ms <
	    (record->values[EPOCH] + BUCKETS) * width)
		record->expires_ms = (record->values[EPOCH] + BUCKETS) * width;
	if (record->expires_ms > now)
		store_put(records, key, record);
	else
		store_delete(records, key);
}

static int64_t
needed(const struct store_record *message, const char *mark, int64_t want)
{
	const char *note = message->note;

	if (*mark == '\0')
		return want > message->values[TAKEN] ?
		    want - message->values[TAKEN] : 0;
	for (size_t len = strlen(note); len >= MARK_SIZE; len -= MARK_SIZE) {
		if (memcmp(note, mark, MARK_SIZE) == 0)
			return 0;
		note += MARK_SIZE;
	}
	return 1;
}

static void
put_message(struct store_records *records, const char *key,
    struct store_record *message, const char *mark, int64_t width)
{
	char note[STORE_NOTE_MAX + MARK_SIZE + 1];
	size_t len;

	len = (size_t)snprintf(note, sizeof(note), "%s%s", message->note,
	    mark);
	message->note = len > MARKS_SIZE ? note + MARK_SIZE : note;
	message->expires_ms = store_now(records) +
	    (message->values[RESERVED] > 0 ? KEPT_MS : BUCKETS * width);
	store_put(records, key, message);
}

/* What is in use, and whether there is room for so many more. */
static bool
has_room(struct store_records *records, const int64_t *a, int64_t need,
    int64_t subject[], int64_t *results)
{
	int64_t now = store_now(records), backlog, held;

	if (a[TAKE_UNIT_US] != 0)
		subject[UNIT_US] = a[TAKE_UNIT_US];
	if (subject[UNIT_US] == 0)
		subject[UNIT_US] = 1;
	backlog = subject[ARRIVAL_US] > now * 1000 ?
	    subject[ARRIVAL_US] - now * 1000 : 0;
	held = roll(subject, now / a[TAKE_WIDTH]);
	results[RESULT_USED] = held + (backlog + subject[UNIT_US] - 1) /
	    subject[UNIT_US];
	results[RESULT_HELD] = held;
	results[RESULT_BACKLOG_US] = backlog;
	results[RESULT_WAIT_US] = backlog + (held + need - a[TAKE_BURST]) *
	    subject[UNIT_US];
	return need == 0 || results[RESULT_WAIT_US] <= 0;
}

/* Units that are charged at once. */
static enum answer
charge_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record subject;

	store_get(records, keys[KEY_SUBJECT], &subject);
	if (!has_room(records, a, a[TAKE_WANT], subject.values, results))
		return ANSWER_NO;
	if (a[TAKE_WANT] == 0)
		return ANSWER_YES;
	charge(records, subject.values, a[TAKE_WANT], a[TAKE_UNIT_US]);
	subject.note = texts[TEXT_SUBJECT];
	put_subject(records, keys[KEY_SUBJECT], &subject, a[TAKE_WIDTH]);
	return ANSWER_YES;
}

/* Units that are reserved; what the message has reserved is renewed. */
static enum answer
reserve_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record subject, message;
	int64_t need, *m = message.values;

	store_get(records, keys[KEY_SUBJECT], &subject);
	store_get(records, keys[KEY_MESSAGE], &message);
	need = needed(&message, texts[TEXT_MARK], a[TAKE_WANT]);
	if (!has_room(records, a, need, subject.values, results))
		return ANSWER_NO;
	if (need == 0 && (m[RESERVED] == 0 ||
	    m[RESERVED_EPOCH] == subject.values[EPOCH]))
		return ANSWER_YES;
	give_back(subject.values, m);
	m[TAKEN] += need;
	m[RESERVED] += need;
	m[RESERVED_EPOCH] = subject.values[EPOCH];
	subject.values[HELD] += m[RESERVED];
	subject.note = texts[TEXT_SUBJECT];
	put_subject(records, keys[KEY_SUBJECT], &subject, a[TAKE_WIDTH]);
	put_message(records, keys[KEY_MESSAGE], &message, need > 0 ?
	    texts[TEXT_MARK] : "", a[TAKE_WIDTH]);
	return ANSWER_YES;
}

/* What the scripts need. */
#define SCRIPT_HEAD							\
	"local us = now * 1000\n"					\
	"local function none() return {0, 0, 0, 0, 0, 0, 0, 0} end\n"	\
	"local function roll(v, epoch)\n"				\
	"  local by, sum = epoch - v[2], 0\n"				\
	"  if by > 0 then\n"						\
	"    for i = 4, 0, -1 do\n"					\
	"      v[3 + i] = i >= by and v[3 + i - by] or 0\n"		\
	"    end\n"							\
	"    v[2] = epoch\n"						\
	"  end\n"							\
	"  for i = 3, 7 do sum = sum + v[i] end\n"			\
	"  return sum\n"						\
	"end\n"								\
	"local function give_back(v, m)\n"				\
	"  local age = v[2] - m[3]\n"					\
	"  if age < 0 or age >= 5 then return end\n"			\
	"  v[3 + age] = math.max(0, v[3 + age] - m[2])\n"		\
	"end\n"								\
	"local function charge(v, units, unit)\n"			\
	"  v[1] = math.max(us, v[1]) + units * unit\n"			\
	"end\n"								\
	"local function put_subject(v, width)\n"			\
	"  local expires = math.floor(v[1] / 1000) + 1\n"		\
	"  if roll(v, 0) > 0 then\n"					\
	"    expires = math.max(expires, (v[2] + 5) * width)\n"		\
	"  end\n"							\
	"  if expires > now then put(k[1], v, expires)\n"		\
	"  else del(k[1]) end\n"					\
	"end\n"

/* As has_room(). */
#define SCRIPT_ROOM							\
	"local unit, burst, want, width = a[1], a[2], a[3], a[4]\n"	\
	"local wait, used, held, backlog\n"				\
	"local function has_room(v, need)\n"				\
	"  if unit ~= 0 then v[8] = unit end\n"				\
	"  v[8] = math.max(v[8], 1)\n"					\
	"  backlog = math.max(v[1] - us, 0)\n"				\
	"  held = roll(v, math.floor(now / width))\n"			\
	"  used = held + math.ceil(backlog / v[8])\n"			\
	"  wait = backlog + (held + need - burst) * v[8]\n"		\
	"  return need == 0 or wait <= 0\n"				\
	"end\n"

static const struct store_step charge_step = {
	.name = "limit-charge",
	.keys = 1, .arguments = TAKE_ARGUMENTS, .texts = 1,
	.results = RESULT_COUNT,
	.run = charge_run,
	.script = SCRIPT_HEAD SCRIPT_ROOM
	    "local v = get(k[1]) or none()\n"
	    "if not has_room(v, want) then\n"
	    "  return 0, wait, used, held, backlog\n"
	    "end\n"
	    "if want > 0 then\n"
	    "  charge(v, want, unit)\n"
	    "  v.note = t[1]\n"
	    "  put_subject(v, width)\n"
	    "end\n"
	    "return 1, wait, used, held, backlog\n",
};

static const struct store_step reserve_step = {
	.name = "limit-reserve",
	.keys = KEY_COUNT, .arguments = TAKE_ARGUMENTS, .texts = TEXT_COUNT,
	.results = RESULT_COUNT,
	.run = reserve_run,
	.script = SCRIPT_HEAD SCRIPT_ROOM
	    "local mark = t[2]\n"
	    "local v, m = get(k[1]) or none(), get(k[2]) or none()\n"
	    "local note = m.note or ''\n"
	    "local need = math.max(want - m[1], 0)\n"
	    "if mark ~= '' then\n"
	    "  need = 1\n"
	    "  for i = 1, #note, 6 do\n"
	    "    if note:sub(i, i + 5) == mark then need = 0 end\n"
	    "  end\n"
	    "end\n"
	    "if not has_room(v, need) then\n"
	    "  return 0, wait, used, held, backlog\n"
	    "end\n"
	    "if need == 0 and (m[2] == 0 or m[3] == v[2]) then\n"
	    "  return 1, wait, used, held, backlog\n"
	    "end\n"
	    "give_back(v, m)\n"
	    "m[1], m[2], m[3] = m[1] + need, m[2] + need, v[2]\n"
	    "v[3] = v[3] + m[2]\n"
	    "v.note = t[1]\n"
	    "put_subject(v, width)\n"
	    "m.note = need > 0 and note .. mark or note\n"
	    "if #m.note > 498 then m.note = m.note:sub(7) end\n"
	    "put(k[2], m, now + (m[2] > 0 and 3600000 or 5 * width))\n"
	    "return 1, wait, used, held, backlog\n",
};

static enum answer
settle_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record subject, message;
	int64_t units;

	(void)texts;
	(void)results;
	if (!store_get(records, keys[KEY_MESSAGE], &message))
		return ANSWER_NO;
	store_get(records, keys[KEY_SUBJECT], &subject);
	roll(subject.values, store_now(records) / a[SETTLE_WIDTH]);
	give_back(subject.values, message.values);
	units = message.values[RESERVED];
	if (units > a[SETTLE_COUNT])
		units = a[SETTLE_COUNT];
	if (units > 0)
		charge(records, subject.values, units, a[SETTLE_UNIT_US]);
	put_subject(records, keys[KEY_SUBJECT], &subject, a[SETTLE_WIDTH]);
	store_delete(records, keys[KEY_MESSAGE]);
	return ANSWER_YES;
}

static const struct store_step settle_step = {
	.name = "limit-settle",
	.keys = KEY_COUNT, .arguments = SETTLE_ARGUMENTS,
	.run = settle_run,
	.script = SCRIPT_HEAD
	    "local m = get(k[2])\n"
	    "if not m then return 0 end\n"
	    "local v = get(k[1]) or none()\n"
	    "roll(v, math.floor(now / a[3]))\n"
	    "give_back(v, m)\n"
	    "local units = math.min(m[2], a[1])\n"
	    "if units > 0 then charge(v, units, a[2]) end\n"
	    "put_subject(v, a[3])\n"
	    "del(k[2])\n"
	    "return 1\n",
};

/* --- keys --- */

static void
name_subject(const struct limit_scope *scope, const char *subject,
    char key[KEY_SIZE])
{
	char hex[SUBJECT_DIGEST_HEX + 1];

	subject_digest(&subject, 1, hex);
	snprintf(key, KEY_SIZE, "%s:{%.100s:%s}", scope->kind, scope->name,
	    hex);
}

static void
name_message(const struct limit_take *take, char key[KEY_SIZE])
{
	char subject[SUBJECT_DIGEST_HEX + 1], hex[SUBJECT_DIGEST_HEX + 1];

	subject_digest(&take->subject, 1, subject);
	subject_digest(&take->message, 1, hex);
	snprintf(key, KEY_SIZE, "%s-by:{%.100s:%s}:%s", take->scope.kind,
	    take->scope.name, subject, hex);
}

/* --- for others --- */

static enum answer
run_take(struct store *store, const struct store_step *step,
    const struct limit_take *take, int64_t want, const char *const *keys,
    const char *mark, int64_t *results, const char **why)
{
	char shown[SUBJECT_MAX + 1];
	const char *const texts[TEXT_COUNT] = { shown, mark };
	const int64_t arguments[TAKE_ARGUMENTS] = { take->unit_us,
		take->burst, want, WIDTH_MS };

	snprintf(shown, sizeof(shown), "%s", take->subject);
	for (char *c = shown; *c != '\0'; c++)
		if ((unsigned char)*c < ' ')
			*c = '?';
	return store_run(store, step, keys, arguments, texts, results, why);
}

static enum answer
reserve(struct store *store, const struct limit_take *take,
    int64_t *results, const char **why)
{
	char subject[KEY_SIZE], message[KEY_SIZE];
	const char *const keys[KEY_COUNT] = { subject, message };
	char hex[SUBJECT_DIGEST_HEX + 1] = "";

	name_subject(&take->scope, take->subject, subject);
	name_message(take, message);
	if (take->recipient != NULL)
		subject_digest(&take->recipient, 1, hex);
	hex[MARK_SIZE] = '\0';
	return run_take(store, &reserve_step, take, take->want, keys, hex,
	    results, why);
}

/* Of what is wanted, what was not taken before. */
static enum answer
charge_rest(struct store *store, const struct limit_take *take,
    int64_t *results, const char **why)
{
	bool one = take->recipient != NULL;
	struct limit_past_key all = limit_past_key(take->subject,
	    take->message, ""), mine = all;
	int64_t want = one ? 1 : take->want;
	char subject[KEY_SIZE];
	const char *const keys[] = { subject };
	enum answer answer;

	if (one)
		mine = limit_past_key(take->subject, take->message,
		    take->recipient);
	want -= limit_past_get(take->past, &mine);
	if (want <= 0)
		return ANSWER_YES;
	name_subject(&take->scope, take->subject, subject);
	answer = run_take(store, &charge_step, take, want, keys, NULL,
	    results, why);
	if (answer != ANSWER_YES)
		return answer;
	limit_past_put(take->past, &all, limit_past_get(take->past, &all) +
	    want);
	if (one)
		limit_past_put(take->past, &mine, 1);
	return ANSWER_YES;
}

enum answer
limit_count_take(struct store *store, const struct limit_take *take,
    struct limit_state *state, const char **why)
{
	int64_t results[RESULT_COUNT] = { 0 };
	enum answer answer;

	answer = take->past == NULL ? reserve(store, take, results, why) :
	    charge_rest(store, take, results, why);
	state->used = results[RESULT_USED];
	state->reserved = results[RESULT_HELD];
	state->wait_ms = answer == ANSWER_NO ?
	    (results[RESULT_WAIT_US] + 999) / 1000 : 0;
	return answer;
}

enum answer
limit_count_settle(struct store *store, const struct limit_take *take,
    int64_t count, const char **why)
{
	char subject[KEY_SIZE], message[KEY_SIZE];
	const char *const keys[KEY_COUNT] = { subject, message };
	const int64_t arguments[SETTLE_ARGUMENTS] = { count, take->unit_us,
		WIDTH_MS };

	name_subject(&take->scope, take->subject, subject);
	name_message(take, message);
	return store_run(store, &settle_step, keys, arguments, NULL, NULL,
	    why);
}

/* --- commands --- */

struct found {
	struct arena *arena;
	const char *keys[SHOWN_MAX], *subjects[SHOWN_MAX];
	size_t count;
	bool more;
};

static int
find_subject(void *argument, const char *key,
    const struct store_record *record)
{
	struct found *found = argument;

	found->more = found->count == SHOWN_MAX;
	if (found->more)
		return 1;
	found->keys[found->count] = arena_strdup(found->arena, key);
	found->subjects[found->count++] = arena_strdup(found->arena,
	    record->note);
	return 0;
}

/* Nothing is asked for, so nothing changes. */
static enum answer
show_one(struct store *store, const char *key, const char *subject,
    struct buf *out, const char **why)
{
	const struct limit_take nothing = { .subject = "" };
	int64_t results[RESULT_COUNT] = { 0 };

	if (run_take(store, &charge_step, &nothing, 0, &key, NULL, results,
	    why) == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (results[RESULT_USED] > 0)
		buf_printf(out, "%s used=%lld reserved=%lld free_in=%lld\n",
		    subject, (long long)results[RESULT_USED],
		    (long long)results[RESULT_HELD],
		    (long long)((results[RESULT_BACKLOG_US] + 999999) /
		    1000000));
	return ANSWER_YES;
}

static enum answer
show_all(struct store *store, const struct limit_scope *scope,
    struct found *found, struct buf *out, const char **why)
{
	char prefix[KEY_SIZE];
	enum answer answer;

	snprintf(prefix, sizeof(prefix), "%s:{%.100s:", scope->kind,
	    scope->name);
	answer = store_scan(store, prefix, find_subject, found, why);
	for (size_t i = 0; i < found->count && answer == ANSWER_YES; i++)
		answer = show_one(store, found->keys[i],
		    found->subjects[i], out, why);
	if (found->more)
		buf_puts(out, "and more\n");
	return answer;
}

enum answer
limit_count_show(struct store *store, const struct limit_scope *scope,
    const char *subject, struct buf *out, const char **why)
{
	char key[KEY_SIZE];
	struct found *found;
	enum answer answer;

	if (subject != NULL) {
		name_subject(scope, subject, key);
		return show_one(store, key, subject, out, why);
	}
	if ((found = calloc(1, sizeof(*found))) == NULL)
		fatal("out of memory (limit)");
	found->arena = arena_new(0);
	answer = show_all(store, scope, found, out, why);
	arena_free(&found->arena);
	free(found);
	return answer;
}

enum answer
limit_count_reset(struct store *store, const struct limit_scope *scope,
    const char *subject, const char **why)
{
	char key[KEY_SIZE];

	name_subject(scope, subject, key);
	return store_forget(store, key, why);
}
