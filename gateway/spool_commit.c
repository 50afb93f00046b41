/*
 * The committer thread.
 *
 * Groups form a queue.  The last one gathers; the first is with the thread
 * while it runs.  A group speaks of one segment only, so that what the thread
 * writes into the header of the next segment (where this one ended) is known
 * by then.  Per group: one futex to wake the thread, one fdatasync, one write
 * to the eventfd, one read.
 *
 * After a failed fdatasync nothing is known of the pages written before: a
 * second call may report success although they were dropped ("fsyncgate").
 * So the segment is cut where it was last known good and never used again.
 */
#include "config.h"

#include "gateway/spool_commit.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/log.h"
#include "base/task.h"
#include "gateway/spool.h"
#include "gateway/spool_calls.h"

/* The loop's timers count milliseconds: it may be one. */
#define MOMENT_US 500
#define IMPATIENT_GROUPS 32

struct group {
	struct group *next;
	struct spool_segment *segment;	/* NULL: a file */
	uint64_t end;
	int fd, directory;		/* for a file */
	struct task_cond cond;
	bool finished;
	int error;			/* errno */
	unsigned waiters;
};

struct committer {
	struct committer_settings settings;
	pthread_t thread;
	sem_t work;
	int wake_fd;
	struct event *wake, *kick;
	struct group *first, **last;
	struct group *running;		/* the thread's until it wakes us */
	unsigned expected;		/* messages worth waiting for */
	unsigned impatient;		/* groups to come that don't wait */
	atomic_bool ready;		/* the thread is done with it */
	bool stop;
	uint64_t serial, committed;	/* newest that is good; thread's */
	uint64_t syncs;			/* thread's while it runs */
	uint64_t shown_serial, shown_committed, shown_syncs;
};

/*
 * The relay reads serial, committed, serial again.  With 0 in between it never
 * takes the one segment's end for the other's.
 */
static void
publish(struct committer *c)
{
	struct spool_tail *tail = c->settings.tail;
	uint64_t one = 1;

	if (tail != NULL) {
		if (__atomic_load_n(&tail->serial, __ATOMIC_RELAXED) !=
		    c->serial) {
			__atomic_store_n(&tail->committed, 0,
			    __ATOMIC_RELEASE);
			__atomic_store_n(&tail->serial, c->serial,
			    __ATOMIC_RELEASE);
		}
		__atomic_store_n(&tail->committed, c->committed,
		    __ATOMIC_RELEASE);
	}
	if (c->settings.doorbell_fd != -1 &&
	    write(c->settings.doorbell_fd, &one, sizeof(one)) == -1)
		return;		/* full: it rings already */
}

static int
sync_segment(struct committer *c, struct spool_segment *segment, uint64_t end)
{
	unsigned char bytes[SEGMENT_HEADER_SIZE];

	if (segment->synced == 0) {
		segment->header.previous = c->serial;
		segment->header.previous_end = c->committed;
		segment_header_encode(&segment->header, bytes);
		if (spool_write_all(segment->fd, bytes, sizeof(bytes), 0) != 0)
			return errno;
	}
	c->syncs++;
	if (spool_calls.fdatasync(segment->fd) == -1)
		return errno;
	if (segment->synced == 0 &&
	    spool_calls.fsync(c->settings.segments) == -1)
		return errno;
	segment->synced = end;
	c->serial = segment->header.serial;
	c->committed = end;
	publish(c);
	return 0;
}

static int
sync_file(struct committer *c, const struct group *group)
{
	c->syncs++;
	if (spool_calls.fdatasync(group->fd) == -1 ||
	    spool_calls.fsync(group->directory) == -1)
		return errno;
	return 0;
}

static void *
run(void *argument)
{
	struct committer *c = argument;
	uint64_t one = 1;

	for (;;) {
		while (sem_wait(&c->work) == -1)
			continue;
		if (c->stop)
			return NULL;
		c->running->error = c->running->segment == NULL ?
		    sync_file(c, c->running) :
		    sync_segment(c, c->running->segment, c->running->end);
		atomic_store_explicit(&c->ready, true, memory_order_release);
		while (write(c->wake_fd, &one, sizeof(one)) == -1 &&
		    errno == EINTR)
			continue;
	}
}

