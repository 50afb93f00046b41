/*
 * Replies (RFC 5321, 4.2; enhanced codes: RFC 2034), and what goes with a
 * refusal: reason and reference, log line, counter, trace.
 */
#include <stdarg.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "filters/trace.h"
#include "gateway/received.h"
#include "gateway/screen.h"
#include "gateway/smtp_session.h"
#include "policy/reason.h"

#define REPLY_LINE_MAX 512		/* RFC 5321, 4.5.3.1.5, CRLF included */
#define REPLY_LINES_MAX 33

static const struct log noqueue = { "NOQUEUE" };

/* Whose reference a refusal names. */
static const char *
reference(const struct smtp_session *s)
{
	return s->transaction != NULL ? s->transaction->mail->envelope.id :
	    s->peer.log.id;
}

/*
 * Appends one text line, broken into as many reply lines as it takes, with '-'
 * behind the code.  What a terminal or a next hop could take for more than
 * text becomes '?'.  Returns where the last reply line begins.
 */
static size_t
put_line(struct buf *out, int code, const char *enhanced, const char *text,
    size_t len, bool utf8)
{
	size_t begin;

	do {
		begin = out->len;
		buf_printf(out, "%03d-", code);
		if (enhanced != NULL)
			buf_printf(out, "%s ", enhanced);
		while (len > 0 && out->len - begin < REPLY_LINE_MAX - 2) {
			unsigned char byte = (unsigned char)*text++;

			len--;
			if (byte < ' ' || byte == 0x7F ||
			    (byte >= 0x80 && !utf8))
				byte = byte == '\t' ? ' ' : '?';
			buf_putc(out, byte);
		}
		buf_append(out, "\r\n", 2);
	} while (len > 0);
	return begin;
}

/* Sends a reply of as many lines as text has. */
static void
put_reply(struct smtp_session *s, int code, const char *enhanced,
    const char *text)
{
	bool utf8 = s->transaction != NULL &&
	    s->transaction->mail->envelope.smtputf8;
	struct buf reply = BUF_INIT;
	size_t last = 0;
	int lines = 0;

	do {
		size_t len = strcspn(text, "\n");
		size_t shown = len;

		if (shown > 0 && text[shown - 1] == '\r')
			shown--;
		last = put_line(&reply, code, enhanced, text, shown, utf8);
		text += len + (text[len] == '\n');
	} while (*text != '\0' && ++lines < REPLY_LINES_MAX);
	reply.data[last + 3] = ' ';
	io_put(s->io, reply.data, reply.len);
	buf_release(&reply);
	if (code >= 400)
		s->errors++;
	if (code >= 500)
		screen_note_refusal(s, enhanced);
}

void
smtp_reply(struct smtp_session *s, int code, const char *enhanced,
    const char *format, ...)
{
	struct buf *text = &s->server->scratch;
	va_list arguments;

	buf_reset(text);
	va_start(arguments, format);
	buf_vprintf(text, format, arguments);
	va_end(arguments);
	put_reply(s, code, enhanced, text->data);
}

void
smtp_reply_error(struct smtp_session *s, const struct smtp_error *error)
{
	put_reply(s, error->code, error->enhanced, error->text);
}

void
smtp_reply_close(struct smtp_session *s, const char *enhanced, const char *text)
{
	put_reply(s, 421, enhanced, text);
	s->closing = true;
}

/* Counts a refusal by its reason; what is not in the list is one label. */
static void
count_reason(const char *reason)
{
	char labels[64] = "";

	counter_label(labels, sizeof labels, "reason",
	    reason_find(reason) != NULL ? reason : "other");
	counter_add(counter_get("millgate_smtp_rejects_total", labels), 1);
}

/* reject: RCPT from name[addr]: 550 5.7.1 text; from=<a> to=<b> proto= helo= */
static void
log_refusal(struct smtp_session *s, const char *stage, const char *recipient,
    int code, const char *enhanced, const char *text)
{
	const struct smtp_transaction *t = s->transaction;
	bool queued = t != NULL && (s->verb == SMTP_DATA ||
	    s->verb == SMTP_BDAT);
	struct buf line = BUF_INIT;

	buf_printf(&line, "reject: %s from %s: %d %s%s", stage, s->client,
	    code, enhanced != NULL ? enhanced : "",
	    enhanced != NULL ? " " : "");
	for (; *text != '\0'; text++)
		buf_putc(&line, *text == '\n' ? ' ' : *text);
	buf_putc(&line, ';');
	if (t != NULL)
		buf_printf(&line, " from=<%s>", t->mail->envelope.sender);
	else if (s->asked_sender.data != NULL)
		buf_printf(&line, " from=<%.*s>", (int)s->asked_sender.len,
		    s->asked_sender.data);
	if (recipient != NULL)
		buf_printf(&line, " to=<%s>", recipient);
	else if (t != NULL && t->mail->envelope.recipients != NULL)
		buf_printf(&line, " to=<%s>",
		    t->mail->envelope.recipients->address);
	buf_printf(&line, " proto=%s", received_protocol(&s->peer,
	    t != NULL && t->mail->envelope.smtputf8));
	if (s->peer.helo != NULL)
		buf_printf(&line, " helo=<%s>", s->peer.helo);
	log_info(queued ? &t->mail->log : &noqueue, "%s", line.data);
	buf_release(&line);
}

