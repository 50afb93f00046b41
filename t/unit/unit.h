/*
 * Unit tests.  A test file holds functions and one suite that lists them:
 *
 *	static void resets(void) { CU_ASSERT(...); }
 *	SUITE(arena, { "resets", resets })
 *
 * unit-base [suite ...] runs them all, or only those named.
 */
#ifndef T_UNIT_UNIT_H
#define T_UNIT_UNIT_H

#include <CUnit/CUnit.h>

struct unit_test {
	const char *name;
	void (*run)(void);
};

struct unit_suite {
	const char *name;
	const struct unit_test *tests;	/* ended by a NULL name */
	struct unit_suite *next;
};

void unit_register(struct unit_suite *);

/* The path of a file of the source tree, until the next call but seven. */
const char *unit_path(const char *name);

#define SUITE(suite_name, ...)						\
	static const struct unit_test suite_##suite_name##_tests[] = {	\
		__VA_ARGS__, { NULL, NULL }				\
	};								\
	static struct unit_suite suite_##suite_name = {			\
		#suite_name, suite_##suite_name##_tests, NULL		\
	};								\
	__attribute__((constructor)) static void			\
	suite_##suite_name##_register(void)				\
	{								\
		unit_register(&suite_##suite_name);			\
	}

/* For tables of cases: says which case failed.  Evaluates condition once. */
#define CASE_ASSERT(case_name, condition) do {				\
	int case_holds = (condition) ? 1 : 0;				\
									\
	if (!case_holds)						\
		fprintf(stderr, "\n%s:%d: case \"%s\"", __FILE__,	\
		    __LINE__, (case_name));				\
	CU_assertImplementation(case_holds, __LINE__, #condition,	\
	    __FILE__, "", CU_FALSE);					\
} while (0)

#endif
