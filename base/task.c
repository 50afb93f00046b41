/*
 * Tasks: fibers that wait for events of a libevent loop.
 *
 * Whatever ends a wait (an event, a deadline, a cancellation) only puts the
 * task on the list of runnable ones; task_loop() runs them between the turns
 * of libevent.  What woke a task first counts, and is the result of its wait.
 *
 * Deadlines are kept in one heap, lazily: a wait that ends early leaves its
 * entry there, and the next wait of the same task uses it again if its
 * deadline is no earlier.  An entry that comes up too early is put back.  A
 * session thus makes thousands of waits for a few operations on the heap.
 */
#include "base/task.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fiber.h"
#include "base/log.h"
#include "base/task_internal.h"

/* So many tasks run before libevent gets to look for I/O. */
#define RUNS_PER_TURN 64

struct task {
	const char *name;
	task_f *run;
	void *argument;
	struct fiber *fiber;		/* NULL before it first runs */
	struct task *next;		/* runnable */
	struct task *joiner;
	int64_t deadline;		/* of the present wait */
	int64_t timer_at;		/* the key in the heap, <= deadline */
	size_t heap_index;		/* 0: not in the heap */
	int result;			/* of the present wait: an errno */
	bool waiting;
	bool cancelled;
	bool detached;
	bool ended;
};

static _Thread_local struct {
	struct event_base *base;
	struct event *timer;
	struct task *running;
	struct task *first, **last;	/* runnable */
	struct task **heap;		/* heap[1] is the earliest */
	size_t heap_count, heap_size;
	int64_t armed_at;		/* when the timer fires, or NEVER */
	int64_t now;			/* 0: ask the clock */
	size_t count;
	int watched;			/* events of struct task_fd */
	bool yielded;
	bool stopped;
} loop;

/* --- runnable tasks --- */

static void
make_runnable(struct task *task)
{
	task->next = NULL;
	*loop.last = task;
	loop.last = &task->next;
}

void
task_wake(struct task *task, int result)
{
	if (!task->waiting)
		return;
	task->waiting = false;
	task->result = result;
	make_runnable(task);
}

/* --- deadlines --- */

static void
heap_put(size_t i, struct task *task)
{
	loop.heap[i] = task;
	task->heap_index = i;
}

static void
heap_up(size_t i, struct task *task)
{
	while (i > 1 && loop.heap[i / 2]->timer_at > task->timer_at) {
		heap_put(i, loop.heap[i / 2]);
		i /= 2;
	}
	heap_put(i, task);
}

static void
heap_down(size_t i, struct task *task)
{
	size_t child;

	while ((child = 2 * i) <= loop.heap_count) {
		if (child < loop.heap_count && loop.heap[child + 1]->timer_at <
		    loop.heap[child]->timer_at)
			child++;
		if (loop.heap[child]->timer_at >= task->timer_at)
			break;
		heap_put(i, loop.heap[child]);
		i = child;
	}
	heap_put(i, task);
}

static void
heap_remove(struct task *task)
{
	size_t i = task->heap_index;
	struct task *last;

	if (i == 0)
		return;
	task->heap_index = 0;
	last = loop.heap[loop.heap_count--];
	if (last == task)
		return;
	if (i > 1 && loop.heap[i / 2]->timer_at > last->timer_at)
		heap_up(i, last);
	else
		heap_down(i, last);
}

static void
heap_insert(struct task *task)
{
	if (loop.heap_count + 1 >= loop.heap_size) {
		loop.heap_size = loop.heap_size == 0 ? 64 : 2 * loop.heap_size;
		loop.heap = realloc(loop.heap,
		    loop.heap_size * sizeof(struct task *));
		if (loop.heap == NULL)
			fatal("out of memory (%zu deadlines)", loop.heap_size);
	}
	heap_up(++loop.heap_count, task);
}

static void
want_timer(struct task *task, int64_t deadline)
{
	task->deadline = deadline;
	if (deadline == DEADLINE_NEVER)
		return;
	if (task->heap_index == 0) {
		task->timer_at = deadline;
		heap_insert(task);
	} else if (deadline < task->timer_at) {
		task->timer_at = deadline;
		heap_up(task->heap_index, task);
	}
}

