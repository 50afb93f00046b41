#include <stdio.h>
#include <string.h>

#include "base/task.h"
#include "filters/dmarc_external.h"
#include "filters/dmarc_policy.h"
#include "filters/domain.h"
#include "t/unit/filters/zone.h"
#include "t/unit/unit.h"

#define POLICY(domain, text)	{ "_dmarc." domain, DNS_TXT, text }
#define PERMIT(host, text)						\
	{ "bank.test._report._dmarc." host, DNS_TXT, text }

/* With what stands before it, 253 octets and 254. */
#define LABEL	"a123456789b123456789c123456789d123456789e123456789"
#define LONG	LABEL "." LABEL "." LABEL "." LABEL \
	".f123456789g12345678.test"
#define LONGER	LABEL "." LABEL "." LABEL "." LABEL \
	".f123456789g123456789.test"

static const struct zone_row rows[] = {
	POLICY("bank.test", "v=DMARC1; p=reject; rua=mailto:r@bank.test"),
	POLICY("part.bank.test", "v=DMARC1; p=none; psd=n"),
	PERMIT("any.test", "v=DMARC1"),
	PERMIT("semicolon.test", "v=DMARC1;"),
	PERMIT("second.test", "something else"),
	PERMIT("second.test", "v=DMARC1; p=none"),
	PERMIT("late.test", "p=none; v=DMARC1"),
	PERMIT("longer.test", "v=DMARC12"),
	PERMIT("nodata.test", "-"),
	PERMIT("broken.test", "!"),
	PERMIT("moved.test", "v=DMARC1; rua=mailto:other@moved.test"),
	PERMIT("two.test", "v=DMARC1"),
	PERMIT("two.test",
	    "v=DMARC1; rua=mailto:a@two.test, mailto:b@TWO.test"),
	PERMIT("away.test", "v=DMARC1; rua=mailto:a@victim.test"),
	PERMIT("below.test", "v=DMARC1; rua=mailto:a@x.below.test"),
	PERMIT("partly.test",
	    "v=DMARC1; rua=mailto:a@partly.test,mailto:a@victim.test"),
	PERMIT("web.test", "v=DMARC1; rua=https://web.test/"),
	PERMIT(LONG, "v=DMARC1"),
	PERMIT(LONGER, "v=DMARC1"),
	/* Wherever DNS fails above, organizations are not known. */
	POLICY("lame", "!"),
	POLICY("own.lame", "v=DMARC1; p=none"),
	{ "own.lame._report._dmarc.yes.lame", DNS_TXT, "v=DMARC1" },
	{ NULL, DNS_A, NULL }
};

