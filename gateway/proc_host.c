/*
 * The filter host, one process for each isolated filter.  Runs as user
 * millgate-filter in an empty root directory.  Holds the key of its one
 * signing section; may accept connections on its one socket, and compute.
 */
#include "config.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/chain.h"
#include "filters/milter_host.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "gateway/settings.h"

#define CONNECTIONS_MAX 20000
#define IDLE_MS (10 * 60 * 1000)
#define MESSAGE_MS (2 * 60 * 1000)

/* Pause when there are no descriptors left to accept with. */
#define FULL_MS 100

struct host {
	struct chain_plan *plan;
	struct milter_host_settings settings;
	int listener;
	size_t talks;			/* conversations under way */
	struct task *accepter;
	struct task_cond ended;		/* one of them has ended */
	int64_t deadline;		/* of the drain */
};

static struct host host;

int
host_prepare(struct process *process, const char **why)
{
	const struct top_options *top = conf_get(process->conf, "");
	const char *const names[] = { process->instance, NULL };

	host.settings = (struct milter_host_settings){
		.hostname = top->hostname,
		/* There is no directory to put a body into. */
		.memory_limit = SIZE_MAX,
		.temporary_directory = "/",
		.idle_timeout_ms = IDLE_MS,
		.message_timeout_ms = MESSAGE_MS,
	};
	host.plan = chain_plan_new(process->conf, NULL, names, why);
	return host.plan == NULL ? -1 : 0;
}

static void
talk(void *argument)
{
	milter_host_talk((int)(intptr_t)argument, host.plan, &host.settings);
	host.talks--;
	task_cond_broadcast(&host.ended);
}

static void
accept_connections(void *argument)
{
	struct task_fd listener;
	int fd, going_on = 0;

	(void)argument;
	task_fd_init(&listener, host.listener);
	while (going_on == 0) {
		fd = host.talks < CONNECTIONS_MAX ? accept4(host.listener,
		    NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
		if (fd >= 0) {
			host.talks++;
			task_detach("milter", talk, (void *)(intptr_t)fd);
		} else if (host.talks < CONNECTIONS_MAX && errno == EAGAIN) {
			going_on = task_fd_wait(&listener, TASK_READ,
			    DEADLINE_NEVER);
		} else {
			going_on = task_sleep(FULL_MS);
		}
	}
	task_fd_release(&listener);
}

int
host_start(struct process *process, const char **why)
{
	if (process->listener_count != 1) {
		*why = "a filter host needs its socket";
		return -1;
	}
	host.listener = process->listeners[0].fd;
	host.accepter = task_start("accept", accept_connections, NULL);
	return 0;
}

/* Takes no more; those who talk to us may finish what they have begun. */
static void
finish(void *argument)
{
	(void)argument;
	task_reap(&host.accepter);
	while (host.talks > 0 &&
	    task_cond_wait(&host.ended, host.deadline) == 0)
		;
	task_stop();
}

void
host_drain(struct process *process, int64_t deadline)
{
	(void)process;
	host.deadline = deadline;
	task_detach("drain", finish, NULL);
}
