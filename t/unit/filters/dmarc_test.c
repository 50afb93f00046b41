#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/dmarc.h"
#include "filters/dmarc_override.h"
#include "filters/dmarc_policy.h"
#include "filters/spf.h"
#include "policy/report.h"
#include "t/unit/filters/zone.h"
#include "t/unit/unit.h"

#define TXT(name, text)	{ "_dmarc." name, DNS_TXT, text }

static const struct zone_row rows[] = {
	TXT("bank.test", "v=DMARC1; p=reject"),
	TXT("strict.test", "v=DMARC1; p=reject; adkim=s; aspf=s"),
	TXT("hold.test", "v=DMARC1; p=quarantine"),
	TXT("none.test", "v=DMARC1; p=none"),
	TXT("sub.test", "v=DMARC1; p=none; sp=reject"),
	TXT("own.sub.test", "v=DMARC1; p=none"),
	TXT("np.test", "v=DMARC1; p=none; sp=quarantine; np=reject"),
	{ "there.np.test", DNS_A, "192.0.2.1" },
	{ "slow.np.test", DNS_A, "!" },
	TXT("trial.test", "v=DMARC1; p=reject; t=y"),
	TXT("trial2.test", "v=DMARC1; p=quarantine; t=y"),
	TXT("pct.test", "v=DMARC1; p=reject; pct=0"),
	TXT("two.test", "v=DMARC1; p=reject"),
	TXT("two.test", "v=DMARC1; p=none"),
	TXT("noise.test", "hello"), TXT("noise.test", "v=DMARC1; p=reject"),
	TXT("bad.test", "v=DMARC1; p=bob"),
	TXT("broken.test", "!"),
	TXT("lame.broken2.test", "v=DMARC1; p=reject"),
	TXT("broken2.test", "!"),
	TXT("victim.lame", "v=DMARC1; p=reject"),
	TXT("lame", "!"),
	/* A registry, its suffix, and an organization below it. */
	TXT("psd.test", "v=DMARC1; p=reject; psd=y; np=quarantine"),
	TXT("org.psd.test", "v=DMARC1; p=none"),
	{ "bare.psd.test", DNS_A, "192.0.2.1" },
	/* A part of an organization that stands for itself. */
	TXT("part.bank.test", "v=DMARC1; p=quarantine; psd=n"),
	{ NULL, DNS_A, NULL }
};

struct input {
	const char *spf, *spf_domain;	/* result and MAIL FROM's domain */
	const char *dkim, *dkim_domain;
};

#define NOTHING		{ NULL, NULL, NULL, NULL }
#define SPF(domain)	{ "pass", domain, NULL, NULL }
#define DKIM(domain)	{ NULL, NULL, "pass", domain }

