/*
 * DATA and BDAT (RFC 5321, 4.1.1.4; RFC 3030): the content comes in, the
 * filters judge it, and it is queued.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "filters/trace.h"
#include "gateway/received.h"
#include "gateway/smtp_session.h"

/* Chunks of BDAT may be tiny, but not all of a message's. */
#define SMALL_CHUNKS_MAX 1000
#define SMALL_CHUNK 1024

#define END_OF_MESSAGE "END-OF-MESSAGE"

static const struct smtp_refusal
    bare_newline = { 550, "5.5.2", "Message holds a bare <CR> or <LF>",
	"bare-newline" },
    holds_nul = { 550, "5.6.0", "Message holds a NUL byte", "nul-byte" },
    too_large = { 552, "5.3.4", "Message size exceeds fixed limit",
	"too-large" },
    header_too_large = { 552, "5.3.4", "Message header too large",
	"header-too-large" },
    mail_loop = { 554, "5.4.6", "Too many hops", "mail-loop" },
    no_room = { 452, "4.3.1", "Insufficient system storage", "no-room" },
    not_queued = { 451, "4.3.0", "Queue file write error", "queue-error" },
    small_chunks = { 421, "4.7.0", "Too many small chunks",
	"too-many-chunks" },
    cut_deferred = { 451, "4.4.0", "Next hop defers", "next-hop" },
    cut_refused = { 550, "5.0.0", "Next hop refuses", "next-hop" };

static void
take_body(struct smtp_transaction *t, const char *bytes, size_t len)
{
	if (len == 0 || body_append(t->mail->body, bytes, len) == 0)
		return;
	log_error(&t->mail->log, "cannot keep the message: %s",
	    strerror(errno));
	t->refusal = no_room;
}

/* RFC 6409, 8: a submission server adds what the message lacks. */
static void
add_missing(struct smtp_session *s, struct mail *mail)
{
	struct buf *date = &s->server->scratch;

	if (headers_find(&mail->headers, "Date", 1) == NULL) {
		buf_reset(date);
		received_print_date(date, mail->envelope.arrived_ms);
		headers_add(&mail->headers, mail->arena, NULL, "Date",
		    date->data, true);
	}
	if (headers_find(&mail->headers, "Message-ID", 1) == NULL)
		headers_add(&mail->headers, mail->arena, NULL, "Message-ID",
		    arena_printf(mail->arena, "<%s@%s>", mail->envelope.id,
		    s->server->hostname), true);
}

static void
add_received(struct smtp_session *s, struct mail *mail)
{
	struct buf *value = &s->server->scratch;
	struct header *header;

	buf_reset(value);
	received_print(value, mail, clock_wall_ms());
	header = headers_add(&mail->headers, mail->arena, mail->headers.first,
	    "Received", value->data, true);
	header->hidden = true;
}

static void
log_message_id(struct mail *mail)
{
	const struct header *header = headers_find(&mail->headers,
	    "Message-ID", 1);
	const char *id = header != NULL ?
	    header_value(header, mail->arena, true) : "";

	log_info(&mail->log, "message-id=%s", id[0] != '\0' ? id : "<>");
}

/* The first header_len bytes of what was gathered are the header section. */
static void
header_complete(struct smtp_session *s, size_t header_len)
{
	struct smtp_transaction *t = s->transaction;
	struct mail *mail = t->mail;
	size_t used;

	t->header_done = true;
	if (header_len > (size_t)s->listener->options->max_header) {
		t->refusal = header_too_large;
		return;
	}
	if (header_len > 0) {
		used = headers_parse(&mail->headers, mail->arena,
		    t->header.data, header_len);
		take_body(t, t->header.data + used, header_len - used);
	}
	if (received_count(&mail->headers) >
	    (size_t)s->listener->options->max_received)
		t->refusal = mail_loop;
	if (t->refusal.code == 0)
		smtp_check_author(s);
	if (t->refusal.code != 0)
		return;
	if (s->trusted == ANSWER_YES || s->peer.user != NULL)
		add_missing(s, mail);
	add_received(s, mail);
	log_message_id(mail);
	mail->stage = MAIL_STAGE_BODY;
	if (!t->discard)
		chain_header_done(s->chain);
}

