/*
 * What the sections "rule", "scoring" and "scoring_class" say, and the rules set
 * up from them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/table.h"
#include "filters/rules_private.h"

static const struct option_row rule_rows[] = {
	RULE_OPTIONS(OPTION_ROW, rule_options)
};

static const struct section_kind rule_section = {
	.name = "rule", .titled = true,
	.doc = "A rule for the filter rules; they are asked in their order in "
	    "the file.",
	.rows = rule_rows, .row_count = OPTION_COUNT(rule_rows),
	.size = sizeof(struct rule_options),
};

static const struct option_row scoring_rows[] = {
	SCORING_OPTIONS(OPTION_ROW, scoring_options)
};

const struct section_kind rules_scoring = {
	.name = "scoring",
	.doc = "The filter rules: what the sum of the points means. Goes "
	    "behind all filters that find something.",
	.rows = scoring_rows, .row_count = OPTION_COUNT(scoring_rows),
	.size = sizeof(struct scoring_options),
};

static const struct option_row class_rows[] = {
	CLASS_OPTIONS(OPTION_ROW, class_options)
};

static const struct section_kind class_section = {
	.name = "scoring_class", .titled = true,
	.doc = "Other thresholds than those of scoring for some recipients or "
	    "listeners; the first section that fits a recipient is its. -1: as "
	    "in scoring.",
	.rows = class_rows, .row_count = OPTION_COUNT(class_rows),
	.size = sizeof(struct class_options),
};

const struct section_kind *const rules_kinds[] = {
	&rule_section, &class_section, NULL
};

static const struct counter_row rules_rows[] = {
	{ "millgate_rule_matches_total", COUNTER_TOTAL,
	    "Messages that a rule's condition was true of." },
	{ "millgate_rule_errors_total", COUNTER_TOTAL,
	    "Messages for which a rule's condition failed." },
};
COUNTER_TABLE(rules_rows)

/* --- setting up --- */

static struct counter *
rule_counter(const char *counter, const char *rule)
{
	char labels[256] = "";

	counter_label(labels, sizeof(labels), "rule", rule);
	return counter_get(counter, labels);
}

/*
 * A condition that fails of an empty message has something wrong with its
 * types, such as a comparison of a text with a number.
 */
static const char *
try_out(struct lua_box *box, int expression, struct arena *scratch)
{
	struct session session = { .arena = scratch };
	struct mail mail = { .arena = scratch, .session = &session,
		.envelope = { .sender = "" } };
	struct rules_subject subject = { .session = &session, .mail = &mail,
		.scratch = scratch };
	const char *why;
	double number;

	return lua_box_run(box, expression, &subject, &number, &why) ==
	    LUA_BOX_FAILED ? why : NULL;
}

/* A rule's expression; -1: *why. */
static int
rule_compile(struct lua_box *box, const struct conf_section *section,
    struct arena *scratch, const char **why)
{
	const struct rule_options *options = section->values;
	const char *wrong;
	int expression;

	*why = "is required";
	if (options->when == NULL || options->when[0] == '\0' ||
	    (expression = lua_box_compile(box, options->when, why)) == -1)
		return -1;
	if ((wrong = try_out(box, expression, scratch)) == NULL)
		return expression;
	*why = wrong;
	return -1;
}

void
rules_release(void *argument)
{
	struct rules *instance = argument;

	lua_box_free(&instance->box);
	arena_free(&instance->scratch);
	free(instance->rules);
	free(instance);
}

void *
rules_setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	struct rules *instance = calloc(1, sizeof(*instance));
	const struct conf_section *rules;

	if (instance == NULL)
		fatal("out of memory (rules)");
	instance->options = section->values;
	instance->classes = conf_sections(conf, class_section.name,
	    &instance->class_count);
	rules = conf_sections(conf, rule_section.name, &instance->rule_count);
	instance->rules = calloc(instance->rule_count + 1,
	    sizeof(*instance->rules));
	if (instance->rules == NULL)
		fatal("out of memory (rules)");
	instance->scratch = arena_new(0);
	instance->box = lua_box_new(rules_names, LUA_BOX_MEMORY,
	    LUA_BOX_STEPS);
	for (size_t i = 0; i < instance->rule_count; i++) {
		struct rule *rule = &instance->rules[i];

		rule->name = rules[i].title;
		rule->options = rules[i].values;
		rule->expression = rule_compile(instance->box, &rules[i],
		    instance->scratch, why);
		if (rule->expression == -1) {
			*why = "a rule is wrong";
			rules_release(instance);
			return NULL;
		}
		rule->matches = rule_counter("millgate_rule_matches_total",
		    rule->name);
		rule->errors = rule_counter("millgate_rule_errors_total",
		    rule->name);
	}
	return instance;
}

static bool
has_listener(const struct conf *conf, const char *name)
{
	const struct conf_section *listeners;
	size_t count;

	listeners = conf_sections(conf, "listener", &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(listeners[i].title, name) == 0)
			return true;
	return false;
}

void
rules_check(const struct conf *conf, struct buf *errors)
{
	struct lua_box *box = lua_box_new(rules_names, LUA_BOX_MEMORY,
	    LUA_BOX_STEPS);
	struct arena *scratch = arena_new(0);
	const struct conf_section *sections;
	const char *why;
	size_t count;

	sections = conf_sections(conf, rule_section.name, &count);
	for (size_t i = 0; i < count; i++)
		if (rule_compile(box, &sections[i], scratch, &why) == -1)
			conf_error(errors, conf, &sections[i], "when", "%s",
			    why);
	sections = conf_sections(conf, class_section.name, &count);
	for (size_t i = 0; i < count; i++) {
		const struct class_options *class = sections[i].values;

		for (size_t j = 0; class->listeners[j] != NULL; j++)
			if (!has_listener(conf, class->listeners[j]))
				conf_error(errors, conf, &sections[i],
				    "listeners", "there is no listener %s",
				    class->listeners[j]);
	}
	arena_free(&scratch);
	lua_box_free(&box);
}

static bool
class_fits(const struct class_options *class, const char *listener,
    const char *recipient)
{
	const char *const *name = class->listeners;
	const char *value, *why;

	while (*name != NULL && (listener == NULL ||
	    strcmp(*name, listener) != 0))
		name++;
	if (*name == NULL && class->listeners[0] != NULL)
		return false;
	/* One that cannot be told is as others are. */
	return class->recipients == NULL || table_find_address(
	    class->recipients, recipient, &value, &why) == ANSWER_YES;
}

const struct class_options *
rules_class_of(const struct rules *rules, const char *listener,
    const char *recipient)
{
	for (size_t i = 0; i < rules->class_count; i++)
		if (class_fits(rules->classes[i].values, listener, recipient))
			return rules->classes[i].values;
	return NULL;
}

static int64_t
either(int64_t own, int64_t other)
{
	return own >= 0 ? own : other;
}

struct rules_thresholds
rules_thresholds_of(const struct scoring_options *o,
    const struct class_options *class)
{
	if (class == NULL)
		return (struct rules_thresholds){ o->reject, o->quarantine,
		    o->defer, o->add_header };
	return (struct rules_thresholds){ either(class->reject, o->reject),
	    either(class->quarantine, o->quarantine),
	    either(class->defer, o->defer),
	    either(class->add_header, o->add_header) };
}
