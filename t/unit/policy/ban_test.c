/* Bans and passes as a story, over each back end of the store. */
#include "policy/ban.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "policy/store.h"
#include "policy/subject.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define SECOND	INT64_C(1000)
#define MINUTE	(60 * SECOND)
#define HOUR	(60 * MINUTE)

static const struct ban_limits limits = { .offences = 5,
	.window_ms = 10 * MINUTE, .first_ms = 10 * MINUTE,
	.longest_ms = 30 * MINUTE };

enum deed { CHECK, OFFEND, PASS, ADD, REMOVE };

/* left_ms: of the ban, or, at CHECK of one that is not banned, of its pass. */
static const struct event {
	const char *name;
	int64_t later_ms;		/* since the event before */
	enum deed deed;
	const char *subject;
	int64_t number;			/* of offences; how long */
	enum answer want;
	int64_t left_ms;		/* at most, and a minute less at least */
} story[] = {
	{ "a stranger", 0, CHECK, "192.0.2.1", 0, ANSWER_NO, 0 },
	{ "a few offences", 0, OFFEND, "192.0.2.1", 4, ANSWER_NO, 0 },
	{ "no ban yet", 0, CHECK, "192.0.2.1", 0, ANSWER_NO, 0 },
	{ "others are others", 0, OFFEND, "192.0.2.2", 1, ANSWER_NO, 0 },
	{ "one more", 9 * MINUTE, OFFEND, "192.0.2.1", 1, ANSWER_YES,
	    10 * MINUTE },
	{ "banned", MINUTE, CHECK, "192.0.2.1", 0, ANSWER_YES, 9 * MINUTE },
	{ "offences of the banned are not new", 0, OFFEND, "192.0.2.1", 9,
	    ANSWER_NO, 9 * MINUTE },
	{ "a pass is not for it", 0, PASS, "192.0.2.1", HOUR, ANSWER_NO, 0 },
	{ "its neighbour is free", 0, CHECK, "192.0.2.2", 0, ANSWER_NO, 0 },
	{ "free again", 10 * MINUTE, CHECK, "192.0.2.1", 0, ANSWER_NO, 0 },
	{ "the second time", 0, OFFEND, "192.0.2.1", 5, ANSWER_YES,
	    20 * MINUTE },
	{ "takes twice as long", 19 * MINUTE, CHECK, "192.0.2.1", 0,
	    ANSWER_YES, MINUTE },
	{ "the third", 2 * MINUTE, OFFEND, "192.0.2.1", 50, ANSWER_YES,
	    30 * MINUTE },
	{ "forgotten", 61 * MINUTE, OFFEND, "192.0.2.1", 5, ANSWER_YES,
	    10 * MINUTE },
	{ "offences long ago", 0, OFFEND, "198.51.100.1", 4, ANSWER_NO, 0 },
	{ "do not count", 11 * MINUTE, OFFEND, "198.51.100.1", 4, ANSWER_NO,
	    0 },
	{ "a pass", 0, PASS, "198.51.100.1", HOUR, ANSWER_YES, 0 },
	{ "is known", 30 * MINUTE, CHECK, "198.51.100.1", 0, ANSWER_NO,
	    30 * MINUTE },
	{ "is kept", 0, PASS, "198.51.100.1", HOUR, ANSWER_YES, 0 },
	{ "and longer", 0, CHECK, "198.51.100.1", 0, ANSWER_NO, HOUR },
	{ "or soon", MINUTE, PASS, "198.51.100.1", HOUR, ANSWER_YES, 0 },
	{ "as it was", 0, CHECK, "198.51.100.1", 0, ANSWER_NO, 59 * MINUTE },
	{ "it is over", 61 * MINUTE, CHECK, "198.51.100.1", 0, ANSWER_NO, 0 },
	{ "a pass saves it", 0, PASS, "198.51.100.1", HOUR, ANSWER_YES, 0 },
	{ "from a ban", 0, OFFEND, "198.51.100.1", 5, ANSWER_NO, 0 },
	{ "and is lost by that", 0, CHECK, "198.51.100.1", 0, ANSWER_NO, 0 },
	{ "the count begins anew", 0, OFFEND, "198.51.100.1", 4, ANSWER_NO,
	    0 },
	{ "the second time it does not", 0, OFFEND, "198.51.100.1", 1,
	    ANSWER_YES, 10 * MINUTE },
	{ "for good", 11 * MINUTE, CHECK, "198.51.100.1", 0, ANSWER_NO, 0 },
	{ "IPv6", 0, OFFEND, "2001:db8:1:2::1", 3, ANSWER_NO, 0 },
	{ "one /64 is one client", 0, OFFEND, "2001:db8:1:2:ffff::1", 3,
	    ANSWER_YES, 10 * MINUTE },
	{ "another is not", 0, CHECK, "2001:db8:1:3::1", 0, ANSWER_NO, 0 },
	{ "a network, by an operator", 0, ADD, "203.0.113.0/24", HOUR,
	    ANSWER_YES, 0 },
	{ "all of it", 30 * MINUTE, CHECK, "203.0.113.9", 0, ANSWER_YES,
	    30 * MINUTE },
	{ "removed", 0, REMOVE, "203.0.113.77/24", 0, ANSWER_YES, 0 },
	{ "free", 0, CHECK, "203.0.113.9", 0, ANSWER_NO, 0 },
	{ "removed twice", 0, REMOVE, "203.0.113.0/24", 0, ANSWER_NO, 0 },
	{ "an IPv6 network", 0, ADD, "2001:db8:7::/48", HOUR, ANSWER_YES, 0 },
	{ "all of that", 0, CHECK, "2001:db8:7:8::1", 0, ANSWER_YES, HOUR },
	{ "an address", 0, ADD, "203.0.113.9", HOUR, ANSWER_YES, 0 },
	{ "alone", 0, CHECK, "203.0.113.8", 0, ANSWER_NO, 0 },
	{ "another length", 0, ADD, "203.0.0.0/16", HOUR, ANSWER_NO, 0 },
	{ "no address", 0, ADD, "example.org", HOUR, ANSWER_NO, 0 },
	{ "too long a text", 0, REMOVE, "2001:db8:aaaa:bbbb:cccc:dddd:eeee:"
	    "ffff:aaaa:bbbb:cccc:dddd:eeee:ffff", 0, ANSWER_NO, 0 },
};

