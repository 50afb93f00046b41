#define _GNU_SOURCE		/* sendmmsg */
#include "base/log_sink.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define SYSLOG_PATH "/dev/log"
#define SYSLOG_PATIENCE_US 200000

#define GATHER_LINES 64

static struct {
	enum log_target target;
	int fd;
	atomic_long lost;
	atomic_bool failing;		/* the last line was lost */
} sink = { .target = LOG_TO_STDERR, .fd = STDERR_FILENO };

/*
 * What one write takes whole: a pipe may be shared with other processes, whose
 * lines must not come between (PIPE_BUF).
 */
static struct {
	size_t count, len;
	size_t ends[GATHER_LINES];
	char bytes[PIPE_BUF];
} gathered;

static _Thread_local bool gathering;

static int
syslog_connect(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_usec = SYSLOG_PATIENCE_US };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	strcpy(address.sun_path, SYSLOG_PATH);
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(fd);
		return -1;
	}
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	return fd;
}

/* Lines with their ends; true if they were written. */
static bool
write_lines(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	do {
		n = write(fd, bytes, len);
	} while (n < 0 && errno == EINTR);
	return n >= 0;
}

static void
told(size_t lines, bool taken)
{
	if (!taken)
		atomic_fetch_add(&sink.lost, (long)lines);
	atomic_store(&sink.failing, !taken);
}

/* A line without its end. */
static bool
send_syslog(const char *bytes, size_t len)
{
	if (sink.fd >= 0 && send(sink.fd, bytes, len, MSG_NOSIGNAL) >= 0)
		return true;
	if (sink.fd >= 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	/* syslogd was restarted. */
	if (sink.fd >= 0)
		close(sink.fd);
	if ((sink.fd = syslog_connect()) < 0)
		return false;
	return send(sink.fd, bytes, len, MSG_NOSIGNAL) >= 0;
}

static void
deliver(const char *bytes, size_t len)
{
	bool taken;

	if (sink.target != LOG_TO_SYSLOG) {
		taken = write_lines(sink.fd, bytes, len);
	} else if (!(taken = send_syslog(bytes, len - 1))) {
		/* In a chroot a new syslogd is out of reach; systemd reads
		 * stderr. */
		write_lines(STDERR_FILENO, bytes, len);
	}
	told(1, taken);
}

/* How many of the gathered lines the system log took at once. */
static size_t
send_gathered(void)
{
	struct mmsghdr messages[GATHER_LINES];
	struct iovec parts[GATHER_LINES];
	size_t i, start = 0;
	int n;

	if (sink.fd < 0)
		return 0;
	memset(messages, 0, gathered.count * sizeof(messages[0]));
	for (i = 0; i < gathered.count; i++) {
		parts[i].iov_base = gathered.bytes + start;
		parts[i].iov_len = gathered.ends[i] - start - 1;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
		start = gathered.ends[i];
	}
	n = sendmmsg(sink.fd, messages, (unsigned)gathered.count, MSG_NOSIGNAL);
	return n < 0 ? 0 : (size_t)n;
}

static void
flush(void)
{
	size_t i = 0, start;

	if (gathered.count == 0)
		return;
	if (sink.target == LOG_TO_SYSLOG) {
		i = send_gathered();
	} else {
		told(gathered.count, write_lines(sink.fd, gathered.bytes,
		    gathered.len));
		i = gathered.count;
	}
	for (; i < gathered.count; i++) {
		start = i == 0 ? 0 : gathered.ends[i - 1];
		deliver(gathered.bytes + start, gathered.ends[i] - start);
	}
	gathered.count = gathered.len = 0;
}

void
log_sink_open(enum log_target target, int fd)
{
	if (gathering)
		flush();
	if (sink.target == LOG_TO_SYSLOG && sink.fd >= 0)
		close(sink.fd);
	sink.target = target;
	sink.fd = target == LOG_TO_FD ? fd : STDERR_FILENO;
	if (target == LOG_TO_SYSLOG)
		sink.fd = syslog_connect();
}

void
log_sink_put(struct log_line *line, bool urgent)
{
	log_line_end(line);
	if (!gathering) {
		deliver(line->bytes, line->len);
		return;
	}
	if (gathered.len + line->len > sizeof(gathered.bytes))
		flush();
	if (line->len > sizeof(gathered.bytes)) {
		deliver(line->bytes, line->len);
		return;
	}
	memcpy(gathered.bytes + gathered.len, line->bytes, line->len);
	gathered.len += line->len;
	gathered.ends[gathered.count++] = gathered.len;
	if (urgent || gathered.count == GATHER_LINES)
		flush();
}

long
log_sink_lost(void)
{
	return atomic_load(&sink.failing) ? 0 : atomic_exchange(&sink.lost, 0);
}

void
log_flush(void)
{
	int saved_errno = errno;

	if (gathering)
		flush();
	errno = saved_errno;
}

void
log_gather(bool on)
{
	log_flush();
	gathering = on;
}
