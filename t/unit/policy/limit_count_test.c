/* Counting for limits: stories, and against a naive model. */
#include "policy/limit_count.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/task.h"
#include "policy/limit_past.h"
#include "policy/store.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define SECOND_US	INT64_C(1000000)
#define MINUTE		INT64_C(60000)

enum deed { TAKE, RESERVE, WANT, SETTLE };

static const struct act {
	const char *name;
	int64_t later_ms;
	enum deed deed;
	const char *subject, *message, *recipient;
	int64_t count;			/* for WANT, SETTLE */
	enum answer want;
	int64_t used, reserved;		/* before it; -1: not told */
	int64_t wait_s;			/* NO: about this */
} acts[] = {
	/* Three units at a time, each free again after a minute. */
	{ "first", 0, TAKE, "joe", "m1", "a", 0, ANSWER_YES, 0, 0, 0 },
	{ "second", 0, TAKE, "joe", "m1", "b", 0, ANSWER_YES, 1, 0, 0 },
	{ "the same again", 0, TAKE, "JOE", "m1", "B", 0, ANSWER_YES, 0, 0,
	    0 },
	{ "third", 0, TAKE, "joe", "m2", "b", 0, ANSWER_YES, 2, 0, 0 },
	{ "too many", 0, TAKE, "joe", "m2", "c", 0, ANSWER_NO, 3, 0, 60 },
	{ "what was taken still is", 0, TAKE, "joe", "m1", "a", 0,
	    ANSWER_YES, 0, 0, 0 },
	{ "another subject", 0, TAKE, "ann", "m2", "c", 0, ANSWER_YES, 0, 0,
	    0 },
	{ "too early", 40000, TAKE, "joe", "m3", "c", 0, ANSWER_NO, 3, 0,
	    20 },
	{ "in time", 21000, TAKE, "joe", "m3", "c", 0, ANSWER_YES, 2, 0, 0 },
	{ "all are free", 4 * MINUTE, WANT, "joe", "m4", NULL, 3, ANSWER_YES,
	    0, 0, 0 },
	{ "asked at the end again", 0, WANT, "joe", "m4", NULL, 3,
	    ANSWER_YES, 0, 0, 0 },
	{ "and a recipient of it", 0, TAKE, "joe", "m4", "x", 0, ANSWER_NO,
	    3, 0, 60 },
	{ "more at once than there can be", 10 * MINUTE, WANT, "joe", "m5",
	    NULL, 4, ANSWER_NO, 0, 0, 60 },

	/* Reserved: charged, given back. */
	{ "reserved", 0, RESERVE, "sue", "n1", "a", 0, ANSWER_YES, 0, 0, 0 },
	{ "a second", 0, RESERVE, "sue", "n1", "b", 0, ANSWER_YES, 1, 1, 0 },
	{ "the same", 0, RESERVE, "sue", "n1", "a", 0, ANSWER_YES, 2, 2, 0 },
	{ "another message", 0, RESERVE, "sue", "n2", "a", 0, ANSWER_YES, 2,
	    2, 0 },
	{ "full", 0, RESERVE, "sue", "n3", "a", 0, ANSWER_NO, 3, 3, 60 },
	{ "what is reserved does not drain", 5 * MINUTE, RESERVE, "sue",
	    "n3", "a", 0, ANSWER_NO, 3, 3, 60 },
	{ "given back", 0, SETTLE, "sue", "n1", NULL, 0, ANSWER_YES, -1, -1,
	    0 },
	{ "only once", 0, SETTLE, "sue", "n1", NULL, 5, ANSWER_NO, -1, -1,
	    0 },
	{ "there is room", 0, RESERVE, "sue", "n3", "a", 0, ANSWER_YES, 1, 1,
	    0 },
	{ "charged", 0, SETTLE, "sue", "n2", NULL, 100, ANSWER_YES, -1, -1,
	    0 },
	{ "charged is used", 0, RESERVE, "sue", "n4", "a", 0, ANSWER_YES, 2,
	    1, 0 },
	{ "full again", 0, RESERVE, "sue", "n5", "a", 0, ANSWER_NO, 3, 2,
	    60 },
	{ "what was charged drains", 61000, RESERVE, "sue", "n5", "a", 0,
	    ANSWER_YES, 2, 2, 0 },
	{ "a message that nobody knows", 0, SETTLE, "sue", "n9", NULL, 1,
	    ANSWER_NO, -1, -1, 0 },
	{ "its owner died: not free before its time", 9 * MINUTE - 62000,
	    RESERVE, "sue", "n6", "a", 0, ANSWER_NO, 3, 3, 60 },
	{ "the owner of one is alive", 0, RESERVE, "sue", "n5", "a", 0,
	    ANSWER_YES, 3, 3, 0 },
	{ "those of the dead are free", 215000, RESERVE, "sue", "n6", "a", 0,
	    ANSWER_YES, 1, 1, 0 },
	{ "late, but charged", 0, SETTLE, "sue", "n3", NULL, 1, ANSWER_YES,
	    -1, -1, 0 },
	{ "and used", 0, RESERVE, "sue", "n7", "a", 0, ANSWER_NO, 3, 2, 60 },

	/* One of three recipients was refused by somebody else. */
	{ "reserved for one", 0, RESERVE, "tom", "o1", "a", 0, ANSWER_YES, 0,
	    0, 0 },
	{ "for two", 0, RESERVE, "tom", "o1", "b", 0, ANSWER_YES, 1, 1, 0 },
	{ "for three", 0, RESERVE, "tom", "o1", "c", 0, ANSWER_YES, 2, 2, 0 },
	{ "two are accepted", 0, SETTLE, "tom", "o1", NULL, 2, ANSWER_YES,
	    -1, -1, 0 },
	{ "two are charged", 0, TAKE, "tom", "o2", "a", 0, ANSWER_YES, 2, 0,
	    0 },
};

