/* Connections to a milter: made, negotiated, kept ready, given up. */
#include "filters/milter_pool.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "base/tls.h"
#include "filters/milter_place.h"
#include "filters/milter_trace.h"

#define BUFFERED_MAX	8192		/* larger packets get a buffer */
#define PIECE		65536
#define IDLE_MAX_MS	30000		/* rspamd hangs up after 120 s */
#define BREAKER_FAILURES 3
#define BACKOFF_FIRST_MS 1000
#define BACKOFF_MAX_MS	60000

struct milter_endpoint {
	char *text;
	struct milter_place place;
	unsigned failures;		/* in a row */
	int64_t backoff_ms;
	int64_t open_until;		/* no attempt before */
	int64_t probed_until;		/* half open: others wait so long */
};

struct milter_pool {
	struct milter_pool_settings settings;
	struct milter_endpoint *endpoints;
	size_t endpoint_count;
	struct tls_context *tls;	/* NULL if no end point wants it */
	struct milter_trace *trace;	/* NULL: nothing is recorded */
	struct milter_connection *idle;
	size_t idle_count;
	struct event *expiry;
	bool warming;
	bool freed;			/* while a task was making one */
	bool answered;
	uint32_t protocol, version;
};

/* --- end points --- */

static void
pool_release(struct milter_pool *pool)
{
	for (size_t i = 0; i < pool->endpoint_count; i++) {
		milter_place_release(&pool->endpoints[i].place);
		free(pool->endpoints[i].text);
	}
	free(pool->endpoints);
	tls_context_free(&pool->tls);
	milter_trace_free(&pool->trace);
	free(pool);
}

/* A milter sees all of the mail: who it is gets checked. */
static int
set_up_tls(struct milter_pool *pool, const char **why)
{
	static const struct tls_settings settings = { .min_version = NULL };
	bool wanted = false;

	for (size_t i = 0; i < pool->endpoint_count; i++)
		wanted |= pool->endpoints[i].place.tls;
	if (!wanted)
		return 0;
	pool->tls = tls_client_new(&settings, TLS_VERIFY_NAME,
	    pool->settings.tls_ca, pool->settings.tls_ca_len, why);
	return pool->tls != NULL ? 0 : -1;
}

struct milter_pool *
milter_pool_new(const struct milter_pool_settings *settings, const char **why)
{
	struct milter_pool *pool;
	size_t count = 0;

	while (settings->endpoints[count] != NULL)
		count++;
	if (count == 0) {
		*why = "no endpoint is given";
		return NULL;
	}
	if ((pool = calloc(1, sizeof(*pool))) == NULL ||
	    (pool->endpoints = calloc(count, sizeof(*pool->endpoints))) == NULL)
		fatal("out of memory (milter)");
	pool->settings = *settings;
	if (settings->trace > 0)
		pool->trace = milter_trace_new(settings->name,
		    settings->trace);
	for (; pool->endpoint_count < count; pool->endpoint_count++) {
		const char *text = settings->endpoints[pool->endpoint_count];
		struct milter_endpoint *ep =
		    &pool->endpoints[pool->endpoint_count];

		if (milter_place_parse(text, &ep->place, why) == -1) {
			pool_release(pool);
			return NULL;
		}
		if ((ep->text = strdup(text)) == NULL)
			fatal("out of memory (milter)");
	}
	if (set_up_tls(pool, why) == -1) {
		pool_release(pool);
		return NULL;
	}
	return pool;
}

static void
connection_free(struct milter_connection **cp)
{
	struct milter_connection *c = *cp;

	*cp = NULL;
	if (c == NULL)
		return;
	io_free(&c->io);
	milter_tape_free(&c->tape);
	buf_release(&c->answer_bytes);
	buf_release(&c->packet);
	free(c);
}

static void
drop_politely(struct milter_connection **cp)
{
	struct buf out = BUF_INIT;

	milter_put(&out, MILTER_QUIT, NULL, 0);
	milter_tape_bytes((*cp)->tape, out.data, out.len);
	io_put((*cp)->io, out.data, out.len);
	buf_release(&out);
	io_flush((*cp)->io, task_now());
	connection_free(cp);
}

