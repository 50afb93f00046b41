/*
 * A step of the conversation with a milter: packets out, a reply in, and what
 * it means.
 */
#include "filters/milter_wire.h"

#include <errno.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_trace.h"

void
milter_wire_put(struct milter_session *s)
{
	milter_tape_bytes(s->c->tape, s->out.data, s->out.len);
	if (s->out.len > 0)
		io_put(s->c->io, s->out.data, s->out.len);
	buf_reset(&s->out);
}

int
milter_wire_flush(struct milter_session *s, int64_t deadline)
{
	milter_wire_put(s);
	if (io_flush(s->c->io, deadline) == 0)
		return 0;
	s->error.cancelled = errno == ECANCELED;
	s->error.lost = errno != ETIMEDOUT && errno != ECANCELED;
	snprintf(s->error.text, sizeof(s->error.text), "cannot send: %s",
	    errno == ETIMEDOUT ? "it doesn't read" : io_why(s->c->io));
	return -1;
}

enum milter_outcome
milter_wire_fail(struct milter_session *s, const char *why)
{
	snprintf(s->error.text, sizeof(s->error.text), "%s", why);
	s->error.lost = s->error.cancelled = s->error.held_off = false;
	return MILTER_FAILED;
}

int
milter_wire_reply(struct milter_session *s, struct milter_reply *reply,
    int64_t wait_ms, int64_t limit)
{
	struct milter_packet packet;
	const char *why;

	do {
		int64_t deadline = task_deadline(wait_ms);

		if (deadline > limit)
			deadline = limit;
		if (milter_connection_read(s->c, &packet, deadline,
		    &s->error) == -1)
			return -1;
		if (milter_reply_parse(&packet, reply, &why) == -1) {
			snprintf(s->error.text, sizeof(s->error.text),
			    "%s (code 0x%02x)", why,
			    (unsigned char)packet.code);
			s->error.lost = false;
			return -1;
		}
	} while (reply->code == MILTER_PROGRESS);
	return 0;
}

/*
 * A reply that nobody owes would be taken for that to the next command.  This
 * rarely costs a system call: the last read took all there was, and the loop
 * knows of no news.
 */
bool
milter_wire_in_step(struct milter_session *s)
{
	size_t unread;
	ssize_t n;

	io_input(s->c->io, &unread);
	if (unread == 0) {
		n = io_fill(s->c->io, task_now());
		if (n < 0 && (errno == ETIMEDOUT || errno == ECANCELED))
			return true;
		milter_wire_fail(s, n > 0 ? "replied without being asked" :
		    "closed the connection");
	} else {
		milter_wire_fail(s, "replied without being asked");
	}
	/* Nothing was told on its account: another connection will do. */
	s->error.lost = true;
	return false;
}

void
milter_wire_macros(struct milter_session *s, enum milter_stage stage,
    const struct milter_rcpt *rcpt)
{
	const struct milter_facts facts = {
		.session = s->session, .mail = s->mail,
		.recipient = rcpt != NULL ? rcpt->recipient : NULL,
		.refusal = rcpt != NULL ? rcpt->refusal : NULL,
	};

	milter_put_macros(&s->out, stage, s->c->answer.macros[stage], &facts);
}

/* --- decisions --- */

static struct verdict
verdict_of(enum action action, int code, const char *enhanced,
    const char *text)
{
	return (struct verdict){ .action = action, .code = code,
	    .enhanced = enhanced, .text = text, .reason = "milter" };
}

static struct verdict
reply_text(struct milter_session *s, const struct milter_reply *reply)
{
	struct arena *arena = s->mail != NULL ? s->mail->arena :
	    s->session->arena;
	struct milter_text text;
	const char *why;

	if (milter_text_parse(reply->bytes, reply->len, arena, &text,
	    &why) == -1) {
		log_warn(s->mail != NULL ? &s->mail->log : &s->session->log,
		    "filter=%s stage=%s: %s", s->settings->name, s->stage,
		    why);
		if (reply->len > 0 && reply->bytes[0] == '5')
			return verdict_of(ACTION_REJECT, 550, "5.7.1",
			    "Command rejected");
		return verdict_of(ACTION_TEMPFAIL, 451, "4.7.1",
		    "Service unavailable - try again later");
	}
	return verdict_of(text.code == 421 ? ACTION_DISCONNECT :
	    text.code / 100 == 5 ? ACTION_REJECT : ACTION_TEMPFAIL, text.code,
	    text.enhanced, text.text);
}

enum milter_outcome
milter_wire_judge(struct milter_session *s, const struct milter_reply *reply,
    struct verdict *verdict)
{
	switch (reply->code) {
	case MILTER_CONTINUE:
		return MILTER_GOES_ON;
	case MILTER_SKIP:
		if ((s->c->answer.protocol & MILTER_CAN_SKIP) == 0)
			return milter_wire_fail(s, "skips without having "
			    "negotiated it");
		return MILTER_GOES_ON;
	case MILTER_ACCEPT:
		*verdict = verdict_of(ACTION_ACCEPT, 0, NULL, NULL);
		return MILTER_DECIDED;
	case MILTER_REJECT:
		*verdict = verdict_of(ACTION_REJECT, 550, "5.7.1",
		    "Command rejected");
		return MILTER_DECIDED;
	case MILTER_TEMPFAIL:
		*verdict = verdict_of(ACTION_TEMPFAIL, 451, "4.7.1",
		    "Service unavailable - try again later");
		return MILTER_DECIDED;
	case MILTER_DISCARD:
		*verdict = verdict_of(ACTION_DISCARD, 0, NULL, NULL);
		return MILTER_DECIDED;
	case MILTER_REPLYCODE:
		*verdict = reply_text(s, reply);
		return MILTER_DECIDED;
	case MILTER_SHUTDOWN:
	case MILTER_CONN_FAIL:
		*verdict = verdict_of(ACTION_DISCONNECT, 421, "4.3.2",
		    "Service shutting down");
		return MILTER_DECIDED;
	default:
		return milter_wire_fail(s, "changes the message before its "
		    "end");
	}
}
