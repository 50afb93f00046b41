/*
 * The system calls whose failure must not lose mail.  A table, so that a test
 * can put a failing one in; nothing else writes to it.
 */
#ifndef GATEWAY_SPOOL_CALLS_H
#define GATEWAY_SPOOL_CALLS_H

#include <sys/types.h>
#include <sys/uio.h>

struct spool_calls {
	ssize_t (*pwritev)(int fd, const struct iovec *, int count, off_t);
	ssize_t (*pwrite)(int fd, const void *, size_t, off_t);
	int (*fdatasync)(int fd);
	int (*fsync)(int fd);
	int (*unlinkat)(int directory, const char *name, int flags);
};

extern struct spool_calls spool_calls;

/* All of it, whatever the number of calls that takes; 0, or -1 with errno. */
int spool_write_all(int fd, const void *bytes, size_t len, off_t offset);

#endif
