/* The policy server. */
#define _GNU_SOURCE		/* accept4 */
#include "policy/server.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/counter.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "policy/greylist.h"
#include "policy/memo.h"
#include "policy/policy.h"
#include "policy/protocol.h"
#include "policy/report.h"

#define REQUEST_MS	10000		/* from its first byte to its last */
#define ANSWER_MS	10000
#define LINE_MAX_SIZE	16384
#define ACCEPT_PAUSE_MS	100
#define KEPT_TEXT	1024
#define COMPLAINTS	64		/* in the log, at most so many */
#define COMPLAINTS_MS	60000		/* in this time */

struct client {
	struct policy_server *server;
	struct io *io;
	struct task *task;
	bool idle;			/* between two requests */
	struct client *previous, *next;	/* the longest idle is the first */
};

struct listener {
	struct task *task;
	struct task_fd fd;
	struct policy_server *server;
	struct listener *next;
};

struct policy_server {
	const struct policy_options *options;
	struct greylist *greylist;
	struct memo *memo;
	struct reports *reports;
	struct listener *listeners;
	struct client *first, *last;
	size_t count;
	bool draining;
	bool full;			/* that was logged */
	int64_t silent_until[COMPLAINTS];	/* by a hash of the address */
	struct task_cond gone;		/* a client is */
	struct counter *clients, *refused, *malformed;
	struct counter *answers[3];
};

static const struct counter_row counter_rows[] = {
	{ "millgate_policy_clients", COUNTER_GAUGE,
	    "Connections to the policy server." },
	{ "millgate_policy_refused_total", COUNTER_TOTAL,
	    "Connections that were closed as there were too many." },
	{ "millgate_policy_malformed_total", COUNTER_TOTAL,
	    "Policy requests that made no sense or did not end." },
	{ "millgate_policy_requests_total", COUNTER_TOTAL,
	    "Policy requests by what was answered." },
};
COUNTER_TABLE(counter_rows)

/* --- the list of clients --- */

static void
unlink_client(struct policy_server *server, struct client *client)
{
	*(client->previous != NULL ? &client->previous->next :
	    &server->first) = client->next;
	*(client->next != NULL ? &client->next->previous :
	    &server->last) = client->previous;
	client->previous = client->next = NULL;
}

static void
append_client(struct policy_server *server, struct client *client)
{
	client->previous = server->last;
	*(server->last != NULL ? &server->last->next : &server->first) =
	    client;
	server->last = client;
}

/* --- one request --- */

/* Certificates need not be verified: who has the key is the same again. */
static const char *
identity(const struct policy_request *request)
{
	const char *user = policy_known(request, POLICY_SASL_USERNAME);

	return user != NULL ? user :
	    policy_known(request, POLICY_CCERT_PUBKEY_FINGERPRINT);
}

static enum answer
ask_greylist(struct policy_server *server,
    const struct policy_request *request, int64_t *wait_ms, const char **why)
{
	const struct greylist_request question = {
		.identity = identity(request),
		.client_address = policy_known(request, POLICY_CLIENT_ADDRESS),
		.client_name = policy_known(request, POLICY_CLIENT_NAME),
		.sender = policy_value(request, POLICY_SENDER),
		.recipient = policy_value(request, POLICY_RECIPIENT),
	};
	enum answer answer;

	*why = "asked before";
	if (memo_get(server->memo, request, task_now(), &answer, wait_ms))
		return answer;
	answer = greylist_check(server->greylist, &question, wait_ms, why);
	memo_put(server->memo, request, task_now(), answer, *wait_ms);
	return answer;
}

static void
log_answer(const struct policy_request *request, enum answer answer,
    const char *why)
{
	const char *name = policy_known(request, POLICY_CLIENT_NAME);
	char client[512];

	snprintf(client, sizeof(client), "%.255s[%.64s]",
	    name != NULL ? name : "unknown",
	    policy_value(request, POLICY_CLIENT_ADDRESS));
	log_event(NULL, LOG_LEVEL_INFO, "policy", (struct log_field[]){
	    LOG_STRING("client", client),
	    LOG_ADDRESS("from", policy_value(request, POLICY_SENDER)),
	    LOG_ADDRESS("to", policy_value(request, POLICY_RECIPIENT)),
	    LOG_STRING("action", answer == ANSWER_NO ? "defer_if_permit" :
		"dunno"),
	    LOG_COMMENT("why", why), LOG_END });
}

/* Only a recipient is greylisted: other states have nothing to ask. */
static void
decide(struct policy_server *server, const struct policy_request *request,
    struct policy_action *action)
{
	enum answer answer;
	const char *why;
	int64_t wait_ms;