static const struct dmarc_case {
	const char *name, *from;	/* header section */
	struct input input;
	const char *result, *policy;	/* NULL: no property */
	enum action action;
	bool hold;
} cases[] = {
	{ "nothing passes", "From: a@bank.test\r\n", NOTHING, "fail",
	    "reject", ACTION_REJECT, false },
	{ "SPF passes", "From: a@bank.test\r\n", SPF("bank.test"), "pass",
	    "none", ACTION_CONTINUE, false },
	{ "DKIM passes", "From: a@bank.test\r\n", DKIM("bank.test"), "pass",
	    "none", ACTION_CONTINUE, false },
	{ "SPF below", "From: a@bank.test\r\n", SPF("m.bank.test"), "pass",
	    "none", ACTION_CONTINUE, false },
	{ "DKIM above", "From: a@x.bank.test\r\n", DKIM("bank.test"), "pass",
	    "none", ACTION_CONTINUE, false },
	{ "sideways", "From: a@x.bank.test\r\n", DKIM("y.bank.test"), "pass",
	    "none", ACTION_CONTINUE, false },
	{ "unlike", "From: a@bank.test\r\n", SPF("evil.test"), "fail",
	    "reject", ACTION_REJECT, false },
	{ "longer name", "From: a@bank.test\r\n", SPF("evilbank.test"), "fail",
	    "reject", ACTION_REJECT, false },
	{ "name within", "From: a@evil-bank.test\r\n", SPF("bank.test"),
	    "none", NULL, ACTION_CONTINUE, false },
	{ "the suffix", "From: a@bank.test\r\n", DKIM("test"), "fail",
	    "reject", ACTION_REJECT, false },
	{ "odd domain", "From: a@bank.test\r\n", SPF("evil.test(.bank.test"),
	    "fail", "reject", ACTION_REJECT, false },
	{ "capitals", "From: a@BANK.test\r\n", SPF("Bank.TEST"), "pass",
	    "none", ACTION_CONTINUE, false },
	{ "SPF fails", "From: a@bank.test\r\n", { "fail", "bank.test", NULL,
	    NULL }, "fail", "reject", ACTION_REJECT, false },
	{ "SPF softfails", "From: a@bank.test\r\n", { "softfail", "bank.test",
	    NULL, NULL }, "fail", "reject", ACTION_REJECT, false },
	{ "DKIM is partial", "From: a@bank.test\r\n", { NULL, NULL, "policy",
	    "bank.test" }, "fail", "reject", ACTION_REJECT, false },
	{ "strict, equal", "From: a@strict.test\r\n", SPF("strict.test"),
	    "pass", "none", ACTION_CONTINUE, false },
	{ "strict, below", "From: a@strict.test\r\n", SPF("x.strict.test"),
	    "fail", "reject", ACTION_REJECT, false },
	{ "strict DKIM, below", "From: a@strict.test\r\n",
	    DKIM("x.strict.test"), "fail", "reject", ACTION_REJECT, false },
	{ "quarantine", "From: a@hold.test\r\n", NOTHING, "fail",
	    "quarantine", ACTION_CONTINUE, true },
	{ "p=none", "From: a@none.test\r\n", NOTHING, "fail", "none",
	    ACTION_CONTINUE, false },
	{ "no policy", "From: a@no.such\r\n", NOTHING, "none", NULL,
	    ACTION_CONTINUE, false },
	{ "sp", "From: a@x.sub.test\r\n", NOTHING, "fail", "reject",
	    ACTION_REJECT, false },
	{ "sp is not for the domain", "From: a@sub.test\r\n", NOTHING, "fail",
	    "none", ACTION_CONTINUE, false },
	{ "a record of its own", "From: a@own.sub.test\r\n", NOTHING, "fail",
	    "none", ACTION_CONTINUE, false },
	{ "np", "From: a@gone.np.test\r\n", NOTHING, "fail", "reject",
	    ACTION_REJECT, false },
	{ "sp where it exists", "From: a@there.np.test\r\n", NOTHING, "fail",
	    "quarantine", ACTION_CONTINUE, true },
	{ "np, no answer", "From: a@slow.np.test\r\n", NOTHING, "temperror",
	    NULL, ACTION_TEMPFAIL, false },
	{ "t=y, reject", "From: a@trial.test\r\n", NOTHING, "fail",
	    "quarantine", ACTION_CONTINUE, true },
	{ "t=y, quarantine", "From: a@trial2.test\r\n", NOTHING, "fail",
	    "none", ACTION_CONTINUE, false },
	{ "pct is history", "From: a@pct.test\r\n", NOTHING, "fail", "reject",
	    ACTION_REJECT, false },
	{ "two records", "From: a@two.test\r\n", NOTHING, "none", NULL,
	    ACTION_CONTINUE, false },
	{ "other text", "From: a@noise.test\r\n", NOTHING, "fail", "reject",
	    ACTION_REJECT, false },
	{ "bad record", "From: a@bad.test\r\n", NOTHING, "permerror", NULL,
	    ACTION_CONTINUE, false },
	{ "no answer above the record", "From: a@x.victim.lame\r\n", NOTHING,
	    "fail", "reject", ACTION_REJECT, false },
	{ "no answer above, aligned", "From: a@x.victim.lame\r\n",
	    DKIM("victim.lame"), "pass", "none", ACTION_CONTINUE, false },
	{ "no answer above, sideways", "From: a@x.victim.lame\r\n",
	    DKIM("y.victim.lame"), "pass", "none", ACTION_CONTINUE, false },
	{ "no answer above, another", "From: a@x.victim.lame\r\n",
	    DKIM("evil.lame"), "temperror", "none", ACTION_TEMPFAIL, false },
	{ "no answer", "From: a@broken.test\r\n", NOTHING, "temperror", NULL,
	    ACTION_TEMPFAIL, false },
	{ "no answer above", "From: a@x.broken.test\r\n", NOTHING,
	    "temperror", NULL, ACTION_TEMPFAIL, false },
	{ "no answer, SPF of the same", "From: a@broken.test\r\n",
	    SPF("broken.test"), "temperror", NULL, ACTION_CONTINUE, false },
	{ "no answer, DKIM of the same", "From: a@x.broken.test\r\n",
	    DKIM("x.broken.test"), "temperror", NULL, ACTION_CONTINUE, false },
	{ "no answer, DKIM above", "From: a@x.broken.test\r\n",
	    DKIM("broken.test"), "temperror", NULL, ACTION_TEMPFAIL, false },
	{ "no answer, SPF fails", "From: a@broken.test\r\n", { "fail",
	    "broken.test", NULL, NULL }, "temperror", NULL, ACTION_TEMPFAIL,
	    false },
	{ "organization not known, equal", "From: a@lame.broken2.test\r\n",
	    SPF("lame.broken2.test"), "pass", "none", ACTION_CONTINUE, false },
	{ "organization not known, above", "From: a@lame.broken2.test\r\n",
	    SPF("broken2.test"), "temperror", "none", ACTION_TEMPFAIL, false },
	{ "organization not known, unlike", "From: a@lame.broken2.test\r\n",
	    SPF("evil.example"), "fail", "reject", ACTION_REJECT, false },
	{ "SPF not known", "From: a@bank.test\r\n", { "temperror",
	    "bank.test", NULL, NULL }, "temperror", "none", ACTION_TEMPFAIL,
	    false },
	{ "DKIM not known, p=none", "From: a@none.test\r\n", { NULL, NULL,
	    "temperror", "none.test" }, "temperror", "none", ACTION_CONTINUE,
	    false },
	{ "SPF not known of another", "From: a@bank.test\r\n", { "temperror",
	    "evil.test", NULL, NULL }, "fail", "reject", ACTION_REJECT,
	    false },
	{ "DKIM was late", "From: a@bank.test\r\n", { NULL, NULL,
	    "temperror", NULL }, "temperror", "none", ACTION_TEMPFAIL,
	    false },
	{ "DKIM of nobody", "From: a@bank.test\r\n", { NULL, NULL,
	    "pass", NULL }, "fail", "reject", ACTION_REJECT, false },
	{ "SPF not known, DKIM passes", "From: a@bank.test\r\n", {
	    "temperror", "bank.test", "pass", "bank.test" }, "pass", "none",
	    ACTION_CONTINUE, false },
	{ "the suffix's policy", "From: a@bare.psd.test\r\n", NOTHING, "fail",
	    "reject", ACTION_REJECT, false },
	{ "the suffix's np", "From: a@gone.psd.test\r\n", NOTHING, "fail",
	    "quarantine", ACTION_CONTINUE, true },
	{ "below the suffix", "From: a@x.org.psd.test\r\n",
	    SPF("y.org.psd.test"), "pass", "none", ACTION_CONTINUE, false },
	{ "neighbours below the suffix", "From: a@bare.psd.test\r\n",
	    SPF("org.psd.test"), "fail", "reject", ACTION_REJECT, false },
	{ "psd=n stands for itself", "From: a@part.bank.test\r\n",
	    SPF("bank.test"), "fail", "quarantine", ACTION_CONTINUE, true },
	{ "psd=n, below", "From: a@x.part.bank.test\r\n",
	    SPF("part.bank.test"), "pass", "none", ACTION_CONTINUE, false },
	{ "psd=n, seen from above", "From: a@bank.test\r\n",
	    SPF("part.bank.test"), "fail", "reject", ACTION_REJECT, false },
	{ "a deep name", "From: a@1.2.3.4.5.6.7.8.9.bank.test\r\n",
	    SPF("9.8.7.6.5.4.3.2.1.bank.test"), "pass", "none",
	    ACTION_CONTINUE, false },
	{ "blank before the colon", "From : a@bank.test\r\n", NOTHING, "fail",
	    "reject", ACTION_REJECT, false },
	{ "two fields", "From: a@none.test\r\nfrom: a@bank.test\r\n",
	    SPF("none.test"), "permerror", "reject", ACTION_REJECT, false },
	{ "two fields of one domain, passing",
	    "From: a@bank.test\r\nFrom: b@bank.test\r\n", SPF("bank.test"),
	    "permerror", "reject", ACTION_REJECT, false },
	{ "two domains", "From: a@none.test, b@hold.test\r\n",
	    SPF("none.test"), "permerror", "quarantine", ACTION_CONTINUE,
	    true },
	{ "two domains, no answer", "From: a@none.test, b@broken.test\r\n",
	    SPF("none.test"), "permerror", "none", ACTION_TEMPFAIL, false },
	{ "two domains, no answer but quarantine",
	    "From: a@broken.test, b@hold.test\r\n", NOTHING, "permerror",
	    "quarantine", ACTION_TEMPFAIL, false },
	{ "two domains, no answer but reject",
	    "From: a@broken.test, b@bank.test\r\n", NOTHING, "permerror",
	    "reject", ACTION_REJECT, false },
	{ "address as name", "From: a@bank.test <a@no.such>\r\n",
	    SPF("no.such"), "permerror", "reject", ACTION_REJECT, false },
	{ "no From", "Subject: x\r\n", SPF("bank.test"), "permerror", NULL,
	    ACTION_REJECT, false },
	{ "empty From", "From: <>\r\n", SPF("bank.test"), "permerror", NULL,
	    ACTION_REJECT, false },
	{ "an encoded address", "From: =?utf-8?q?ceo=40bank.test?=\r\n",
	    SPF("evil.test"), "permerror", NULL, ACTION_REJECT, false },
	{ "a name in quotes", "From: \"a@bank.test\" <a@none.test>\r\n",
	    SPF("none.test"), "pass", "none", ACTION_CONTINUE, false },
};