static struct limit_take
make(const struct act *act, struct limit_past *past)
{
	return (struct limit_take){
		.scope = { "limit", "test" }, .subject = act->subject,
		.message = act->message, .recipient = act->recipient,
		.want = act->count, .unit_us = 60 * SECOND_US, .burst = 3,
		.past = act->deed == RESERVE ? NULL : past,
	};
}

/*
 * The stories have a clock of their own, which the store's runs ahead of by the
 * time that the test takes: by no more than this.
 */
static int64_t
drift_ms(int64_t begin_us)
{
	return (clock_us() - begin_us) / 1000 + 1;
}

static void
play(struct rig *rig)
{
	struct limit_past *past = limit_past_new();
	int64_t begin_us = clock_us();

	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		const struct act *act = &acts[i];
		const struct limit_take take = make(act, past);
		struct limit_state state = { -1, -1, -1 };
		enum answer answer;
		const char *why;
		char name[128];

		snprintf(name, sizeof(name), "%s: %s", rig->back_end,
		    act->name);
		store_shift_clock(rig->store, act->later_ms);
		answer = act->deed == SETTLE ? limit_count_settle(rig->store,
		    &take, act->count, &why) : limit_count_take(rig->store,
		    &take, &state, &why);
		CASE_ASSERT(name, answer == act->want);
		CASE_ASSERT(name, state.used == act->used);
		CASE_ASSERT(name, state.reserved == act->reserved);
		if (act->deed == SETTLE)
			continue;
		CASE_ASSERT(name, state.wait_ms <= act->wait_s * 1000);
		CASE_ASSERT(name, state.wait_ms >= act->wait_s * 1000 -
		    (act->wait_s > 0 ? drift_ms(begin_us) : 0));
	}
	limit_past_free(&past);
}

static void
story(void)
{
	rig_each("", play);
}

/* --- against a naive model --- */

#define EVENTS	400
#define BURST	7
#define UNIT_MS	60000

struct model {
	struct limit_past *past;
	struct rig *rig;
	uint32_t random;
	int64_t now_ms, begin_us;	/* its clock, and when that began */
	int64_t taken_ms[EVENTS];	/* when each unit was taken */
	size_t taken;
	int64_t level_ms;		/* of a bucket that leaks */
};

static uint32_t
random_below(struct model *model, uint32_t limit)
{
	model->random = model->random * 1664525 + 1013904223;
	return (model->random >> 8) % limit;
}

/* The bucket leaks meanwhile; the store's by the drift more. */
static void
pass_time(struct model *model, int64_t ms)
{
	store_shift_clock(model->rig->store, ms);
	model->now_ms += ms;
	model->level_ms -= ms;
	if (model->level_ms < 0)
		model->level_ms = 0;
}

