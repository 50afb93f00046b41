/*
 * Buffered connections for tasks.
 *
 * System calls are what a connection costs, so none is made in vain: a read
 * that took all there was is followed by a wait, not by a read that ends in
 * EAGAIN.  The wait is safe because new data and a hang-up that come later are
 * reported; a hang-up that was reported before is remembered; and a reset
 * which came before, told by nobody, is found by a read after PROBE_MS.
 */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/io_internal.h"
#include "base/log.h"
#include "base/sanitize.h"

#define INPUT_SIZE	16384
#define INPUT_POOLED	32		/* buffers kept per thread */
#define ROOM_MIN	4096		/* less: move what is left first */
#define OUTPUT_LARGE	65536		/* io_put() sends from here on */
#define OUTPUT_KEPT	1024		/* of memory, when all is sent */
#define IOV_MAX_USED	64
#define PROBE_MS	2000
#define STREAK_MAX	32

/* --- input buffers --- */

static _Thread_local struct {
	char *free[INPUT_POOLED];
	size_t count;
} pool;

static void
take_buffer(struct io *io)
{
	if (io->input != NULL)
		return;
	if (pool.count > 0) {
		io->input = pool.free[--pool.count];
		ASAN_UNPOISON_MEMORY_REGION(io->input, INPUT_SIZE);
		return;
	}
	if ((io->input = malloc(INPUT_SIZE)) == NULL)
		fatal("out of memory (input buffer)");
}

static void
give_buffer(struct io *io)
{
	if (io->input == NULL)
		return;
	if (pool.count < INPUT_POOLED) {
		ASAN_POISON_MEMORY_REGION(io->input, INPUT_SIZE);
		pool.free[pool.count++] = io->input;
	} else {
		free(io->input);
	}
	io->input = NULL;
	io->start = io->end = io->scanned = 0;
}

/* --- begin and end --- */

int
io_fail(struct io *io, int error, const char *why)
{
	io->error = error;
	io->why = why;
	errno = error;
	return -1;
}

int
io_fail_text(struct io *io, int error, const char *text)
{
	free(io->why_text);
	if ((io->why_text = strdup(text)) == NULL)
		fatal("out of memory (error text)");
	return io_fail(io, error, io->why_text);
}

struct io *
io_new(int fd)
{
	struct io *io;
	int on = 1, flags;

	if ((io = calloc(1, sizeof(*io))) == NULL)
		fatal("out of memory (connection)");
	if ((flags = fcntl(fd, F_GETFL)) < 0)
		fatal("io: descriptor %d: %s", fd, strerror(errno));
	if ((flags & O_NONBLOCK) == 0)
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	ioctl(fd, FIOCLEX);
	/* Only TCP knows this option. */
	io->tcp = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
	    sizeof(on)) == 0;
	task_fd_init(&io->fd, fd);
	return io;
}

void
io_free(struct io **iop)
{
	struct io *io = *iop;

	if (io == NULL)
		return;
	io_tls_free(io);
	task_fd_release(&io->fd);
	close(io->fd.fd);
	give_buffer(io);
	buf_release(&io->output);
	free(io->why_text);
	free(io);
	*iop = NULL;
}

int
io_fd(const struct io *io)
{
	return io->fd.fd;
}

const char *
io_why(const struct io *io)
{
	return io->why != NULL ? io->why : strerror(io->error);
}

void
io_quickack(struct io *io)
{
	io->quickack = io->tcp;
}

/* --- input --- */

static ssize_t
receive(struct io *io, void *bytes, size_t len, enum task_want *want)
{
	ssize_t n;
	int on = 1;

	io->fd.readable = false;
	io->drained = false;
	if (io->ssl != NULL)
		return io_tls_read(io, bytes, len, want);
	if (io->quickack)
		(void)setsockopt(io->fd.fd, IPPROTO_TCP, TCP_QUICKACK, &on,
		    sizeof(on));
	do
		n = recv(io->fd.fd, bytes, len, 0);
	while (n < 0 && errno == EINTR);
	*want = TASK_READ;
	if (n > 0)
		io->drained = (size_t)n < len;
	if (n < 0 && errno != EAGAIN)
		io_fail(io, errno, NULL);
	return n;
}

/* Waits for input; nothing is held meanwhile if nothing is in the buffer. */
static int
wait_for(struct io *io, enum task_want want, int64_t deadline)
{
	if (io->start == io->end)
		give_buffer(io);
	io->streak = 0;
	if (task_fd_wait(&io->fd, want, deadline) != 0)
		return io_fail(io, errno, NULL);
	return 0;
}

/* Before a read: waits if there can't be anything to read. */
static int
wait_if_drained(struct io *io, int64_t deadline)
{
	int64_t probe;

	if (!io->drained || io->fd.readable || io->fd.hangup) {
		/* A fast peer must not keep the other tasks from running. */
		if (++io->streak >= STREAK_MAX) {
			io->streak = 0;
			task_yield();
		}
		return 0;
	}
	probe = task_deadline(PROBE_MS);
	if (wait_for(io, TASK_READ, probe < deadline ? probe : deadline) == 0)
		return 0;
	if (errno == ETIMEDOUT && probe < deadline)
		return 0;
	return -1;
}

