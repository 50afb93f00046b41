/*
 * The conversation with a milter, event by event; milter_tell.c tells it what
 * SMTP told, milter_content.c the message.
 */
#include "filters/milter_session.h"

#include <stdlib.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_wire.h"

struct milter_session *
milter_session_new(const struct milter_session_settings *settings,
    struct session *session)
{
	struct milter_session *s = calloc(1, sizeof(*s));

	if (s == NULL)
		fatal("out of memory (milter)");
	s->settings = settings;
	s->session = session;
	s->stage = "connect";
	s->rules = (struct milter_edits_rules){ .filter = settings->name,
	    .allowed = settings->allowed, .max_body = settings->max_body };
	return s;
}

/* Our own hosts can begin another session on the same connection. */
static void
hand_back(struct milter_session *s)
{
	milter_pool_ended(s->c);
	if (!s->knows_client) {
		milter_pool_give(s->settings->pool, &s->c);
		return;
	}
	if (!s->settings->reuse || s->owed_count > 0 ||
	    !milter_wire_in_step(s)) {
		milter_drop(s, true);
		return;
	}
	milter_put(&s->out, MILTER_QUIT_NC, NULL, 0);
	if (milter_wire_flush(s, task_now()) == 0)
		milter_pool_give(s->settings->pool, &s->c);
	else
		milter_drop(s, false);
}

void
milter_session_free(struct milter_session **sp)
{
	struct milter_session *s = *sp;

	*sp = NULL;
	if (s == NULL)
		return;
	milter_session_abort(s);
	if (s->c != NULL)
		hand_back(s);
	buf_release(&s->out);
	free(s->rcpts);
	free(s);
}

enum milter_outcome
milter_session_connect(struct milter_session *s, struct verdict *verdict)
{
	if (milter_is_silent(s, MILTER_POINT_CLIENT))
		return MILTER_GOES_ON;
	return milter_converse(s, MILTER_POINT_CLIENT, verdict);
}

enum milter_outcome
milter_session_helo(struct milter_session *s, struct verdict *verdict)
{
	s->knows_helo = false;
	if (milter_is_silent(s, MILTER_POINT_HELO))
		return MILTER_GOES_ON;
	return milter_converse(s, MILTER_POINT_HELO, verdict);
}

enum milter_outcome
milter_session_mail(struct milter_session *s, struct mail *mail,
    struct verdict *verdict)
{
	/* What failed before the first message failed for that one. */
	if (s->had_mail)
		s->blamed = 0;
	s->had_mail = true;
	s->mail = mail;
	s->rcpt_count = s->knows_rcpts = 0;
	s->knows_mail = s->knows_data = s->sent_eob = false;
	s->skip_rcpt = false;
	if (milter_is_silent(s, MILTER_POINT_MAIL))
		return MILTER_GOES_ON;
	return milter_converse(s, MILTER_POINT_MAIL, verdict);
}

static void
remember_rcpt(struct milter_session *s, struct recipient *recipient,
    const char *refusal)
{
	if (s->rcpt_count == s->rcpt_size) {
		s->rcpt_size = s->rcpt_size * 2 + 8;
		s->rcpts = realloc(s->rcpts,
		    s->rcpt_size * sizeof(s->rcpts[0]));
		if (s->rcpts == NULL)
			fatal("out of memory (milter)");
	}
	s->rcpts[s->rcpt_count++] = (struct milter_rcpt){ recipient,
	    refusal };
}

enum milter_outcome
milter_session_rcpt(struct milter_session *s, struct recipient *recipient,
    const char *refusal, struct verdict *verdict)
{
	enum milter_outcome outcome;

	remember_rcpt(s, recipient, refusal);
	if (milter_is_silent(s, MILTER_POINT_RCPT))
		return MILTER_GOES_ON;
	outcome = milter_converse(s, MILTER_POINT_RCPT, verdict);
	/* A recipient that it refused is none for a later connection. */
	if (outcome == MILTER_DECIDED && s->knows_rcpts == s->rcpt_count)
		s->knows_rcpts = --s->rcpt_count;
	return outcome;
}

enum milter_outcome
milter_session_data(struct milter_session *s, struct verdict *verdict)
{
	if (milter_is_silent(s, MILTER_POINT_DATA))
		return MILTER_GOES_ON;
	return milter_converse(s, MILTER_POINT_DATA, verdict);
}

