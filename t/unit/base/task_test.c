#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/task.h"
#include "t/unit/unit.h"

static struct buf trace = BUF_INIT;

/* Runs one task on a fresh loop, until nothing is left. */
static void
run(task_f *f, void *argument)
{
	task_init();
	task_detach("test", f, argument);
	task_loop();
	CU_ASSERT_EQUAL(task_count(), 0);
	task_shutdown();
}

#define TRACE_ASSERT(want) do {						\
	buf_putc(&trace, ' ');						\
	trace.data[trace.len - 1] = '\0';				\
	CU_ASSERT_STRING_EQUAL(trace.data, want);			\
	buf_release(&trace);						\
} while (0)

/* --- order, join --- */

static void
say(void *argument)
{
	const char *text = argument;

	for (; *text != '\0'; text++) {
		buf_putc(&trace, *text);
		task_yield();
	}
}

static void
order_body(void *argument)
{
	char digits[] = "123", letters[] = "abc";
	struct task *a, *b, *none = NULL;

	(void)argument;
	a = task_start("a", say, digits);
	b = task_start("b", say, letters);
	buf_putc(&trace, '<');
	CU_ASSERT_EQUAL(task_count(), 3);
	CU_ASSERT_EQUAL(task_join(&a, DEADLINE_NEVER), 0);
	CU_ASSERT_EQUAL(task_join(&b, DEADLINE_NEVER), 0);
	CU_ASSERT_PTR_NULL(a);
	CU_ASSERT_EQUAL(task_join(&none, DEADLINE_NEVER), 0);
	CU_ASSERT_PTR_NOT_NULL(task_self());
	buf_putc(&trace, '>');
}

static void
runs_in_order(void)
{
	CU_ASSERT_PTR_NULL(task_self());
	run(order_body, NULL);
	CU_ASSERT_PTR_NULL(task_self());
	TRACE_ASSERT("<1a2b3c>");
}

static void
sleep_a_little(void *argument)
{
	CU_ASSERT_EQUAL(task_sleep(*(int *)argument), 0);
}