ssize_t
io_fill(struct io *io, int64_t deadline)
{
	enum task_want want = TASK_READ;
	ssize_t n;

	if (io->start == io->end)
		io->start = io->end = io->scanned = 0;
	if (wait_if_drained(io, deadline) != 0)
		return -1;
	for (;;) {
		take_buffer(io);
		if (io->start > 0 && INPUT_SIZE - io->end < ROOM_MIN) {
			memmove(io->input, io->input + io->start,
			    io->end - io->start);
			io->end -= io->start;
			io->start = 0;
		}
		if (io->end == INPUT_SIZE)
			return io_fail(io, EMSGSIZE, NULL);
		n = receive(io, io->input + io->end, INPUT_SIZE - io->end,
		    &want);
		if (n > 0)
			io->end += (size_t)n;
		if (n >= 0 || errno != EAGAIN)
			return n;
		if (wait_for(io, want, deadline) != 0)
			return -1;
	}
}

const char *
io_input(const struct io *io, size_t *len)
{
	*len = io->end - io->start;
	return *len > 0 ? io->input + io->start : "";
}

void
io_consume(struct io *io, size_t len)
{
	if (len > io->end - io->start)
		fatal("io: %zu bytes consumed, %zu there", len,
		    io->end - io->start);
	io->start += len;
	io->scanned = io->scanned > len ? io->scanned - len : 0;
}

int
io_read_line(struct io *io, size_t max, const char **line, size_t *len,
    int64_t deadline)
{
	const char *lf, *from;
	size_t have;
	ssize_t n;

	for (;;) {
		have = io->end - io->start;
		if (have > max)
			have = max;
		lf = NULL;
		from = have > 0 ? io->input + io->start : NULL;
		if (have > io->scanned)
			lf = memchr(from + io->scanned, '\n',
			    have - io->scanned);
		if (lf != NULL) {
			*line = from;
			*len = (size_t)(lf - from) + 1;
			io_consume(io, *len);
			io->scanned = 0;
			return 1;
		}
		if (have > io->scanned)
			io->scanned = have;
		if (have == max || have == INPUT_SIZE)
			return io_fail(io, EMSGSIZE, NULL);
		if ((n = io_fill(io, deadline)) <= 0)
			return (int)n;
	}
}

/* Large reads go past the buffer, which is empty. */
static ssize_t
read_directly(struct io *io, char *bytes, size_t len, int64_t deadline)
{
	enum task_want want = TASK_READ;
	ssize_t n;

	if (wait_if_drained(io, deadline) != 0)
		return -1;
	for (;;) {
		n = receive(io, bytes, len, &want);
		if (n >= 0 || errno != EAGAIN)
			return n;
		if (wait_for(io, want, deadline) != 0)
			return -1;
	}
}

int
io_read_full(struct io *io, void *bytes, size_t len, int64_t deadline)
{
	char *to = bytes;
	size_t done = 0, have;
	ssize_t n;

	while (done < len) {
		have = io->end - io->start;
		if (have > 0) {
			if (have > len - done)
				have = len - done;
			memcpy(to + done, io->input + io->start, have);
			io_consume(io, have);
			done += have;
			continue;
		}
		if (len - done >= INPUT_SIZE) {
			n = read_directly(io, to + done, len - done, deadline);
			if (n > 0)
				done += (size_t)n;
		} else {
			n = io_fill(io, deadline);
		}
		if (n < 0)
			return -1;
		if (n == 0 && done == 0)
			return 0;
		if (n == 0)
			return io_fail(io, ECONNRESET,
			    "the peer closed within a packet");
	}
	return 1;
}

