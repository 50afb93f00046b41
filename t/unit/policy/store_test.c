/* One contract for all back ends. */
#include "policy/store.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/task.h"
#include "t/unit/policy/rig.h"
#include "t/unit/policy/rig_redis.h"
#include "t/unit/unit.h"

/* Adds to a sum that lives so long; NO once it is above ten. */
static enum answer
add_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record r;

	(void)texts;
	store_get(records, keys[0], &r);
	r.values[0] += a[0];
	r.values[7] = -r.values[0];
	r.expires_ms = store_now(records) + a[1];
	store_put(records, keys[0], &r);
	store_get(records, keys[0], &r);
	results[0] = r.values[0];
	results[1] = r.values[7];
	return r.values[0] > 10 ? ANSWER_NO : ANSWER_YES;
}

static const struct store_step add = {
	.name = "add", .keys = 1, .arguments = 2, .results = 2,
	.run = add_run,
	.script =
	    "local v = get(k[1]) or {0}\n"
	    "v[1] = v[1] + a[1]\n"
	    "v[8] = -v[1]\n"
	    "put(k[1], v, now + a[2])\n"
	    "v = get(k[1])\n"
	    "return v[1] > 10 and 0 or 1, v[1], v[8]\n",
};

/* The clock of a back end against ours. */
static enum answer
now_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	(void)keys, (void)texts;
	results[0] = store_now(records) - a[0];
	return ANSWER_YES;
}

static const struct store_step now = {
	.name = "now", .keys = 1, .arguments = 1, .results = 1,
	.run = now_run, .script = "return 1, now - a[1]\n",
};

/*
 * Swaps two records; the first gets a text as note if it is not "", and is
 * removed if the text is "-".  NO: there was no first.
 */
static enum answer
swap_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t expires = store_now(records) + a[0];
	struct store_record first, second;
	bool had;

	had = store_get(records, keys[0], &first);
	store_get(records, keys[1], &second);
	first.expires_ms = second.expires_ms = expires;
	if (*texts[0] != '\0')
		second.note = texts[0];
	second.values[3] = a[1];
	store_put(records, keys[1], &first);
	if (strcmp(texts[0], "-") == 0)
		store_delete(records, keys[0]);
	else
		store_put(records, keys[0], &second);
	results[0] = (int64_t)strlen(first.note);
	results[1] = (int64_t)strlen(texts[1]);
	return had ? ANSWER_YES : ANSWER_NO;
}

static const struct store_step swap = {
	.name = "swap", .keys = 2, .arguments = 2, .texts = 2, .results = 2,
	.run = swap_run,
	.script =
	    "local first, second = get(k[1]), get(k[2]) or {note = ''}\n"
	    "local had = first and 1 or 0\n"
	    "first = first or {note = ''}\n"
	    "if t[1] ~= '' then second.note = t[1] end\n"
	    "second[4] = a[2]\n"
	    "put(k[2], first, now + a[1])\n"
	    "if t[1] == '-' then del(k[1])\n"
	    "else put(k[1], second, now + a[1]) end\n"
	    "return had, #first.note, #t[2]\n",
};

static const struct contract_case {
	const char *name, *key;
	int64_t amount, lifetime_ms, shift_ms;
	enum answer want;
	int64_t sum;
} cases[] = {
	{ "a new key",		"a:{x}", 3, 60000, 0, ANSWER_YES, 3 },
	{ "adds",		"a:{x}", 4, 60000, 0, ANSWER_YES, 7 },
	{ "another key",	"b:{x}", 1, 60000, 0, ANSWER_YES, 1 },
	{ "answers no",		"a:{x}", 4, 60000, 0, ANSWER_NO, 11 },
	{ "lives until then",	"a:{x}", 1, 60000, 59000, ANSWER_NO, 12 },
	{ "expires",		"a:{x}", 2, 60000, 61000, ANSWER_YES, 2 },
	{ "large numbers",	"c:{x}", INT64_C(4000000000000), 60000, 0,
	    ANSWER_NO, INT64_C(4000000000000) },
	{ "blanks and braces",	"d e}{:f", 5, 60000, 0, ANSWER_YES, 5 },
	{ "line breaks",	"d\r\nFLUSHALL\r\n", 5, 60000, 0, ANSWER_YES,
	    5 },
	{ "nothing was flushed", "a:{x}", 1, 60000, 0, ANSWER_YES, 3 },
	{ "quotes",		"d'\"; DROP TABLE record", 5, 60000, 0,
	    ANSWER_YES, 5 },
	{ "beyond ASCII",	"\xc3\xa4\xff", 5, 60000, 0, ANSWER_YES, 5 },
	{ "negative",		"e:{x}", -5, 60000, 0, ANSWER_YES, -5 },
};