/* Bytes while the header section may not be over. */
static void
take_header(struct smtp_session *s, const char *bytes, size_t len)
{
	struct smtp_transaction *t = s->transaction;
	struct smtp_header_end end;

	/* Mostly the first chunk holds it all: copy no more than that. */
	if (t->header.len == 0) {
		if (smtp_header_find_end(bytes, len, &t->header_scanned,
		    &end)) {
			buf_append(&t->header, bytes, end.header_len);
			header_complete(s, end.header_len);
			take_body(t, bytes + end.body, len - end.body);
			return;
		}
		buf_append(&t->header, bytes, len);
	} else {
		buf_append(&t->header, bytes, len);
		if (smtp_header_find_end(t->header.data, t->header.len,
		    &t->header_scanned, &end)) {
			header_complete(s, end.header_len);
			take_body(t, t->header.data + end.body,
			    t->header.len - end.body);
			return;
		}
	}
	if (t->header.len > (size_t)s->listener->options->max_header)
		t->refusal = header_too_large;
}

/* smtp_data_out_f: decoded content.  After a refusal it is dropped. */
static void
take(void *argument, const char *bytes, size_t len)
{
	struct smtp_session *s = argument;
	struct smtp_transaction *t = s->transaction;

	t->mail->received_size += len;
	if (t->refusal.code != 0)
		return;
	if (t->mail->received_size >
	    (size_t)s->server->top->message_size_limit) {
		t->refusal = too_large;
		return;
	}
	if (t->header_done)
		take_body(t, bytes, len);
	else
		take_header(s, bytes, len);
}

/* Waits for more content.  False: the session was lost. */
static bool
more_input(struct smtp_session *s, int64_t deadline, const char *command)
{
	struct smtp_transaction *t = s->transaction;
	char after[64];
	ssize_t got;
	int error;

	if (io_pending(s->io) > 0 && !smtp_session_flush(s))
		return false;
	if (t != NULL && t->header_done && t->refusal.code == 0 &&
	    !t->discard)
		chain_body_grown(s->chain);
	got = io_fill(s->io, deadline);
	if (got > 0)
		return true;
	error = got == 0 ? 0 : errno;
	snprintf(after, sizeof after, "%s (%zu bytes)", command,
	    t != NULL ? t->mail->received_size : 0);
	smtp_session_lost(s, error, after);
	return false;
}

/* Begins the content; false if the filters refuse it. */
static bool
content_begin(struct smtp_session *s, bool dots, struct verdict *verdict)
{
	struct smtp_transaction *t = s->transaction;

	if (!t->discard)
		*verdict = chain_data(s->chain);
	if (smtp_verdict_refuses(verdict))
		return false;
	if (verdict->action == ACTION_DISCARD)
		t->discard = true;
	if (s->peer.user != NULL)
		log_info(&t->mail->log, "client=%s, sasl_method=%s, "
		    "sasl_username=%s", s->client, s->peer.auth_method,
		    s->peer.user);
	else
		log_info(&t->mail->log, "client=%s", s->client);
	smtp_data_init(&t->data, (enum smtp_bare)
	    s->listener->options->bare_newline, dots);
	t->deadline = smtp_session_deadline(s,
	    s->listener->options->data_timeout);
	t->mail->stage = MAIL_STAGE_HEADER;
	return true;
}

static void
count_message(const char *result)
{
	char labels[64];

	snprintf(labels, sizeof labels, "result=\"%s\"", result);
	counter_add(counter_get("millgate_smtp_messages_total", labels), 1);
}

static void
message_done(struct smtp_session *s, const char *result)
{
	count_message(result);
	if (strcmp(result, "accepted") == 0)
		s->accepted += (uint32_t)s->transaction->recipients;
	counter_add(s->server->counts[SMTP_COUNT_BYTES],
	    (int64_t)s->transaction->mail->received_size);
	smtp_transaction_end(s, result);
}

static void
refuse_message(struct smtp_session *s, const struct smtp_refusal *refusal)
{
	smtp_refuse(s, END_OF_MESSAGE, NULL, refusal);
	message_done(s, refusal->code >= 500 ? "rejected" : "deferred");
}

static void
accept_message(struct smtp_session *s, const struct verdict *verdict,
    const char *result)
{
	chain_end(s->chain, verdict);
	smtp_reply(s, 250, "2.0.0", "Ok: queued as %s",
	    s->transaction->mail->envelope.id);
	trace_add(s->transaction->mail->trace, "smtp", "%s", result);
	s->errors = 0;
	message_done(s, result);
}

