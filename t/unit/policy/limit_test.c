/* Rate limits: rates, keys, and what the service says. */
#include "policy/limit.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "policy/limit_key.h"
#include "policy/service.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

static void
rates(void)
{
	static const struct {
		const char *name, *text;
		int64_t default_burst;
		int rc;
		int64_t unit_us, burst;
	} cases[] = {
		{ "hourly", "100/1h", 0, 0, 36000000, 100 },
		{ "a burst of the section", "100/1h", 20, 0, 36000000, 20 },
		{ "its own burst", "60/1m 5", 20, 0, 1000000, 5 },
		{ "blanks", "60/1m   5", 0, 0, 1000000, 5 },
		{ "very fast", "1000000/1s", 0, 0, 1, 1000000 },
		{ "very slow", "1/366d", 0, 0, INT64_C(31622400000000), 1 },
		{ "unlimited", "unlimited", 5, 0, 0, 0 },
		{ "nothing", "", 0, -1, 0, 0 },
		{ "not set", NULL, 0, -1, 0, 0 },
		{ "no time", "100", 0, -1, 0, 0 },
		{ "no number", "/1h", 0, -1, 0, 0 },
		{ "none at all", "0/1h", 0, -1, 0, 0 },
		{ "negative", "-1/1h", 0, -1, 0, 0 },
		{ "too many", "1000001/1h", 0, -1, 0, 0 },
		{ "overflow", "99999999999999999999/1h", 0, -1, 0, 0 },
		{ "no unit", "100/hour", 0, -1, 0, 0 },
		{ "too short a time", "100/1ms", 0, -1, 0, 0 },
		{ "a long word", "100/1hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh",
		    0, -1, 0, 0 },
		{ "no burst", "100/1h x", 0, -1, 0, 0 },
		{ "a burst of nothing", "100/1h 0", 0, -1, 0, 0 },
		{ "a burst of years", "1/366d 5", 0, -1, 0, 0 },
	};
	struct limit_rate rate;
	const char *why;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		why = "";
		CASE_ASSERT(cases[i].name, limit_rate_parse(cases[i].text,
		    cases[i].default_burst, &rate, &why) == cases[i].rc);
		if (cases[i].rc != 0) {
			CASE_ASSERT(cases[i].name, *why != '\0');
			continue;
		}
		CASE_ASSERT(cases[i].name, rate.unit_us == cases[i].unit_us);
		CASE_ASSERT(cases[i].name, rate.burst == cases[i].burst);
		CASE_ASSERT(cases[i].name, rate.unlimited ==
		    (cases[i].burst == 0));
	}
}