void
milter_pool_free(struct milter_pool **poolp)
{
	struct milter_pool *pool = *poolp;

	*poolp = NULL;
	if (pool == NULL)
		return;
	while (pool->idle != NULL) {
		struct milter_connection *c = pool->idle;

		pool->idle = c->next;
		drop_politely(&c);
	}
	if (pool->expiry != NULL)
		event_free(pool->expiry);
	pool->expiry = NULL;
	pool->freed = true;
	if (!pool->warming)
		pool_release(pool);
}

/* --- reading --- */

static int
read_failed(const struct milter_connection *c, ssize_t n,
    struct milter_error *error)
{
	error->cancelled = n < 0 && errno == ECANCELED;
	error->lost = n == 0 || (errno != ETIMEDOUT && errno != ECANCELED);
	snprintf(error->text, sizeof(error->text), "%s",
	    n == 0 ? "closed the connection" :
	    errno == ETIMEDOUT ? "no reply in time" : io_why(c->io));
	return -1;
}

/* What doesn't fit the connection's buffer: memory grows with the data. */
static int
read_large(struct milter_connection *c, struct milter_packet *packet,
    int64_t deadline, struct milter_error *error)
{
	size_t size = packet->size;

	buf_reset(&c->packet);
	while (c->packet.len < size) {
		size_t n = size - c->packet.len;
		int rc;

		if (n > PIECE)
			n = PIECE;
		if ((rc = io_read_full(c->io, buf_reserve(&c->packet, n), n,
		    deadline)) <= 0)
			return read_failed(c, rc, error);
		c->packet.len += n;
	}
	if (milter_packet_parse(c->packet.data, c->packet.len, c->reply_max,
	    packet, error->text) != 1)
		return -1;
	milter_tape_packet(c->tape, true, packet->code, packet->payload,
	    packet->len);
	return 0;
}

int
milter_connection_read(struct milter_connection *c,
    struct milter_packet *packet, int64_t deadline, struct milter_error *error)
{
	const char *bytes;
	ssize_t n;
	size_t len;
	int rc;

	error->lost = error->cancelled = error->held_off = false;
	for (;;) {
		bytes = io_input(c->io, &len);
		rc = milter_packet_parse(bytes, len, c->reply_max, packet,
		    error->text);
		if (rc == -1)
			return -1;
		if (rc == 1) {
			milter_tape_packet(c->tape, true, packet->code,
			    packet->payload, packet->len);
			io_consume(c->io, packet->size);
			return 0;
		}
		if (packet->size > BUFFERED_MAX)
			return read_large(c, packet, deadline, error);
		if ((n = io_fill(c->io, deadline)) <= 0) {
			read_failed(c, n, error);
			if (n == 0 && len > 0)
				snprintf(error->text, sizeof(error->text),
				    "closed the connection inside a packet");
			return -1;
		}
	}
}

const char *
milter_connection_peer(const struct milter_connection *c)
{
	return c->endpoint->text;
}

/* --- the breaker --- */

static void
endpoint_worked(struct milter_endpoint *ep)
{
	if (ep->failures >= BREAKER_FAILURES)
		log_info(NULL, "milter %s works again", ep->text);
	ep->failures = 0;
	ep->backoff_ms = 0;
	ep->open_until = ep->probed_until = 0;
}

/*
 * Whether a message blames the end point for the first time; those beyond the
 * mask's bits share the last one.
 */
static bool
is_first_blame(const struct milter_pool *pool,
    const struct milter_endpoint *ep, uint32_t *blamed)
{
	size_t index = (size_t)(ep - pool->endpoints);
	uint32_t bit = UINT32_C(1) << (index < 31 ? index : 31);
	bool first = (*blamed & bit) == 0;

	*blamed |= bit;
	return first;
}

/* A half open breaker opens again, whoever made the attempt. */
static void
endpoint_failed(struct milter_pool *pool, struct milter_endpoint *ep,
    uint32_t *blamed)
{
	ep->probed_until = 0;
	if (!is_first_blame(pool, ep, blamed) &&
	    ep->failures < BREAKER_FAILURES)
		return;
	if (++ep->failures < BREAKER_FAILURES)
		return;
	ep->backoff_ms = ep->backoff_ms == 0 ? BACKOFF_FIRST_MS :
	    ep->backoff_ms * 2;
	if (ep->backoff_ms > BACKOFF_MAX_MS)
		ep->backoff_ms = BACKOFF_MAX_MS;
	ep->open_until = task_deadline(ep->backoff_ms);
	log_warn(NULL, "filter=%s: %s failed %u times, not tried for %lld s",
	    pool->settings.name, ep->text, ep->failures,
	    (long long)ep->backoff_ms / 1000);
}