/* The next hop's word is the sender's. */
static void
answer_cut_through(struct smtp_session *s, const struct verdict *reply)
{
	struct smtp_refusal refusal = reply->action == ACTION_REJECT ?
	    cut_refused : cut_deferred;

	chain_end(s->chain, reply);
	if (!smtp_verdict_refuses(reply)) {
		smtp_reply(s, 250, "2.0.0", "Ok: delivered as %s%s%s",
		    s->transaction->mail->envelope.id,
		    reply->text != NULL ? ": " : "",
		    reply->text != NULL ? reply->text : "");
		trace_add(s->transaction->mail->trace, "smtp", "delivered");
		s->errors = 0;
		message_done(s, "accepted");
		return;
	}
	if (reply->code >= 400 && reply->code <= 599)
		refusal.code = reply->code;
	if (reply->enhanced != NULL)
		refusal.enhanced = reply->enhanced;
	if (reply->text != NULL)
		refusal.text = reply->text;
	if (reply->reason != NULL)
		refusal.reason = reply->reason;
	refuse_message(s, &refusal);
}

static void
log_queued(const struct mail *mail, size_t size)
{
	log_event(&mail->log, LOG_LEVEL_INFO, NULL, (struct log_field[]){
	    LOG_ADDRESS("from", mail->envelope.sender),
	    LOG_NUMBER("size", (int64_t)size),
	    LOG_NUMBER("nrcpt", (int64_t)envelope_count(&mail->envelope)),
	    LOG_COMMENT("state", mail->envelope.hold ? "hold" : "queued"),
	    LOG_END });
}

/* On stable storage, or at the next hop; then the client hears 250. */
static void
commit(struct smtp_session *s, const struct verdict *verdict)
{
	struct mail *mail = s->transaction->mail;
	struct smtp_server *server = s->server;
	struct verdict reply = VERDICT_CONTINUE;
	const char *why = "no spool";
	struct slice *content;
	size_t count, size;

	content = mail_slices(mail, &count, &size);
	if (s->listener->options->cut_through &&
	    server->cut_through != NULL && !mail->envelope.hold &&
	    server->cut_through(mail, content, count, size, &reply,
	    server->cut_through_argument)) {
		answer_cut_through(s, &reply);
		return;
	}
	if (server->spool == NULL || spool_commit(server->spool,
	    &mail->envelope, content, count, &why) != 0) {
		log_error(&mail->log, "message not queued: %s", why);
		trace_add(mail->trace, "smtp", "not queued: %s", why);
		refuse_message(s, &not_queued);
		return;
	}
	log_queued(mail, size);
	accept_message(s, verdict, mail->envelope.hold ? "held" : "accepted");
}

/* Has the client hung up while filters worked?  Then it will come again. */
static bool
client_gone(struct smtp_session *s)
{
	if (!io_peer_gone(s->io))
		return false;
	trace_add(s->transaction->mail->trace, "smtp", "client gone");
	smtp_session_lost(s, 0, END_OF_MESSAGE);
	message_done(s, "lost");
	return true;
}

/* The message is complete: filters, verdict, commit. */
static void
message_end(struct smtp_session *s)
{
	struct smtp_transaction *t = s->transaction;
	struct mail *mail = t->mail;
	struct verdict verdict = { .action = ACTION_DISCARD };

	if (t->refusal.code == 0 && !t->header_done)
		header_complete(s, t->header.len);
	if (t->refusal.code == 0 && t->data.policy == SMTP_BARE_REJECT &&
	    (t->data.bare || t->data.nul))
		t->refusal = t->data.bare ? bare_newline : holds_nul;
	if (t->refusal.code != 0) {
		refuse_message(s, &t->refusal);
		return;
	}
	if (!t->discard) {
		mail->stage = MAIL_STAGE_COMPLETE;
		mail->deadline = smtp_session_deadline(s,
		    s->listener->options->filter_timeout);
		verdict = chain_judge(s->chain);
	}
	if (smtp_verdict_refuses(&verdict)) {
		chain_end(s->chain, &verdict);
		smtp_refuse_verdict(s, END_OF_MESSAGE, NULL, &verdict);
		message_done(s, verdict.action == ACTION_REJECT ? "rejected" :
		    "deferred");
		return;
	}
	if (client_gone(s))
		return;
	if (verdict.action == ACTION_DISCARD ||
	    mail->envelope.recipients == NULL) {
		log_info(&mail->log, "discard: from=<%s>: %s",
		    mail->envelope.sender, verdict.action == ACTION_DISCARD ?
		    "a filter's verdict" : "filters left no recipient");
		accept_message(s, &verdict, "discarded");
		return;
	}
	commit(s, &verdict);
}

