/*
 * MAIL and RCPT: a transaction begins, gets its recipients, and ends.
 */
#include <string.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "filters/trace.h"
#include "gateway/smtp_session.h"

static const struct smtp_refusal
    needs_tls = { 530, "5.7.0", "Must issue a STARTTLS command first",
	"tls-required" },
    needs_auth = { 530, "5.7.0", "Authentication required", "auth-required" },
    too_large = { 552, "5.3.4", "Message size exceeds fixed limit",
	"too-large" },
    no_room = { 452, "4.3.1", "Insufficient system storage", "no-room" },
    too_many_messages = { 421, "4.7.0", "Too many messages in this session",
	"too-many-messages" },
    too_many_recipients = { 452, "4.5.3", "Too many recipients",
	"too-many-recipients" };

/* What each answer of the relay control says. */
static const struct smtp_refusal access_refusals[] = {
	[ACCESS_RELAY_DENIED] = { 550, "5.7.1", "Relay access denied",
	    "relay-denied" },
	[ACCESS_ROUTING] = { 550, "5.7.1",
	    "Relay access denied: sender-specified routing",
	    "relay-denied" },
	[ACCESS_NO_USER] = { 550, "5.1.1", "User unknown", "user-unknown" },
	[ACCESS_BAD_DOMAIN] = { 553, "5.1.2", "Bad domain name",
	    "bad-domain" },
	[ACCESS_TRY_LATER] = { 451, "4.3.0",
	    "Recipient cannot be checked now", "recipient-check" }
};

static const char *
copy(struct arena *arena, struct smtp_span span)
{
	return arena_strndup(arena, span.data, span.len);
}

static const char *const *
copy_arguments(struct arena *arena, const struct smtp_span *spans, size_t count)
{
	const char **arguments;

	if (count == 0)
		return NULL;
	arguments = arena_alloc(arena, (count + 1) * sizeof *arguments);
	for (size_t i = 0; i < count; i++)
		arguments[i] = copy(arena, spans[i]);
	return arguments;
}

/* What of the session forbids any mail. */
static bool
session_refuses(struct smtp_session *s)
{
	const struct verdict *held =
	    smtp_verdict_refuses(&s->connect_verdict) ?
	    &s->connect_verdict : &s->helo_verdict;

	if (s->listener->tls_required && s->peer.tls_version == NULL) {
		smtp_refuse(s, "MAIL", NULL, &needs_tls);
		return true;
	}
	if (s->listener->options->require_auth && s->peer.user == NULL) {
		/* RFC 4954, 6, and RFC 3207, 4: what the client lacks first. */
		smtp_refuse(s, "MAIL", NULL, s->peer.tls_version == NULL &&
		    !s->listener->options->auth_without_tls ? &needs_tls :
		    &needs_auth);
		return true;
	}
	if (smtp_verdict_refuses(held)) {
		smtp_refuse_verdict(s, "MAIL", NULL, held);
		return true;
	}
	if (s->messages >= s->listener->options->max_messages) {
		smtp_refuse(s, "MAIL", NULL, &too_many_messages);
		return true;
	}
	return false;
}

static struct smtp_transaction *
transaction_begin(struct smtp_session *s, const struct smtp_mail *command)
{
	const struct listener_options *options = s->listener->options;
	struct mail *mail = mail_new(&s->peer,
	    (size_t)s->server->top->memory_limit, s->server->temporary);
	struct envelope *envelope = &mail->envelope;
	struct smtp_transaction *t = arena_alloc(mail->arena, sizeof *t);

	t->mail = mail;
	t->last = &envelope->recipients;
	t->started_ms = task_now();
	mail->trace = trace_new(mail->arena);
	mail->deadline = smtp_session_deadline(s, options->data_timeout +
	    options->filter_timeout);
	envelope->sender = copy(mail->arena, command->sender.address);
	envelope->arguments = copy_arguments(mail->arena, command->arguments,
	    command->argument_count);
	envelope->ret = command->ret;
	if (command->envid.len > 0)
		envelope->envid = copy(mail->arena, command->envid);
	/* RFC 4954, 5: of whom we do not know it counts as <>. */
	if (command->submitter.len > 0 && (s->peer.user != NULL ||
	    s->trusted == ANSWER_YES))
		envelope->submitter = copy(mail->arena, command->submitter);
	envelope->eight_bit = command->eight_bit;
	envelope->smtputf8 = command->smtputf8;
	envelope->client = s->client;
	envelope->user = s->peer.user;
	trace_add(mail->trace, "smtp", "connect from %s, helo=%s", s->client,
	    s->peer.helo);
	trace_add(mail->trace, "smtp", "MAIL FROM:<%s>", envelope->sender);
	return t;
}

