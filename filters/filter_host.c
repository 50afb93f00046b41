/*
 * The section filter_host.  The filter itself never runs: the gateway has a
 * milter client in its place, the host its filters (proc_host.c).
 */
#include "filters/filter_host.h"

#include <string.h>

#include "base/conf.h"
#include "filters/chain.h"

static const struct option_row rows[] = {
	FILTER_HOST_OPTIONS(OPTION_ROW, filter_host_options)
};

static const struct section_kind options_kind = {
	.name = "filter_host", .titled = true,
	.doc = "Filters in a process of their own, which other MTAs may use.",
	.rows = rows, .row_count = OPTION_COUNT(rows),
	.size = sizeof(struct filter_host_options),
};

static bool
is_host(const struct conf *conf, const char *name)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, "filter_host", &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(sections[i].title, name) == 0)
			return true;
	return false;
}

/* Its filters as the host will set them up, to find what is wrong. */
static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct filter_host_options *options = section->values;

	if (options->filters[0] == NULL) {
		*why = "it has no filters";
		return NULL;
	}
	for (size_t i = 0; options->filters[i] != NULL; i++)
		if (is_host(conf, options->filters[i])) {
			*why = "a filter_host cannot be in another";
			return NULL;
		}
	if (options->front == FRONT_LIBMILTER && options->listen[0] != NULL &&
	    options->listen[1] != NULL) {
		*why = "libmilter serves one address: listen has several";
		return NULL;
	}
	return chain_plan_new(conf, NULL, options->filters, why);
}

static void
release(void *instance)
{
	struct chain_plan *plan = instance;

	chain_plan_free(&plan);
}

const struct filter filter_host = {
	.name = "filter_host", .options = &options_kind,
	.traits = FILTER_ISOLATED, .setup = setup, .release = release,
};