	*action = (struct policy_action){ .verb = POLICY_DUNNO };
	if (strcmp(policy_value(request, POLICY_PROTOCOL_STATE), "RCPT") != 0)
		return;
	answer = ask_greylist(server, request, &wait_ms, &why);
	counter_add(server->answers[answer], 1);
	log_answer(request, answer, why);
	if (answer != ANSWER_NO)
		return;
	action->verb = POLICY_DEFER;
	strcpy(action->enhanced, "4.7.1");
	snprintf(action->text, sizeof(action->text),
	    "%s, try again in %lld seconds",
	    greylist_message(server->greylist),
	    (long long)(wait_ms > 1000 ? (wait_ms + 999) / 1000 : 1));
}

/* --- one connection --- */

static int
wait_idle(struct client *client)
{
	struct policy_server *server = client->server;
	int64_t deadline = task_deadline(server->options->idle_timeout);
	ssize_t n;
	size_t len;

	io_input(client->io, &len);
	if (len > 0)
		return 0;
	if (server->draining)
		return -1;
	unlink_client(server, client);
	append_client(server, client);
	client->idle = true;
	n = io_fill(client->io, deadline);
	client->idle = false;
	return n > 0 ? 0 : -1;
}

/* -1: the connection is to be closed; *why unless the client did so. */
static int
read_request(struct client *client, struct policy_request *request,
    const char **why)
{
	int64_t deadline;
	const char *line;
	size_t len;
	int rc;

	*why = NULL;
	policy_request_reset(request);
	if (wait_idle(client) != 0)
		return -1;
	deadline = task_deadline(REQUEST_MS);
	do {
		rc = io_read_line(client->io, LINE_MAX_SIZE, &line, &len,
		    deadline);
		if (rc == 1) {
			rc = policy_request_line(request, line, len, why);
			continue;
		}
		if (rc == 0)
			*why = "half a request";
		else if (errno != ECANCELED)
			*why = errno == EMSGSIZE ? "a line that is too long" :
			    io_why(client->io);
		return -1;
	} while (rc == 0);
	return rc == 1 ? 0 : -1;
}

/*
 * Reports are a matter of our own processes: their connections are the
 * master's, which is root, or all have the same user.
 */
static bool
is_ours(struct client *client)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	struct sockaddr_storage address;
	socklen_t address_len = sizeof(address);

	if (getsockname(io_fd(client->io), (struct sockaddr *)&address,
	    &address_len) == -1 || address.ss_family != AF_UNIX)
		return false;
	return getsockopt(io_fd(client->io), SOL_SOCKET, SO_PEERCRED, &peer,
	    &len) == 0 && (peer.uid == 0 || peer.uid == geteuid());
}

static int
send_answer(struct client *client, const struct policy_request *request)
{
	struct policy_action action;
	struct buf answer = BUF_INIT;

	if (strcmp(policy_value(request, POLICY_REQUEST),
	    POLICY_REQUEST_REPORT) == 0 && is_ours(client)) {
		reports_serve(client->server->reports, request, &answer);
	} else {
		decide(client->server, request, &action);
		policy_answer_put(&answer, &action);
	}
	io_put(client->io, answer.data, answer.len);
	buf_release(&answer);
	return io_flush(client->io, task_deadline(ANSWER_MS));
}

/*
 * A client that talks nonsense does so again and again: an address is named
 * once a minute, together with those whose hash is the same.
 */
static void
complain(struct policy_server *server, int fd, const char *why)
{
	struct sockaddr_storage address = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof(address);
	char text[NET_TEXT_SIZE];
	uint32_t hash = 2166136261;	/* FNV-1a */
	int64_t *until;

	counter_add(server->malformed, 1);
	if (getpeername(fd, (struct sockaddr *)&address, &len) == -1)
		address.ss_family = AF_UNSPEC;	/* it has reset it */
	net_unmap(&address);
	net_address_print((struct sockaddr *)&address, text);
	for (const char *p = text; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619;
	until = &server->silent_until[hash % COMPLAINTS];
	if (task_now() < *until)
		return;
	*until = task_deadline(COMPLAINTS_MS);
	log_warn(NULL, "policy: client=%s: closed without an answer: %s",
	    *text != '\0' ? text : "local", why);
}

static void
converse(void *argument)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct client *client = argument;
	struct policy_server *server = client->server;
	const char *why = NULL;

	client->task = task_self();
	while (read_request(client, &request, &why) == 0) {
		if (send_answer(client, &request) != 0)
			break;
		if (request.text.size > KEPT_TEXT)
			policy_request_release(&request);
	}
	if (why != NULL)
		complain(server, io_fd(client->io), why);
	policy_request_release(&request);
	unlink_client(server, client);
	io_free(&client->io);
	free(client);
	if (--server->count < (size_t)server->options->max_clients / 2)
		server->full = false;
	counter_add(server->clients, -1);
	task_cond_broadcast(&server->gone);
}

