#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "filters/from.h"
#include "t/unit/unit.h"

#define VALUE(text) text, sizeof(text) - 1

static const struct from_case {
	const char *name, *value;
	size_t len;
	const char *domain;		/* the author's; NULL: malformed */
	const char *listed;		/* among the domains then */
} cases[] = {
	{ "bare", VALUE(" a@x.test\r\n"), "x.test", NULL },
	{ "no blank", VALUE("a@x.test"), "x.test", NULL },
	{ "angle", VALUE(" <a@x.test>\r\n"), "x.test", NULL },
	{ "name", VALUE(" Ann Lee <a@x.test>"), "x.test", NULL },
	{ "name with dots", VALUE(" Ann Q. Lee <a@x.test>"), "x.test", NULL },
	{ "quoted name", VALUE(" \"Lee, Ann\" <a@x.test>"), "x.test", NULL },
	{ "address in a quoted name", VALUE(" \"ceo@bank.test\" <a@x.test>"),
	    "x.test", NULL },
	{ "escapes in a quoted name",
	    VALUE(" \"a\\\"<b@bank.test>\" <a@x.test>"), "x.test", NULL },
	{ "encoded word", VALUE(" =?utf-8?q?a=40bank.test?= <a@x.test>"),
	    "x.test", NULL },
	{ "raw UTF-8 name", VALUE(" J\303\266rg <a@x.test>"), "x.test", NULL },
	{ "UTF-8 domain", VALUE(" <a@b\303\274cher.test>"),
	    "xn--bcher-kva.test", NULL },
	{ "capitals", VALUE(" <A@X.TEST>"), "x.test", NULL },
	{ "comment behind", VALUE(" a@x.test (a@bank.test)"), "x.test", NULL },
	{ "comment in front", VALUE(" (a@bank.test) a@x.test"), "x.test",
	    NULL },
	{ "comments nested", VALUE(" (a(b(c)\\)d)e) <a@x.test>"), "x.test",
	    NULL },
	{ "comments in the address", VALUE(" a(1)@(2)x(3).(4)test(5)"),
	    "x.test", NULL },
	{ "folded", VALUE(" Ann\r\n\t<a@x.test>\r\n"), "x.test", NULL },
	{ "folded in the address", VALUE(" a@x.\r\n test"), "x.test", NULL },
	{ "quoted local part", VALUE(" \"a@bank.test\"@x.test"), "x.test",
	    NULL },
	{ "dotted local part", VALUE(" a.\"b c\".d@x.test"), "x.test", NULL },
	{ "two of one domain", VALUE(" a@x.test, B <b@X.test>"), "x.test",
	    NULL },
	{ "gaps in the list", VALUE(" , a@x.test, ,"), "x.test", NULL },
	{ "comma behind", VALUE(" a@x.test, "), "x.test", NULL },
	{ "group of one", VALUE(" staff: a@x.test;"), "x.test", NULL },
	{ "group of two", VALUE(" staff: a@x.test, <b@x.test>;"), "x.test",
	    NULL },
	{ "last dot", VALUE(" a@x.test."), NULL, "x.test" },
	{ "two domains", VALUE(" a@x.test, b@bank.test"), NULL, "bank.test" },
	{ "address as name", VALUE(" a@x.test <b@bank.test>"), NULL,
	    "bank.test" },
	{ "address as name, first", VALUE(" a@bank.test <b@x.test>"), NULL,
	    "bank.test" },
	{ "two angles", VALUE(" <a@x.test> <b@bank.test>"), NULL,
	    "bank.test" },
	{ "angle in angle", VALUE(" <a@x.test<b@bank.test>>"), NULL,
	    "bank.test" },
	{ "text behind", VALUE(" <a@x.test> bank"), NULL, "x.test" },
	{ "two signs", VALUE(" a@x.test@bank.test"), NULL, "bank.test" },
	{ "two signs in angle", VALUE(" <a@x.test@bank.test>"), NULL,
	    "bank.test" },
	{ "route", VALUE(" <@bank.test:a@x.test>"), NULL, "bank.test" },
	{ "empty group", VALUE(" undisclosed-recipients:;"), NULL, NULL },
	{ "group without end", VALUE(" staff: a@x.test"), NULL, "x.test" },
	{ "group in group", VALUE(" a: b: c@x.test;;"), NULL, "x.test" },
	{ "group in group, one end", VALUE(" a: b: c@x.test;"), NULL,
	    "x.test" },
	{ "group without name", VALUE(" : c@x.test;"), NULL, "x.test" },
	{ "group, then another", VALUE(" a: b@x.test;, c@bank.test"), NULL,
	    "bank.test" },
	{ "nothing", VALUE(""), NULL, NULL },
	{ "blanks", VALUE(" \r\n"), NULL, NULL },
	{ "comma", VALUE(" ,"), NULL, NULL },
	{ "empty angle", VALUE(" <>"), NULL, NULL },
	{ "name alone", VALUE(" Ann"), NULL, NULL },
	{ "no local part", VALUE(" @x.test"), NULL, "x.test" },
	{ "no domain", VALUE(" a@"), NULL, NULL },
	{ "literal", VALUE(" a@[192.0.2.1]"), NULL, NULL },
	{ "empty label", VALUE(" a@x..test"), NULL, NULL },
	{ "odd domain", VALUE(" a@evil.test(.bank.test"), NULL, "evil.test" },
	{ "odd characters", VALUE(" a@ev!il.test"), NULL, NULL },
	{ "quote without end", VALUE(" \"a <b@x.test>"), NULL, "x.test" },
	{ "comment without end", VALUE(" a@x.test (b"), NULL, "x.test" },
	{ "angle without end", VALUE(" <a@x.test"), NULL, "x.test" },
	{ "NUL", VALUE(" a@x.test\0@bank.test"), NULL, "bank.test" },
	{ "NUL in a comment", VALUE(" a@x.test (\0)"), NULL, "x.test" },
	{ "control", VALUE(" a@x.test\001"), NULL, "x.test" },
	{ "semicolon", VALUE(" a@x.test; b@bank.test"), NULL, "bank.test" },
	{ "words before the sign", VALUE(" a b@x.test"), NULL, "x.test" },
	{ "bracket in the name", VALUE(" [Ann] <a@x.test>"), "x.test", NULL },
	{ "bracket in the local part", VALUE(" <a]@x.test>"), NULL, "x.test" },
	{ "brackets before the sign", VALUE(" [a]@x.test"), NULL, "x.test" },
	{ "address twice", VALUE(" a@x.test <a@X.test>"), "x.test", NULL },
	{ "address thrice", VALUE(" a@x.test a@x.test <a@x.test>"), NULL,
	    "x.test" },
	{ "address twice and text", VALUE(" a@x.test b <a@x.test>"), NULL,
	    "x.test" },
	{ "address twice, third", VALUE(" a@x.test <a@x.test> <b@bank.test>"),
	    NULL, "bank.test" },
};

