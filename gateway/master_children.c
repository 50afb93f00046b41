/* Children: one slot each, started, watched, restarted with back-off. */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/log.h"
#include "gateway/link.h"
#include "gateway/master.h"

/*
 * A child that ran for a while is started again at once, so that a single
 * crash costs no capacity; one that dies as soon as it starts waits longer
 * each time.
 */
#define SHORT_LIFE_MS 1000
#define BACKOFF_FIRST_MS 100
#define BACKOFF_LAST_MS 5000

/* A new generation whose child dies so often before it is ready won't do. */
#define TRIES 3

/* A little more than the time in which a child may finish its work. */
#define DRAIN_MS 35000

/* Descriptors are first moved here, above all the numbers they end at. */
#define SAFE_FD 512

struct handover {
	int fds[PROCESS_FD_LISTEN];
	const struct child *child;
	unsigned slot;
};

static bool
same(const struct child *child, const struct role *role, const char *instance)
{
	return child->state != CHILD_NONE && child->role == role &&
	    strcmp(child->instance, instance) == 0;
}

static struct child *
free_slot(struct master *master)
{
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		if (master->children[i].state == CHILD_NONE)
			return &master->children[i];
	return NULL;
}

static bool
exists(const struct master *master, const struct role *role,
    const char *instance)
{
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		if (same(&master->children[i], role, instance) &&
		    master->children[i].generation == master->generation)
			return true;
	return false;
}

static void
want(struct master *master, const struct role *role, const char *instance)
{
	struct child *child;

	if (exists(master, role, instance))
		return;
	if ((child = free_slot(master)) == NULL) {
		log_error(NULL, "no slot is left for %s %s", role->name,
		    instance);
		return;
	}
	*child = (struct child){ .state = CHILD_WAITING, .role = role,
		.generation = master->generation, .link = -1 };
	snprintf(child->instance, sizeof(child->instance), "%s", instance);
}

void
children_want(struct master *master)
{
	const char *instance;

	for (const struct role *role = roles; role->name != NULL; role++)
		for (size_t i = 0; (instance = role->instance(master->conf, i))
		    != NULL; i++)
			want(master, role, instance);
}

/* A role that may run only once waits for its predecessor to end. */
static bool
must_wait(const struct master *master, const struct child *child)
{
	if (!child->role->alone)
		return false;
	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		const struct child *other = &master->children[i];

		if (other != child && other->pid > 0 &&
		    other->role == child->role)
			return true;
	}
	return false;
}

/* Is there a configuration for it? */
static bool
is_current(const struct master *master, const struct child *child)
{
	return child->generation == master->generation ||
	    (master->previous != NULL &&
	    child->generation == master->previous_generation);
}

/* An old one that is started again has no use for what is new. */
static bool
may_have(const struct master *master, const struct child *child,
    const struct bound *bound)
{
	if (!child->role->wants_listener(bound->name, child->instance))
		return false;
	return child->generation == master->generation ? bound->wanted :
	    bound->generation <= child->generation;
}

static int
make_snapshot(const struct master *master, struct child *child)
{
	const struct conf *conf = child->generation == master->generation ?
	    master->conf : master->previous;
	struct process_view view = { conf, child->instance };
	const char *why;
	int fd;

	fd = memfd_create("millgate.conf", MFD_CLOEXEC);
	if (fd == -1 || conf_snapshot_write(conf, fd,
	    child->role->may_see, &view, &why) != 0 ||
	    lseek(fd, 0, SEEK_SET) != 0)
		fatal("cannot hand over the configuration");
	return fd;
}

static void
place(int from, int to)
{
	int flags;

	if (dup2(from, to) != to || (flags = fcntl(to, F_GETFD)) == -1 ||
	    fcntl(to, F_SETFD, flags & ~FD_CLOEXEC) == -1)
		_exit(127);
}

