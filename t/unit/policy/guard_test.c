/* The outbound guard: what it learns, how far it goes, and when it ends. */
#include "policy/guard.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "policy/geo.h"
#include "policy/guard_watch.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define HOUR	INT64_C(3600000)
#define DAY	(24 * HOUR)

static const struct guard_limits limits = {
	.floor = { 4, 10, 6, 3, 1 }, .factor = 2, .most = GUARD_SUSPEND,
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
send_from(struct rig *rig, const char *user, int message, int recipient,
    const char *country, struct guard_state *state)
{
	char id[32], address[32];
	const struct guard_deed deed = { GUARD_RECIPIENT, user, id, address,
		country };
	const char *why;

	snprintf(id, sizeof(id), "m%d", message);
	snprintf(address, sizeof(address), "r%d@x.test", recipient);
	return guard_watch(rig->store, &limits, &deed, state, &why);
}

static enum answer
send_one(struct rig *rig, const char *user, int message, int recipient,
    struct guard_state *state)
{
	return send_from(rig, user, message, recipient, "", state);
}

static enum answer
bounce(struct rig *rig, const char *user, const char *message, int recipient,
    struct guard_state *state)
{
	char address[16];
	const struct guard_deed deed = { GUARD_BOUNCE, user, message, address,
		"" };
	const char *why;

	snprintf(address, sizeof(address), "b%d", recipient);
	return guard_watch(rig->store, &limits, &deed, state, &why);
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
		for (int twice = 0; twice < 2; twice++)
			answer = bounce(rig, "sue", "1", i, &s);
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
	for (int i = 0; i < 13; i++)
		bounce(rig, "sue", "2", i, &s);
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

static const char *
shown(struct rig *rig, const char *user)
{
	static char text[1024];
	struct buf out = BUF_INIT;
	const char *why;

	CU_ASSERT(guard_watch_show(rig->store, &limits, user, &out, &why) ==
	    ANSWER_YES);
	snprintf(text, sizeof(text), "%s", out.data);
	buf_release(&out);
	return text;
}

/* A journey; then who has the password from many countries at once. */
static void
travel(struct rig *rig)
{
	struct guard_state s;
	int64_t shift = 0;
	const char *why;
	int message = 0;

	/* At home, by the first message. */
	next_hour(rig, &shift, DAY);
	CU_ASSERT(send_from(rig, "eve", message++, 0, "DE", &s) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, s.level == GUARD_CALM &&
	    s.limit[GUARD_MESSAGES] == 4 && s.count[GUARD_COUNTRIES] == 1);
	CU_ASSERT_STRING_EQUAL(shown(rig, "eve"), "eve calm messages=1/4 "
	    "recipients=1/10 new_recipients=1/6 bounces=0/3 countries=1/1 "
	    "home=DE\n");

	/* Elsewhere, the limits are half until the third day. */
	for (int day = 1; day <= 4; day++) {
		next_hour(rig, &shift, DAY - HOUR);
		for (int i = 0; i < 3; i++)
			send_from(rig, "eve", message++, 0, "FR", &s);
		CASE_ASSERT(rig->back_end, s.limit[GUARD_MESSAGES] ==
		    (day < 3 ? 2 : 4));
		CASE_ASSERT(rig->back_end, s.limit[GUARD_NEW] ==
		    (day < 3 ? 3 : 6));
		CASE_ASSERT(rig->back_end, s.level ==
		    (day < 3 ? GUARD_SLOW : GUARD_CALM));
	}
	next_hour(rig, &shift, DAY - HOUR);
	CU_ASSERT(send_from(rig, "eve", message++, 0, "DE", &s) == ANSWER_YES);
	CASE_ASSERT(rig->back_end, s.count[GUARD_COUNTRIES] == 1 &&
	    s.level == GUARD_CALM);
	CU_ASSERT_PTR_NOT_NULL(strstr(shown(rig, "eve"), " home=DE,FR\n"));

	/* Cannot be in both. */
	CASE_ASSERT(rig->back_end, send_from(rig, "eve", message, 0, "NG",
	    &s) == ANSWER_NO && s.level == GUARD_SLOW && s.first &&
	    s.worst == GUARD_COUNTRIES && s.count[GUARD_COUNTRIES] == 2);
	CASE_ASSERT(rig->back_end, s.wait_ms > 0 && s.wait_ms <= HOUR / 5);
	CASE_ASSERT(rig->back_end, send_from(rig, "eve", message++, 0, "BR",
	    &s) == ANSWER_YES && s.level == GUARD_HOLD && s.first);
	send_from(rig, "eve", message++, 0, "US", &s);
	CASE_ASSERT(rig->back_end, send_from(rig, "eve", message++, 0, "CN",
	    &s) == ANSWER_NO && s.level == GUARD_SUSPEND && s.first);
	CU_ASSERT_PTR_NOT_NULL(strstr(shown(rig, "eve"), " countries=5/1 "
	    "home=DE,FR new=NG,BR,US,CN\n"));
	CU_ASSERT(send_one(rig, "eve", message++, 0, &s) == ANSWER_NO);

	CU_ASSERT(guard_watch_release(rig->store, "eve", &why) == ANSWER_YES);
	send_from(rig, "eve", message++, 0, "FR", &s);
	CASE_ASSERT(rig->back_end, send_from(rig, "eve", message++, 0, "DE",
	    &s) == ANSWER_YES && s.level == GUARD_CALM &&
	    s.count[GUARD_COUNTRIES] == 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(shown(rig, "eve"), " home=DE,FR\n"));
	/* Where nothing can be told, nothing changes. */
	CU_ASSERT(send_one(rig, "eve", message++, 0, &s) == ANSWER_YES &&
	    s.limit[GUARD_MESSAGES] == 4);
}

/* More countries than are kept: the oldest goes, home at last. */
static void
wander(struct rig *rig)
{
	char country[3] = "AA", *found;
	struct guard_state s;
	int64_t shift = 0;

	next_hour(rig, &shift, DAY);
	for (int i = 0; i < 25; i++) {
		country[1] = (char)('A' + i);
		send_from(rig, "jet", i, 0, country, &s);
		next_hour(rig, &shift, 4 * HOUR);
	}
	found = strstr(shown(rig, "jet"), " new=");
	CASE_ASSERT(rig->back_end, found != NULL && strlen(found) ==
	    strlen(" new=") + 20 * 3 && strstr(found, "AE") == NULL &&
	    strstr(found, "AF") != NULL && strstr(found, "home=") == NULL);
	next_hour(rig, &shift, 100 * DAY);
	CASE_ASSERT(rig->back_end, send_from(rig, "jet", 99, 0, "ZZ", &s) ==
	    ANSWER_YES && s.limit[GUARD_MESSAGES] == 4);
	CU_ASSERT_PTR_NOT_NULL(strstr(shown(rig, "jet"), " home=ZZ\n"));
}

static void
journeys(void)
{
	rig_each("", travel);
	rig_each("", wander);
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

/* Once for each level, for a relay to fetch. */
static void
told(struct rig *rig)
{
	struct buf all = BUF_INIT;
	const char *why;

	while (store_tally_claim(rig->store, GUARD_TALLY, false, 60000, &all,
	    &why) == ANSWER_YES)
		continue;
	CASE_ASSERT(rig->back_end, all.len > 0 && strstr(all.data,
	    "\n1\tjoe\tslow\tmessages\t3\t2\t\n") != NULL);
	CASE_ASSERT(rig->back_end, all.len > 0 && strstr(all.data,
	    "\n1\tjoe\tsuspend\tbounces\t5\t1\t\n") != NULL);
	buf_release(&all);
}

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
	told(rig);
	guard_service.release(guard);
}

/* By the client's address, as far as that tells. */
static void
serve_travellers(struct rig *rig)
{
	void *guard = ask_setup(rig, &guard_service, 0);
	struct policy_decision d;
	int64_t shift = 0;

	next_hour(rig, &shift, 0);
	d = ask(&guard_service, guard, false, FROM("kim", "m1", "r@x.test")
	    "|client_address=192.0.2.1");
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DUNNO);
	d = ask(&guard_service, guard, false, FROM("kim", "m2", "r@x.test")
	    "|client_address=198.18.3.1");
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DEFER && strncmp(d.text,
	    "You send from more countries than usual, try again in ", 54) ==
	    0 && strcmp(d.why, "kim: countries=2 limit=1") == 0);
	CASE_ASSERT(rig->back_end, rig_log_count(rig, "guard: user=kim "
	    "action=slow measure=countries count=2 limit=1 country=NG") == 1);
	d = ask(&guard_service, guard, false, FROM("kim", "m3", "r@x.test")
	    "|client_address=10.0.0.1");
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DUNNO);
	d = ask(&guard_service, guard, false, FROM("kim", "m4", "r@x.test")
	    "|client_address=198.18.4.1");
	CASE_ASSERT(rig->back_end, d.verb == POLICY_HOLD &&
	    strcmp(d.text, "unusual mail of user kim") == 0);
	CU_ASSERT(strstr(ask_command(rig, &guard_service, "guard show kim"),
	    " countries=3/1 home=DE new=NG,BR") != NULL);
	guard_service.release(guard);
}

static void
travellers(void)
{
	const char *why;

	CU_ASSERT_EQUAL(geo_load(GEO_COUNTRY,
	    unit_path("t/unit/policy/country.mmdb"), &why), 0);
	rig_each("", serve_travellers);
	geo_close();
}

static void
service(void)
{
	rig_each("outbound_guard { messages = 2 bounces = 1 suspend = 1h"
	    " exempt = { boss } notify = { \"p@x.test\" } }", serve);
}

static void
options(void)
{
	static const struct rig_check checks[] = {
		{ "good", "outbound_guard { notify = { \"p@x.test\", "
		    "\"q@y.test\" } }", NULL },
		{ "no address", "outbound_guard { notify = { \"p@x.test\", "
		    "postmaster } }", "notify: postmaster: not a mail address" },
	};

	rig_check_options(checks, sizeof(checks) / sizeof(checks[0]));
}

SUITE(guard,
    { "levels", escalation },
    { "floods and bounces", floods },
    { "learning", learning },
    { "countries", journeys },
    { "service", service },
    { "service and countries", travellers },
    { "checks of options", options })