/* Refusals of a message are told when it ends, others at once. */
static void
trace_refusal(struct smtp_session *s, const char *stage, int code,
    const char *text)
{
	struct smtp_server *server = s->server;
	struct buf line = BUF_INIT;

	if (s->transaction != NULL) {
		trace_add(s->transaction->mail->trace, "smtp", "%s: %d %s",
		    stage, code, text);
		return;
	}
	if (server->trace == NULL)
		return;
	buf_printf(&line, "%s from %s: %d %s\n", stage, s->client, code,
	    text);
	server->trace(s->peer.log.id, NULL, "",
	    code >= 500 ? "rejected" : "deferred", line.data, line.len,
	    server->trace_argument);
	buf_release(&line);
}

static void
refuse(struct smtp_session *s, const char *stage, const char *subject,
    const struct smtp_refusal *refusal)
{
	struct buf text = BUF_INIT;

	buf_puts(&text, refusal->text);
	while (text.len > 0 && strchr("\r\n", text.data[text.len - 1]) != NULL)
		text.data[--text.len] = '\0';
	count_reason(refusal->reason);
	log_refusal(s, stage, subject, refusal->code, refusal->enhanced,
	    text.data);
	trace_refusal(s, stage, refusal->code, text.data);
	/* What a support desk is told, and finds the trace by. */
	buf_printf(&text, " [%s %s]", refusal->reason, reference(s));
	put_reply(s, refusal->code, refusal->enhanced, text.data);
	buf_release(&text);
	if (refusal->code == 421)
		s->closing = true;
}

void
smtp_refuse(struct smtp_session *s, const char *stage, const char *subject,
    const struct smtp_refusal *refusal)
{
	struct smtp_refusal full = *refusal;
	struct buf text = BUF_INIT;

	if (subject == NULL) {
		refuse(s, stage, subject, refusal);
		return;
	}
	buf_printf(&text, "<%s>: %s", subject, refusal->text);
	full.text = text.data;
	refuse(s, stage, subject, &full);
	buf_release(&text);
}

/* What each action says if the filter does not. */
static const struct smtp_refusal defaults[] = {
	[ACTION_TEMPFAIL] = { 451, "4.7.1",
	    "Service unavailable - try again later", "filter-tempfail" },
	[ACTION_REJECT] = { 550, "5.7.1", "Command rejected",
	    "filter-reject" },
	[ACTION_DISCONNECT] = { 421, "4.7.0",
	    "Service unavailable - closing connection", "filter-disconnect" }
};

bool
smtp_verdict_refuses(const struct verdict *verdict)
{
	return verdict->action == ACTION_REJECT ||
	    verdict->action == ACTION_TEMPFAIL ||
	    verdict->action == ACTION_DISCONNECT;
}

void
smtp_refuse_verdict(struct smtp_session *s, const char *stage,
    const char *subject, const struct verdict *verdict)
{
	struct smtp_refusal refusal = defaults[verdict->action];

	/* A milter's 421 ends the session, whatever the action. */
	if (verdict->action != ACTION_DISCONNECT && verdict->code >= 400 &&
	    verdict->code <= 599) {
		if (verdict->code / 100 != refusal.code / 100)
			refusal.enhanced = verdict->code < 500 ? "4.7.1" :
			    "5.7.1";
		refusal.code = verdict->code;
	}
	if (verdict->enhanced != NULL &&
	    verdict->enhanced[0] == refusal.code / 100 + '0')
		refusal.enhanced = verdict->enhanced;
	if (verdict->text != NULL && verdict->text[0] != '\0')
		refusal.text = verdict->text;
	if (verdict->reason != NULL)
		refusal.reason = verdict->reason;
	/* The recipient is named in the log; the text is the filter's own. */
	refuse(s, stage, subject, &refusal);
}