static void
hold(struct rig *rig)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct contract_case *c = &cases[i];
		const int64_t arguments[] = { c->amount, c->lifetime_ms };
		int64_t results[STORE_RESULTS] = { 0 };
		const char *why;
		char name[128];

		snprintf(name, sizeof(name), "%s: %s", rig->back_end, c->name);
		store_shift_clock(rig->store, c->shift_ms);
		CASE_ASSERT(name, store_run(rig->store, &add, &c->key,
		    arguments, NULL, results, &why) == c->want);
		CASE_ASSERT(name, results[0] == c->sum);
		CASE_ASSERT(name, results[1] == -c->sum);
	}
	CASE_ASSERT(rig->back_end, (rig_log_count(rig, "by EVALSHA") > 0) ==
	    (strcmp(rig->back_end, "redis without Functions") == 0));
}

static void
contract(void)
{
	rig_all("", hold);
}

struct adder {
	struct rig *rig;
	int64_t last;
	int failures;
};

static void
add_ones(void *argument)
{
	struct adder *adder = argument;
	const int64_t arguments[] = { 1, 60000 };
	const char *key = "sum:{x}", *why;
	int64_t results[STORE_RESULTS];

	for (int i = 0; i < 10; i++) {
		if (store_run(adder->rig->store, &add, &key, arguments,
		    NULL, results, &why) == ANSWER_UNKNOWN)
			adder->failures++;
		else if (results[0] > adder->last)
			adder->last = results[0];
	}
}

#define ADDERS 20

/* Steps never mix, whoever asks meanwhile. */
static void
add_together(struct rig *rig)
{
	struct adder adders[ADDERS];
	struct task *tasks[ADDERS];
	int64_t sum = 0;

	for (size_t i = 0; i < ADDERS; i++) {
		adders[i] = (struct adder){ rig, 0, 0 };
		tasks[i] = task_start("adder", add_ones, &adders[i]);
	}
	for (size_t i = 0; i < ADDERS; i++) {
		task_join(&tasks[i], DEADLINE_NEVER);
		CU_ASSERT_EQUAL(adders[i].failures, 0);
		if (adders[i].last > sum)
			sum = adders[i].last;
	}
	CU_ASSERT_EQUAL(sum, 10 * ADDERS);
}

static void
together(void)
{
	rig_all("", add_together);
}

static void
tell_time(struct rig *rig)
{
	struct timespec wall;
	const char *key = "t", *why;
	int64_t difference = 1 << 30, ms;

	clock_gettime(CLOCK_REALTIME, &wall);
	ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
	CU_ASSERT(store_run(rig->store, &now, &key, &ms, NULL,
	    &difference, &why) == ANSWER_YES);
	CU_ASSERT(difference > -10000 && difference < 10000);
}

static void
time_is_told(void)
{
	rig_all("", tell_time);
}

static enum answer
add_one(struct store *store, int64_t *sum)
{
	const int64_t arguments[] = { 1, 60000 };
	const char *key = "one", *why;
	int64_t results[STORE_RESULTS] = { 0 };
	enum answer answer;

	answer = store_run(store, &add, &key, arguments, NULL, results,
	    &why);
	if (answer == ANSWER_UNKNOWN)
		CU_ASSERT(*why != '\0');
	*sum = results[0];
	return answer;
}

/* --- notes, reading, scanning --- */

static void
expect_note(struct rig *rig, const char *name, const char *key,
    const char *want)
{
	char note[STORE_NOTE_MAX + 1], label[128];
	struct store_record record;
	const char *why;
	enum answer answer = store_read(rig->store, key, &record, note, &why);

	snprintf(label, sizeof(label), "%s: %s", rig->back_end, name);
	CASE_ASSERT(label, answer == (want != NULL ? ANSWER_YES : ANSWER_NO));
	CASE_ASSERT(label, record.note == note);
	CASE_ASSERT(label, strcmp(note, want != NULL ? want : "") == 0);
}

