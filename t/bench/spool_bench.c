/*
 * How many messages a second the spool takes, and what a message costs:
 *	spool_bench [directory [messages [tasks [size]]]]
 * Then how long a start takes with all of them queued, and how fast the relay
 * reads and finishes them.
 */
#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/task.h"
#include "gateway/queue.h"
#include "gateway/spool.h"
#include "t/bench/figures.h"

static const char *directory = "/var/tmp/spool_bench";
static unsigned messages = 100000, tasks = 32;
static size_t size = 5000;

static struct spool_tail tails[1];
static struct spool *spool;
static char *content;
static unsigned begun, running;
static size_t found;

static void
fail(const char *what, const char *why)
{
	fprintf(stderr, "spool_bench: %s: %s\n", what, why);
	exit(1);
}

static void
commit_task(void *argument)
{
	struct recipient recipient = { .address = "somebody@example.org" };
	struct envelope envelope = { .sender = "sender@example.com",
		.client = "mx.example.com[192.0.2.1]",
		.recipients = &recipient };
	struct slice slices[4];
	const char *why;

	(void)argument;
	for (size_t i = 0; i < 4; i++)
		slices[i] = (struct slice){ .data = content + i * (size / 4),
			.len = size / 4 };
	while (begun < messages) {
		snprintf(envelope.id, sizeof(envelope.id), "m%u", begun++);
		if (spool_commit(spool, &envelope, slices, 4, &why) != 0)
			fail("commit", why);
	}
	if (--running == 0)
		task_stop();
}

static void
on_found(struct queue_entry *entry, void *argument)
{
	(void)entry;
	(void)argument;
	found++;
}

static void
deliver(struct queue_entry *entry, void *argument)
{
	struct queue *queue = argument;
	struct arena *arena = arena_new(0);
	struct queue_message *m;
	const char *why;

	if ((m = queue_get(queue, entry, arena, &why)) == NULL)
		fail("get", why);
	queue_record(queue, entry, m->envelope.recipients->address,
	    QUEUE_DELIVERED, 0);
	queue_put(queue, &m);
	arena_free(&arena);
}

static void
bench_commit(void)
{
	struct spool_settings settings = { .directory = directory,
		.writer = "g0", .segment_size = 64 << 20,
		.large_size = 1 << 20, .tail = &tails[0], .doorbell_fd = -1 };
	double wall, used;
	uint64_t syncs, count;
	const char *why;

	if (spool_prepare(directory, &why) != 0 ||
	    (spool = spool_open(&settings, &why)) == NULL)
		fail(directory, why);
	wall = figures_now();
	used = figures_cpu();
	running = tasks;
	for (unsigned i = 0; i < tasks; i++)
		task_detach("commit", commit_task, NULL);
	task_loop();
	wall = figures_now() - wall;
	used = figures_cpu() - used;
	spool_statistics(spool, &syncs, &count);
	printf("commit: %.0f messages/s, %.1f messages/sync, %.2f ms/sync, "
	    "%.1f us CPU/message\n", count / wall, (double)count /
	    (double)syncs, wall * 1e3 / (double)syncs,
	    used * 1e6 / (double)count);
	spool_close(&spool);
}

static void
bench_queue(void)
{
	struct queue_settings settings = { .directory = directory,
		.tails = tails, .tail_count = 1 };
	const char *why;
	double wall = figures_now();
	struct queue *queue = queue_open(&settings, on_found, NULL, &why);

	if (queue == NULL)
		fail("queue", why);
	printf("start: %zu messages in %.0f ms\n", found,
	    (figures_now() - wall) * 1e3);
	wall = figures_now();
	queue_each(queue, deliver, queue);
	wall = figures_now() - wall;
	printf("read and record: %.1f us/message\n",
	    wall * 1e6 / (double)found);
	wall = figures_now();
	queue_maintain(queue);
	printf("unlink: %.0f ms\n", (figures_now() - wall) * 1e3);
	if (queue_count(queue) != 0 || found != messages)
		fail("queue", "not all were there");
	queue_close(&queue);
}

int
main(int argc, char **argv)
{
	if (argc > 1)
		directory = argv[1];
	if (argc > 2)
		messages = (unsigned)atoi(argv[2]);
	if (argc > 3)
		tasks = (unsigned)atoi(argv[3]);
	if (argc > 4)
		size = (size_t)atoi(argv[4]);
	if ((content = malloc(size + 1)) == NULL)
		return 1;
	memset(content, 'x', size);
	task_init();
	bench_commit();
	bench_queue();
	task_shutdown();
	free(content);
	return 0;
}
