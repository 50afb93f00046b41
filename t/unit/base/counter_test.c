/* Counters: sums over blocks, text format, and blocks that lie. */
#include "base/counter.h"

#include <stdlib.h>
#include <string.h>

#include "base/counter_block.h"
#include "t/unit/unit.h"

static const struct counter_row rows[] = {
	{ "test_mails_total", COUNTER_TOTAL, "Mails.\nAll \\ of them." },
	{ "test_sessions", COUNTER_GAUGE, "Sessions now." },
	{ "test_seconds", COUNTER_HISTOGRAM, "Time." },
};

static void
describe(void)
{
	static bool done;

	if (!done)
		counter_describe(rows, sizeof(rows) / sizeof(rows[0]));
	done = true;
}

static struct counter_block *
block_new(void)
{
	struct counter_block *b = calloc(1, counter_block_size());

	if (b == NULL)
		abort();
	return b;
}

/* Blocks stay attached; the last one must outlive its test. */
static void
leave(struct counter_block *a, struct counter_block *b)
{
	static struct counter_block rest;

	counter_attach(&rest);
	free(a);
	free(b);
}

static void
sums_over_blocks(void)
{
	struct counter_block *a = block_new(), *b = block_new();
	struct buf out = BUF_INIT;

	describe();
	counter_attach(a);
	counter_add(counter_get("test_mails_total", "result=\"ok\""), 3);
	counter_add(counter_get("test_mails_total", NULL), 1);
	counter_add(counter_get("test_sessions", NULL), 2);
	counter_attach(b);
	counter_add(counter_get("test_mails_total", "result=\"ok\""), 4);
	counter_add(counter_get("test_sessions", NULL), 5);
	counter_add(counter_get("test_undescribed_total", NULL), 1);
	counter_print(&out, (struct counter_block *[]){ a, NULL, b }, 3);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "# HELP test_mails_total Mails.\\nAll \\\\ of them.\n"
	    "# TYPE test_mails_total counter\n"
	    "test_mails_total 1\n"
	    "test_mails_total{result=\"ok\"} 7\n"
	    "# HELP test_sessions Sessions now.\n"
	    "# TYPE test_sessions gauge\n"
	    "test_sessions 7\n"
	    "# TYPE test_undescribed_total counter\n"
	    "test_undescribed_total 1\n");
	buf_release(&out);
	leave(a, b);
}

static void
histograms(void)
{
	struct counter_block *a = block_new();
	struct buf out = BUF_INIT;
	struct histogram *h;

	describe();
	counter_attach(a);
	h = histogram_get("test_seconds", "filter=\"spf\"");
	CU_ASSERT_PTR_EQUAL(h, histogram_get("test_seconds",
	    "filter=\"spf\""));
	histogram_observe(h, 100);
	histogram_observe(h, 101);
	histogram_observe(h, 2000000);
	histogram_observe(h, 1000000000);
	counter_print(&out, &a, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
	    "test_seconds_bucket{filter=\"spf\",le=\"0.0001\"} 1\n"
	    "test_seconds_bucket{filter=\"spf\",le=\"0.0003\"} 2\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, ",le=\"1\"} 2\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, ",le=\"3\"} 3\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, ",le=\"300\"} 3\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
	    ",le=\"+Inf\"} 4\n"
	    "test_seconds_sum{filter=\"spf\"} 1002.000201\n"
	    "test_seconds_count{filter=\"spf\"} 4\n"));
	buf_release(&out);
	leave(a, NULL);
}

static void
successor(void)
{
	struct counter_block *a = block_new();

	describe();
	counter_attach(a);
	counter_add(counter_get("test_mails_total", NULL), 3);
	counter_add(counter_get("test_sessions", NULL), 2);
	counter_attach(a);
	CU_ASSERT_EQUAL(counter_value(counter_get("test_mails_total", NULL)),
	    3);
	CU_ASSERT_EQUAL(counter_value(counter_get("test_sessions", NULL)), 0);
	leave(a, NULL);
}

