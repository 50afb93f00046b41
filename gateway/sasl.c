/*
 * A client of Dovecot's auth process.
 *
 * A task of its own connects and reads; requests are found by their numbers.
 * Writing never waits: lines are short, and if the socket does not take one
 * the process at its other end is stuck, so the connection is given up.
 */
#include "gateway/sasl.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "gateway/sasl_line.h"

#define HANDSHAKE_MS	5000
#define LOOK_MS		500		/* whether the client is still there */
#define GREETING_MS	1000		/* EHLO waits so long */
#define PAUSE_MS	1000		/* after trouble, before the next try */
#define LINE_MAX_SIZE	16384
#define MECHANISMS_MAX	400		/* a reply line holds 512 */
#define BUCKETS		256

struct sasl {
	char *address;
	struct net_endpoint service;
	struct task *task;
	struct io *io;			/* NULL: not connected */
	bool ready;			/* both have introduced themselves */
	bool wanted;			/* somebody waits for a connection */
	bool away;			/* that was logged */
	int64_t not_before;
	struct task_cond want, changed;
	struct buf mechanisms, reading;	/* as known; as being told */
	struct sasl_request *requests[BUCKETS];
	uint32_t last_id;
};

struct sasl_request {
	struct sasl *sasl;
	struct io *client;
	int64_t timeout_ms;
	struct sasl_request *next;	/* in its bucket */
	uint32_t id;
	bool pending;			/* Dovecot knows it */
	bool answered;
	struct arena *arena;
	struct sasl_answer answer;
	struct task_cond changed;
};

struct sasl *
sasl_new(const char *address, const char **why)
{
	struct sasl *sasl;
	struct net_endpoint service;

	if (strncmp(address, "inet:", 5) == 0)
		address += 5;
	if (net_endpoint_parse(address, &service, why) != 0)
		return NULL;
	if ((sasl = calloc(1, sizeof(*sasl))) == NULL ||
	    (sasl->address = strdup(address)) == NULL)
		fatal("out of memory");
	sasl->service = service;
	return sasl;
}

void
sasl_free(struct sasl **saslp)
{
	struct sasl *sasl = *saslp;

	*saslp = NULL;
	if (sasl == NULL)
		return;
	task_reap(&sasl->task);
	io_free(&sasl->io);
	buf_release(&sasl->mechanisms);
	buf_release(&sasl->reading);
	free(sasl->address);
	free(sasl);
}

/* --- requests --- */

static void
request_link(struct sasl_request *request)
{
	struct sasl *sasl = request->sasl;
	struct sasl_request **bucket;

	request->id = ++sasl->last_id;
	bucket = &sasl->requests[request->id % BUCKETS];
	request->next = *bucket;
	*bucket = request;
	request->pending = true;
}