static void
do_swap(struct rig *rig, const char *name, const char *text, int64_t value,
    enum answer want, int64_t length)
{
	static const char *const keys[] = { "s:{x}:1", "s:{x}:2" };
	const char *const texts[] = { text, "four" };
	const int64_t arguments[] = { 60000, value };
	int64_t results[STORE_RESULTS] = { -1, -1 };
	const char *why;
	char label[128];

	snprintf(label, sizeof(label), "%s: %s", rig->back_end, name);
	CASE_ASSERT(label, store_run(rig->store, &swap, keys, arguments, texts,
	    results, &why) == want);
	CASE_ASSERT(label, results[0] == length && results[1] == 4);
}

static void
keep_notes(struct rig *rig)
{
	static const char odd[] = "'\"; DROP\r\n{}\t\xc3\xa4\xff %s";
	char note[STORE_NOTE_MAX + 1], longest[STORE_NOTE_MAX + 1] = "";
	struct store_record r;
	const char *why;

	expect_note(rig, "nothing", "s:{x}:1", NULL);
	do_swap(rig, "a first", odd, 5, ANSWER_NO, 0);
	expect_note(rig, "odd bytes", "s:{x}:1", odd);
	expect_note(rig, "no note", "s:{x}:2", "");
	do_swap(rig, "moves", "", -7, ANSWER_YES, sizeof(odd) - 1);
	expect_note(rig, "moved", "s:{x}:2", odd);
	expect_note(rig, "moved back", "s:{x}:1", "");
	memset(longest, 'n', STORE_NOTE_MAX);
	do_swap(rig, "the longest", longest, 1, ANSWER_YES, 0);
	expect_note(rig, "the longest", "s:{x}:1", longest);
	CU_ASSERT(store_read(rig->store, "s:{x}:2", &r, note,
	    &why) == ANSWER_YES);
	CU_ASSERT_EQUAL(r.values[3], -7);
	CU_ASSERT_EQUAL(r.values[0], 0);
	CU_ASSERT(r.expires_ms > INT64_C(1700000000000));
	do_swap(rig, "removed", "-", 1, ANSWER_YES, STORE_NOTE_MAX);
	expect_note(rig, "removed", "s:{x}:1", NULL);
	expect_note(rig, "the other stays", "s:{x}:2", longest);
	store_shift_clock(rig->store, 61000);
	expect_note(rig, "expired", "s:{x}:2", NULL);
}

static void
notes(void)
{
	rig_all("", keep_notes);
}

#define SCANNED	450			/* some pages */

struct scan {
	struct rig *rig;
	bool seen[SCANNED];
	int others, stop_after;
};

static int
see(void *argument, const char *key, const struct store_record *record)
{
	struct scan *scan = argument;
	size_t i;

	if (sscanf(key, "s*[an]?:%zu", &i) != 1 || i >= SCANNED ||
	    record->values[0] != (int64_t)i + 1 || *record->note != '\0')
		scan->others++;
	else
		scan->seen[i] = true;
	if (--scan->stop_after == 0)
		return 1;
	/* A step of our own between two records. */
	return add_one(scan->rig->store, &(int64_t){ 0 }) == ANSWER_UNKNOWN;
}

static void
scan_all(struct rig *rig)
{
	static const char *const others[] = { "s*[an]", "sxa:1", "s*[an]@:1",
		"t", "s*a:1" };
	struct scan scan = { .rig = rig };
	int64_t arguments[] = { 1, 60000 }, results[STORE_RESULTS];
	const char *why;
	char text[32];
	const char *key = text;

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		store_run(rig->store, &add, &others[i], arguments, NULL,
		    results, &why);
	for (size_t i = 0; i < SCANNED; i++) {
		snprintf(text, sizeof(text), "s*[an]?:%zu", i);
		arguments[0] = (int64_t)i + 1;
		arguments[1] = i == 7 ? 1000 : 60000;
		store_run(rig->store, &add, &key, arguments, NULL, results,
		    &why);
	}
	store_shift_clock(rig->store, 2000);
	CU_ASSERT_EQUAL(store_scan(rig->store, "s*[an]?:", see, &scan, &why),
	    ANSWER_YES);
	CU_ASSERT_EQUAL(scan.others, 0);
	for (size_t i = 0; i < SCANNED; i++)
		CU_ASSERT_EQUAL(scan.seen[i], i != 7);
	scan = (struct scan){ .rig = rig, .stop_after = 3 };
	CU_ASSERT_EQUAL(store_scan(rig->store, "s*[an]?:", see, &scan, &why),
	    ANSWER_YES);
	CU_ASSERT_EQUAL(scan.stop_after, 0);
	scan = (struct scan){ .rig = rig };
	CU_ASSERT_EQUAL(store_scan(rig->store, "nothing", see, &scan, &why),
	    ANSWER_YES);
	CU_ASSERT_EQUAL(scan.others + scan.stop_after, 0);
}

