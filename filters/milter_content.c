/*
 * The content of a message, for a milter: header, body, end, and what it says
 * to them.  Commands are sent without waiting for their replies, as many as
 * MILTER_WINDOW at a time, so that neither side can fill the other's socket
 * while it writes itself; the body in full packets, as it arrives.  The end
 * follows when the message has come to this filter's turn: filters act on it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_trace.h"
#include "filters/milter_wire.h"
#include "filters/view.h"

#define COPY_MAX 16384		/* smaller pieces are copied */
#define PARTS_MAX 8

/* The message's own deadline is known when it is complete. */
static int64_t
limit_of(const struct milter_session *s)
{
	return s->mail->deadline < s->limit ? s->mail->deadline : s->limit;
}

/* Waits for the message to go on.  The time is not the milter's. */
static bool
await_more(struct milter_session *s)
{
	struct mail *mail = s->mail;
	int64_t begin = task_now();

	if (mail->stage == MAIL_STAGE_ABORTED ||
	    task_cond_wait(&mail->progress, mail->deadline) == -1) {
		milter_wire_fail(s, "no time was left for it");
		s->error.cancelled = s->interrupted = true;
		return false;
	}
	s->limit += task_now() - begin;
	return true;
}

bool
milter_await_header(struct milter_session *s)
{
	while (s->run->view == NULL)
		if (!await_more(s))
			return false;
	return true;
}

static bool
bit(const struct milter_session *s, uint32_t bits)
{
	return (s->c->answer.protocol & bits) != 0;
}

