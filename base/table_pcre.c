/*
 * Tables of patterns, tried in order.  One that takes too long on a text
 * answers "cannot tell".
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/pattern.h"
#include "base/table_impl.h"

struct table_pattern {
	struct pattern *pattern;
	uint32_t entry;
};

struct table_patterns {
	struct table_pattern *items;
	size_t count, size;
};

const char *
table_patterns_add(struct table_patterns **patternsp, const char *text,
    const char *flags, uint32_t entry)
{
	struct table_patterns *p = *patternsp;
	struct pattern *pattern;
	const char *why;

	if ((pattern = pattern_new(text, flags, &why)) == NULL)
		return why;
	if (p == NULL && (p = *patternsp = calloc(1, sizeof(*p))) == NULL)
		fatal("out of memory");
	if (p->count == p->size) {
		p->size = p->size == 0 ? 16 : p->size * 2;
		p->items = reallocarray(p->items, p->size, sizeof(*p->items));
		if (p->items == NULL)
			fatal("out of memory");
	}
	p->items[p->count].pattern = pattern;
	p->items[p->count++].entry = entry;
	return NULL;
}

enum answer
table_patterns_find(const struct table_patterns *p, const char *subject,
    uint32_t *entry, const char **why)
{
	size_t len = strlen(subject);

	for (size_t i = 0; p != NULL && i < p->count; i++) {
		enum answer found = pattern_find(p->items[i].pattern, subject,
		    len, NULL, why);

		if (found == ANSWER_YES)
			*entry = p->items[i].entry;
		if (found != ANSWER_NO)
			return found;
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
		pattern_free(&p->items[i].pattern);
	free(p->items);
	free(p);
}