/* In the new process: descriptors to their places, then the same program. */
static void
execute(struct master *master, const struct handover *handover)
{
	const struct child *child = handover->child;
	const char *arguments[16 + 2 * 64] = { "millgate", "--role",
		child->role->name, "--instance", child->instance, "--machine",
		master->machine, "--slot" };
	char slot[16], (*texts)[160];
	int moved[PROCESS_FD_LISTEN], safe[64], count = 0, n = 8;

	snprintf(slot, sizeof(slot), "%u", handover->slot);
	arguments[n++] = slot;
	if ((texts = calloc(64, sizeof(*texts))) == NULL)
		_exit(127);
	for (int i = PROCESS_FD_MASTER; i < PROCESS_FD_LISTEN; i++)
		moved[i] = fcntl(handover->fds[i], F_DUPFD_CLOEXEC, SAFE_FD);
	for (size_t i = 0; i < master->bound_count && count < 64; i++) {
		const struct bound *bound = &master->bound[i];

		if (!may_have(master, child, bound))
			continue;
		safe[count] = fcntl(bound->fd, F_DUPFD_CLOEXEC, SAFE_FD);
		snprintf(texts[count], sizeof(texts[count]), "%d=%s",
		    PROCESS_FD_LISTEN + count, bound->name);
		arguments[n++] = "--listen";
		arguments[n++] = texts[count];
		count++;
	}
	for (int i = PROCESS_FD_MASTER; i < PROCESS_FD_LISTEN; i++)
		place(moved[i], i);
	for (int i = 0; i < count; i++)
		place(safe[i], PROCESS_FD_LISTEN + i);
	execv("/proc/self/exe", (char *const *)(uintptr_t)arguments);
	_exit(127);
}

static void
start(struct master *master, struct child *child)
{
	struct handover handover = { .child = child,
		.slot = (unsigned)(child - master->children) };
	bool console = strcmp(child->role->name, "console") == 0;
	int pair[2];
	sigset_t none;

	if (link_pair(pair) != 0)
		fatal("cannot make a link: %s", strerror(errno));
	handover.fds[PROCESS_FD_MASTER] = pair[1];
	handover.fds[PROCESS_FD_SNAPSHOT] = make_snapshot(master, child);
	handover.fds[PROCESS_FD_SHARED] = master->shared_fd;
	handover.fds[PROCESS_FD_DOORBELL] = master->doorbell_fd;
	handover.fds[PROCESS_FD_EVENTS] = master->events[console ? 0 : 1];
	handover.fds[PROCESS_FD_QUEUE] = console ? master->queue[0] :
	    strcmp(child->role->name, "relay") == 0 ? master->queue[1] :
	    master->null_fd;
	child->started_ms = master_now();
	child->pid = fork();
	if (child->pid == 0) {
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		execute(master, &handover);
	}
	close(pair[1]);
	close(handover.fds[PROCESS_FD_SNAPSHOT]);
	if (child->pid == -1) {
		log_error(NULL, "cannot start %s: %s", child->role->name,
		    strerror(errno));
		close(pair[0]);
		child->pid = 0;
		child->due_ms = master_now() + BACKOFF_LAST_MS;
		return;
	}
	child->link = pair[0];
	child->state = CHILD_STARTING;
	log_debug(NULL, "started %s %s as process %d", child->role->name,
	    child->instance, (int)child->pid);
}

int64_t
children_start(struct master *master)
{
	int64_t now = master_now(), next = -1;

	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		struct child *child = &master->children[i];

		if (child->state != CHILD_WAITING)
			continue;
		if (!is_current(master, child)) {
			child->state = CHILD_NONE;
			continue;
		}
		if (must_wait(master, child))
			continue;
		if (child->due_ms <= now)
			start(master, child);
		if (child->state == CHILD_WAITING &&
		    (next == -1 || child->due_ms < next))
			next = child->due_ms;
	}
	return next;
}

struct child *
child_by_pid(struct master *master, pid_t pid)
{
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		if (master->children[i].pid == pid)
			return &master->children[i];
	return NULL;
}

static void
log_end(struct master *master, const struct child *child, int status,
    int64_t wait_ms)
{
	char how[64];

	if (WIFSIGNALED(status))
		snprintf(how, sizeof(how), "signal %d (%s)", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	else
		snprintf(how, sizeof(how), "status %d", WEXITSTATUS(status));
	log_warn(NULL, "%s[%d] ended: %s; starting it again in %lld ms",
	    child->role->name, (int)child->pid, how, (long long)wait_ms);
	if (master->why[0] == '\0')
		snprintf(master->why, sizeof(master->why), "%s ended: %s",
		    child->role->name, how);
}

/*
 * A child of a generation that is not proven yet could not start.  What it
 * could not do with its configuration it won't do the next time; what else
 * kills it may pass.
 */
static void
note_failure(struct master *master, const struct child *child, int status)
{
	bool hopeless = WIFEXITED(status) && WEXITSTATUS(status) == EX_CONFIG;

	if (child->state != CHILD_STARTING ||
	    child->generation != master->generation)
		return;
	if (master->previous != NULL)
		master->failed = hopeless || child->failures >= TRIES;
	else if (!master->announced)
		master->failed = hopeless;
}

/*
 * A gateway that died may have committed messages, and answered for them,
 * that the relay was not told of.
 */
static void
rescan(const struct master *master, const struct child *dead)
{
	if (strcmp(dead->role->name, "gateway") != 0)
		return;
	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		const struct child *child = &master->children[i];

		if (child->state == CHILD_READY &&
		    strcmp(child->role->name, "relay") == 0)
			link_send(child->link, -1, "rescan");
	}
}

