/* Destinations of the relay. */
#include "gateway/destination.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/route.h"

struct destinations {
	void *tree;			/* by key, <search.h> */
	struct destination *list;
	size_t count;
	struct destination *ready, **ready_last;
	uint32_t workers, workers_max;
	destination_run_f *run;
	bool draining;
	struct task_cond ended;
};

static int
compare(const void *a, const void *b)
{
	return strcmp(((const struct destination *)a)->key,
	    ((const struct destination *)b)->key);
}

struct destinations *
destinations_new(uint32_t workers_max, destination_run_f *run)
{
	struct destinations *all = calloc(1, sizeof(*all));

	if (all == NULL)
		fatal("out of memory");
	all->workers_max = workers_max;
	all->run = run;
	all->ready_last = &all->ready;
	return all;
}

static void
destination_free(struct destination *destination)
{
	struct destinations *all = destination->all;

	tdelete(destination, &all->tree, compare);
	if (destination->next != NULL)
		destination->next->previous = destination->previous;
	if (destination->previous != NULL)
		destination->previous->next = destination->next;
	else
		all->list = destination->next;
	all->count--;
	free((void *)(uintptr_t)destination->key);
	free((void *)(uintptr_t)destination->domain);
	free(destination->reason);
	free(destination);
}

void
destinations_free(struct destinations **allp)
{
	struct destinations *all = *allp;

	if (all == NULL)
		return;
	*allp = NULL;
	while (all->list != NULL)
		destination_free(all->list);
	free(all);
}

static char *
copy(const char *string)
{
	char *result = strdup(string);

	if (result == NULL)
		fatal("out of memory");
	return result;
}

struct destination *
destination_get(struct destinations *all, const char *key,
    const struct route *route, const char *domain)
{
	struct destination wanted = { .key = key }, *destination;
	struct destination **found = tfind(&wanted, &all->tree, compare);

	if (found != NULL)
		return *found;
	if ((destination = calloc(1, sizeof(*destination))) == NULL)
		fatal("out of memory");
	destination->key = copy(key);
	destination->domain = domain != NULL ? copy(domain) : NULL;
	destination->route = route;
	destination->all = all;
	destination->last = &destination->first;
	destination->used_ms = task_now();
	window_init(&destination->window, route->connections);
	if (tsearch(destination, &all->tree, compare) == NULL)
		fatal("out of memory");
	if ((destination->next = all->list) != NULL)
		all->list->previous = destination;
	all->list = destination;
	all->count++;
	return destination;
}

/* One more worker would have something to do. */
static bool
wants_worker(struct destination *destination)
{
	return !destination->all->draining &&
	    destination->waiting > destination->idle &&
	    destination->workers < destination->window.limit &&
	    !destination_suspended(destination);
}

static void
make_ready(struct destination *destination)
{
	struct destinations *all = destination->all;

	if (destination->ready)
		return;
	destination->ready = true;
	destination->next_ready = NULL;
	*all->ready_last = destination;
	all->ready_last = &destination->next_ready;
}

static void worker_run(void *);

/* Hands out workers, one each in turn. */
static void
start_workers(struct destinations *all)
{
	struct destination *destination;

	while (all->workers < all->workers_max &&
	    (destination = all->ready) != NULL) {
		all->ready = destination->next_ready;
		if (all->ready == NULL)
			all->ready_last = &all->ready;
		destination->ready = false;
		if (!wants_worker(destination))
			continue;
		all->workers++;
		destination->workers++;
		task_detach("delivery", worker_run, destination);
		/* It takes one job; are there more than that? */
		if (destination->waiting > destination->workers &&
		    wants_worker(destination))
			make_ready(destination);
	}
}

static void
worker_run(void *argument)
{
	struct destination *destination = argument;
	struct destinations *all = destination->all;

	all->run(destination);
	destination->used_ms = task_now();
	destination->workers--;
	all->workers--;
	if (wants_worker(destination))
		make_ready(destination);
	start_workers(all);
	if (all->workers == 0)
		task_cond_broadcast(&all->ended);
}

