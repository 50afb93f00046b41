/* Connections to servers, by TCP and UNIX sockets. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/io_internal.h"

#define UNIX_RETRY_MS	20

static int
connect_unix(const char *path, const char **why, int64_t deadline)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, error;

	if (strlen(path) >= sizeof(sun.sun_path)) {
		*why = strerror(errno = ENAMETOOLONG);
		return -1;
	}
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		*why = strerror(errno);
		return -1;
	}
	for (;;) {
		if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
			return fd;
		/* The listener's queue is full; nothing tells when not. */
		if (errno != EAGAIN)
			break;
		if (task_now() >= deadline) {
			errno = ETIMEDOUT;
			break;
		}
		if (task_sleep(UNIX_RETRY_MS) != 0)
			break;
	}
	error = errno;
	close(fd);
	*why = strerror(errno = error);
	return -1;
}

static io_connect_unix_f *unix_connector = connect_unix;

void
io_set_unix_connector(io_connect_unix_f *connector)
{
	unix_connector = connector != NULL ? connector : connect_unix;
}

static int
bind_source(int fd, const struct sockaddr *from, socklen_t len)
{
	int on = 1;

	/* The port is chosen at connect, when the four-tuple is known. */
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
	    sizeof(on));
	return bind(fd, from, len);
}

static int
finish_connect(struct io *io, int64_t deadline)
{
	socklen_t len = sizeof(int);
	int error = 0;

	if (task_fd_wait(&io->fd, TASK_WRITE, deadline) != 0)
		return -1;
	if (getsockopt(io->fd.fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		return -1;
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

static struct io *
connect_inet(const struct sockaddr *to, socklen_t to_len,
    const struct sockaddr *from, socklen_t from_len, int64_t deadline)
{
	struct io *io;
	int fd, error;

	fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd < 0)
		return NULL;
	if ((from != NULL && bind_source(fd, from, from_len) != 0) ||
	    (connect(fd, to, to_len) != 0 && errno != EINPROGRESS)) {
		error = errno;
		close(fd);
		errno = error;
		return NULL;
	}
	io = io_new(fd);
	if (finish_connect(io, deadline) == 0)
		return io;
	error = errno;
	io_free(&io);
	errno = error;
	return NULL;
}

struct io *
io_connect(const struct sockaddr *to, socklen_t to_len,
    const struct sockaddr *from, socklen_t from_len, int64_t deadline,
    const char **why)
{
	struct io *io;
	int fd;

	if (to->sa_family == AF_UNIX) {
		fd = unix_connector(((const struct sockaddr_un *)to)->sun_path,
		    why, deadline);
		return fd < 0 ? NULL : io_new(fd);
	}
	io = connect_inet(to, to_len, from, from_len, deadline);
	if (io == NULL)
		*why = strerror(errno);
	return io;
}