/* Before libevent waits: have it wake up for the earliest deadline. */
static void
arm_timer(void)
{
	struct timeval tv;
	int64_t at, ms;

	if (loop.heap_count == 0) {
		if (loop.armed_at != DEADLINE_NEVER)
			event_del(loop.timer);
		loop.armed_at = DEADLINE_NEVER;
		return;
	}
	at = loop.heap[1]->timer_at;
	if (at >= loop.armed_at)
		return;
	ms = at - task_now();
	if (ms < 0)
		ms = 0;
	tv.tv_sec = (time_t)(ms / 1000);
	tv.tv_usec = (suseconds_t)(ms % 1000 * 1000);
	if (event_add(loop.timer, &tv) != 0)
		fatal("task: cannot arm the timer");
	loop.armed_at = at;
}

static void
on_timer(evutil_socket_t fd, short what, void *argument)
{
	int64_t now = task_now();
	struct task *task;

	(void)fd, (void)what, (void)argument;
	loop.armed_at = DEADLINE_NEVER;
	while (loop.heap_count > 0 && loop.heap[1]->timer_at <= now) {
		task = loop.heap[1];
		if (task->waiting && task->deadline > now &&
		    task->deadline != DEADLINE_NEVER) {
			task->timer_at = task->deadline;
			heap_down(1, task);
			continue;
		}
		heap_remove(task);
		if (task->deadline <= now)
			task_wake(task, ETIMEDOUT);
	}
}

int64_t
task_now(void)
{
	struct timespec ts;

	if (loop.now == 0) {
		clock_gettime(CLOCK_MONOTONIC, &ts);
		loop.now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
	}
	return loop.now;
}

int64_t
task_deadline(int64_t ms)
{
	if (ms < 0 || ms >= DEADLINE_NEVER - task_now())
		return DEADLINE_NEVER;
	return task_now() + ms;
}

/* --- waiting --- */

bool
task_is_waiting(const struct task *task)
{
	return task->waiting;
}

void
task_watch(int events)
{
	loop.watched += events;
}

/* Until something wakes the running task: 0 or an errno. */
static int
park(int64_t deadline)
{
	struct task *task = loop.running;

	if (deadline <= task_now())
		return ETIMEDOUT;
	want_timer(task, deadline);
	task->waiting = true;
	fiber_suspend();
	return task->result;
}

