/* The outbound guard: what it learns, how far it goes, and when it ends. */
#include "policy/guard.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "policy/guard_watch.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define HOUR	INT64_C(3600000)
#define DAY	(24 * HOUR)

static const struct guard_limits limits = {
	.floor = { 4, 10, 6, 3 }, .factor = 2, .most = GUARD_SUSPEND,
	.suspend_ms = DAY,
};

/* To the beginning of an hour, with all of it ahead. */
static void
next_hour(struct rig *rig, int64_t *shift, int64_t more)
{
	int64_t to = HOUR - (clock_wall_ms() + *shift) % HOUR + 1000 + more;

	store_shift_clock(rig->store, to);
	*shift += to;
}

static enum answer
send_one(struct rig *rig, const char *user, int message, int recipient,
    struct guard_state *state)
{
	char id[32], address[32];
	const char *why;

	snprintf(id, sizeof(id), "m%d", message);
	snprintf(address, sizeof(address), "r%d@x.test", recipient);
	return guard_watch(rig->store, &limits, GUARD_RECIPIENT, user, id,
	    address, state, &why);
}

/* Messages to a known recipient, until one is not let through at once. */
static void
escalate(struct rig *rig)
{
	struct guard_state s;
	int64_t shift = 0;
	int passed = 0, held = 0, slowed = 0, i;

	next_hour(rig, &shift, 0);
	for (i = 0; i < 60; i++) {
		enum answer answer = send_one(rig, "joe", i, 0, &s);

		if (i < 4)
			CASE_ASSERT(rig->back_end, answer == ANSWER_YES &&
			    s.level == GUARD_CALM && s.wait_ms == 0);
		if (answer == ANSWER_YES && s.level != GUARD_HOLD)
			passed++;
		if (s.level == GUARD_SLOW && answer == ANSWER_NO) {
			/* It asks again and again: that counts nothing. */
			CASE_ASSERT(rig->back_end, s.wait_ms > 0 &&
			    s.wait_ms <= HOUR / 4);
			CASE_ASSERT(rig->back_end, s.first == (slowed == 0));
			slowed++;
			if (slowed > 5)
				break;
		}
	}
	CASE_ASSERT(rig->back_end, passed == 4 && slowed == 6);

	/* At its pace it gets through, but not for long. */
	for (i = 100; i < 130; i++) {
		enum answer answer;

		store_shift_clock(rig->store, HOUR / 4 / 100 + 1);
		shift += HOUR / 4 / 100 + 1;
		answer = send_one(rig, "joe", i, 0, &s);
		held += answer == ANSWER_YES && s.level == GUARD_HOLD;
	}
	CASE_ASSERT(rig->back_end, s.level == GUARD_SLOW && held == 0);
	for (i = 200; i < 204; i++) {
		store_shift_clock(rig->store, HOUR / 4);
		shift += HOUR / 4;
		CASE_ASSERT(rig->back_end, send_one(rig, "joe", i, 0, &s) ==
		    ANSWER_YES);
	}
	CU_ASSERT(send_one(rig, "ann", 1, 0, &s) == ANSWER_YES &&
	    s.level == GUARD_CALM);
}

/* Recipients: many at once, each once; then all of the levels. */
static void
flood(struct rig *rig)
{
	struct guard_state s;
	struct buf text = BUF_INIT;
	const char *why;
	int64_t shift = 0;
	enum answer answer = ANSWER_YES;

	next_hour(rig, &shift, 0);
	for (int i = 0; i < 6; i++) {
		CU_ASSERT(send_one(rig, "sue", 1, i, &s) == ANSWER_YES);
		CU_ASSERT(send_one(rig, "sue", 1, i, &s) == ANSWER_YES);
		CASE_ASSERT(rig->back_end, s.level == GUARD_CALM &&
		    s.count[GUARD_MESSAGES] == 1 &&
		    s.count[GUARD_RECIPIENTS] == i + 1 &&
		    s.count[GUARD_NEW] == i + 1);
	}
	CASE_ASSERT(rig->back_end, send_one(rig, "sue", 1, 6, &s) ==
	    ANSWER_NO && s.level == GUARD_SLOW && s.worst == GUARD_NEW);

	/* Bounces alone suspend. */
	for (int i = 0; i < 13; i++) {
		char address[16];

		snprintf(address, sizeof(address), "b%d", i);
		for (int twice = 0; twice < 2; twice++)
			answer = guard_watch(rig->store, &limits,
			    GUARD_BOUNCE, "sue", "1", address, &s, &why);
		CASE_ASSERT(rig->back_end, answer == ANSWER_YES &&
		    s.count[GUARD_BOUNCES] == i + 1);
	}
	CASE_ASSERT(rig->back_end, send_one(rig, "sue", 2, 0, &s) ==
	    ANSWER_NO && s.level == GUARD_SUSPEND);
	CASE_ASSERT(rig->back_end, s.wait_ms > DAY - HOUR / 60 && s.wait_ms <=
	    DAY);
	CU_ASSERT(guard_watch_show(rig->store, &limits, NULL, &text, &why) ==
	    ANSWER_YES);
	CASE_ASSERT(rig->back_end, strstr(text.data, "sue suspended for=86") !=
	    NULL && strstr(text.data, "messages=1/4 recipients=6/10 "
	    "new_recipients=6/6 bounces=13/3\n") != NULL);
	buf_release(&text);

	/* Released by the operator; or by time. */
	CU_ASSERT(guard_watch_release(rig->store, "SUE", &why) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, send_one(rig, "sue", 3, 0, &s) ==
	    ANSWER_YES && s.level == GUARD_CALM);
	CU_ASSERT(guard_watch_release(rig->store, "bob", &why) == ANSWER_NO);
	for (int i = 0; i < 13; i++) {
		char address[16];

		snprintf(address, sizeof(address), "c%d", i);
		guard_watch(rig->store, &limits, GUARD_BOUNCE, "sue", "2",
		    address, &s, &why);
	}
	CU_ASSERT(send_one(rig, "sue", 4, 0, &s) == ANSWER_NO);
	store_shift_clock(rig->store, DAY + HOUR);
	CASE_ASSERT(rig->back_end, send_one(rig, "sue", 5, 0, &s) ==
	    ANSWER_YES && s.level == GUARD_CALM);
}

