/* The service: what it makes of requests and outcomes; its commands. */
#include "policy/reputation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "policy/geo.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

static struct policy_decision
judge(void *service, bool ours, const char *text)
{
	return ask(&reputation_service, service, ours, text);
}

static void
tell(void *service, const char *text, enum policy_outcome_kind kind, int from,
    int to, bool undo)
{
	char line[512];

	for (int i = from; i < to; i++) {
		snprintf(line, sizeof(line), "%s|event=e%d%s", text, i, undo ?
		    "|undo=yes" : "");
		ask_tell(&reputation_service, service, kind, line);
	}
}

static const char *
command(struct rig *rig, const char *line)
{
	return ask_command(rig, &reputation_service, line);
}

static bool
says(struct rig *rig, const char *line, const char *text)
{
	const char *answer = command(rig, line);

	if (strstr(answer, text) != NULL)
		return true;
	fprintf(stderr, "\n%s: %s: %s", rig->back_end, line, answer);
	return false;
}

/* --- stories --- */

#define CLIENT "client_address=192.0.2.1|sender=a@x.test|recipient=r@y.test"
#define SIGNED "|auth_domains=dkim=mail.example.org spf=example.org"
#define END "|protocol_state=END-OF-MESSAGE"

static void
be_asked(struct rig *rig)
{
	void *service = ask_setup(rig, &reputation_service, 0);
	struct policy_decision d;

	d = judge(service, true, CLIENT);
	CU_ASSERT(d.verb == POLICY_DUNNO && strcmp(d.score, "0") == 0);
	d = judge(service, true, "client_address=unknown");
	CU_ASSERT(d.verb == POLICY_DUNNO && d.score[0] == '\0');

	/* What our own rules did is no evidence. */
	tell(service, CLIENT, OUTCOME_ACCEPTED, 0, 100, false);
	tell(service, CLIENT, OUTCOME_REFUSED, 100, 200, false);
	CU_ASSERT(says(rig, "rep show address:192.0.2.1", "messages=1.0"));

	/* A burst; each told twice. */
	tell(service, CLIENT, OUTCOME_HAM, 0, 1, false);
	tell(service, CLIENT, OUTCOME_SPAM, 1, 61, false);
	tell(service, CLIENT, OUTCOME_SPAM, 1, 61, false);
	CU_ASSERT(says(rig, "rep why address:192.0.2.1", "spam=60 ham=1"));
	CU_ASSERT(says(rig, "rep why network:192.0.2.0", "spam=60 ham=1"));
	CU_ASSERT(says(rig, "rep why all", "spam=60 ham=1"));
	d = judge(service, true, CLIENT);
	CU_ASSERT(d.verb == POLICY_REJECT && atoi(d.score) > 800);
	CU_ASSERT(d.reason != NULL && strcmp(d.reason, "reputation") == 0);
	CU_ASSERT(strstr(d.text, "192.0.2.1") != NULL);
	CU_ASSERT(strstr(d.why, "by=address:192.0.2.1") != NULL);
	d = judge(service, false, "client_address=192.0.2.2");
	CU_ASSERT(d.verb == POLICY_DUNNO && atoi(d.score) < 400);
	d = judge(service, false, "client_address=198.51.100.1");
	CU_ASSERT(d.verb == POLICY_DUNNO);

	/* Trusted clients relay others' mail, users are themselves. */
	d = judge(service, true, CLIENT "|trusted=yes");
	CU_ASSERT(d.verb == POLICY_DUNNO && d.score[0] == '\0');
	d = judge(service, true, CLIENT "|sasl_username=joe");
	CU_ASSERT(d.verb == POLICY_DUNNO && strcmp(d.score, "0") == 0);
	tell(service, CLIENT "|sasl_username=joe", OUTCOME_SPAM, 70, 130,
	    false);
	d = judge(service, true, CLIENT "|sasl_username=joe");
	CU_ASSERT(d.verb == POLICY_REJECT);
	CU_ASSERT(says(rig, "rep why all", "spam=60 ham=1"));

	/* All of it was a mistake. */
	tell(service, CLIENT, OUTCOME_SPAM, 1, 61, true);
	CU_ASSERT(says(rig, "rep why address:192.0.2.1", "heard of: ham=1,"));
	d = judge(service, true, CLIENT);
	CU_ASSERT(d.verb == POLICY_DUNNO && atoi(d.score) <= 0);
	reputation_service.release(service);
}