static const struct {
	const char *name, *domain, *host;
	enum answer want;
	const char *rua;		/* NULL: as it was */
} cases[] = {
	{ "the same", "bank.test", "bank.test", ANSWER_YES, NULL },
	{ "capitals", "bank.test", "Bank.TEST", ANSWER_YES, NULL },
	{ "below", "bank.test", "reports.bank.test", ANSWER_YES, NULL },
	{ "above", "x.bank.test", "bank.test", ANSWER_YES, NULL },
	{ "beside", "x.bank.test", "y.bank.test", ANSWER_YES, NULL },
	{ "psd=n is another's", "bank.test", "part.bank.test", ANSWER_NO,
	    NULL },
	{ "a like name", "bank.test", "evilbank.test", ANSWER_NO, NULL },
	{ "permitted", "bank.test", "any.test", ANSWER_YES, NULL },
	{ "permitted, in capitals", "bank.test", "ANY.test", ANSWER_YES,
	    NULL },
	{ "with a semicolon", "bank.test", "semicolon.test", ANSWER_YES,
	    NULL },
	{ "another record before", "bank.test", "second.test", ANSWER_YES,
	    NULL },
	{ "of another domain", "other.test", "any.test", ANSWER_NO, NULL },
	{ "not for a host below", "bank.test", "x.any.test", ANSWER_NO,
	    NULL },
	{ "v= not first", "bank.test", "late.test", ANSWER_NO, NULL },
	{ "another version", "bank.test", "longer.test", ANSWER_NO, NULL },
	{ "no such name", "bank.test", "victim.test", ANSWER_NO, NULL },
	{ "no such record", "bank.test", "nodata.test", ANSWER_NO, NULL },
	{ "no answer", "bank.test", "broken.test", ANSWER_UNKNOWN, NULL },
	{ "another address", "bank.test", "moved.test", ANSWER_YES,
	    "mailto:other@moved.test" },
	{ "other addresses", "bank.test", "two.test", ANSWER_YES,
	    "mailto:a@two.test, mailto:b@TWO.test" },
	{ "another host", "bank.test", "away.test", ANSWER_NO, NULL },
	{ "a host below", "bank.test", "below.test", ANSWER_NO, NULL },
	{ "another host among them", "bank.test", "partly.test", ANSWER_NO,
	    NULL },
	{ "no mail", "bank.test", "web.test", ANSWER_NO, NULL },
	{ "no name", "bank.test", "a b", ANSWER_NO, NULL },
	{ "an address", "bank.test", "[192.0.2.1]", ANSWER_NO, NULL },
	{ "long", "bank.test", LONG, ANSWER_YES, NULL },
	{ "too long", "bank.test", LONGER, ANSWER_NO, NULL },
	{ "organization not known", "own.lame", "some.lame", ANSWER_UNKNOWN,
	    NULL },
	{ "not known, but permitted", "own.lame", "yes.lame", ANSWER_YES,
	    NULL },
	{ "not known, but the same", "own.lame", "own.lame", ANSWER_YES,
	    NULL },
	{ "not known, but elsewhere", "own.lame", "victim.test", ANSWER_NO,
	    NULL },
};

static void
destinations(void)
{
	struct zone zone = { rows, 0 };

	task_init();
	dns_set_source(zone_answer, &zone);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dmarc_lookup lookup = { .arena = arena_new(0),
			.deadline = DEADLINE_NEVER };
		const char *name = cases[i].name, *rua = cases[i].rua;
		struct dmarc_external external;
		enum answer answer;

		answer = dmarc_external_check(&lookup, cases[i].domain,
		    cases[i].host, &external);
		CASE_ASSERT(name, answer == cases[i].want);
		CASE_ASSERT(name, answer == ANSWER_YES ||
		    external.why != NULL);
		if (answer == ANSWER_YES)
			CASE_ASSERT(name, rua == NULL ? external.rua == NULL :
			    external.rua_len == strlen(rua) &&
			    memcmp(external.rua, rua, strlen(rua)) == 0);
		arena_free(&lookup.arena);
	}
	dns_set_source(NULL, NULL);
	task_shutdown();
}

/* By the Public Suffix List, as reports say who is asked for it. */
static void
by_list(void)
{
	struct zone zone = { rows, 0 };
	struct dmarc_lookup lookup = { .arena = arena_new(0),
		.deadline = DEADLINE_NEVER };
	struct dmarc_external external;
	struct domain_suffixes *suffixes;
	const char *why = NULL;

	suffixes = domain_suffixes_load(
	    "/usr/share/publicsuffix/public_suffix_list.dafsa", &why);
	CU_ASSERT_FATAL(suffixes != NULL);
	lookup.suffixes = suffixes;
	task_init();
	dns_set_source(zone_answer, &zone);
	CU_ASSERT(dmarc_external_check(&lookup, "shop.co.uk", "x.shop.co.uk",
	    &external) == ANSWER_YES);
	CU_ASSERT(dmarc_external_check(&lookup, "shop.co.uk", "other.co.uk",
	    &external) == ANSWER_NO);
	CU_ASSERT(dmarc_external_check(&lookup, "bank.test", "part.bank.test",
	    &external) == ANSWER_YES);
	dns_set_source(NULL, NULL);
	task_shutdown();
	domain_suffixes_free(&suffixes);
	arena_free(&lookup.arena);
}

SUITE(dmarc_external,
	{ "destinations", destinations },
	{ "organizations by the list", by_list })
