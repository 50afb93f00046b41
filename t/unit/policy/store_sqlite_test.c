/* The store in SQLite's file: damaged, locked, shared. */
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/task.h"
#include "policy/store.h"
#include "policy/store_sqlite_cache.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

/* Adds one to a sum; NO once it is above ten. */
static enum answer
add_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record r;

	(void)a;
	store_get(records, keys[0], &r);
	r.values[0]++;
	r.values[7] = -r.values[0];
	r.expires_ms = store_now(records) + 60000;
	r.note = texts[0];
	store_put(records, keys[0], &r);
	results[0] = r.values[0];
	return r.values[0] > 10 ? ANSWER_NO : ANSWER_YES;
}

static const struct store_step add = {
	.name = "add", .keys = 1, .texts = 1, .results = 1, .run = add_run,
};

static enum answer
add_to(struct store *store, const char *key, const char *note, int64_t *sum)
{
	const char *why;
	enum answer answer;

	*sum = 0;
	answer = store_run(store, &add, &key, NULL, &note, sum, &why);
	if (answer == ANSWER_UNKNOWN)
		CU_ASSERT(*why != '\0');
	return answer;
}

static enum answer
add_one(struct store *store, int64_t *sum)
{
	return add_to(store, "one", "", sum);
}

static struct store *
open_patient(const struct rig *rig, struct conf **conf, char path[128],
    const char *budget)
{
	struct store *store;
	const char *why;

	snprintf(path, 128, "%s/store.db", rig->directory);
	*conf = rig_conf(budget);
	store = store_open(*conf, path, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(store);
	return store;
}

static struct store *
open_file(const struct rig *rig, struct conf **conf, char path[128])
{
	return open_patient(rig, conf, path, "store { budget = 10ms }");
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

/* A file of version 1, also one that a process of version 1 opened again. */
static void
migrate(struct rig *rig)
{
	static const char old[] = "CREATE TABLE record(key TEXT PRIMARY KEY,"
	    " v1 INTEGER, v2 INTEGER, v3 INTEGER, v4 INTEGER,"
	    " expires INTEGER NOT NULL) WITHOUT ROWID;"
	    "CREATE INDEX record_expires ON record(expires);"
	    "INSERT INTO record VALUES('one', 40, 0, 0, 9, 9000000000000);"
	    "PRAGMA user_version=1";
	char note[STORE_NOTE_MAX + 1], path[128];
	struct store_record record;
	struct store *store;
	struct conf *conf;
	const char *why;
	sqlite3 *db;
	int64_t sum;

	snprintf(path, sizeof(path), "%s/store.db", rig->directory);
	for (int64_t i = 0; i < 3; i++) {
		sqlite3_open(path, &db);
		CU_ASSERT_EQUAL(sqlite3_exec(db, i == 0 ? old :
		    i == 1 ? "PRAGMA user_version=1" :
		    "PRAGMA user_version=3", NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(db);
		store = open_file(rig, &conf, path);
		CU_ASSERT_EQUAL(store_read(store, "one", &record, note, &why),
		    ANSWER_YES);
		CU_ASSERT_EQUAL(record.values[3], 9);
		CU_ASSERT_EQUAL(record.values[7], i == 0 ? 0 : -40 - i);
		CU_ASSERT(add_one(store, &sum) == ANSWER_NO);
		CU_ASSERT_EQUAL(sum, 41 + i);
		store_close(&store);
		conf_free(&conf);
	}
	CU_ASSERT_EQUAL(rig_log_count(rig, "no answer"), 0);
}

static void
old_file(void)
{
	rig_alone(migrate);
}

static int
count_records(sqlite3 *db)
{
	sqlite3_stmt *statement;
	int count = -1;

	if (sqlite3_prepare_v2(db, "SELECT count(*) FROM record", -1,
	    &statement, NULL) == SQLITE_OK &&
	    sqlite3_step(statement) == SQLITE_ROW)
		count = sqlite3_column_int(statement, 0);
	sqlite3_finalize(statement);
	return count;
}

/* What has expired goes, part by part; each opening prunes one at once. */
static void
prune_parts(struct rig *rig)
{
	static const char records[] = "WITH RECURSIVE n(i) AS (VALUES(1) UNION "
	    "ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO record(key, "
	    "expires) SELECT printf('k%05d', i), CASE WHEN i % 2 THEN 1000 "
	    "ELSE 9000000000000 END FROM n";
	struct store *store;
	struct conf *conf;
	char path[128];
	int64_t sum;
	sqlite3 *db;

	snprintf(path, sizeof(path), "%s/store.db", rig->directory);
	store = open_file(rig, &conf, path);
	store_close(&store);
	conf_free(&conf);
	sqlite3_open(path, &db);
	CU_ASSERT_EQUAL(sqlite3_exec(db, records, NULL, NULL, NULL),
	    SQLITE_OK);
	CU_ASSERT_EQUAL(count_records(db), 3000);
	store = open_file(rig, &conf, path);
	add_one(store, &sum);
	for (int i = 0; i < 100 && count_records(db) == 3000; i++)
		task_sleep(20);
	CU_ASSERT_EQUAL(count_records(db), 2001);
	for (int i = 0; i < 200 && count_records(db) > 1501; i++) {
		task_sleep(50);
		add_one(store, &sum);
	}
	CU_ASSERT_EQUAL(count_records(db), 1501);
	store_close(&store);
	conf_free(&conf);
	sqlite3_close(db);
}

static void
pruned(void)
{
	rig_alone(prune_parts);
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

/* --- several processes, for each of which a store stands --- */

#define PATIENT "store { budget = 5s }"

/* What one has in memory is not what the other wrote since. */
static void
alternate(struct rig *rig)
{
	struct store *stores[2];
	struct conf *confs[2];
	char path[128];
	int64_t sum;

	for (int i = 0; i < 2; i++)
		stores[i] = open_patient(rig, &confs[i], path, PATIENT);
	for (int i = 1; i <= 30; i++) {
		CU_ASSERT(add_one(stores[i % 2], &sum) != ANSWER_UNKNOWN);
		CU_ASSERT_EQUAL(sum, i);
		if (i % 10 == 0)
			task_sleep(150);	/* it commits for itself */
	}
	for (int i = 0; i < 2; i++) {
		store_close(&stores[i]);
		conf_free(&confs[i]);
	}
}

static void
shared(void)
{
	rig_alone(alternate);
}

struct hasty {
	struct store *store;
	bool stop;
	int64_t sum;
};

/* Never leaves the file alone. */
static void
hurry(void *argument)
{
	struct hasty *hasty = argument;
	int64_t sum;

	while (!hasty->stop) {
		CU_ASSERT(add_one(hasty->store, &sum) != ANSWER_UNKNOWN);
		CU_ASSERT_EQUAL(sum, hasty->sum + 1);
		hasty->sum = sum;
		task_yield();
	}
}

static void
take_turns(struct rig *rig)
{
	struct hasty hasty = { 0 };
	struct store *other;
	struct conf *confs[2];
	struct task *task;
	char path[128];
	int64_t sum;

	hasty.store = open_patient(rig, &confs[0], path, PATIENT);
	other = open_patient(rig, &confs[1], path, "store { budget = 1s }");
	task = task_start("hasty", hurry, &hasty);
	for (int i = 1; i <= 20; i++) {
		CU_ASSERT(add_to(other, "other", "", &sum) != ANSWER_UNKNOWN);
		CU_ASSERT_EQUAL(sum, i);
		task_sleep(i % 3);
	}
	hasty.stop = true;
	task_join(&task, DEADLINE_NEVER);
	CU_ASSERT(hasty.sum > 20);
	store_close(&hasty.store);
	store_close(&other);
	conf_free(&confs[0]);
	conf_free(&confs[1]);
}

static void
fair(void)
{
	rig_alone(take_turns);
}

/* --- more records than there is memory for --- */

static int
count_record(void *argument, const char *key, const struct store_record *r)
{
	CASE_ASSERT(key, r->values[0] == 1 && strlen(r->note) ==
	    STORE_NOTE_MAX);
	++*(int *)argument;
	return 0;
}

static void
outgrow(struct rig *rig)
{
	char path[128], key[32], note[STORE_NOTE_MAX + 1];
	int64_t sum;
	int seen = 0, count = 30000;
	struct store *store;
	struct conf *conf;
	const char *why;

	memset(note, 'n', sizeof(note) - 1);
	note[STORE_NOTE_MAX] = '\0';
	store = open_file(rig, &conf, path);
	for (int i = 0; i < count; i++) {
		snprintf(key, sizeof(key), "many:%d", i);
		CU_ASSERT(add_to(store, key, note, &sum) == ANSWER_YES);
	}
	CU_ASSERT(store_scan(store, "many:", count_record, &seen,
	    &why) == ANSWER_YES);
	CU_ASSERT_EQUAL(seen, count);
	CU_ASSERT(add_to(store, "many:0", note, &sum) == ANSWER_YES);
	CU_ASSERT_EQUAL(sum, 2);
	CU_ASSERT(store_forget(store, "many:1", &why) == ANSWER_YES);
	CU_ASSERT(store_forget(store, "many:1", &why) == ANSWER_NO);
	store_close(&store);
	conf_free(&conf);
}

static void
outgrown(void)
{
	rig_alone(outgrow);
}

static void
remember_changes(void)
{
	struct sqlite_cache *cache = sqlite_cache_new();
	struct store_record record = { .values = { 7 }, .note = "first" };
	struct sqlite_cached *one = sqlite_cache_add(cache, "one"), *two;
	const char *note;

	CU_ASSERT(!one->exists && !one->changed);
	CU_ASSERT_PTR_NULL(sqlite_cache_changed(cache));
	sqlite_cache_fill(cache, one, &record);
	CU_ASSERT(one->exists && !one->changed);
	note = one->record.note;
	record.note = "second";
	sqlite_cache_change(cache, one, &record);
	sqlite_cache_change(cache, one, &record);
	CU_ASSERT_STRING_EQUAL(note, "first");
	CU_ASSERT_STRING_EQUAL(one->record.note, "second");
	two = sqlite_cache_add(cache, "two");
	sqlite_cache_change(cache, two, NULL);
	CU_ASSERT_EQUAL(sqlite_cache_changes(cache), 2);
	CU_ASSERT_PTR_EQUAL(sqlite_cache_changed(cache), two);
	CU_ASSERT_PTR_EQUAL(sqlite_cache_changed(cache), one);
	CU_ASSERT_PTR_NULL(sqlite_cache_changed(cache));
	CU_ASSERT_PTR_EQUAL(sqlite_cache_find(cache, "one"), one);
	sqlite_cache_change(cache, one, NULL);
	CU_ASSERT(!one->exists && one->changed);
	sqlite_cache_clear(cache);
	CU_ASSERT_PTR_NULL(sqlite_cache_find(cache, "one"));
	CU_ASSERT_EQUAL(sqlite_cache_changes(cache), 0);
	sqlite_cache_free(&cache);
}

SUITE(store_sqlite,
    { "remembers", remembers },
    { "a file that is none", damaged },
    { "damaged pages", damaged_pages },
    { "an older file", old_file },
    { "what has expired", pruned },
    { "a locked file", locked },
    { "two that share it", shared },
    { "one that is never idle", fair },
    { "more than fits into memory", outgrown },
    { "records in memory", remember_changes })