/* The options, by name, into a struct that only the filter knows. */
static char values[512] __attribute__((aligned(8)));

static void *
option(const char *name)
{
	const struct section_kind *kind = filter_dmarc.options;

	for (size_t i = 0; i < kind->row_count; i++)
		if (strcmp(kind->rows[i].name, name) == 0)
			return values + kind->rows[i].offset;
	CU_FAIL_FATAL("no such option");
	return NULL;
}

static void
set_options(void)
{
	CU_ASSERT_FATAL(filter_dmarc.options->size <= sizeof(values));
	memset(values, 0, sizeof(values));
	*(bool *)option("reject") = true;
	*(int64_t *)option("timeout") = 20000;
	*(const char **)option("psl_file") =
	    "/usr/share/publicsuffix/public_suffix_list.dafsa";
}

struct scene {
	struct arena *arena;
	struct session session;
	struct mail mail;
	struct filter_run run;
	struct verdict verdict;
};

static void
found_before(struct scene *s, const char *method, const char *result,
    const char *type, const char *name, const char *value)
{
	struct filter_run other = { .name = method, .session = &s->session,
		.mail = &s->mail, .findings = s->mail.findings };
	struct finding *finding = finding_add(&other, method, result, NULL);

	finding_property(&other, finding, type, name, value);
	s->mail.findings = other.findings;
}

