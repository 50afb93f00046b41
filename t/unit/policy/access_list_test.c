/* Access lists: entries, what they speak of, and what is granted to whom. */
#include "policy/access_list.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "policy/access_list_entry.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

#define DAY INT64_C(86400000)

static void
entries(void)
{
	static const struct { const char *name, *text, *want; } cases[] = {
		{ "an address", "192.0.2.7", "192.0.2.7/32" },
		{ "a network", "192.0.2.7/24", "192.0.2.0/24" },
		{ "IPv6", "2001:DB8::1", "2001:db8::1/128" },
		{ "an IPv6 network", "2001:db8:1:2:3::/64",
		    "2001:db8:1:2::/64" },
		{ "IPv4 in IPv6", "::ffff:192.0.2.1", "192.0.2.1/32" },
		{ "a length that is not kept", "192.0.2.0/25", NULL },
		{ "no length at all", "192.0.2.0/33", NULL },
		{ "a sender", "Joe@Example.ORG", "joe@example.org" },
		{ "a domain", "Example.org", "example.org" },
		{ "domains below", ".example.org", ".example.org" },
		{ "a recipient", "to:Joe@example.org", "to:joe@example.org" },
		{ "a recipient's domain", "to:example.org",
		    "to:example.org" },
		{ "a user", "user:Joe", "user:joe" },
		{ "a user with a domain", "user:joe@example.org",
		    "user:joe@example.org" },
		{ "no user", "user:", NULL },
		{ "a bare word", "spam", NULL },
		{ "two dots", "example..org", NULL },
		{ "a dot at the end", "example.org.", NULL },
		{ "no local part", "@example.org", NULL },
		{ "an address below", "joe@.example.org", NULL },
		{ "a blank", "example .org", NULL },
		{ "nothing", "", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char normal[ACCESS_ENTRY_SIZE];
		const char *why = NULL;
		int rc = access_entry_normalize(cases[i].text, normal, &why);

		if (cases[i].want == NULL)
			CASE_ASSERT(cases[i].name, rc == -1 && why != NULL);
		else
			CASE_ASSERT(cases[i].name, rc == 0 &&
			    strcmp(normal, cases[i].want) == 0);
	}
}

/* --- deciding --- */

static const char *
verb_name(enum policy_verb verb)
{
	static const char *const names[] = { [POLICY_DUNNO] = "dunno",
		[POLICY_PASS] = "pass", [POLICY_DEFER] = "defer",
		[POLICY_REJECT] = "reject", [POLICY_HOLD] = "hold",
		[POLICY_OTHER] = "other" };

	return names[verb];
}

static const struct {
	const char *name;
	bool ours;
	const char *text, *want;
} requests[] = {
	{ "nobody", false, "", "dunno" },
	{ "a stranger", false, "client_address=198.51.100.1|"
	    "sender=a@x.test|recipient=b@y.test", "dunno" },
	{ "a client of the table", false, "client_address=203.0.113.7",
	    "reject" },
	{ "of the store", false, "client_address=192.0.2.9", "reject" },
	{ "an IPv6 client", false, "client_address=2001:db8:1::7",
	    "reject" },
	{ "a sender of the table", false, "sender=Spam@Static.test",
	    "reject" },
	{ "of the store", false, "sender=spam@stored.test", "reject" },
	{ "another of its domain", false, "sender=ham@stored.test",
	    "dunno" },
	{ "a domain", false, "sender=x@bad.test", "reject" },
	{ "below a domain is another", false, "sender=x@sub.bad.test",
	    "dunno" },
	{ "below a domain", false, "sender=x@a.b.worse.test", "reject" },
	{ "and not the domain", false, "sender=x@worse.test", "dunno" },
	{ "a recipient", false, "sender=x@y.test|recipient=gone@here.test",
	    "reject" },
	{ "a recipient's domain", false, "recipient=b@old.test", "reject" },
	{ "who is one as a sender only", false, "recipient=x@bad.test",
	    "dunno" },
	{ "a user", false, "sasl_username=Joe", "reject" },
	{ "a signer", true, "protocol_state=END-OF-MESSAGE|"
	    "sender=x@y.test|auth_domains=spf=y.test dkim=bad.test",
	    "reject" },
	{ "a signer, says a stranger", false, "protocol_state=END-OF-MESSAGE|"
	    "sender=x@y.test|auth_domains=spf=y.test dkim=bad.test",
	    "dunno" },
};

static void
deny(struct rig *rig)
{
	static const char *const added[] = { "192.0.2.0/24",
		"2001:db8:1::/48", "spam@stored.test", "bad.test",
		".worse.test", "to:gone@here.test", "to:old.test",
		"user:joe" };
	void *list = ask_setup(rig, &access_list_service, 0);
	const char *why;

	for (size_t i = 0; i < sizeof(added) / sizeof(added[0]); i++)
		CASE_ASSERT(added[i], access_list_add(rig->store, "bad",
		    added[i], 0, "", "", &why) == ANSWER_YES);
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		struct policy_decision decision = ask(&access_list_service,
		    list, requests[i].ours, requests[i].text);
		char name[128];

		snprintf(name, sizeof(name), "%s: %s: %s", rig->back_end,
		    requests[i].name, verb_name(decision.verb));
		CASE_ASSERT(name, strcmp(verb_name(decision.verb),
		    requests[i].want) == 0);
	}
	access_list_service.release(list);
}

