/*
 * How an SMTP session begins: who the client is, whether it waits for the
 * greeting, what filters say of it.
 */
#include "gateway/smtp_session.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "gateway/screen.h"

#define NAME_TIMEOUT_MS 5000
#define EARLY_OFFENCES 4		/* and one for the refusal */

/* The client's name, as far as DNS confirms it (RFC 8601, 3). */
static void
look_up_name(struct smtp_session *s)
{
	struct session *peer = &s->peer;
	const struct sockaddr *client = (const struct sockaddr *)&peer->client;
	const char *address = peer->client_address;

	if (client->sa_family != AF_INET && client->sa_family != AF_INET6) {
		peer->client_name = "localhost";
		return;
	}
	if (strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0) {
		peer->client_name = "localhost";
		return;
	}
	if (!s->listener->options->hostname_lookup)
		return;
	peer->client_name_asked = true;
	peer->client_name_unknown = dns_confirmed_name(peer->arena, client,
	    &peer->client_name, &peer->client_ptr, smtp_session_deadline(s,
	    NAME_TIMEOUT_MS)) == DNS_FAILED;
	/* Names from DNS may hold any byte. */
	if (peer->client_name != NULL && !net_is_host_name(peer->client_name))
		peer->client_name = NULL;
	if (peer->client_ptr != NULL && !net_is_host_name(peer->client_ptr))
		peer->client_ptr = NULL;
}

/* Half a greeting: who takes it for a whole one speaks too early. */
static bool
tease(struct smtp_session *s)
{
	io_printf(s->io, "220-%s\r\n", s->server->hostname);
	return smtp_session_flush(s);
}

/*
 * RFC 5321, 3.1: a client waits for the greeting.  Those who do not are mostly
 * not mail servers.  False: it was refused, or it has gone.
 */
static bool
early_talker(struct smtp_session *s)
{
	const struct listener_options *options = s->listener->options;
	int64_t until = task_deadline(options->greet_delay);
	ssize_t got;
	char byte;

	if (options->early_talker == LISTENER_EARLY_OFF ||
	    s->listener->tls_implicit)
		return true;
	if (s->greet_wait > task_now() && !tease(s))
		return false;
	if (s->greet_wait > until)
		until = s->greet_wait;
	if (until > task_now())
		got = io_fill(s->io, until < s->deadline ? until :
		    s->deadline);
	else
		got = recv(io_fd(s->io), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	if (got < 0 && (errno == ETIMEDOUT || errno == EAGAIN))
		return true;
	if (got <= 0) {
		smtp_session_lost(s, got == 0 ? 0 : errno, "CONNECT");
		return false;
	}
	log_info(NULL, "early talker: %s", s->client);
	s->early = true;
	s->offences += EARLY_OFFENCES;
	if (options->early_talker == LISTENER_EARLY_LOG)
		return true;
	smtp_refuse(s, "CONNECT", NULL, &(struct smtp_refusal){ 554, "5.5.1",
	    "You talked before my greeting", "early-talker" });
	s->closing = true;
	return false;
}

void
smtp_session_begin(struct smtp_session *s)
{
	const char *banner = s->listener->options->banner;

	if (s->listener->tls_implicit && !smtp_session_tls(s))
		return;
	look_up_name(s);
	s->client = arena_printf(s->peer.arena, "%s[%s]",
	    s->peer.client_name != NULL ? s->peer.client_name : "unknown",
	    s->peer.client_address);
	log_info(NULL, "connect from %s", s->client);
	if (!screen_begin(s) || !early_talker(s))
		return;
	s->chain = chain_new(s->listener->plan, &s->peer);
	s->connect_verdict = chain_connect(s->chain);
	if (s->connect_verdict.action == ACTION_DISCONNECT ||
	    (smtp_verdict_refuses(&s->connect_verdict) &&
	    s->connect_verdict.code == 421)) {
		smtp_refuse_verdict(s, "CONNECT", NULL, &s->connect_verdict);
		s->closing = true;
		return;
	}
	smtp_reply(s, 220, NULL, "%s %s", s->server->hostname,
	    banner != NULL ? banner : "ESMTP Millgate");
}
