/* Concurrency limits: leases of connections and messages. */
#include "policy/concurrency.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "policy/limit_count.h"
#include "policy/service.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

enum deed { ASK, TELL };

static const struct act {
	const char *name;
	int limit;			/* index of the section */
	int64_t later_ms;
	enum deed deed;
	int what;			/* state or outcome */
	bool ours;
	const char *session, *message, *client, *recipients;
	bool refused;
} acts[] = {
	/* Two connections of a client. */
	{ "one", 0, 0, ASK, POLICY_AT_CONNECT, true, "s1", "s1", "192.0.2.1",
	    "", false },
	{ "two", 0, 0, ASK, POLICY_AT_CONNECT, true, "s2", "s2", "192.0.2.1",
	    "", false },
	{ "three", 0, 0, ASK, POLICY_AT_CONNECT, true, "s3", "s3",
	    "192.0.2.1", "", true },
	{ "its end changes nothing", 0, 0, TELL, OUTCOME_CLOSED, true, "s3",
	    "m", "192.0.2.1", "", false },
	{ "another client", 0, 0, ASK, POLICY_AT_CONNECT, true, "s4", "s4",
	    "192.0.2.2", "", false },
	{ "an exception", 0, 0, ASK, POLICY_AT_CONNECT, true, "s5", "s5",
	    "198.51.100.1", "", false },
	{ "has one only", 0, 0, ASK, POLICY_AT_CONNECT, true, "s6", "s6",
	    "198.51.100.1", "", true },
	{ "one without limit", 0, 0, ASK, POLICY_AT_CONNECT, true, "s7",
	    "s7", "203.0.113.1", "", false },
	{ "nor here", 0, 0, ASK, POLICY_AT_CONNECT, true, "s8", "s8",
	    "203.0.113.1", "", false },
	{ "still too many", 0, 0, ASK, POLICY_AT_CONNECT, true, "s3", "s3",
	    "192.0.2.1", "", true },
	{ "its message", 0, 0, ASK, POLICY_AT_MAIL, true, "s1", "m1",
	    "192.0.2.1", "", false },
	{ "another MTA's connections", 0, 0, ASK, POLICY_AT_CONNECT, false,
	    "", "i1", "192.0.2.1", "", false },
	{ "an outcome is no end", 0, 0, TELL, OUTCOME_ACCEPTED, true, "s1",
	    "m1", "192.0.2.1", "a@x", false },
	{ "so there are two", 0, 0, ASK, POLICY_AT_CONNECT, true, "s9", "s9",
	    "192.0.2.1", "", true },
	{ "the end", 0, 0, TELL, OUTCOME_CLOSED, true, "s1", "m1",
	    "192.0.2.1", "a@x", false },
	{ "told twice", 0, 0, TELL, OUTCOME_CLOSED, true, "s1", "m1",
	    "192.0.2.1", "a@x", false },
	{ "makes room", 0, 0, ASK, POLICY_AT_CONNECT, true, "s9", "s9",
	    "192.0.2.1", "", false },
	{ "for one", 0, 0, ASK, POLICY_AT_CONNECT, true, "s10", "s10",
	    "192.0.2.1", "", true },
	{ "one is busy", 0, LIMIT_LEASE_MS, ASK, POLICY_AT_MAIL, true, "s9",
	    "m9", "192.0.2.1", "", false },
	{ "the gateway of the other is dead", 0, LIMIT_LEASE_MS / 4, ASK,
	    POLICY_AT_CONNECT, true, "s11", "s11", "192.0.2.1", "", false },
	{ "but not that of the first", 0, 0, ASK, POLICY_AT_CONNECT, true,
	    "s12", "s12", "192.0.2.1", "", true },

	/* One message of a user, from our own gateway. */
	{ "a message", 1, 0, ASK, POLICY_AT_RCPT, true, "s1", "m1",
	    "192.0.2.1", "a@x", false },
	{ "its next recipient", 1, 0, ASK, POLICY_AT_RCPT, true, "s1", "m1",
	    "192.0.2.1", "b@x", false },
	{ "a message beside it", 1, 0, ASK, POLICY_AT_RCPT, true, "s2", "m2",
	    "192.0.2.2", "a@x", true },
	{ "it is complete, not accepted", 1, 0, ASK, POLICY_AT_END, true,
	    "s1", "m1", "192.0.2.1", "a@x b@x", false },
	{ "nor ended", 1, 0, ASK, POLICY_AT_RCPT, true, "s2", "m2",
	    "192.0.2.2", "a@x", true },
	{ "it ends", 1, 0, TELL, OUTCOME_REFUSED, true, "s1", "m1",
	    "192.0.2.1", "a@x b@x", false },
	{ "the next", 1, 0, ASK, POLICY_AT_RCPT, true, "s2", "m2",
	    "192.0.2.2", "a@x", false },
	{ "it ends, too", 1, 0, TELL, OUTCOME_ACCEPTED, true, "s2", "m2",
	    "192.0.2.2", "a@x", false },

	/* From Postfix, which says no more than that it is complete. */
	{ "Postfix: a message", 1, 0, ASK, POLICY_AT_RCPT, false, "", "p1",
	    "192.0.2.1", "a@x", false },
	{ "Postfix: beside it", 1, 0, ASK, POLICY_AT_RCPT, false, "", "p2",
	    "192.0.2.1", "a@x", true },
	{ "Postfix: complete", 1, 0, ASK, POLICY_AT_END, false, "", "p1",
	    "192.0.2.1", "", false },
	{ "Postfix: the next", 1, 0, ASK, POLICY_AT_RCPT, false, "", "p2",
	    "192.0.2.1", "a@x", false },
	{ "Postfix: the client went away", 1, LIMIT_LEASE_MS * 5 / 4, ASK,
	    POLICY_AT_RCPT, false, "", "p3", "192.0.2.1", "a@x", false },
};