static bool
size_refused(struct smtp_session *s, int64_t size)
{
	if (size > s->server->top->message_size_limit) {
		smtp_refuse(s, "MAIL", NULL, &too_large);
		return true;
	}
	if (s->server->spool != NULL &&
	    !spool_has_room(s->server->spool, size)) {
		log_warn(&s->peer.log, "no room in the spool, size=%lld",
		    (long long)size);
		smtp_refuse(s, "MAIL", NULL, &no_room);
		return true;
	}
	return false;
}

/* The parsed command is large: it must not stay on the stack of a wait. */
static __attribute__((noinline)) bool
mail_command(struct smtp_session *s, struct smtp_span argument)
{
	const struct smtp_error *error;
	struct smtp_mail command;
	bool refused;

	if ((error = smtp_parse_mail(argument, &command)) != NULL) {
		smtp_reply_error(s, error);
		return false;
	}
	s->asked_sender = command.sender.address;
	refused = session_refuses(s) || size_refused(s, command.size);
	s->asked_sender.data = NULL;
	if (refused)
		return false;
	s->transaction = transaction_begin(s, &command);
	s->state = SMTP_STATE_MAIL;
	return true;
}

void
smtp_do_mail(struct smtp_session *s, struct smtp_span argument)
{
	struct verdict verdict;

	if (!mail_command(s, argument) || smtp_sender_refused(s))
		return;
	smtp_check_submitter(s);
	s->messages++;
	verdict = chain_mail(s->chain, s->transaction->mail);
	if (smtp_verdict_refuses(&verdict)) {
		smtp_refuse_verdict(s, "MAIL", NULL, &verdict);
		smtp_transaction_end(s, verdict.action == ACTION_REJECT ?
		    "rejected" : "deferred");
		return;
	}
	s->transaction->discard = verdict.action == ACTION_DISCARD;
	smtp_reply(s, 250, "2.1.0", "Ok");
}

static struct recipient *
recipient_new(struct smtp_session *s, const struct smtp_rcpt *command)
{
	struct arena *arena = s->transaction->mail->arena;
	struct recipient *recipient = arena_alloc(arena, sizeof *recipient);

	if (command->recipient.domain.len == 0)
		recipient->address = access_postmaster(&s->listener->access,
		    arena, s->server->hostname);
	else
		recipient->address = copy(arena, command->recipient.address);
	recipient->notify = command->notify;
	if (command->orcpt.len > 0)
		recipient->orcpt = copy(arena, command->orcpt);
	recipient->arguments = copy_arguments(arena, command->arguments,
	    command->argument_count);
	return recipient;
}

static bool
is_known(const struct smtp_transaction *t, const char *address)
{
	for (const struct recipient *r = t->mail->envelope.recipients;
	    r != NULL; r = r->next)
		if (address_equal(r->address, address))
			return true;
	return false;
}

static __attribute__((noinline)) struct recipient *
rcpt_command(struct smtp_session *s, struct smtp_span argument)
{
	const struct smtp_error *error;
	struct smtp_rcpt command;

	error = smtp_parse_rcpt(argument,
	    s->transaction->mail->envelope.smtputf8, &command);
	if (error != NULL) {
		smtp_reply_error(s, error);
		return NULL;
	}
	return recipient_new(s, &command);
}

