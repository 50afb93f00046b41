/*
 * A filter host's guest: see milter_guest.h.  Macros come in whatever order
 * and number the MTA likes; what it does not say stays unknown.
 */
#include "filters/milter_guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/table.h"
#include "base/task.h"

#define HEADER_MAX	(16 << 20)
#define ARGUMENTS_MAX	100

static void
end_message(struct milter_guest *g)
{
	if (g->chain != NULL)
		chain_abort(g->chain);
	mail_free(&g->mail);
	buf_reset(&g->header);
	g->failed = false;
}

static void
end_session(struct milter_guest *g)
{
	end_message(g);
	chain_free(&g->chain);
	arena_free(&g->session.arena);
	memset(&g->session, 0, sizeof(g->session));
}

/* Macros come before CONNECT, and some MTAs never send CONNECT. */
static void
need_session(struct milter_guest *g)
{
	if (g->chain != NULL)
		return;
	memset(&g->session, 0, sizeof(g->session));
	g->session.arena = arena_new(0);
	g->session.hostname = g->settings->hostname;
	g->session.listener = "milter";
	g->session.esmtp = true;
	snprintf(g->session.log.id, sizeof(g->session.log.id), "NOQUEUE");
	g->chain = chain_new(g->plan, &g->session);
}

static void
set_id(struct milter_guest *g, const char *id)
{
	if (g->mail == NULL || *id == '\0')
		return;
	snprintf(g->mail->envelope.id, sizeof(g->mail->envelope.id), "%s",
	    id);
	snprintf(g->mail->log.id, sizeof(g->mail->log.id), "%s", id);
}

static const struct {
	const char *name;
	size_t offset;			/* of a string in struct session */
} session_macros[] = {
	{ "j", offsetof(struct session, hostname) },
	{ "{daemon_name}", offsetof(struct session, listener) },
	{ "{client_name}", offsetof(struct session, client_name) },
	{ "{client_ptr}", offsetof(struct session, client_ptr) },
	{ "{auth_authen}", offsetof(struct session, user) },
	{ "{auth_type}", offsetof(struct session, auth_method) },
	{ "{tls_version}", offsetof(struct session, tls_version) },
	{ "{cipher}", offsetof(struct session, tls_cipher) },
	{ "{cert_subject}", offsetof(struct session, tls_subject) },
	{ "{cert_issuer}", offsetof(struct session, tls_issuer) },
};

/* Not what MTAs put where there is no name. */
static bool
is_name(const char *text)
{
	return *text != '\0' && *text != '[' && strcmp(text, "unknown") != 0;
}

static void
set_macro(struct milter_guest *g, const char *name, const char *value)
{
	/* They come at any stage, and again. */
	if ((strcmp(name, "{client_name}") == 0 ||
	    strcmp(name, "{client_ptr}") == 0) && !is_name(value))
		return;
	if (strcmp(name, "{client_resolve}") == 0) {
		g->session.client_name_asked = true;
		g->session.client_name_unknown = strcmp(value, "TEMP") == 0;
	}
	if (strcmp(name, "{cipher_bits}") == 0)
		g->session.tls_bits = atoi(value);
	/* Our gateway's word; other MTAs have no say in it. */
	if (strcmp(name, "{millgate_trusted}") == 0 &&
	    g->settings->trusted_networks == NULL)
		g->session.trusted = true;
	for (size_t i = 0; i < OPTION_COUNT(session_macros); i++) {
		const char **at = (const char **)((char *)&g->session +
		    session_macros[i].offset);

		if (strcmp(session_macros[i].name, name) != 0)
			continue;
		if (*value != '\0' && (*at == NULL || strcmp(*at, value) != 0))
			*at = arena_strdup(g->session.arena, value);
	}
}

static void
take_macros(struct milter_guest *g, const struct milter_command *command)
{
	const char *name, *value;
	size_t at = 0;

	need_session(g);
	while ((name = milter_argument_next(command, &at)) != NULL &&
	    (value = milter_argument_next(command, &at)) != NULL) {
		if (strcmp(name, "i") != 0)
			set_macro(g, name, value);
		else if (command->macro_for == MILTER_MAIL)
			snprintf(g->next_id, sizeof(g->next_id), "%s", value);
		else
			set_id(g, value);
	}
}

static bool
is_trusted(const struct milter_guest *g)
{
	const char *value, *why = "no answer";
	enum answer answer = table_find_network(g->settings->trusted_networks,
	    (const struct sockaddr *)&g->session.client, &value, &why);

	if (answer == ANSWER_UNKNOWN)
		log_warn(NULL, "trusted_networks: %s", why);
	return answer == ANSWER_YES;
}

static void
set_client(struct milter_guest *g, const struct milter_command *command)
{
	struct session *s = &g->session;
	struct sockaddr_in *in = (struct sockaddr_in *)&s->client;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&s->client;
	const char *text = command->second;

	if (text == NULL)
		return;
	if (strncasecmp(text, "IPv6:", 5) == 0)
		text += 5;
	if (command->family == '4' &&
	    inet_pton(AF_INET, text, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)command->port);
	} else if (command->family == '6' &&
	    inet_pton(AF_INET6, text, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)command->port);
	} else {
		return;
	}
	s->client_address = arena_strdup(s->arena, text);
	if (g->settings->trusted_networks != NULL)
		s->trusted = is_trusted(g);
}

static void
set_client_name(struct milter_guest *g, const char *host)
{
	struct session *s = &g->session;

	if (s->client_name == NULL && is_name(host))
		s->client_name = arena_strdup(s->arena, host);
}