/* --- the loop's thread --- */

static void
start_next(struct committer *c)
{
	struct group *group = c->first;

	if (c->running != NULL || group == NULL)
		return;
	c->first = group->next;
	if (c->first == NULL)
		c->last = &c->first;
	c->running = group;
	if (group->segment != NULL)
		group->end = group->segment->end;
	sem_post(&c->work);
}

static void
on_kick(int fd, short what, void *argument)
{
	struct committer *c = argument;

	(void)fd;
	(void)what;
	if (c->running != NULL || c->first == NULL)
		return;
	/* They did not come back in time: don't wait for them for a while. */
	if (c->first->waiters < c->expected && c->impatient == 0)
		c->impatient = IMPATIENT_GROUPS;
	start_next(c);
}

/*
 * Starts the next group in the next turn of the loop, when the tasks that can
 * run now, such as those that this sync has woken, have appended.  With 32
 * tasks that commit all the time this makes groups of 32 instead of 16.
 *
 * Clients that send one message after another come back soon after they were
 * answered.  Where so many were seen to do so, the group waits for them, a
 * moment at most: few sessions then share a sync, too, instead of taking turns
 * in two halves.  Whoever sends alone never waits.
 */
static void
kick(struct committer *c)
{
	static const struct timeval at_once = { 0, 0 },
	    a_moment = { 0, MOMENT_US };

	if (c->running != NULL || c->first == NULL)
		return;
	if (c->first->waiters >= c->expected || c->impatient > 0)
		event_add(c->kick, &at_once);
	else if (!event_pending(c->kick, EV_TIMEOUT, NULL))
		event_add(c->kick, &a_moment);
}

/* How many commit at a time: those of this sync and those behind it. */
static void
count_waiters(struct committer *c, const struct group *group)
{
	c->expected = group->waiters + (c->first != NULL ?
	    c->first->waiters : 0);
	if (c->impatient > 0)
		c->impatient--;
}

static void
segment_abandon(struct spool_segment *segment)
{
	if (segment->failed)
		return;
	segment->failed = true;
	segment->closed = true;
	log_error(NULL, "spool: segment %s-%016llx failed, cut at %llu",
	    segment->header.writer,
	    (unsigned long long)segment->header.serial,
	    (unsigned long long)segment->committed);
	if (ftruncate(segment->fd, (off_t)segment->committed) == -1)
		log_error(NULL, "spool: cannot cut it: %s", strerror(errno));
}

static void
group_finish(struct committer *c, struct group *group)
{
	struct spool_segment *segment = group->segment;

	if (segment != NULL) {
		if (group->error != 0)
			segment_abandon(segment);
		if (--segment->groups == 0 && segment->closed)
			c->settings.done(segment, c->settings.argument);
	}
	if (segment == NULL)
		close(group->fd);
	group->finished = true;
	if (group->waiters == 0)
		free(group);
	else
		task_cond_broadcast(&group->cond);
}

/* What was gathered behind a failed sync stands in the same segment. */
static void
fail_queued(struct committer *c, const struct spool_segment *segment,
    int error)
{
	struct group *group;

	while ((group = c->first) != NULL && group->segment == segment) {
		c->first = group->next;
		if (c->first == NULL)
			c->last = &c->first;
		group->error = error;
		group_finish(c, group);
	}
}

static void
on_wake(int fd, short what, void *argument)
{
	struct committer *c = argument;
	struct group *group;
	uint64_t count;

	(void)what;
	if (read(fd, &count, sizeof(count)) == -1)
		return;
	if (!atomic_load_explicit(&c->ready, memory_order_acquire))
		return;
	atomic_store_explicit(&c->ready, false, memory_order_relaxed);
	group = c->running;
	c->running = NULL;
	c->shown_serial = c->serial;
	c->shown_committed = c->committed;
	c->shown_syncs = c->syncs;
	if (group->segment != NULL)
		group->segment->committed = group->segment->synced;
	if (group->error != 0 && group->segment != NULL) {
		/* Kept until those behind it are told. */
		group->segment->groups++;
		segment_abandon(group->segment);
		fail_queued(c, group->segment, group->error);
		group->segment->groups--;
	}
	count_waiters(c, group);
	group_finish(c, group);
	kick(c);
}