static void
denied(void)
{
	rig_each("access_list bad { entries = { \"203.0.113.0/25\", "
	    "\"spam@static.test\" } }", deny);
}

#define END "protocol_state=END-OF-MESSAGE|client_address=198.51.100.1|"

static const struct {
	const char *name;
	bool ours;
	const char *text, *want;
} grants[] = {
	{ "a forged sender", true, "client_address=198.51.100.1|"
	    "sender=a@friend.test", "dunno" },
	{ "a proven domain", true, END "sender=a@x.test|"
	    "auth_domains=dkim=Friend.test", "pass" },
	{ "below a proven domain", true, END "sender=joe@sub.partner.test|"
	    "auth_domains=dkim=partner.test", "pass" },
	{ "another's proof", true, END "sender=joe@sub.partner.test|"
	    "auth_domains=dkim=x.test", "dunno" },
	{ "a top-level domain's proof", true, END
	    "sender=joe@sub.partner.test|auth_domains=dkim=test", "dunno" },
	{ "a proof that another MTA makes up", false, END
	    "sender=a@friend.test|auth_domains=dkim=friend.test", "dunno" },
	{ "the client's name", false, "client_address=198.51.100.1|"
	    "client_name=mx.friend.test|sender=a@friend.test", "pass" },
	{ "a name that only looks so", false, "client_address=198.51.100.1|"
	    "client_name=mxfriend.test|sender=a@friend.test", "dunno" },
	{ "a name that is not confirmed", false,
	    "client_address=198.51.100.1|client_name=unknown|"
	    "reverse_client_name=mx.friend.test|sender=a@friend.test",
	    "dunno" },
	{ "a user by its own address", false, "sasl_username=a@friend.test|"
	    "sender=A@friend.test", "pass" },
	{ "another user", false, "sasl_username=b@friend.test|"
	    "sender=a@friend.test", "dunno" },
	{ "the network that the table names", false,
	    "client_address=192.0.2.77|sender=a@fixed.test", "pass" },
	{ "another network", false, "client_address=192.0.3.77|"
	    "sender=a@fixed.test", "dunno" },
	{ "the network that the store names", false,
	    "client_address=203.0.113.200|sender=a@bound.test", "pass" },
	{ "another network", false, "client_address=203.0.113.100|"
	    "sender=a@bound.test", "dunno" },
	{ "a client", false, "client_address=192.0.2.9|sender=a@x.test",
	    "dunno" },
	{ "a recipient", false, "client_address=198.51.100.1|"
	    "recipient=abuse@here.test", "pass" },
	{ "one of several recipients", true, END
	    "recipient=abuse@here.test b@here.test", "dunno" },
};

static void
grant(struct rig *rig)
{
	void *list = ask_setup(rig, &access_list_service, 0);
	const char *why;

	access_list_add(rig->store, "good", "bound.test", 0,
	    "203.0.113.128/25", "x", &why);
	access_list_add(rig->store, "good", "to:abuse@here.test", 0, "", "",
	    &why);
	access_list_add(rig->store, "other", "x.test", 0, "", "", &why);
	for (size_t i = 0; i < sizeof(grants) / sizeof(grants[0]); i++) {
		struct policy_decision decision = ask(&access_list_service,
		    list, grants[i].ours, grants[i].text);
		char name[128];

		snprintf(name, sizeof(name), "%s: %s: %s", rig->back_end,
		    grants[i].name, verb_name(decision.verb));
		CASE_ASSERT(name, strcmp(verb_name(decision.verb),
		    grants[i].want) == 0);
	}
	access_list_service.release(list);
}

