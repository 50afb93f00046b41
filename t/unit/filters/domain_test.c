#include <string.h>

#include "base/arena.h"
#include "filters/domain.h"
#include "t/unit/unit.h"

#define LABEL63 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void
normalizes(void)
{
	static const struct {
		const char *name, *want;
	} cases[] = {
		{ "X.Test", "x.test" }, { "x.test.", "x.test" },
		{ "_a-b.x", "_a-b.x" }, { "com", "com" },
		{ "b\303\274cher.test", "xn--bcher-kva.test" },
		{ "B\303\234CHER.test", "xn--bcher-kva.test" },
		{ "XN--BCHER-KVA.test", "xn--bcher-kva.test" },
		{ LABEL63 ".test", LABEL63 ".test" },
		{ LABEL63 "a.test", NULL },
		{ LABEL63 "." LABEL63 "." LABEL63 "." LABEL63, NULL },
		{ "", NULL }, { ".", NULL }, { "..", NULL }, { "x..y", NULL },
		{ ".x", NULL }, { "x y", NULL }, { "x(y", NULL },
		{ "x;y.test", NULL }, { "[192.0.2.1]", NULL },
		{ "x\r\ny", NULL }, { "\303.test", NULL },
		{ "x\357\274\216\357\274\216y", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		const char *got = domain_normalize(arena, cases[i].name,
		    strlen(cases[i].name));

		CASE_ASSERT(cases[i].name, (got == NULL) ==
		    (cases[i].want == NULL) && (got == NULL ||
		    strcmp(got, cases[i].want) == 0));
		arena_free(&arena);
	}
}

static void
refuses_nul(void)
{
	struct arena *arena = arena_new(0);

	CU_ASSERT(domain_normalize(arena, "x.test\0.y", 9) == NULL);
	arena_free(&arena);
}

static void
relations(void)
{
	CU_ASSERT(domain_is_within("a.x.test", "x.test"));
	CU_ASSERT(domain_is_within("x.test", "x.test"));
	CU_ASSERT(!domain_is_within("ax.test", "x.test"));
	CU_ASSERT(!domain_is_within("test", "x.test"));
	CU_ASSERT(domain_labels("a.b.c") == 3);
	CU_ASSERT(domain_labels("com") == 1);
	CU_ASSERT_STRING_EQUAL(domain_parent("a.b.c"), "b.c");
	CU_ASSERT(domain_parent("com") == NULL);
}

static void
organizations(void)
{
	static const struct {
		const char *domain, *want;
	} cases[] = {
		{ "a.b.example.com", "example.com" },
		{ "example.com", "example.com" },
		{ "com", "com" },
		{ "a.example.co.uk", "example.co.uk" },
		{ "evil-target.org", "evil-target.org" },
		{ "x.org", "x.org" },
		{ "a.b.ck", "a.b.ck" },
		{ "www.ck", "www.ck" },
		{ "x.city.kawasaki.jp", "city.kawasaki.jp" },
		{ "a.nosuchtld", "a.nosuchtld" },
	};
	const char *why = NULL;
	struct domain_suffixes *suffixes = domain_suffixes_load(
	    "/usr/share/publicsuffix/public_suffix_list.dafsa", &why);

	CU_ASSERT_FATAL(suffixes != NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CASE_ASSERT(cases[i].domain, strcmp(domain_organizational(
		    suffixes, cases[i].domain), cases[i].want) == 0);
	domain_suffixes_free(&suffixes);
	CU_ASSERT(suffixes == NULL);
	domain_suffixes_free(&suffixes);
}

SUITE(domain, { "normalizes", normalizes }, { "refuses NUL", refuses_nul },
    { "relations", relations }, { "organizations", organizations })