static struct sasl_request **
request_find(struct sasl *sasl, uint32_t id)
{
	struct sasl_request **at = &sasl->requests[id % BUCKETS];

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

static void
request_unlink(struct sasl_request *request)
{
	struct sasl_request **at = request_find(request->sasl, request->id);

	*at = request->next;
	request->pending = false;
}

static void
answer(struct sasl_request *request, enum sasl_result result,
    const char *reason)
{
	request->answered = true;
	request->answer.result = result;
	request->answer.reason = reason;
	if (result != SASL_CHALLENGE && request->pending)
		request_unlink(request);
	task_cond_broadcast(&request->changed);
}

static const char *
keep(struct sasl_request *request, const char *string)
{
	return string != NULL ? arena_strdup(request->arena, string) : NULL;
}

static void
take_answer(struct sasl *sasl, const struct sasl_line *line)
{
	struct sasl_request *request = *request_find(sasl, line->id);

	/* It was given up meanwhile. */
	if (request == NULL)
		return;
	request->answer.user = keep(request, line->user);
	request->answer.challenge = keep(request, line->challenge);
	if (line->verb == SASL_LINE_CONT)
		answer(request, SASL_CHALLENGE, NULL);
	else if (line->verb == SASL_LINE_FAIL)
		answer(request, line->temporary ? SASL_UNAVAILABLE :
		    SASL_FAILED, keep(request, line->reason));
	else if (line->user != NULL)
		answer(request, SASL_OK, NULL);
	else
		answer(request, SASL_UNAVAILABLE, "it did not say who it is");
}

/* --- the connection --- */

static int
send_line(struct sasl *sasl, const char *bytes, size_t len)
{
	ssize_t sent = send(io_fd(sasl->io), bytes, len,
	    MSG_DONTWAIT | MSG_NOSIGNAL);

	if (sent == (ssize_t)len)
		return 0;
	/* The reader sees its end. */
	shutdown(io_fd(sasl->io), SHUT_RDWR);
	return -1;
}

static void
take_mechanism(struct sasl *sasl, const char *name)
{
	if (name != NULL &&
	    sasl->reading.len + strlen(name) < MECHANISMS_MAX)
		buf_printf(&sasl->reading, "%s%s",
		    sasl->reading.len > 0 ? " " : "", name);
}

static void
introduced(struct sasl *sasl)
{
	struct buf known = sasl->mechanisms;

	sasl->mechanisms = sasl->reading;
	sasl->reading = known;
	sasl->ready = true;
	if (sasl->away)
		log_info(NULL, "auth service %s answers again", sasl->address);
	sasl->away = false;
	task_cond_broadcast(&sasl->changed);
}

/* -1: the connection is of no more use. */
static int
take_line(struct sasl *sasl, const char *bytes, size_t len, const char **why)
{
	struct arena *arena = arena_new(0);
	struct sasl_line line;
	int rc = sasl_line_parse(arena, bytes, len, &line, why);

	if (rc == 0 && line.verb == SASL_LINE_VERSION && line.version != 1) {
		*why = "it speaks another version of the protocol";
		rc = -1;
	} else if (rc == 0 && line.verb == SASL_LINE_MECH) {
		take_mechanism(sasl, line.mechanism);
	} else if (rc == 0 && line.verb == SASL_LINE_DONE) {
		introduced(sasl);
	} else if (rc == 0 && line.verb >= SASL_LINE_OK) {
		take_answer(sasl, &line);
	}
	arena_free(&arena);
	return rc;
}

/*
 * Its number is to be unique among Dovecot's clients, so it is not our process
 * id: other containers have the same ones.
 */
static int
introduce(struct sasl *sasl)
{
	struct buf hello = BUF_INIT;
	uint32_t number = 1;
	int rc;

	(void)RAND_bytes((unsigned char *)&number, sizeof(number));
	buf_printf(&hello, "VERSION\t1\t1\nCPID\t%u\n",
	    (unsigned)(number >> 1 | 1));
	rc = send_line(sasl, hello.data, hello.len);
	buf_release(&hello);
	return rc;
}

/* Reads until the connection ends.  Returns why it did. */
static const char *
converse(struct sasl *sasl)
{
	int64_t deadline = task_deadline(HANDSHAKE_MS);
	const char *line, *why = "";
	size_t len;
	int rc;

	buf_reset(&sasl->reading);
	if (introduce(sasl) != 0)
		return "it takes nothing";
	for (;;) {
		rc = io_read_line(sasl->io, LINE_MAX_SIZE, &line, &len,
		    sasl->ready ? DEADLINE_NEVER : deadline);
		if (rc == 0)
			return "it closed the connection";
		if (rc < 0)
			return errno == EMSGSIZE ? "a line without end" :
			    strerror(errno);
		if (take_line(sasl, line, len, &why) != 0)
			return why;
	}
}

/* Nobody learns anything from it any more. */
static void
lost(struct sasl *sasl, const char *why)
{
	if (!sasl->away)
		log_warn(NULL, "auth service %s: %s", sasl->address, why);
	sasl->away = true;
	/* One that did its work may have been restarted, and be there again. */
	if (!sasl->ready)
		sasl->not_before = task_deadline(PAUSE_MS);
	sasl->ready = sasl->wanted = false;
	io_free(&sasl->io);
	for (size_t i = 0; i < BUCKETS; i++)
		while (sasl->requests[i] != NULL)
			answer(sasl->requests[i], SASL_UNAVAILABLE,
			    "the connection was lost");
	task_cond_broadcast(&sasl->changed);
}

static void
run(void *argument)
{
	struct sasl *sasl = argument;
	const char *why;

	for (;;) {
		while (!sasl->wanted)
			if (task_cond_wait(&sasl->want, DEADLINE_NEVER) != 0)
				return;
		why = NULL;
		sasl->io = io_connect((const struct sockaddr *)
		    &sasl->service.address, sasl->service.len, NULL, 0,
		    task_deadline(HANDSHAKE_MS), &why);
		if (sasl->io != NULL)
			why = converse(sasl);
		lost(sasl, why != NULL ? why : "cannot connect");
	}
}

/* Waits for the connection; false: there is none. */
static bool
connected(struct sasl *sasl, int64_t deadline)
{
	if (!sasl->ready && !sasl->wanted) {
		if (task_now() < sasl->not_before)
			return false;
		sasl->wanted = true;
		if (sasl->task == NULL)
			sasl->task = task_start("sasl", run, sasl);
		task_cond_signal(&sasl->want);
	}
	while (!sasl->ready && sasl->wanted)
		if (task_cond_wait(&sasl->changed, deadline) != 0)
			return false;
	return sasl->ready;
}

/* --- for others --- */

const char *
sasl_mechanisms(struct sasl *sasl)
{
	(void)connected(sasl, task_deadline(sasl->mechanisms.len > 0 ? 0 :
	    GREETING_MS));
	return sasl->mechanisms.len > 0 ? sasl->mechanisms.data : NULL;
}

bool
sasl_has_mechanism(struct sasl *sasl, const char *name)
{
	const char *at = sasl->mechanisms.len > 0 ? sasl->mechanisms.data : "";
	size_t len = strlen(name), word;

	for (; *at != '\0'; at += word, at += strspn(at, " ")) {
		word = strcspn(at, " ");
		if (word == len && strncmp(at, name, len) == 0)
			return true;
	}
	return false;
}

static void
put_side(struct buf *line, const char *side, const struct sockaddr *address)
{
	char text[NET_TEXT_SIZE];
	unsigned port;

	if (address->sa_family == AF_INET)
		port = ntohs(((const struct sockaddr_in *)
		    (const void *)address)->sin_port);
	else if (address->sa_family == AF_INET6)
		port = ntohs(((const struct sockaddr_in6 *)
		    (const void *)address)->sin6_port);
	else
		return;
	buf_printf(line, "\t%sip=%s\t%sport=%u", side,
	    net_address_print(address, text), side, port);
}

/* Dovecot need not go on with it. */
static void
cancel(struct sasl_request *request)
{
	struct buf line = BUF_INIT;

	if (!request->pending)
		return;
	buf_printf(&line, "CANCEL\t%u\n", request->id);
	(void)send_line(request->sasl, line.data, line.len);
	buf_release(&line);
	request_unlink(request);
}

/* Why not to wait for the answer any more; NULL: go on. */
static const char *
hopeless(const struct sasl_request *request, int64_t deadline)
{
	if (errno == ECANCELED)
		return "the gateway stops";
	if (io_peer_gone(request->client))
		return "the client has left";
	return task_now() >= deadline ? "no answer in time" : NULL;
}

/* Sends the line, which holds a password: so it is wiped. */
static void
ask(struct sasl_request *request, struct buf *line)
{
	int64_t deadline = task_deadline(request->timeout_ms);
	const char *why;

	request->answered = false;
	if (send_line(request->sasl, line->data, line->len) != 0)
		answer(request, SASL_UNAVAILABLE, "it takes nothing");
	explicit_bzero(line->data, line->len);
	buf_release(line);
	while (!request->answered) {
		if (task_cond_wait(&request->changed,
		    task_deadline(LOOK_MS)) == 0 ||
		    (why = hopeless(request, deadline)) == NULL)
			continue;
		cancel(request);
		answer(request, SASL_UNAVAILABLE, why);
	}
}

struct sasl_request *
sasl_begin(struct sasl *sasl, const struct sasl_peer *peer,
    const char *mechanism, const char *initial, struct sasl_answer *result)
{
	struct sasl_request *request = calloc(1, sizeof(*request));
	struct buf line = BUF_INIT;

	if (request == NULL)
		fatal("out of memory");
	request->sasl = sasl;
	request->client = peer->io;
	request->timeout_ms = peer->timeout_ms;
	request->arena = arena_new(0);
	if (!connected(sasl, task_deadline(HANDSHAKE_MS))) {
		answer(request, SASL_UNAVAILABLE, "it does not answer");
	} else if (!sasl_has_mechanism(sasl, mechanism)) {
		/* Dovecot would hang up. */
		answer(request, SASL_UNAVAILABLE, "no such mechanism now");
	} else {
		request_link(request);
		buf_printf(&line, "AUTH\t%u\t%s\tservice=smtp\tnologin",
		    request->id, mechanism);
		if (peer->tls)
			buf_puts(&line, "\tsecured=tls");
		put_side(&line, "l", peer->local);
		put_side(&line, "r", peer->client);
		if (initial != NULL)
			buf_printf(&line, "\tresp=%s", initial);
		buf_putc(&line, '\n');
		ask(request, &line);
	}
	*result = request->answer;
	return request;
}

void
sasl_continue(struct sasl_request *request, const char *response,
    struct sasl_answer *result)
{
	struct buf line = BUF_INIT;

	/* Dovecot may have lost patience with the client meanwhile. */
	if (request->pending) {
		buf_printf(&line, "CONT\t%u\t%s\n", request->id, response);
		ask(request, &line);
	}
	*result = request->answer;
}

void
sasl_end(struct sasl_request **requestp)
{
	struct sasl_request *request = *requestp;

	*requestp = NULL;
	if (request == NULL)
		return;
	cancel(request);
	arena_free(&request->arena);
	free(request);
}