/* Who sends eight a day may soon send more; who stops, no longer. */
static void
learn(struct rig *rig)
{
	struct guard_state s;
	int64_t shift = 0;
	int64_t before = 0;

	for (int day = 0; day < 20; day++) {
		next_hour(rig, &shift, DAY - HOUR);
		for (int i = 0; i < 8; i++) {
			if (send_one(rig, "tom", day * 100 + i, 0, &s) !=
			    ANSWER_YES) {
				store_shift_clock(rig->store, HOUR / 4);
				shift += HOUR / 4;
			}
		}
		CASE_ASSERT(rig->back_end, s.limit[GUARD_MESSAGES] >= before);
		before = s.limit[GUARD_MESSAGES];
	}
	CASE_ASSERT(rig->back_end, before > 10 && before <= 16);
	next_hour(rig, &shift, 120 * DAY);
	send_one(rig, "tom", 9999, 0, &s);
	CASE_ASSERT(rig->back_end, s.limit[GUARD_MESSAGES] == 4);
}

static void
escalation(void)
{
	rig_each("", escalate);
}

static void
floods(void)
{
	rig_each("", flood);
}

static void
learning(void)
{
	rig_each("", learn);
}

/* --- the service --- */

#define FROM(user, id, to) "sasl_username=" user "|instance=" id "|recipient=" to

static void
serve(struct rig *rig)
{
	void *guard = ask_setup(rig, &guard_service, 0);
	struct policy_decision d;
	int64_t shift = 0;
	char text[128];

	next_hour(rig, &shift, 0);
	for (int i = 0; i < 3; i++) {
		snprintf(text, sizeof(text), FROM("%s", "m%d", "r%d@x.test"),
		    "joe", i, i);
		d = ask(&guard_service, guard, false, text);
		CASE_ASSERT(rig->back_end, (i < 2) == (d.verb ==
		    POLICY_DUNNO));
		snprintf(text, sizeof(text), FROM("%s", "m%d", "r%d@x.test"),
		    "boss", i, i);
		d = ask(&guard_service, guard, false, text);
		CU_ASSERT(d.verb == POLICY_DUNNO);
		snprintf(text, sizeof(text), "instance=m%d|recipient=x@y", i);
		d = ask(&guard_service, guard, false, text);
		CU_ASSERT(d.verb == POLICY_DUNNO);
	}
	d = ask(&guard_service, guard, false, FROM("joe", "m9", "r9@x.test"));
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DEFER && d.code == 450 &&
	    strstr(d.text, "try again in ") != NULL &&
	    strcmp(d.reason, "guard-slow") == 0);
	CASE_ASSERT(rig->back_end, rig_log_count(rig, "guard: user=joe "
	    "action=slow measure=messages count=3 limit=2") == 1);
	for (int i = 0; i < 5; i++) {
		snprintf(text, sizeof(text), FROM("%s", "m%d", "b%d@x.test"),
		    "joe", i, i);
		ask_tell(&guard_service, guard, OUTCOME_BOUNCED, text);
	}
	d = ask(&guard_service, guard, false, FROM("joe", "m10", "r1@x.test"));
	CASE_ASSERT(rig->back_end, d.verb == POLICY_REJECT && d.code == 550 &&
	    strcmp(d.reason, "guard-suspended") == 0);
	CASE_ASSERT(rig->back_end, rig_log_count(rig, "guard: user=joe "
	    "action=suspend measure=bounces count=5 limit=1") == 1);
	CU_ASSERT(strstr(ask_command(rig, &guard_service, "guard show joe"),
	    "joe suspended for=3") != NULL);
	CU_ASSERT_STRING_EQUAL(ask_command(rig, &guard_service,
	    "guard release joe"), "");
	CU_ASSERT(strstr(ask_command(rig, &guard_service,
	    "guard release bob"), "nothing is known") != NULL);
	CU_ASSERT(strstr(ask_command(rig, &guard_service, "guard release"),
	    "guard release USER") != NULL);
	d = ask(&guard_service, guard, false, FROM("joe", "m11", "r1@x.test"));
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DUNNO);
	guard_service.release(guard);
}

static void
service(void)
{
	rig_each("outbound_guard { messages = 2 bounces = 1 suspend = 1h"
	    " exempt = { boss } }", serve);
}

SUITE(guard,
    { "levels", escalation },
    { "floods and bounces", floods },
    { "learning", learning },
    { "service", service })
