/*
 * An SMTP session (RFC 5321) as a task: commands, and the end.
 *
 * Replies are gathered and sent when no further command is there already (RFC
 * 2920), so a pipelined envelope costs one write.
 */
#include "gateway/smtp_session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "gateway/screen.h"

#define HANDSHAKE_TIMEOUT_MS 30000
#define LONG_LINE_MAX (1024 * 1024)

static const struct smtp_refusal
    not_smtp = { 421, "4.7.0", "This is an SMTP server", "not-smtp" },
    too_many_commands = { 421, "4.7.0", "Too many commands",
	"too-many-commands" },
    too_many_errors = { 421, "4.7.0", "Too many errors",
	"too-many-errors" },
    endless_line = { 421, "4.7.0", "Line too long", "line-too-long" };

int64_t
smtp_session_deadline(const struct smtp_session *s, int64_t ms)
{
	int64_t deadline = task_deadline(ms);

	return deadline < s->deadline ? deadline : s->deadline;
}

void
smtp_session_lost(struct smtp_session *s, int error, const char *after)
{
	s->closing = true;
	switch (error) {
	case ETIMEDOUT:
		log_info(NULL, "timeout after %s from %s", after, s->client);
		smtp_reply_close(s, "4.4.2", "Timeout exceeded");
		return;
	case ECANCELED:
		smtp_reply_close(s, "4.3.2", "Service shutting down");
		return;
	}
	s->lost = true;
	log_info(NULL, "lost connection after %s from %s%s%s", after,
	    s->client, error != 0 && error != ECONNRESET && error != EPIPE ?
	    ": " : "", error != 0 && error != ECONNRESET && error != EPIPE ?
	    io_why(s->io) : "");
}

/* What the log calls the place where a client was lost. */
static const char *
last_command(const struct smtp_session *s)
{
	return s->commands == 0 ? "CONNECT" : smtp_verb_name(s->verb);
}

bool
smtp_session_flush(struct smtp_session *s)
{
	if (io_flush(s->io, smtp_session_deadline(s,
	    s->listener->options->command_timeout)) == 0)
		return true;
	/* Who does not read gets no 421 either. */
	s->lost = s->closing = true;
	log_info(NULL, "lost connection after %s from %s: %s",
	    last_command(s), s->client, strerror(errno));
	return false;
}

/* EHLO, HELO: whatever was under way is over (RFC 5321, 4.1.4). */
static bool
greet(struct smtp_session *s, struct smtp_span name)
{
	const struct smtp_error *error = smtp_parse_helo(name);
	struct session *peer = &s->peer;

	if (error != NULL) {
		smtp_reply_error(s, error);
		return false;
	}
	smtp_transaction_end(s, "aborted");
	if (peer->helo == NULL || strlen(peer->helo) != name.len ||
	    memcmp(peer->helo, name.data, name.len) != 0)
		peer->helo = arena_strndup(peer->arena, name.data, name.len);
	peer->esmtp = s->verb == SMTP_EHLO;
	s->state = SMTP_STATE_GREETED;
	s->helo_verdict = chain_helo(s->chain);
	/* A refusal waits for MAIL; but 421 closes (milter's meaning). */
	if (s->helo_verdict.action == ACTION_DISCONNECT ||
	    (smtp_verdict_refuses(&s->helo_verdict) &&
	    s->helo_verdict.code == 421)) {
		smtp_refuse_verdict(s, smtp_verb_name(s->verb), NULL,
		    &s->helo_verdict);
		s->closing = true;
		return false;
	}
	return true;
}

static void
do_ehlo(struct smtp_session *s, struct smtp_span name)
{
	const char *mechanisms;

	if (!greet(s, name))
		return;
	io_printf(s->io, "250-%s\r\n250-PIPELINING\r\n250-SIZE %lld\r\n",
	    s->server->hostname,
	    (long long)s->server->top->message_size_limit);
	if (s->listener->tls != NULL && s->peer.tls_version == NULL)
		io_puts(s->io, "250-STARTTLS\r\n");
	if ((mechanisms = smtp_auth_offer(s)) != NULL)
		io_printf(s->io, "250-AUTH %s\r\n", mechanisms);
	io_puts(s->io, "250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n"
	    "250-DSN\r\n250-SMTPUTF8\r\n250 CHUNKING\r\n");
}

static void
do_helo(struct smtp_session *s, struct smtp_span name)
{
	if (greet(s, name))
		smtp_reply(s, 250, NULL, "%s", s->server->hostname);
}

