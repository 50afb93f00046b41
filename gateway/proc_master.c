/*
 * The master process.  Runs as whoever started it, usually root.  May read the
 * configuration, bind ports, open key files, connect the UNIX sockets that the
 * configuration names, start and signal its children.  Reads no byte from the
 * network; what a child may ask of it is in one table.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "gateway/link.h"
#include "gateway/master.h"
#include "gateway/settings.h"
#include "gateway/spool.h"

/* Events that the console has not read yet; beyond that they are dropped. */
#define EVENTS_BUFFER (4 << 20)

int64_t
master_now(void)
{
	return clock_us() / 1000;
}

/* One line of the log for each line of errors. */
static void
log_errors(const struct buf *errors)
{
	const char *line = errors->data, *end;

	for (; line != NULL && *line != '\0'; line = end + (*end != '\0')) {
		end = line + strcspn(line, "\n");
		if (end > line)
			log_error(NULL, "%.*s", (int)(end - line), line);
	}
}

static struct conf *
load(const struct master *master, struct buf *errors)
{
	struct conf *conf;

	conf = conf_load(master->path, master->embedded, settings_kinds,
	    settings_kind_count, errors);
	if (conf != NULL && settings_check(conf, errors) != 0)
		conf_free(&conf);
	return conf;
}

/* Loads the configuration and binds what it wants beside what is bound. */
static struct conf *
load_and_bind(struct master *master, struct buf *errors)
{
	struct conf *conf = load(master, errors);
	struct buf ignored = BUF_INIT;
	const char *why;

	if (conf == NULL)
		return NULL;
	if (settings_prepare_directories(conf, &why) != 0) {
		buf_printf(errors, "%s\n", why);
		conf_free(&conf);
		return NULL;
	}
	if (listeners_bind(master, conf, errors) == 0)
		return conf;
	conf_free(&conf);
	/* Lets go of what the refused configuration had bound. */
	listeners_bind(master, master->conf, &ignored);
	listeners_close_unwanted(master);
	buf_release(&ignored);
	return NULL;
}

/* The operator who asked for the reload hears how it ended. */
static void
end_reload(struct master *master, const char *outcome, const char *text)
{
	const struct child *child = child_by_pid(master, master->asker);

	if (master->asker != 0 && child != NULL && child->link != -1)
		link_send(child->link, -1, "reloaded %s %.*s", outcome,
		    LINK_MESSAGE_MAX - 64, text);
	master->asker = 0;
	master->reloading = false;
	sd_notify(0, "READY=1");
}

static void
reload(struct master *master, pid_t asker)
{
	struct buf errors = BUF_INIT;
	struct conf *conf;

	sd_notify(0, "RELOADING=1");
	master->asker = asker;
	if ((conf = load_and_bind(master, &errors)) == NULL) {
		bool reloading = master->reloading;

		log_errors(&errors);
		log_error(NULL, "reload refused; the configuration in use "
		    "stays");
		end_reload(master, "error", errors.data != NULL ?
		    errors.data : "");
		master->reloading = reloading;
		buf_release(&errors);
		return;
	}
	buf_release(&errors);
	if (master->previous == NULL) {
		master->previous = master->conf;
		master->previous_generation = master->generation;
	} else {
		conf_free(&master->conf);	/* was never proven */
	}
	master->conf = conf;
	master->generation++;
	master->reloading = true;
	master->failed = false;
	master->why[0] = '\0';
	settings_open_log(conf, "master");
	children_want(master);
}

/* The children of the new configuration are ready. */
static void
reloaded(struct master *master)
{
	char text[64];

	snprintf(text, sizeof(text), "configuration %u is in use",
	    master->generation);
	listeners_close_unwanted(master);
	log_info(NULL, "reload: configuration %u", master->generation);
	end_reload(master, "ok", text);
}

/* They can't start: those that serve go on, and what has ended comes back. */
static void
roll_back(struct master *master)
{
	struct buf errors = BUF_INIT;

	log_error(NULL, "reload failed: %s; the configuration before it is "
	    "in use again", master->why);
	conf_free(&master->conf);
	master->conf = master->previous;
	master->previous = NULL;
	master->failed = false;
	master->generation++;
	children_adopt(master, master->previous_generation);
	if (listeners_bind(master, master->conf, &errors) != 0)
		log_errors(&errors);
	buf_release(&errors);
	listeners_close_unwanted(master);
	settings_open_log(master->conf, "master");
	children_want(master);
	end_reload(master, "error", master->why);
	master->why[0] = '\0';
}