/* Room for one more: the connection that is idle the longest has to go. */
static bool
make_room(struct policy_server *server)
{
	struct client *client;

	if (server->count < (size_t)server->options->max_clients)
		return true;
	if (!server->full)
		log_warn(NULL, "policy: %zu connections, which is "
		    "max_clients: idle ones are closed", server->count);
	server->full = true;
	counter_add(server->refused, 1);
	for (client = server->first; client != NULL; client = client->next)
		if (client->idle) {
			client->idle = false;
			task_cancel(client->task);
			return true;
		}
	return false;
}

void
policy_server_serve(struct policy_server *server, int fd)
{
	struct client *client;

	if (!make_room(server)) {
		close(fd);
		return;
	}
	if ((client = calloc(1, sizeof(*client))) == NULL)
		fatal("out of memory (policy)");
	client->server = server;
	client->io = io_new(fd);
	append_client(server, client);
	server->count++;
	counter_add(server->clients, 1);
	task_detach("policy-client", converse, client);
}

/* --- listening --- */

static void
accept_clients(void *argument)
{
	struct listener *listener = argument;
	int fd, rc = 0;

	while (rc == 0) {
		fd = accept4(listener->fd.fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			policy_server_serve(listener->server, fd);
			continue;
		}
		if (errno == EAGAIN)
			rc = task_fd_wait(&listener->fd, TASK_READ,
			    DEADLINE_NEVER);
		else if (errno == EMFILE || errno == ENFILE ||
		    errno == ENOMEM || errno == ENOBUFS)
			rc = task_sleep(ACCEPT_PAUSE_MS);
		else if (errno == EBADF || errno == EINVAL)
			fatal("policy: accept: %s", strerror(errno));
	}
}

void
policy_server_listen(struct policy_server *server, int fd)
{
	struct listener *listener;

	if ((listener = calloc(1, sizeof(*listener))) == NULL)
		fatal("out of memory (policy)");
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	listener->server = server;
	task_fd_init(&listener->fd, fd);
	listener->next = server->listeners;
	server->listeners = listener;
	listener->task = task_start("policy-accept", accept_clients,
	    listener);
}

size_t
policy_server_clients(const struct policy_server *server)
{
	return server->count;
}

static void
stop_listening(struct policy_server *server)
{
	struct listener *listener;

	while ((listener = server->listeners) != NULL) {
		server->listeners = listener->next;
		task_reap(&listener->task);
		task_fd_release(&listener->fd);
		free(listener);
	}
}

static void
cancel_clients(struct policy_server *server, bool idle_only)
{
	struct client *client;

	for (client = server->first; client != NULL; client = client->next)
		if (client->task != NULL && (client->idle || !idle_only))
			task_cancel(client->task);
}

void
policy_server_drain(struct policy_server *server, int64_t deadline)
{
	server->draining = true;
	stop_listening(server);
	cancel_clients(server, true);
	while (server->count > 0)
		if (task_cond_wait(&server->gone, deadline) != 0)
			break;
	while (server->count > 0) {
		cancel_clients(server, false);
		task_yield();
	}
}

struct policy_server *
policy_server_new(const struct conf *conf, struct store *store)
{
	static const char *const labels[] = {
		[ANSWER_NO] = "answer=\"defer\"",
		[ANSWER_YES] = "answer=\"pass\"",
		[ANSWER_UNKNOWN] = "answer=\"unknown\"",
	};
	struct policy_server *server;

	if ((server = calloc(1, sizeof(*server))) == NULL)
		fatal("out of memory (policy)");
	server->options = conf_get(conf, "policy");
	server->greylist = greylist_new(conf, store);
	server->memo = memo_new();
	server->reports = reports_new(conf, store);
	server->clients = counter_get("millgate_policy_clients", NULL);
	server->refused = counter_get("millgate_policy_refused_total", NULL);
	server->malformed = counter_get("millgate_policy_malformed_total",
	    NULL);
	for (size_t i = 0; i < 3; i++)
		server->answers[i] = counter_get(
		    "millgate_policy_requests_total", labels[i]);
	return server;
}

void
policy_server_free(struct policy_server **serverp)
{
	struct policy_server *server = *serverp;

	*serverp = NULL;
	if (server == NULL)
		return;
	greylist_free(&server->greylist);
	memo_free(&server->memo);
	reports_free(&server->reports);
	free(server);
}