void
child_ended(struct master *master, pid_t pid, int status)
{
	struct child *child = child_by_pid(master, pid);
	bool early;
	int64_t wait_ms = 0;

	if (child == NULL)
		return;
	if (child->link != -1)
		close(child->link);
	child->link = -1;
	rescan(master, child);
	if (child->state == CHILD_DRAINING || master->stopping) {
		child->state = CHILD_NONE;
		child->pid = 0;
		return;
	}
	early = child->state == CHILD_STARTING ||
	    master_now() - child->started_ms < SHORT_LIFE_MS;
	child->failures = early ? child->failures + 1 : 0;
	note_failure(master, child, status);
	for (unsigned i = 0; i < child->failures && wait_ms < BACKOFF_LAST_MS;
	    i++)
		wait_ms = wait_ms == 0 ? BACKOFF_FIRST_MS : wait_ms * 2;
	if (wait_ms > BACKOFF_LAST_MS)
		wait_ms = BACKOFF_LAST_MS;
	log_end(master, child, status, wait_ms);
	child->state = CHILD_WAITING;
	child->pid = 0;
	child->due_ms = master_now() + wait_ms;
}

static void
ask_to_end(struct child *child)
{
	if (child->state == CHILD_WAITING) {
		child->state = CHILD_NONE;
		return;
	}
	if (child->state != CHILD_STARTING && child->state != CHILD_READY)
		return;
	child->state = CHILD_DRAINING;
	child->due_ms = master_now() + DRAIN_MS;
	if (link_send(child->link, -1, "drain") != 0)
		kill(child->pid, SIGKILL);
}

/*
 * Those of an older configuration end when their successors are ready; a role
 * that may run only once ends before that.
 */
void
children_drain_old(struct master *master)
{
	bool ready = children_ready(master);

	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		struct child *child = &master->children[i];

		if (child->state == CHILD_NONE ||
		    child->generation == master->generation)
			continue;
		if (ready || child->role->alone)
			ask_to_end(child);
	}
}

/* In the order of the roles: who feeds ends before who is fed. */
void
children_stop(struct master *master)
{
	int order = INT32_MAX;

	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		struct child *child = &master->children[i];

		if (child->state == CHILD_WAITING)
			child->state = CHILD_NONE;
		if (child->state != CHILD_NONE &&
		    child->role->stop_order < order)
			order = child->role->stop_order;
	}
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		if (master->children[i].state != CHILD_NONE &&
		    master->children[i].role->stop_order == order)
			ask_to_end(&master->children[i]);
}

int64_t
children_kill_late(struct master *master)
{
	int64_t now = master_now(), next = -1;

	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		struct child *child = &master->children[i];

		if (child->state != CHILD_DRAINING)
			continue;
		if (child->due_ms <= now) {
			log_warn(NULL, "%s[%d] did not end in time",
			    child->role->name, (int)child->pid);
			kill(child->pid, SIGKILL);
			child->due_ms = now + DRAIN_MS;
		}
		if (next == -1 || child->due_ms < next)
			next = child->due_ms;
	}
	return next;
}

size_t
children_alive(const struct master *master)
{
	size_t alive = 0;

	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		alive += master->children[i].state != CHILD_NONE;
	return alive;
}

bool
children_ready(const struct master *master)
{
	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		const struct child *child = &master->children[i];

		if (child->generation != master->generation ||
		    child->state == CHILD_NONE || child->state == CHILD_READY)
			continue;
		if (!must_wait(master, child))
			return false;
	}
	return true;
}

bool
children_settled(const struct master *master)
{
	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		const struct child *child = &master->children[i];

		if (child->generation == master->generation &&
		    child->state != CHILD_NONE && child->state != CHILD_READY)
			return false;
	}
	return true;
}

void
children_adopt(struct master *master, unsigned generation)
{
	for (unsigned i = 0; i < PROCESS_SLOTS; i++) {
		struct child *child = &master->children[i];

		if (child->generation == generation &&
		    child->state != CHILD_NONE &&
		    child->state != CHILD_DRAINING)
			child->generation = master->generation;
	}
}