static void
be_authenticated(struct rig *rig)
{
	void *service = ask_setup(rig, &reputation_service, 0);
	struct policy_decision d;

	/* Two domains of one organization count once for it. */
	tell(service, CLIENT SIGNED, OUTCOME_HAM, 0, 80, false);
	CU_ASSERT(says(rig, "rep why domain:mail.example.org", "ham=80"));
	CU_ASSERT(says(rig, "rep why domain:example.org", "ham=80"));
	CU_ASSERT(says(rig, "rep why organization:example.org", "ham=80"));
	d = judge(service, true, CLIENT);
	CU_ASSERT(d.verb == POLICY_PASS && atoi(d.score) < -900);

	/* From a bad address a good domain is good, not if it only says so. */
	tell(service, "client_address=198.51.100.1", OUTCOME_SPAM, 100, 160,
	    false);
	d = judge(service, true, "client_address=198.51.100.1" SIGNED END);
	CU_ASSERT(d.verb == POLICY_DUNNO && atoi(d.score) < -500);
	d = judge(service, false, "client_address=198.51.100.1" SIGNED END);
	CU_ASSERT(d.verb == POLICY_REJECT && atoi(d.score) > 500);

	/* An unknown domain does not save it. */
	d = judge(service, true, "client_address=198.51.100.1"
	    "|auth_domains=dkim=new.test" END);
	CU_ASSERT(d.verb == POLICY_REJECT);

	/* A bad domain is bad from a good address, and beside a good one. */
	tell(service, "client_address=203.0.113.1"
	    "|auth_domains=dkim=bad.test", OUTCOME_SPAM, 200, 260, false);
	d = judge(service, true, CLIENT
	    "|auth_domains=dkim=bad.test spf=example.org" END);
	CU_ASSERT(d.verb == POLICY_REJECT);
	CU_ASSERT(strstr(d.why, "by=domain:bad.test") != NULL);
	reputation_service.release(service);
}

static void
be_forged(struct rig *rig)
{
	void *service = ask_setup(rig, &reputation_service, 0);
	struct policy_decision d;

	/* Whose name a spammer takes. */
	tell(service, CLIENT "|helo_name=mx.good.test", OUTCOME_HAM, 0, 80,
	    false);
	tell(service, "client_address=198.51.100.1|helo_name=mx.bad.test"
	    "|sender=x@bad.test", OUTCOME_SPAM, 100, 160, false);
	d = judge(service, true, "client_address=198.51.100.1"
	    "|helo_name=mx.good.test|sender=a@x.test");
	CU_ASSERT(d.verb == POLICY_REJECT);
	d = judge(service, true, "client_address=203.0.113.9"
	    "|helo_name=MX.bad.test");
	CU_ASSERT(d.verb == POLICY_REJECT);

	/* A pair needs a sender that is what it says. */
	tell(service, "client_address=203.0.113.9|sender=p@pal.test"
	    "|recipient=r@y.test|auth_domains=dkim=pal.test"
	    "|auth_selectors=s1._domainkey.pal.test", OUTCOME_HAM, 200, 230,
	    false);
	tell(service, CLIENT, OUTCOME_HAM, 230, 231, false);
	CU_ASSERT(says(rig, "rep why pair:p@pal.test>r@y.test", "ham=30"));
	CU_ASSERT(says(rig, "rep why selector:s1._domainkey.pal.test",
	    "ham=30"));
	CU_ASSERT(says(rig, "rep why organization:pal.test", "ham=30"));
	CU_ASSERT(says(rig, "rep why pair:a@x.test>r@y.test",
	    "nothing was heard"));
	reputation_service.release(service);
}

