#include "filters/trace.h"

#include <string.h>

#include "base/arena.h"
#include "t/unit/unit.h"

static void
one_event_is_one_line(void)
{
	struct arena *arena = arena_new(0);
	struct trace *trace = trace_new(arena);
	const char *text;
	size_t len;

	CU_ASSERT_STRING_EQUAL(trace_text(trace, &len), "");
	CU_ASSERT_EQUAL(len, 0);
	trace_add(trace, "spf", "pass (%s)", "a\nb");
	text = trace_text(trace, &len);
	CU_ASSERT_EQUAL(len, strlen(text));
	CU_ASSERT_EQUAL(text[0], '+');
	CU_ASSERT_PTR_NOT_NULL(strstr(text, "ms spf: pass (a\\x0ab)\n"));
	CU_ASSERT_PTR_EQUAL(strchr(text, '\n'), text + len - 1);
	trace_add(NULL, "spf", "nothing");
	CU_ASSERT_STRING_EQUAL(trace_text(NULL, &len), "");
	arena_free(&arena);
}

static void
is_cut_at_its_limit(void)
{
	struct arena *arena = arena_new(0);
	struct trace *trace = trace_new(arena);
	char text[2000];
	const char *all;
	size_t len;
	int i;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	for (i = 0; i < 100; i++)
		trace_add(trace, "long", "%s", text);
	all = trace_text(trace, &len);
	CU_ASSERT(len <= 16384);
	CU_ASSERT(len > 12000);
	CU_ASSERT_PTR_NOT_NULL(strstr(all, "(the trace was cut here)\n"));
	arena_free(&arena);
}

SUITE(trace,
    { "one event is one line", one_event_is_one_line },
    { "is cut at its limit", is_cut_at_its_limit })
