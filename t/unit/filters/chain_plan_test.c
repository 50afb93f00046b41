#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "filters/chain_run.h"
#include "filters/milter.h"
#include "t/unit/unit.h"

static const char text[] =
    "dkim_sign keys { domains = { \"example.net\" } }\n"
    "milter one { endpoint = { \"unix:/one\" } }\n"
    "milter none { }\n"
    "milter odd { endpoint = { \"inet:here\" } }\n"
    "milter long { endpoint = { \"unix:/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
    "xxxxxxxxxxxxxx\" } }\n"
    "milter rights { endpoint = { \"127.0.0.1:1\" } allow = { \"all\" } }\n";

static struct conf *
load(void)
{
	static const struct section_kind top = { .name = "", .size = 1 };
	static const struct section_kind *kinds[32];
	struct buf errors = BUF_INIT;
	struct conf *conf;
	size_t count = 0;

	kinds[count++] = &top;
	for (size_t i = 0; filters_all[i] != NULL; i++)
		if (filters_all[i]->options != NULL)
			kinds[count++] = filters_all[i]->options;
	if ((conf = conf_load(NULL, text, kinds, count, &errors)) == NULL) {
		fprintf(stderr, "\n%s", errors.data);
		abort();
	}
	buf_release(&errors);
	return conf;
}

static void
plans_share_instances(void)
{
	static const char *const first[] = { "one", "one", NULL };
	static const char *const second[] = { "one", NULL };
	struct conf *conf = load();
	struct chain_plan *a, *b;
	const char *why = "";

	a = chain_plan_new(conf, "/run/x", first, &why);
	b = chain_plan_new(conf, "/run/x", second, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(a);
	CU_ASSERT_PTR_NOT_NULL_FATAL(b);
	CU_ASSERT_EQUAL(a->count, 2);
	CU_ASSERT_PTR_EQUAL(a->entries[0].instance, b->entries[0].instance);
	CU_ASSERT_PTR_EQUAL(a->entries[0].instance, a->entries[1].instance);
	chain_plan_free(&a);
	CU_ASSERT_STRING_EQUAL(b->entries[0].name, "one");
	chain_plan_free(&b);
	conf_free(&conf);
}

/* The gateway has no key, and needs none. */
static void
isolated_filters_become_milters(void)
{
	static const char *const names[] = { "keys", NULL };
	struct conf *conf = load();
	struct chain_plan *plan;
	const char *why = "";

	plan = chain_plan_new(conf, "/run/x", names, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(plan);
	CU_ASSERT_PTR_EQUAL(plan->entries[0].filter, &filter_milter);
	CU_ASSERT_STRING_EQUAL(plan->entries[0].name, "keys");
	chain_plan_free(&plan);
	conf_free(&conf);
}

static void
errors_name_the_filter(void)
{
	static const char *const bad[] = { "nothing", "none", "odd", "long",
	    "rights", "milter" };
	struct conf *conf = load();
	char quoted[32];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *const names[] = { "one", bad[i], NULL };
		const char *why = "";
		struct chain_plan *plan = chain_plan_new(conf, "/run/x",
		    names, &why);

		CASE_ASSERT(bad[i], plan == NULL);
		snprintf(quoted, sizeof(quoted), "\"%s\"", bad[i]);
		CASE_ASSERT(bad[i], strstr(why, quoted) != NULL);
		chain_plan_free(&plan);
	}
	conf_free(&conf);
}

SUITE(chain_plan,
    { "plans share instances", plans_share_instances },
    { "isolated filters become milters", isolated_filters_become_milters },
    { "errors name the filter", errors_name_the_filter })
