/* Patterns: PCRE2 with limits. */
#include "base/pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

/*
 * Steps of backtracking: ordinary patterns need some hundred.  PCRE2 counts them
 * anew from each place where a match may begin, so a text has no more than what
 * PLACES of them may take, or else the clock decides.
 */
#define MATCH_LIMIT 100000
#define PLACES 32
#define TIME_LIMIT_US 20000
#define HEAP_LIMIT_KB 4096
#define JIT_STACK_MAX (256 * 1024)

struct pattern {
	pcre2_code *code;
	bool utf8;			/* it begins with (*UTF) */
};

/* One match at a time is under way in a thread; made once. */
static _Thread_local struct {
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *jit_stack;
} work;

static void
prepare_work(void)
{
	if (work.match != NULL)
		return;
	work.match = pcre2_match_data_create(2, NULL);
	work.context = pcre2_match_context_create(NULL);
	work.jit_stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_MAX,
	    NULL);
	if (work.match == NULL || work.context == NULL)
		fatal("out of memory (pattern)");
	pcre2_set_heap_limit(work.context, HEAP_LIMIT_KB);
	if (work.jit_stack != NULL)
		pcre2_jit_stack_assign(work.context, NULL, work.jit_stack);
}

static const char *
parse_flags(const char *flags, uint32_t *options)
{
	*options = 0;
	for (; *flags != '\0'; flags++) {
		switch (*flags) {
		case 'i':
			*options |= PCRE2_CASELESS;
			break;
		case 'm':
			*options |= PCRE2_MULTILINE;
			break;
		case 's':
			*options |= PCRE2_DOTALL;
			break;
		case 'x':
			*options |= PCRE2_EXTENDED;
			break;
		default:
			return "unknown flag behind the pattern (i, m, s, x)";
		}
	}
	return NULL;
}

struct pattern *
pattern_new(const char *text, const char *flags, const char **whyp)
{
	static _Thread_local char why[256];
	struct pattern *pattern;
	uint32_t options;
	PCRE2_SIZE offset;
	pcre2_code *code;
	int error;

	if ((*whyp = parse_flags(flags, &options)) != NULL)
		return NULL;
	/* \C would cut letters of UTF-8 apart. */
	code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
	    options | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT, &error,
	    &offset, NULL);
	if (code == NULL) {
		unsigned char message[128];

		pcre2_get_error_message(error, message, sizeof(message));
		snprintf(why, sizeof(why), "pattern, at character %zu: %s",
		    (size_t)offset, (char *)message);
		*whyp = why;
		return NULL;
	}
	/* Without JIT the interpreter does it, more slowly. */
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	if ((pattern = malloc(sizeof(*pattern))) == NULL)
		fatal("out of memory (pattern)");
	pattern->code = code;
	(void)pcre2_pattern_info(code, PCRE2_INFO_ALLOPTIONS, &options);
	pattern->utf8 = (options & PCRE2_UTF) != 0;
	return pattern;
}

void
pattern_free(struct pattern **patternp)
{
	struct pattern *pattern = *patternp;

	*patternp = NULL;
	if (pattern == NULL)
		return;
	pcre2_code_free(pattern->code);
	free(pattern);
}

/* For a match that begins in first to last. */
static int
search(const struct pattern *pattern, const char *text, size_t len,
    size_t first, size_t last, uint32_t limit)
{
	pcre2_set_offset_limit(work.context, last);
	pcre2_set_match_limit(work.context, limit);
	return pcre2_match(pattern->code, (PCRE2_SPTR)text, len, first, 0,
	    work.match, work.context);
}

/* A few places at a time, and by the clock. */
static int
search_slowly(const struct pattern *pattern, const char *text, size_t len)
{
	int64_t until = clock_us() + TIME_LIMIT_US;
	size_t from = 0;
	int rc;

	while ((rc = search(pattern, text, len, from, from + PLACES - 1,
	    MATCH_LIMIT)) == PCRE2_ERROR_NOMATCH && len - from >= PLACES) {
		from += PLACES;
		while (pattern->utf8 && from < len &&
		    ((unsigned char)text[from] & 0xc0) == 0x80)
			from++;
		if (clock_us() > until)
			return PCRE2_ERROR_MATCHLIMIT;
	}
	return rc;
}

/* As pcre2_match(), but the match limit is one of all places together. */
static int
search_all(const struct pattern *pattern, const char *text, size_t len)
{
	int rc;

	prepare_work();
	if (len < PLACES)
		return search(pattern, text, len, 0, len, MATCH_LIMIT);
	rc = search(pattern, text, len, 0, len,
	    (uint32_t)(MATCH_LIMIT * (uint64_t)PLACES / (len + 1)) + 1);
	return rc == PCRE2_ERROR_MATCHLIMIT ?
	    search_slowly(pattern, text, len) : rc;
}

enum answer
pattern_find(const struct pattern *pattern, const char *text, size_t len,
    struct pattern_match *match, const char **why)
{
	const PCRE2_SIZE *spans;
	int rc = search_all(pattern, text, len);

	if (rc == PCRE2_ERROR_NOMATCH)
		return ANSWER_NO;
	if (rc < 0) {
		*why = rc == PCRE2_ERROR_MATCHLIMIT ||
		    rc == PCRE2_ERROR_HEAPLIMIT ||
		    rc == PCRE2_ERROR_JIT_STACKLIMIT ?
		    "a pattern took too long" : "a pattern failed";
		return ANSWER_UNKNOWN;
	}
	if (match == NULL)
		return ANSWER_YES;
	spans = pcre2_get_ovector_pointer(work.match);
	/* 0: there are more groups than were asked for.  1: none took part. */
	if (rc != 1 && spans[2] != PCRE2_UNSET)
		spans += 2;
	match->offset = spans[0];
	match->len = spans[1] - spans[0];
	return ANSWER_YES;
}