static enum answer
happens(struct rig *rig, const struct event *event, int64_t *left_ms)
{
	struct sockaddr_storage client;
	struct ban_state state = { .banned_ms = 0 };
	const char *why = "";
	enum answer answer = ANSWER_UNKNOWN;

	subject_client(event->subject, &client);
	switch (event->deed) {
	case CHECK:
		answer = ban_check(rig->store, &client, &state, &why);
		break;
	case OFFEND:
		answer = ban_offend(rig->store, &client, &limits,
		    event->number, "a note", &state, &why);
		break;
	case PASS:
		return ban_pass(rig->store, &client, event->number, &why);
	case ADD:
		return ban_add(rig->store, event->subject, event->number,
		    "why not", &why);
	case REMOVE:
		return ban_remove(rig->store, event->subject, &why);
	}
	*left_ms = event->deed == CHECK && answer == ANSWER_NO ?
	    state.passed_ms : state.banned_ms;
	return answer;
}

static void
run_story(struct rig *rig)
{
	for (size_t i = 0; i < sizeof(story) / sizeof(story[0]); i++) {
		int64_t left_ms = 0;

		store_shift_clock(rig->store, story[i].later_ms);
		CASE_ASSERT(story[i].name, happens(rig, &story[i], &left_ms)
		    == story[i].want);
		CASE_ASSERT(story[i].name, left_ms <= story[i].left_ms);
		CASE_ASSERT(story[i].name, left_ms >= story[i].left_ms -
		    MINUTE);
	}
}

static void bans(void) { rig_each("", run_story); }

static void
run_show(struct rig *rig)
{
	struct sockaddr_storage client;
	struct buf out = BUF_INIT;
	struct ban_state state;
	const char *why;
	int seconds = 0;

	subject_client("192.0.2.1", &client);
	ban_offend(rig->store, &client, &limits, 2, "early talk", &state,
	    &why);
	CU_ASSERT_EQUAL(ban_show(rig->store, &out, &why), ANSWER_YES);
	CU_ASSERT_EQUAL(out.len, 0);
	ban_offend(rig->store, &client, &limits, 3, "early talk", &state,
	    &why);
	ban_add(rig->store, "198.51.100.0/24", HOUR, "a botnet", &why);
	CU_ASSERT_EQUAL(ban_show(rig->store, &out, &why), ANSWER_YES);
	CU_ASSERT_PTR_NOT_NULL_FATAL(out.data);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
	    "s, for the first time: early talk\n"));
	CU_ASSERT_EQUAL_FATAL(sscanf(out.data + (strncmp(out.data, "192",
	    3) == 0 ? 0 : strcspn(out.data, "\n") + 1),
	    "192.0.2.1/32 %d s", &seconds), 1);
	CU_ASSERT(seconds > 590 && seconds <= 600);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "198.51.100.0/24 "));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
	    "s, by an operator: a botnet\n"));
	buf_release(&out);
}

static void shows(void) { rig_each("", run_show); }

SUITE(ban, { "bans and passes", bans }, { "what is shown", shows })