static void
granted(void)
{
	rig_each("access_list good { action = allow entries = { "
	    "\"friend.test\", \"joe@sub.partner.test\", "
	    "\"fixed.test = 192.0.2.0/24\" } }", grant);
}

/* --- commands --- */

#define COMMAND(words) ask_command(rig, &access_list_service, words)

static void
manage(struct rig *rig)
{
	void *list = ask_setup(rig, &access_list_service, 0);
	struct policy_decision decision;

	CU_ASSERT_STRING_EQUAL(COMMAND("list show"),
	    "no entries but those of the configuration\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("list add l Bad.test for 7d because "
	    "of  spam"), "l: bad.test added\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("list add m 192.0.2.1"),
	    "m: 192.0.2.1/32 added\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("list show m"), "m 192.0.2.1/32\n");
	CU_ASSERT_PTR_NOT_NULL(strstr(COMMAND("list show"),
	    "l bad.test for 7d because of spam\n"));
	decision = ask(&access_list_service, list, false, "sender=a@bad.test");
	CU_ASSERT_EQUAL(decision.verb, POLICY_HOLD);
	CU_ASSERT_STRING_EQUAL(decision.why, "bad.test: of spam");
	CU_ASSERT_STRING_EQUAL(decision.reason, "list-denied");
	store_shift_clock(rig->store, 8 * DAY);
	decision = ask(&access_list_service, list, false, "sender=a@bad.test");
	CU_ASSERT_EQUAL(decision.verb, POLICY_DUNNO);
	CU_ASSERT_STRING_EQUAL(COMMAND("list add good a@x.test from "
	    "192.0.2.1/24"), "good: a@x.test added\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("list show good"),
	    "good a@x.test from 192.0.2.0/24\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("list add l a@x.test from "
	    "192.0.2.1/24"), "!from NETWORK is for lists with action = allow");
	CU_ASSERT_PTR_NULL(strstr(COMMAND("list show"), "l a@x.test"));
	CU_ASSERT_STRING_EQUAL(COMMAND("list remove m 192.0.2.1"),
	    "m: 192.0.2.1/32 removed\n");
	CU_ASSERT_STRING_EQUAL(COMMAND("list remove m 192.0.2.1"),
	    "!it is not there; those of the configuration stay");
	CU_ASSERT_STRING_EQUAL(COMMAND("list add l nonsense"), "!not a "
	    "network, domain, address, to:address or user:name");
	CU_ASSERT_STRING_EQUAL(COMMAND("list add x bad.test"),
	    "!there is no access_list of that name");
	CU_ASSERT_STRING_EQUAL(COMMAND("list add l 999.0.0.1"), "!not a "
	    "network, domain, address, to:address or user:name");
	CU_ASSERT_STRING_EQUAL(COMMAND("list show x"),
	    "!there is no access_list of that name");
	CU_ASSERT_EQUAL(COMMAND("list add l bad.test for ever")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("list add l bad.test for")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("list add l bad.test from here")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("list add l")[0], '!');
	CU_ASSERT_EQUAL(COMMAND("list")[0], '!');
	access_list_service.release(list);
}

static void
commands(void)
{
	rig_each("access_list l { action = hold } access_list m { } "
	    "access_list good { action = allow }", manage);
}

static void
checks(void)
{
	static const struct rig_check wrong[] = {
		{ "good", "access_list l { action = allow entries = { "
		    "\"x.test = 192.0.2.0/24, 2001:db8::/32\" } }", NULL },
		{ "no network", "access_list l { action = allow entries = { "
		    "\"x.test = friends\" } }",
		    "entries: x.test: friends: not a network" },
		{ "a comment to a refusal", "access_list l { entries = { "
		    "\"x.test = spammers\" } }", NULL },
		{ "message", "access_list l { message = \"\" }", "message" },
	};

	rig_check_options(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

SUITE(access_list,
    { "entries", entries },
    { "who is refused", denied },
    { "who is let through", granted },
    { "commands", commands },
    { "checks of options", checks })
