/* One contract for all back ends; what a damaged or locked file does. */
#include "policy/store.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/task.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

/* Adds to a sum that lives so long; NO once it is above ten. */
static enum answer
add_run(struct store_records *records, const char *const *keys,
    const int64_t *a, int64_t *results)
{
	int64_t v[STORE_VALUES];

	store_get(records, keys[0], v);
	v[0] += a[0];
	v[3] = -v[0];
	store_put(records, keys[0], v, store_now(records) + a[1]);
	store_get(records, keys[0], v);
	results[0] = v[0];
	results[1] = v[3];
	return v[0] > 10 ? ANSWER_NO : ANSWER_YES;
}

static const struct store_step add = {
	.name = "add", .keys = 1, .arguments = 2, .results = 2,
	.run = add_run,
	.script =
	    "local v = get(k[1]) or {0, 0, 0, 0}\n"
	    "v[1] = v[1] + a[1]\n"
	    "v[4] = -v[1]\n"
	    "put(k[1], v, now + a[2])\n"
	    "v = get(k[1])\n"
	    "return v[1] > 10 and 0 or 1, v[1], v[4]\n",
};

/* The clock of a back end against ours. */
static enum answer
now_run(struct store_records *records, const char *const *keys,
    const int64_t *a, int64_t *results)
{
	(void)keys;
	results[0] = store_now(records) - a[0];
	return ANSWER_YES;
}

static const struct store_step now = {
	.name = "now", .keys = 1, .arguments = 1, .results = 1,
	.run = now_run, .script = "return 1, now - a[1]\n",
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
		    arguments, results, &why) == c->want);
		CASE_ASSERT(name, results[0] == c->sum);
		CASE_ASSERT(name, results[1] == -c->sum);
	}
}

static void
contract(void)
{
	rig_each("", hold);
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
		    results, &why) == ANSWER_UNKNOWN)
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
	rig_each("", add_together);
}

static void
tell_time(struct rig *rig)
{
	struct timespec wall;
	const char *key = "t", *why;
	int64_t difference = 1 << 30, ms;

	clock_gettime(CLOCK_REALTIME, &wall);
	ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
	CU_ASSERT(store_run(rig->store, &now, &key, &ms, &difference,
	    &why) == ANSWER_YES);
	CU_ASSERT(difference > -10000 && difference < 10000);
}

static void
time_is_told(void)
{
	rig_each("", tell_time);
}

/* --- SQLite's file --- */

static enum answer
add_one(struct store *store, int64_t *sum)
{
	const int64_t arguments[] = { 1, 60000 };
	const char *key = "one", *why;
	int64_t results[STORE_RESULTS] = { 0 };
	enum answer answer;

	answer = store_run(store, &add, &key, arguments, results, &why);
	if (answer == ANSWER_UNKNOWN)
		CU_ASSERT(*why != '\0');
	*sum = results[0];
	return answer;
}

static struct store *
open_file(const struct rig *rig, struct conf **conf, char path[128])
{
	struct store *store;
	const char *why;

	snprintf(path, 128, "%s/store.db", rig->directory);
	*conf = rig_conf("store { budget = 10ms }");
	store = store_open(*conf, path, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(store);
	return store;
}

static void
remember(struct rig *rig)
{
	struct conf *conf;
	char path[128];
	int64_t sum;

	for (int64_t i = 1; i <= 3; i++) {
		struct store *store = open_file(rig, &conf, path);

		CU_ASSERT(add_one(store, &sum) == ANSWER_YES);
		CU_ASSERT_EQUAL(sum, i);
		store_close(&store);
		conf_free(&conf);
	}
}

static void
remembers(void)
{
	rig_alone(remember);
}

static void
damage(struct rig *rig)
{
	static const char garbage[] = "this is no database, but text\n";
	struct store *store;
	struct conf *conf;
	char path[128];
	int64_t sum;
	int fd;

	snprintf(path, sizeof(path), "%s/store.db", rig->directory);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	for (int i = 0; i < 400; i++)
		CU_ASSERT(write(fd, garbage, sizeof(garbage) - 1) > 0);
	close(fd);
	store = open_file(rig, &conf, path);
	for (int i = 0; i < 3; i++)
		CU_ASSERT(add_one(store, &sum) == ANSWER_UNKNOWN);
	CU_ASSERT_EQUAL(rig_log_count(rig, "no answer"), 1);
	CU_ASSERT_EQUAL(rig_log_count(rig, "not a database"), 1);
	store_close(&store);
	conf_free(&conf);
}

static void
damaged(void)
{
	rig_alone(damage);
}

/* Pages overwritten while the file is in use. */
static void
damage_in_use(struct rig *rig)
{
	char zeros[4096] = { 0 };
	struct store *store;
	struct conf *conf;
	char path[128];
	int64_t sum;
	int fd;

	store = open_file(rig, &conf, path);
	CU_ASSERT(add_one(store, &sum) == ANSWER_YES);
	store_close(&store);
	conf_free(&conf);
	fd = open(path, O_RDWR);
	memset(zeros, 0xee, sizeof(zeros));
	for (off_t at = 4096; at < 4 * 4096; at += 4096)
		CU_ASSERT(pwrite(fd, zeros, sizeof(zeros), at) == 4096);
	close(fd);
	store = open_file(rig, &conf, path);
	CU_ASSERT(add_one(store, &sum) == ANSWER_UNKNOWN);
	CU_ASSERT(add_one(store, &sum) == ANSWER_UNKNOWN);
	CU_ASSERT_EQUAL(rig_log_count(rig, "no answer"), 1);
	store_close(&store);
	conf_free(&conf);
}

static void
damaged_pages(void)
{
	rig_alone(damage_in_use);
}

/* Another holds the file: no answer within the budget, and none is awaited. */
static void
lock(struct rig *rig)
{
	struct store *store;
	struct conf *conf;
	sqlite3 *other;
	char path[128];
	int64_t begin, sum;

	store = open_file(rig, &conf, path);
	CU_ASSERT(add_one(store, &sum) == ANSWER_YES);
	task_yield();
	while (sqlite3_open(path, &other) != SQLITE_OK ||
	    sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL,
	    NULL) != SQLITE_OK) {
		sqlite3_close(other);
		task_sleep(1);
	}
	begin = task_now();
	CU_ASSERT(add_one(store, &sum) == ANSWER_UNKNOWN);
	CU_ASSERT(task_now() - begin >= 9);
	for (int i = 0; i < 100; i++)
		CU_ASSERT(add_one(store, &sum) == ANSWER_UNKNOWN);
	CU_ASSERT(task_now() - begin < 1000);
	CU_ASSERT_EQUAL(rig_log_count(rig, "database is locked"), 1);
	sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
	sqlite3_close(other);
	while (task_now() < begin + 5000 &&
	    add_one(store, &sum) == ANSWER_UNKNOWN)
		task_sleep(50);
	CU_ASSERT_EQUAL(sum, 2);
	CU_ASSERT_EQUAL(rig_log_count(rig, "answers again"), 1);
	store_close(&store);
	conf_free(&conf);
}

static void
locked(void)
{
	rig_alone(lock);
}

SUITE(store,
    { "contract", contract },
    { "steps never mix", together },
    { "the time", time_is_told },
    { "SQLite: remembers", remembers },
    { "SQLite: a file that is none", damaged },
    { "SQLite: damaged pages", damaged_pages },
    { "SQLite: a locked file", locked })
