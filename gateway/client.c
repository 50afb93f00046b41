/*
 * The SMTP and LMTP client (RFC 5321, 2033), with PIPELINING (RFC 2920), SIZE
 * (1870), 8BITMIME (6152), SMTPUTF8 (6531), DSN (3461) and STARTTLS (3207).
 */
#include "config.h"

#include "gateway/client.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/client_data.h"
#include "gateway/client_private.h"
#include "policy/smtp_reply.h"

#define min_of(a, b) ((a) < (b) ? (a) : (b))

const char *
delivery_text(const struct delivery *delivery)
{
	const char *text = delivery->text;
	char enhanced[REPLY_ENHANCED_SIZE];

	if (delivery->code == 0)
		return text;
	text += strcspn(text, " ");
	text += *text == ' ';
	text += reply_enhanced_parse(text, strlen(text), enhanced);
	return text + (*text == ' ');
}

void
delivery_set(struct delivery *delivery, struct arena *arena,
    enum delivery_status status, const char *enhanced, const char *text)
{
	char clean[REPLY_TEXT_MAX];

	reply_sanitize(clean, sizeof(clean), text, strlen(text));
	delivery->status = status;
	delivery->code = 0;
	delivery->enhanced = enhanced;
	delivery->text = arena_strdup(arena, clean);
	delivery->command = "";
}

static int64_t
client_deadline(const struct client *client, int64_t timeout_ms)
{
	return min_of(client->deadline, task_deadline(timeout_ms));
}

int
client_reply(struct client *client, int64_t timeout_ms, struct reply *reply,
    client_line_f *each)
{
	int64_t deadline = client_deadline(client, timeout_ms);
	enum reply_state state;
	const char *line;
	size_t len;
	int rc;

	reply_init(reply);
	do {
		rc = io_read_line(client->io, REPLY_LINE_MAX, &line, &len,
		    deadline);
		if (rc <= 0) {
			if (rc == 0)
				client->why = "lost connection";
			else if (errno == EMSGSIZE)
				client->why = "reply line too long";
			else if (errno == ETIMEDOUT)
				client->why = "conversation timed out";
			else
				client->why = "lost connection";
			client->broken = true;
			return -1;
		}
		state = reply_line(reply, line, len, &client->why);
		if (state == REPLY_BAD) {
			client->broken = true;
			return -1;
		}
		if (each != NULL && reply->code == 250) {
			line = reply_line_text(line, &len);
			each(client, line, len, reply->lines);
		}
	} while (state == REPLY_MORE);
	/* RFC 5321, 3.8: after 421 the peer closes the channel. */
	if (reply->code == 421) {
		client->why = "connection closed by peer (421)";
		client->broken = true;
	}
	return 0;
}

int
client_flush(struct client *client)
{
	if (io_flush(client->io,
	    client_deadline(client, client->command_timeout_ms)) == 0)
		return 0;
	client->why = errno == ETIMEDOUT ? "conversation timed out" :
	    "lost connection";
	client->broken = true;
	return -1;
}

/* Whether the text at the front is that keyword; *rest is what follows. */
static bool
keyword(const char *text, size_t len, const char *name, const char **rest,
    size_t *rest_len)
{
	size_t n = strlen(name);

	if (len < n || strncasecmp(text, name, n) != 0)
		return false;
	if (len > n && text[n] != ' ' && text[n] != '=')
		return false;
	*rest = text + n + (len > n);
	*rest_len = len - n - (len > n);
	return true;
}

static int64_t
size_parse(const char *text, size_t len)
{
	int64_t value = 0;

	for (size_t i = 0; i < len && text[i] >= '0' && text[i] <= '9'; i++) {
		if (value > INT64_MAX / 10 - 1)
			return 0;
		value = value * 10 + (text[i] - '0');
	}
	return value;
}

/* A line of the reply to EHLO: the peer's name, then one keyword a line. */
static void
ehlo_line(struct client *client, const char *text, size_t len, int line)
{
	struct client_offers *offers = &client->offers;
	size_t name_len = 0, rest_len;
	const char *rest;

	if (line == 1) {
		while (name_len < len && text[name_len] != ' ')
			name_len++;
		client->is_self = name_len == strlen(client->hostname) &&
		    strncasecmp(text, client->hostname, name_len) == 0;
		return;
	}
	if (keyword(text, len, "PIPELINING", &rest, &rest_len))
		offers->pipelining = true;
	else if (keyword(text, len, "8BITMIME", &rest, &rest_len))
		offers->eight_bit = true;
	else if (keyword(text, len, "SMTPUTF8", &rest, &rest_len))
		offers->smtputf8 = true;
	else if (keyword(text, len, "DSN", &rest, &rest_len))
		offers->dsn = true;
	else if (keyword(text, len, "STARTTLS", &rest, &rest_len))
		offers->starttls = true;
	else if (keyword(text, len, "AUTH", &rest, &rest_len))
		offers->auth = true;
	else if (keyword(text, len, "SIZE", &rest, &rest_len)) {
		offers->size = true;
		offers->size_limit = size_parse(rest, rest_len);
	}
}