/* Its networks stand for each other; those of others stay what they were. */
static void
be_of_an_as(struct rig *rig)
{
	void *service = ask_setup(rig, &reputation_service, 0);
	struct policy_decision d;

	tell(service, "client_address=10.0.0.1", OUTCOME_HAM, 500, 560,
	    false);
	tell(service, CLIENT SIGNED, OUTCOME_SPAM, 0, 60, false);
	CU_ASSERT(says(rig, "rep why as:64500", "heard of: spam=60,"));
	CU_ASSERT(says(rig, "rep why as:64500", "prior of all: spam=0.008"));
	/* Which of them are shown is open: all may be of one millisecond. */
	CU_ASSERT(says(rig, "rep why as:64500", " spam e"));
	CU_ASSERT(says(rig, "rep why all", "heard of: spam=60 ham=60,"));
	CU_ASSERT(says(rig, "rep why all", " spam e"));
	CU_ASSERT(says(rig, "rep why address:203.0.113.9",
	    "prior of as:AS64500: spam=0.938"));
	CU_ASSERT(says(rig, "rep why address:192.0.2.1",
	    "prior of as:AS64500: spam=0.008"));
	CU_ASSERT(says(rig, "rep top as", "as:AS64500 spam=0.99"));
	d = judge(service, true, "client_address=203.0.113.9");
	CU_ASSERT(d.verb == POLICY_DUNNO && atoi(d.score) > 0 &&
	    atoi(d.score) < 400);
	d = judge(service, true, "client_address=198.51.100.1");
	CU_ASSERT_STRING_EQUAL(d.score, "0");
	CU_ASSERT(says(rig, "rep why address:198.51.100.1",
	    "prior of as:AS4200000001: spam=0.50"));
	CU_ASSERT_PTR_NULL(strstr(command(rig, "rep why address:10.0.0.1"),
	    "as:AS"));

	/* A network's own mail tells more. */
	tell(service, "client_address=203.0.113.9", OUTCOME_HAM, 100, 160,
	    false);
	d = judge(service, true, "client_address=203.0.113.9");
	CU_ASSERT(atoi(d.score) < -500);

	CU_ASSERT(says(rig, "rep pin as:AS64500 bad", ""));
	CU_ASSERT(says(rig, "rep show address:203.0.113.9", "spam=1.000"));
	CU_ASSERT(says(rig, "rep pin as:AS64500 off", ""));

	/* Taken back. */
	tell(service, CLIENT SIGNED, OUTCOME_SPAM, 0, 60, true);
	CU_ASSERT(says(rig, "rep why as:64500", "heard of: ham=60,"));
	CU_ASSERT(says(rig, "rep why all", "heard of: ham=120,"));
	CU_ASSERT(says(rig, "rep forget as:as64500", ""));
	CU_ASSERT(says(rig, "rep why as:64500", "nothing was heard of it"));

	/* A user's client is of no matter. */
	tell(service, CLIENT "|sasl_username=joe", OUTCOME_SPAM, 70, 75,
	    false);
	CU_ASSERT(says(rig, "rep why as:64500", "nothing was heard of it"));
	reputation_service.release(service);
}

static void
of_an_as(void)
{
	const char *why;

	CU_ASSERT_EQUAL(geo_load(GEO_AS, unit_path("t/unit/policy/asn.mmdb"),
	    &why), 0);
	rig_each("reputation { reject_above = 80 }", be_of_an_as);
	geo_close();
}

static void
asked(void)
{
	rig_each("reputation { reject_above = 80 }", be_asked);
}

