/* System calls of the spool, replaceable by tests. */
#include "gateway/spool_calls.h"

#include <errno.h>
#include <unistd.h>

struct spool_calls spool_calls = { pwritev, pwrite, fdatasync, fsync,
	unlinkat };

int
spool_write_all(int fd, const void *bytes, size_t len, off_t offset)
{
	const char *p = bytes;

	while (len > 0) {
		ssize_t n = spool_calls.pwrite(fd, p, len, offset);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			return -1;
		p += n;
		len -= (size_t)n;
		offset += n;
	}
	return 0;
}