bool
io_peer_gone(struct io *io)
{
	ssize_t n;
	char c;

	if (io->start < io->end)
		return false;
	if (io->ssl != NULL)
		return io_tls_peer_gone(io);
	n = recv(io->fd.fd, &c, 1, MSG_PEEK | MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

/* --- output --- */

/* Drops what was sent from the front; true when nothing is left. */
static bool
advance(struct iovec **iov, int *count, size_t sent)
{
	while (*count > 0 && sent >= (*iov)->iov_len) {
		sent -= (*iov)->iov_len;
		(*iov)++;
		(*count)--;
	}
	if (*count == 0)
		return true;
	(*iov)->iov_base = (char *)(*iov)->iov_base + sent;
	(*iov)->iov_len -= sent;
	return false;
}

/*
 * Sends all; iov is changed.  *sent counts what went out, even on failure.
 */
static int
send_clear(struct io *io, struct iovec *iov, int count, int flags,
    int64_t deadline, size_t *sent)
{
	struct msghdr message = { 0 };
	ssize_t n;

	*sent = 0;
	if (advance(&iov, &count, 0))
		return 0;
	for (;;) {
		message.msg_iov = iov;
		message.msg_iovlen = (size_t)count;
		n = sendmsg(io->fd.fd, &message, MSG_NOSIGNAL | flags);
		if (n >= 0) {
			*sent += (size_t)n;
			if (advance(&iov, &count, (size_t)n))
				return 0;
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return io_fail(io, errno, NULL);
		if (task_fd_wait(&io->fd, TASK_WRITE, deadline) != 0)
			return io_fail(io, errno, NULL);
	}
}

/* One task may wait for input at a time; the reader goes first. */
static int
wait_for_tls(struct io *io, enum task_want want, int64_t deadline)
{
	if (want == TASK_READ && io->fd.reader != NULL)
		return task_now() < deadline ? task_sleep(1) :
		    io_fail(io, ETIMEDOUT, NULL);
	if (task_fd_wait(&io->fd, want, deadline) != 0)
		return io_fail(io, errno, NULL);
	return 0;
}

static int
send_tls(struct io *io, const char *bytes, size_t len, int64_t deadline,
    size_t *sent)
{
	enum task_want want = TASK_WRITE;
	ssize_t n;

	*sent = 0;
	while (*sent < len) {
		n = io_tls_write(io, bytes + *sent, len - *sent, &want);
		if (n >= 0)
			*sent += (size_t)n;
		else if (errno != EAGAIN)
			return -1;
		else if (wait_for_tls(io, want, deadline) != 0)
			return -1;
	}
	return 0;
}

static void
drop_sent(struct io *io, size_t sent)
{
	buf_drain(&io->output, sent);
	if (io->output.len == 0 && io->output.size > OUTPUT_KEPT)
		buf_release(&io->output);
}

void
io_put(struct io *io, const void *bytes, size_t len)
{
	ssize_t n;

	buf_append(&io->output, bytes, len);
	if (io->output.len < OUTPUT_LARGE || io->ssl != NULL || io->flushing)
		return;
	/* What cannot be sent now, or fails, is io_flush()'s to handle. */
	n = send(io->fd.fd, io->output.data, io->output.len,
	    MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0)
		drop_sent(io, (size_t)n);
}

void
io_puts(struct io *io, const char *string)
{
	io_put(io, string, strlen(string));
}

void
io_printf(struct io *io, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(&io->output, format, args);
	va_end(args);
}

size_t
io_pending(const struct io *io)
{
	return io->output.len;
}

int
io_flush(struct io *io, int64_t deadline)
{
	struct buf sending = io->output;
	struct iovec iov = { sending.data, sending.len };
	size_t sent;
	int rc;

	if (sending.len == 0)
		return 0;
	if (io->flushing)
		fatal("io: two tasks send at a time");
	/* What is put meanwhile goes to a buffer of its own. */
	io->flushing = true;
	io->output = (struct buf)BUF_INIT;
	rc = io->ssl != NULL ?
	    send_tls(io, sending.data, sending.len, deadline, &sent) :
	    send_clear(io, &iov, 1, 0, deadline, &sent);
	io->flushing = false;
	buf_drain(&sending, sent);
	if (io->output.len > 0)
		buf_append(&sending, io->output.data, io->output.len);
	buf_release(&io->output);
	io->output = sending;
	drop_sent(io, 0);
	if (rc == 0 && io->output.len > 0)
		return io_flush(io, deadline);
	return rc;
}

/* TLS: small pieces are gathered into one record. */
static int
writev_tls(struct io *io, const struct iovec *iov, int count,
    int64_t deadline)
{
	size_t sent;

	for (int i = 0; i < count; i++) {
		if (iov[i].iov_len < ROOM_MIN) {
			buf_append(&io->output, iov[i].iov_base,
			    iov[i].iov_len);
			if (io->output.len >= INPUT_SIZE &&
			    io_flush(io, deadline) != 0)
				return -1;
			continue;
		}
		if (io_flush(io, deadline) != 0)
			return -1;
		if (send_tls(io, iov[i].iov_base, iov[i].iov_len, deadline,
		    &sent) != 0)
			return -1;
	}
	return io_flush(io, deadline);
}

int
io_writev(struct io *io, const struct iovec *iov, int count, int64_t deadline)
{
	struct iovec part[IOV_MAX_USED];
	struct buf sending = io->output;
	int n = 0, rc = 0;
	size_t sent;

	if (io->ssl != NULL)
		return writev_tls(io, iov, count, deadline);
	if (io->flushing)
		fatal("io: two tasks send at a time");
	io->flushing = true;
	io->output = (struct buf)BUF_INIT;
	if (sending.len > 0)
		part[n++] = (struct iovec){ sending.data, sending.len };
	while (rc == 0 && (count > 0 || n > 0)) {
		for (; count > 0 && n < IOV_MAX_USED; count--)
			part[n++] = *iov++;
		rc = send_clear(io, part, n, count > 0 ? MSG_MORE : 0,
		    deadline, &sent);
		n = 0;
	}
	io->flushing = false;
	buf_release(&sending);
	return rc;
}
