/* Relay control: what open relays were made to do, and must not here. */
#include "gateway/access.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/table.h"
#include "gateway/smtp_command.h"
#include "t/unit/unit.h"

static struct table *
table(const char *text)
{
	struct buf errors = BUF_INIT;
	struct table *made = table_parse("inline", "test", text, strlen(text),
	    &errors);

	if (made == NULL)
		fprintf(stderr, "%s", errors.data);
	buf_release(&errors);
	return made;
}

/* As a session does: parse, then check.  False: refused. */
static bool
let_pass(const struct access_rules *rules, enum answer trusted,
    const char *argument, bool utf8)
{
	struct arena *arena = arena_new(0);
	struct smtp_rcpt rcpt;
	const char *why = NULL, *address;
	bool pass = false;

	if (smtp_parse_rcpt((struct smtp_span){ argument, strlen(argument) },
	    utf8, &rcpt) == NULL) {
		address = rcpt.recipient.domain.len == 0 ?
		    access_postmaster(rules, arena, "mx.ours.example") :
		    arena_strndup(arena, rcpt.recipient.address.data,
		    rcpt.recipient.address.len);
		pass = access_check(rules, trusted, address, &why) ==
		    ACCESS_OK;
	}
	arena_free(&arena);
	return pass;
}

/* Each asks to reach other.example, or is no address, and must be refused. */
static const struct { const char *name, *argument; } probes[] = {
	{ "plain", "TO:<u@other.example>" },
	{ "upper case", "TO:<U@OTHER.EXAMPLE>" },
	{ "no brackets", "TO:u@other.example" },
	{ "a blank", "TO: <u@other.example>" },
	{ "two brackets", "TO:<<u@other.example>>" },
	{ "null", "TO:<>" },
	{ "local only", "TO:<u>" },
	{ "quoted local only", "TO:<\"u\">" },
	{ "per cent", "TO:<u%other.example@ours.example>" },
	{ "per cent at host", "TO:<u%other.example@mx.ours.example>" },
	{ "per cent at literal", "TO:<u%other.example@[192.0.2.9]>" },
	{ "per cent alone", "TO:<u%other.example>" },
	{ "per cent twice",
	    "TO:<u%other.example%ours.example@ours.example>" },
	{ "quoted per cent", "TO:<\"u%other.example\"@ours.example>" },
	{ "quoted", "TO:<\"u@other.example\">" },
	{ "quoted at ours", "TO:<\"u@other.example\"@ours.example>" },
	{ "quoted at literal", "TO:<\"u@other.example\"@[192.0.2.9]>" },
	{ "double @", "TO:<u@other.example@ours.example>" },
	{ "double @ turned", "TO:<u@ours.example@other.example>" },
	{ "double @ literal", "TO:<u@other.example@[192.0.2.9]>" },
	{ "escaped @", "TO:<u\\@other.example@ours.example>" },
	{ "a route by us", "TO:<@ours.example:u@other.example>" },
	{ "a route by literal", "TO:<@[192.0.2.9]:u@other.example>" },
	{ "two routes", "TO:<@ours.example,@x.example:u@other.example>" },
	{ "a route, no domain", "TO:<@ours.example:u>" },
	{ "an old route", "TO:<@ours.example@other.example:u>" },
	{ "bang", "TO:<other.example!u>" },
	{ "bang at ours", "TO:<other.example!u@ours.example>" },
	{ "bang at literal", "TO:<other.example!u@[192.0.2.9]>" },
	{ "two bangs", "TO:<ours.example!other.example!u@ours.example>" },
	{ "bang and per cent", "TO:<x!u%other.example@ours.example>" },
	{ "trailing dot", "TO:<u@other.example.>" },
	{ "our trailing dot", "TO:<u@other.example@ours.example.>" },
	{ "a list", "TO:<u@ours.example,u@other.example>" },
	{ "two paths", "TO:<u@ours.example> <u@other.example>" },
	{ "two paths joined", "TO:<u@ours.example><u@other.example>" },
	{ "a comment", "TO:<u(@ours.example)@other.example>" },
	{ "a comment behind", "TO:<u@other.example(@ours.example)>" },
	{ "our name before", "TO:<u@ours.example.other.example>" },
	{ "our name behind", "TO:<u@otherours.example>" },
	{ "our name within", "TO:<u@ours.example.other>" },
	{ "a name below ours", "TO:<u@sub.ours.example>" },
	{ "a literal", "TO:<u@[192.0.2.9]>" },
	{ "loopback", "TO:<u@[127.0.0.1]>" },
	{ "localhost", "TO:<u@localhost>" },
	{ "IPv6 literal", "TO:<u@[IPv6:::1]>" },
	{ "CR in RCPT", "TO:<u@other.example\r@ours.example>" },
	{ "LF in RCPT", "TO:<u@ours.example>\nRCPT TO:<u@other.example>" },
	{ "ORCPT", "TO:<u@other.example> ORCPT=rfc822;u@ours.example" },
	{ "full-width @",
	    "TO:<u\xEF\xBC\xA0other.example@ours.example>" },
	{ "full-width @ last",
	    "TO:<u@ours.example\xEF\xBC\xA0other.example>" },
	{ "small @", "TO:<u\xEF\xB9\xABother.example@ours.example>" },
	{ "full-width dot", "TO:<u@ours\xEF\xBC\x8E" "example.other>" },
	{ "a tab", "TO:<u@ours.example\t@other.example>" },
	{ "our domain as local", "TO:<ours.example@other.example>" },
	{ "routing with colon", "TO:<\"@ours.example:u\"@ours.example>" },
};