static void
do_rset(struct smtp_session *s, struct smtp_span argument)
{
	if (argument.len > 0) {
		smtp_reply(s, 501, "5.5.4", "Syntax: RSET");
		return;
	}
	smtp_transaction_end(s, "aborted");
	smtp_reply(s, 250, "2.0.0", "Ok");
}

static void
do_noop(struct smtp_session *s, struct smtp_span argument)
{
	(void)argument;
	smtp_reply(s, 250, "2.0.0", "Ok");
}

/* RFC 5321, 7.3: neither confirms nor denies, and changes nothing. */
static void
do_vrfy(struct smtp_session *s, struct smtp_span argument)
{
	if (argument.len == 0)
		smtp_reply(s, 501, "5.5.4", "Syntax: VRFY address");
	else
		smtp_reply(s, 252, "2.5.0", "Cannot VRFY user, but will "
		    "accept message and attempt delivery");
}

static void
do_help(struct smtp_session *s, struct smtp_span argument)
{
	(void)argument;
	smtp_reply(s, 214, "2.0.0", "See RFC 5321");
}

static void
do_quit(struct smtp_session *s, struct smtp_span argument)
{
	(void)argument;
	smtp_reply(s, 221, "2.0.0", "Bye");
	s->closing = true;
}

static void
tls_learn(struct smtp_session *s)
{
	const struct io_tls_info *info = io_tls(s->io);
	struct session *peer = &s->peer;

	peer->tls_version = info->version;
	peer->tls_cipher = info->cipher;
	peer->tls_bits = info->bits;
	peer->tls_subject = info->peer_subject;
	peer->tls_issuer = info->peer_issuer;
}

bool
smtp_session_tls(struct smtp_session *s)
{
	if (io_tls_accept(s->io, s->listener->tls, smtp_session_deadline(s,
	    HANDSHAKE_TIMEOUT_MS)) == 0) {
		tls_learn(s);
		return true;
	}
	log_info(NULL, "TLS handshake with %s failed: %s", s->client,
	    io_why(s->io));
	s->closing = s->lost = true;
	return false;
}

/*
 * RFC 3207, 4.2: all that was said before is forgotten.  What stands behind
 * STARTTLS came in clear text, perhaps from somebody else (CVE-2011-0411).
 */
static void
do_starttls(struct smtp_session *s, struct smtp_span argument)
{
	size_t injected;

	if (argument.len > 0) {
		smtp_reply(s, 501, "5.5.4", "Syntax: STARTTLS");
		return;
	}
	if (s->peer.tls_version != NULL) {
		smtp_reply(s, 503, "5.5.1", "TLS already active");
		return;
	}
	if (s->listener->tls == NULL) {
		smtp_reply(s, 502, "5.5.1", "TLS not available");
		return;
	}
	smtp_transaction_end(s, "aborted");
	io_input(s->io, &injected);
	if (injected > 0) {
		log_warn(NULL, "%zu bytes behind STARTTLS from %s dropped",
		    injected, s->client);
		io_consume(s->io, injected);
	}
	smtp_reply(s, 220, "2.0.0", "Ready to start TLS");
	if (!smtp_session_flush(s) || !smtp_session_tls(s))
		return;
	s->state = SMTP_STATE_CONNECTED;
	s->peer.helo = NULL;
	s->peer.esmtp = false;
	s->peer.user = s->peer.auth_method = NULL;
	s->helo_verdict = VERDICT_CONTINUE;
}

/* Filters that asked for it may give the answer to what we do not know. */
static void
do_unknown(struct smtp_session *s, const char *line, size_t len)
{
	struct verdict verdict;

	while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		len--;
	verdict = chain_unknown(s->chain, arena_strndup(s->peer.arena, line,
	    len));
	if (smtp_verdict_refuses(&verdict))
		smtp_refuse_verdict(s, "UNKNOWN", NULL, &verdict);
	else
		smtp_reply(s, 500, "5.5.2", "Command not recognized");
}

/*
 * The state machine: in which states a command is good, and whether it counts
 * as one that furthers no message.
 */
#define ANY (SMTP_STATE_CONNECTED | SMTP_STATE_GREETED | SMTP_STATE_MAIL | \
	SMTP_STATE_RCPT | SMTP_STATE_BDAT)
