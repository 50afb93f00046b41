#include "filters/filter.h"

#include <string.h>

#include "base/arena.h"
#include "t/unit/unit.h"

static void
finding_keeps_order_and_copies(void)
{
	struct mail mail = { .arena = arena_new(0) };
	struct filter_run run = { .name = "spf", .mail = &mail };
	char result[] = "pass";
	struct finding *first, *second;

	first = finding_add(&run, "spf", result, NULL);
	second = finding_add(&run, "spf", "fail", "why");
	memset(result, 'x', 4);
	CU_ASSERT_PTR_EQUAL(run.findings, first);
	CU_ASSERT_PTR_EQUAL(first->next, second);
	CU_ASSERT_STRING_EQUAL(first->result, "pass");
	CU_ASSERT_STRING_EQUAL(first->filter, "spf");
	CU_ASSERT_PTR_NULL(first->reason);
	CU_ASSERT_STRING_EQUAL(second->reason, "why");
	arena_free(&mail.arena);
}

static void
find_goes_on_behind_after(void)
{
	struct mail mail = { .arena = arena_new(0) };
	struct filter_run run = { .name = "dkim", .mail = &mail };
	const struct finding *found;

	finding_add(&run, "dkim", "pass", NULL);
	finding_add(&run, "spf", "none", NULL);
	finding_add(&run, "dkim", "fail", NULL);
	CU_ASSERT_PTR_NULL(finding_find(&mail, "dkim", NULL));
	mail.findings = run.findings;
	found = finding_find(&mail, "dkim", NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(found);
	CU_ASSERT_STRING_EQUAL(found->result, "pass");
	found = finding_find(&mail, "dkim", found);
	CU_ASSERT_PTR_NOT_NULL_FATAL(found);
	CU_ASSERT_STRING_EQUAL(found->result, "fail");
	CU_ASSERT_PTR_NULL(finding_find(&mail, "dkim", found));
	arena_free(&mail.arena);
}

static void
properties_are_found_by_type_and_name(void)
{
	struct mail mail = { .arena = arena_new(0) };
	struct filter_run run = { .name = "dkim", .mail = &mail };
	struct finding *finding = finding_add(&run, "dkim", "pass", NULL);

	finding_property(&run, finding, "header", "d", "example.org");
	finding_property(&run, finding, "header", "s", "sel");
	finding_property(&run, finding, "header", "b", NULL);
	CU_ASSERT_STRING_EQUAL(finding_value(finding, "header", "S"), "sel");
	CU_ASSERT_PTR_NULL(finding_value(finding, "smtp", "d"));
	CU_ASSERT_PTR_NULL(finding_value(finding, "header", "b"));
	arena_free(&mail.arena);
}

SUITE(filter,
    { "findings keep their order and copy", finding_keeps_order_and_copies },
    { "find goes on behind after", find_goes_on_behind_after },
    { "properties by type and name", properties_are_found_by_type_and_name })
