/*
 * What tasks wait for: descriptors and conditions.
 *
 * A descriptor is registered for input and hang-up when it begins, for output
 * only when a task first has to wait for that: most connections never do, and
 * a UNIX socket reports each read of its peer as new room for output.
 */
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <stddef.h>
#include <string.h>

#include "base/log.h"
#include "base/task.h"
#include "base/task_internal.h"

/* --- descriptors --- */

static void
on_input(evutil_socket_t number, short what, void *argument)
{
	struct task_fd *fd = argument;

	(void)number;
	fd->readable = true;
	if ((what & EV_CLOSED) != 0)
		fd->hangup = true;
	if (fd->reader != NULL)
		task_wake(fd->reader, 0);
}

static void
on_output(evutil_socket_t number, short what, void *argument)
{
	struct task_fd *fd = argument;

	(void)number, (void)what;
	fd->writable = true;
	if (fd->writer != NULL)
		task_wake(fd->writer, 0);
}

static struct event *
register_fd(struct task_fd *fd, short what, event_callback_fn callback)
{
	struct event *event;

	event = event_new(task_base(), fd->fd, what | EV_ET | EV_PERSIST,
	    callback, fd);
	if (event == NULL)
		fatal("out of memory");
	if (event_add(event, NULL) != 0)
		fatal("task: cannot watch descriptor %d: %s", fd->fd,
		    strerror(errno));
	task_watch(1);
	return event;
}

static void
unregister(struct event **event)
{
	if (*event == NULL)
		return;
	event_free(*event);
	*event = NULL;
	task_watch(-1);
}

void
task_fd_init(struct task_fd *fd, int number)
{
	memset(fd, 0, sizeof(*fd));
	fd->fd = number;
	fd->read_event = register_fd(fd, EV_READ | EV_CLOSED, on_input);
}

void
task_fd_release(struct task_fd *fd)
{
	if (fd->reader != NULL || fd->writer != NULL)
		fatal("task: descriptor %d released while a task waits for it",
		    fd->fd);
	unregister(&fd->write_event);
	unregister(&fd->read_event);
}

int
task_fd_wait(struct task_fd *fd, enum task_want want, int64_t deadline)
{
	struct task **waiter = want == TASK_READ ? &fd->reader : &fd->writer;
	int rc;

	if (*waiter != NULL)
		fatal("task: two tasks wait for descriptor %d", fd->fd);
	/*
	 * What was reported before the caller's EAGAIN is used up; what came
	 * since will be reported by the loop's next turn.
	 */
	if (want == TASK_READ) {
		fd->readable = false;
	} else {
		fd->writable = false;
		if (fd->write_event == NULL)
			fd->write_event = register_fd(fd, EV_WRITE, on_output);
	}
	*waiter = task_self();
	rc = task_wait_until(deadline);
	*waiter = NULL;
	return rc;
}

static void
on_once(evutil_socket_t number, short what, void *argument)
{
	(void)number, (void)what;
	task_wake(argument, 0);
}

int
task_wait_fd(int number, enum task_want want, int64_t deadline)
{
	struct event event;
	int rc, error;

	if (event_assign(&event, task_base(), number,
	    want == TASK_READ ? EV_READ : EV_WRITE, on_once, task_self()) != 0)
		fatal("task: cannot watch descriptor %d", number);
	if (event_add(&event, NULL) != 0)
		return -1;
	rc = task_wait_until(deadline);
	error = errno;
	event_del(&event);
	errno = error;
	return rc;
}

/* --- conditions --- */

/* Lies on the stack of the task that waits. */
struct task_waiter {
	struct task_waiter *next;
	struct task *task;
	bool listed;
};

static void
remove_waiter(struct task_cond *cond, struct task_waiter *waiter)
{
	struct task_waiter **w = &cond->first;

	while (*w != waiter)
		w = &(*w)->next;
	*w = waiter->next;
	if (waiter->next == NULL)
		cond->last = w;
	waiter->listed = false;
}

int
task_cond_wait(struct task_cond *cond, int64_t deadline)
{
	struct task_waiter waiter = { NULL, task_self(), true };
	int rc, error;

	if (cond->first == NULL)
		cond->last = &cond->first;
	*cond->last = &waiter;
	cond->last = &waiter.next;
	rc = task_wait_until(deadline);
	error = errno;
	if (waiter.listed)
		remove_waiter(cond, &waiter);
	errno = error;
	return rc;
}

void
task_cond_signal(struct task_cond *cond)
{
	struct task_waiter *waiter = cond->first;

	/* One that a deadline has woken already isn't waiting any more. */
	while (waiter != NULL && !task_is_waiting(waiter->task))
		waiter = waiter->next;
	if (waiter == NULL)
		return;
	remove_waiter(cond, waiter);
	task_wake(waiter->task, 0);
}

void
task_cond_broadcast(struct task_cond *cond)
{
	struct task_waiter *waiter;

	while ((waiter = cond->first) != NULL) {
		remove_waiter(cond, waiter);
		task_wake(waiter->task, 0);
	}
}
