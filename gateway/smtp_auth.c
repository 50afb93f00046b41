/*
 * AUTH (RFC 4954): the exchange between the client and Dovecot, which judges.
 * Responses hold passwords: they go into no log, trace or filter.
 */
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/table.h"
#include "gateway/auth_limit.h"
#include "gateway/sasl.h"
#include "gateway/smtp_session.h"

/* A guesser waits longer each time; Dovecot adds its own delay. */
#define DELAY_MS 1000
#define DELAY_MAX_MS 5000

/* Dovecot delays whom it mistrusts. */
#define ANSWER_MS 60000

/* What to offer while the service has never answered; AUTH then gets a 454. */
#define LIKELY_MECHANISMS "PLAIN LOGIN"

static const struct smtp_refusal
    needs_tls = { 538, "5.7.11",
	"Encryption required for requested authentication mechanism",
	"auth-needs-tls" },
    unavailable = { 454, "4.7.0", "Temporary authentication failure",
	"auth-unavailable" },
    failed = { 535, "5.7.8", "Authentication credentials invalid",
	"auth-failed" },
    too_many_failures = { 421, "4.7.0", "Too many authentication failures",
	"auth-failed" },
    guesser = { 421, "4.7.0",
	"Too many authentication failures from your address",
	"auth-failed" };

int
smtp_auth_setup(struct smtp_listener *listener, const char **why)
{
	const struct listener_options *o = listener->options;
	const struct smtp_listener *other = listener->server->listeners;

	if (o->auth == NULL)
		return 0;
	for (; other < listener; other++)
		if (other->sasl != NULL &&
		    strcmp(other->options->auth, o->auth) == 0) {
			listener->sasl = other->sasl;
			listener->sasl_shared = true;
			return 0;
		}
	listener->sasl = sasl_new(o->auth, why);
	return listener->sasl != NULL ? 0 : -1;
}

void
smtp_auth_release(struct smtp_listener *listener)
{
	if (!listener->sasl_shared)
		sasl_free(&listener->sasl);
}

/* A key whose value was not understood as one. */
static void
find_unowned(const char *key, const char *value, void *argument)
{
	const char **unowned = argument;

	if (*unowned == NULL && *value == '\0')
		*unowned = key;
}

void
listener_check_auth(const struct conf *conf, const struct conf_section *section,
    bool has_tls, struct buf *errors)
{
	const struct listener_options *o = section->values;
	const char *why = NULL, *unowned = NULL;
	struct sasl *sasl;

	if (o->sender_login != NULL)
		table_each(o->sender_login, find_unowned, &unowned);
	if (unowned != NULL)
		conf_error(errors, conf, section, "sender_login",
		    "\"%s\" has no logins behind it", unowned);
	if (o->auth == NULL) {
		if (o->require_auth)
			conf_error(errors, conf, section, "require_auth",
			    "needs auth, who knows the users");
		return;
	}
	if ((sasl = sasl_new(o->auth, &why)) == NULL)
		conf_error(errors, conf, section, "auth", "%s", why);
	sasl_free(&sasl);
	if (!has_tls && !o->auth_without_tls)
		conf_error(errors, conf, section, "auth",
		    "needs TLS: set tls_certificate and tls_key, or "
		    "auth_without_tls = yes");
}

/* Passwords are not guessed session by session either. */
static bool
is_guesser(const struct smtp_session *s)
{
	uint32_t limit = s->listener->options->max_auth_failures_per_client;

	return limit > 0 && s->trusted != ANSWER_YES && auth_limit_failures(
	    s->server->auth_limit, &s->peer.client, task_now()) >= limit;
}

static bool
is_private(const struct smtp_session *s)
{
	return s->peer.tls_version != NULL ||
	    s->listener->options->auth_without_tls;
}

const char *
smtp_auth_offer(const struct smtp_session *s)
{
	const char *mechanisms;

	if (s->listener->sasl == NULL || !is_private(s))
		return NULL;
	mechanisms = sasl_mechanisms(s->listener->sasl);
	if (mechanisms == NULL && s->peer.tls_version != NULL)
		return LIKELY_MECHANISMS;
	return mechanisms;
}

static void
refuse_unavailable(struct smtp_session *s, const char *mechanism,
    const char *why)
{
	log_warn(NULL, "%s: SASL %s authentication unavailable: %s", s->client,
	    mechanism, why != NULL ? why : "temporary failure");
	smtp_refuse(s, "AUTH", NULL, &unavailable);
}