static void
full(void)
{
	struct counter_block *a = block_new();
	struct counter *last = NULL, *counter;
	char labels[64];
	int n = 0;

	counter_attach(a);
	for (; n < 10000; n++) {
		snprintf(labels, sizeof(labels), "n=\"%d\"", n);
		counter = counter_get("test_many_total", labels);
		counter_add(counter, 1);
		if (counter == last)
			break;
		last = counter;
	}
	CU_ASSERT(n > 1000 && n < 3000);
	CU_ASSERT_PTR_NOT_NULL(histogram_get("test_seconds", "n=\"1\""));
	/* What is there already is still found. */
	CU_ASSERT_EQUAL(counter_value(counter_get("test_many_total",
	    "n=\"7\"")), 1);
	leave(a, NULL);
}

static void
labels(void)
{
	struct buf out = BUF_INIT;
	struct counter_block *a = block_new();
	char text[40] = "", tight[8] = "";

	counter_label(text, sizeof(text), "a", "q\"b\\\n\xff");
	CU_ASSERT_STRING_EQUAL(text, "a=\"q\\\"b\\\\\\n?\"");
	counter_label(text, sizeof(text), "b", "c");
	CU_ASSERT_STRING_EQUAL(text, "a=\"q\\\"b\\\\\\n?\",b=\"c\"");
	counter_label(tight, sizeof(tight), "a", "12345678");
	CU_ASSERT(strlen(tight) < sizeof(tight));
	counter_attach(a);
	counter_add(counter_get("test_labels_total", text), 1);
	counter_print(&out, &a, 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, text));
	buf_release(&out);
	leave(a, NULL);
}

static void
bad_names_are_left_out(void)
{
	static const struct { const char *name, *labels; } cases[] = {
		{ "test bad", NULL }, { "9bad", NULL },
		{ "test_bad", "x" }, { "test_bad", "x=\"" },
		{ "test_bad", "x=\"\n\"" }, { "test_bad", "x=\"\\q\"" },
		{ "test_bad", "x=\"1\"," }, { "test_bad", "x=\"1\"} 5" },
		{ "test_bad", "x=\"\\" }, { "test_seconds", NULL },
		{ "test_bad", "x=\"\xff\"" },
	};
	struct counter_block *a = block_new();
	struct buf out = BUF_INIT;

	describe();
	counter_attach(a);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		counter_add(counter_get(cases[i].name, cases[i].labels), 1);
	counter_add(counter_get("test_good", NULL), 1);
	counter_print(&out, &a, 1);
	CU_ASSERT_STRING_EQUAL(out.data, "# TYPE test_good counter\n"
	    "test_good 1\n");
	buf_release(&out);
	leave(a, NULL);
}

/* Any byte of the block may be wrong; printing and attaching must survive. */
static void
corrupt(void)
{
	struct counter_block *a = block_new(), *b = block_new();
	struct buf out = BUF_INIT;
	unsigned seed = 1;

	describe();
	for (int round = 0; round < 300; round++) {
		memset(b, 0, sizeof(*b));
		counter_attach(b);
		counter_add(counter_get("test_mails_total", "a=\"b\""), 1);
		histogram_observe(histogram_get("test_seconds", NULL), 5);
		counter_add(counter_get("test_sessions", NULL), 1);
		memcpy(a, b, sizeof(*a));
		for (int i = 0; i < 4; i++) {
			seed = seed * 1103515245 + 12345;
			((unsigned char *)a)[8 + (seed >> 16) % 300] =
			    (unsigned char)(seed >> 8);
		}
		counter_print(&out, (struct counter_block *[]){ a, b }, 2);
		CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
		    "test_seconds_count"));
		buf_reset(&out);
		counter_attach(a);
		counter_add(counter_get("test_mails_total", NULL), 1);
		counter_print(&out, &a, 1);
		CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
		    "test_mails_total "));
		buf_reset(&out);
	}
	a->used = UINT32_MAX;
	memset(a->records, 0xff, sizeof(a->records));
	counter_print(&out, &a, 1);
	CU_ASSERT_EQUAL(out.len, 0);
	buf_release(&out);
	leave(a, b);
}

SUITE(counter,
    { "values are summed over blocks", sums_over_blocks },
    { "histograms are cumulative", histograms },
    { "a successor goes on, gauges begin anew", successor },
    { "a full block gives spares", full },
    { "labels are escaped", labels },
    { "bad names are left out", bad_names_are_left_out },
    { "corrupt blocks are survived", corrupt })