static void
open_relay(void)
{
	struct table *domains = table("ours.example\n");
	struct access_rules rules = { .relay_domains = domains };

	for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
		CASE_ASSERT(probes[i].name, !let_pass(&rules, ANSWER_NO,
		    probes[i].argument, false));
		CASE_ASSERT(probes[i].name, !let_pass(&rules, ANSWER_NO,
		    probes[i].argument, true));
	}
	/* And without any domain of ours, nothing at all. */
	rules.relay_domains = NULL;
	for (size_t i = 0; i < sizeof probes / sizeof *probes; i++)
		CASE_ASSERT(probes[i].name, !let_pass(&rules, ANSWER_NO,
		    probes[i].argument, false));
	CU_ASSERT(!let_pass(&rules, ANSWER_NO, "TO:<postmaster>", false));
	table_free(&domains);
}

static void
let_through(void)
{
	static const struct {
		const char *name, *argument;
		enum answer trusted;
		bool utf8, pass;
	} cases[] = {
		{ "ours", "TO:<u@ours.example>", ANSWER_NO, false, true },
		{ "ours in capitals", "TO:<u@OURS.Example>", ANSWER_NO, false,
		    true },
		{ "below ours", "TO:<u@a.below.example>", ANSWER_NO, false,
		    true },
		{ "a route to ours", "TO:<@x.example:u@ours.example>",
		    ANSWER_NO, false, true },
		{ "postmaster", "TO:<postmaster>", ANSWER_NO, false, true },
		{ "U-label", "TO:<u@b\xC3\xBC" "cher.example>", ANSWER_NO,
		    true, true },
		{ "trusted", "TO:<u@other.example>", ANSWER_YES, false, true },
		{ "trusted per cent", "TO:<u%x@ours.example>", ANSWER_YES,
		    false, true },
		{ "trust unknown", "TO:<u@other.example>", ANSWER_UNKNOWN,
		    false, false },
		{ "ours, trust unknown", "TO:<u@ours.example>",
		    ANSWER_UNKNOWN, false, true },
	};
	struct table *domains = table("ours.example\n.below.example\n"
	    "xn--bcher-kva.example\n");
	struct access_rules rules = { .relay_domains = domains };

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		CASE_ASSERT(cases[i].name, let_pass(&rules, cases[i].trusted,
		    cases[i].argument, cases[i].utf8) == cases[i].pass);
	table_free(&domains);
}

static void
existing_recipients(void)
{
	static const struct {
		const char *name, *address;
		enum access_result want;
	} cases[] = {
		{ "known", "a@ours.example", ACCESS_OK },
		{ "domain's case", "a@Ours.Example", ACCESS_OK },
		{ "unknown", "b@ours.example", ACCESS_NO_USER },
		{ "whole domain", "x@all.example", ACCESS_OK },
		{ "not ours", "a@other.example", ACCESS_RELAY_DENIED },
	};
	struct table *domains = table("ours.example\nall.example\n");
	struct table *users = table("a@ours.example\n@all.example\n");
	struct access_rules rules = { domains, users };
	const char *why = NULL;

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		CASE_ASSERT(cases[i].name, access_check(&rules, ANSWER_NO,
		    cases[i].address, &why) == cases[i].want);
	CU_ASSERT(access_check(&rules, ANSWER_UNKNOWN, "a@other.example",
	    &why) == ACCESS_TRY_LATER);
	table_free(&domains);
	table_free(&users);
}

SUITE(access,
	{ "open relay probes", open_relay },
	{ "what may pass", let_through },
	{ "existing recipients", existing_recipients })
