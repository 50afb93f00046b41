/*
 * The content of a message, for a milter: header, body, end, and what it says
 * to them.  Commands are sent without waiting for their replies, as many as
 * MILTER_WINDOW at a time, so that neither side can fill the other's socket
 * while it writes itself.  The end is held back until all replies are in: that
 * is where filters act.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_edits.h"
#include "filters/milter_wire.h"

#define COPY_MAX 16384		/* smaller pieces are gathered */

static bool
bit(const struct milter_session *s, uint32_t bits)
{
	return (s->c->answer.protocol & bits) != 0;
}

/* The oldest reply that is owed. */
static enum milter_outcome
take_reply(struct milter_session *s, int64_t limit, struct verdict *verdict)
{
	struct milter_reply reply;
	enum milter_outcome outcome;
	char command = s->owed[0];

	s->stage = command == MILTER_HEADER ? "header" :
	    command == MILTER_EOH ? "eoh" : "body";
	if (milter_wire_reply(s, &reply, s->settings->content_timeout_ms,
	    limit) == -1)
		return MILTER_FAILED;
	s->owed_count--;
	memmove(s->owed, s->owed + 1, s->owed_count);
	outcome = milter_wire_judge(s, &reply, verdict);
	if (outcome == MILTER_GOES_ON && reply.code == MILTER_SKIP) {
		s->skip_headers |= command == MILTER_HEADER;
		s->skip_body |= command == MILTER_BODY;
	}
	return outcome;
}

/* Takes replies until at most so many are owed. */
static enum milter_outcome
take_replies(struct milter_session *s, size_t most, int64_t limit,
    struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;

	if (milter_wire_flush(s, limit) == -1)
		return MILTER_FAILED;
	while (outcome == MILTER_GOES_ON && s->owed_count > most)
		outcome = take_reply(s, limit, verdict);
	return outcome;
}

/* A command was put that is answered unless the filter is silent there. */
static enum milter_outcome
owe(struct milter_session *s, char command, uint32_t silent, int64_t limit,
    struct verdict *verdict)
{
	milter_wire_put(s);
	if (bit(s, silent))
		return MILTER_GOES_ON;
	s->owed[s->owed_count++] = command;
	if (s->owed_count < MILTER_WINDOW)
		return MILTER_GOES_ON;
	return take_replies(s, MILTER_WINDOW / 2, limit, verdict);
}

/* No packet can carry the field, and without it the filter would be misled. */
static enum milter_outcome
too_long(struct milter_session *s, struct verdict *verdict)
{
	s->out_of_step = true;
	*verdict = (struct verdict){ .action = ACTION_REJECT, .code = 552,
	    .enhanced = "5.3.4", .text = "Header field too long",
	    .reason = "milter-header-too-long" };
	return MILTER_DECIDED;
}

static enum milter_outcome
send_headers(struct milter_session *s, int64_t limit, struct verdict *verdict)
{
	const struct header *h = s->mail->headers.first;
	enum milter_outcome outcome = MILTER_GOES_ON;

	if (bit(s, MILTER_NO_HEADERS))
		return MILTER_GOES_ON;
	for (; h != NULL && outcome == MILTER_GOES_ON && !s->skip_headers;
	    h = h->next) {
		if (h->hidden)
			continue;
		if (milter_put_header(&s->out, h->raw, h->len, h->name_len,
		    bit(s, MILTER_LEADING_SPACE)) == -1) {
			milter_wire_put(s);
			return too_long(s, verdict);
		}
		outcome = owe(s, MILTER_HEADER, MILTER_NR_HEADER, limit,
		    verdict);
	}
	return outcome;
}

static enum milter_outcome
send_eoh(struct milter_session *s, int64_t limit, struct verdict *verdict)
{
	milter_wire_macros(s, MILTER_AT_EOH, NULL);
	if (bit(s, MILTER_NO_EOH)) {
		milter_wire_put(s);
		return MILTER_GOES_ON;
	}
	milter_put(&s->out, MILTER_EOH, NULL, 0);
	return owe(s, MILTER_EOH, MILTER_NR_EOH, limit, verdict);
}

/* A piece of the body; a large one is sent from where it lies. */
static int
put_piece(struct milter_session *s, const char *bytes, size_t len,
    int64_t limit)
{
	struct iovec iov = { (void *)(uintptr_t)bytes, len };

	if (len <= COPY_MAX) {
		milter_put(&s->out, MILTER_BODY, bytes, len);
		return 0;
	}
	milter_put_head(&s->out, MILTER_BODY, len);
	milter_wire_put(s);
	if (io_writev(s->c->io, &iov, 1, limit) == 0)
		return 0;
	s->error.cancelled = errno == ECANCELED;
	s->error.lost = errno != ETIMEDOUT && errno != ECANCELED;
	snprintf(s->error.text, sizeof(s->error.text), "cannot send: %s",
	    io_why(s->c->io));
	return -1;
}

