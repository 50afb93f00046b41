/*
 * What a milter is told up to the message's content.  Each event says how far
 * it shall know; milter_catch_up() tells it whatever it lacks.  So a milter
 * that never answers the early commands is connected to only when the message
 * is there, and one whose connection was lost hears all of it again.
 */
#include <stdio.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_wire.h"

static const struct milter_command_row rows[] = {
	[MILTER_POINT_CLIENT] = { "connect", MILTER_CONNECT, MILTER_NO_CONNECT,
	    MILTER_NR_CONNECT, MILTER_AT_CONNECT },
	[MILTER_POINT_HELO] = { "helo", MILTER_HELO, MILTER_NO_HELO,
	    MILTER_NR_HELO, MILTER_AT_HELO },
	[MILTER_POINT_MAIL] = { "mail", MILTER_MAIL, MILTER_NO_MAIL,
	    MILTER_NR_MAIL, MILTER_AT_MAIL },
	[MILTER_POINT_RCPT] = { "rcpt", MILTER_RCPT, MILTER_NO_RCPT,
	    MILTER_NR_RCPT, MILTER_AT_RCPT },
	[MILTER_POINT_DATA] = { "data", MILTER_DATA, MILTER_NO_DATA,
	    MILTER_NR_DATA, MILTER_AT_DATA },
};

enum milter_outcome
milter_exchange(struct milter_session *s, const struct milter_command_row *row,
    struct verdict *verdict, bool *skip)
{
	struct milter_reply reply;
	int64_t deadline = task_deadline(s->settings->command_timeout_ms);
	enum milter_outcome outcome;

	*skip = false;
	s->stage = row->stage;
	milter_wire_put(s);
	if ((s->c->answer.protocol & (row->no | row->silent)) != 0)
		return MILTER_GOES_ON;
	if (!milter_wire_in_step(s))
		return MILTER_FAILED;
	if (milter_wire_flush(s, deadline) == -1)
		return MILTER_FAILED;
	if (milter_wire_reply(s, &reply, s->settings->command_timeout_ms,
	    task_deadline(s->settings->total_timeout_ms)) == -1)
		return MILTER_FAILED;
	outcome = milter_wire_judge(s, &reply, verdict);
	*skip = outcome == MILTER_GOES_ON && reply.code == MILTER_SKIP;
	return outcome;
}

static bool
wants(const struct milter_session *s, enum milter_point point)
{
	return (s->c->answer.protocol & rows[point].no) == 0;
}

static enum milter_outcome
tell_client(struct milter_session *s, struct verdict *verdict)
{
	const struct session *session = s->session;
	char host[128];
	bool skip;

	if (session->client_name != NULL)
		snprintf(host, sizeof(host), "%s", session->client_name);
	else if (session->client_address != NULL)
		snprintf(host, sizeof(host), "[%s]", session->client_address);
	else
		snprintf(host, sizeof(host), "localhost");
	s->knows_client = true;
	milter_wire_macros(s, MILTER_AT_CONNECT, NULL);
	if (wants(s, MILTER_POINT_CLIENT))
		milter_put_connect(&s->out, host,
		    (const struct sockaddr *)&session->client);
	return milter_exchange(s, &rows[MILTER_POINT_CLIENT], verdict, &skip);
}

static enum milter_outcome
tell_helo(struct milter_session *s, struct verdict *verdict)
{
	size_t begin;
	bool skip;

	s->knows_helo = true;
	milter_wire_macros(s, MILTER_AT_HELO, NULL);
	if (wants(s, MILTER_POINT_HELO)) {
		begin = milter_begin(&s->out, MILTER_HELO);
		milter_put_string(&s->out, s->session->helo);
		milter_end(&s->out, begin);
	}
	return milter_exchange(s, &rows[MILTER_POINT_HELO], verdict, &skip);
}

static enum milter_outcome
tell_mail(struct milter_session *s, struct verdict *verdict)
{
	const struct envelope *envelope = &s->mail->envelope;
	bool skip;

	s->knows_mail = true;
	milter_wire_macros(s, MILTER_AT_MAIL, NULL);
	if (wants(s, MILTER_POINT_MAIL))
		milter_put_envelope(&s->out, MILTER_MAIL, envelope->sender,
		    envelope->arguments);
	return milter_exchange(s, &rows[MILTER_POINT_MAIL], verdict, &skip);
}

/* Postfix's rule: our refusals only go to those that asked for them. */
static enum milter_outcome
tell_rcpt(struct milter_session *s, const struct milter_rcpt *rcpt,
    struct verdict *verdict)
{
	enum milter_outcome outcome;
	bool skip;

	s->knows_rcpts++;
	if (s->skip_rcpt || (rcpt->refusal != NULL &&
	    (s->c->answer.protocol & MILTER_RCPT_REJECTED) == 0))
		return MILTER_GOES_ON;
	milter_wire_macros(s, MILTER_AT_RCPT, rcpt);
	if (wants(s, MILTER_POINT_RCPT))
		milter_put_envelope(&s->out, MILTER_RCPT,
		    rcpt->recipient->address, rcpt->recipient->arguments);
	outcome = milter_exchange(s, &rows[MILTER_POINT_RCPT], verdict, &skip);
	s->skip_rcpt |= skip;
	if (outcome == MILTER_DECIDED && rcpt->refusal != NULL &&
	    verdict->action != ACTION_DISCARD &&
	    verdict->action != ACTION_DISCONNECT)
		return MILTER_GOES_ON;
	return outcome;
}