static void
keys(void)
{
	static const struct {
		const char *name, *parts[6], *request;
		bool list;
		const char *want;	/* text:recipients, then the next */
	} cases[] = {
		{ "a user", { "user" }, "sasl_username=Joe|", false,
		    "Joe:1 " },
		{ "no user", { "user" }, "sender=a@b|", false, "" },
		{ "a client", { "client" },
		    "client_address=::ffff:192.0.2.7|", false,
		    "192.0.2.7:1 " },
		{ "a client by IPv6", { "client" },
		    "client_address=2001:DB8:0::1|", false,
		    "2001:db8::1:1 " },
		{ "a network", { "network" }, "client_address=192.0.2.7|",
		    false, "192.0.2.0/24:1 " },
		{ "an unknown client", { "client" },
		    "client_address=unknown|", false, "" },
		{ "a sender", { "sender" }, "sender=a@b.test|", false,
		    "a@b.test:1 " },
		{ "a bounce", { "sender" }, "sender=|", false, "" },
		{ "a sender's domain", { "sender_domain" },
		    "sender=\"a@x\"@b.test|", false, "b.test:1 " },
		{ "a sender without", { "sender_domain" }, "sender=root|",
		    false, "" },
		{ "two parts", { "user", "recipient_domain" },
		    "sasl_username=joe|recipient=x@y.test|", false,
		    "joe y.test:1 " },
		{ "one of two is missing", { "user", "recipient_domain" },
		    "recipient=x@y.test|", false, "" },
		{ "a recipient with a blank", { "recipient" },
		    "recipient=\"x y\"@z.test|", false,
		    "\"x y\"@z.test:1 " },
		{ "recipients of a message", { "user" },
		    "sasl_username=joe|recipient=a@x b@y c@x|"
		    "recipient_count=3|", true, "joe:3 " },
		{ "only their number", { "user" },
		    "sasl_username=joe|recipient_count=7|", true,
		    "joe:7 " },
		{ "no number", { "user" },
		    "sasl_username=joe|recipient_count=x|", true,
		    "joe:1 " },
		{ "an absurd number", { "user" },
		    "sasl_username=joe|recipient_count=99999999999|", true,
		    "joe:1000000 " },
		{ "by domain", { "recipient_domain" },
		    "recipient=a@x b@y c@X|", true, "x:2 y:1 " },
		{ "by user and domain", { "user", "recipient_domain" },
		    "sasl_username=joe|recipient=a@x b@y c@x|", true,
		    "joe x:2 joe y:1 " },
		{ "none", { "recipient" }, "sender=a@b|", true, "" },
		{ "authenticated", { "auth_domain" },
		    "auth_domains=dkim=a.test spf=b.test|", true,
		    "a.test:1 " },
		{ "not authenticated", { "auth_domain" }, "sender=a@b|",
		    true, "" },
	};
	struct policy_request request = POLICY_REQUEST_INIT;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct limit_subject *subjects;
		struct buf got = BUF_INIT;
		struct limit_key key;
		const char *why;
		size_t count;

		ask_request(&request, cases[i].request);
		CASE_ASSERT(cases[i].name, limit_key_parse(cases[i].parts,
		    &key, &why) == 0);
		subjects = limit_key_subjects(arena, &key, &request,
		    cases[i].list, &count);
		buf_puts(&got, "");
		for (size_t j = 0; j < count; j++)
			buf_printf(&got, "%s:%d ", subjects[j].text,
			    (int)subjects[j].recipients);
		CASE_ASSERT(cases[i].name, strcmp(got.data != NULL ?
		    got.data : "", cases[i].want) == 0);
		buf_release(&got);
		arena_free(&arena);
	}
	policy_request_release(&request);
}

/* --- the service --- */

#define JOE "instance=%s|client_address=192.0.2.7|sasl_username=joe|"	\
	"sender=joe@a.test|recipient=%s|"

struct player {
	struct rig *rig;
	void *instance;
};

static void
start(struct player *player, struct rig *rig, size_t number)
{
	player->rig = rig;
	player->instance = ask_setup(rig, &limit_service, number);
}

static void
put(const struct player *player, enum policy_state state, bool ours,
    const char *instance, const char *recipient,
    struct policy_decision *decision)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct buf text = BUF_INIT;

	buf_printf(&text, JOE, instance, recipient);
	ask_request(&request, text.data);
	memset(decision, 0, sizeof(*decision));
	limit_service.decide(player->instance, &(struct policy_query){
	    &request, state, ours, false }, decision);
	buf_release(&text);
	policy_request_release(&request);
}

static bool
passes(const struct player *player, bool ours, const char *instance,
    const char *recipient)
{
	struct policy_decision decision;

	put(player, POLICY_AT_RCPT, ours, instance, recipient, &decision);
	return decision.verb == POLICY_DUNNO && decision.reason == NULL;
}

static void
tell(const struct player *player, enum policy_outcome_kind kind,
    const char *instance, const char *recipients)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct buf text = BUF_INIT;

	buf_printf(&text, JOE, instance, recipients);
	ask_request(&request, text.data);
	limit_service.outcome(player->instance, &(struct policy_outcome){
	    instance, kind, false, &request });
	buf_release(&text);
	policy_request_release(&request);
}

static void
limit_others(struct rig *rig)
{
	struct policy_decision d;
	struct player p;

	start(&p, rig, 0);
	CU_ASSERT(passes(&p, false, "m1", "a@x"));
	CU_ASSERT(passes(&p, false, "m1", "b@x"));
	CU_ASSERT(passes(&p, false, "m1", "b@x"));
	put(&p, POLICY_AT_RCPT, false, "m1", "c@x", &d);
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DEFER && d.code == 450 &&
	    strcmp(d.enhanced, "4.7.1") == 0);
	CASE_ASSERT(rig->back_end, strncmp(d.text, "Too much, try again in ",
	    23) == 0 && (strstr(d.text, " 1800 seconds") != NULL ||
	    strstr(d.text, " 1799 seconds") != NULL));
	CU_ASSERT(d.wait_ms > 1790000 && d.wait_ms <= 1800000);
	CU_ASSERT_STRING_EQUAL(d.reason, "rate-limit");
	CU_ASSERT_STRING_EQUAL(d.why, "joe: used=2 limit=2");
	/* It has to wait, but what was granted before stays so. */
	CU_ASSERT(passes(&p, false, "m1", "a@x"));
	/* Nothing is known of a later refusal: it was charged at once. */
	tell(&p, OUTCOME_REFUSED, "m1", "a@x b@x");
	CU_ASSERT(!passes(&p, false, "m2", "a@x"));
	store_shift_clock(rig->store, 1800000);
	CU_ASSERT(passes(&p, false, "m2", "a@x"));
	CU_ASSERT(!passes(&p, false, "m2", "b@x"));
	limit_service.release(p.instance);
}