/* The opening's failure: no reply, or one that is no success. */
static int
open_failed(struct client *client, const struct reply *reply,
    const char *command, struct arena *arena, struct delivery *failure)
{
	failure->command = command;
	if (reply == NULL) {
		delivery_set(failure, arena, DELIVERY_TEMPORARY, "4.4.2",
		    arena_printf(arena, "%s with %s while waiting for %s",
		    client->why, client->peer, command));
		failure->command = command;
		return -1;
	}
	failure->code = reply->code;
	failure->text = arena_strdup(arena, reply->text);
	failure->enhanced = arena_strdup(arena, reply->enhanced);
	failure->status = reply->code >= 500 ? DELIVERY_PERMANENT :
	    DELIVERY_TEMPORARY;
	if (reply->code < 400) {
		failure->enhanced = "4.5.0";
		failure->code = 0;
	}
	return -1;
}

static int
greeting(struct client *client, int64_t timeout_ms, struct arena *arena,
    struct delivery *failure)
{
	struct reply reply;

	if (client_reply(client, timeout_ms, &reply, NULL) == -1)
		return open_failed(client, NULL, "greeting", arena, failure);
	if (reply.code != 220)
		return open_failed(client, &reply, "greeting", arena, failure);
	return 0;
}

static int
hello(struct client *client, struct arena *arena, struct delivery *failure)
{
	const char *command = client->lmtp ? "LHLO" : "EHLO";
	struct reply reply;

	memset(&client->offers, 0, sizeof(client->offers));
	io_printf(client->io, "%s %s\r\n", command, client->hostname);
	if (client_flush(client) == -1 || client_reply(client,
	    client->command_timeout_ms, &reply, ehlo_line) == -1)
		return open_failed(client, NULL, command, arena, failure);
	if (reply.code / 100 == 5 && !client->lmtp && !client->broken) {
		command = "HELO";
		io_printf(client->io, "HELO %s\r\n", client->hostname);
		if (client_flush(client) == -1 || client_reply(client,
		    client->command_timeout_ms, &reply, NULL) == -1)
			return open_failed(client, NULL, command, arena,
			    failure);
	}
	if (reply.code != 250)
		return open_failed(client, &reply, command, arena, failure);
	if (client->is_self && client->refuse_self) {
		delivery_set(failure, arena, DELIVERY_PERMANENT, "5.4.6",
		    arena_printf(arena, "mail for %s loops back to myself",
		    client->peer_name));
		return -1;
	}
	return 0;
}

static int
tls_failed(struct client *client, bool injected, const char *why,
    struct arena *arena, struct delivery *failure)
{
	delivery_set(failure, arena, DELIVERY_TEMPORARY,
	    injected ? "4.7.0" : "4.7.5", arena_printf(arena,
	    "Cannot start TLS with %s: %s", client->peer, why));
	failure->command = "STARTTLS";
	failure->tls_failed = !injected;
	client->broken = true;
	return -1;
}

/* RFC 3207.  After the handshake nothing said before it counts (4.2). */
static int
start_tls(struct client *client, const struct client_settings *settings,
    struct arena *arena, struct delivery *failure)
{
	struct reply reply;
	size_t early;

	if (settings->tls == CLIENT_TLS_NONE)
		return 0;
	if (!client->offers.starttls || settings->tls_context == NULL) {
		if (settings->tls == CLIENT_TLS_MAY)
			return 0;
		return tls_failed(client, true, client->offers.starttls ?
		    "no TLS context" : "TLS is required, but was not offered",
		    arena, failure);
	}
	io_puts(client->io, "STARTTLS\r\n");
	if (client_flush(client) == -1 || client_reply(client,
	    client->command_timeout_ms, &reply, NULL) == -1)
		return open_failed(client, NULL, "STARTTLS", arena, failure);
	if (reply.code != 220) {
		if (settings->tls == CLIENT_TLS_MAY && !client->broken)
			return 0;
		return tls_failed(client, true, reply.text, arena, failure);
	}
	/* Clear text behind the 220 would be read as if it were encrypted. */
	io_input(client->io, &early);
	if (early > 0)
		return tls_failed(client, true,
		    "clear text after the reply to STARTTLS", arena, failure);
	if (io_tls_connect(client->io, settings->tls_context,
	    client->peer_name, client_deadline(client,
	    client->command_timeout_ms)) == -1)
		return tls_failed(client, false, io_why(client->io), arena,
		    failure);
	if (settings->tls == CLIENT_TLS_VERIFY && !io_tls(client->io)->verified)
		return tls_failed(client, false, "certificate not verified",
		    arena, failure);
	return hello(client, arena, failure);
}