static void
act_on(void *instance, const struct act *act, const char *name)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct policy_decision d = { .verb = POLICY_DUNNO };
	struct buf text = BUF_INIT;

	buf_printf(&text, "session=%s|instance=%s|client_address=%s|"
	    "recipient=%s|sasl_username=joe|", act->session, act->message,
	    act->client, act->recipients);
	ask_request(&request, text.data);
	if (act->deed == ASK)
		concurrency_service.decide(instance, &(struct policy_query){
		    &request, (enum policy_state)act->what, act->ours,
		    false }, &d);
	else
		concurrency_service.outcome(instance,
		    &(struct policy_outcome){ act->message,
		    (enum policy_outcome_kind)act->what, false, &request });
	CASE_ASSERT(name, (d.verb == POLICY_DEFER) == act->refused);
	CASE_ASSERT(name, !act->refused || d.code ==
	    (act->what == POLICY_AT_CONNECT ? 421 : 450));
	buf_release(&text);
	policy_request_release(&request);
}

static void
play(struct rig *rig)
{
	void *instances[2];

	for (size_t i = 0; i < 2; i++)
		instances[i] = ask_setup(rig, &concurrency_service, i);
	for (size_t i = 0; i < sizeof(acts) / sizeof(acts[0]); i++) {
		char name[128];

		snprintf(name, sizeof(name), "%s: %s", rig->back_end,
		    acts[i].name);
		store_shift_clock(rig->store, acts[i].later_ms);
		act_on(instances[acts[i].limit], &acts[i], name);
	}
	for (size_t i = 0; i < 2; i++)
		concurrency_service.release(instances[i]);
}

static void
story(void)
{
	rig_each("concurrency_limit one { key = { client } maximum = 2"
	    " exceptions = { \"198.51.100.0/24 = 1\","
	    " \"203.0.113.1 = unlimited\" } }\n"
	    "concurrency_limit two { key = { user } count = messages"
	    " maximum = 1 }\n", play);
}

static void
checks(void)
{
	static const struct rig_check wrong[] = {
		{ "good", "concurrency_limit x { key = { client } }", NULL },
		{ "no key", "concurrency_limit x { }",
		    ":1: key: is required" },
		{ "connections of a sender",
		    "concurrency_limit x { key = { sender } }",
		    "key: connections are counted by" },
		{ "messages of a sender", "concurrency_limit x { key = "
		    "{ sender } count = messages }", NULL },
		{ "messages by what comes late", "concurrency_limit x { key ="
		    " { auth_domain } count = messages }",
		    "key: auth_domain is known only" },
		{ "an odd exception", "concurrency_limit x { key = { client }"
		    " exceptions = { \"192.0.2.1 = many\" } }",
		    "exceptions: 192.0.2.1: " },
	};

	rig_check_options(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

SUITE(concurrency,
    { "story", story },
    { "checks of options", checks })