static void
scans(void)
{
	rig_all("", scan_all);
}

/* --- options --- */

#define R "store { type = redis "

static void
say(struct rig *rig)
{
	static const struct { const char *name, *text, *error; } wrongs[] = {
		{ "nothing", "", NULL },
		{ "Redis", R "}", NULL },
		{ "Sentinel", R "sentinel = main }", NULL },
		{ "a Cluster", R "cluster = yes }", NULL },
		{ "a socket", R "server = { \"unix:/x\" } }", NULL },
		{ "no address", "store { server = { \"redis\" } }",
		    "server" },
		{ "no server", R "server = { } }", "server: is required" },
		{ "SQLite: Sentinel", "store { sentinel = main }",
		    "sentinel: is for type = redis" },
		{ "SQLite: Cluster", "store { cluster = yes }",
		    "cluster: is for type = redis" },
		{ "SQLite: user", "store { user = x }",
		    "user: is for type = redis" },
		{ "both", R "sentinel = main cluster = yes }",
		    "sentinel: a Cluster needs none" },
		{ "no name", R "sentinel = \"\" }", "sentinel: is to be" },
		{ "a Cluster by socket", R "cluster = yes "
		    "server = { \"unix:/x\" } }", "no UNIX sockets" },
		{ "Sentinel by socket", R "sentinel = main "
		    "server = { \"unix:/x\" } }", "no UNIX sockets" },
		{ "a Cluster's database", R "cluster = yes database = 1 }",
		    "database: a Cluster has" },
		{ "no password", R "user = x }", "user: needs a password" },
		{ "a name without TLS", R "tls_name = x }",
		    "tls_name: needs tls_ca" },
		{ "TLS", R "tls_ca = \"D/cert\" }", NULL },
		{ "TLS by socket", R "tls_ca = \"D/cert\" "
		    "server = { \"unix:/x\" } }", "TLS goes with no" },
		{ "no CA", R "tls_ca = \"D/key\" }", "tls_ca: no cert" },
		{ "no key", R "tls_ca = \"D/cert\" tls_cert = \"D/cert\" }",
		    "tls_cert: needs tls_key" },
		{ "no certificate", R "tls_ca = \"D/cert\" "
		    "tls_key = \"D/key\" }", "tls_key: needs tls_cert" },
		{ "a certificate", R "tls_ca = \"D/cert\" "
		    "tls_cert = \"D/cert\" tls_key = \"D/key\" }", NULL },
		{ "mixed up", R "tls_ca = \"D/cert\" "
		    "tls_cert = \"D/key\" tls_key = \"D/cert\" }",
		    "tls_cert: no cert" },
		{ "an empty password", R "password = \"D/empty\" }",
		    "password: its file is empty" },
	};

	for (size_t i = 0; i < sizeof(wrongs) / sizeof(wrongs[0]); i++) {
		struct buf errors = BUF_INIT, text = BUF_INIT;
		struct conf *conf;

		for (const char *c = wrongs[i].text; *c != '\0'; c++)
			if (c[0] == 'D' && c[1] == '/')
				buf_puts(&text, rig_redis_directory());
			else
				buf_putc(&text, *c);
		conf = rig_conf(text.data != NULL ? text.data : "");
		store_check_options(conf, &errors);
		CASE_ASSERT(wrongs[i].name, wrongs[i].error == NULL ?
		    errors.len == 0 : errors.len > 0 &&
		    strstr(errors.data, wrongs[i].error) != NULL);
		if (errors.len > 0 && wrongs[i].error == NULL)
			fprintf(stderr, "%s", errors.data);
		buf_release(&errors);
		buf_release(&text);
		conf_free(&conf);
	}
	(void)rig;
}

static void
options(void)
{
	rig_alone(say);
}

SUITE(store,
    { "contract", contract },
    { "steps never mix", together },
    { "the time", time_is_told },
    { "notes", notes },
    { "scans", scans },
    { "options", options })
