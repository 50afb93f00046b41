#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "filters/spf_macro.h"
#include "t/unit/unit.h"

/* Those with strong-bad are the examples of RFC 7208, 7.4. */
static const struct {
	const char *spec, *local, *want;
} cases[] = {
	{ "%{s}", "strong-bad", "strong-bad@email.example.com" },
	{ "%{o}", "strong-bad", "email.example.com" },
	{ "%{d}", "strong-bad", "email.example.com" },
	{ "%{d4}", "strong-bad", "email.example.com" },
	{ "%{d3}", "strong-bad", "email.example.com" },
	{ "%{d2}", "strong-bad", "example.com" },
	{ "%{d1}", "strong-bad", "com" },
	{ "%{dr}", "strong-bad", "com.example.email" },
	{ "%{d2r}", "strong-bad", "example.email" },
	{ "%{l}", "strong-bad", "strong-bad" },
	{ "%{l-}", "strong-bad", "strong.bad" },
	{ "%{lr}", "strong-bad", "strong-bad" },
	{ "%{lr-}", "strong-bad", "bad.strong" },
	{ "%{l1r-}", "strong-bad", "strong" },
	{ "%{ir}.%{v}._spf.%{d2}", "strong-bad",
	    "3.2.0.192.in-addr._spf.example.com" },
	{ "%{lr-}.lp._spf.%{d2}", "strong-bad",
	    "bad.strong.lp._spf.example.com" },
	{ "%{lr-}.lp.%{ir}.%{v}._spf.%{d2}", "strong-bad",
	    "bad.strong.lp.3.2.0.192.in-addr._spf.example.com" },
	{ "%{ir}.%{v}.%{l1r-}.lp._spf.%{d2}", "strong-bad",
	    "3.2.0.192.in-addr.strong.lp._spf.example.com" },
	{ "%{d2}.trusted-domains.example.net", "strong-bad",
	    "example.com.trusted-domains.example.net" },
	{ "%{l1r-}.x", "joe", "joe.x" },
	{ "%{l2r-}.x", "a-b", "b.a.x" },
	{ "%{l1r-}.x", "a.b-c", "a.b.x" },
	{ "%{l1-}.x", "-a", "a.x" },
	{ "%{l+-/,_=.}.x", "a+b-c/d,e_f=g.h", "a.b.c.d.e.f.g.h.x" },
	{ "%{L}.x", "A b\303\274%", "a%20b%c3%bc%25.x" },
	{ "%{l}.x", "", ".x" },
	{ "a%%b%_c%-d.x.", "joe", "a%b c%20d.x" },
	{ "%{h}.%{p}.X", "joe", "mx.example.org.mail.example.org.x" },
};

static void
expands(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		char sender[100];
		struct spf_macros macros = { .local = cases[i].local,
			.sender = sender, .sender_domain = "email.example.com",
			.domain = "email.example.com", .address = "192.0.2.3",
			.version = "in-addr", .helo = "mx.example.org",
			.client_name = "mail.example.org" };

		snprintf(sender, sizeof(sender), "%s@email.example.com",
		    cases[i].local);
		CASE_ASSERT(cases[i].spec, strcmp(spf_macro_expand(arena,
		    cases[i].spec, &macros), cases[i].want) == 0);
		arena_free(&arena);
	}
}

static void
shortens(void)
{
	char local[301], want[254];
	struct spf_macros macros = { .local = local };
	struct arena *arena = arena_new(0);

	for (int i = 0; i < 300; i++)
		local[i] = i % 10 == 9 ? '.' : 'a';
	local[300] = '\0';
	/* 300 + 2 octets: the five labels in front must go. */
	snprintf(want, sizeof(want), "%s.x", local + 50);
	CU_ASSERT_STRING_EQUAL(spf_macro_expand(arena, "%{l}.x", &macros),
	    want);
	arena_free(&arena);
}

SUITE(spf_macro, { "expands", expands }, { "shortens", shortens })
