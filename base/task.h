/*
 * Tasks: stackful coroutines around one libevent loop per thread.
 *
 * An SMTP session, a delivery, a conversation with a milter is written as a
 * function that reads from top to bottom; wherever it has to wait it calls one
 * of the functions below, and other tasks run meanwhile.  All tasks of a thread
 * share it, so they need no locks; a task runs until it waits.
 *
 * Deadlines are absolute, in milliseconds of the monotonic clock (task_now()).
 * Every wait takes one.  A wait returns 0, or -1 with errno ETIMEDOUT when the
 * deadline passed, or ECANCELED when the task was cancelled.
 */
#ifndef BASE_TASK_H
#define BASE_TASK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct event;
struct event_base;
struct task;

#define DEADLINE_NEVER INT64_MAX

typedef void task_f(void *argument);

/* Sets up this thread's loop; once, before anything else here. */
void task_init(void);

/* Frees the loop and the pooled stacks; no task may be left. */
void task_shutdown(void);

/* The libevent loop, for libraries that bring their own events. */
struct event_base *task_base(void);

/* Runs the loop until task_stop() is called or nothing is left to wait for. */
void task_loop(void);
void task_stop(void);

/* Milliseconds of the monotonic clock, as of this turn of the loop. */
int64_t task_now(void);

/* task_now() + ms, without overflow; ms < 0 gives DEADLINE_NEVER. */
int64_t task_deadline(int64_t ms);

/*
 * Starts a task; it first runs when the caller waits or returns to the loop.
 * Who starts it joins it.  name is borrowed and shows in traces.
 */
struct task *task_start(const char *name, task_f *, void *argument);

/* Starts a task that nobody joins. */
void task_detach(const char *name, task_f *, void *argument);

/*
 * Waits until the task has ended, frees it and clears the pointer.  At the
 * deadline returns -1 and the task is still the caller's.  NULL is done.
 */
int task_join(struct task **, int64_t deadline);

/*
 * Cancels the task, waits until it has ended whatever happens to the caller,
 * frees it and clears the pointer: for those who must not leave before their
 * task does, cancelled or not.  NULL is fine.
 */
void task_reap(struct task **);

/* Makes its present wait and all its later ones fail with ECANCELED. */
void task_cancel(struct task *);

/* The running task, or NULL on the loop's own stack. */
struct task *task_self(void);

/* How many tasks there are now in this thread. */
size_t task_count(void);

int task_sleep(int64_t ms);

/* Lets others run; called between chunks of a long computation. */
void task_yield(void);

/*
 * A descriptor that tasks wait for.  It is registered once, edge-triggered, so
 * that a wait costs no system call: read or write until EAGAIN, then wait.
 * One task may wait for each direction at a time.
 */
struct task_fd {
	int fd;
	struct event *read_event;
	struct event *write_event;	/* made when a task first waits */
	bool readable, writable;	/* news since the last wait */
	bool hangup;			/* the peer will send no more */
	struct task *reader, *writer;
};

enum task_want { TASK_READ = 1, TASK_WRITE = 2 };

/* fd must be non-blocking; it stays the caller's. */
void task_fd_init(struct task_fd *, int fd);
void task_fd_release(struct task_fd *);

/* Call after EAGAIN in that direction. */
int task_fd_wait(struct task_fd *, enum task_want, int64_t deadline);

/* A one-off wait on a descriptor that isn't worth registering. */
int task_wait_fd(int fd, enum task_want, int64_t deadline);

/* Something that tasks wait for, first come first woken; begins zeroed. */
struct task_cond {
	struct task_waiter *first, **last;
};

int task_cond_wait(struct task_cond *, int64_t deadline);
void task_cond_signal(struct task_cond *);	/* wakes the first */
void task_cond_broadcast(struct task_cond *);	/* wakes all */

#endif
