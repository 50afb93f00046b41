/*
 * Plans: the filters of a listener, found by their names in the configuration.
 * An instance is set up once and shared by all plans of the process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "filters/chain_run.h"
#include "filters/milter.h"
#include "filters/milter_shadow.h"

/* One per configured filter that is in use. */
struct chain_shared {
	struct chain_shared *next;
	const struct conf *conf;
	const struct conf_section *section;
	const struct filter *filter;	/* the milter client if isolated */
	char *name;
	void *instance;
	unsigned users;
};

static struct chain_shared *all_shared;

static const struct counter_row chain_rows[] = {
	{ "millgate_filter_seconds", COUNTER_HISTOGRAM,
	    "Time that a filter took for a message." },
	{ "millgate_filter_outcomes_total", COUNTER_TOTAL,
	    "What filters decided." },
	{ "millgate_filter_late_total", COUNTER_TOTAL,
	    "Messages for which a filter had no result in time." },
};
COUNTER_TABLE(chain_rows)

/* Sections are told apart by kind and title. */
static const struct conf_section *
section_find(const struct conf *conf, const struct filter *filter,
    const char *name)
{
	const struct section_kind *kind = filter->options;
	const struct conf_section *sections;
	size_t count;

	if (!conf_knows(conf, kind->name))
		return NULL;
	sections = conf_sections(conf, kind->name, &count);
	for (size_t i = 0; i < count; i++)
		if (!kind->titled || strcmp(sections[i].title, name) == 0)
			return &sections[i];
	return NULL;
}

static const struct filter *
filter_find(const struct conf *conf, const char *name,
    const struct conf_section **section)
{
	const struct filter *found = NULL;

	*section = NULL;
	for (size_t i = 0; filters_all[i] != NULL; i++) {
		const struct filter *f = filters_all[i];

		if (f->options == NULL || !f->options->titled) {
			if (strcmp(f->name, name) != 0)
				continue;
			if (f->options != NULL)
				*section = section_find(conf, f, name);
			return f;
		}
		if (found == NULL &&
		    (*section = section_find(conf, f, name)) != NULL)
			found = f;
	}
	if (found != NULL)
		*section = section_find(conf, found, name);
	return found;
}

static const char *
complain(const char *name, const char *problem)
{
	static _Thread_local char text[256];

	snprintf(text, sizeof(text), "filter \"%s\": %s", name, problem);
	return text;
}

static void *
set_up(const struct conf *conf, const char *host_directory, const char *name,
    const struct filter **filter, const struct conf_section *section,
    const char **why)
{
	void *instance;
	char path[256];

	if (((*filter)->traits & FILTER_ISOLATED) != 0 &&
	    host_directory != NULL) {
		if ((size_t)snprintf(path, sizeof(path), "unix:%s/host-%s.sock",
		    host_directory, name) >= sizeof(path)) {
			*why = "path of its socket is too long";
			return NULL;
		}
		*filter = &filter_milter;
		return milter_new_host(name, path, why);
	}
	if (*filter == &filter_milter && section != NULL &&
	    ((const struct milter_options *)section->values)->shadow)
		*filter = &filter_milter_shadow;
	instance = (*filter)->setup(conf, section, why);
	return instance;
}

static struct chain_shared *
shared_get(const struct conf *conf, const char *host_directory,
    const char *name, const char **why)
{
	const struct conf_section *section;
	const struct filter *filter;
	struct chain_shared *s;
	void *instance = NULL;

	for (s = all_shared; s != NULL; s = s->next) {
		if (s->conf == conf && strcmp(s->name, name) == 0) {
			s->users++;
			return s;
		}
	}
	if ((filter = filter_find(conf, name, &section)) == NULL) {
		*why = complain(name, "there is no such filter or section");
		return NULL;
	}
	*why = "cannot be set up";
	if (filter->setup != NULL && (instance = set_up(conf, host_directory,
	    name, &filter, section, why)) == NULL) {
		*why = complain(name, *why);
		return NULL;
	}
	if ((s = calloc(1, sizeof(*s))) == NULL ||
	    (s->name = strdup(name)) == NULL)
		fatal("out of memory (chain plan)");
	s->conf = conf;
	s->section = section;
	s->filter = filter;
	s->instance = instance;
	s->users = 1;
	s->next = all_shared;
	all_shared = s;
	return s;
}

