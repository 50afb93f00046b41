#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "gateway/control.h"
#include "gateway/control_format.h"
#include "t/unit/unit.h"

static void
requests(void)
{
	static const struct {
		const char *name, *line;
		int want;		/* words, or -1 */
	} cases[] = {
		{ "one word", "status\n", 1 },
		{ "three words", "queue show 4bXk2w\n", 3 },
		{ "no LF", "status", 1 },
		{ "many blanks", "  queue   list  \n", 2 },
		{ "empty", "\n", -1 },
		{ "nothing", "", -1 },
		{ "blanks only", "   \n", -1 },
		{ "a tab", "queue\tlist\n", -1 },
		{ "CRLF", "status\r\n", -1 },
		{ "UTF-8", "history search \xc3\xa4\n", 3 },
		{ "32 words", "a a a a a a a a a a a a a a a a a a a a a a a "
		    "a a a a a a a a a", 32 },
		{ "33 words", "a a a a a a a a a a a a a a a a a a a a a a a "
		    "a a a a a a a a a a", -1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct control_request request;
		const char *why = NULL;
		int rc = control_parse(cases[i].line, strlen(cases[i].line),
		    &request, &why);

		CASE_ASSERT(cases[i].name,
		    (rc == 0 ? (int)request.count : -1) == cases[i].want);
		CASE_ASSERT(cases[i].name, (why == NULL) == (rc == 0));
	}
}

static void
long_requests(void)
{
	struct control_request request;
	char line[CONTROL_LINE_MAX + 1];
	const char *why;

	memset(line, 'x', sizeof(line));
	CU_ASSERT(control_parse(line, CONTROL_LINE_MAX - 1, &request,
	    &why) == 0);
	CU_ASSERT(control_parse(line, CONTROL_LINE_MAX, &request, &why) == -1);
	CU_ASSERT(control_parse("a\0b", 3, &request, &why) == -1);
}

static void
ids(void)
{
	static const struct { const char *text; bool want; } cases[] = {
		{ "4bXk2w", true },
		{ "", false },
		{ "../etc", false },
		{ "a b", false },
		{ "12345678901234567890123", true },
		{ "123456789012345678901234", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CASE_ASSERT(cases[i].text,
		    control_is_id(cases[i].text) == cases[i].want);
}

static void
history_requests(void)
{
	static const struct {
		const char *line;
		const char *text;	/* NULL: refused */
		size_t limit;
	} cases[] = {
		{ "history", "", 20 },
		{ "history -n 5", "", 5 },
		{ "history search alice@a.test", "alice@a.test", 20 },
		{ "history search two  words -n 7", "two words", 7 },
		{ "history -n 7 search x", "x", 7 },
		{ "history search search", "search", 20 },
		{ "history search", NULL, 0 },
		{ "history search -n 3", NULL, 0 },
		{ "history alice", NULL, 0 },
		{ "history -n", NULL, 0 },
		{ "history -n 0", NULL, 0 },
		{ "history -n -1", NULL, 0 },
		{ "history -n 5x", NULL, 0 },
		{ "history -n 10001", NULL, 0 },
		{ "history -n 99999999999999999999999", NULL, 0 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct control_request request;
		char text[CONTROL_LINE_MAX];
		const char *why = NULL;
		size_t limit;
		int rc;

		CU_ASSERT_FATAL(control_parse(cases[i].line,
		    strlen(cases[i].line), &request, &why) == 0);
		rc = control_parse_history(&request, text, &limit, &why);
		CASE_ASSERT(cases[i].line,
		    (rc == 0) == (cases[i].text != NULL));
		if (rc == 0)
			CASE_ASSERT(cases[i].line, limit == cases[i].limit &&
			    strcmp(text, cases[i].text) == 0);
	}
}

static void
queue_lines(void)
{
	static const struct { const char *name, *line, *want; } cases[] = {
		{ "a message", "4bXk2w 1234 2026-11-24 03:45:46 deferred "
		    "<a@b.test> <c@d.test>",
		    "4bXk2w               1234  2026-11-24 03:45:46  deferred  "
		    "<a@b.test>                   <c@d.test>" },
		{ "two recipients, a null sender", "4bXk2w 1 2026-11-24 "
		    "03:45:46 held <> <c@d.test> <e@f.test>",
		    "4bXk2w                  1  2026-11-24 03:45:46  held      "
		    "<>                           <c@d.test> <e@f.test>" },
		{ "a sender with a blank", "A 1 2026-11-24 03:45:46 active "
		    "<\"a b\"@c.test> <d@e.test>",
		    "A                       1  2026-11-24 03:45:46  active    "
		    "<\"a b\"@c.test>               <d@e.test>" },
		{ "something else", "no such line", "no such line" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf text = BUF_INIT;

		control_format_queue_line(&text, cases[i].line);
		CASE_ASSERT(cases[i].name,
		    strcmp(text.data, cases[i].want) == 0);
		buf_release(&text);
	}
}

static void
quantities(void)
{
	static const struct { int64_t ms; const char *want; } spans[] = {
		{ 0, "0s" }, { 12999, "12s" }, { 60000, "1m" },
		{ 61000, "1m 1s" }, { 7500000, "2h 5m" },
		{ 2592000000, "30d" }, { 86460000, "1d" },
	};
	static const struct { int64_t bytes; const char *want; } sizes[] = {
		{ 0, "0" }, { 1023, "1023" }, { 1024, "1.0K" },
		{ 1536 << 10, "1.5M" }, { (int64_t)20 << 30, "20G" },
	};
	char text[CONTROL_SPAN_SIZE], size[CONTROL_BYTES_SIZE];

	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++)
		CASE_ASSERT(spans[i].want, strcmp(control_format_span(
		    spans[i].ms, text), spans[i].want) == 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		CASE_ASSERT(sizes[i].want, strcmp(control_format_bytes(
		    sizes[i].bytes, size), sizes[i].want) == 0);
}

static void
counters(void)
{
	static const char text[] =
	    "# HELP millgate_filter_seconds Time.\n"
	    "# TYPE millgate_filter_seconds histogram\n"
	    "millgate_filter_seconds_bucket{filter=\"spf\",le=\"+Inf\"} 4\n"
	    "millgate_filter_seconds_sum{filter=\"spf\"} 0.010000\n"
	    "millgate_filter_seconds_count{filter=\"spf\"} 4\n"
	    "millgate_smtp_messages_total{result=\"accepted\"} 3\n"
	    "millgate_smtp_rejects_total{a=\"x\",b=\"y \\\"}z\"} 2\n"
	    "# TYPE millgate_smtp_sessions gauge\n"
	    "millgate_smtp_sessions 7\n"
	    "broken{a=\"\n"
	    "# TYPE alone counter\n"
	    "alone 1";
	static const char want[] =
	    "filter\n"
	    "  time (spf)                                     "
	    "           4  mean 2.5 ms\n"
	    "\nsmtp\n"
	    "  messages (accepted)                            "
	    "           3\n"
	    "  rejects (x, y \"}z)                             "
	    "           2\n"
	    "  sessions now                                   "
	    "           7\n"
	    "\nalone\n"
	    "  alone                                          "
	    "           1\n";
	struct buf out = BUF_INIT;

	control_format_counters(&out, text);
	CU_ASSERT_STRING_EQUAL(out.data, want);
	if (strcmp(out.data, want) != 0)
		fprintf(stderr, "\n%s", out.data);
	buf_release(&out);
}

SUITE(control,
	{ "requests", requests },
	{ "long requests", long_requests },
	{ "ids", ids },
	{ "history requests", history_requests },
	{ "queue lines", queue_lines },
	{ "quantities", quantities },
	{ "counters", counters })
