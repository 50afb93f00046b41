/* Greylisting as a story: who comes when, and what is said. */
#include "policy/greylist.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

#define SECOND	INT64_C(1000)
#define MINUTE	(60 * SECOND)
#define HOUR	(60 * MINUTE)
#define DAY	(24 * HOUR)

struct visit {
	const char *name;
	int64_t later_ms;		/* since the visit before */
	struct greylist_request request;
	enum answer want;
	int64_t wait_ms;		/* at most, and a minute less at least */
	const char *why;
};

#define FROM(address, sender, recipient) \
	{ NULL, address, NULL, sender, recipient }

static const struct visit visits[] = {
	{ "a stranger", 0, FROM("192.0.2.1", "a@x.test", "r@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "too early", 2 * MINUTE, FROM("192.0.2.1", "a@x.test", "r@y.test"),
	    ANSWER_NO, 3 * MINUTE, "early" },
	{ "another recipient", 0, FROM("192.0.2.1", "a@x.test", "s@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "another network", 0, FROM("192.0.3.1", "a@x.test", "r@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "another domain", 0, FROM("192.0.2.1", "a@z.test", "r@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "back in time, from a neighbour, with other capitals, as another",
	    4 * MINUTE, FROM("192.0.2.77", "b@X.test", "R@y.test"),
	    ANSWER_YES, 0, "passed" },
	{ "known now", 0, FROM("192.0.2.1", "a@x.test", "r@y.test"),
	    ANSWER_YES, 0, "known" },
	{ "still known", 35 * DAY, FROM("192.0.2.1", "a@x.test", "r@y.test"),
	    ANSWER_YES, 0, "known" },
	{ "known by its last mail", 35 * DAY, FROM("192.0.2.1", "a@x.test",
	    "r@y.test"), ANSWER_YES, 0, "known" },
	{ "forgotten", 37 * DAY, FROM("192.0.2.1", "a@x.test", "r@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "back too late", 2 * DAY + MINUTE, FROM("192.0.2.1", "a@x.test",
	    "r@y.test"), ANSWER_NO, 5 * MINUTE, "new" },
	{ "IPv6", 0, FROM("2001:db8:1:2:3::4", "a@x.test", "r@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "a bounce", 0, FROM("198.51.100.1", "", "r@y.test"),
	    ANSWER_NO, 5 * MINUTE, "new" },
	{ "IPv6: the same /64", 6 * MINUTE, FROM("2001:db8:1:2:ffff::1",
	    "a@x.test", "r@y.test"), ANSWER_YES, 0, "passed" },
	{ "IPv6: another /64", 0, FROM("2001:db8:1:3:3::4", "a@x.test",
	    "r@y.test"), ANSWER_NO, 5 * MINUTE, "new" },
	{ "the bounce again", 0, FROM("198.51.100.1", "", "r@y.test"),
	    ANSWER_YES, 0, "passed" },
	{ "IPv4 in IPv6", 0, FROM("::ffff:198.51.100.9", "", "r@y.test"),
	    ANSWER_YES, 0, "known" },
	{ "an exempt network", 0, FROM("203.0.113.5", "a@x.test",
	    "r@y.test"), ANSWER_YES, 0, "exempt" },
	{ "an exempt name", 0, { NULL, "198.51.100.3", "mx.friend.test",
	    "a@x.test", "r@y.test" }, ANSWER_YES, 0, "exempt" },
	{ "no exempt name", 0, { NULL, "198.51.100.3", "mx.other.test",
	    "a@x.test", "r@y.test" }, ANSWER_NO, 5 * MINUTE, "new" },
	{ "an exempt sender is nothing", 0, FROM("198.51.101.3",
	    "a@friend.test", "r@y.test"), ANSWER_NO, 5 * MINUTE, "new" },
	{ "a user", 0, { "user", "198.51.100.3", NULL, "a@x.test",
	    "t@y.test" }, ANSWER_NO, 5 * MINUTE, "new" },
	{ "the user elsewhere", 6 * MINUTE, { "user", "192.88.99.1", NULL,
	    "a@x.test", "t@y.test" }, ANSWER_YES, 0, "passed" },
	{ "another user", 0, { "user2", "192.88.99.1", NULL, "a@x.test",
	    "t@y.test" }, ANSWER_NO, 5 * MINUTE, "new" },
	{ "no address", 0, FROM(NULL, "a@x.test", "r@y.test"),
	    ANSWER_UNKNOWN, 0, NULL },
	{ "an address that is none", 0, FROM("1.2.3", "a@x.test",
	    "r@y.test"), ANSWER_UNKNOWN, 0, NULL },
};

static void
visit(struct rig *rig, struct greylist *greylist, const struct visit *v)
{
	int64_t wait_ms = -1;
	const char *why = NULL;
	char name[128];

	snprintf(name, sizeof(name), "%s: %s", rig->back_end, v->name);
	store_shift_clock(rig->store, v->later_ms);
	CASE_ASSERT(name, greylist_check(greylist, &v->request, &wait_ms,
	    &why) == v->want);
	CASE_ASSERT(name, wait_ms <= v->wait_ms &&
	    (v->wait_ms == 0 || wait_ms > v->wait_ms - MINUTE));
	if (v->why != NULL)
		CASE_ASSERT(name, strcmp(why, v->why) == 0);
}

static void
tell_story(struct rig *rig)
{
	struct greylist *greylist = greylist_new(rig->conf, rig->store);

	for (size_t i = 0; i < sizeof(visits) / sizeof(visits[0]); i++)
		visit(rig, greylist, &visits[i]);
	greylist_free(&greylist);
}

static void
story(void)
{
	rig_each("greylist { exempt = { \"203.0.113.0/24\", "
	    "\".friend.test\" } }", tell_story);
}

/* A network whose mail has come back several times is let through. */
static void
pass_often(struct rig *rig)
{
	struct greylist *greylist = greylist_new(rig->conf, rig->store);
	struct visit v = { "first", 0, FROM("192.0.2.1", "a@x.test", NULL),
		ANSWER_NO, 5 * MINUTE, "new" };
	char recipient[32];

	v.request.recipient = recipient;
	for (int i = 0; i < 3; i++) {
		snprintf(recipient, sizeof(recipient), "r%d@y.test", i);
		v.name = recipient;
		v.want = ANSWER_NO;
		v.wait_ms = 5 * MINUTE;
		v.later_ms = 0;
		v.why = "new";
		visit(rig, greylist, &v);
		v.want = ANSWER_YES;
		v.wait_ms = 0;
		v.later_ms = 6 * MINUTE;
		v.why = "passed";
		visit(rig, greylist, &v);
	}
	v.later_ms = 0;
	v.why = "network";
	strcpy(recipient, "new@y.test");
	visit(rig, greylist, &v);
	for (int i = 0; i < 3; i++) {
		v.name = "kept alive by mail";
		v.later_ms = 30 * DAY;
		visit(rig, greylist, &v);
	}
	v.name = "forgotten in time";
	v.later_ms = 37 * DAY;
	v.want = ANSWER_NO;
	v.wait_ms = 5 * MINUTE;
	v.why = "new";
	visit(rig, greylist, &v);
	greylist_free(&greylist);
}

static void
networks(void)
{
	rig_each("greylist { auto_whitelist = 3 }", pass_often);
}

static void
whole_sender(struct rig *rig)
{
	static const struct visit story_of[] = {
		{ "new", 0, FROM("192.0.2.1", "a@x.test", "r@y.test"),
		    ANSWER_NO, 5 * MINUTE, "new" },
		{ "another sender", 6 * MINUTE, FROM("192.0.2.1", "b@x.test",
		    "r@y.test"), ANSWER_NO, 5 * MINUTE, "new" },
		{ "another address", 0, FROM("192.0.2.2", "a@x.test",
		    "r@y.test"), ANSWER_NO, 5 * MINUTE, "new" },
		{ "the same", 0, FROM("192.0.2.1", "a@x.test", "r@y.test"),
		    ANSWER_YES, 0, "passed" },
	};
	struct greylist *greylist = greylist_new(rig->conf, rig->store);

	for (size_t i = 0; i < sizeof(story_of) / sizeof(story_of[0]); i++)
		visit(rig, greylist, &story_of[i]);
	greylist_free(&greylist);
}

static void
options(void)
{
	rig_each("greylist { sender = address ipv4_prefix = 32 }",
	    whole_sender);
}

#define COMMAND(words) ask_command(rig, &greylist_service, words)

static void
manage(struct rig *rig)
{
	struct greylist *greylist = greylist_new(rig->conf, rig->store);
	const struct visit first = { "first", 0, FROM("192.0.2.1", "a@x.test",
	    "r@y.test"), ANSWER_NO, 5 * MINUTE, "new" };
	struct visit again = { "again", 0, FROM("192.0.2.1", "a@x.test",
	    "s@y.test"), ANSWER_NO, 5 * MINUTE, "new" };

	CU_ASSERT_STRING_EQUAL(COMMAND("greylist show 192.0.2.9 b@x.test "
	    "r@y.test"), "network: 0 passed, is let through from 5 on\n"
	    "sender and recipient: not seen\n");
	visit(rig, greylist, &first);
	visit(rig, greylist, &again);
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist show 192.0.2.9 b@x.test "
	    "r@y.test"), "network: 0 passed, is let through from 5 on\n"
	    "sender and recipient: has to wait 5m, known for 2d\n");
	again.later_ms = 6 * MINUTE;
	again.want = ANSWER_YES;
	again.wait_ms = 0;
	again.why = "passed";
	visit(rig, greylist, &again);
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist show 192.0.2.9"),
	    "network: 1 passed, is let through from 5 on\n");
	CU_ASSERT_PTR_NOT_NULL(strstr(COMMAND("greylist show 192.0.2.9 "
	    "b@x.test s@y.test"), "recipient: passed "));
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist show"), "1 wait or did not "
	    "come back\n1 have passed\n1 networks have passed\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist forget 192.0.2.1 a@x.test "
	    "r@y.test"), "1 forgotten\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist forget 192.0.2.1 a@x.test "
	    "r@y.test"), "0 forgotten\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist forget 192.0.3.1"),
	    "0 forgotten\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist forget 192.0.2.200"),
	    "2 forgotten\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist show"), "0 wait or did not "
	    "come back\n0 have passed\n0 networks have passed\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("greylist show user:joe <> r@y.test"),
	    "network: 0 passed, is let through from 5 on\n"
	    "sender and recipient: not seen\n");
	CU_ASSERT_EQUAL(COMMAND("greylist show x@y.test")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("greylist show 192.0.2.1 a@x.test")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("greylist forget")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("greylist")[0], '!');
	greylist_free(&greylist);
}

static void
commands(void)
{
	rig_each("", manage);
}

static void
checks(void)
{
	static const struct rig_check wrong[] = {
		{ "good", "", NULL },
		{ "delay", "greylist { delay = 1h retry_window = 30m }",
		    "delay" },
		{ "message", "greylist { message = \"\" }", "message" },
		{ "line break", "greylist { message = \"a\\nb\" }",
		    "message" },
		{ "listen", "policy { listen = { \"mail.example\" } }",
		    "listen" },
		{ "server", "store { server = { \"redis\" } }", "server" },
		{ "user", "store { user = \"x\" }", "user" },
	};

	rig_check_options(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

SUITE(greylist,
    { "story", story },
    { "networks that pass often", networks },
    { "the whole sender", options },
    { "commands", commands },
    { "checks of options", checks })