static void
stop(struct master *master)
{
	if (master->stopping)
		return;
	master->stopping = true;
	sd_notify(0, "STOPPING=1");
	log_info(NULL, "stopping");
}

static void
ask_reload(struct master *master, struct child *child, const char *text)
{
	(void)text;
	log_info(NULL, "%s asks for a reload", child->role->name);
	reload(master, child->pid);
}

static void
ask_stop(struct master *master, struct child *child, const char *text)
{
	(void)text;
	log_info(NULL, "%s asks for a stop", child->role->name);
	stop(master);
}

static void
is_ready(struct master *master, struct child *child, const char *text)
{
	(void)text;
	(void)master;
	if (child->state == CHILD_STARTING)
		child->state = CHILD_READY;
}

/* Why it gives up; it has logged that, but maybe where nobody looks now. */
static void
is_failing(struct master *master, struct child *child, const char *text)
{
	snprintf(master->why, sizeof(master->why), "%s%s%s: %.900s",
	    child->role->name, child->instance[0] != '\0' ? " " : "",
	    child->instance, text);
	if (!master->announced)
		fprintf(stderr, "millgate: %s\n", master->why);
}

static void
ask_connect(struct master *master, struct child *child, const char *text)
{
	master_connect(master, child, text);
}

/* What a child may ask, and which role may ask it (NULL: each). */
static const struct {
	const char *word;
	const char *role;
	void (*act)(struct master *, struct child *, const char *text);
} requests[] = {
	{ "ready",	NULL,		is_ready },
	{ "failed ",	NULL,		is_failing },
	{ "connect ",	NULL,		ask_connect },
	{ "reload",	"console",	ask_reload },
	{ "stop",	"console",	ask_stop },
};

static void
act_on(struct master *master, struct child *child, const char *text)
{
	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		size_t len = strlen(requests[i].word);

		if (strncmp(text, requests[i].word, len) != 0 ||
		    (requests[i].role != NULL &&
		    strcmp(requests[i].role, child->role->name) != 0))
			continue;
		requests[i].act(master, child, text + len);
		return;
	}
	log_warn(NULL, "%s[%d] asked for what it may not have",
	    child->role->name, (int)child->pid);
}

static void
read_link(struct master *master, struct child *child)
{
	char text[LINK_MESSAGE_MAX];
	int passed;

	while (child->link != -1 &&
	    link_receive(child->link, text, &passed) > 0) {
		if (passed != -1)
			close(passed);
		act_on(master, child, text);
	}
}

static void
reap(struct master *master)
{
	struct child *child;
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		/* Its last words. */
		if ((child = child_by_pid(master, pid)) != NULL)
			read_link(master, child);
		child_ended(master, pid, status);
	}
}

static void
read_signals(struct master *master, int fd)
{
	struct signalfd_siginfo signal;

	while (read(fd, &signal, sizeof(signal)) == sizeof(signal)) {
		switch (signal.ssi_signo) {
		case SIGCHLD:
			reap(master);
			break;
		case SIGHUP:
			reload(master, 0);
			break;
		default:
			stop(master);
			break;
		}
	}
}