static void
authenticated(void)
{
	rig_each("reputation { reject_above = 80 }", be_authenticated);
}

static void
forged(void)
{
	rig_each("reputation { reject_above = 80 dimensions = { address, "
	    "domain, helo, sender, selector, pair } }", be_forged);
}

/* --- commands --- */

/* begins: "!" if it is to fail. */
static const struct {
	const char *line, *begins, *text;
} lines[] = {
	{ "rep", "!", "rep show" },
	{ "rep nonsense", "!", "rep show" },
	{ "rep show", "!", "rep show" },
	{ "rep show planet:x", "!", "an entity is" },
	{ "rep show all", "", "all spam=0.500 between=" },
	{ "rep forget user:joe", "!", "nothing was heard" },
	{ "rep report spam q1 user:joe", "", "" },
	{ "rep report spam q1 user:joe", "!", "told before" },
	{ "rep report ham q1 user:joe", "", "" },
	{ "rep report accepted q1 user:joe", "!", "no evidence" },
	{ "rep report soup q1 user:joe", "!", "a kind is" },
	{ "rep why user:joe", "", "heard of: spam=1 ham=1, last changed 20" },
	{ "rep why user:joe", "", " spam q1 good=0.0 bad=1.0\n" },
	{ "rep why user:joe", "", "\n  hour       good=" },
	{ "rep why user:joe", "", "prior of the unknown: spam=0.500" },
	{ "rep report ham q1 user:joe undo", "", "" },
	{ "rep report ham q1 user:joe undo", "!", "taken back" },
	{ "rep why user:joe", "", "good=1.0 bad=0.0 taken back" },
	{ "rep report trap q2 address:192.0.2.7", "", "" },
	{ "rep why address:192.0.2.7", "", "prior of network:192.0.2.0/24" },
	{ "rep why address:192.0.2.7", "", " trap q2 good=0.0 bad=5.0\n" },
	{ "rep why network:192.0.2.0/24", "", " trap q2 good=0.0 bad=5.0\n" },
	{ "rep why address:192.0.2.8", "", "nothing was heard" },
	{ "rep pin user:joe bad", "", "" },
	{ "rep show user:joe", "", "spam=1.000 between=1.000,1.000" },
	{ "rep why user:joe", "", "pinned at 1.000\n" },
	{ "rep pin user:joe 12.5 for 2d", "", "" },
	{ "rep why user:joe", "", "pinned at 0.125 until 20" },
	{ "rep pin user:joe 101", "!", "rep show" },
	{ "rep pin user:joe good for ever", "!", "" },
	{ "rep pin user:joe off", "", "" },
	{ "rep show user:joe", "", "by=fortnight" },
	{ "rep pin network:192.0.2.0/24 good", "", "" },
	{ "rep show address:192.0.2.7", "", "spam=0.000" },
	{ "rep pin network:192.0.2.0/24 off", "", "" },
	{ "rep top", "", "address:192.0.2.7 spam=" },
	{ "rep top 1 user", "", "user:joe spam=" },
	{ "rep top user 0", "!", "rep show" },
	{ "rep top planet", "!", "rep show" },
	{ "rep export", "", "user:joe 0," },
	{ "rep export 0/2", "!", "rep show" },
	{ "rep export 3/2", "!", "rep show" },
	{ "rep import user:jim 1,2,3,4,5,6,7,0 0,0,1 user:jon "
	    "1,2,3,4,5,6,7,0 0", "", "" },
	{ "rep export user", "", "user:jim 1,2,3,4,5,6,7,0 0,0,1,0,0,0,0,0,0\n" },
	{ "rep import user:jim 1,2,3,4,5,6,7 0", "!", "8 numbers" },
	{ "rep import user:jim 1,2,3,4,5,6,7,8,9 0", "!", "8 numbers" },
	{ "rep import user:jim 1,2,3,4,5,6,7,-8 0", "!", "8 numbers" },
	{ "rep import user:jim 1,2,3,4,5,6,7,1002 0", "!", "8 numbers" },
	{ "rep import user:jim 1,2,3,4,5,6,7,8 x", "!", "8 numbers" },
	{ "rep import user:jim 1", "!", "rep show" },
	{ "rep forget user:jim", "", "" },
};