int
task_wait_until(int64_t deadline)
{
	int error;

	if (loop.running == NULL)
		fatal("task: a wait outside of tasks");
	error = loop.running->cancelled ? ECANCELED : park(deadline);
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

int
task_sleep(int64_t ms)
{
	if (ms == 0) {
		task_yield();
		return 0;
	}
	if (task_wait_until(task_deadline(ms)) == 0 || errno == ETIMEDOUT)
		return 0;
	return -1;
}

void
task_yield(void)
{
	if (loop.running == NULL)
		return;
	loop.yielded = true;
	make_runnable(loop.running);
	fiber_suspend();
}

/* --- the life of a task --- */

static struct task *
task_new(const char *name, task_f *run, void *argument, bool detached)
{
	struct task *task;

	if (loop.base == NULL)
		fatal("task: %s started before task_init()", name);
	if ((task = calloc(1, sizeof(*task))) == NULL)
		fatal("out of memory (task %s)", name);
	task->name = name;
	task->run = run;
	task->argument = argument;
	task->detached = detached;
	loop.count++;
	make_runnable(task);
	return task;
}

struct task *
task_start(const char *name, task_f *run, void *argument)
{
	return task_new(name, run, argument, false);
}

void
task_detach(const char *name, task_f *run, void *argument)
{
	task_new(name, run, argument, true);
}

static void
task_main(void *argument)
{
	struct task *task = argument;

	task->run(task->argument);
}

static void
task_ended(struct task *task)
{
	heap_remove(task);
	task->fiber = NULL;
	task->ended = true;
	loop.count--;
	if (task->detached)
		free(task);
	else if (task->joiner != NULL)
		task_wake(task->joiner, 0);
}

static void
task_run(struct task *task)
{
	bool alive;

	if (task->fiber == NULL)
		task->fiber = fiber_get(task_main, task);
	if (task->fiber == NULL)
		fatal("task: no stack for %s: %s (%zu tasks)", task->name,
		    strerror(errno), loop.count);
	loop.running = task;
	alive = fiber_resume(task->fiber);
	loop.running = NULL;
	if (!alive)
		task_ended(task);
}

static void
claim(struct task *task)
{
	if (task->joiner != NULL)
		fatal("task: %s is joined twice", task->name);
	if (task == loop.running)
		fatal("task: %s joins itself", task->name);
	task->joiner = loop.running;
}

int
task_join(struct task **taskp, int64_t deadline)
{
	struct task *task = *taskp;

	if (task == NULL)
		return 0;
	if (!task->ended) {
		claim(task);
		task_wait_until(deadline);
		task->joiner = NULL;
		if (!task->ended)
			return -1;
	}
	free(task);
	*taskp = NULL;
	return 0;
}

void
task_reap(struct task **taskp)
{
	struct task *task = *taskp;

	if (task == NULL)
		return;
	if (!task->ended) {
		if (loop.running == NULL)
			fatal("task: %s reaped outside of tasks", task->name);
		task_cancel(task);
		claim(task);
		while (!task->ended)
			park(DEADLINE_NEVER);
	}
	free(task);
	*taskp = NULL;
}

void
task_cancel(struct task *task)
{
	task->cancelled = true;
	task_wake(task, ECANCELED);
}

struct task *
task_self(void)
{
	return loop.running;
}

size_t
task_count(void)
{
	return loop.count;
}

/* --- the loop --- */

static void
on_libevent_message(int severity, const char *text)
{
	if (severity >= EVENT_LOG_WARN)
		log_warn(NULL, "libevent: %s", text);
}

void
task_init(void)
{
	struct event_config *config;

	if (loop.base != NULL)
		fatal("task: task_init() twice");
	memset(&loop, 0, sizeof(loop));
	loop.last = &loop.first;
	loop.armed_at = DEADLINE_NEVER;
	event_set_log_callback(on_libevent_message);
	if ((config = event_config_new()) == NULL)
		fatal("out of memory");
	event_config_require_features(config,
	    EV_FEATURE_ET | EV_FEATURE_EARLY_CLOSE);
	/* The loop has one thread: what others wake it by is a descriptor. */
	event_config_set_flag(config,
	    EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
	loop.base = event_base_new_with_config(config);
	event_config_free(config);
	if (loop.base == NULL)
		fatal("task: cannot set up the event loop");
	if ((loop.timer = evtimer_new(loop.base, on_timer, NULL)) == NULL)
		fatal("out of memory");
}

void
task_shutdown(void)
{
	if (loop.count > 0)
		fatal("task: shutdown with %zu tasks left", loop.count);
	fiber_release_pool();
	event_free(loop.timer);
	event_base_free(loop.base);
	free(loop.heap);
	memset(&loop, 0, sizeof(loop));
}

struct event_base *
task_base(void)
{
	return loop.base;
}

/*
 * Runs what is runnable, and what becomes runnable by that, up to a bound:
 * tasks that wake each other don't pay for a look at I/O each time.
 */
static void
run_tasks(void)
{
	struct task *round, *task;
	size_t runs = 0;

	loop.yielded = false;
	while (loop.first != NULL && !loop.yielded && runs < RUNS_PER_TURN) {
		round = loop.first;
		loop.first = NULL;
		loop.last = &loop.first;
		while ((task = round) != NULL) {
			round = task->next;
			task_run(task);
			runs++;
		}
	}
}

/* Descriptors without a task that waits for them are nothing to wait for. */
static bool
nothing_left(void)
{
	return loop.count == 0 && event_base_get_num_events(loop.base,
	    EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE) <= loop.watched;
}

void
task_loop(void)
{
	int rc;

	if (loop.running != NULL)
		fatal("task: the loop run by a task");
	log_gather(true);
	while (!loop.stopped) {
		loop.now = 0;
		run_tasks();
		if (loop.stopped)
			break;
		loop.now = 0;
		arm_timer();
		if (nothing_left())
			break;
		log_flush();
		loop.now = 0;	/* asked again by the callbacks, after a wait */
		rc = event_base_loop(loop.base, loop.first != NULL ?
		    EVLOOP_ONCE | EVLOOP_NONBLOCK : EVLOOP_ONCE);
		if (rc < 0)
			fatal("task: the event loop failed: %s",
			    strerror(errno));
		if (rc == 1 && loop.first == NULL)
			break;
	}
	log_gather(false);
	loop.stopped = false;
}

void
task_stop(void)
{
	loop.stopped = true;
}
