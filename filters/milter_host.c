/*
 * A filter host: the filter's side of the milter protocol on tasks.
 *
 * Nothing is answered before the end of the message but what a filter may
 * decide on: header and body are silent (NR), so that an MTA which knows those
 * bits sends a whole message in one go and waits once.
 */
#include "filters/milter_host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/chain_run.h"
#include "filters/milter_codec.h"
#include "filters/milter_diff.h"

#define COMMAND_MAX	131072
#define BUFFERED_MAX	8192
#define HEADER_MAX	(16 << 20)
#define ARGUMENTS_MAX	100
#define PROGRESS_MS	10000
#define MACROS "{auth_type} {auth_authen}"

struct host {
	const struct chain_plan *plan;
	const struct milter_host_settings *settings;
	struct io *io;
	struct buf packet, out, header;
	uint32_t actions, protocol;
	bool negotiated;
	struct session session;		/* its arena is NULL: no session */
	struct chain *chain;
	struct mail *mail;
	bool failed;			/* the message cannot be kept */
	char next_id[ENVELOPE_ID_SIZE];	/* of the message that MAIL begins */
};

/* --- packets --- */

static int
read_large(struct host *h, struct milter_packet *packet, int64_t deadline)
{
	char why[MILTER_WHY_SIZE];

	buf_reset(&h->packet);
	if (io_read_full(h->io, buf_reserve(&h->packet, packet->size),
	    packet->size, deadline) != 1)
		return -1;
	h->packet.len = packet->size;
	return milter_packet_parse(h->packet.data, h->packet.len, COMMAND_MAX,
	    packet, why) == 1 ? 0 : -1;
}

/* The MTA's next packet; -1 at its end, or if it's no packet. */
static int
read_packet(struct host *h, struct milter_packet *packet)
{
	int64_t deadline = task_deadline(h->settings->idle_timeout_ms);
	char why[MILTER_WHY_SIZE];
	const char *bytes;
	size_t len;
	int rc;

	for (;;) {
		bytes = io_input(h->io, &len);
		rc = milter_packet_parse(bytes, len, COMMAND_MAX, packet, why);
		if (rc == -1) {
			log_warn(NULL, "milter client: %s", why);
			return -1;
		}
		if (rc == 1) {
			io_consume(h->io, packet->size);
			return 0;
		}
		if (packet->size > BUFFERED_MAX)
			return read_large(h, packet, deadline);
		if (io_fill(h->io, deadline) <= 0)
			return -1;
	}
}

static int
answer(struct host *h, const struct verdict *v)
{
	static const char plain[] = {
		[ACTION_CONTINUE] = MILTER_CONTINUE,
		[ACTION_ACCEPT] = MILTER_ACCEPT,
		[ACTION_DISCARD] = MILTER_DISCARD,
		[ACTION_TEMPFAIL] = MILTER_TEMPFAIL,
		[ACTION_REJECT] = MILTER_REJECT,
		[ACTION_DISCONNECT] = MILTER_SHUTDOWN,
	};

	if (v->action == ACTION_DISCONNECT)
		milter_put_text(&h->out, 421, v->enhanced != NULL ?
		    v->enhanced : "4.7.0", v->text != NULL ? v->text :
		    "Closing the connection");
	else if ((v->action == ACTION_REJECT || v->action == ACTION_TEMPFAIL) &&
	    v->code >= 400 && v->code < 600 && v->text != NULL)
		milter_put_text(&h->out, v->code, v->enhanced, v->text);
	else
		milter_put(&h->out, plain[v->action], NULL, 0);
	io_put(h->io, h->out.data, h->out.len);
	buf_reset(&h->out);
	return io_flush(h->io, task_deadline(h->settings->idle_timeout_ms));
}

/* Answers unless the MTA knows that nothing comes. */
static int
answer_unless(struct host *h, uint32_t silent, struct verdict v)
{
	return (h->protocol & silent) != 0 ? 0 : answer(h, &v);
}

/* --- negotiation --- */

static bool
anyone_has(const struct chain_plan *plan, size_t event)
{
	for (size_t i = 0; i < plan->count; i++) {
		const struct filter *f = plan->entries[i].filter;

		if ((f->traits & FILTER_LOOKS) == 0 &&
		    *(void *const *)((const char *)f + event) != NULL)
			return true;
	}
	return false;
}