static void
begin(struct scene *s, const char *header, const struct input *input)
{
	memset(s, 0, sizeof(*s));
	s->arena = arena_new(0);
	s->session.arena = s->mail.arena = s->arena;
	s->mail.session = &s->session;
	s->mail.envelope.sender = "x@unused.test";
	s->mail.deadline = DEADLINE_NEVER;
	headers_parse(&s->mail.headers, s->arena, header, strlen(header));
	if (input->spf != NULL)
		found_before(s, "spf", input->spf, "smtp", "mailfrom",
		    arena_printf(s->arena, "x@%s", input->spf_domain));
	if (input->dkim != NULL)
		found_before(s, "dkim", input->dkim, "header", "d",
		    input->dkim_domain);
}

static void
run(struct scene *s)
{
	struct conf_section section = { .kind = filter_dmarc.options,
		.values = values };
	struct zone zone = { rows, 0 };
	const char *why = NULL;

	s->run = (struct filter_run){ .filter = &filter_dmarc,
		.name = "dmarc", .session = &s->session, .mail = &s->mail };
	s->run.instance = filter_dmarc.setup(NULL, &section, &why);
	CU_ASSERT_FATAL(s->run.instance != NULL);
	dns_set_source(zone_answer, &zone);
	s->verdict = filter_dmarc.eom(&s->run);
	dns_set_source(NULL, NULL);
	filter_dmarc.release(s->run.instance);
}

static void
results(void)
{
	task_init();
	set_options();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct dmarc_case *c = &cases[i];
		const struct finding *finding;
		struct scene s;
		const char *policy;
		char name[200];

		begin(&s, c->from, &c->input);
		run(&s);
		finding = s.run.findings;
		CU_ASSERT_FATAL(finding != NULL);
		snprintf(name, sizeof(name), "%s: %s (%s)", c->name,
		    finding->result, finding->reason);
		CASE_ASSERT(name, strcmp(finding->result, c->result) == 0);
		CASE_ASSERT(name, finding->next == NULL && finding->report);
		policy = finding_value(finding, "policy", "dmarc");
		CASE_ASSERT(name, (policy == NULL) == (c->policy == NULL) &&
		    (policy == NULL || strcmp(policy, c->policy) == 0));
		CASE_ASSERT(name, s.verdict.action == c->action);
		CASE_ASSERT(name, s.mail.envelope.hold == c->hold);
		CASE_ASSERT(name, c->action != ACTION_REJECT ||
		    (s.verdict.code == 550 && s.verdict.text != NULL));
		arena_free(&s.arena);
	}
	task_shutdown();
}