void
smtp_do_data(struct smtp_session *s, struct smtp_span argument)
{
	struct smtp_transaction *t = s->transaction;
	struct verdict verdict = VERDICT_CONTINUE;
	const char *input;
	size_t len;

	if (argument.len > 0) {
		smtp_reply(s, 501, "5.5.4", "Syntax: DATA");
		return;
	}
	/*
	 * RFC 2920, 3.1: DATA is the last of a group.  What already stands
	 * behind it may be a message, which must never be read as commands.
	 */
	io_input(s->io, &len);
	if (len > 0) {
		smtp_reply(s, 554, "5.5.0",
		    "SMTP protocol synchronization error");
		s->closing = true;
		return;
	}
	if (!content_begin(s, true, &verdict)) {
		smtp_refuse_verdict(s, "DATA", NULL, &verdict);
		message_done(s, verdict.action == ACTION_REJECT ? "rejected" :
		    "deferred");
		return;
	}
	smtp_reply(s, 354, NULL, "End data with <CR><LF>.<CR><LF>");
	while (t->data.position != SMTP_DATA_DONE) {
		input = io_input(s->io, &len);
		if (len > 0)
			io_consume(s->io, smtp_data_decode(&t->data, input,
			    len, take, s));
		else if (!more_input(s, t->deadline, "DATA")) {
			message_done(s, "lost");
			return;
		}
	}
	message_end(s);
}

/* Reads size bytes; takes them if the transaction does, or drops them. */
static bool
read_chunk(struct smtp_session *s, uint64_t size, bool use, int64_t deadline)
{
	const char *input;
	size_t len;

	while (size > 0) {
		input = io_input(s->io, &len);
		if (len == 0) {
			if (!more_input(s, deadline, "BDAT"))
				return false;
			continue;
		}
		if (len > size)
			len = (size_t)size;
		if (use)
			smtp_data_decode(&s->transaction->data, input, len,
			    take, s);
		io_consume(s->io, len);
		size -= len;
	}
	return true;
}

/* A chunk so far beyond the limit that reading it would only feed a flood. */
static bool
absurd_chunk(struct smtp_session *s, const struct smtp_bdat *bdat)
{
	if (bdat->size / 2 <= (uint64_t)s->server->top->message_size_limit)
		return false;
	smtp_reply(s, 552, "5.3.4", "Message size exceeds fixed limit");
	s->closing = true;
	return true;
}

bool
smtp_skip_bdat(struct smtp_session *s, struct smtp_span argument)
{
	const struct smtp_error *error;
	struct smtp_bdat bdat;

	if ((error = smtp_parse_bdat(argument, &bdat)) != NULL) {
		smtp_reply_error(s, error);
		return false;
	}
	return !absurd_chunk(s, &bdat) && read_chunk(s, bdat.size, false,
	    smtp_session_deadline(s, s->listener->options->data_timeout));
}

/* The first chunk begins the content; false: filters refused it. */
static bool
bdat_begin(struct smtp_session *s, const struct smtp_bdat *bdat)
{
	struct verdict verdict = VERDICT_CONTINUE;
	bool read;

	if (content_begin(s, false, &verdict)) {
		s->state = SMTP_STATE_BDAT;
		return true;
	}
	read = read_chunk(s, bdat->size, false, smtp_session_deadline(s,
	    s->listener->options->data_timeout));
	if (read)
		smtp_refuse_verdict(s, "BDAT", NULL, &verdict);
	message_done(s, !read ? "lost" : verdict.action == ACTION_REJECT ?
	    "rejected" : "deferred");
	return false;
}

void
smtp_do_bdat(struct smtp_session *s, struct smtp_span argument)
{
	struct smtp_transaction *t = s->transaction;
	const struct smtp_error *error;
	struct smtp_bdat bdat;

	if ((error = smtp_parse_bdat(argument, &bdat)) != NULL) {
		/* How long the chunk is nobody knows: the message is lost. */
		smtp_reply_error(s, error);
		smtp_transaction_end(s, "rejected");
		return;
	}
	if (absurd_chunk(s, &bdat))
		return;
	if (s->state != SMTP_STATE_BDAT && !bdat_begin(s, &bdat))
		return;
	if (++t->chunks > SMALL_CHUNKS_MAX + t->mail->received_size /
	    SMALL_CHUNK) {
		smtp_refuse(s, "BDAT", NULL, &small_chunks);
		return;
	}
	if (!read_chunk(s, bdat.size, true, t->deadline)) {
		message_done(s, "lost");
		return;
	}
	if (bdat.last) {
		smtp_data_finish(&t->data, take, s);
		message_end(s);
	} else if (t->refusal.code != 0)
		refuse_message(s, &t->refusal);
	else
		smtp_reply(s, 250, "2.0.0", "Ok: %llu octets",
		    (unsigned long long)bdat.size);
}
