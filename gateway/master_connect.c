/*
 * Chrooted children can't see the paths of UNIX sockets (milters, Dovecot's
 * LMTP, Redis).  The master connects for them, but only to what the
 * configuration names.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/log.h"
#include "gateway/link.h"
#include "gateway/master.h"
#include "gateway/settings.h"

/* "unix:/path" and "lmtp:unix:/path" both name the path. */
static bool
names_path(const char *value, const char *path)
{
	const char *found;

	if (value == NULL || (found = strstr(value, "unix:")) == NULL)
		return false;
	return strcmp(found + 5, path) == 0;
}

static bool
section_names(const struct conf_section *section, const char *path)
{
	const struct option_row *row = section->kind->rows;
	const char *values = section->values;

	for (size_t i = 0; i < section->kind->row_count; i++, row++) {
		const void *value = values + row->offset;

		if (row->type == OPTION_string &&
		    names_path(*(const char *const *)value, path))
			return true;
		if (row->type != OPTION_strings)
			continue;
		const char *const *list = *(const char *const *const *)value;
		for (; list != NULL && *list != NULL; list++)
			if (names_path(*list, path))
				return true;
	}
	return false;
}

/* The sockets of filter hosts and policy are in the run directory. */
static bool
is_own_socket(const struct conf *conf, const char *path)
{
	const struct top_options *options = conf_get(conf, "");
	size_t len = strlen(options->run_directory);

	if (strncmp(path, options->run_directory, len) != 0)
		return false;
	path += len;
	return strcmp(path, "/policy.sock") == 0 ||
	    (strncmp(path, "/host-", 6) == 0 &&
	    strchr(path + 1, '/') == NULL);
}

static bool
configured(const struct conf *conf, const char *path)
{
	const struct conf_section *sections;
	size_t count;

	if (is_own_socket(conf, path))
		return true;
	for (size_t k = 0; k < settings_kind_count; k++) {
		sections = conf_sections(conf, settings_kinds[k]->name, &count);
		for (size_t i = 0; i < count; i++)
			if (section_names(&sections[i], path))
				return true;
	}
	return false;
}

static int
connect_path(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, error;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	/* Non-blocking: with a full backlog it is EAGAIN, not a wait. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	if (connect(fd, (const struct sockaddr *)&address,
	    sizeof(address)) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

void
master_connect(struct master *master, const struct child *child,
    const char *text)
{
	unsigned long number;
	const char *path;
	int fd = -1, error = 0;

	if (sscanf(text, "%lu", &number) != 1 ||
	    (path = strchr(text, ' ')) == NULL) {
		log_warn(NULL, "%s[%d] sent a request that makes no sense",
		    child->role->name, (int)child->pid);
		return;
	}
	path++;
	if (!configured(master->conf, path)) {
		log_warn(NULL, "%s[%d] asked for %s, which the configuration "
		    "does not name", child->role->name, (int)child->pid, path);
		error = EACCES;
	} else if ((fd = connect_path(path)) == -1) {
		error = errno;
	}
	if (link_send(child->link, fd, "connected %lu %d", number, error) != 0)
		log_warn(NULL, "%s[%d] does not take its answer: %s",
		    child->role->name, (int)child->pid, strerror(errno));
	if (fd != -1)
		close(fd);
}
