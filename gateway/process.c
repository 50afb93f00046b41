/* The child's side of starting: see process.h. */
#include "config.h"

#include "gateway/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/counter.h"
#include "base/dns.h"
#include "base/io.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/task.h"
#include "gateway/link.h"
#include "gateway/settings.h"

/* What runs may finish within this time once the process is told to end. */
#define DRAIN_MS 30000
#define DESCRIPTORS 65536

/* A task that waits for the master to connect a UNIX socket for it. */
struct connection_wanted {
	unsigned long number;
	int fd, error;
	bool done;
	struct task_cond answered;
	struct connection_wanted *next;
};

static struct process process;
static struct connection_wanted *connections_wanted;
static unsigned long connection_number;
static struct task_fd master_link;

size_t
process_shared_size(void)
{
	size_t tails = sizeof(struct spool_tail) * PROCESS_SLOTS;

	tails = (tails + 4095) & ~(size_t)4095;
	return tails + counter_block_size() * PROCESS_SLOTS;
}

struct counter_block *
process_counters(const struct process *p, unsigned slot)
{
	char *first = (char *)p->counters;

	return (struct counter_block *)(void *)(first +
	    counter_block_size() * slot);
}

static int
map_shared(const char **why)
{
	size_t size = process_shared_size();
	size_t counters = counter_block_size() * PROCESS_SLOTS;
	char *memory;

	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED,
	    PROCESS_FD_SHARED, 0);
	if (memory == MAP_FAILED) {
		*why = "cannot map the shared memory";
		return -1;
	}
	process.tails = (struct spool_tail *)(void *)memory;
	process.counters = (struct counter_block *)(void *)(memory + size -
	    counters);
	counter_attach(process_counters(&process, process.slot));
	return 0;
}

static const struct top_options *
top(const struct process *p)
{
	return conf_get(p->conf, "");
}

const char *
process_spool_directory(const struct process *p)
{
	return p->locked_in ? "/" : top(p)->spool_directory;
}

const char *
process_state_directory(const struct process *p)
{
	return p->locked_in ? "/" : top(p)->state_directory;
}

int
process_ask_master(const char *text)
{
	return link_send(PROCESS_FD_MASTER, -1, "%s", text);
}

int
process_open_dns(const struct process *p, const char **why)
{
	const struct top_options *options = top(p);
	const struct dns_settings settings = {
		.forwarders = options->dns_forwarders,
		.stubs = options->dns_stubs,
		.trust_anchor_file = options->dns_trust_anchor,
		.timeout_ms = options->dns_timeout,
		.cache_size = 16 << 20,
	};

	return dns_init(&settings, why);
}

/* In a chroot the paths of UNIX sockets can't be seen: the master connects. */
static int
connect_by_master(const char *path, const char **why, int64_t deadline)
{
	struct connection_wanted wanted = { .fd = -1 };
	struct connection_wanted **link;

	wanted.number = ++connection_number;
	if (link_send(PROCESS_FD_MASTER, -1, "connect %lu %s", wanted.number,
	    path) != 0) {
		*why = "the master does not answer";
		return -1;
	}
	wanted.next = connections_wanted;
	connections_wanted = &wanted;
	while (!wanted.done &&
	    task_cond_wait(&wanted.answered, deadline) == 0)
		;
	for (link = &connections_wanted; *link != &wanted; )
		link = &(*link)->next;
	*link = wanted.next;
	if (!wanted.done)
		wanted.error = errno;
	if (wanted.fd >= 0)
		return wanted.fd;
	errno = wanted.error;
	*why = strerror(errno);
	return -1;
}

/* "connected NUMBER ERRNO", with the descriptor if ERRNO is 0. */
static void
connection_answered(const char *text, int fd)
{
	struct connection_wanted *wanted;
	unsigned long number;
	int error;

	if (sscanf(text, "%lu %d", &number, &error) != 2)
		fatal("the master sent \"connected %s\"", text);
	for (wanted = connections_wanted; wanted != NULL; wanted = wanted->next)
		if (wanted->number == number)
			break;
	if (wanted == NULL) {
		if (fd != -1)
			close(fd);	/* the task did not wait any longer */
		return;
	}
	wanted->fd = fd;
	wanted->error = error;
	wanted->done = true;
	task_cond_broadcast(&wanted->answered);
}

