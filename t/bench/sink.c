/*
 * sink: takes mail by SMTP and throws it away, as fast as it can.
 *
 *	sink -p port [-o file] [-k file]
 *
 * The first file tells, never older than a few milliseconds, how many messages
 * have come so far and when the last one did, in seconds of the monotonic
 * clock.  Whenever the second isn't there, the next message's header goes to it.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/net.h"
#include "base/task.h"

#define LINE_MAX_LEN 4096
#define WAIT_MS 300000

#define REPORT_MS 10

static const char *keep;
static long received;
static double last;

static double
now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool
keep_header(struct io *io)
{
	const char *bytes, *end;
	size_t len;
	int fd;

	if (keep == NULL || (fd = open(keep, O_WRONLY | O_CREAT | O_EXCL |
	    O_CLOEXEC, 0644)) == -1)
		return true;
	for (;;) {
		bytes = io_input(io, &len);
		end = len == 0 ? NULL : memmem(bytes, len, "\r\n\r\n", 4);
		if (end != NULL || io_fill(io, task_deadline(WAIT_MS)) <= 0)
			break;
	}
	if (end != NULL && write(fd, bytes, (size_t)(end - bytes) + 4) < 0)
		fprintf(stderr, "sink: %s: %s\n", keep, strerror(errno));
	close(fd);
	return end != NULL;
}

/* Reads up to the end of data.  Only a client that we know comes here. */
static bool
swallow_data(struct io *io)
{
	static const char end[] = "\r\n.\r\n";
	const char *bytes, *found;
	size_t len;

	for (;;) {
		bytes = io_input(io, &len);
		found = len == 0 ? NULL : memmem(bytes, len, end, 5);
		if (found != NULL) {
			io_consume(io, (size_t)(found - bytes) + 5);
			return true;
		}
		/* What may be the beginning of the end stays. */
		if (len > 4)
			io_consume(io, len - 4);
		if (io_fill(io, task_deadline(WAIT_MS)) <= 0)
			return false;
	}
}

static void
count(void)
{
	last = now_seconds();
	received++;
}

static void
report(void *argument)
{
	int fd = *(const int *)argument;
	long reported = -1;
	char line[80];

	while (task_sleep(REPORT_MS) == 0) {
		if (received == reported)
			continue;
		reported = received;
		snprintf(line, sizeof(line), "received=%-12ld last=%.6f\n",
		    received, last);
		if (pwrite(fd, line, strlen(line), 0) < 0)
			fprintf(stderr, "sink: %s\n", strerror(errno));
	}
}

static void
answer(struct io *io, const char *line)
{
	if (strncasecmp(line, "EHLO", 4) == 0)
		io_puts(io, "250-sink.test\r\n250-PIPELINING\r\n"
		    "250-8BITMIME\r\n250 SIZE\r\n");
	else
		io_puts(io, "250 Ok\r\n");
}

static void
serve(void *argument)
{
	struct io *io = argument;
	const char *line;
	size_t len, left;

	io_puts(io, "220 sink.test ESMTP\r\n");
	for (;;) {
		io_input(io, &left);
		if (left == 0 && io_flush(io, task_deadline(WAIT_MS)) != 0)
			break;
		if (io_read_line(io, LINE_MAX_LEN, &line, &len,
		    task_deadline(WAIT_MS)) != 1)
			break;
		if (strncasecmp(line, "QUIT", 4) == 0) {
			io_puts(io, "221 Bye\r\n");
			io_flush(io, task_deadline(WAIT_MS));
			break;
		}
		if (strncasecmp(line, "DATA", 4) != 0) {
			answer(io, line);
			continue;
		}
		io_puts(io, "354 Go\r\n");
		if (io_flush(io, task_deadline(WAIT_MS)) != 0 ||
		    !keep_header(io) || !swallow_data(io))
			break;
		io_puts(io, "250 Ok\r\n");
		count();
	}
	io_free(&io);
}

static void
listen_for_mail(void *argument)
{
	struct task_fd listener;
	int fd;

	task_fd_init(&listener, *(const int *)argument);
	for (;;) {
		fd = accept4(listener.fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			task_detach("sink", serve, io_new(fd));
		else if (errno != EAGAIN || task_fd_wait(&listener, TASK_READ,
		    DEADLINE_NEVER) != 0)
			break;
	}
	task_fd_release(&listener);
}

int
main(int argc, char **argv)
{
	struct net_endpoint endpoint;
	char address[32] = "";
	const char *why;
	int option, fd, out = -1;

	while ((option = getopt(argc, argv, "p:o:k:")) != -1) {
		switch (option) {
		case 'p':
			snprintf(address, sizeof(address), "127.0.0.1:%s",
			    optarg);
			break;
		case 'o':
			out = open(optarg, O_WRONLY | O_CREAT | O_TRUNC, 0644);
			break;
		case 'k':
			keep = optarg;
			break;
		default:
			return 64;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	if (net_endpoint_parse(address, &endpoint, &why) != 0 ||
	    (fd = net_listen(&endpoint, 1024, 0, &why)) == -1) {
		fprintf(stderr, "sink: %s: %s\n", address, why);
		return 71;
	}
	task_init();
	task_detach("listen", listen_for_mail, &fd);
	if (out != -1)
		task_detach("report", report, &out);
	task_loop();
	close(fd);
	return 0;
}