static void
be_commanded(struct rig *rig)
{
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		const char *answer = command(rig, lines[i].line);

		CASE_ASSERT(lines[i].line, (answer[0] == '!') ==
		    (lines[i].begins[0] == '!'));
		CASE_ASSERT(lines[i].line, strstr(answer, lines[i].text) !=
		    NULL);
	}
}

static void
commanded(void)
{
	rig_each("", be_commanded);
}

static int
by_line(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Lines in order: a back end gives them in its own. */
static void
sort_lines(struct buf *text)
{
	char *sorted[64], *rest, *line;
	struct buf result = BUF_INIT;
	size_t count = 0;

	for (line = strtok_r(text->data, "\n", &rest); line != NULL &&
	    count < 64; line = strtok_r(NULL, "\n", &rest))
		sorted[count++] = line;
	qsort(sorted, count, sizeof(sorted[0]), by_line);
	for (size_t i = 0; i < count; i++)
		buf_printf(&result, "%s\n", sorted[i]);
	buf_release(text);
	*text = result;
}

static void
put_sorted(struct rig *rig, const char *line, struct buf *text)
{
	buf_puts(text, command(rig, line));
	sort_lines(text);
}

/* What was exported, forgotten and imported is exported the same. */
static void
be_moved(struct rig *rig)
{
	struct buf before = BUF_INIT, after = BUF_INIT, parts = BUF_INIT;
	char line[512];
	size_t len;

	for (int i = 0; i < 20; i++) {
		snprintf(line, sizeof(line),
		    "rep report spam q%d address:192.0.%d.1", i, i % 7);
		CU_ASSERT_STRING_EQUAL(command(rig, line), "");
	}
	CU_ASSERT_STRING_EQUAL(command(rig,
	    "rep pin address:192.0.3.1 75 for 9d"), "");
	put_sorted(rig, "rep export", &before);
	put_sorted(rig, "rep export 1/2", &parts);
	put_sorted(rig, "rep export 2/2", &parts);
	CU_ASSERT_STRING_EQUAL(before.data, parts.data);
	for (int pass = 0; pass < 2; pass++)
		for (const char *at = before.data; *at != '\0';
		    at += len + 1) {
			len = strcspn(at, "\n");
			snprintf(line, sizeof(line), pass == 0 ?
			    "rep forget %.*s" : "rep import %.*s", pass == 0 ?
			    (int)strcspn(at, " ") : (int)len, at);
			CU_ASSERT_STRING_EQUAL(command(rig, line), "");
		}
	put_sorted(rig, "rep export", &after);
	CU_ASSERT_STRING_EQUAL(before.data, after.data);
	buf_release(&before);
	buf_release(&after);
	buf_release(&parts);
}

static void
moved(void)
{
	rig_each("", be_moved);
}

static void
checked(void)
{
	static const struct rig_check wrong[] = {
		{ "good", "reputation { reject_above = 95 defer_above = 80 }",
		    NULL },
		{ "dimension", "reputation { dimensions = { network } }",
		    "dimensions" },
		{ "defer", "reputation { reject_above = 50 defer_above = 60 }",
		    "defer_above" },
		{ "pass", "reputation { reject_above = 50 pass_below = 50 }",
		    "pass_below" },
	};

	rig_check_options(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

SUITE(reputation,
    { "a client and a user", asked },
    { "authenticated domains", authenticated },
    { "what anybody can claim, and pairs", forged },
    { "autonomous systems", of_an_as },
    { "commands", commanded },
    { "export and import", moved },
    { "checks of options", checked })
