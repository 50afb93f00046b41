/*
 * Patterns, tried in order.  A pattern that takes too long on a text answers
 * "cannot tell": somebody may have chosen the text for that.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/table_impl.h"

/* About 10 ms of backtracking; ordinary patterns need some hundred steps. */
#define MATCH_LIMIT 100000
#define HEAP_LIMIT_KB 4096
#define JIT_STACK_MAX (256 * 1024)

struct pattern {
	pcre2_code *code;
	uint32_t entry;
};

struct table_patterns {
	struct pattern *items;
	size_t count, size;
	pcre2_match_data *match;
	pcre2_match_context *context;
	pcre2_jit_stack *jit_stack;
};

static struct table_patterns *
patterns_new(void)
{
	struct table_patterns *p = calloc(1, sizeof(*p));

	if (p == NULL)
		fatal("out of memory");
	p->match = pcre2_match_data_create(1, NULL);
	p->context = pcre2_match_context_create(NULL);
	p->jit_stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_MAX, NULL);
	if (p->match == NULL || p->context == NULL)
		fatal("out of memory");
	pcre2_set_match_limit(p->context, MATCH_LIMIT);
	pcre2_set_heap_limit(p->context, HEAP_LIMIT_KB);
	if (p->jit_stack != NULL)
		pcre2_jit_stack_assign(p->context, NULL, p->jit_stack);
	return p;
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

const char *
table_patterns_add(struct table_patterns **patternsp, const char *pattern,
    const char *flags, uint32_t entry)
{
	static char why[256];
	struct table_patterns *p = *patternsp;
	const char *wrong;
	uint32_t options;
	PCRE2_SIZE offset;
	pcre2_code *code;
	int error;

	if ((wrong = parse_flags(flags, &options)) != NULL)
		return wrong;
	/* \C and recursion into callouts have no place in a table. */
	code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
	    options | PCRE2_NEVER_BACKSLASH_C, &error, &offset, NULL);
	if (code == NULL) {
		unsigned char text[128];

		pcre2_get_error_message(error, text, sizeof(text));
		snprintf(why, sizeof(why), "pattern, at character %zu: %s",
		    (size_t)offset, (char *)text);
		return why;
	}
	/*
	 * Now, before a sandbox forbids memory that is both written and run;
	 * without JIT the interpreter does it, more slowly.
	 */
	pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
	if (p == NULL)
		p = *patternsp = patterns_new();
	if (p->count == p->size) {
		p->size = p->size == 0 ? 16 : p->size * 2;
		p->items = reallocarray(p->items, p->size, sizeof(*p->items));
		if (p->items == NULL)
			fatal("out of memory");
	}
	p->items[p->count].code = code;
	p->items[p->count++].entry = entry;
	return NULL;
}

enum answer
table_patterns_find(const struct table_patterns *p, const char *subject,
    uint32_t *entry, const char **why)
{
	size_t len = strlen(subject);
	int rc;

	for (size_t i = 0; p != NULL && i < p->count; i++) {
		rc = pcre2_match(p->items[i].code, (PCRE2_SPTR)subject, len, 0,
		    0, p->match, p->context);
		if (rc >= 0) {
			*entry = p->items[i].entry;
			return ANSWER_YES;
		}
		if (rc != PCRE2_ERROR_NOMATCH) {
			*why = rc == PCRE2_ERROR_MATCHLIMIT ||
			    rc == PCRE2_ERROR_HEAPLIMIT ||
			    rc == PCRE2_ERROR_JIT_STACKLIMIT ?
			    "a pattern took too long" : "a pattern failed";
			return ANSWER_UNKNOWN;
		}
	}
	return ANSWER_NO;
}

void
table_patterns_free(struct table_patterns **patternsp)
{
	struct table_patterns *p = *patternsp;

	*patternsp = NULL;
	if (p == NULL)
		return;
	for (size_t i = 0; i < p->count; i++)
		pcre2_code_free(p->items[i].code);
	pcre2_match_data_free(p->match);
	pcre2_match_context_free(p->context);
	pcre2_jit_stack_free(p->jit_stack);
	free(p->items);
	free(p);
}
