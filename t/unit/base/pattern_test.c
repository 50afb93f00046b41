/* Patterns: what matches, which part of it, and what takes too long. */
#include "base/pattern.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "t/unit/unit.h"

#define A16 "ÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄÄ"

static const struct {
	const char *name, *pattern, *flags, *text;
	enum answer found;
	const char *part;
} cases[] = {
	{ "plain", "invoice", "", "your invoice", ANSWER_YES, "invoice" },
	{ "not there", "invoice", "", "your bill", ANSWER_NO, NULL },
	{ "case", "INVOICE", "", "invoice", ANSWER_NO, NULL },
	{ "any case", "INVOICE", "i", "invoice", ANSWER_YES, "invoice" },
	{ "a group", "score=(-?[0-9.]+)", "", "No, score=-1.5 required=5",
	    ANSWER_YES, "-1.5" },
	{ "many groups", "(a)(b)(c)", "", "xabc", ANSWER_YES, "a" },
	{ "a group that took no part", "(x)?b", "", "ab", ANSWER_YES, "b" },
	{ "an empty match", "x*", "", "ab", ANSWER_YES, "" },
	{ "lines", "^b$", "m", "a\nb", ANSWER_YES, "b" },
	{ "far behind", "b+", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaabb", ANSWER_YES,
	    "bb" },
	{ "only at the beginning", "^b", "", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	    "abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", ANSWER_NO,
	    NULL },
	{ "far behind letters", "(*UTF)ä.b", "", A16 "x" A16 A16 "äÄb",
	    ANSWER_YES, "äÄb" },
	{ "too long", "(a+)+$", "",
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", ANSWER_UNKNOWN,
	    NULL },
};

static void
finds(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = NULL, *part = cases[i].part;
		struct pattern_match match;
		struct pattern *pattern = pattern_new(cases[i].pattern,
		    cases[i].flags, &why);
		enum answer found;

		CASE_ASSERT(cases[i].name, pattern != NULL);
		if (pattern == NULL)
			continue;
		found = pattern_find(pattern, cases[i].text,
		    strlen(cases[i].text), &match, &why);
		CASE_ASSERT(cases[i].name, found == cases[i].found);
		if (found == ANSWER_YES)
			CASE_ASSERT(cases[i].name,
			    match.len == strlen(part) && memcmp(part,
			    cases[i].text + match.offset, match.len) == 0);
		CASE_ASSERT(cases[i].name, found == pattern_find(pattern,
		    cases[i].text, strlen(cases[i].text), NULL, &why));
		pattern_free(&pattern);
		CU_ASSERT_PTR_NULL(pattern);
	}
}

/* From no place it takes too long, from all of them together it would. */
static void
ends_in_time(void)
{
	static char text[16384];
	const char *why = NULL;
	struct pattern *pattern = pattern_new("(?:a|aa){0,14}b", "", &why);
	int64_t began = clock_us();

	memset(text, 'a', sizeof(text));
	text[sizeof(text) - 1] = 'b';
	text[sizeof(text) - 2] = '\n';
	CU_ASSERT_EQUAL(pattern_find(pattern, text, sizeof(text), NULL, &why),
	    ANSWER_UNKNOWN);
	CU_ASSERT_STRING_EQUAL(why, "a pattern took too long");
	CU_ASSERT(clock_us() - began < 1000000);
	pattern_free(&pattern);
}

static void
bad_patterns_say_where(void)
{
	const char *why = NULL;

	CU_ASSERT_PTR_NULL(pattern_new("ab(", "", &why));
	CU_ASSERT_PTR_NOT_NULL_FATAL(why);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "character 3"));
	CU_ASSERT_PTR_NULL(pattern_new("a", "iq", &why));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "flag"));
	CU_ASSERT_PTR_NULL(pattern_new("\\C", "", &why));
	/* It would put a match's end before its beginning. */
	CU_ASSERT_PTR_NULL(pattern_new("(?=ab\\K)", "", &why));
}

SUITE(pattern, { "finds", finds }, { "ends in time", ends_in_time },
    { "bad patterns say where", bad_patterns_say_where })