static const struct command_row {
	unsigned states;
	bool junk;
	void (*run)(struct smtp_session *, struct smtp_span argument);
} commands[] = {
	[SMTP_EHLO] = { ANY, true, do_ehlo },
	[SMTP_HELO] = { ANY, true, do_helo },
	[SMTP_MAIL] = { SMTP_STATE_GREETED, false, smtp_do_mail },
	[SMTP_RCPT] = { SMTP_STATE_MAIL | SMTP_STATE_RCPT, false,
	    smtp_do_rcpt },
	[SMTP_DATA] = { SMTP_STATE_RCPT, false, smtp_do_data },
	[SMTP_BDAT] = { SMTP_STATE_RCPT | SMTP_STATE_BDAT, false,
	    smtp_do_bdat },
	[SMTP_RSET] = { ANY, true, do_rset },
	[SMTP_NOOP] = { ANY, true, do_noop },
	[SMTP_VRFY] = { ANY, true, do_vrfy },
	[SMTP_HELP] = { ANY, true, do_help },
	[SMTP_QUIT] = { ANY, false, do_quit },
	[SMTP_STARTTLS] = { ANY & ~SMTP_STATE_CONNECTED, true, do_starttls },
	/* RFC 4954, 4: not during a mail transaction. */
	[SMTP_AUTH] = { SMTP_STATE_GREETED, true, smtp_do_auth },
};

/* Why a known command is not good now. */
static const char *
out_of_order(const struct smtp_session *s)
{
	switch (s->state) {
	case SMTP_STATE_CONNECTED:
		return "Send HELO or EHLO first";
	case SMTP_STATE_GREETED:
		return "Need MAIL command";
	case SMTP_STATE_MAIL:
		if (s->verb == SMTP_AUTH)
			return "Not during a mail transaction";
		return s->verb == SMTP_MAIL ? "Nested MAIL command" :
		    "Need RCPT command";
	case SMTP_STATE_RCPT:
		return s->verb == SMTP_AUTH ? "Not during a mail transaction" :
		    "Nested MAIL command";
	case SMTP_STATE_BDAT:
		break;
	}
	return "Not after BDAT";
}

static void
run_command(struct smtp_session *s, const char *line, size_t len)
{
	const struct command_row *row;
	struct smtp_command command;

	smtp_command_parse(line, len, &command);
	s->verb = command.verb;
	s->commands++;
	if (command.verb == SMTP_FOREIGN) {
		log_warn(NULL, "another protocol from %s", s->client);
		smtp_refuse(s, last_command(s), NULL, &not_smtp);
		return;
	}
	if (command.verb == SMTP_UNKNOWN) {
		do_unknown(s, line, len);
		return;
	}
	row = &commands[command.verb];
	if (row->junk && ++s->junk >
	    (uint64_t)s->listener->options->max_commands) {
		smtp_refuse(s, last_command(s), NULL, &too_many_commands);
		return;
	}
	if (row->states & s->state) {
		row->run(s, command.argument);
		return;
	}
	/* Its chunk follows all the same (RFC 3030, 2). */
	if (command.verb == SMTP_BDAT && !smtp_skip_bdat(s, command.argument))
		return;
	smtp_reply(s, 503, "5.5.1", "%s", out_of_order(s));
}

static bool
line_buffered(const struct smtp_session *s)
{
	size_t len;
	const char *input = io_input(s->io, &len);

	return len > 0 && memchr(input, '\n', len) != NULL;
}

/* Drops input up to the end of a line that is too long. */
static void
drop_long_line(struct smtp_session *s, int64_t deadline)
{
	size_t dropped = 0, len;

	while (dropped < LONG_LINE_MAX) {
		const char *input = io_input(s->io, &len);
		const char *lf = len > 0 ? memchr(input, '\n', len) : NULL;
		ssize_t got;

		if (lf != NULL) {
			io_consume(s->io, (size_t)(lf - input) + 1);
			smtp_reply(s, 500, "5.5.2", "Line too long");
			return;
		}
		dropped += len;
		io_consume(s->io, len);
		got = io_fill(s->io, deadline);
		if (got <= 0) {
			smtp_session_lost(s, got == 0 ? 0 : errno,
			    last_command(s));
			return;
		}
	}
	smtp_refuse(s, last_command(s), NULL, &endless_line);
}

/*
 * The deadline is that of the whole line: a client that sends a byte now and
 * then gets no further than one that is silent.
 */