/* name[address]:port */
static char *
peer_print(const struct net_endpoint *endpoint, const char *name)
{
	const struct sockaddr *address =
	    (const struct sockaddr *)&endpoint->address;
	char text[NET_TEXT_SIZE], *peer;
	unsigned port = 0;
	int rc;

	net_address_print(address, text);
	if (address->sa_family == AF_INET)
		port = ntohs(((const struct sockaddr_in *)
		    (const void *)endpoint)->sin_port);
	else if (address->sa_family == AF_INET6)
		port = ntohs(((const struct sockaddr_in6 *)
		    (const void *)endpoint)->sin6_port);
	if (name == NULL)
		name = address->sa_family == AF_UNIX ? "localhost" : text;
	rc = port != 0 ? asprintf(&peer, "%s[%s]:%u", name, text, port) :
	    asprintf(&peer, "%s[%s]", name, text);
	if (rc == -1)
		fatal("out of memory");
	return peer;
}

static char *
string_copy(const char *string)
{
	char *copy = strdup(string != NULL ? string : "");

	if (copy == NULL)
		fatal("out of memory");
	return copy;
}

/* A host without a name is known, to its certificate too, by its address. */
static char *
peer_name(const struct net_endpoint *endpoint, const char *name)
{
	const struct sockaddr *address =
	    (const struct sockaddr *)&endpoint->address;
	char text[NET_TEXT_SIZE];

	if (name == NULL)
		name = address->sa_family == AF_UNIX ? "localhost" :
		    net_address_print(address, text);
	return string_copy(name);
}

static struct client *
client_new(const struct net_endpoint *endpoint,
    const struct client_settings *settings)
{
	struct client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		fatal("out of memory");
	client->lmtp = settings->lmtp;
	client->refuse_self = settings->refuse_self;
	client->hostname = string_copy(settings->hostname);
	client->peer_name = peer_name(endpoint, settings->peer_name);
	client->peer = peer_print(endpoint, settings->peer_name);
	client->command_timeout_ms = settings->command_timeout_ms;
	client->data_timeout_ms = settings->data_timeout_ms;
	client->total_timeout_ms = settings->total_timeout_ms;
	client_start_clock(client);
	return client;
}

void
client_start_clock(struct client *client)
{
	client->deadline = client->total_timeout_ms > 0 ?
	    task_deadline(client->total_timeout_ms) : DEADLINE_NEVER;
}

struct client *
client_open(const struct net_endpoint *endpoint,
    const struct client_settings *settings, struct arena *arena,
    struct delivery *failure)
{
	struct client *client = client_new(endpoint, settings);
	const char *why = NULL;

	failure->tls_failed = false;
	failure->dsn_relayed = false;
	client->io = io_connect((const struct sockaddr *)&endpoint->address,
	    endpoint->len, NULL, 0, client_deadline(client,
	    settings->connect_timeout_ms), &why);
	if (client->io == NULL) {
		delivery_set(failure, arena, DELIVERY_TEMPORARY, "4.4.1",
		    arena_printf(arena, "connect to %s: %s", client->peer,
		    why != NULL ? why : strerror(errno)));
		client->broken = true;
		client_close(&client);
		return NULL;
	}
	if (greeting(client, settings->greeting_timeout_ms, arena,
	    failure) == -1 || hello(client, arena, failure) == -1 ||
	    start_tls(client, settings, arena, failure) == -1) {
		client_close(&client);
		return NULL;
	}
	return client;
}

void
client_close(struct client **clientp)
{
	struct client *client = *clientp;

	if (client == NULL)
		return;
	*clientp = NULL;
	if (client->io != NULL && !client->broken) {
		/* A deadline that has passed: what the socket takes at once. */
		io_puts(client->io, "QUIT\r\n");
		io_flush(client->io, task_now());
	}
	io_free(&client->io);
	free(client->hostname);
	free(client->peer_name);
	free(client->peer);
	free(client);
}

const char *
client_peer(const struct client *client)
{
	return client->peer;
}

bool
client_alive(struct client *client)
{
	size_t len;
	char byte;

	if (client->broken)
		return false;
	io_input(client->io, &len);
	if (len > 0)
		return false;
	return recv(io_fd(client->io), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == -1
	    && (errno == EAGAIN || errno == EWOULDBLOCK);
}