/* The law itself: in no time more than the burst and what became free. */
static void
check_law(const struct model *model, const char *name)
{
	int64_t drift = drift_ms(model->begin_us);

	for (size_t i = 0; i < model->taken; i++)
		for (size_t j = i; j < model->taken; j++)
			CASE_ASSERT(name, ((int64_t)(j - i) + 1 - BURST) *
			    UNIT_MS <= model->taken_ms[j] -
			    model->taken_ms[i] + drift);
}

static void
one_event(struct model *model, int number, const char *name)
{
	char message[16];
	struct limit_take take = {
		.scope = { "limit", "model" }, .subject = name,
		.message = message, .recipient = "r", .burst = BURST,
		.unit_us = UNIT_MS * 1000, .past = model->past,
	};
	struct limit_state state;
	int64_t excess, drift;
	enum answer answer;
	const char *why;

	snprintf(message, sizeof(message), "m%d", number);
	pass_time(model, random_below(model, 4) == 0 ?
	    random_below(model, 5 * UNIT_MS) : random_below(model, UNIT_MS));
	excess = model->level_ms - (BURST - 1) * UNIT_MS;
	answer = limit_count_take(model->rig->store, &take, &state, &why);
	drift = drift_ms(model->begin_us);
	if (excess > drift || excess <= 0)
		CASE_ASSERT(name, answer == (excess > 0 ? ANSWER_NO :
		    ANSWER_YES));
	if (answer == ANSWER_NO)
		CASE_ASSERT(name, state.wait_ms <= excess &&
		    state.wait_ms >= excess - drift);
	if (answer != ANSWER_YES)
		return;
	model->level_ms += UNIT_MS;
	model->taken_ms[model->taken++] = model->now_ms;
}

static void
compare(struct rig *rig)
{
	char name[64];

	for (uint32_t seed = 1; seed <= 5; seed++) {
		struct model model = { .past = limit_past_new(), .rig = rig,
			.random = seed, .begin_us = clock_us() };

		snprintf(name, sizeof(name), "%s: seed %u", rig->back_end,
		    seed);
		for (int i = 0; i < EVENTS; i++)
			one_event(&model, i, name);
		CASE_ASSERT(name, model.taken > EVENTS / 4 &&
		    model.taken < EVENTS);
		check_law(&model, name);
		limit_past_free(&model.past);
	}
}

static void
against_model(void)
{
	rig_each("", compare);
}

/* --- reservations against a list of them --- */

#define SLOTS	12

struct slot {
	bool open;
	int64_t since_ms;
};

struct ledger {
	struct model model;
	struct slot slots[SLOTS];
	int number[SLOTS];		/* of the message in it */
};

static int
count_younger(const struct ledger *ledger, int64_t age_ms)
{
	int count = 0;

	for (int i = 0; i < SLOTS; i++)
		if (ledger->slots[i].open && ledger->model.now_ms -
		    ledger->slots[i].since_ms < age_ms)
			count++;
	return count;
}

static void
open_slot(struct ledger *ledger, int i, struct limit_take *take,
    const char *name)
{
	struct model *model = &ledger->model;
	int64_t spent = model->level_ms + (1 - BURST) * UNIT_MS;
	struct limit_state state;
	enum answer answer;
	const char *why;
	int64_t drift;
	int sure, perhaps;

	answer = limit_count_take(model->rig->store, take, &state, &why);
	drift = drift_ms(model->begin_us);
	sure = count_younger(ledger, LIMIT_LEASE_MS - drift);
	perhaps = count_younger(ledger, LIMIT_LEASE_MS * 5 / 4 + drift);
	if (spent - drift + sure * UNIT_MS > 0)
		CASE_ASSERT(name, answer == ANSWER_NO);
	if (spent + perhaps * UNIT_MS <= 0)
		CASE_ASSERT(name, answer == ANSWER_YES);
	if (answer != ANSWER_YES)
		return;
	ledger->slots[i].open = true;
	ledger->slots[i].since_ms = model->now_ms;
}

static void
close_slot(struct ledger *ledger, int i, struct limit_take *take, int count,
    const char *name)
{
	struct model *model = &ledger->model;
	const char *why;

	CASE_ASSERT(name, limit_count_settle(model->rig->store, take, count,
	    &why) == ANSWER_YES);
	ledger->slots[i].open = false;
	model->level_ms += count * UNIT_MS;
}