bool
smtp_session_read_line(struct smtp_session *s, size_t max, const char **line,
    size_t *len)
{
	const struct listener_options *options = s->listener->options;
	int64_t deadline;
	int rc;

	if (!line_buffered(s)) {
		if (s->server->draining && s->state != SMTP_STATE_BDAT &&
		    task_now() >= s->server->drain_until) {
			smtp_session_lost(s, ECANCELED, "");
			return false;
		}
		if (io_pending(s->io) > 0 && !smtp_session_flush(s))
			return false;
		s->waiting = s->state != SMTP_STATE_BDAT;
	}
	deadline = smtp_session_deadline(s, options->command_timeout);
	rc = io_read_line(s->io, max, line, len, deadline);
	s->waiting = false;
	if (rc > 0)
		return true;
	if (rc < 0 && errno == EMSGSIZE)
		drop_long_line(s, deadline);
	else
		smtp_session_lost(s, rc == 0 ? 0 : errno, last_command(s));
	return false;
}

/* Initial responses, such as tokens, need more room than other commands. */
static bool
read_command(struct smtp_session *s, const char **line, size_t *len)
{
	size_t limit = (size_t)s->listener->options->line_limit;

	if (s->listener->sasl == NULL || limit > SMTP_AUTH_LINE_MAX)
		return smtp_session_read_line(s, limit, line, len);
	if (!smtp_session_read_line(s, SMTP_AUTH_LINE_MAX, line, len))
		return false;
	if (*len <= limit || strncasecmp(*line, "AUTH ", 5) == 0)
		return true;
	smtp_reply(s, 500, "5.5.2", "Line too long");
	return false;
}

static void
next_command(struct smtp_session *s)
{
	const struct listener_options *options = s->listener->options;
	uint32_t errors = s->errors;
	const char *line;
	size_t len;

	if (read_command(s, &line, &len)) {
		if (options->bare_newline == SMTP_BARE_REJECT &&
		    (len < 2 || line[len - 2] != '\r')) {
			s->commands++;
			s->verb = SMTP_UNKNOWN;
			smtp_reply(s, 500, "5.5.2",
			    "Command ends in a bare <LF>");
		} else
			run_command(s, line, len);
		screen_delay(s);
		if (s->errors > errors)
			s->refused[s->verb]++;
		else
			s->done[s->verb]++;
	}
	if (!s->closing && s->errors > options->max_errors)
		smtp_refuse(s, last_command(s), NULL, &too_many_errors);
}

/* ehlo=1 mail=2/3: two of three were accepted. */
static void
log_disconnect(const struct smtp_session *s)
{
	struct buf line = BUF_INIT;
	uint32_t all = 0, good = 0;

	for (int i = 0; i < SMTP_VERB_COUNT; i++) {
		uint32_t done = s->done[i], total = done + s->refused[i];
		const char *name = smtp_verb_name((enum smtp_verb)i);

		all += total;
		good += done;
		if (total == 0)
			continue;
		buf_putc(&line, ' ');
		for (; *name != '\0'; name++)
			buf_putc(&line, *name | 0x20);
		buf_printf(&line, done == total ? "=%u" : "=%u/%u", done,
		    total);
	}
	buf_printf(&line, good == all ? " commands=%u" : " commands=%u/%u",
	    good, all);
	log_info(NULL, "disconnect from %s%s", s->client, line.data);
	buf_release(&line);
}

static void
session_end(struct smtp_session *s)
{
	struct arena *arena = s->peer.arena;

	smtp_transaction_end(s, s->lost ? "lost" : "aborted");
	if (!s->lost && io_pending(s->io) > 0)
		(void)io_flush(s->io, smtp_session_deadline(s,
		    HANDSHAKE_TIMEOUT_MS));
	if (s->chain != NULL)
		chain_free(&s->chain);
	log_disconnect(s);
	screen_end(s);
	io_free(&s->io);
	*s->previous = s->next;
	if (s->next != NULL)
		s->next->previous = s->previous;
	*s->bucket_previous = s->bucket_next;
	if (s->bucket_next != NULL)
		s->bucket_next->bucket_previous = s->bucket_previous;
	s->listener->sessions--;
	s->server->session_count--;
	counter_add(s->server->counts[SMTP_COUNT_OPEN], -1);
	task_cond_broadcast(&s->server->gone);
	free(s);
	arena_free(&arena);
}

void
smtp_session_run(void *argument)
{
	struct smtp_session *s = argument;

	s->task = task_self();
	smtp_session_begin(s);
	while (!s->closing)
		next_command(s);
	session_end(s);
}