void
destination_push(struct destination *destination, struct destination_job *job)
{
	job->next = NULL;
	*destination->last = job;
	destination->last = &job->next;
	destination->waiting++;
	if (destination->waiting <= destination->idle) {
		task_cond_signal(&destination->work);
		return;
	}
	if (!wants_worker(destination))
		return;
	make_ready(destination);
	start_workers(destination->all);
}

static struct destination_job *
pop(struct destination *destination)
{
	struct destination_job *job = destination->first;

	if (job == NULL)
		return NULL;
	if ((destination->first = job->next) == NULL)
		destination->last = &destination->first;
	destination->waiting--;
	job->next = NULL;
	return job;
}

struct destination_job *
destination_next(struct destination *destination, int64_t idle_ms,
    unsigned turn)
{
	struct destinations *all = destination->all;
	struct destination_job *job;

	if (all->draining || destination_suspended(destination) ||
	    destination->workers > destination->window.limit)
		return NULL;
	if (all->ready != NULL && all->workers >= all->workers_max &&
	    turn >= DESTINATION_TURN)
		return NULL;
	if ((job = pop(destination)) != NULL)
		return job;
	if (idle_ms <= 0 || all->ready != NULL)
		return NULL;
	/*
	 * It counts as idle until it has run again, and looks for a job even
	 * after the deadline: one may have come in between for its sake.
	 */
	destination->idle++;
	task_cond_wait(&destination->work, task_deadline(idle_ms));
	destination->idle--;
	if (all->draining || destination_suspended(destination))
		return NULL;
	return pop(destination);
}

struct destination_job *
destination_take(struct destination *destination)
{
	struct destination_job *list = destination->first;

	destination->first = NULL;
	destination->last = &destination->first;
	destination->waiting = 0;
	return list;
}

struct destination_job *
destination_pick(struct destination *destination,
    bool (*is_wanted)(const struct destination_job *, const void *),
    const void *argument)
{
	struct destination_job *list = NULL, *job;

	destination->last = &destination->first;
	while ((job = *destination->last) != NULL) {
		if (!is_wanted(job, argument)) {
			destination->last = &job->next;
			continue;
		}
		*destination->last = job->next;
		destination->waiting--;
		job->next = list;
		list = job;
	}
	return list;
}

void
destination_suspend(struct destination *destination, int64_t until,
    const char *reason)
{
	destination->suspended_until = until;
	destination->suspensions++;
	free(destination->reason);
	destination->reason = copy(reason);
}

void
destination_resume(struct destination *destination)
{
	destination->suspended_until = 0;
	window_probe(&destination->window);
}

bool
destination_suspended(struct destination *destination)
{
	if (destination->suspended_until == 0)
		return false;
	if (task_now() < destination->suspended_until)
		return true;
	destination_resume(destination);
	return false;
}

void
destinations_sweep(struct destinations *all, int64_t unused_ms)
{
	struct destination *next;

	for (struct destination *d = all->list; d != NULL; d = next) {
		next = d->next;
		if (d->workers == 0 && d->waiting == 0 && !d->ready &&
		    d->suspended_until == 0 &&
		    task_now() - d->used_ms > unused_ms)
			destination_free(d);
	}
}

void
destinations_each(struct destinations *all,
    void (*f)(struct destination *, void *), void *argument)
{
	struct destination *next;

	for (struct destination *d = all->list; d != NULL; d = next) {
		next = d->next;
		f(d, argument);
	}
}

void
destinations_drain(struct destinations *all)
{
	all->draining = true;
	for (struct destination *d = all->list; d != NULL; d = d->next)
		task_cond_broadcast(&d->work);
}

int
destinations_wait(struct destinations *all, int64_t deadline)
{
	while (all->workers > 0)
		if (task_cond_wait(&all->ended, deadline) == -1)
			return -1;
	return 0;
}

size_t
destinations_count(const struct destinations *all)
{
	return all->count;
}

uint32_t
destinations_workers(const struct destinations *all)
{
	return all->workers;
}
