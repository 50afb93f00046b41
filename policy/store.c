/* The store in front of its back ends: health, counters. */
#include "policy/store.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/store_backend.h"

struct store {
	const struct store_backend *backend;
	void *state;
	int64_t budget_ms, shift_ms;
	bool away;
	struct counter *answers[3];
	struct counter *reachable;
	struct histogram *seconds;
};

static const struct store_backend *const backends[] = {
	[STORE_TYPE_SQLITE] = &store_sqlite,
	[STORE_TYPE_REDIS] = &store_redis,
};

static const struct counter_row counters[] = {
	{ "millgate_store_calls_total", COUNTER_TOTAL,
	    "Questions to the policy store." },
	{ "millgate_store_up", COUNTER_GAUGE,
	    "Whether the policy store answers." },
	{ "millgate_store_seconds", COUNTER_HISTOGRAM,
	    "Time that the policy store took for an answer." },
};
COUNTER_TABLE(counters)

struct store *
store_open(const struct conf *conf, const char *path, const char **why)
{
	static const char *const labels[] = {
		[ANSWER_NO] = "answer=\"no\"",
		[ANSWER_YES] = "answer=\"yes\"",
		[ANSWER_UNKNOWN] = "answer=\"unknown\"",
	};
	const struct store_options *options = conf_get(conf,
	    store_section.name);
	struct store *store;

	if ((store = calloc(1, sizeof(*store))) == NULL)
		fatal("out of memory (store)");
	for (size_t i = 0; i < 3; i++)
		store->answers[i] = counter_get("millgate_store_calls_total",
		    labels[i]);
	store->reachable = counter_get("millgate_store_up", NULL);
	store->seconds = histogram_get("millgate_store_seconds", NULL);
	counter_add(store->reachable, 1);
	store->budget_ms = options->budget;
	store->backend = backends[options->type];
	store->state = store->backend->open(store, conf, path, why);
	if (store->state == NULL)
		store_close(&store);
	return store;
}

void
store_close(struct store **storep)
{
	struct store *store = *storep;

	*storep = NULL;
	if (store == NULL)
		return;
	if (store->state != NULL)
		store->backend->close(store->state);
	if (!store->away)
		counter_add(store->reachable, -1);
	free(store);
}

void
store_away(struct store *store, const char *why)
{
	if (store->away)
		return;
	store->away = true;
	counter_add(store->reachable, -1);
	log_warn(NULL, "store=%s: no answer, mail passes without it: %s",
	    store->backend->name, why);
}

void
store_back(struct store *store)
{
	if (!store->away)
		return;
	store->away = false;
	counter_add(store->reachable, 1);
	log_info(NULL, "store=%s: answers again", store->backend->name);
}

static enum answer
count(struct store *store, int64_t begin_us, enum answer answer)
{
	counter_add(store->answers[answer], 1);
	histogram_observe(store->seconds, clock_us() - begin_us);
	return answer;
}

enum answer
store_run(struct store *store, const struct store_step *step,
    const char *const *keys, const int64_t *arguments,
    const char *const *texts, int64_t *results, const char **why)
{
	const struct store_call call = {
		.step = step, .keys = keys, .arguments = arguments,
		.texts = texts, .shift_ms = store->shift_ms,
		.deadline = task_deadline(store->budget_ms),
	};
	int64_t begin = clock_us();

	*why = "";
	return count(store, begin, store->backend->run(store->state, &call,
	    results, why));
}

static enum answer
forget_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record record;
	bool known = store_get(records, keys[0], &record);

	(void)a, (void)texts, (void)results;
	store_delete(records, keys[0]);
	return known ? ANSWER_YES : ANSWER_NO;
}

static const struct store_step forget_step = {
	.name = "forget",
	.keys = 1,
	.run = forget_run,
	.script =
	    "local known = get(k[1]) and 1 or 0\n"
	    "del(k[1])\n"
	    "return known\n",
};

enum answer
store_forget(struct store *store, const char *key, const char **why)
{
	return store_run(store, &forget_step, &key, NULL, NULL, NULL, why);
}

enum answer
store_read(struct store *store, const char *key, struct store_record *record,
    char note[], const char **why)
{
	int64_t begin = clock_us();
	enum answer answer;

	*why = "";
	*note = '\0';
	memset(record, 0, sizeof(*record));
	answer = store->backend->read(store->state, key, store->shift_ms,
	    task_deadline(store->budget_ms), record, note, why);
	record->note = note;
	return count(store, begin, answer);
}

enum answer
store_scan(struct store *store, const char *prefix,
    int (*f)(void *argument, const char *key, const struct store_record *),
    void *argument, const char **why)
{
	struct store_page *page;
	struct buf from = BUF_INIT;
	enum answer answer;
	int rc = 0;

	*why = "";
	if ((page = malloc(sizeof(*page))) == NULL)
		fatal("out of memory (store)");
	page->arena = arena_new(0);
	do {
		page->count = 0;
		arena_reset(page->arena);
		answer = store->backend->scan(store->state, prefix,
		    store->shift_ms, &from, page, why);
		for (size_t i = 0; rc == 0 && i < page->count; i++)
			rc = f(argument, page->rows[i].key,
			    &page->rows[i].record);
		task_yield();
	} while (rc == 0 && answer == ANSWER_YES);
	arena_free(&page->arena);
	free(page);
	buf_release(&from);
	return answer == ANSWER_UNKNOWN ? ANSWER_UNKNOWN : ANSWER_YES;
}

enum answer
store_tally_add(struct store *store, const struct store_tally *tally,
    const char **why)
{
	*why = "";
	return store->backend->tally_add(store->state, tally, why);
}

enum answer
store_tally_claim(struct store *store, const char *subject, bool now,
    int64_t lease_ms, struct buf *text, const char **why)
{
	*why = "";
	return store->backend->tally_claim(store->state, subject, now,
	    lease_ms, store->shift_ms, text, why);
}

enum answer
store_tally_done(struct store *store, const char *subject, int64_t begin_ms,
    int64_t id, const char **why)
{
	*why = "";
	return store->backend->tally_done(store->state, subject, begin_ms, id,
	    why);
}

enum answer
store_tally_list(struct store *store, struct buf *text, const char **why)
{
	*why = "";
	return store->backend->tally_list(store->state, text, why);
}

void
store_shift_clock(struct store *store, int64_t ms)
{
	store->shift_ms += ms;
}