static void
one_deed(struct ledger *ledger, int number, const char *name)
{
	struct model *model = &ledger->model;
	int i = (int)random_below(model, SLOTS);
	int64_t later_ms = random_below(model, UNIT_MS / 2);
	char message[16];
	struct limit_take take = {
		.scope = { "limit", "ledger" }, .subject = name,
		.message = message, .want = 1, .burst = BURST,
		.unit_us = UNIT_MS * 1000,
	};

	if (random_below(model, 50) == 0)	/* now and then all die */
		later_ms = LIMIT_LEASE_MS * 2;
	pass_time(model, later_ms);
	for (int j = 0; j < SLOTS && later_ms > LIMIT_LEASE_MS; j++)
		ledger->slots[j].open = false;
	if (!ledger->slots[i].open)
		ledger->number[i] = number;
	snprintf(message, sizeof(message), "m%d", ledger->number[i]);
	if (!ledger->slots[i].open)
		open_slot(ledger, i, &take, name);
	else
		close_slot(ledger, i, &take, random_below(model, 2) == 0,
		    name);
}

static void
keep_ledger(struct rig *rig)
{
	char name[64];

	for (uint32_t seed = 1; seed <= 3; seed++) {
		struct ledger ledger = {
			.model = { .rig = rig, .random = seed,
				.begin_us = clock_us() },
		};

		snprintf(name, sizeof(name), "%s: ledger %u", rig->back_end,
		    seed);
		for (int i = 0; i < EVENTS; i++)
			one_deed(&ledger, i, name);
	}
}

static void
reservations(void)
{
	rig_each("", keep_ledger);
}

/* --- many at a time --- */

struct crowd {
	struct rig *rig;
	int number, *halves;		/* of units */
	struct limit_past *past;
};

static void
one_of_many(void *argument)
{
	struct crowd *one = argument;
	bool reserve = one->number % 4 < 2;
	char message[16];
	const struct limit_take take = {
		.scope = { "limit", "crowd" }, .subject = "all",
		.message = message, .want = 1, .burst = 20,
		.unit_us = 3600 * SECOND_US, .past = reserve ? NULL :
		    one->past,
	};
	struct limit_state state;
	const char *why;

	/* Each message that reserves asks twice. */
	snprintf(message, sizeof(message), "m%d", reserve ?
	    one->number / 2 * 2 : one->number);
	if (limit_count_take(one->rig->store, &take, &state,
	    &why) == ANSWER_YES)
		*one->halves += reserve ? 1 : 2;
}

static void
gather(struct rig *rig)
{
	struct task *tasks[100];
	struct crowd crowd[100];
	struct limit_past *past = limit_past_new();
	int halves = 0;

	for (int i = 0; i < 100; i++) {
		crowd[i] = (struct crowd){ rig, i, &halves, past };
		tasks[i] = task_start("one", one_of_many, &crowd[i]);
	}
	for (int i = 0; i < 100; i++)
		task_join(&tasks[i], DEADLINE_NEVER);
	CASE_ASSERT(rig->back_end, halves == 40);
	limit_past_free(&past);
}

static void
parallel(void)
{
	rig_each("", gather);
}

/* --- many recipients; commands --- */

static void
address_many(struct rig *rig)
{
	char recipient[16];
	struct limit_take take = {
		.scope = { "limit", "many" }, .subject = "joe",
		.message = "m", .recipient = recipient, .burst = 1000,
		.unit_us = 3600 * SECOND_US,
	};
	struct limit_state state;
	struct buf text = BUF_INIT;
	const char *why;

	/* As Postfix does: each twice in a row, and old ones now and then. */
	for (int i = 0; i < 300; i++) {
		snprintf(recipient, sizeof(recipient), "r%d", i);
		CU_ASSERT(limit_count_take(rig->store, &take, &state,
		    &why) == ANSWER_YES);
		CASE_ASSERT(rig->back_end, state.used == i);
		CU_ASSERT(limit_count_take(rig->store, &take, &state,
		    &why) == ANSWER_YES);
		snprintf(recipient, sizeof(recipient), "r%d", i > 80 ?
		    i - 80 : 0);
		CU_ASSERT(limit_count_take(rig->store, &take, &state,
		    &why) == ANSWER_YES);
		CASE_ASSERT(rig->back_end, state.used == i + 1);
	}
	take.recipient = NULL;
	take.want = 300;
	CU_ASSERT(limit_count_take(rig->store, &take, &state, &why) ==
	    ANSWER_YES);
	CASE_ASSERT(rig->back_end, state.used == 300);
	CU_ASSERT(limit_count_settle(rig->store, &take, 2, &why) ==
	    ANSWER_YES);
	CU_ASSERT(limit_count_show(rig->store, &take.scope, NULL, &text,
	    &why) == ANSWER_YES);
	CU_ASSERT_STRING_EQUAL(text.data,
	    "joe used=2 reserved=0 free_in=7200\n");
	buf_release(&text);
}