/* What "arc" found changes nothing but a failure, and only with trust. */
static void
overrides(void)
{
	static const struct {
		const char *name, *from, *arc, *trust;
		struct input input;
		enum action action;
		bool hold, override;
	} arcs[] = {
		{ "reject", "From: a@bank.test\r\n", "pass", "dmarc", NOTHING,
		    ACTION_CONTINUE, false, true },
		{ "quarantine", "From: a@hold.test\r\n", "pass", "dmarc",
		    NOTHING, ACTION_CONTINUE, false, true },
		{ "untrusted", "From: a@bank.test\r\n", "pass", NULL, NOTHING,
		    ACTION_REJECT, false, false },
		{ "trusted, but it says nothing of DMARC",
		    "From: a@bank.test\r\n", "pass", "sealer", NOTHING,
		    ACTION_REJECT, false, false },
		{ "broken", "From: a@bank.test\r\n", "fail", "dmarc", NOTHING,
		    ACTION_REJECT, false, false },
		{ "no answer", "From: a@bank.test\r\n", "temperror", "dmarc",
		    NOTHING, ACTION_TEMPFAIL, false, false },
		{ "no answer, untrusted", "From: a@bank.test\r\n",
		    "temperror", NULL, NOTHING, ACTION_REJECT, false, false },
		{ "no policy to be had", "From: a@broken.test\r\n", "pass",
		    "dmarc", NOTHING, ACTION_CONTINUE, false, false },
		{ "no policy to be had, untrusted",
		    "From: a@broken.test\r\n", "pass", NULL, NOTHING,
		    ACTION_TEMPFAIL, false, false },
		{ "DMARC passes", "From: a@bank.test\r\n", "pass", "dmarc",
		    SPF("bank.test"), ACTION_CONTINUE, false, false },
		{ "two authors", "From: a@bank.test, b@hold.test\r\n",
		    "pass", "dmarc", NOTHING, ACTION_REJECT, false, false },
	};

	task_init();
	set_options();
	for (size_t i = 0; i < sizeof(arcs) / sizeof(arcs[0]); i++) {
		struct scene s;

		begin(&s, arcs[i].from, &arcs[i].input);
		found_before(&s, "arc", arcs[i].arc, "policy", "trust",
		    arcs[i].trust);
		run(&s);
		CASE_ASSERT(arcs[i].name, s.verdict.action == arcs[i].action);
		CASE_ASSERT(arcs[i].name, s.mail.envelope.hold ==
		    arcs[i].hold);
		CASE_ASSERT(arcs[i].name, (finding_value(s.run.findings,
		    "policy", "override") != NULL) == arcs[i].override);
		arena_free(&s.arena);
	}
	task_shutdown();
}

static void
from_client(struct scene *s, const char *address)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&s->session.client;

	in->sin_family = AF_INET;
	CU_ASSERT_FATAL(inet_pton(AF_INET, address, &in->sin_addr) == 1);
	s->session.client_address = address;
}

static const char *const override_rules[] = { "a.bank.test = none",
	".bank.test=quarantine", " None.Test = reject ",
	"198.51.100.0/24 = none", "198.51.100.0/25 = reject",
	"203.0.113.1 = reject", "hold.test = reject", NULL };

