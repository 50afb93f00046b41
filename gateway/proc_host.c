/*
 * The filter host, one process for each isolated filter or filter_host.  Runs
 * as user millgate-filter in an empty root directory.  Holds the keys of its
 * own signing sections; may accept connections on its sockets, and compute.
 * A filter_host may also connect, unless all that its filters do is sign: to
 * ask DNS, policy, a milter.  With libmilter as front it has threads.
 */
#include "config.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/conf.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/task.h"
#include "filters/chain_run.h"
#include "filters/filter_host.h"
#include "filters/milter_host.h"
#include "filters/milter_library.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "gateway/settings.h"

#define CONNECTIONS_MAX 20000
#define IDLE_MS (10 * 60 * 1000)
#define MESSAGE_MS (2 * 60 * 1000)

/* For libmilter's threads: what is not answered by then never is. */
#define ANSWER_MS (MESSAGE_MS + 5000)

/* Pause when there are no descriptors left to accept with. */
#define FULL_MS 100

/* A socket, and whom it is for. */
struct door {
	int fd;
	const struct milter_host_settings *settings;
	struct task *accepter;
};

struct visit {
	int fd;
	const struct milter_host_settings *settings;
};

struct host {
	struct chain_plan *plan;
	struct milter_host_settings own;	/* for our gateways */
	struct milter_host_settings others;	/* for other MTAs */
	bool libmilter;			/* libmilter speaks with those */
	struct door *doors;
	size_t door_count;
	size_t talks;			/* conversations under way */
	struct task_cond ended;		/* one of them has ended */
	int64_t deadline;		/* of the drain */
};

static struct host host;

static bool
only_signs(const struct chain_plan *plan)
{
	for (size_t i = 0; i < plan->count; i++)
		if ((plan->entries[i].filter->traits & FILTER_ISOLATED) == 0)
			return false;
	return true;
}

int
host_prepare(struct process *process, const char **why)
{
	const struct top_options *top = conf_get(process->conf, "");
	const char *const itself[] = { process->instance, NULL };
	const struct filter_host_options *hosted = settings_hosted(
	    process->conf, process->instance);

	host.own = (struct milter_host_settings){
		.hostname = top->hostname,
		/* There is no directory to put a body into. */
		.memory_limit = SIZE_MAX,
		.temporary_directory = "/",
		.idle_timeout_ms = IDLE_MS,
		.message_timeout_ms = MESSAGE_MS,
	};
	host.others = host.own;
	host.others.trusted_networks = top->trusted_networks;
	host.plan = chain_plan_new(process->conf, NULL, hosted != NULL ?
	    hosted->filters : itself, why);
	if (host.plan == NULL)
		return -1;
	host.libmilter = hosted != NULL && hosted->front == FRONT_LIBMILTER;
	if (host.libmilter)
		process->promises |= SANDBOX_THREAD;
	if (only_signs(host.plan))
		return 0;
	process->promises |= SANDBOX_CONNECT;
	return process_open_dns(process, why);
}

static void
talk(void *argument)
{
	struct visit *visit = argument;

	milter_host_talk(visit->fd, host.plan, visit->settings);
	free(visit);
	host.talks--;
	task_cond_broadcast(&host.ended);
}

static void
begin_talk(int fd, void *argument)
{
	const struct door *door = argument;
	struct visit *visit = malloc(sizeof(*visit));

	if (visit == NULL)
		fatal("out of memory");
	*visit = (struct visit){ fd, door->settings };
	host.talks++;
	task_detach("milter", talk, visit);
}

static void
accept_connections(void *argument)
{
	struct door *door = argument;
	struct task_fd listener;
	int fd, going_on = 0;

	task_fd_init(&listener, door->fd);
	while (going_on == 0) {
		fd = host.talks < CONNECTIONS_MAX ? accept4(door->fd,
		    NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
		if (fd >= 0) {
			begin_talk(fd, door);
		} else if (host.talks < CONNECTIONS_MAX && errno == EAGAIN) {
			going_on = task_fd_wait(&listener, TASK_READ,
			    DEADLINE_NEVER);
		} else {
			going_on = task_sleep(FULL_MS);
		}
	}
	task_fd_release(&listener);
}

static int
open_door(struct door *door, const struct process_listener *listener,
    const char **why)
{
	const int on = 1;
	bool ours = strncmp(listener->name, "host:", 5) == 0;

	door->fd = listener->fd;
	door->settings = ours ? &host.own : &host.others;
	/* Connections inherit it; on a UNIX socket it means nothing. */
	(void)setsockopt(door->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (!ours && host.libmilter)
		return milter_library_start(&(struct milter_library_settings){
		    .listener = door->fd, .begin = begin_talk,
		    .argument = door, .timeout_ms = ANSWER_MS }, why);
	door->accepter = task_start("accept", accept_connections, door);
	return 0;
}

int
host_start(struct process *process, const char **why)
{
	size_t count = process->listener_count;

	if (count == 0) {
		*why = "a filter host needs its socket";
		return -1;
	}
	host.doors = calloc(count, sizeof(*host.doors));
	if (host.doors == NULL)
		fatal("out of memory");
	for (; host.door_count < count; host.door_count++)
		if (open_door(&host.doors[host.door_count],
		    &process->listeners[host.door_count], why) != 0)
			return -1;
	return 0;
}

/* Takes no more; those who talk to us may finish what they have begun. */
static void
finish(void *argument)
{
	(void)argument;
	for (size_t i = 0; i < host.door_count; i++)
		task_reap(&host.doors[i].accepter);
	if (host.libmilter)
		milter_library_drain();
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