/* The oldest reply that is owed. */
static enum milter_outcome
take_reply(struct milter_session *s, struct verdict *verdict)
{
	struct milter_reply reply;
	enum milter_outcome outcome;
	char command = s->owed[0];

	s->stage = command == MILTER_HEADER ? "header" :
	    command == MILTER_EOH ? "eoh" : "body";
	if (milter_wire_reply(s, &reply, s->settings->content_timeout_ms,
	    limit_of(s)) == -1)
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
take_replies(struct milter_session *s, size_t most, struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;

	if (milter_wire_flush(s, limit_of(s)) == -1)
		return MILTER_FAILED;
	while (outcome == MILTER_GOES_ON && s->owed_count > most)
		outcome = take_reply(s, verdict);
	return outcome;
}

static bool
reply_is_here(const struct milter_session *s)
{
	size_t len;

	io_input(s->c->io, &len);
	return len > 0 || io_fill(s->c->io, task_now()) >= 0 ||
	    (errno != ETIMEDOUT && errno != ECANCELED);
}

/* Those that came: it may want no more of the body, or have decided. */
static enum milter_outcome
take_ready(struct milter_session *s, struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;

	while (outcome == MILTER_GOES_ON && s->owed_count > 0 &&
	    reply_is_here(s))
		outcome = take_reply(s, verdict);
	return outcome;
}

/* A command was put that is answered unless the filter is silent there. */
static enum milter_outcome
owe(struct milter_session *s, char command, uint32_t silent,
    struct verdict *verdict)
{
	milter_wire_put(s);
	if (bit(s, silent))
		return MILTER_GOES_ON;
	s->owed[s->owed_count++] = command;
	if (s->owed_count < MILTER_WINDOW)
		return MILTER_GOES_ON;
	return take_replies(s, MILTER_WINDOW / 2, verdict);
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
send_headers(struct milter_session *s, struct verdict *verdict)
{
	const struct view *view = s->run->view;
	enum milter_outcome outcome = MILTER_GOES_ON;

	if (bit(s, MILTER_NO_HEADERS))
		return MILTER_GOES_ON;
	for (size_t i = 0; i < view->count && outcome == MILTER_GOES_ON &&
	    !s->skip_headers; i++) {
		const struct view_field *f = &view->fields[i];

		if (f->header->hidden)
			continue;
		if (milter_put_header(&s->out, f->raw, f->len,
		    f->header->name_len, bit(s, MILTER_LEADING_SPACE)) == -1) {
			milter_wire_put(s);
			return too_long(s, verdict);
		}
		outcome = owe(s, MILTER_HEADER, MILTER_NR_HEADER, verdict);
	}
	return outcome;
}

static enum milter_outcome
send_eoh(struct milter_session *s, struct verdict *verdict)
{
	milter_wire_macros(s, MILTER_AT_EOH, NULL);
	if (bit(s, MILTER_NO_EOH)) {
		milter_wire_put(s);
		return MILTER_GOES_ON;
	}
	milter_put(&s->out, MILTER_EOH, NULL, 0);
	return owe(s, MILTER_EOH, MILTER_NR_EOH, verdict);
}

/* A packet of the body, in parts that lie where they were received. */
struct piece {
	struct iovec parts[PARTS_MAX];
	int count;
	size_t len;
};

/* As much as one packet carries.  -1: read error. */
static int
gather(struct milter_session *s, size_t offset, char *scratch,
    struct piece *piece)
{
	const char *bytes;

	piece->count = 0;
	piece->len = 0;
	while (piece->count < PARTS_MAX && piece->len < MILTER_PAYLOAD_MAX) {
		ssize_t n = body_read(s->mail->body, offset + piece->len,
		    scratch, &bytes);

		if (n < 0)
			return -1;
		if ((size_t)n > MILTER_PAYLOAD_MAX - piece->len)
			n = (ssize_t)(MILTER_PAYLOAD_MAX - piece->len);
		if (n == 0)
			break;
		piece->parts[piece->count++] = (struct iovec){
		    (void *)(uintptr_t)bytes, (size_t)n };
		piece->len += (size_t)n;
		if (bytes == scratch)
			break;		/* it holds one part only */
	}
	return 0;
}

/* A large one is sent from where it lies. */
static int
put_piece(struct milter_session *s, const struct piece *piece)
{
	milter_put_head(&s->out, MILTER_BODY, piece->len);
	if (piece->len <= COPY_MAX) {
		for (int i = 0; i < piece->count; i++)
			buf_append(&s->out, piece->parts[i].iov_base,
			    piece->parts[i].iov_len);
		return 0;
	}
	milter_wire_put(s);
	milter_tape_body(s->c->tape, piece->parts, piece->count);
	if (io_writev(s->c->io, piece->parts, piece->count,
	    limit_of(s)) == 0)
		return 0;
	s->out_of_step = true;
	s->error.cancelled = errno == ECANCELED;
	s->error.lost = errno != ETIMEDOUT && errno != ECANCELED;
	snprintf(s->error.text, sizeof(s->error.text), "cannot send: %s",
	    io_why(s->c->io));
	return -1;
}

/* The next full packet is not there yet. */
static bool
is_short(const struct milter_session *s, size_t offset)
{
	return s->mail->stage < MAIL_STAGE_COMPLETE &&
	    body_size(s->mail->body) - offset < MILTER_PAYLOAD_MAX;
}

/* The body as it arrives: *waits says that there is nothing to send yet. */
static enum milter_outcome
send_piece(struct milter_session *s, size_t *offset, char *scratch,
    bool *waits, struct verdict *verdict)
{
	enum milter_outcome outcome = take_ready(s, verdict);
	struct piece piece;

	*waits = false;
	if (outcome != MILTER_GOES_ON || s->skip_body)
		return outcome;
	if (is_short(s, *offset)) {
		*waits = true;
		return MILTER_GOES_ON;
	}
	if (gather(s, *offset, scratch, &piece) == -1)
		return milter_wire_fail(s, "cannot read the body");
	if (piece.len == 0)
		return MILTER_GOES_ON;
	if (put_piece(s, &piece) == -1)
		return MILTER_FAILED;
	*offset += piece.len;
	return owe(s, MILTER_BODY, MILTER_NR_BODY, verdict);
}

static enum milter_outcome
send_body_pieces(struct milter_session *s, char *scratch,
    struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;
	size_t offset = 0, before;
	bool waits;

	do {
		before = offset;
		outcome = send_piece(s, &offset, scratch, &waits, verdict);
		if (!waits)
			continue;
		/* Sending may take time, in which the message goes on. */
		if (milter_wire_flush(s, limit_of(s)) == -1 ||
		    (is_short(s, offset) && !await_more(s)))
			return MILTER_FAILED;
	} while (outcome == MILTER_GOES_ON && !s->skip_body &&
	    (waits || offset > before));
	return outcome;
}

static enum milter_outcome
send_body(struct milter_session *s, struct verdict *verdict)
{
	enum milter_outcome outcome;
	char *scratch;

	if (bit(s, MILTER_NO_BODY))
		return MILTER_GOES_ON;
	if ((scratch = malloc(BODY_READ_MAX)) == NULL)
		fatal("out of memory (milter)");
	outcome = send_body_pieces(s, scratch, verdict);
	free(scratch);
	return outcome;
}

/* Edits, one after another, and then what the filter decides. */
static enum milter_outcome
take_answer(struct milter_session *s, struct verdict *verdict)
{
	struct milter_reply reply;
	enum milter_outcome outcome;
	const char *why;

	for (;;) {
		if (milter_wire_reply(s, &reply,
		    s->settings->content_timeout_ms, limit_of(s)) == -1)
			return MILTER_FAILED;
		if (!milter_reply_edits(reply.code))
			break;
		if (milter_edits_add(s->edits, &reply, &why) == -1)
			return milter_wire_fail(s, why);
	}
	if (reply.code == MILTER_SKIP)
		return milter_wire_fail(s, "skips the end of the message");
	if (milter_edits_end(s->edits, &why) == -1)
		return milter_wire_fail(s, why);
	outcome = milter_wire_judge(s, &reply, verdict);
	/* At the end, to accept is to continue. */
	if (outcome == MILTER_DECIDED && verdict->action == ACTION_ACCEPT)
		outcome = MILTER_GOES_ON;
	return outcome;
}

/*
 * Filters act on the end: only if all those before it let the message pass.
 * Replies that are owed still needn't be waited for, as a filter that has
 * decided on the content heeds no end; nor is its connection of use then.
 */
static enum milter_outcome
send_end(struct milter_session *s, struct verdict *verdict)
{
	enum milter_outcome outcome;

	while (!s->run->turn)
		if (!await_more(s))
			return MILTER_FAILED;
	s->stage = "eom";
	milter_wire_macros(s, MILTER_AT_EOM, NULL);
	milter_put(&s->out, MILTER_EOB, NULL, 0);
	s->sent_eob = true;
	outcome = take_replies(s, 0, verdict);
	s->out_of_step |= outcome == MILTER_DECIDED;
	if (outcome != MILTER_GOES_ON)
		return outcome;
	s->stage = "eom";
	s->rules.leading_space = bit(s, MILTER_LEADING_SPACE);
	milter_edits_free(&s->edits);
	s->edits = milter_edits_new(s->mail, &s->rules);
	return take_answer(s, verdict);
}

enum milter_outcome
milter_content(struct milter_session *s, struct verdict *verdict)
{
	enum milter_outcome outcome;

	s->skip_headers = s->skip_body = false;
	s->owed_count = 0;
	if (!milter_wire_in_step(s))
		return MILTER_FAILED;
	s->told_content = true;
	outcome = send_headers(s, verdict);
	if (outcome == MILTER_GOES_ON)
		outcome = send_eoh(s, verdict);
	if (outcome == MILTER_GOES_ON)
		outcome = send_body(s, verdict);
	if (outcome == MILTER_GOES_ON && s->owed_count > 0 && !s->run->turn)
		outcome = take_replies(s, 0, verdict);
	if (outcome == MILTER_GOES_ON)
		outcome = send_end(s, verdict);
	return outcome;
}