static void
limit_ours(struct rig *rig)
{
	struct player p;

	start(&p, rig, 0);
	CU_ASSERT(passes(&p, true, "m1", "a@x"));
	CU_ASSERT(passes(&p, true, "m1", "b@x"));
	CU_ASSERT(!passes(&p, true, "m2", "a@x"));
	tell(&p, OUTCOME_REFUSED, "m1", "a@x b@x");
	CU_ASSERT(passes(&p, true, "m2", "a@x"));
	CU_ASSERT(passes(&p, true, "m2", "b@x"));
	/* One of both was refused by another filter. */
	tell(&p, OUTCOME_ACCEPTED, "m2", "a@x");
	tell(&p, OUTCOME_ACCEPTED, "m2", "a@x");
	tell(&p, OUTCOME_SPAM, "m2", "a@x");
	CU_ASSERT(passes(&p, true, "m3", "a@x"));
	CU_ASSERT(!passes(&p, true, "m3", "b@x"));
	/* Its gateway died. */
	store_shift_clock(rig->store, 3600000);
	CU_ASSERT(passes(&p, true, "m4", "a@x"));
	CU_ASSERT(passes(&p, true, "m4", "b@x"));
	limit_service.release(p.instance);
}

static void
limit_messages(struct rig *rig)
{
	struct policy_decision d;
	struct player p;

	start(&p, rig, 1);
	CU_ASSERT(passes(&p, false, "m1", "a@x"));
	CU_ASSERT(passes(&p, false, "m1", "b@x"));
	put(&p, POLICY_AT_END, false, "m1", "", &d);
	CU_ASSERT(d.verb == POLICY_DUNNO);
	CU_ASSERT(passes(&p, false, "m2", "a@x"));
	put(&p, POLICY_AT_RCPT, false, "m3", "a@x", &d);
	CASE_ASSERT(rig->back_end, d.verb == POLICY_REJECT && d.code == 550);
	CU_ASSERT_STRING_EQUAL(d.text, "Rate limit exceeded");
	/* Without an instance each is a message. */
	CU_ASSERT(!passes(&p, false, "", "a@x"));
	limit_service.release(p.instance);
}

/* Some domains are exceptions here; what is above the rate is held. */
static void
limit_exceptions(struct rig *rig)
{
	struct policy_decision d;
	struct player p;

	start(&p, rig, 2);
	for (int i = 0; i < 3; i++) {
		char id[8];

		snprintf(id, sizeof(id), "m%d", i);
		CU_ASSERT(passes(&p, false, id, "a@x"));
		CU_ASSERT(passes(&p, false, id, "b@free.test"));
	}
	put(&p, POLICY_AT_RCPT, false, "m4", "a@x", &d);
	CASE_ASSERT(rig->back_end, d.verb == POLICY_HOLD && d.text[0] !=
	    '\0');
	CU_ASSERT(passes(&p, false, "m4", "b@free.test"));
	limit_service.release(p.instance);
}

static void
limit_warn(struct rig *rig)
{
	struct policy_decision d;
	struct player p;

	start(&p, rig, 3);
	CU_ASSERT(passes(&p, false, "m1", "a@x"));
	put(&p, POLICY_AT_RCPT, false, "m2", "a@x", &d);
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DUNNO &&
	    strcmp(d.reason, "rate-limit") == 0 && d.text[0] == '\0' &&
	    d.why[0] != '\0');
	limit_service.release(p.instance);

	/* More recipients than there ever can be: no time is named. */
	start(&p, rig, 0);
	put(&p, POLICY_AT_END, false, "m9", "a@x b@x c@x", &d);
	CASE_ASSERT(rig->back_end, d.verb == POLICY_DEFER &&
	    strcmp(d.text, "Too much") == 0);
	limit_service.release(p.instance);
}