static int
open_signals(void)
{
	sigset_t wanted;

	sigemptyset(&wanted);
	sigaddset(&wanted, SIGCHLD);
	sigaddset(&wanted, SIGHUP);
	sigaddset(&wanted, SIGINT);
	sigaddset(&wanted, SIGTERM);
	sigprocmask(SIG_BLOCK, &wanted, NULL);
	return signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* The next moment at which something is due, as a timeout for poll. */
static int
until(int64_t a, int64_t b)
{
	int64_t next = a == -1 || (b != -1 && b < a) ? b : a;
	int64_t wait;

	if (next == -1)
		return -1;
	wait = next - master_now();
	return wait < 0 ? 0 : (int)wait + 1;
}

static void
turn(struct master *master, int signals, int timeout)
{
	struct pollfd fds[PROCESS_SLOTS + 1];

	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		fds[i] = (struct pollfd){ master->children[i].link, POLLIN, 0 };
	fds[PROCESS_SLOTS] = (struct pollfd){ signals, POLLIN, 0 };
	if (poll(fds, PROCESS_SLOTS + 1, timeout) <= 0)
		return;
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		if ((fds[i].revents & POLLIN) && fds[i].fd ==
		    master->children[i].link)
			read_link(master, &master->children[i]);
	if (fds[PROCESS_SLOTS].revents & POLLIN)
		read_signals(master, signals);
	/* A link that only hangs up belongs to a child about to be reaped. */
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		if ((fds[i].revents & (POLLIN | POLLHUP)) == POLLHUP &&
		    fds[i].fd == master->children[i].link) {
			close(master->children[i].link);
			master->children[i].link = -1;
		}
}

/* What the state of the newest generation gives rise to. */
static void
judge(struct master *master)
{
	if (master->stopping)
		return;
	if (master->failed && master->previous != NULL)
		roll_back(master);
	/* A first start that can't succeed is not tried for ever. */
	if (master->failed)
		stop(master);
	if (master->failed || !children_ready(master))
		return;
	if (!master->announced) {
		master->announced = true;
		sd_notify(0, "READY=1");
		log_info(NULL, "ready: Millgate %s", PACKAGE_VERSION);
	}
	if (master->reloading)
		reloaded(master);
	if (master->previous != NULL && children_settled(master))
		conf_free(&master->previous);
}

static int
loop(struct master *master, int signals)
{
	int64_t start_due, kill_due;

	for (;;) {
		if (master->stopping)
			children_stop(master);
		else
			children_drain_old(master);
		if (master->stopping && children_alive(master) == 0)
			break;
		start_due = master->stopping ? -1 : children_start(master);
		kill_due = children_kill_late(master);
		turn(master, signals, until(start_due, kill_due));
		judge(master);
	}
	log_info(NULL, "stopped");
	return master->failed ? EX_CONFIG : EXIT_SUCCESS;
}

static int
make_directory(const char *path, mode_t mode, const char **why)
{
	static char problem[512];

	if (mkdir(path, mode) == 0 || errno == EEXIST)
		return 0;
	snprintf(problem, sizeof(problem), "%s: %s", path, strerror(errno));
	*why = problem;
	return -1;
}

/* Locked for as long as we run: a second master would share our spool. */
static int
lock_run_directory(const struct top_options *options, const char **why)
{
	char path[4096];
	int fd;

	if (make_directory(options->run_directory, 0755, why) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/empty", options->run_directory);
	if (make_directory(path, 0755, why) != 0)
		return -1;
	snprintf(path, sizeof(path), "%s/millgate.pid",
	    options->run_directory);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
	if (fd == -1) {
		*why = "cannot write millgate.pid in run_directory";
		return -1;
	}
	if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
		*why = "another Millgate runs with this run_directory";
		return -1;
	}
	if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0) {
		*why = "cannot write millgate.pid in run_directory";
		return -1;
	}
	return 0;		/* stays open, and so locked */
}

static void
open_shared(struct master *master)
{
	int size = EVENTS_BUFFER;

	master->shared_fd = memfd_create("millgate", MFD_CLOEXEC);
	master->doorbell_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	master->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (master->shared_fd == -1 || master->doorbell_fd == -1 ||
	    master->null_fd == -1 || link_pair(master->events) != 0 ||
	    link_pair(master->queue) != 0 ||
	    ftruncate(master->shared_fd, (off_t)process_shared_size()) != 0)
		fatal("cannot make what the processes share: %s",
		    strerror(errno));
	setsockopt(master->events[1], SOL_SOCKET, SO_SNDBUF, &size,
	    sizeof(size));
}

/* Children get what this process may have, and set their own limits below. */
static void
raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* What must be there before the first child.  -1: errors say what is wrong. */
static int
prepare(struct master *master, const struct conf *conf, struct buf *errors)
{
	const char *why;

	if (lock_run_directory(conf_get(conf, ""), &why) != 0 ||
	    settings_prepare_directories(conf, &why) != 0) {
		buf_printf(errors, "millgate: %s\n", why);
		return -1;
	}
	raise_descriptor_limit();
	open_shared(master);
	return listeners_bind(master, conf, errors);
}

int
master_run(const char *path, const char *embedded)
{
	static struct master master;
	struct buf errors = BUF_INIT;
	struct conf *conf;
	int signals, status = EX_CONFIG;

	master.path = path;
	master.embedded = embedded;
	master.machine = settings_machine_name();
	settings_set_machine_name(master.machine);
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		master.children[i].link = -1;
	if ((conf = load(&master, &errors)) == NULL) {
		fprintf(stderr, "%s", errors.data);
		goto out;
	}
	settings_open_log(conf, "master");
	signals = open_signals();
	if (prepare(&master, conf, &errors) != 0) {
		fprintf(stderr, "%s", errors.data);
		log_errors(&errors);
		goto out;
	}
	master.conf = conf;
	conf = NULL;
	children_want(&master);
	status = loop(&master, signals);
out:
	buf_release(&errors);
	conf_free(&conf);
	return status;
}