static void
shared_put(struct chain_shared *s)
{
	struct chain_shared **at = &all_shared;

	if (s == NULL || --s->users > 0)
		return;
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	if (s->filter->release != NULL && s->instance != NULL)
		s->filter->release(s->instance);
	free(s->name);
	free(s);
}

static void
count_entry(struct chain_entry *entry)
{
	char labels[256] = "", more[256];

	counter_label(labels, sizeof(labels), "filter", entry->name);
	entry->seconds = histogram_get("millgate_filter_seconds", labels);
	entry->late = counter_get("millgate_filter_late_total", labels);
	for (size_t i = 0; i < CHAIN_ACTIONS; i++) {
		memcpy(more, labels, sizeof(more));
		counter_label(more, sizeof(more), "outcome",
		    chain_action_names[i]);
		entry->outcomes[i] = counter_get(
		    "millgate_filter_outcomes_total", more);
	}
}

/* Our own hosts are milters without such a section. */
static const char *
group_of(const struct chain_shared *s)
{
	if (s->section == NULL || s->section->kind != filter_milter.options)
		return NULL;
	return ((const struct milter_options *)s->section->values)->group;
}

static bool
keeps(const struct chain_entry *entry)
{
	const struct filter *f = entry->filter;

	if (f == &filter_milter)
		return milter_keeps(entry->instance);
	return (f->traits & (FILTER_LOOKS | FILTER_KEEPS)) != 0 ||
	    f->eom == NULL;
}

/* What the place of each filter among the others means for it. */
static int
arrange(struct chain_plan *plan, const char **why)
{
	bool unchanged = true;
	size_t end;

	for (size_t i = 0; i < plan->count; i = end) {
		bool kept = true;

		end = chain_group_end(plan, i);
		for (size_t j = i; j < end; j++) {
			/* A milter in the shadow only notes what came. */
			plan->entries[j].streams = unchanged &&
			    plan->entries[j].filter == &filter_milter;
			kept &= keeps(&plan->entries[j]);
		}
		unchanged &= kept;
		for (size_t j = end; j < plan->count; j++) {
			const char *group = plan->entries[i].group;

			if (group == NULL || plan->entries[j].group == NULL ||
			    strcmp(group, plan->entries[j].group) != 0)
				continue;
			*why = complain(plan->entries[j].name,
			    "does not stand beside the others of its group");
			return -1;
		}
	}
	return 0;
}

struct chain_plan *
chain_plan_new(const struct conf *conf, const char *host_directory,
    const char *const *names, const char **why)
{
	struct chain_plan *plan;
	size_t count = 0;

	while (names[count] != NULL)
		count++;
	if ((plan = calloc(1, sizeof(*plan))) == NULL ||
	    (plan->entries = calloc(count + 1,
	    sizeof(*plan->entries))) == NULL)
		fatal("out of memory (chain plan)");
	for (; plan->count < count; plan->count++) {
		struct chain_entry *entry = &plan->entries[plan->count];

		entry->shared = shared_get(conf, host_directory,
		    names[plan->count], why);
		if (entry->shared == NULL) {
			chain_plan_free(&plan);
			return NULL;
		}
		entry->filter = entry->shared->filter;
		entry->name = entry->shared->name;
		entry->instance = entry->shared->instance;
		entry->group = group_of(entry->shared);
		count_entry(entry);
	}
	if (arrange(plan, why) == -1)
		chain_plan_free(&plan);
	return plan;
}

void
chain_plan_free(struct chain_plan **planp)
{
	struct chain_plan *plan = *planp;

	*planp = NULL;
	if (plan == NULL)
		return;
	for (size_t i = 0; i < plan->count; i++)
		shared_put(plan->entries[i].shared);
	free(plan->entries);
	free(plan);
}
