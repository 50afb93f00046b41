/* Local rules of what becomes of mail that fails DMARC. */
#include "filters/dmarc_override.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/table.h"
#include "filters/domain.h"

#define BLANKS " \t"

struct dmarc_overrides {
	struct arena *arena;
	size_t count;
	struct dmarc_override rules[];
};

/* --- parsing --- */

static const char *
trimmed(struct arena *arena, const char *begin, const char *end)
{
	begin += strspn(begin, BLANKS);
	while (end > begin && strchr(BLANKS, end[-1]) != NULL)
		end--;
	return end <= begin ? "" :
	    arena_strndup(arena, begin, (size_t)(end - begin));
}

static enum dmarc_action
parse_action(const char *text)
{
	static const enum dmarc_action actions[] = { DMARC_NONE,
		DMARC_QUARANTINE, DMARC_REJECT };

	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
		if (strcmp(text, dmarc_action_name(actions[i])) == 0)
			return actions[i];
	return DMARC_UNSET;
}

/* An address is no domain: a last label of digits is never delegated. */
static bool
is_network(const char *text)
{
	return strpbrk(text, "/:") != NULL ||
	    (*text != '.' && *text != '\0' &&
	    text[strspn(text, "0123456789.")] == '\0');
}

static bool
parse_network(struct dmarc_override *rule)
{
	struct buf errors = BUF_INIT;

	if (strpbrk(rule->what, BLANKS) != NULL)
		return false;
	rule->network = table_parse("cidr", "override", rule->what,
	    strlen(rule->what), &errors);
	buf_release(&errors);
	return rule->network != NULL && table_count(rule->network) == 1;
}

static bool
parse_domain(struct dmarc_override *rule, struct arena *arena)
{
	const char *name = rule->what;

	rule->below = *name == '.';
	name += rule->below ? 1 : 0;
	rule->domain = domain_normalize(arena, name, strlen(name));
	return rule->domain != NULL;
}

/* NULL, or what is wrong. */
static const char *
parse(struct dmarc_override *rule, struct arena *arena, const char *text)
{
	const char *equals = strchr(text, '=');

	if (equals == NULL)
		return "is not WHAT = ACTION";
	rule->what = trimmed(arena, text, equals);
	rule->action = parse_action(trimmed(arena, equals + 1,
	    text + strlen(text)));
	if (rule->action == DMARC_UNSET)
		return "has another action than none, quarantine or reject";
	if (is_network(rule->what))
		return parse_network(rule) ? NULL :
		    "has no good network (192.0.2.0/24, 2001:db8::/32; no bits "
		    "may be set behind the length)";
	return parse_domain(rule, arena) ? NULL :
	    "has no good domain (example.org, or .example.org for all below)";
}

static const char *
complain(const char *rule, const char *why)
{
	static _Thread_local char text[300];

	snprintf(text, sizeof(text), "override: \"%.80s\" %s", rule, why);
	return text;
}

int
dmarc_overrides_new(const char *const *rules,
    struct dmarc_overrides **overridesp, const char **why)
{
	struct dmarc_overrides *overrides;
	size_t count = 0;

	*overridesp = NULL;
	while (rules != NULL && rules[count] != NULL)
		count++;
	if (count == 0)
		return 0;
	if ((overrides = calloc(1, sizeof(*overrides) +
	    count * sizeof(overrides->rules[0]))) == NULL)
		fatal("out of memory (dmarc)");
	overrides->arena = arena_new(0);
	while (overrides->count < count) {
		const char *text = rules[overrides->count];
		const char *wrong = parse(
		    &overrides->rules[overrides->count++], overrides->arena,
		    text);

		if (wrong == NULL)
			continue;
		*why = complain(text, wrong);
		dmarc_overrides_free(&overrides);
		return -1;
	}
	*overridesp = overrides;
	return 0;
}

void
dmarc_overrides_free(struct dmarc_overrides **overridesp)
{
	struct dmarc_overrides *overrides = *overridesp;

	*overridesp = NULL;
	if (overrides == NULL)
		return;
	for (size_t i = 0; i < overrides->count; i++)
		table_free(&overrides->rules[i].network);
	arena_free(&overrides->arena);
	free(overrides);
}

/* --- what applies --- */

static bool
applies(const struct dmarc_override *rule, const char *author,
    const struct sockaddr *client)
{
	const char *value, *why;

	if (rule->network != NULL)
		return table_find_network(rule->network, client, &value,
		    &why) == ANSWER_YES;
	if (rule->below)
		return strcmp(author, rule->domain) != 0 &&
		    domain_is_within(author, rule->domain);
	return strcmp(author, rule->domain) == 0;
}

const struct dmarc_override *
dmarc_override_find(const struct dmarc_overrides *overrides,
    const char *author, const struct sockaddr *client)
{
	for (size_t i = 0; overrides != NULL && i < overrides->count; i++)
		if (applies(&overrides->rules[i], author, client))
			return &overrides->rules[i];
	return NULL;
}