enum milter_outcome
milter_session_unknown(struct milter_session *s, const char *line,
    struct verdict *verdict)
{
	static const struct milter_command_row row = { "unknown",
	    MILTER_UNKNOWN, MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN,
	    MILTER_AT_CONNECT };
	enum milter_outcome outcome;
	size_t begin;
	bool skip;

	outcome = milter_converse(s, s->mail == NULL ? MILTER_POINT_HELO :
	    MILTER_POINT_RCPT, verdict);
	if (outcome != MILTER_GOES_ON || s->c->answer.version < 3 ||
	    (s->c->answer.protocol & MILTER_NO_UNKNOWN) != 0)
		return outcome;
	begin = milter_begin(&s->out, MILTER_UNKNOWN);
	milter_put_string(&s->out, line);
	milter_end(&s->out, begin);
	outcome = milter_exchange(s, &row, verdict, &skip);
	if (outcome == MILTER_FAILED)
		milter_give_up(s, true);
	return outcome;
}

/* After a decision amid pipelined commands nobody knows what is owed. */
static void
settle(struct milter_session *s)
{
	if (s->c == NULL)
		return;
	milter_pool_worked(s->c);
	if (s->owed_count > 0 || s->out_of_step)
		milter_drop(s, false);
	s->knows_mail = s->knows_data = s->sent_eob = false;
	s->told_content = false;
	s->knows_rcpts = 0;
}

/*
 * Others may have acted on the end: it's not told twice.  Where replies to the
 * content are missing the filter had not come to the end.
 */
static bool
may_try_again(const struct milter_session *s)
{
	return s->c != NULL && s->error.lost && !s->interrupted &&
	    (!s->sent_eob || s->owed_count > 0 || s->settings->idempotent);
}

static enum milter_outcome
tell_all(struct milter_session *s, struct verdict *verdict)
{
	enum milter_outcome outcome = milter_catch_up(s, MILTER_POINT_DATA,
	    verdict);

	if (outcome == MILTER_GOES_ON)
		outcome = milter_content(s, verdict);
	return outcome;
}

enum milter_outcome
milter_session_consult(struct milter_session *s,
    const struct filter_run *run, struct verdict *verdict, bool *half_done)
{
	enum milter_outcome outcome;

	/* It was interrupted in the midst: what it knows is out of date. */
	if (s->told_content)
		milter_drop(s, false);
	s->run = run;
	s->interrupted = *half_done = false;
	if (!milter_await_header(s))
		return MILTER_FAILED;
	s->limit = task_deadline(s->settings->total_timeout_ms);
	outcome = tell_all(s, verdict);
	if (outcome == MILTER_FAILED && may_try_again(s)) {
		milter_give_up(s, false);
		outcome = tell_all(s, verdict);
	}
	*half_done = s->edits != NULL && milter_edits_replace_body(s->edits);
	if (outcome != MILTER_GOES_ON)
		milter_edits_free(&s->edits);
	if (s->interrupted)
		return outcome;
	if (outcome == MILTER_FAILED)
		milter_give_up(s, true);
	else
		settle(s);
	return outcome;
}

void
milter_session_apply(struct milter_session *s)
{
	if (s->edits != NULL)
		milter_edits_apply(s->edits, s->run->view);
	milter_edits_free(&s->edits);
	s->mail = NULL;
}

bool
milter_session_show_edits(struct milter_session *s, struct buf *text)
{
	return s->edits != NULL && milter_edits_show(s->edits, text);
}

/*
 * ABORT is only for a message that has begun and has no end yet.  Where replies
 * are owed still, nobody waits for them: the connection goes.
 */
void
milter_session_abort(struct milter_session *s)
{
	bool owed;

	milter_edits_free(&s->edits);
	s->mail = NULL;
	s->rcpt_count = 0;
	if (s->c == NULL || !s->knows_mail)
		return;
	if (s->sent_eob || s->out_of_step) {
		milter_drop(s, false);
		return;
	}
	owed = s->owed_count > 0;
	s->knows_mail = s->knows_data = s->told_content = false;
	s->knows_rcpts = 0;
	milter_put(&s->out, MILTER_ABORT, NULL, 0);
	milter_wire_put(s);
	if (owed)
		milter_drop(s, true);
	else
		io_flush(s->c->io, task_now());
}

bool
milter_session_cancelled(const struct milter_session *s)
{
	return s->error.cancelled;
}

bool
milter_session_held_off(const struct milter_session *s)
{
	return s->error.held_off;
}

const char *
milter_session_stage(const struct milter_session *s)
{
	return s->stage;
}

const char *
milter_session_error(const struct milter_session *s)
{
	return s->error.text;
}
