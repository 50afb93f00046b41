/* The texts that reports are made of. */
#include "filters/dmarc_report.h"

#include <string.h>

#include "base/arena.h"
#include "filters/filter.h"
#include "t/unit/unit.h"

struct scene {
	struct arena *arena;
	struct session session;
	struct mail mail;
	struct filter_run run;
	struct dmarc_lookup lookup;
	struct dmarc_policy policy;
};

static void
begin(struct scene *s, const char *record)
{
	const char *why;

	memset(s, 0, sizeof(*s));
	s->arena = arena_new(0);
	s->session.client_address = "192.0.2.1";
	s->mail.session = &s->session;
	s->mail.arena = s->arena;
	s->mail.envelope.sender = "x@sender.test";
	s->run = (struct filter_run){ .session = &s->session,
		.mail = &s->mail };
	s->policy.author = "sub.a.test";
	s->policy.domain = "a.test";
	CU_ASSERT_EQUAL(dmarc_record_parse(record, strlen(record),
	    &s->policy.record, &why), 0);
}

static const struct {
	const char *name, *record, *head;
} heads[] = {
	{ "defaults", "v=DMARC1; p=none; rua=mailto:r@a.test",
	    "treewalk\tnone\t\t\tr\tr\t\tn\tmailto:r@a.test" },
	{ "all", "v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=s;"
	    " fo=1:d; t=y; rua=mailto:r@a.test,mailto:b@b.test",
	    "treewalk\treject\tquarantine\tnone\ts\ts\t1:d\ty\t"
	    "mailto:r@a.test,mailto:b@b.test" },
	{ "no printable text", "v=DMARC1; p=none; rua=mailto:\x01@\xc3\xa4",
	    "treewalk\tnone\t\t\tr\tr\t\tn\tmailto:?@??" },
};

static void
published(void)
{
	const struct dmarc_facts facts = { .disposition = "none" };

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		const struct dmarc_row *row;
		struct scene s;

		begin(&s, heads[i].record);
		row = dmarc_report_row(&s.mail, &s.lookup, &s.policy, &facts);
		CU_ASSERT_PTR_NOT_NULL_FATAL(row);
		CASE_ASSERT(heads[i].name, strcmp(row->domain, "a.test") == 0);
		CASE_ASSERT(heads[i].name, strcmp(row->head,
		    heads[i].head) == 0);
		arena_free(&s.arena);
	}
}

static void
unwanted(void)
{
	const struct dmarc_facts facts = { .disposition = "none" };
	struct scene s;

	begin(&s, "v=DMARC1; p=none");
	CU_ASSERT_PTR_NULL(dmarc_report_row(&s.mail, &s.lookup, &s.policy,
	    &facts));
	arena_free(&s.arena);
}

static void
found(struct scene *s, const char *method, const char *result,
    const char *domain, const char *selector)
{
	struct finding *finding = finding_add(&s->run, method, result, NULL);

	if (domain != NULL)
		finding_property(&s->run, finding, "header", "d", domain);
	if (selector != NULL)
		finding_property(&s->run, finding, "header", "s", selector);
}

static void
message(void)
{
	const struct dmarc_facts facts = { .disposition = "none", .dkim = true,
		.reason = "other", .comment = "a\tb",
		.spf_domain = "sender.test" };
	const struct dmarc_row *row;
	struct scene s;

	begin(&s, "v=DMARC1; p=none; rua=mailto:r@a.test");
	found(&s, "spf", "softfail", NULL, NULL);
	found(&s, "dkim", "pass", "a.test", "s1");
	found(&s, "dkim", "neutral", NULL, NULL);
	found(&s, "dkim", "fail", "b.test", "s2");
	s.mail.findings = s.run.findings;
	row = dmarc_report_row(&s.mail, &s.lookup, &s.policy, &facts);
	CU_ASSERT_PTR_NOT_NULL_FATAL(row);
	CU_ASSERT_STRING_EQUAL(row->row, "192.0.2.1\tnone\tpass\tfail\tother\t"
	    "a?b\tsub.a.test\tsender.test\tsender.test\tmfrom\tsoftfail\t"
	    "a.test\ts1\tpass\tb.test\ts2\tfail");
	/* A bounce has no sender's domain. */
	s.mail.envelope.sender = "";
	row = dmarc_report_row(&s.mail, &s.lookup, &s.policy, &facts);
	CU_ASSERT_PTR_NOT_NULL_FATAL(strstr(row->row, "\tsub.a.test\t\t"));
	arena_free(&s.arena);
}

/* Many signatures: a row stays what the store takes. */
static void
bounded(void)
{
	const struct dmarc_facts facts = { .disposition = "none" };
	const struct dmarc_row *row;
	size_t count = 0;
	struct scene s;

	begin(&s, "v=DMARC1; p=none; rua=mailto:r@a.test");
	for (int i = 0; i < 100; i++)
		found(&s, "dkim", "pass", "domain.test", "s");
	s.mail.findings = s.run.findings;
	row = dmarc_report_row(&s.mail, &s.lookup, &s.policy, &facts);
	for (const char *at = row->row; (at = strstr(at, "domain.test")) !=
	    NULL; at++)
		count++;
	CU_ASSERT_EQUAL(count, 10);
	arena_free(&s.arena);
}

SUITE(dmarc_report,
    { "the published policy", published },
    { "no report wanted", unwanted },
    { "a message", message },
    { "many signatures", bounded })
