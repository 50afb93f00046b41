/*
 * sink: takes mail by SMTP and throws it away, as fast as it can.
 *
 *	sink -p port [-n messages]
 *
 * After that many messages it prints when the first and the last came, in
 * seconds of the monotonic clock, and ends.
 */
#include "config.h"

#include <errno.h>
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

static long wanted, received;
static double first, last;

static double
now_seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
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
	if (received++ == 0)
		first = last;
	if (received != wanted)
		return;
	printf("first=%.6f last=%.6f received=%ld\n", first, last, received);
	fflush(stdout);
	task_stop();
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
		if (strncasecmp(line, "QUIT", 4) == 0)
			break;
		if (strncasecmp(line, "DATA", 4) != 0) {
			answer(io, line);
			continue;
		}
		io_puts(io, "354 Go\r\n");
		if (io_flush(io, task_deadline(WAIT_MS)) != 0 ||
		    !swallow_data(io))
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
	int option, fd;

	while ((option = getopt(argc, argv, "p:n:")) != -1) {
		switch (option) {
		case 'p':
			snprintf(address, sizeof(address), "127.0.0.1:%s",
			    optarg);
			break;
		case 'n':
			wanted = atol(optarg);
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
	task_loop();
	close(fd);
	return 0;
}