static struct group *
group_new(struct committer *c)
{
	struct group *group = calloc(1, sizeof(*group));

	assert(group != NULL);
	*c->last = group;
	c->last = &group->next;
	return group;
}

/* The group that gathers for this segment: the last, or a new one. */
static struct group *
group_for(struct committer *c, struct spool_segment *segment)
{
	struct group *group = c->first;

	while (group != NULL && group->next != NULL)
		group = group->next;
	if (group != NULL && group->segment == segment)
		return group;
	group = group_new(c);
	group->segment = segment;
	segment->groups++;
	return group;
}

static int
group_wait(struct committer *c, struct group *group, const char **why)
{
	int error;

	group->waiters++;
	kick(c);
	while (!group->finished &&
	    task_cond_wait(&group->cond, DEADLINE_NEVER) == 0)
		continue;
	group->waiters--;
	if (!group->finished) {
		*why = "cancelled";
		return 1;
	}
	error = group->error;
	if (group->waiters == 0)
		free(group);
	if (error == 0)
		return 0;
	*why = strerrordesc_np(error);
	return -1;
}

int
committer_wait(struct committer *c, struct spool_segment *segment,
    const char **why)
{
	return group_wait(c, group_for(c, segment), why);
}

int
committer_wait_file(struct committer *c, int fd, int directory,
    const char **why)
{
	struct group *group = group_new(c);

	group->fd = fd;
	group->directory = directory;
	return group_wait(c, group, why);
}

void
committer_position(const struct committer *c, uint64_t *serial,
    uint64_t *committed)
{
	*serial = c->shown_serial;
	*committed = c->shown_committed;
}

uint64_t
committer_syncs(const struct committer *c)
{
	return c->shown_syncs;
}

void
committer_drain(struct committer *c)
{
	struct pollfd wake = { .fd = c->wake_fd, .events = POLLIN };

	/* Not by the loop: this may be called on its stack, or cancelled. */
	for (start_next(c); c->running != NULL; start_next(c))
		if (poll(&wake, 1, -1) == 1)
			on_wake(c->wake_fd, EV_READ, c);
}

/* Signals are the loop's business. */
static int
thread_start(struct committer *c)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&c->thread, NULL, run, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

struct committer *
committer_new(const struct committer_settings *settings, const char **why)
{
	struct committer *c = calloc(1, sizeof(*c));
	int error;

	assert(c != NULL);
	c->settings = *settings;
	c->last = &c->first;
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd == -1) {
		*why = strerror(errno);
		free(c);
		return NULL;
	}
	c->wake = event_new(task_base(), c->wake_fd, EV_READ | EV_PERSIST,
	    on_wake, c);
	c->kick = event_new(task_base(), -1, 0, on_kick, c);
	assert(c->wake != NULL && c->kick != NULL);
	event_add(c->wake, NULL);
	sem_init(&c->work, 0, 0);
	if ((error = thread_start(c)) != 0) {
		*why = strerrordesc_np(error);
		event_free(c->wake);
		event_free(c->kick);
		close(c->wake_fd);
		sem_destroy(&c->work);
		free(c);
		return NULL;
	}
	return c;
}

void
committer_free(struct committer **cp)
{
	struct committer *c = *cp;

	if (c == NULL)
		return;
	committer_drain(c);
	assert(c->running == NULL && c->first == NULL);
	c->stop = true;
	sem_post(&c->work);
	pthread_join(c->thread, NULL);
	event_free(c->wake);
	event_free(c->kick);
	close(c->wake_fd);
	sem_destroy(&c->work);
	free(c);
	*cp = NULL;
}