static void
play(struct rig *rig)
{
	limit_others(rig);
	store_shift_clock(rig->store, 86400000);
	limit_ours(rig);
	limit_messages(rig);
	limit_exceptions(rig);
	limit_warn(rig);
}

static void
service(void)
{
	rig_each(
	    "rate_limit one { key = { user } count = recipients"
	    " rate = \"2/1h\" message = \"Too much\" }\n"
	    "rate_limit two { key = { sender } rate = \"2/1h\""
	    " action = reject }\n"
	    "rate_limit three { key = { user, recipient_domain }"
	    " rate = \"1/1h\" action = hold exceptions = {"
	    " \"x = 3/1h\", \"free.test = unlimited\" } }\n"
	    "rate_limit four { key = { client } rate = \"1/1h\""
	    " action = warn }\n", play);
}

static void
checks(void)
{
	static const struct rig_check wrong[] = {
		{ "good", "rate_limit x { key = { user } rate = \"1/1h\" }",
		    NULL },
		{ "no key", "rate_limit x { rate = \"1/1h\" }",
		    ":1: key: is required" },
		{ "an odd key",
		    "rate_limit x { key = { users } rate = \"1/1h\" }",
		    "key: a key is made of user" },
		{ "five parts", "rate_limit x { key = { user, client, sender,"
		    " recipient, network } rate = \"1/1h\" }",
		    "key: has too many parts" },
		{ "no rate", "rate_limit x { key = { user } }",
		    ":1: rate: is required" },
		{ "an odd rate",
		    "rate_limit x { key = { user } rate = \"many\" }",
		    "rate: is not a rate" },
		{ "an odd exception", "rate_limit x { key = { user } "
		    "rate = \"1/1h\" exceptions = { \"joe = 5\" } }",
		    "exceptions: joe: \"5\" is not a rate" },
		{ "message", "rate_limit x { key = { user } rate = \"1/1h\" "
		    "message = \"\" }", "message: is to be" },
	};

	rig_check_options(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

/* --- commands --- */

static void
do_commands(struct rig *rig)
{
	static const struct {
		const char *name, *words[6];
		int rc;
		const char *want;	/* in the answer, or why */
	} cases[] = {
		{ "all", { "limit", "show" }, 0, "one:\njoe used=1 " },
		{ "a name", { "limit", "show", "one" }, 0, "joe used=1 " },
		{ "a key", { "limit", "show", "one", "JOE" }, 0,
		    "JOE used=1 " },
		{ "another key", { "limit", "show", "one", "ann" }, 0, "" },
		{ "no such", { "limit", "show", "ten" }, -1, "no limit" },
		{ "reset", { "limit", "reset", "one", "joe" }, 0, "" },
		{ "again", { "limit", "reset", "one", "joe" }, -1,
		    "nothing is counted" },
		{ "reset all", { "limit", "reset", "one" }, -2, "NAME KEY" },
		{ "no verb", { "limit" }, -2, "show" },
		{ "odd verb", { "limit", "list" }, -2, "show" },
	};
	struct player p;

	start(&p, rig, 0);
	CU_ASSERT(passes(&p, false, "m1", "a@x"));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_instance instance = { "one", p.instance };
		struct buf out = BUF_INIT;
		const char *why = "";
		size_t count = 0;

		while (cases[i].words[count] != NULL)
			count++;
		CASE_ASSERT(cases[i].name, limit_service.command(&instance, 1,
		    rig->store, cases[i].words, count, &out, &why) ==
		    cases[i].rc);
		CASE_ASSERT(cases[i].name, strstr(cases[i].rc != 0 ? why :
		    out.data != NULL ? out.data : "", cases[i].want) != NULL);
		buf_release(&out);
	}
	CU_ASSERT(passes(&p, false, "m2", "a@x"));
	CU_ASSERT(passes(&p, false, "m2", "b@x"));
	limit_service.release(p.instance);
}

static void
commands(void)
{
	rig_each("rate_limit one { key = { user } count = recipients"
	    " rate = \"2/1h\" }", do_commands);
}

SUITE(limit,
    { "rates", rates },
    { "keys", keys },
    { "service", service },
    { "commands", commands },
    { "checks of options", checks })