static void
recipients(void)
{
	rig_each("", address_many);
}

static void
command(struct rig *rig)
{
	const struct limit_scope scope = { "limit", "shown" };
	const struct limit_scope other = { "limit", "shown2" };
	struct limit_take take = {
		.scope = scope, .subject = "joe@example.org example.net",
		.message = "m", .want = 2, .burst = 10,
		.unit_us = 60 * SECOND_US, .past = limit_past_new(),
	};
	struct limit_state state;
	struct buf text = BUF_INIT;
	const char *why;

	CU_ASSERT(limit_count_show(rig->store, &scope, NULL, &text, &why) ==
	    ANSWER_YES && text.len == 0);
	limit_count_take(rig->store, &take, &state, &why);
	take.subject = "a\tb";
	take.want = 1;
	limit_past_free(&take.past);
	limit_count_take(rig->store, &take, &state, &why);
	CU_ASSERT(limit_count_show(rig->store, &other, NULL, &text, &why) ==
	    ANSWER_YES && text.len == 0);
	CU_ASSERT(limit_count_show(rig->store, &scope, NULL, &text, &why) ==
	    ANSWER_YES);
	CASE_ASSERT(rig->back_end, strstr(text.data,
	    "joe@example.org example.net used=2 reserved=0 free_in=120\n") !=
	    NULL);
	CASE_ASSERT(rig->back_end, strstr(text.data,
	    "a?b used=1 reserved=1 free_in=0\n") != NULL);
	buf_reset(&text);
	CU_ASSERT(limit_count_show(rig->store, &scope,
	    "JOE@example.org example.net", &text, &why) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, strncmp(text.data, "JOE@", 4) == 0 &&
	    strchr(text.data, '\n') == text.data + text.len - 1);
	CU_ASSERT(limit_count_reset(rig->store, &scope,
	    "joe@example.org EXAMPLE.net", &why) == ANSWER_YES);
	CU_ASSERT(limit_count_reset(rig->store, &scope,
	    "joe@example.org example.net", &why) == ANSWER_NO);
	buf_reset(&text);
	CU_ASSERT(limit_count_show(rig->store, &scope,
	    "joe@example.org example.net", &text, &why) == ANSWER_YES);
	CU_ASSERT(text.len == 0);
	buf_release(&text);
}

static void
commands(void)
{
	rig_each("", command);
}

/* Old ones give way to new ones, and nothing is taken for another. */
static void
forget(struct rig *rig)
{
	struct limit_past *past = limit_past_new();
	struct limit_past_key key, other;
	char message[16];
	int known = 0;

	(void)rig;
	for (int i = 1; i <= 40000; i++) {
		snprintf(message, sizeof(message), "m%d", i);
		key = limit_past_key("joe", message, "");
		CU_ASSERT_EQUAL(limit_past_get(past, &key), 0);
		limit_past_put(past, &key, i);
		limit_past_put(past, &key, i + 1);
		CU_ASSERT_EQUAL(limit_past_get(past, &key), i + 1);
	}
	other = limit_past_key("joe", message, "ann");
	CU_ASSERT_EQUAL(limit_past_get(past, &other), 0);
	for (int i = 1; i <= 40000; i++) {
		int64_t taken;

		snprintf(message, sizeof(message), "m%d", i);
		key = limit_past_key("JOE", message, "");
		taken = limit_past_get(past, &key);
		CU_ASSERT(taken == 0 || taken == i + 1);
		known += taken != 0;
	}
	CU_ASSERT(known > 16000 && known <= 16384);
	limit_past_free(&past);
}

static void
forgets(void)
{
	rig_alone(forget);
}

SUITE(limit_count,
    { "story", story },
    { "rates against a naive model", against_model },
    { "reservations against a list", reservations },
    { "parallel callers", parallel },
    { "many recipients", recipients },
    { "what was taken is forgotten", forgets },
    { "show and reset", commands })
