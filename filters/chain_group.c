/*
 * Groups: filters that are asked at the same time.  What comes of it depends
 * on their order alone: the first final verdict in it counts, so it waits for
 * those before it, while those behind it need not be waited for.
 */
#include <string.h>

#include "base/clock.h"
#include "filters/chain_run.h"

size_t
chain_group_end(const struct chain_plan *plan, size_t from)
{
	const char *group = plan->entries[from].group;
	size_t end = from + 1;

	while (group != NULL && end < plan->count &&
	    plan->entries[end].group != NULL &&
	    strcmp(plan->entries[end].group, group) == 0)
		end++;
	return end;
}

/* Before MAIL there is nothing to discard. */
static bool
decides(const struct chain_run *r)
{
	return chain_is_final(r->verdict) &&
	    (r->verdict.action != ACTION_DISCARD || r->run.mail != NULL);
}

/* While the message arrives, the filter waits and takes no time. */
static void
call(struct chain_run *r)
{
	const struct chain *chain = r->chain;
	bool early = r->run.mail != NULL && r->asked ==
	    r->entry->filter->consult && chain->complete_us == 0;
	int64_t begin = clock_us(), end;

	r->verdict = r->asked(&r->run);
	end = clock_us();
	if (early)
		begin = chain->complete_us != 0 ? chain->complete_us : end;
	r->spent_us += end - begin;
}

/* As a task.  Nobody wants to know what those behind a decision think. */
static void
answer(void *argument)
{
	struct chain_run *r = argument;
	struct chain *chain = r->chain;
	size_t at = (size_t)(r - chain->runs);
	size_t end = chain_group_end(chain->plan, at);

	call(r);
	while (decides(r) && ++at < end)
		if (chain->runs[at].task != NULL)
			task_cancel(chain->runs[at].task);
}

static void
give_up(struct chain_run *r)
{
	task_reap(&r->task);
	r->verdict = VERDICT_CONTINUE;
	r->asked = NULL;
}

void
chain_ask_start(struct chain_run *r)
{
	r->verdict = VERDICT_CONTINUE;
	r->task = task_start(r->run.name, answer, r);
}

void
chain_ask(struct chain *chain, size_t from, size_t to, int64_t deadline)
{
	struct chain_run *r = chain->runs + from, *end = chain->runs + to;
	bool alone = to - from == 1;

	for (; r < end; r++) {
		if (r->task != NULL)
			continue;
		r->verdict = VERDICT_CONTINUE;
		if (r->asked != NULL && !alone)
			chain_ask_start(r);
		else if (r->asked != NULL)
			call(r);
	}
	for (r = chain->runs + from; r < end; r++) {
		if (task_join(&r->task, deadline) == -1)
			task_reap(&r->task);
		r->asked = NULL;
		if (decides(r))
			break;
	}
	while (r < end && ++r < end)
		give_up(r);
}
