/* Runs the suites that were linked in, or those named; exit 1 if one failed. */
#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "t/unit/unit.h"

static struct unit_suite *suites;

void
unit_register(struct unit_suite *suite)
{
	suite->next = suites;
	suites = suite;
}

/* A build by hand knows the sources relatively to its own directory. */
const char *
unit_path(const char *name)
{
	static const char here[] = "t/unit/unit.c";
	static char paths[8][4096];
	static unsigned n;
	const char *source = getenv("MILLGATE_SOURCE");
	char *path = paths[n++ % 8];

	if (source != NULL)
		snprintf(path, sizeof(paths[0]), "%s/%s", source, name);
	else
		snprintf(path, sizeof(paths[0]), "%.*s%s",
		    (int)(strlen(__FILE__) - strlen(here)), __FILE__, name);
	return path;
}

static int
wanted(const char *name, int argc, char **argv)
{
	if (argc < 2)
		return 1;
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return 1;
	return 0;
}

int
main(int argc, char **argv)
{
	unsigned failures, run;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return 2;
	for (struct unit_suite *s = suites; s != NULL; s = s->next) {
		if (!wanted(s->name, argc, argv))
			continue;
		CU_pSuite suite = CU_add_suite(s->name, NULL, NULL);
		for (const struct unit_test *t = s->tests; t->name; t++)
			CU_add_test(suite, t->name, t->run);
	}
	CU_basic_set_mode(CU_BRM_NORMAL);
	CU_basic_run_tests();
	failures = CU_get_number_of_failures();
	run = CU_get_number_of_tests_run();
	CU_cleanup_registry();
	if (run == 0)
		fprintf(stderr, "no test ran\n");
	return failures != 0 || run == 0;
}
