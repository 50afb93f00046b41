/*
 * The directories of the spool.
 *
 * Gateway and relay run as different users and share a group.  Mode 03770: the
 * group is inherited (setgid), and only a file's owner and the directory's
 * owner may remove it (sticky), so with directories owned by the relay's user
 * the relay removes what is done, and a gateway nothing but its own files.
 */
#include "config.h"

#include "gateway/spool_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/spool.h"
#include "gateway/spool_calls.h"

static const struct {
	const char *name;
	mode_t mode;
	bool relay_only;
	size_t offset;
} directories[] = {
	{ "segments", 03770, false, offsetof(struct spool_dir, segments) },
	{ "large", 03770, false, offsetof(struct spool_dir, large) },
	{ "journal", 0700, true, offsetof(struct spool_dir, journal) },
	{ "corrupt", 0750, true, offsetof(struct spool_dir, corrupt) },
};

#define DIRECTORY_COUNT (sizeof(directories) / sizeof(directories[0]))
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* 0: made, 1: was there, -1: error. */
static int
make_one(int parent, const char *name, mode_t mode)
{
	int fd, rc;

	if (mkdirat(parent, name, 0700) == -1)
		return errno == EEXIST ? 1 : -1;
	/* mkdir would apply the umask. */
	fd = openat(parent, name, OPEN_DIRECTORY | O_NOFOLLOW);
	if (fd == -1)
		return -1;
	rc = fchmod(fd, mode);
	close(fd);
	return rc;
}

int
spool_prepare(const char *directory, const char **why)
{
	int fd, rc = 0;

	if (mkdir(directory, 0750) == -1 && errno != EEXIST) {
		*why = strerror(errno);
		return -1;
	}
	if ((fd = open(directory, OPEN_DIRECTORY)) == -1) {
		*why = strerror(errno);
		return -1;
	}
	for (size_t i = 0; i < DIRECTORY_COUNT && rc >= 0; i++)
		rc = make_one(fd, directories[i].name, directories[i].mode);
	if (rc == -1 || fsync(fd) == -1) {
		*why = strerror(errno);
		close(fd);
		return -1;
	}
	close(fd);
	return 0;
}

int
spool_dir_open(struct spool_dir *dir, const char *directory, bool relay,
    const char **why)
{
	int parent;

	*dir = (struct spool_dir)SPOOL_DIR_INIT;
	if ((parent = open(directory, OPEN_DIRECTORY)) == -1) {
		*why = strerror(errno);
		return -1;
	}
	for (size_t i = 0; i < DIRECTORY_COUNT; i++) {
		int fd;

		if (directories[i].relay_only && !relay)
			continue;
		fd = openat(parent, directories[i].name,
		    OPEN_DIRECTORY | O_NOFOLLOW);
		if (fd == -1) {
			*why = strerror(errno);
			close(parent);
			spool_dir_close(dir);
			return -1;
		}
		memcpy((char *)dir + directories[i].offset, &fd, sizeof(fd));
	}
	close(parent);
	return 0;
}

void
spool_dir_close(struct spool_dir *dir)
{
	for (size_t i = 0; i < DIRECTORY_COUNT; i++) {
		int fd;

		memcpy(&fd, (char *)dir + directories[i].offset, sizeof(fd));
		if (fd != -1)
			close(fd);
	}
	*dir = (struct spool_dir)SPOOL_DIR_INIT;
}

void
segment_name_print(char name[SPOOL_NAME_SIZE], const char *writer,
    uint64_t serial)
{
	snprintf(name, SPOOL_NAME_SIZE, "%.31s-%016" PRIx64 ".seg", writer,
	    serial);
}

bool
segment_name_parse(const char *name, char writer[SEGMENT_WRITER_SIZE],
    uint64_t *serial)
{
	size_t len = strlen(name), writer_len;
	uint64_t value = 0;

	if (len < 22 || strcmp(name + len - 4, ".seg") != 0 ||
	    name[len - 21] != '-')
		return false;
	writer_len = len - 21;
	if (writer_len >= SEGMENT_WRITER_SIZE)
		return false;
	for (const char *p = name + writer_len + 1; p < name + len - 4; p++) {
		const char *digit = strchr("0123456789abcdef", *p);

		if (digit == NULL)
			return false;
		value = value << 4 | (uint64_t)(digit - "0123456789abcdef");
	}
	memset(writer, 0, SEGMENT_WRITER_SIZE);
	memcpy(writer, name, writer_len);
	*serial = value;
	return value != 0;
}

void
large_name_print(char name[SPOOL_NAME_SIZE], const char *id)
{
	snprintf(name, SPOOL_NAME_SIZE, "%.23s.msg", id);
}

int
spool_file_open(int directory, const char *name, int flags)
{
	struct stat st;
	int fd = openat(directory, name,
	    flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1)
		return fd;
	close(fd);
	errno = EPERM;
	return -1;
}

static void *
close_it(void *argument)
{
	close((int)(intptr_t)argument);
	return NULL;
}

static void
close_elsewhere(int fd)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attributes, close_it,
	    (void *)(intptr_t)fd);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	if (error != 0)
		close(fd);
}

int
spool_unlink(int directory, const char *name, int fd)
{
	int rc;

	if (fd == -1)
		fd = openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	rc = spool_calls.unlinkat(directory, name, 0);
	if (rc == -1 && errno == ENOENT)
		rc = 0;
	if (fd != -1)
		close_elsewhere(fd);
	return rc;
}

