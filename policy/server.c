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
#include "policy/memo.h"
#include "policy/policy.h"
#include "policy/profile.h"
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
	bool ours;			/* of our own processes */
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
	struct profiles *profiles;
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
	struct counter *answers[POLICY_OTHER];	/* by verb */
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

static enum policy_state
state_of(const struct policy_request *request)
{
	static const struct {
		const char *name;
		enum policy_state state;
	} states[] = {
		{ "RCPT", POLICY_AT_RCPT }, { "DATA", POLICY_AT_DATA },
		{ "END-OF-MESSAGE", POLICY_AT_END }, { "MAIL", POLICY_AT_MAIL },
		{ "CONNECT", POLICY_AT_CONNECT }, { "HELO", POLICY_AT_HELO },
		{ "EHLO", POLICY_AT_HELO },
	};
	const char *name = policy_value(request, POLICY_PROTOCOL_STATE);

	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		if (strcmp(states[i].name, name) == 0)
			return states[i].state;
	return 0;
}

/* One line for what a service had to say. */
static void
log_decision(const struct policy_request *request,
    const struct policy_decision *decision)
{
	static const char *const actions[] = {
		[POLICY_DUNNO] = "dunno", [POLICY_PASS] = "pass",
		[POLICY_DEFER] = "defer", [POLICY_REJECT] = "reject",
		[POLICY_HOLD] = "hold", [POLICY_OTHER] = "dunno",
	};
	const char *name = policy_known(request, POLICY_CLIENT_NAME);
	char client[512];

	if (decision->by[0] == '\0')
		return;
	snprintf(client, sizeof(client), "%.255s[%.64s]",
	    name != NULL ? name : "unknown",
	    policy_value(request, POLICY_CLIENT_ADDRESS));
	log_event(NULL, LOG_LEVEL_INFO, "policy", (struct log_field[]){
	    LOG_STRING("client", client),
	    LOG_ADDRESS("from", policy_value(request, POLICY_SENDER)),
	    LOG_ADDRESS("to", policy_value(request, POLICY_RECIPIENT)),
	    LOG_STRING("state", policy_value(request, POLICY_PROTOCOL_STATE)),
	    LOG_STRING("action", actions[decision->verb]),
	    LOG_STRING("by", decision->by),
	    LOG_STRING("reason", decision->reason),
	    LOG_COMMENT("why", decision->why[0] != '\0' ? decision->why :
		decision->text), LOG_END });
}

static void
decide(struct policy_server *server, const struct policy_query *query,
    struct policy_action *action)
{
	const struct policy_request *request = query->request;
	struct policy_decision decision = { .verb = POLICY_DUNNO };
	struct memo_key key;

	if (query->state != 0) {
		key = memo_key(request);
		if (!memo_get(server->memo, &key, task_now(), &decision)) {
			profiles_decide(server->profiles, query, &decision);
			memo_put(server->memo, &key, task_now(), &decision);
		} else {
			strcpy(decision.why, "asked before");
		}
		counter_add(server->answers[decision.verb], 1);
		log_decision(request, &decision);
	}
	*action = (struct policy_action){ .verb = decision.verb,
	    .code = decision.code };
	strcpy(action->enhanced, decision.enhanced);
	strcpy(action->text, decision.text);
	strcpy(action->score, decision.score);
	if (decision.reason != NULL)
		snprintf(action->reason, sizeof(action->reason), "%s",
		    decision.reason);
}

/* --- what our own processes ask --- */

static void
take_outcome(struct policy_server *server,
    const struct policy_request *request)
{
	const struct policy_outcome outcome = {
		.id = policy_value(request, POLICY_EVENT),
		.kind = policy_outcome_find(policy_value(request,
		    POLICY_OUTCOME)),
		.undo = policy_known(request, POLICY_UNDO) != NULL,
		.request = request,
	};

	if ((int)outcome.kind >= 0 && *outcome.id != '\0')
		profiles_outcome(server->profiles, &outcome);
}

/* The answer's first line is action=OK, action=ERROR WHY or action=USAGE WHY. */
static void
do_command(struct policy_server *server, const struct policy_request *request,
    struct buf *answer)
{
	static const char *const words[] = { "OK", "ERROR", "USAGE" };
	struct buf text = BUF_INIT;
	const char *why = "";
	int rc;

	rc = profiles_command(server->profiles, policy_value(request,
	    POLICY_COMMAND), &text, &why);
	buf_printf(answer, "action=%s %s\n", words[-rc], rc != 0 ? why : "");
	if (rc == 0 && text.len > 0)
		buf_append(answer, text.data, text.len);
	policy_end(answer);
	buf_release(&text);
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
 * Connections of our own processes are the master's, which is root, or all have
 * the same user.
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

/* True: the request was one that only our own processes make. */
static bool
answer_own(struct policy_server *server, const struct policy_request *request,
    struct buf *answer)
{
	const char *kind = policy_value(request, POLICY_REQUEST);

	if (strcmp(kind, POLICY_REQUEST_OUTCOME) == 0)
		take_outcome(server, request);	/* nobody waits for an answer */
	else if (strcmp(kind, POLICY_REQUEST_REPORT) == 0)
		reports_serve(server->reports, request, answer);
	else if (strcmp(kind, POLICY_REQUEST_COMMAND) == 0)
		do_command(server, request, answer);
	else
		return false;
	return true;
}

static int
send_answer(struct client *client, const struct policy_request *request)
{
	struct policy_query query = {
		.request = request, .state = state_of(request),
		.ours = client->ours, .trusted = client->ours &&
		    policy_known(request, POLICY_TRUSTED) != NULL,
	};
	struct policy_action action;
	struct buf answer = BUF_INIT;

	if (!client->ours || !answer_own(client->server, request, &answer)) {
		decide(client->server, &query, &action);
		policy_answer_put(&answer, &action, client->ours);
	}
	if (answer.len > 0)
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
	client->ours = is_ours(client);
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
policy_server_new(const struct conf *conf, struct store *store,
    const char **why)
{
	static const char *const labels[POLICY_OTHER] = {
		[POLICY_DUNNO] = "answer=\"dunno\"",
		[POLICY_PASS] = "answer=\"pass\"",
		[POLICY_DEFER] = "answer=\"defer\"",
		[POLICY_REJECT] = "answer=\"reject\"",
		[POLICY_HOLD] = "answer=\"hold\"",
	};
	struct profiles *profiles = profiles_new(conf, store, why);
	struct policy_server *server;

	if (profiles == NULL)
		return NULL;
	if ((server = calloc(1, sizeof(*server))) == NULL)
		fatal("out of memory (policy)");
	server->options = conf_get(conf, "policy");
	server->profiles = profiles;
	server->memo = memo_new();
	server->reports = reports_new(conf, store);
	server->clients = counter_get("millgate_policy_clients", NULL);
	server->refused = counter_get("millgate_policy_refused_total", NULL);
	server->malformed = counter_get("millgate_policy_malformed_total",
	    NULL);
	for (size_t i = 0; i < POLICY_OTHER; i++)
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
	profiles_free(&server->profiles);
	memo_free(&server->memo);
	reports_free(&server->reports);
	free(server);
}