/* The line of the log is one that fail2ban knows from Postfix. */
static void
refuse_failed(struct smtp_session *s, const char *mechanism,
    const struct sasl_answer *answer)
{
	struct smtp_refusal refusal = failed;
	int64_t delay = DELAY_MS * (int64_t)++s->auth_failures;

	log_warn(NULL, "%s: SASL %s authentication failed: %s%s%s", s->client,
	    mechanism, answer->reason != NULL ? answer->reason :
	    "authentication failure", answer->user != NULL ?
	    ", sasl_username=" : "", answer->user != NULL ? answer->user : "");
	if (answer->reason != NULL)
		refusal.text = answer->reason;
	auth_limit_add(s->server->auth_limit, &s->peer.client, task_now());
	(void)task_sleep(delay < DELAY_MAX_MS ? delay : DELAY_MAX_MS);
	smtp_refuse(s, "AUTH", NULL, &refusal);
	if (s->auth_failures >= s->listener->options->max_auth_failures)
		smtp_refuse(s, "AUTH", NULL, &too_many_failures);
}

static void
authenticated(struct smtp_session *s, const char *mechanism, const char *user)
{
	s->peer.user = arena_strdup(s->peer.arena, user);
	auth_limit_forget(s->server->auth_limit, &s->peer.client);
	s->peer.auth_method = arena_strdup(s->peer.arena, mechanism);
	smtp_reply(s, 235, "2.7.0", "Authentication successful");
}

/* Passes the challenge on and reads the response.  NULL: it came to an end. */
static const char *
ask_client(struct smtp_session *s, struct arena *arena, const char *challenge)
{
	const struct smtp_error *error;
	struct smtp_span response;
	const char *line;
	size_t len;

	/* One line, however long. */
	io_printf(s->io, "334 %s\r\n", challenge);
	if (!smtp_session_read_line(s, SMTP_AUTH_LINE_MAX, &line, &len))
		return NULL;
	while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		len--;
	response = (struct smtp_span){ line, len };
	if (len == 1 && line[0] == '*') {
		smtp_reply(s, 501, "5.7.0", "Authentication cancelled");
		return NULL;
	}
	if ((error = smtp_check_response(response)) != NULL) {
		smtp_reply_error(s, error);
		return NULL;
	}
	return arena_strndup(arena, response.data, response.len);
}

static void
exchange(struct smtp_session *s, const struct smtp_auth *auth)
{
	const struct sasl_peer peer = {
		.io = s->io,
		.client = (const struct sockaddr *)&s->peer.client,
		.local = (const struct sockaddr *)&s->peer.local,
		.tls = s->peer.tls_version != NULL,
		.timeout_ms = ANSWER_MS,
	};
	struct arena *arena = arena_new(0);
	const char *response = NULL;
	struct sasl_request *request;
	struct sasl_answer answer;

	if (auth->initial.data != NULL)
		response = arena_strndup(arena, auth->initial.data,
		    auth->initial.len);
	request = sasl_begin(s->listener->sasl, &peer, auth->mechanism,
	    response, &answer);
	while (answer.result == SASL_CHALLENGE && (response = ask_client(s,
	    arena, answer.challenge)) != NULL)
		sasl_continue(request, response, &answer);
	switch (answer.result) {
	case SASL_CHALLENGE:		/* the client ended it */
		break;
	case SASL_OK:
		authenticated(s, auth->mechanism, answer.user);
		break;
	case SASL_FAILED:
		refuse_failed(s, auth->mechanism, &answer);
		break;
	case SASL_UNAVAILABLE:
		refuse_unavailable(s, auth->mechanism, answer.reason);
		break;
	}
	sasl_end(&request);
	arena_free(&arena);
}

void
smtp_do_auth(struct smtp_session *s, struct smtp_span argument)
{
	const struct smtp_error *error;
	struct smtp_auth auth;

	if (s->listener->sasl == NULL) {
		smtp_reply(s, 502, "5.5.1", "AUTH not available");
		return;
	}
	if (!s->peer.esmtp || s->peer.user != NULL) {
		smtp_reply(s, 503, "5.5.1", s->peer.user != NULL ?
		    "Already authenticated" : "Send EHLO first");
		return;
	}
	if (!is_private(s)) {
		smtp_refuse(s, "AUTH", NULL, &needs_tls);
		return;
	}
	if (is_guesser(s)) {
		smtp_refuse(s, "AUTH", NULL, &guesser);
		return;
	}
	if ((error = smtp_parse_auth(argument, &auth)) != NULL) {
		smtp_reply_error(s, error);
		return;
	}
	if (sasl_mechanisms(s->listener->sasl) == NULL)
		refuse_unavailable(s, auth.mechanism, "no answer so far");
	else if (!sasl_has_mechanism(s->listener->sasl, auth.mechanism))
		smtp_reply(s, 504, "5.5.4",
		    "Unrecognized authentication type");
	else
		exchange(s, &auth);
}