static void
join_body(void *argument)
{
	int ms = 5;
	struct task *t = task_start("sleeper", sleep_a_little, &ms);

	(void)argument;
	CU_ASSERT_EQUAL(task_join(&t, task_deadline(1)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	CU_ASSERT_PTR_NOT_NULL(t);
	CU_ASSERT_EQUAL(task_join(&t, task_now()), -1);
	CU_ASSERT_EQUAL(task_join(&t, DEADLINE_NEVER), 0);
	CU_ASSERT_PTR_NULL(t);
}

static void
joins_by_a_deadline(void)
{
	run(join_body, NULL);
}

/* --- cancel --- */

static int canceled;

static void
sleep_long(void *argument)
{
	struct task_cond *cond = argument;

	if (cond != NULL)
		CU_ASSERT_EQUAL(task_cond_wait(cond, DEADLINE_NEVER), -1)
	else
		CU_ASSERT_EQUAL(task_sleep(-1), -1);
	CU_ASSERT_EQUAL(errno, ECANCELED);
	CU_ASSERT_EQUAL(task_sleep(1), -1);
	CU_ASSERT_EQUAL(errno, ECANCELED);
	task_yield();
	canceled++;
}

/* Cancelled, and still bound to see the end of its own task. */
static void
has_a_child(void *argument)
{
	struct task *child = task_start("child", sleep_long, NULL);

	(void)argument;
	CU_ASSERT_EQUAL(task_join(&child, DEADLINE_NEVER), -1);
	CU_ASSERT_EQUAL(errno, ECANCELED);
	CU_ASSERT_EQUAL(task_join(&child, DEADLINE_NEVER), -1);
	task_reap(&child);
	CU_ASSERT_PTR_NULL(child);
	canceled++;
}

static void
cancel_body(void *argument)
{
	struct task_cond cond = { 0 };
	struct task *tasks[] = {
		task_start("sleeps", sleep_long, NULL),
		task_start("waits", sleep_long, &cond),
		task_start("joins", has_a_child, NULL),
	};
	struct task *early = task_start("early", sleep_long, NULL);

	(void)argument;
	task_cancel(early);		/* before it ever ran */
	task_yield();
	task_yield();
	for (size_t i = 0; i < 3; i++)
		task_cancel(tasks[i]);
	for (size_t i = 0; i < 3; i++)
		CU_ASSERT_EQUAL(task_join(&tasks[i], DEADLINE_NEVER), 0);
	task_reap(&early);
	task_reap(&early);
	CU_ASSERT_PTR_NULL(cond.first);
}

static void
cancels(void)
{
	canceled = 0;
	run(cancel_body, NULL);
	CU_ASSERT_EQUAL(canceled, 5);
}

/* --- conditions --- */

static struct task_cond cond;

static void
wait_for_cond(void *argument)
{
	const char *name = argument;
	int64_t deadline = *name == 't' ? task_deadline(2) : DEADLINE_NEVER;

	if (task_cond_wait(&cond, deadline) == 0)
		buf_puts(&trace, name);
	else
		buf_printf(&trace, "!%s", name);
}

static void
cond_body(void *argument)
{
	char names[][2] = { "a", "t", "b", "c", "d" };
	struct task *tasks[5];

	(void)argument;
	task_cond_signal(&cond);	/* nobody there */
	for (size_t i = 0; i < 5; i++)
		tasks[i] = task_start(names[i], wait_for_cond, names[i]);
	task_yield();
	task_cond_signal(&cond);
	CU_ASSERT_EQUAL(task_join(&tasks[0], DEADLINE_NEVER), 0);
	CU_ASSERT_EQUAL(task_join(&tasks[1], DEADLINE_NEVER), 0);
	task_cond_signal(&cond);
	task_yield();
	buf_putc(&trace, ',');
	task_cond_broadcast(&cond);
	for (size_t i = 2; i < 5; i++)
		CU_ASSERT_EQUAL(task_join(&tasks[i], DEADLINE_NEVER), 0);
}

static void
conditions_are_first_come(void)
{
	run(cond_body, NULL);
	TRACE_ASSERT("a!tb,cd");
}

static void
block_until(int64_t when)
{
	struct timespec ts;

	do
		clock_gettime(CLOCK_MONOTONIC, &ts);
	while ((int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000 <= when);
}

/*
 * The deadlines of "t" and of the signaller come in the same turn; the signal
 * must not go to the one whose wait is over.
 */
static void
race_body(void *argument)
{
	char t[] = "t", b[] = "b";
	struct task *timed, *other;

	(void)argument;
	timed = task_start("t", wait_for_cond, t);
	other = task_start("b", wait_for_cond, b);
	task_yield();
	block_until(task_now() + 5);
	task_sleep(1);
	task_cond_signal(&cond);
	CU_ASSERT_EQUAL(task_join(&timed, DEADLINE_NEVER), 0);
	CU_ASSERT_EQUAL(task_join(&other, DEADLINE_NEVER), 0);
}

static void
signals_are_not_lost(void)
{
	run(race_body, NULL);
	TRACE_ASSERT("!tb");
}

/* --- time --- */

static void
time_body(void *argument)
{
	int64_t start = task_now();

	(void)argument;
	CU_ASSERT_EQUAL(task_deadline(-1), DEADLINE_NEVER);
	CU_ASSERT_EQUAL(task_deadline(INT64_MAX), DEADLINE_NEVER);
	CU_ASSERT_EQUAL(task_deadline(10), start + 10);
	CU_ASSERT_EQUAL(task_sleep(3), 0);
	CU_ASSERT(task_now() >= start + 3);
	CU_ASSERT(task_now() < start + 2000);
	CU_ASSERT_EQUAL(task_sleep(0), 0);
	/* A later deadline, then an earlier one. */
	CU_ASSERT_EQUAL(task_cond_wait(&cond, task_deadline(4)), -1);
	start = task_now();
	CU_ASSERT_EQUAL(task_cond_wait(&cond, task_deadline(1)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	CU_ASSERT(task_now() < start + 2000);
	CU_ASSERT_EQUAL(task_cond_wait(&cond, start), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
}

static void
keeps_deadlines(void)
{
	run(time_body, NULL);
}

static unsigned out_of_order;
static int64_t last_deadline;

static void
sleep_until(void *argument)
{
	int64_t deadline = *(int64_t *)argument;

	CU_ASSERT_EQUAL(task_cond_wait(&cond, deadline), -1);
	if (task_now() < deadline)
		out_of_order++;
	if (deadline < last_deadline)
		out_of_order++;
	last_deadline = deadline;
}

static void
heap_body(void *argument)
{
	static int64_t deadlines[300];
	static struct task *tasks[300];
	unsigned random = 1;

	(void)argument;
	out_of_order = 0;
	last_deadline = 0;
	for (size_t i = 0; i < 300; i++) {
		random = random * 1103515245 + 12345;
		deadlines[i] = task_now() + 2 + random / 65536 % 20;
		tasks[i] = task_start("t", sleep_until, &deadlines[i]);
	}
	task_yield();
	for (size_t i = 0; i < 300; i += 3)
		task_cancel(tasks[i]);
	for (size_t i = 0; i < 300; i++) {
		if (i % 3 == 0)
			task_reap(&tasks[i]);
		else
			task_join(&tasks[i], DEADLINE_NEVER);
	}
}

static void
sleep_until_checked(void *argument)
{
	(void)argument;
	last_deadline = 0;
	heap_body(NULL);
}

static void
deadlines_pass_in_order(void)
{
	run(sleep_until_checked, NULL);
}

/* --- descriptors --- */

static void
write_later(void *argument)
{
	int fd = *(int *)argument;

	task_sleep(1);
	CU_ASSERT_EQUAL(write(fd, "x", 1), 1);
	task_sleep(1);
	CU_ASSERT_EQUAL(write(fd, "y", 1), 1);
	task_sleep(1);
	shutdown(fd, SHUT_WR);
}

static void
fd_body(void *argument)
{
	struct task_fd fd;
	struct task *writer;
	char c;
	int s[2];

	(void)argument;
	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s),
	    0);
	task_fd_init(&fd, s[0]);
	CU_ASSERT_EQUAL(task_fd_wait(&fd, TASK_WRITE, task_deadline(1000)), 0);
	CU_ASSERT_EQUAL(task_fd_wait(&fd, TASK_READ, task_deadline(1)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	writer = task_start("writer", write_later, &s[1]);
	CU_ASSERT_EQUAL(task_fd_wait(&fd, TASK_READ, task_deadline(1000)), 0);
	CU_ASSERT_EQUAL(read(s[0], &c, 1), 1);
	CU_ASSERT_EQUAL(c, 'x');
	CU_ASSERT_EQUAL(read(s[0], &c, 1), -1);
	CU_ASSERT_EQUAL(task_fd_wait(&fd, TASK_READ, task_deadline(1000)), 0);
	CU_ASSERT_EQUAL(read(s[0], &c, 1), 1);
	CU_ASSERT_FALSE(fd.hangup);
	CU_ASSERT_EQUAL(task_fd_wait(&fd, TASK_READ, task_deadline(1000)), 0);
	CU_ASSERT_TRUE(fd.hangup);
	CU_ASSERT_EQUAL(read(s[0], &c, 1), 0);
	task_fd_release(&fd);
	CU_ASSERT_EQUAL(task_join(&writer, DEADLINE_NEVER), 0);

	CU_ASSERT_EQUAL(task_wait_fd(s[1], TASK_READ, task_deadline(1)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	CU_ASSERT_EQUAL(write(s[0], "z", 1), 1);
	CU_ASSERT_EQUAL(task_wait_fd(s[1], TASK_READ, task_deadline(1000)), 0);
	close(s[0]);
	close(s[1]);
}

static void
waits_for_descriptors(void)
{
	run(fd_body, NULL);
}

/* A task that only yields leaves the loop time for others' I/O. */
static void
yield_body(void *argument)
{
	struct task *writer;
	struct task_fd fd;
	int s[2];

	(void)argument;
	CU_ASSERT_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, s),
	    0);
	task_fd_init(&fd, s[0]);
	writer = task_start("writer", write_later, &s[1]);
	for (int64_t start = task_now(); !fd.hangup; task_yield())
		if (task_now() > start + 2000)
			break;
	CU_ASSERT_TRUE(fd.hangup);
	CU_ASSERT_EQUAL(task_join(&writer, DEADLINE_NEVER), 0);
	task_fd_release(&fd);
	close(s[0]);
	close(s[1]);
}

static void
yields_to_io(void)
{
	run(yield_body, NULL);
}

/* --- many, deep --- */

static unsigned ran;

static void
wait_once(void *argument)
{
	(void)argument;
	ran++;
	CU_ASSERT_EQUAL(task_cond_wait(&cond, task_deadline(60000)), 0);
	ran++;
}

static void
many_body(void *argument)
{
	enum { N = 10000 };
	struct task **tasks = calloc(N, sizeof(struct task *));

	(void)argument;
	for (int round = 0; round < 2; round++) {
		ran = 0;
		for (int i = 0; i < N; i++)
			tasks[i] = task_start("one of many", wait_once, NULL);
		task_yield();
		CU_ASSERT_EQUAL(ran, N);
		task_cond_broadcast(&cond);
		for (int i = 0; i < N; i++)
			CU_ASSERT_EQUAL(task_join(&tasks[i], DEADLINE_NEVER),
			    0);
		CU_ASSERT_EQUAL(ran, 2 * N);
	}
	free(tasks);
}

static void
runs_ten_thousand(void)
{
	run(many_body, NULL);
}

static int
recurse(int depth)
{
	volatile char frame[512];

	memset((void *)(uintptr_t)frame, depth, sizeof(frame));
	if (depth == 0) {
		task_yield();
		return 0;
	}
	return recurse(depth - 1) + frame[5] - (char)depth + 1;
}

static void
go_deep(void *argument)
{
	int depth = *(int *)argument;

	CU_ASSERT_EQUAL(recurse(depth), depth);
}

static void
deep_body(void *argument)
{
	int depths[] = { 100, 1, 100, 30, 2 };

	(void)argument;
	for (size_t i = 0; i < 5; i++) {
		struct task *t = task_start("deep", go_deep, &depths[i]);

		CU_ASSERT_EQUAL(task_join(&t, DEADLINE_NEVER), 0);
	}
}

static void
reuses_deep_stacks(void)
{
	run(deep_body, NULL);
}

/* --- the loop --- */

static void
stop_body(void *argument)
{
	buf_putc(&trace, '1');
	task_stop();
	task_sleep(*(int *)argument);
	buf_putc(&trace, '2');
}

static void
stops_and_goes_on(void)
{
	int ms = 1;

	task_init();
	task_detach("stops", stop_body, &ms);
	task_loop();
	CU_ASSERT_EQUAL(task_count(), 1);
	task_loop();
	CU_ASSERT_EQUAL(task_count(), 0);
	task_loop();
	task_shutdown();
	TRACE_ASSERT("12");
}

static void
on_event(evutil_socket_t fd, short what, void *argument)
{
	(void)fd, (void)what, (void)argument;
	buf_putc(&trace, 'e');
	task_cond_signal(&cond);
}

static void
library_body(void *argument)
{
	struct timeval tv = { 0, 1000 };

	(void)argument;
	CU_ASSERT_EQUAL(event_base_once(task_base(), -1, EV_TIMEOUT, on_event,
	    NULL, &tv), 0);
	CU_ASSERT_EQUAL(task_cond_wait(&cond, DEADLINE_NEVER), 0);
	buf_putc(&trace, 't');
}

static void
runs_events_of_libraries(void)
{
	run(library_body, NULL);
	TRACE_ASSERT("et");
}

SUITE(task,
    { "runs in order", runs_in_order },
    { "joins by a deadline", joins_by_a_deadline },
    { "cancels", cancels },
    { "conditions are first-come", conditions_are_first_come },
    { "signals are not lost", signals_are_not_lost },
    { "keeps deadlines", keeps_deadlines },
    { "deadlines pass in order", deadlines_pass_in_order },
    { "waits for descriptors", waits_for_descriptors },
    { "yields to I/O", yields_to_io },
    { "runs ten thousand", runs_ten_thousand },
    { "reuses deep stacks", reuses_deep_stacks },
    { "stops and goes on", stops_and_goes_on },
    { "runs events of libraries", runs_events_of_libraries })