static uint32_t
wanted_protocol(const struct chain_plan *plan)
{
	uint32_t bits = MILTER_NR_HEADER | MILTER_NR_EOH | MILTER_NR_BODY |
	    MILTER_LEADING_SPACE | MILTER_NO_UNKNOWN;

	if (!anyone_has(plan, offsetof(struct filter, connect)))
		bits |= MILTER_NR_CONNECT;
	if (!anyone_has(plan, offsetof(struct filter, helo)))
		bits |= MILTER_NR_HELO;
	if (!anyone_has(plan, offsetof(struct filter, mail)))
		bits |= MILTER_NR_MAIL;
	if (!anyone_has(plan, offsetof(struct filter, rcpt)))
		bits |= MILTER_NR_RCPT;
	if (!anyone_has(plan, offsetof(struct filter, data)))
		bits |= MILTER_NO_DATA;
	return bits;
}

/* Postfix gives the queue id from RCPT or later on, so ask everywhere. */
static int
negotiate(struct host *h, const struct milter_command *command)
{
	struct milter_negotiation offer, reply = { .version = 0 };
	const char *why;

	if (milter_negotiation_parse(command->bytes, command->len, &offer,
	    &why) == -1 || offer.version < 2) {
		log_warn(NULL, "milter client: bad negotiation");
		return -1;
	}
	reply.version = offer.version < MILTER_VERSION ? offer.version :
	    MILTER_VERSION;
	reply.actions = h->actions = MILTER_ACTIONS_ALL & offer.actions;
	reply.protocol = h->protocol = wanted_protocol(h->plan) &
	    offer.protocol;
	if ((offer.actions & MILTER_MAY_SETSYMLIST) != 0) {
		reply.macros[MILTER_AT_CONNECT] = "j {daemon_name} "
		    "{client_name} {client_ptr} {client_addr} "
		    "{millgate_trusted}";
		reply.macros[MILTER_AT_HELO] = "{tls_version} {cipher} "
		    "{cipher_bits} {cert_subject} {cert_issuer}";
		reply.macros[MILTER_AT_MAIL] = "i " MACROS;
		reply.macros[MILTER_AT_RCPT] = "i";
		reply.macros[MILTER_AT_EOM] = "i " MACROS;
	}
	milter_put_negotiation(&h->out, &reply);
	io_put(h->io, h->out.data, h->out.len);
	buf_reset(&h->out);
	h->negotiated = true;
	return io_flush(h->io, task_deadline(h->settings->idle_timeout_ms));
}

/* --- the session --- */

static void
end_message(struct host *h)
{
	if (h->chain != NULL)
		chain_abort(h->chain);
	mail_free(&h->mail);
	buf_reset(&h->header);
	h->failed = false;
}

static void
end_session(struct host *h)
{
	end_message(h);
	chain_free(&h->chain);
	arena_free(&h->session.arena);
	memset(&h->session, 0, sizeof(h->session));
}

/* Macros come before CONNECT, and some MTAs never send CONNECT. */
static void
need_session(struct host *h)
{
	if (h->chain != NULL)
		return;
	memset(&h->session, 0, sizeof(h->session));
	h->session.arena = arena_new(0);
	h->session.hostname = h->settings->hostname;
	h->session.listener = "milter";
	h->session.esmtp = true;
	snprintf(h->session.log.id, sizeof(h->session.log.id), "NOQUEUE");
	h->chain = chain_new(h->plan, &h->session);
}