static enum milter_outcome
send_body_pieces(struct milter_session *s, char *scratch, int64_t limit,
    struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;
	size_t offset = 0;
	const char *bytes;
	ssize_t n = 0;

	while (outcome == MILTER_GOES_ON && !s->skip_body &&
	    (n = body_read(s->mail->body, offset, scratch, &bytes)) > 0) {
		if (n > MILTER_PAYLOAD_MAX)
			n = MILTER_PAYLOAD_MAX;
		if (put_piece(s, bytes, (size_t)n, limit) == -1)
			return MILTER_FAILED;
		offset += (size_t)n;
		outcome = owe(s, MILTER_BODY, MILTER_NR_BODY, limit, verdict);
	}
	if (n < 0)
		return milter_wire_fail(s, "cannot read the body");
	return outcome;
}

static enum milter_outcome
send_body(struct milter_session *s, int64_t limit, struct verdict *verdict)
{
	enum milter_outcome outcome;
	char *scratch;

	if (bit(s, MILTER_NO_BODY))
		return MILTER_GOES_ON;
	if ((scratch = malloc(BODY_READ_MAX)) == NULL)
		fatal("out of memory (milter)");
	outcome = send_body_pieces(s, scratch, limit, verdict);
	free(scratch);
	return outcome;
}

/* Edits, one after another, and then what the filter decides. */
static enum milter_outcome
take_answer(struct milter_session *s, struct milter_edits *edits,
    int64_t limit, struct verdict *verdict)
{
	struct milter_reply reply;
	enum milter_outcome outcome;
	const char *why;

	for (;;) {
		if (milter_wire_reply(s, &reply,
		    s->settings->content_timeout_ms, limit) == -1)
			return MILTER_FAILED;
		if (!milter_reply_edits(reply.code))
			break;
		if (milter_edits_add(edits, &reply, &why) == -1)
			return milter_wire_fail(s, why);
	}
	if (reply.code == MILTER_SKIP)
		return milter_wire_fail(s, "skips the end of the message");
	outcome = milter_wire_judge(s, &reply, verdict);
	if (outcome == MILTER_FAILED)
		return outcome;
	/* At the end, to accept is to continue. */
	if (outcome == MILTER_DECIDED && verdict->action == ACTION_ACCEPT)
		outcome = MILTER_GOES_ON;
	if (outcome == MILTER_GOES_ON && milter_edits_apply(edits, &why) == -1)
		return milter_wire_fail(s, why);
	return outcome;
}

static enum milter_outcome
send_end(struct milter_session *s, int64_t limit, struct verdict *verdict,
    bool *half_done)
{
	const struct milter_edits_rules rules = {
		.filter = s->settings->name,
		.allowed = s->settings->allowed,
		.max_body = s->settings->max_body,
		.leading_space = bit(s, MILTER_LEADING_SPACE),
	};
	struct milter_edits *edits;
	enum milter_outcome outcome;

	s->stage = "eom";
	milter_wire_macros(s, MILTER_AT_EOM, NULL);
	milter_put(&s->out, MILTER_EOB, NULL, 0);
	s->sent_eob = true;
	if (milter_wire_flush(s, limit) == -1)
		return MILTER_FAILED;
	edits = milter_edits_new(s->mail, &rules);
	outcome = take_answer(s, edits, limit, verdict);
	*half_done = milter_edits_replace_body(edits);
	milter_edits_free(&edits);
	return outcome;
}

enum milter_outcome
milter_content(struct milter_session *s, int64_t limit,
    struct verdict *verdict, bool *half_done)
{
	enum milter_outcome outcome;

	s->skip_headers = s->skip_body = false;
	s->owed_count = 0;
	if (!milter_wire_in_step(s))
		return MILTER_FAILED;
	outcome = send_headers(s, limit, verdict);
	if (outcome == MILTER_GOES_ON)
		outcome = send_eoh(s, limit, verdict);
	if (outcome == MILTER_GOES_ON)
		outcome = send_body(s, limit, verdict);
	if (outcome == MILTER_GOES_ON && s->owed_count > 0)
		outcome = take_replies(s, 0, limit, verdict);
	if (outcome == MILTER_GOES_ON)
		outcome = send_end(s, limit, verdict, half_done);
	return outcome;
}