void
milter_pool_worked(struct milter_connection *c)
{
	endpoint_worked(c->endpoint);
	milter_tape_flush(c->tape);
}

void
milter_pool_ended(struct milter_connection *c)
{
	c->endpoint->probed_until = 0;
}

void
milter_pool_failed(struct milter_pool *pool, struct milter_connection *c,
    uint32_t *blamed)
{
	endpoint_failed(pool, c->endpoint, blamed);
}

/*
 * While half open, one attempt tells for all; but not for long, as its client
 * may take minutes to come to the end of a message.
 */
static bool
endpoint_usable(const struct milter_pool *pool, struct milter_endpoint *ep)
{
	int64_t now = task_now();

	if (ep->failures < BREAKER_FAILURES)
		return true;
	if (now < ep->open_until || now < ep->probed_until)
		return false;
	ep->probed_until = task_deadline(pool->settings.command_timeout_ms);
	return true;
}

/* --- connecting --- */

static int
check_answer(struct milter_connection *c, uint32_t offered,
    struct milter_error *error)
{
	struct milter_negotiation *a = &c->answer;

	if (a->version < 2 || a->version > offered) {
		snprintf(error->text, sizeof(error->text),
		    "speaks version %u, %u was offered", a->version, offered);
		return -1;
	}
	if ((a->protocol & ~(uint32_t)MILTER_PROTOCOL_ALL) != 0)
		log_debug(NULL, "milter %s: unknown protocol bits %#x",
		    c->endpoint->text, a->protocol);
	if (a->macros_cut)
		log_warn(NULL, "milter %s: its last list of macros has no end",
		    c->endpoint->text);
	a->protocol &= MILTER_PROTOCOL_ALL;
	return 0;
}

/* All is offered: some filters claim what was not, and limits are ours. */
static int
negotiate(struct milter_pool *pool, struct milter_connection *c,
    struct milter_error *error)
{
	const struct milter_negotiation offer = {
		.version = pool->settings.version,
		.actions = MILTER_ACTIONS_ALL,
		.protocol = MILTER_PROTOCOL_ALL,
	};
	int64_t deadline = task_deadline(pool->settings.command_timeout_ms);
	struct milter_packet packet;
	struct buf out = BUF_INIT;
	const char *why;

	milter_put_negotiation(&out, &offer);
	milter_tape_bytes(c->tape, out.data, out.len);
	io_put(c->io, out.data, out.len);
	buf_release(&out);
	if (io_flush(c->io, deadline) == -1)
		return read_failed(c, -1, error);
	if (milter_connection_read(c, &packet, deadline, error) == -1)
		return -1;
	if (packet.code != MILTER_OPTNEG) {
		snprintf(error->text, sizeof(error->text),
		    "refuses to negotiate (reply '%c')",
		    packet.code >= 0x20 && packet.code < 0x7f ? packet.code :
		    '?');
		return -1;
	}
	buf_append(&c->answer_bytes, packet.payload, packet.len);
	if (milter_negotiation_parse(c->answer_bytes.data,
	    c->answer_bytes.len, &c->answer, &why) == -1) {
		snprintf(error->text, sizeof(error->text), "%s", why);
		return -1;
	}
	if (check_answer(c, offer.version, error) == -1)
		return -1;
	pool->protocol = c->answer.protocol;
	pool->version = c->answer.version;
	pool->answered = true;
	return 0;
}

static struct milter_connection *
connect_to(struct milter_pool *pool, struct milter_endpoint *ep,
    struct milter_error *error)
{
	struct milter_connection *c;
	const char *why = "";
	struct io *io;

	error->lost = error->cancelled = false;
	io = milter_place_connect(&ep->place, pool->tls,
	    pool->settings.tls_name,
	    task_deadline(pool->settings.connect_timeout_ms), &why);
	if (io == NULL) {
		error->cancelled = errno == ECANCELED;
		snprintf(error->text, sizeof(error->text),
		    "cannot connect: %s", why);
		return NULL;
	}
	io_quickack(io);
	if ((c = calloc(1, sizeof(*c))) == NULL)
		fatal("out of memory (milter)");
	c->io = io;
	c->endpoint = ep;
	c->reply_max = pool->settings.reply_max;
	c->tape = milter_tape_new(pool->trace, ep->text);
	if (negotiate(pool, c, error) == 0)
		return c;
	connection_free(&c);
	return NULL;
}

