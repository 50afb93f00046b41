/* Fairness among destinations, limits, suspension. */
#include "gateway/destination.h"

#include <string.h>

#include "base/buf.h"
#include "gateway/route.h"
#include "t/unit/unit.h"

static struct destinations *all;
static struct buf done;			/* keys' first letters, in order */
static uint32_t most;			/* workers at a time */
static int64_t idle_ms;

/* A delivery that takes a turn of the loop. */
static void
work(struct destination *destination)
{
	for (unsigned turn = 0; destination_next(destination, idle_ms, turn)
	    != NULL; turn++) {
		if (destinations_workers(all) > most)
			most = destinations_workers(all);
		task_yield();
		buf_putc(&done, destination->key[0]);
	}
}

static void
begin(uint32_t workers)
{
	task_init();
	all = destinations_new(workers, work);
	buf_reset(&done);
	most = 0;
	idle_ms = 0;
}

static void
end(void)
{
	destinations_free(&all);
	task_shutdown();
	buf_release(&done);
}

static const struct route route = { .pattern = "*", .connections = 4 };

static void
delivers_all(void)
{
	static struct destination_job jobs[100];
	struct destination *a;

	begin(10);
	a = destination_get(all, "a", &route, NULL);
	CU_ASSERT_PTR_EQUAL(destination_get(all, "a", &route, NULL), a);
	for (size_t i = 0; i < 100; i++)
		destination_push(a, &jobs[i]);
	task_loop();
	CU_ASSERT_EQUAL(done.len, 100);
	CU_ASSERT_EQUAL(most, 4);
	CU_ASSERT_EQUAL(a->workers, 0);
	CU_ASSERT_EQUAL(a->waiting, 0);
	end();
}

/* A thousand messages to one do not keep ten to another waiting. */
static void
starves_none(void)
{
	static struct destination_job many[1000], few[10], other[10];
	struct destination *a, *b, *c;
	size_t seen = 0;

	begin(2);
	a = destination_get(all, "a", &route, NULL);
	b = destination_get(all, "b", &route, NULL);
	c = destination_get(all, "c", &route, NULL);
	for (size_t i = 0; i < 1000; i++)
		destination_push(a, &many[i]);
	for (size_t i = 0; i < 10; i++) {
		destination_push(b, &few[i]);
		destination_push(c, &other[i]);
	}
	task_loop();
	CU_ASSERT_EQUAL(done.len, 1020);
	CU_ASSERT_EQUAL(most, 2);
	for (size_t i = 0; i < 120; i++)
		seen += done.data[i] != 'a';
	CU_ASSERT_EQUAL(seen, 20);
	end();
}

static void
idle_takes(void *argument)
{
	static struct destination_job jobs[3];
	struct destination *a = argument;

	for (size_t i = 0; i < 3; i++) {
		destination_push(a, &jobs[i]);
		while (done.len < i + 1)
			task_yield();
		task_yield();
		/* The same worker waits for the next. */
		CU_ASSERT_EQUAL(a->workers, 1);
		CU_ASSERT_EQUAL(a->idle, 1);
	}
	destinations_drain(all);
	CU_ASSERT_EQUAL(destinations_wait(all, task_deadline(1000)), 0);
}

static void
keeps_an_idle_worker(void)
{
	begin(10);
	idle_ms = 5000;
	task_detach("pusher", idle_takes, destination_get(all, "a", &route,
	    NULL));
	task_loop();
	CU_ASSERT_EQUAL(done.len, 3);
	end();
}

static void
suspends(void)
{
	static struct destination_job jobs[3];
	struct destination *a;

	begin(10);
	a = destination_get(all, "a", &route, NULL);
	destination_suspend(a, task_now() + 60000, "down");
	CU_ASSERT_TRUE(destination_suspended(a));
	for (size_t i = 0; i < 3; i++)
		destination_push(a, &jobs[i]);
	task_loop();
	CU_ASSERT_EQUAL(done.len, 0);
	CU_ASSERT_PTR_EQUAL(destination_take(a), &jobs[0]);
	CU_ASSERT_EQUAL(a->waiting, 0);
	/* Its time has come: one worker probes. */
	destination_suspend(a, task_now(), "down");
	CU_ASSERT_FALSE(destination_suspended(a));
	CU_ASSERT_EQUAL(a->window.limit, 1);
	for (size_t i = 0; i < 3; i++)
		destination_push(a, &jobs[i]);
	task_loop();
	CU_ASSERT_EQUAL(done.len, 3);
	CU_ASSERT_EQUAL(most, 1);
	/* What is suspended is remembered, the rest forgotten. */
	destination_get(all, "b", &route, NULL);
	destination_suspend(a, task_now() + 60000, "down");
	CU_ASSERT_EQUAL(destinations_count(all), 2);
	destinations_sweep(all, -1);
	CU_ASSERT_EQUAL(destinations_count(all), 1);
	end();
}

SUITE(destination, { "delivers all", delivers_all },
    { "starves none", starves_none },
    { "keeps an idle worker", keeps_an_idle_worker },
    { "suspends", suspends })