static void
set_id(struct host *h, const char *id)
{
	if (h->mail == NULL || *id == '\0')
		return;
	snprintf(h->mail->envelope.id, sizeof(h->mail->envelope.id), "%s",
	    id);
	snprintf(h->mail->log.id, sizeof(h->mail->log.id), "%s", id);
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

static void
set_macro(struct host *h, const char *name, const char *value)
{
	if (strcmp(name, "{cipher_bits}") == 0)
		h->session.tls_bits = atoi(value);
	if (strcmp(name, "{millgate_trusted}") == 0)
		h->session.trusted = true;
	for (size_t i = 0; i < OPTION_COUNT(session_macros); i++) {
		const char **at = (const char **)((char *)&h->session +
		    session_macros[i].offset);

		if (strcmp(session_macros[i].name, name) != 0)
			continue;
		if (*value != '\0' && (*at == NULL || strcmp(*at, value) != 0))
			*at = arena_strdup(h->session.arena, value);
	}
}

static void
take_macros(struct host *h, const struct milter_command *command)
{
	const char *name, *value;
	size_t at = 0;

	need_session(h);
	while ((name = milter_argument_next(command, &at)) != NULL &&
	    (value = milter_argument_next(command, &at)) != NULL) {
		if (strcmp(name, "i") != 0)
			set_macro(h, name, value);
		else if (command->macro_for == MILTER_MAIL)
			snprintf(h->next_id, sizeof(h->next_id), "%s", value);
		else
			set_id(h, value);
	}
}

static void
set_client(struct host *h, const struct milter_command *command)
{
	struct session *s = &h->session;
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
}

/* A name in brackets, or "unknown", is none. */
static void
set_client_name(struct host *h, const char *host)
{
	struct session *s = &h->session;

	if (s->client_name == NULL && *host != '\0')
		s->client_name = arena_strdup(s->arena, host);
	if (s->client_name != NULL && (s->client_name[0] == '[' ||
	    strcmp(s->client_name, "unknown") == 0))
		s->client_name = NULL;
}

static int
on_connect(struct host *h, const struct milter_command *command)
{
	need_session(h);
	set_client(h, command);
	set_client_name(h, command->first);
	return answer_unless(h, MILTER_NR_CONNECT, chain_connect(h->chain));
}

static int
on_helo(struct host *h, const struct milter_command *command)
{
	need_session(h);
	h->session.helo = arena_strdup(h->session.arena, command->first);
	return answer_unless(h, MILTER_NR_HELO, chain_helo(h->chain));
}

/* --- the message --- */

static const char *
bare(struct arena *arena, const char *address)
{
	size_t len = strlen(address);

	if (len >= 2 && address[0] == '<' && address[len - 1] == '>')
		return arena_strndup(arena, address + 1, len - 2);
	return arena_strdup(arena, address);
}

static const char *const *
copy_arguments(struct host *h, const struct milter_command *command)
{
	const char *list[ARGUMENTS_MAX + 1], *argument;
	size_t at = 0, count = 0;

	while (count < ARGUMENTS_MAX && (argument =
	    milter_argument_next(command, &at)) != NULL)
		list[count++] = arena_strdup(h->mail->arena, argument);
	list[count++] = NULL;
	return arena_memdup(h->mail->arena, list, count * sizeof(list[0]));
}

static int
on_mail(struct host *h, const struct milter_command *command)
{
	need_session(h);
	end_message(h);
	h->mail = mail_new(&h->session, h->settings->memory_limit,
	    h->settings->temporary_directory);
	set_id(h, h->next_id);
	h->next_id[0] = '\0';
	h->mail->deadline = task_deadline(h->settings->message_timeout_ms);
	h->mail->envelope.sender = bare(h->mail->arena, command->first);
	h->mail->envelope.arguments = copy_arguments(h, command);
	h->mail->envelope.user = h->session.user;
	return answer_unless(h, MILTER_NR_MAIL, chain_mail(h->chain,
	    h->mail));
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

static int
on_rcpt(struct host *h, const struct milter_command *command)
{
	struct recipient *r;
	struct verdict v;

	if (h->mail == NULL)
		return -1;
	r = envelope_add_recipient(&h->mail->envelope, h->mail->arena,
	    bare(h->mail->arena, command->first));
	r->arguments = copy_arguments(h, command);
	v = chain_rcpt(h->chain, r);
	if (v.action == ACTION_REJECT || v.action == ACTION_TEMPFAIL)
		remove_recipient(&h->mail->envelope, r);
	return answer_unless(h, MILTER_NR_RCPT, v);
}

static int
on_header(struct host *h, const struct milter_command *command)
{
	if (h->mail == NULL || h->header.len > HEADER_MAX)
		return -1;
	buf_puts(&h->header, command->first);
	buf_putc(&h->header, ':');
	if ((h->protocol & MILTER_LEADING_SPACE) == 0)
		buf_putc(&h->header, ' ');
	for (const char *p = command->second; *p != '\0'; p++) {
		if (*p == '\n' && (p == command->second || p[-1] != '\r'))
			buf_putc(&h->header, '\r');
		buf_putc(&h->header, *p);
	}
	buf_puts(&h->header, "\r\n");
	return answer_unless(h, MILTER_NR_HEADER, VERDICT_CONTINUE);
}

static void
end_header(struct host *h)
{
	struct mail *mail = h->mail;
	const char *bytes;
	size_t used;

	if (mail->stage >= MAIL_STAGE_BODY)
		return;
	bytes = arena_memdup(mail->arena, h->header.len > 0 ?
	    h->header.data : "", h->header.len);
	used = headers_parse(&mail->headers, mail->arena, bytes,
	    h->header.len);
	if (used < h->header.len) {
		log_warn(&mail->log, "milter client: header is malformed");
		h->failed = true;
	}
	buf_reset(&h->header);
	mail->stage = MAIL_STAGE_BODY;
	chain_header_done(h->chain);
}

static int
on_eoh(struct host *h, const struct milter_command *command)
{
	(void)command;
	if (h->mail == NULL)
		return -1;
	end_header(h);
	return answer_unless(h, MILTER_NR_EOH, VERDICT_CONTINUE);
}

static void
add_body(struct host *h, const struct milter_command *command)
{
	end_header(h);
	h->mail->received_size += command->len;
	if (command->len == 0 || body_append(h->mail->body, command->bytes,
	    command->len) == 0)
		return;
	if (!h->failed)
		log_error(&h->mail->log, "cannot keep the body: %s",
		    strerror(errno));
	h->failed = true;
}

static int
on_body(struct host *h, const struct milter_command *command)
{
	if (h->mail == NULL)
		return -1;
	add_body(h, command);
	chain_body_grown(h->chain);
	return answer_unless(h, MILTER_NR_BODY, VERDICT_CONTINUE);
}

/* As a task: the MTA's patience is renewed while the filters work. */
static void
show_progress(void *argument)
{
	struct host *h = argument;
	int64_t ms = h->settings->progress_ms;

	while (task_sleep(ms > 0 ? ms : PROGRESS_MS) == 0) {
		io_put(h->io, "\0\0\0\1p", 5);
		if (io_flush(h->io, task_deadline(PROGRESS_MS)) == -1)
			break;
	}
}

static struct verdict
run_chain(struct host *h)
{
	struct task *progress = task_start("milter-progress", show_progress,
	    h);
	struct verdict v = chain_eom(h->chain);

	task_reap(&progress);
	return v;
}

static struct verdict
judge(struct host *h)
{
	const struct verdict broken = { .action = ACTION_TEMPFAIL,
	    .code = 451, .enhanced = "4.3.0", .text = "Local error" };
	struct milter_snapshot *before;
	struct verdict v;

	if (h->failed)
		return broken;
	before = milter_snapshot_new(h->mail);
	v = run_chain(h);
	if (v.action != ACTION_CONTINUE)
		return v;
	if (!milter_diff(&h->out, before, h->mail, h->actions,
	    (h->protocol & MILTER_LEADING_SPACE) != 0)) {
		log_warn(&h->mail->log, "the MTA does not allow what the "
		    "filter wants to change");
		buf_reset(&h->out);
		return broken;
	}
	return v;
}

static int
on_eob(struct host *h, const struct milter_command *command)
{
	struct verdict v;
	int rc;

	if (h->mail == NULL)
		return -1;
	add_body(h, command);
	h->mail->stage = MAIL_STAGE_COMPLETE;
	v = judge(h);
	rc = answer(h, &v);
	end_message(h);
	return rc;
}

static int
on_data(struct host *h, const struct milter_command *command)
{
	(void)command;
	if (h->mail == NULL)
		return -1;
	return answer_unless(h, MILTER_NR_DATA, chain_data(h->chain));
}

static int
on_unknown(struct host *h, const struct milter_command *command)
{
	need_session(h);
	return answer_unless(h, MILTER_NR_UNKNOWN, chain_unknown(h->chain,
	    command->first));
}

static int
on_abort(struct host *h, const struct milter_command *command)
{
	(void)command;
	end_message(h);
	return 0;
}

static int
on_next_session(struct host *h, const struct milter_command *command)
{
	(void)command;
	end_session(h);
	return 0;
}

static int
on_macros(struct host *h, const struct milter_command *command)
{
	take_macros(h, command);
	return 0;
}

static const struct {
	char code;
	int (*run)(struct host *, const struct milter_command *);
} commands[] = {
	{ MILTER_OPTNEG, negotiate },
	{ MILTER_MACRO, on_macros },
	{ MILTER_CONNECT, on_connect },
	{ MILTER_HELO, on_helo },
	{ MILTER_MAIL, on_mail },
	{ MILTER_RCPT, on_rcpt },
	{ MILTER_DATA, on_data },
	{ MILTER_HEADER, on_header },
	{ MILTER_EOH, on_eoh },
	{ MILTER_BODY, on_body },
	{ MILTER_EOB, on_eob },
	{ MILTER_UNKNOWN, on_unknown },
	{ MILTER_ABORT, on_abort },
	{ MILTER_QUIT_NC, on_next_session },
};

static int
obey(struct host *h, const struct milter_packet *packet)
{
	struct milter_command command;
	const char *why;

	if (milter_command_parse(packet, &command, &why) == -1) {
		log_warn(NULL, "milter client: %s (0x%02x)", why,
		    (unsigned char)packet->code);
		return -1;
	}
	if (!h->negotiated && command.code != MILTER_OPTNEG)
		return -1;
	for (size_t i = 0; i < OPTION_COUNT(commands); i++)
		if (commands[i].code == command.code)
			return commands[i].run(h, &command);
	return -1;		/* QUIT */
}

void
milter_host_talk(int fd, const struct chain_plan *plan,
    const struct milter_host_settings *settings)
{
	struct host h = { .plan = plan, .settings = settings };
	struct milter_packet packet;

	h.io = io_new(fd);
	io_quickack(h.io);
	while (read_packet(&h, &packet) == 0 && obey(&h, &packet) == 0)
		;
	end_session(&h);
	buf_release(&h.packet);
	buf_release(&h.out);
	buf_release(&h.header);
	io_free(&h.io);
}