/* In the order of the configuration, those left out that failed. */
static struct milter_connection *
connect_any(struct milter_pool *pool, uint32_t *blamed,
    struct milter_error *error)
{
	struct milter_connection *c;

	snprintf(error->text, sizeof(error->text),
	    "failed before, next attempt later");
	error->lost = error->cancelled = false;
	error->held_off = true;
	for (size_t i = 0; i < pool->endpoint_count && !pool->freed; i++) {
		struct milter_endpoint *ep = &pool->endpoints[i];

		if (!endpoint_usable(pool, ep))
			continue;
		error->held_off = false;
		if ((c = connect_to(pool, ep, error)) != NULL)
			return c;
		if (error->cancelled) {
			ep->probed_until = 0;
			return NULL;
		}
		log_warn(NULL, "filter=%s endpoint=%s stage=connect: %s",
		    pool->settings.name, ep->text, error->text);
		endpoint_failed(pool, ep, blamed);
	}
	return NULL;
}

/* --- connections kept ready --- */

static void
expire(evutil_socket_t fd, short what, void *argument)
{
	const struct timeval again = { 5, 0 };
	struct milter_pool *pool = argument;
	struct milter_connection **at = &pool->idle, *c;
	int64_t now = task_now();

	(void)fd, (void)what;
	while ((c = *at) != NULL) {
		if (now - c->idle_since < IDLE_MAX_MS) {
			at = &c->next;
			continue;
		}
		*at = c->next;
		pool->idle_count--;
		drop_politely(&c);
	}
	if (pool->idle != NULL)
		event_add(pool->expiry, &again);
}

void
milter_pool_give(struct milter_pool *pool, struct milter_connection **cp)
{
	const struct timeval soon = { 5, 0 };
	struct milter_connection *c = *cp;

	*cp = NULL;
	if (pool->expiry == NULL && (pool->expiry = evtimer_new(task_base(),
	    expire, pool)) == NULL)
		fatal("out of memory (milter)");
	c->idle_since = task_now();
	c->next = pool->idle;
	pool->idle = c;
	pool->idle_count++;
	if (!evtimer_pending(pool->expiry, NULL))
		event_add(pool->expiry, &soon);
}

/* As a task: fills up, unless nobody answers. */
static void
warm(void *argument)
{
	struct milter_pool *pool = argument;
	struct milter_connection *c;
	struct milter_error error;

	while (!pool->freed && pool->idle_count < pool->settings.spare &&
	    pool->endpoints[0].failures == 0) {
		if ((c = connect_to(pool, &pool->endpoints[0],
		    &error)) == NULL)
			break;
		if (pool->freed)
			drop_politely(&c);
		else
			milter_pool_give(pool, &c);
	}
	pool->warming = false;
	if (pool->freed)
		pool_release(pool);
}

struct milter_connection *
milter_pool_take(struct milter_pool *pool, uint32_t *blamed,
    struct milter_error *error)
{
	struct milter_connection *c;
	size_t unread;

	if (!pool->warming && pool->idle_count < pool->settings.spare) {
		pool->warming = true;
		task_detach("milter-warm", warm, pool);
	}
	while ((c = pool->idle) != NULL) {
		pool->idle = c->next;
		pool->idle_count--;
		c->next = NULL;
		io_input(c->io, &unread);
		if (unread == 0 && !io_peer_gone(c->io) &&
		    task_now() - c->idle_since < IDLE_MAX_MS)
			return c;
		connection_free(&c);
	}
	return connect_any(pool, blamed, error);
}

void
milter_pool_drop(struct milter_pool *pool, struct milter_connection **cp,
    bool polite)
{
	(void)pool;
	if (*cp == NULL)
		return;
	if (polite)
		drop_politely(cp);
	else
		connection_free(cp);
}

bool
milter_pool_protocol(const struct milter_pool *pool, uint32_t *protocol,
    uint32_t *version)
{
	*protocol = pool->protocol;
	*version = pool->version;
	return pool->answered;
}