static bool
lists(const struct from *from, const char *domain)
{
	for (size_t i = 0; i < from->count; i++)
		if (strcmp(from->domains[i], domain) == 0)
			return true;
	return false;
}

static void
parses(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct from_case *c = &cases[i];
		struct arena *arena = arena_new(0);
		char *value = malloc(c->len + 1);
		struct from from = { 0 };
		const char *domain;

		/* Of exact size, so that a read beyond is seen. */
		value = realloc(value, c->len == 0 ? 1 : c->len);
		memcpy(value, c->value, c->len);
		from_add(&from, arena, value, c->len);
		domain = from_domain(&from);
		CASE_ASSERT(c->name, (domain == NULL) == (c->domain == NULL));
		if (domain != NULL && c->domain != NULL)
			CASE_ASSERT(c->name, strcmp(domain, c->domain) == 0);
		CASE_ASSERT(c->name, (from.why == NULL) ==
		    (c->domain != NULL));
		if (c->listed != NULL)
			CASE_ASSERT(c->name, lists(&from, c->listed));
		free(value);
		arena_free(&arena);
	}
}

/* Addresses parted by "|"; broken: NULL. */
static void
addresses(void)
{
	static const struct {
		const char *name, *value, *want;
	} table[] = {
		{ "bare", " Ann@X.test", "Ann@x.test" },
		{ "name", " \"c@x.test\" <a@x.test>", "a@x.test" },
		{ "several", " a@x.test, B <b@y.test>", "a@x.test|b@y.test" },
		{ "a group", " us: a@x.test, <b@x.test>;, c@x.test",
		    "a@x.test|b@x.test|c@x.test" },
		{ "in front of itself", " a@x.test <b@x.test>",
		    "a@x.test|b@x.test" },
		{ "comments", " (b@y.test) a (c) . d (e)@ x (f) . test (g)",
		    "a.d@x.test" },
		{ "folds", " <\r\n\ta@x.test>\r\n", "a@x.test" },
		{ "needless quotes", " \"a\".\"\\b\"@x.test", "a.b@x.test" },
		{ "quotes", " \"a b\\\"\\\\\"@x.test",
		    "\"a b\\\"\\\\\"@x.test" },
		{ "a fold in quotes", " \"a\r\n b\"@x.test",
		    "\"a b\"@x.test" },
		{ "nothing in quotes", " \"\"@x.test", "\"\"@x.test" },
		{ "an address in quotes", " \"a@y.test\"@x.test",
		    "\"a@y.test\"@x.test" },
		{ "U-labels", " J\303\266@b\303\274cher.test",
		    "J\303\266@xn--bcher-kva.test" },
		{ "an empty group", " us:;", "" },
		{ "a literal", " a@[192.0.2.1]", NULL },
		{ "text behind", " <a@x.test> b", NULL },
		{ "no domain", " a", NULL },
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct arena *arena = arena_new(0);
		struct from from = { 0 };
		const char *got = "";

		from_add(&from, arena, table[i].value, strlen(table[i].value));
		for (size_t n = 0; n < from.address_count; n++)
			got = arena_printf(arena, "%s%s%s", got,
			    n > 0 ? "|" : "", from.addresses[n]);
		CASE_ASSERT(table[i].name, from.broken ==
		    (table[i].want == NULL));
		CASE_ASSERT(table[i].name, table[i].want == NULL ||
		    strcmp(got, table[i].want) == 0);
		arena_free(&arena);
	}
}