/* They are looked for in the history; beyond this one is like another. */
#define REFUSED_MAX 1000

static void
note_refused(struct smtp_transaction *t, const char *address)
{
	if (t->refused.len + strlen(address) < REFUSED_MAX)
		buf_printf(&t->refused, "%s%s", t->refused.len > 0 ? " " : "",
		    address);
}

/* By screening, which a user who has logged in need not fear. */
static bool
screened_out(struct smtp_session *s, struct recipient *recipient)
{
	const struct verdict *verdict = &s->screen_verdict;

	if (!smtp_verdict_refuses(verdict) || s->peer.user != NULL)
		return false;
	chain_rcpt_refused(s->chain, recipient, verdict->code, verdict->text);
	smtp_refuse_verdict(s, "RCPT", recipient->address, verdict);
	note_refused(s->transaction, recipient->address);
	return true;
}

/* Our own rules; filters that asked for it hear of those refused. */
static bool
recipient_refused(struct smtp_session *s, struct recipient *recipient)
{
	const struct smtp_refusal *refusal;
	const char *why = NULL;
	enum access_result result = access_check(&s->listener->access,
	    s->peer.user != NULL ? ANSWER_YES : s->trusted,
	    recipient->address, &why);

	if (result == ACCESS_OK &&
	    s->transaction->recipients <
	    (size_t)s->listener->options->max_recipients)
		return false;
	refusal = result == ACCESS_OK ? &too_many_recipients :
	    &access_refusals[result];
	if (result == ACCESS_TRY_LATER)
		log_warn(&s->transaction->mail->log,
		    "recipient <%s> cannot be checked: %s",
		    recipient->address, why != NULL ? why : "no answer");
	chain_rcpt_refused(s->chain, recipient, refusal->code, refusal->text);
	smtp_refuse(s, "RCPT", recipient->address, refusal);
	note_refused(s->transaction, recipient->address);
	return true;
}

void
smtp_do_rcpt(struct smtp_session *s, struct smtp_span argument)
{
	struct smtp_transaction *t = s->transaction;
	struct recipient *recipient = rcpt_command(s, argument);
	struct verdict verdict;

	if (recipient == NULL || screened_out(s, recipient) ||
	    recipient_refused(s, recipient))
		return;
	if (is_known(t, recipient->address)) {
		smtp_reply(s, 250, "2.1.5", "Ok");
		return;
	}
	verdict = chain_rcpt(s->chain, recipient);
	if (smtp_verdict_refuses(&verdict)) {
		smtp_refuse_verdict(s, "RCPT", recipient->address, &verdict);
		note_refused(t, recipient->address);
		return;
	}
	if (verdict.action == ACTION_DISCARD)
		t->discard = true;
	*t->last = recipient;
	t->last = &recipient->next;
	t->recipients++;
	s->state = SMTP_STATE_RCPT;
	trace_add(t->mail->trace, "smtp", "RCPT TO:<%s>", recipient->address);
	smtp_reply(s, 250, "2.1.5", "Ok");
}

void
smtp_transaction_end(struct smtp_session *s, const char *verdict)
{
	struct smtp_transaction *t = s->transaction;
	struct smtp_server *server = s->server;
	struct mail *mail;
	const char *text;
	size_t len = 0;

	if (s->state > SMTP_STATE_GREETED)
		s->state = SMTP_STATE_GREETED;
	if (t == NULL)
		return;
	s->transaction = NULL;
	mail = t->mail;
	if (mail->stage != MAIL_STAGE_COMPLETE)
		mail->stage = MAIL_STAGE_ABORTED;
	chain_abort(s->chain);
	histogram_observe(server->transaction_time,
	    (task_now() - t->started_ms) * 1000);
	if (server->trace != NULL && verdict != NULL) {
		text = trace_text(mail->trace, &len);
		server->trace(mail->envelope.id, mail, t->refused.data != NULL ?
		    t->refused.data : "", verdict, text, len,
		    server->trace_argument);
	}
	buf_release(&t->refused);
	buf_release(&t->header);
	mail_free(&mail);
}