/* Rules of ours: the first that matches, and only for what fails. */
static void
local_rules(void)
{
	static const struct {
		const char *name, *from, *client;
		struct input input;
		const char *policy, *override;	/* properties */
		enum action action;
		bool hold;
	} locals[] = {
		{ "no rule", "From: a@bank.test\r\n", "192.0.2.1", NOTHING,
		    "reject", NULL, ACTION_REJECT, false },
		{ "the domain", "From: a@a.bank.test\r\n", "192.0.2.1",
		    NOTHING, "none", "domain", ACTION_CONTINUE, false },
		{ "below it", "From: a@b.c.bank.test\r\n", "192.0.2.1",
		    NOTHING, "quarantine", "domain", ACTION_CONTINUE, true },
		{ "below the first", "From: a@x.a.bank.test\r\n",
		    "192.0.2.1", NOTHING, "quarantine", "domain",
		    ACTION_CONTINUE, true },
		{ "a longer name", "From: a@none.test.bank.test\r\n",
		    "192.0.2.1", NOTHING, "quarantine", "domain",
		    ACTION_CONTINUE, true },
		{ "stricter than the policy", "From: a@NONE.test\r\n",
		    "192.0.2.1", NOTHING, "reject", "domain", ACTION_REJECT,
		    false },
		{ "the network", "From: a@bank.test\r\n", "198.51.100.9",
		    NOTHING, "none", "network", ACTION_CONTINUE, false },
		{ "beside the network", "From: a@bank.test\r\n",
		    "198.51.101.9", NOTHING, "reject", NULL, ACTION_REJECT,
		    false },
		{ "the first rule", "From: a@none.test\r\n",
		    "198.51.100.9", NOTHING, "reject", "domain",
		    ACTION_REJECT, false },
		{ "one address", "From: a@hold.test\r\n", "203.0.113.1",
		    NOTHING, "reject", "network", ACTION_REJECT, false },
		{ "DMARC passes", "From: a@none.test\r\n", "203.0.113.1",
		    SPF("none.test"), "none", NULL, ACTION_CONTINUE, false },
		{ "no policy", "From: a@no.such\r\n", "203.0.113.1",
		    NOTHING, NULL, NULL, ACTION_CONTINUE, false },
		{ "cannot be told", "From: a@a.bank.test\r\n",
		    "192.0.2.1", { "temperror", "bank.test", NULL, NULL },
		    "none", NULL, ACTION_CONTINUE, false },
		{ "cannot be told, and would be refused",
		    "From: a@none.test\r\n", "192.0.2.1", { "temperror",
		    "none.test", NULL, NULL }, "none", NULL, ACTION_TEMPFAIL,
		    false },
		{ "no answer, and a rule lets it pass",
		    "From: a@broken.test\r\n", "198.51.100.200", NOTHING,
		    NULL, NULL, ACTION_CONTINUE, false },
		{ "no answer for one of two, whatever the rules say",
		    "From: a@broken.test, b@no.such\r\n", "198.51.100.200",
		    NOTHING, NULL, NULL, ACTION_TEMPFAIL, false },
		{ "two authors", "From: a@bank.test, b@a.bank.test\r\n",
		    "198.51.100.9", NOTHING, "reject", NULL, ACTION_REJECT,
		    false },
	};

	task_init();
	set_options();
	*(const char *const **)option("override") = override_rules;
	for (size_t i = 0; i < sizeof(locals) / sizeof(locals[0]); i++) {
		const char *name = locals[i].name, *value;
		struct scene s;

		begin(&s, locals[i].from, &locals[i].input);
		from_client(&s, locals[i].client);
		run(&s);
		CASE_ASSERT(name, s.verdict.action == locals[i].action);
		CASE_ASSERT(name, s.mail.envelope.hold == locals[i].hold);
		value = finding_value(s.run.findings, "policy", "dmarc");
		CASE_ASSERT(name, locals[i].policy == NULL ? value == NULL :
		    value != NULL && strcmp(value, locals[i].policy) == 0);
		value = finding_value(s.run.findings, "policy", "override");
		CASE_ASSERT(name, locals[i].override == NULL ? value == NULL :
		    value != NULL && strcmp(value, locals[i].override) == 0);
		arena_free(&s.arena);
	}
	task_shutdown();
}

/* What is said of it, how it goes with other options and with ARC. */
static void
local_rules_and_others(void)
{
	static const struct input nothing = NOTHING;
	struct scene s;

	task_init();
	set_options();
	*(const char *const **)option("override") = override_rules;
	*(bool *)option("reject") = false;
	*(int *)option("quarantine") = 1;
	begin(&s, "From: a@hold.test\r\n", &nothing);
	found_before(&s, "arc", "pass", "policy", "trust", "dmarc");
	run(&s);
	CU_ASSERT(s.verdict.action == ACTION_REJECT);
	CU_ASSERT_STRING_EQUAL(s.verdict.text,
	    "Local DMARC policy for hold.test rejects this message");
	CU_ASSERT_STRING_EQUAL(s.run.findings->reason,
	    "no aligned domain; local policy: hold.test = reject");
	arena_free(&s.arena);
	begin(&s, "From: a@x.bank.test\r\n", &nothing);
	run(&s);
	CU_ASSERT(s.verdict.action == ACTION_CONTINUE);
	CU_ASSERT(!s.mail.envelope.hold);
	CU_ASSERT_STRING_EQUAL(finding_value(s.run.findings, "policy",
	    "dmarc"), "quarantine");
	arena_free(&s.arena);
	task_shutdown();
}