static void
many_addresses(void)
{
	struct arena *arena = arena_new(0);
	char value[20 * FROM_ADDRESSES_MAX];
	struct from from = { 0 };
	size_t len = 0;

	for (int i = 0; i < FROM_ADDRESSES_MAX; i++)
		len += (size_t)sprintf(value + len, "a%d@x.test,", i);
	from_add(&from, arena, value, len);
	CU_ASSERT(!from.broken && from.address_count == FROM_ADDRESSES_MAX);
	len += (size_t)sprintf(value + len, "b@x.test");
	from = (struct from){ 0 };
	from_add(&from, arena, value, len);
	CU_ASSERT(from.broken && from.address_count == FROM_ADDRESSES_MAX);
	CU_ASSERT_STRING_EQUAL(from_domain(&from), "x.test");
	arena_free(&arena);
}

static void
envelopes(void)
{
	struct arena *arena = arena_new(0);

	CU_ASSERT_STRING_EQUAL(from_normalize_address(arena,
	    "\"a\"@X.test"), "a@x.test");
	CU_ASSERT_PTR_NULL(from_normalize_address(arena, "a@[192.0.2.1]"));
	CU_ASSERT_PTR_NULL(from_normalize_address(arena, ""));
	arena_free(&arena);
}

static void
two_fields(void)
{
	struct arena *arena = arena_new(0);
	struct from from = { 0 };

	CU_ASSERT(from_domain(&from) == NULL);
	from_add(&from, arena, VALUE(" a@x.test"));
	CU_ASSERT(from_domain(&from) != NULL);
	from_add(&from, arena, VALUE(" a@x.test"));
	CU_ASSERT(from_domain(&from) == NULL);
	from_add(&from, arena, VALUE(" Ann <a@bank.test>"));
	CU_ASSERT(lists(&from, "x.test") && lists(&from, "bank.test"));
	CU_ASSERT(from.fields == 3 && from.broken);
	arena_free(&arena);
}

static void
bounds(void)
{
	struct arena *arena = arena_new(0);
	struct from from = { 0 };
	size_t len = 100000;
	char *value = malloc(len);

	memset(value, '(', len);
	from_add(&from, arena, value, 60000);
	CU_ASSERT(from_domain(&from) == NULL);
	CU_ASSERT(!from.too_many);
	from_add(&from, arena, value, len);
	CU_ASSERT(from.too_many);
	from = (struct from){ 0 };
	for (size_t i = 0; i + 8 <= 60000; i += 8) {
		memcpy(value + i, "a@a.test", 8);
		value[i + 2] = (char)('a' + i / 8 % 26);
		value[i + 7] = ',';
	}
	from_add(&from, arena, value, 60000);
	CU_ASSERT(from.count == FROM_DOMAINS_MAX);
	CU_ASSERT(from.too_many);
	free(value);
	arena_free(&arena);
}

SUITE(from, { "parses", parses }, { "addresses", addresses },
    { "many addresses", many_addresses }, { "envelopes", envelopes },
    { "two fields", two_fields }, { "bounds", bounds })