static void
drain(void)
{
	if (process.draining)
		return;
	process.draining = true;
	process.role->drain(&process, task_deadline(DRAIN_MS));
}

static void
dispatch(const char *text, int fd)
{
	if (strncmp(text, "connected ", 10) == 0) {
		connection_answered(text + 10, fd);
		return;
	}
	if (fd != -1)
		close(fd);
	if (strcmp(text, "drain") == 0)
		drain();
	else if (process.role->message != NULL)
		process.role->message(&process, text);
	else
		fatal("the master sent \"%s\"", text);
}

static void
listen_to_master(void *argument)
{
	char text[LINK_MESSAGE_MAX];
	ssize_t len;
	int fd;

	(void)argument;
	task_fd_init(&master_link, PROCESS_FD_MASTER);
	for (;;) {
		len = link_receive(PROCESS_FD_MASTER, text, &fd);
		if (len > 0) {
			dispatch(text, fd);
			continue;
		}
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0 && errno == EAGAIN && task_fd_wait(&master_link,
		    TASK_READ, DEADLINE_NEVER) == 0)
			continue;
		/*
		 * The master is gone.  Whoever starts it again needs our
		 * listening sockets closed; nothing that was accepted is lost.
		 */
		_exit(EX_UNAVAILABLE);
	}
}

static int
lock_in(const char **why)
{
	const struct top_options *options = top(&process);
	char root[4096];
	const struct sandbox sandbox = {
		.user = process.role->user,
		.root = root,
		.promises = process.promises,
		.descriptors = DESCRIPTORS,
	};

	switch (process.role->root) {
	case ROOT_SPOOL:
		snprintf(root, sizeof(root), "%s", options->spool_directory);
		break;
	case ROOT_STATE:
		snprintf(root, sizeof(root), "%s", options->state_directory);
		break;
	case ROOT_EMPTY:
		snprintf(root, sizeof(root), "%s/empty",
		    options->run_directory);
		break;
	}
	return sandbox_enter(&sandbox, why);
}

static int
give_up(const char *step, const char *why)
{
	log_error(NULL, "%s: %s", step, why);
	link_send(PROCESS_FD_MASTER, -1, "failed %s: %s", step, why);
	return EX_CONFIG;
}

int
process_main(const struct role *role, const char *instance, unsigned slot,
    struct process_listener *listeners, size_t listener_count)
{
	const char *why = NULL;

	process.role = role;
	process.promises = role->promises;
	process.instance = instance;
	process.slot = slot;
	process.locked_in = geteuid() == 0;
	process.listeners = listeners;
	process.listener_count = listener_count;
	prctl(PR_SET_NAME, role->name, 0, 0, 0);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	task_init();
	process.conf = conf_snapshot_read(PROCESS_FD_SNAPSHOT, settings_kinds,
	    settings_kind_count, &why);
	if (process.conf == NULL)
		return give_up("configuration", why);
	close(PROCESS_FD_SNAPSHOT);
	settings_open_log(process.conf, role->log_name != NULL ?
	    role->log_name : role->name);
	if (map_shared(&why) != 0 || role->prepare(&process, &why) != 0)
		return give_up("start", why);
	if (lock_in(&why) != 0)
		return give_up("sandbox", why);
	if (process.locked_in)
		io_set_unix_connector(connect_by_master);
	if (role->start(&process, &why) != 0)
		return give_up("start", why);
	task_detach("master", listen_to_master, NULL);
	if (process_ask_master("ready") != 0)
		return give_up("start", "the master does not listen");
	task_loop();
	/*
	 * At once: a successor may wait for us, and what a sanitized build
	 * does at exit takes seconds with thousands of stacks.
	 */
	_exit(EXIT_SUCCESS);
}
