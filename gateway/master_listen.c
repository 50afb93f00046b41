/*
 * Listening sockets: bound by the master, inherited by the children that want
 * them, and kept open over a reload, so that no connection is refused.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/net.h"
#include "gateway/master.h"
#include "gateway/settings.h"

#define BACKLOG 4096

/* A predecessor that was killed may hold a port for a moment. */
#define BIND_TRIES 20
#define BIND_PAUSE_MS 100

struct binding {
	struct master *master;
	const struct conf *conf;
	struct buf *errors;
	int failures;
};

static struct bound *
find(struct master *master, const char *name, const char *address)
{
	for (size_t i = 0; i < master->bound_count; i++)
		if (strcmp(master->bound[i].name, name) == 0 &&
		    strcmp(master->bound[i].address, address) == 0)
			return &master->bound[i];
	return NULL;
}

static int
listen_with_patience(const struct net_endpoint *endpoint, int mode,
    bool patient, const char **why)
{
	const struct timespec pause = { 0, BIND_PAUSE_MS * 1000000L };
	int fd = -1;

	for (int i = 0; i < (patient ? BIND_TRIES : 1); i++) {
		if (i > 0)
			nanosleep(&pause, NULL);
		fd = net_listen(endpoint, BACKLOG, mode, why);
		if (fd != -1 || errno != EADDRINUSE)
			break;
	}
	return fd;
}

static void
add(struct master *master, const char *name, const char *address, int fd)
{
	struct bound *bound;

	bound = reallocarray(master->bound, master->bound_count + 1,
	    sizeof(*bound));
	if (bound == NULL)
		fatal("out of memory");
	master->bound = bound;
	bound += master->bound_count++;
	bound->name = strdup(name);
	bound->address = strdup(address);
	if (bound->name == NULL || bound->address == NULL)
		fatal("out of memory");
	bound->fd = fd;
	bound->generation = master->conf == NULL ? 0 : master->generation + 1;
	bound->wanted = true;
	log_debug(NULL, "listening on %s for %s", address, name);
}

/* Who may connect to a UNIX socket.  -1: *why. */
static int
admit(const struct settings_endpoint *wanted,
    const struct net_endpoint *endpoint, const char **why)
{
	const struct sockaddr_un *sun =
	    (const struct sockaddr_un *)&endpoint->address;
	const struct group *group;

	if (endpoint->address.ss_family != AF_UNIX || wanted->group == NULL)
		return 0;
	*why = "no such group";
	if ((group = getgrnam(wanted->group)) == NULL)
		return wanted->group_may_lack ? 0 : -1;
	/*
	 * Its new group must not have what everybody had.  Links are not
	 * followed: such a directory is often another program's.
	 */
	if (fchmodat(AT_FDCWD, sun->sun_path, (mode_t)wanted->mode,
	    AT_SYMLINK_NOFOLLOW) == 0 &&
	    lchown(sun->sun_path, (uid_t)-1, group->gr_gid) == 0)
		return 0;
	*why = strerror(errno);
	/* Not started as root. */
	return wanted->group_may_lack && errno == EPERM ? 0 : -1;
}

static void
bind_one(const struct settings_endpoint *wanted, void *argument)
{
	struct binding *binding = argument;
	struct master *master = binding->master;
	struct net_endpoint endpoint;
	struct bound *bound;
	const char *why;
	int fd = -1;

	bound = find(master, wanted->name, wanted->address);
	if (bound != NULL)
		bound->wanted = true;
	if (net_endpoint_parse(wanted->address, &endpoint, &why) != 0 ||
	    (bound == NULL && (fd = listen_with_patience(&endpoint, wanted->mode,
	    master->conf == NULL, &why)) == -1)) {
		conf_error(binding->errors, binding->conf, wanted->section,
		    wanted->option, "cannot listen on %s: %s", wanted->address,
		    why);
		binding->failures++;
		return;
	}
	if (admit(wanted, &endpoint, &why) != 0) {
		conf_error(binding->errors, binding->conf, wanted->section,
		    "socket_group", "%s: %s", wanted->group, why);
		binding->failures++;
	}
	if (bound == NULL)
		add(master, wanted->name, wanted->address, fd);
}

int
listeners_bind(struct master *master, const struct conf *conf,
    struct buf *errors)
{
	struct binding binding = { master, conf, errors, 0 };

	for (size_t i = 0; i < master->bound_count; i++)
		master->bound[i].wanted = false;
	settings_each_endpoint(conf, bind_one, &binding);
	return binding.failures == 0 ? 0 : -1;
}

void
listeners_close_unwanted(struct master *master)
{
	size_t kept = 0;

	for (size_t i = 0; i < master->bound_count; i++) {
		struct bound *bound = &master->bound[i];

		if (bound->wanted) {
			master->bound[kept++] = *bound;
			continue;
		}
		close(bound->fd);
		free(bound->name);
		free(bound->address);
	}
	master->bound_count = kept;
}
