/*
 * load: sends messages by SMTP over many sessions at once and prints how fast
 * they were accepted.  Each session speaks as an MTA does: it pipelines MAIL,
 * RCPT and DATA, and sends many messages over one connection.
 *
 *	load -p port [-a address] [-r sender] [-s sessions] [-m messages]
 *	     [-c per connection]
 *	     [-l bytes | -f file] (a message of that length, or that one, with
 *	     CRLF and without dots at line starts)
 *	     [-i] (open idle sessions, print "ready", wait for input)
 *	     [-w milliseconds between messages of a session]
 *
 * Prints name=value pairs: start and end in seconds of the monotonic clock,
 * messages accepted and failed, latencies of a transaction in microseconds.
 */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/task.h"
#include "t/bench/figures.h"

#define LINE_MAX_LEN 4096
#define WAIT_MS 120000

static struct {
	int port, sessions, messages, length, per_connection, pause_ms;
	int idle;
	const char *address, *file, *sender;
} options = { .sessions = 10, .messages = 1000, .length = 5120,
	.per_connection = 100, .address = "127.0.0.1",
	.sender = "load@sender.test" };

static struct buf content = BUF_INIT;
static int started;

/* Reads one reply; its code, or -1. */
static int
read_reply(struct io *io)
{
	const char *line;
	size_t len;

	do {
		if (io_read_line(io, LINE_MAX_LEN, &line, &len,
		    task_deadline(WAIT_MS)) != 1 || len < 4)
			return -1;
	} while (line[3] == '-');
	return atoi(line);
}

static struct io *
open_session(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)options.port) };
	const char *why;
	struct io *io;

	if (inet_pton(AF_INET, options.address, &to.sin_addr) != 1)
		return NULL;
	io = io_connect((const struct sockaddr *)&to, sizeof(to), NULL, 0,
	    task_deadline(WAIT_MS), &why);
	if (io == NULL)
		return NULL;
	if (read_reply(io) == 220) {
		io_puts(io, "EHLO load.test\r\n");
		if (io_flush(io, task_deadline(WAIT_MS)) == 0 &&
		    read_reply(io) == 250)
			return io;
	}
	io_free(&io);
	return NULL;
}

/* One transaction; whether it was accepted. */
static bool
send_message(struct io *io)
{
	struct iovec bytes = { content.data, content.len };
	bool ok;

	io_puts(io, "MAIL FROM:<");
	io_puts(io, options.sender);
	io_puts(io, ">\r\nRCPT TO:<sink@example.test>\r\nDATA\r\n");
	if (io_flush(io, task_deadline(WAIT_MS)) != 0)
		return false;
	ok = read_reply(io) == 250;
	ok = read_reply(io) == 250 && ok;
	ok = read_reply(io) == 354 && ok;
	if (!ok || io_writev(io, &bytes, 1, task_deadline(WAIT_MS)) != 0)
		return false;
	return read_reply(io) == 250;
}

static void
run_session(void *argument)
{
	struct io *io = NULL;
	double begin;
	int sent = 0;

	(void)argument;
	while (started < options.messages) {
		started++;
		if (io == NULL && (io = open_session()) == NULL) {
			figures_failed();
			continue;
		}
		begin = figures_now();
		if (!send_message(io)) {
			figures_failed();
			io_free(&io);
			continue;
		}
		figures_done(begin);
		if (++sent % options.per_connection == 0) {
			io_puts(io, "QUIT\r\n");
			io_flush(io, task_deadline(WAIT_MS));
			io_free(&io);
		}
		if (options.pause_ms > 0)
			task_sleep(options.pause_ms);
	}
	io_free(&io);
}

/* Opens sessions that do nothing; they last until standard input ends. */
static void
run_idle(void *argument)
{
	struct io **ios = calloc((size_t)options.sessions, sizeof(*ios));
	int opened = 0;
	char byte;

	(void)argument;
	for (int i = 0; ios != NULL && i < options.sessions; i++)
		if ((ios[i] = open_session()) != NULL)
			opened++;
	printf("opened=%d\n", opened);
	fflush(stdout);
	if (read(STDIN_FILENO, &byte, 1) < 0)
		fprintf(stderr, "load: %s\n", strerror(errno));
	for (int i = 0; ios != NULL && i < options.sessions; i++)
		io_free(&ios[i]);
	free(ios);
}

static int
read_content(const char *path)
{
	ssize_t n = -1;
	int fd;

	if ((fd = open(path, O_RDONLY | O_CLOEXEC)) == -1)
		return -1;
	while ((n = read(fd, buf_reserve(&content, 65536), 65536)) > 0)
		content.len += (size_t)n;
	close(fd);
	buf_puts(&content, ".\r\n");
	return (int)n;
}

static void
make_content(void)
{
	buf_puts(&content, "From: Load <load@sender.test>\r\n"
	    "To: Sink <sink@example.test>\r\nSubject: load\r\n"
	    "Date: Tue, 24 Nov 2026 03:00:00 +0000\r\n"
	    "Message-ID: <load@sender.test>\r\n\r\n");
	while (content.len < (size_t)options.length)
		buf_puts(&content, "The quick brown fox jumps over the lazy "
		    "dog, and nobody wonders why.\r\n");
	buf_puts(&content, ".\r\n");
}

int
main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "p:a:r:f:s:m:l:c:w:i")) != -1) {
		switch (option) {
		case 'p': options.port = atoi(optarg); break;
		case 'a': options.address = optarg; break;
		case 'r': options.sender = optarg; break;
		case 'f': options.file = optarg; break;
		case 's': options.sessions = atoi(optarg); break;
		case 'm': options.messages = atoi(optarg); break;
		case 'l': options.length = atoi(optarg); break;
		case 'c': options.per_connection = atoi(optarg); break;
		case 'w': options.pause_ms = atoi(optarg); break;
		case 'i': options.idle = 1; break;
		default: return 64;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	if (options.file == NULL) {
		make_content();
	} else if (read_content(options.file) == -1) {
		fprintf(stderr, "load: %s: %s\n", options.file,
		    strerror(errno));
		return 66;
	}
	task_init();
	if (figures_begin(options.messages) != 0)
		return 71;
	if (options.idle)
		task_detach("idle", run_idle, NULL);
	for (int i = 0; !options.idle && i < options.sessions; i++)
		task_detach("session", run_session, NULL);
	task_loop();
	task_shutdown();
	buf_release(&content);
	return options.idle || figures_print() ? 0 : 1;
}