static void
bad_rules(void)
{
	static const struct {
		const char *rule, *wrong;	/* NULL: nothing is */
	} bad[] = {
		{ "example.org = none", NULL },
		{ "2001:db8::/32 = quarantine", NULL },
		{ "b\xc3\xbc" "cher.example=reject", NULL },
		{ "", "WHAT = ACTION" },
		{ "example.org none", "WHAT = ACTION" },
		{ "example.org =", "action" },
		{ "example.org = pass", "action" },
		{ "example.org = none = none", "action" },
		{ " = none", "domain" },
		{ ". = none", "domain" },
		{ "* = none", "domain" },
		{ "a@example.org = none", "domain" },
		{ "example..org = none", "domain" },
		{ "10.0.0.1/8 = none", "network" },
		{ "10.0.0.0/33 = none", "network" },
		{ "10.0.0 = none", "network" },
		{ "10.0.0.0/8 x = none", "network" },
		{ "x/8 = none", "network" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *rules[] = { "example.net = none", bad[i].rule,
			NULL };
		struct dmarc_overrides *overrides;
		const char *why = NULL;
		int rc = dmarc_overrides_new(rules, &overrides, &why);

		CASE_ASSERT(bad[i].rule, rc == (bad[i].wrong == NULL ? 0 :
		    -1));
		CASE_ASSERT(bad[i].rule, (overrides == NULL) == (rc == -1));
		CASE_ASSERT(bad[i].rule, bad[i].wrong == NULL || (why != NULL
		    && strstr(why, bad[i].wrong) != NULL &&
		    strstr(why, bad[i].rule) != NULL));
		dmarc_overrides_free(&overrides);
	}
}

static struct verdict
once(const char *from, const struct input *input, bool *hold)
{
	struct scene s;

	begin(&s, from, input);
	run(&s);
	*hold = s.mail.envelope.hold;
	arena_free(&s.arena);
	return s.verdict;
}

static void
options(void)
{
	static const struct input nothing = NOTHING,
		temperror = { "temperror", "bank.test", NULL, NULL };
	bool hold;

	task_init();
	set_options();
	*(bool *)option("reject") = false;
	CU_ASSERT(once("From: a@bank.test\r\n", &nothing, &hold).action ==
	    ACTION_CONTINUE);
	CU_ASSERT(hold);
	CU_ASSERT(once("From: a@broken.test\r\n", &nothing, &hold).action ==
	    ACTION_TEMPFAIL);
	*(int *)option("quarantine") = 1;
	CU_ASSERT(once("From: a@bank.test\r\n", &nothing, &hold).action ==
	    ACTION_CONTINUE);
	CU_ASSERT(!hold);
	/* Nothing could come of the answer. */
	CU_ASSERT(once("From: a@broken.test\r\n", &nothing, &hold).action ==
	    ACTION_CONTINUE);
	*(bool *)option("reject") = true;
	*(int *)option("no_author") = 1;
	CU_ASSERT(once("Subject: x\r\n", &nothing, &hold).action ==
	    ACTION_CONTINUE);
	*(int *)option("temperror") = 1;
	CU_ASSERT(once("From: a@bank.test\r\n", &temperror, &hold).action ==
	    ACTION_CONTINUE);
	CU_ASSERT(once("From: a@broken.test\r\n", &nothing, &hold).action ==
	    ACTION_CONTINUE);
	task_shutdown();
}

/* RFC 7489: the list says what an organization is, whatever psd= says. */
static void
by_list(void)
{
	static const struct {
		const char *name, *from;
		struct input input;
		enum action action;
	} list_cases[] = {
		{ "own", "From: a@bank.test\r\n", NOTHING, ACTION_REJECT },
		{ "below", "From: a@x.y.bank.test\r\n", NOTHING,
		    ACTION_REJECT },
		{ "aligned", "From: a@x.bank.test\r\n", SPF("y.bank.test"),
		    ACTION_CONTINUE },
		{ "unlike", "From: a@bank.test\r\n", SPF("x.test"),
		    ACTION_REJECT },
		{ "the suffix", "From: a@bank.test\r\n", SPF("test"),
		    ACTION_REJECT },
		{ "psd= is not looked at", "From: a@bank.test\r\n",
		    SPF("part.bank.test"), ACTION_CONTINUE },
	};
	bool hold;

	task_init();
	set_options();
	*(int *)option("discovery") = 1;
	for (size_t i = 0; i < sizeof(list_cases) / sizeof(list_cases[0]); i++)
		CASE_ASSERT(list_cases[i].name, once(list_cases[i].from,
		    &list_cases[i].input, &hold).action ==
		    list_cases[i].action);
	task_shutdown();
}

static void
helo_only_for_null_senders(void)
{
	static const struct input nothing = NOTHING;
	struct scene s;

	task_init();
	set_options();
	begin(&s, "From: a@bank.test\r\n", &nothing);
	found_before(&s, "spf", "pass", "smtp", "helo", "bank.test");
	run(&s);
	CU_ASSERT(s.verdict.action == ACTION_REJECT);
	arena_free(&s.arena);
	begin(&s, "From: a@bank.test\r\n", &nothing);
	s.mail.envelope.sender = "";
	found_before(&s, "spf", "pass", "smtp", "helo", "bank.test");
	run(&s);
	CU_ASSERT(s.verdict.action == ACTION_CONTINUE);
	CU_ASSERT_STRING_EQUAL(s.run.findings->result, "pass");
	arena_free(&s.arena);
	task_shutdown();
}

static void
leaves_our_own_alone(void)
{
	static const struct input nothing = NOTHING;
	struct scene s;

	task_init();
	set_options();
	begin(&s, "From: a@bank.test\r\n", &nothing);
	s.session.user = "ann";
	run(&s);
	CU_ASSERT(s.verdict.action == ACTION_CONTINUE);
	CU_ASSERT(s.run.findings == NULL);
	arena_free(&s.arena);
	begin(&s, "From: a@bank.test\r\n", &nothing);
	s.session.trusted = true;
	*(bool *)option("check_trusted") = true;
	run(&s);
	CU_ASSERT(s.verdict.action == ACTION_REJECT);
	arena_free(&s.arena);
	task_shutdown();
}

static void
bounds_questions(void)
{
	struct zone zone = { rows, 0 };
	struct arena *arena = arena_new(0);
	struct dmarc_lookup lookup = { .arena = arena,
		.deadline = DEADLINE_NEVER };
	struct dmarc_policy policy;

	dns_set_source(zone_answer, &zone);
	dmarc_policy_find(&lookup,
	    "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r.s.t.no.such", &policy);
	CU_ASSERT(policy.found == DMARC_ABSENT);
	CU_ASSERT(zone.asked == 8);
	zone.asked = 0;
	dmarc_policy_find(&lookup, "b.c.d.e.f.g.no.such", &policy);
	CU_ASSERT(zone.asked == 8);
	zone.asked = 0;
	dmarc_policy_find(&lookup, "com", &policy);
	CU_ASSERT(zone.asked == 1);
	dns_set_source(NULL, NULL);
	arena_free(&arena);
}

static void
refuses_a_flood_of_domains(void)
{
	static const struct input nothing = NOTHING;
	char from[1000] = "From: ";
	bool hold;

	task_init();
	set_options();
	for (int i = 0; i < 20; i++)
		snprintf(from + strlen(from), sizeof(from) - strlen(from),
		    "a@x%d.test,", i);
	strcat(from, "\r\n");
	CU_ASSERT(once(from, &nothing, &hold).action == ACTION_REJECT);
	task_shutdown();
}

/* The rows' defaults and choices, through the parser of the configuration. */
static void
configuration(void)
{
	static const struct section_kind top = { .name = "" };
	const struct section_kind *kinds[] = { &top, filter_spf.options,
		filter_dmarc.options, &report_section };
	struct buf errors = BUF_INIT;
	struct conf *conf;
	void *instance;
	const char *why = NULL;
	size_t count;

	conf = conf_load(NULL, "dmarc { discovery = psl quarantine = mark }\n",
	    kinds, sizeof(kinds) / sizeof(kinds[0]), &errors);
	CU_ASSERT_FATAL(conf != NULL);
	CU_ASSERT(errors.len == 0);
	instance = filter_dmarc.setup(conf, conf_sections(conf, "dmarc",
	    &count), &why);
	CU_ASSERT(count == 1);
	CU_ASSERT_FATAL(instance != NULL);
	filter_dmarc.release(instance);
	CU_ASSERT(filter_spf.setup(conf, conf_sections(conf, "spf", &count),
	    &why) != NULL);
	conf_free(&conf);
	buf_release(&errors);
}

SUITE(dmarc, { "results", results }, { "overrides", overrides },
    { "local rules", local_rules },
    { "local rules and other options", local_rules_and_others },
    { "bad rules", bad_rules },
    { "configuration", configuration },
    { "options", options },
    { "by list", by_list },
    { "HELO only for null senders", helo_only_for_null_senders },
    { "leaves our own alone", leaves_our_own_alone },
    { "bounds questions", bounds_questions },
    { "refuses a flood of domains", refuses_a_flood_of_domains })