static enum milter_outcome
tell_data(struct milter_session *s, struct verdict *verdict)
{
	bool skip;

	s->knows_data = true;
	milter_wire_macros(s, MILTER_AT_DATA, NULL);
	if (s->c->answer.version >= 4 && wants(s, MILTER_POINT_DATA)) {
		milter_put(&s->out, MILTER_DATA, NULL, 0);
		return milter_exchange(s, &rows[MILTER_POINT_DATA], verdict, &skip);
	}
	milter_wire_put(s);
	return MILTER_GOES_ON;
}

static void
forget_wire(struct milter_session *s)
{
	s->knows_client = s->knows_helo = s->knows_mail = s->knows_data = false;
	s->sent_eob = s->skip_rcpt = s->out_of_step = false;
	s->told_content = false;
	s->knows_rcpts = 0;
	s->owed_count = 0;
	buf_reset(&s->out);
}

void
milter_drop(struct milter_session *s, bool polite)
{
	milter_pool_drop(s->settings->pool, &s->c, polite);
	forget_wire(s);
}

/*
 * The last recipient is the one that SMTP asks about; those before it were told
 * to a connection that was lost.  A milter that refuses one of them now would
 * refuse another than the one that hears of it.
 */
static enum milter_outcome
tell_rcpts(struct milter_session *s, enum milter_point point,
    struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;
	bool asked;

	while (outcome == MILTER_GOES_ON && s->knows_rcpts < s->rcpt_count) {
		asked = point == MILTER_POINT_RCPT &&
		    s->knows_rcpts == s->rcpt_count - 1;
		outcome = tell_rcpt(s, &s->rcpts[s->knows_rcpts], verdict);
		if (outcome == MILTER_DECIDED && !asked &&
		    (verdict->action == ACTION_REJECT ||
		    verdict->action == ACTION_TEMPFAIL))
			return milter_wire_fail(s, "refuses a recipient that "
			    "it had accepted");
	}
	return outcome;
}

enum milter_outcome
milter_catch_up(struct milter_session *s, enum milter_point point,
    struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;

	s->stage = rows[point].stage;
	if (s->c == NULL && (s->c = milter_pool_take(s->settings->pool,
	    &s->blamed, &s->error)) == NULL)
		return MILTER_FAILED;
	if (!s->knows_client)
		outcome = tell_client(s, verdict);
	if (outcome == MILTER_GOES_ON && point >= MILTER_POINT_HELO &&
	    !s->knows_helo && s->session->helo != NULL)
		outcome = tell_helo(s, verdict);
	if (outcome == MILTER_GOES_ON && point >= MILTER_POINT_MAIL &&
	    !s->knows_mail)
		outcome = tell_mail(s, verdict);
	if (outcome == MILTER_GOES_ON && point >= MILTER_POINT_RCPT)
		outcome = tell_rcpts(s, point, verdict);
	if (outcome == MILTER_GOES_ON && point >= MILTER_POINT_DATA &&
	    !s->knows_data)
		outcome = tell_data(s, verdict);
	return outcome;
}

void
milter_give_up(struct milter_session *s, bool count)
{
	if (s->c == NULL)
		return;
	if (count && !s->error.cancelled)
		milter_pool_failed(s->settings->pool, s->c, &s->blamed);
	else
		milter_pool_ended(s->c);
	milter_drop(s, false);
}

/*
 * A connection that had served before, or waited long, may have been closed by
 * a restart of the milter: then a second one is tried, and told all again.
 */
enum milter_outcome
milter_converse(struct milter_session *s, enum milter_point point,
    struct verdict *verdict)
{
	enum milter_outcome outcome = milter_catch_up(s, point, verdict);

	if (outcome == MILTER_FAILED && s->c != NULL && s->error.lost) {
		log_debug(&s->session->log, "filter=%s stage=%s: %s, once "
		    "more", s->settings->name, s->stage, s->error.text);
		milter_give_up(s, false);
		outcome = milter_catch_up(s, point, verdict);
	}
	if (outcome == MILTER_FAILED)
		milter_give_up(s, true);
	/* A decision ends the message for it, unless on one recipient only. */
	if (outcome == MILTER_DECIDED && (point != MILTER_POINT_RCPT ||
	    verdict->action == ACTION_ACCEPT))
		s->knows_mail = false;
	return outcome;
}

bool
milter_is_silent(const struct milter_session *s, enum milter_point point)
{
	uint32_t protocol, version;

	if (s->c != NULL)
		protocol = s->c->answer.protocol;
	else if (!milter_pool_protocol(s->settings->pool, &protocol,
	    &version))
		return false;
	return (protocol & (rows[point].no | rows[point].silent)) != 0;
}