int
milter_guest_connect(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	need_session(g);
	set_client(g, command);
	set_client_name(g, command->first);
	*v = chain_connect(g->chain);
	return 0;
}

int
milter_guest_helo(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	need_session(g);
	g->session.helo = arena_strdup(g->session.arena, command->first);
	*v = chain_helo(g->chain);
	return 0;
}

static const char *
bare(struct arena *arena, const char *address)
{
	size_t len = strlen(address);

	if (len >= 2 && address[0] == '<' && address[len - 1] == '>')
		return arena_strndup(arena, address + 1, len - 2);
	return arena_strdup(arena, address);
}

static const char *const *
copy_arguments(struct milter_guest *g, const struct milter_command *command)
{
	const char *list[ARGUMENTS_MAX + 1], *argument;
	size_t at = 0, count = 0;

	while (count < ARGUMENTS_MAX && (argument =
	    milter_argument_next(command, &at)) != NULL)
		list[count++] = arena_strdup(g->mail->arena, argument);
	list[count++] = NULL;
	return arena_memdup(g->mail->arena, list, count * sizeof(list[0]));
}

int
milter_guest_mail(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	need_session(g);
	end_message(g);
	g->mail = mail_new(&g->session, g->settings->memory_limit,
	    g->settings->temporary_directory);
	set_id(g, g->next_id);
	g->next_id[0] = '\0';
	g->mail->deadline = task_deadline(g->settings->message_timeout_ms);
	g->mail->envelope.sender = bare(g->mail->arena, command->first);
	g->mail->envelope.arguments = copy_arguments(g, command);
	g->mail->envelope.user = g->session.user;
	*v = chain_mail(g->chain, g->mail);
	return 0;
}

static void
remove_recipient(struct envelope *envelope, const struct recipient *gone)
{
	struct recipient **at = &envelope->recipients;

	while (*at != NULL && *at != gone)
		at = &(*at)->next;
	if (*at != NULL)
		*at = gone->next;
}

int
milter_guest_rcpt(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	struct recipient *r;

	if (g->mail == NULL)
		return -1;
	r = envelope_add_recipient(&g->mail->envelope, g->mail->arena,
	    bare(g->mail->arena, command->first));
	r->arguments = copy_arguments(g, command);
	*v = chain_rcpt(g->chain, r);
	if (v->action == ACTION_REJECT || v->action == ACTION_TEMPFAIL)
		remove_recipient(&g->mail->envelope, r);
	return 0;
}

int
milter_guest_header(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)v;
	if (g->mail == NULL || g->header.len > HEADER_MAX)
		return -1;
	buf_puts(&g->header, command->first);
	buf_putc(&g->header, ':');
	if ((g->protocol & MILTER_LEADING_SPACE) == 0)
		buf_putc(&g->header, ' ');
	for (const char *p = command->second; *p != '\0'; p++) {
		if (*p == '\n' && (p == command->second || p[-1] != '\r'))
			buf_putc(&g->header, '\r');
		buf_putc(&g->header, *p);
	}
	buf_puts(&g->header, "\r\n");
	return 0;
}

static void
end_header(struct milter_guest *g)
{
	struct mail *mail = g->mail;
	const char *bytes;
	size_t used;

	if (mail->stage >= MAIL_STAGE_BODY)
		return;
	bytes = arena_memdup(mail->arena, g->header.len > 0 ?
	    g->header.data : "", g->header.len);
	used = headers_parse(&mail->headers, mail->arena, bytes,
	    g->header.len);
	if (used < g->header.len) {
		log_warn(&mail->log, "milter client: header is malformed");
		g->failed = true;
	}
	buf_reset(&g->header);
	mail->stage = MAIL_STAGE_BODY;
	chain_header_done(g->chain);
}

int
milter_guest_eoh(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)command, (void)v;
	if (g->mail == NULL)
		return -1;
	end_header(g);
	return 0;
}

static void
add_body(struct milter_guest *g, const struct milter_command *command)
{
	end_header(g);
	g->mail->received_size += command->len;
	if (command->len == 0 || body_append(g->mail->body, command->bytes,
	    command->len) == 0)
		return;
	if (!g->failed)
		log_error(&g->mail->log, "cannot keep the body: %s",
		    strerror(errno));
	g->failed = true;
}

int
milter_guest_body(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)v;
	if (g->mail == NULL)
		return -1;
	add_body(g, command);
	chain_body_grown(g->chain);
	return 0;
}

int
milter_guest_data(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)command;
	if (g->mail == NULL)
		return -1;
	*v = chain_data(g->chain);
	return 0;
}

int
milter_guest_unknown(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	need_session(g);
	*v = chain_unknown(g->chain, command->first);
	return 0;
}

int
milter_guest_abort(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)command, (void)v;
	end_message(g);
	return 0;
}

int
milter_guest_quit(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)command, (void)v;
	end_session(g);
	return 0;
}

int
milter_guest_macros(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)v;
	take_macros(g, command);
	return 0;
}

int
milter_guest_complete(struct milter_guest *g,
    const struct milter_command *command, struct verdict *v)
{
	(void)v;
	if (g->mail == NULL)
		return -1;
	add_body(g, command);
	g->mail->stage = MAIL_STAGE_COMPLETE;
	return 0;
}

void
milter_guest_release(struct milter_guest *g)
{
	end_session(g);
	buf_release(&g->header);
}
