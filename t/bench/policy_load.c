/*
 * policy_load: asks a policy service over many connections at once, one request
 * under way on each, as Postfix does, and prints how fast it answered.
 *
 *	policy_load -p port [-s connections] [-m requests]
 *	     [-k clients] (so many addresses ask in turn; each request is of a
 *	     message and for a recipient of its own)
 *	     [-a action] (what each answer is to begin with, in any case of
 *	     letters; others count as failed)
 *
 * Prints what figures.h tells of.
 */
#include "config.h"

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/io.h"
#include "base/task.h"
#include "policy/protocol.h"
#include "t/bench/figures.h"

#define LINE_MAX_LEN 4096
#define WAIT_MS 120000

static struct {
	int port, connections, requests, clients;
	const char *action;
} options = { .action = "", .connections = 100, .requests = 10000, .clients = 10000 };

static int started;

static void
make_request(struct buf *out, int number)
{
	int client = number % options.clients;
	char address[32], recipient[64], instance[32];

	snprintf(address, sizeof(address), "10.%d.%d.%d", client >> 16,
	    client >> 8 & 255, client & 255);
	snprintf(recipient, sizeof(recipient), "user%d@example.test", number);
	snprintf(instance, sizeof(instance), "%d.%d", (int)getpid(), number);
	policy_put(out, POLICY_REQUEST, "smtpd_access_policy");
	policy_put(out, POLICY_PROTOCOL_STATE, "RCPT");
	policy_put(out, POLICY_PROTOCOL_NAME, "ESMTP");
	policy_put(out, POLICY_HELO_NAME, "client.sender.test");
	policy_put(out, POLICY_SENDER, "load@sender.test");
	policy_put(out, POLICY_RECIPIENT, recipient);
	policy_put(out, POLICY_RECIPIENT_COUNT, "0");
	policy_put(out, POLICY_CLIENT_ADDRESS, address);
	policy_put(out, POLICY_CLIENT_NAME, "unknown");
	policy_put(out, POLICY_REVERSE_CLIENT_NAME, "unknown");
	policy_put(out, POLICY_INSTANCE, instance);
	policy_put(out, POLICY_SIZE, "5120");
	policy_end(out);
}

static struct io *
open_connection(void)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)options.port) };
	const char *why;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return io_connect((const struct sockaddr *)&to, sizeof(to), NULL, 0,
	    task_deadline(WAIT_MS), &why);
}

/* An answer is action=..., as it should be, and an empty line. */
static bool
ask(struct io *io, const struct buf *request)
{
	const char *line;
	size_t len, wanted = strlen(options.action);

	io_put(io, request->data, request->len);
	return io_flush(io, task_deadline(WAIT_MS)) == 0 &&
	    io_read_line(io, LINE_MAX_LEN, &line, &len,
	    task_deadline(WAIT_MS)) == 1 && len > 7 + wanted &&
	    memcmp(line, "action=", 7) == 0 &&
	    strncasecmp(line + 7, options.action, wanted) == 0 &&
	    io_read_line(io, LINE_MAX_LEN, &line, &len,
	    task_deadline(WAIT_MS)) == 1 && len == 1;
}

static void
run_connection(void *argument)
{
	struct buf request = BUF_INIT;
	struct io *io = NULL;
	double begin;

	(void)argument;
	while (started < options.requests) {
		buf_reset(&request);
		make_request(&request, started++);
		begin = figures_now();
		if ((io == NULL && (io = open_connection()) == NULL) ||
		    !ask(io, &request)) {
			figures_failed();
			io_free(&io);
			continue;
		}
		figures_done(begin);
	}
	io_free(&io);
	buf_release(&request);
}

int
main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "p:s:m:k:a:")) != -1) {
		switch (option) {
		case 'p': options.port = atoi(optarg); break;
		case 's': options.connections = atoi(optarg); break;
		case 'm': options.requests = atoi(optarg); break;
		case 'k': options.clients = atoi(optarg); break;
		case 'a': options.action = optarg; break;
		default: return 64;
		}
	}
	if (options.clients < 1 || figures_begin(options.requests) != 0)
		return 64;
	signal(SIGPIPE, SIG_IGN);
	task_init();
	for (int i = 0; i < options.connections; i++)
		task_detach("connection", run_connection, NULL);
	task_loop();
	task_shutdown();
	return figures_print() ? 0 : 1;
}
