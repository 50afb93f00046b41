/*
 * The conversation with a milter up to the message's content.  Each event says
 * how far the milter shall know; catch_up() tells it whatever it lacks.  So a
 * milter that never answers the early commands is connected to only when the
 * message is there, and one whose connection was lost hears all of it again.
 */
#include "filters/milter_session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_wire.h"

enum point { POINT_CLIENT, POINT_HELO, POINT_MAIL, POINT_RCPT, POINT_DATA };

/* A command: its name, and the bits by which a filter refuses or is silent. */
struct command_row {
	const char *stage;
	char code;
	uint32_t no, silent;
	enum milter_stage macros;
};

static const struct command_row rows[] = {
	[POINT_CLIENT] = { "connect", MILTER_CONNECT, MILTER_NO_CONNECT,
	    MILTER_NR_CONNECT, MILTER_AT_CONNECT },
	[POINT_HELO] = { "helo", MILTER_HELO, MILTER_NO_HELO,
	    MILTER_NR_HELO, MILTER_AT_HELO },
	[POINT_MAIL] = { "mail", MILTER_MAIL, MILTER_NO_MAIL,
	    MILTER_NR_MAIL, MILTER_AT_MAIL },
	[POINT_RCPT] = { "rcpt", MILTER_RCPT, MILTER_NO_RCPT,
	    MILTER_NR_RCPT, MILTER_AT_RCPT },
	[POINT_DATA] = { "data", MILTER_DATA, MILTER_NO_DATA,
	    MILTER_NR_DATA, MILTER_AT_DATA },
};

/* --- the wire --- */

void
milter_wire_put(struct milter_session *s)
{
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

/* --- telling --- */

/* Sends the command in out, after its macros, and waits for its reply. */
static enum milter_outcome
exchange(struct milter_session *s, const struct command_row *row,
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
wants(const struct milter_session *s, enum point point)
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
	if (wants(s, POINT_CLIENT))
		milter_put_connect(&s->out, host,
		    (const struct sockaddr *)&session->client);
	return exchange(s, &rows[POINT_CLIENT], verdict, &skip);
}

static enum milter_outcome
tell_helo(struct milter_session *s, struct verdict *verdict)
{
	size_t begin;
	bool skip;

	s->knows_helo = true;
	milter_wire_macros(s, MILTER_AT_HELO, NULL);
	if (wants(s, POINT_HELO)) {
		begin = milter_begin(&s->out, MILTER_HELO);
		milter_put_string(&s->out, s->session->helo);
		milter_end(&s->out, begin);
	}
	return exchange(s, &rows[POINT_HELO], verdict, &skip);
}

static enum milter_outcome
tell_mail(struct milter_session *s, struct verdict *verdict)
{
	const struct envelope *envelope = &s->mail->envelope;
	bool skip;

	s->knows_mail = true;
	milter_wire_macros(s, MILTER_AT_MAIL, NULL);
	if (wants(s, POINT_MAIL))
		milter_put_envelope(&s->out, MILTER_MAIL, envelope->sender,
		    envelope->arguments);
	return exchange(s, &rows[POINT_MAIL], verdict, &skip);
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
	if (wants(s, POINT_RCPT))
		milter_put_envelope(&s->out, MILTER_RCPT,
		    rcpt->recipient->address, rcpt->recipient->arguments);
	outcome = exchange(s, &rows[POINT_RCPT], verdict, &skip);
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
	if (s->c->answer.version >= 4 && wants(s, POINT_DATA)) {
		milter_put(&s->out, MILTER_DATA, NULL, 0);
		return exchange(s, &rows[POINT_DATA], verdict, &skip);
	}
	milter_wire_put(s);
	return MILTER_GOES_ON;
}

static void
forget_wire(struct milter_session *s)
{
	s->knows_client = s->knows_helo = s->knows_mail = s->knows_data = false;
	s->sent_eob = s->skip_rcpt = s->out_of_step = false;
	s->knows_rcpts = 0;
	s->owed_count = 0;
	buf_reset(&s->out);
}

static void
drop(struct milter_session *s, bool polite)
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
tell_rcpts(struct milter_session *s, enum point point, struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;
	bool asked;

	while (outcome == MILTER_GOES_ON && s->knows_rcpts < s->rcpt_count) {
		asked = point == POINT_RCPT &&
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

/* Makes the milter know all up to that point. */
static enum milter_outcome
catch_up(struct milter_session *s, enum point point, struct verdict *verdict)
{
	enum milter_outcome outcome = MILTER_GOES_ON;

	s->stage = rows[point].stage;
	if (s->c == NULL && (s->c = milter_pool_take(s->settings->pool,
	    &s->error)) == NULL)
		return MILTER_FAILED;
	if (!s->knows_client)
		outcome = tell_client(s, verdict);
	if (outcome == MILTER_GOES_ON && point >= POINT_HELO &&
	    !s->knows_helo && s->session->helo != NULL)
		outcome = tell_helo(s, verdict);
	if (outcome == MILTER_GOES_ON && point >= POINT_MAIL && !s->knows_mail)
		outcome = tell_mail(s, verdict);
	if (outcome == MILTER_GOES_ON && point >= POINT_RCPT)
		outcome = tell_rcpts(s, point, verdict);
	if (outcome == MILTER_GOES_ON && point >= POINT_DATA && !s->knows_data)
		outcome = tell_data(s, verdict);
	return outcome;
}

/* The failed connection goes; the breaker hears of it unless it was idle. */
static void
give_up(struct milter_session *s, bool count)
{
	if (s->c == NULL)
		return;
	if (count && !s->error.cancelled)
		milter_pool_failed(s->settings->pool, s->c);
	else
		milter_pool_ended(s->c);
	drop(s, false);
}

/*
 * A connection that had served before, or waited long, may have been closed by
 * a restart of the milter: then a second one is tried, and told all again.
 */
static enum milter_outcome
converse(struct milter_session *s, enum point point, struct verdict *verdict)
{
	enum milter_outcome outcome = catch_up(s, point, verdict);

	if (outcome == MILTER_FAILED && s->c != NULL && s->error.lost) {
		log_debug(&s->session->log, "filter=%s stage=%s: %s, once "
		    "more", s->settings->name, s->stage, s->error.text);
		give_up(s, false);
		outcome = catch_up(s, point, verdict);
	}
	if (outcome == MILTER_FAILED)
		give_up(s, true);
	/* A decision ends the message for it, unless on one recipient only. */
	if (outcome == MILTER_DECIDED && (point != POINT_RCPT ||
	    verdict->action == ACTION_ACCEPT))
		s->knows_mail = false;
	return outcome;
}

/* The milter is known to say nothing at this point: it's told later. */
static bool
is_silent(const struct milter_session *s, enum point point)
{
	uint32_t protocol, version;

	if (s->c != NULL)
		protocol = s->c->answer.protocol;
	else if (!milter_pool_protocol(s->settings->pool, &protocol,
	    &version))
		return false;
	return (protocol & (rows[point].no | rows[point].silent)) != 0;
}

/* --- events --- */

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
	if (!s->settings->reuse || s->owed_count > 0 || !milter_wire_in_step(s)) {
		drop(s, true);
		return;
	}
	milter_put(&s->out, MILTER_QUIT_NC, NULL, 0);
	if (milter_wire_flush(s, task_now()) == 0)
		milter_pool_give(s->settings->pool, &s->c);
	else
		drop(s, false);
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
	if (is_silent(s, POINT_CLIENT))
		return MILTER_GOES_ON;
	return converse(s, POINT_CLIENT, verdict);
}

enum milter_outcome
milter_session_helo(struct milter_session *s, struct verdict *verdict)
{
	s->knows_helo = false;
	if (is_silent(s, POINT_HELO))
		return MILTER_GOES_ON;
	return converse(s, POINT_HELO, verdict);
}

enum milter_outcome
milter_session_mail(struct milter_session *s, struct mail *mail,
    struct verdict *verdict)
{
	s->mail = mail;
	s->rcpt_count = s->knows_rcpts = 0;
	s->knows_mail = s->knows_data = s->sent_eob = false;
	s->skip_rcpt = false;
	if (is_silent(s, POINT_MAIL))
		return MILTER_GOES_ON;
	return converse(s, POINT_MAIL, verdict);
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
	if (is_silent(s, POINT_RCPT))
		return MILTER_GOES_ON;
	outcome = converse(s, POINT_RCPT, verdict);
	/* A recipient that it refused is none for a later connection. */
	if (outcome == MILTER_DECIDED && s->knows_rcpts == s->rcpt_count)
		s->knows_rcpts = --s->rcpt_count;
	return outcome;
}

enum milter_outcome
milter_session_data(struct milter_session *s, struct verdict *verdict)
{
	if (is_silent(s, POINT_DATA))
		return MILTER_GOES_ON;
	return converse(s, POINT_DATA, verdict);
}

enum milter_outcome
milter_session_unknown(struct milter_session *s, const char *line,
    struct verdict *verdict)
{
	static const struct command_row row = { "unknown", MILTER_UNKNOWN,
	    MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN, MILTER_AT_CONNECT };
	enum milter_outcome outcome;
	size_t begin;
	bool skip;

	outcome = converse(s, s->mail == NULL ? POINT_HELO : POINT_RCPT,
	    verdict);
	if (outcome != MILTER_GOES_ON || s->c->answer.version < 3 ||
	    (s->c->answer.protocol & MILTER_NO_UNKNOWN) != 0)
		return outcome;
	begin = milter_begin(&s->out, MILTER_UNKNOWN);
	milter_put_string(&s->out, line);
	milter_end(&s->out, begin);
	outcome = exchange(s, &row, verdict, &skip);
	if (outcome == MILTER_FAILED)
		give_up(s, true);
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
		drop(s, false);
	s->knows_mail = s->knows_data = s->sent_eob = false;
	s->knows_rcpts = 0;
}

enum milter_outcome
milter_session_eom(struct milter_session *s, struct verdict *verdict,
    bool *half_done)
{
	int64_t limit = task_deadline(s->settings->total_timeout_ms);
	enum milter_outcome outcome = MILTER_FAILED;

	if (limit > s->mail->deadline)
		limit = s->mail->deadline;
	for (int try = 0; try < 2; try++) {
		*half_done = false;
		outcome = catch_up(s, POINT_DATA, verdict);
		if (outcome == MILTER_GOES_ON)
			outcome = milter_content(s, limit, verdict, half_done);
		if (outcome != MILTER_FAILED)
			break;
		/* Others may have acted on the end: it's not told twice. */
		if (s->c == NULL || !s->error.lost ||
		    (s->sent_eob && !s->settings->idempotent))
			break;
		if (try == 0)
			give_up(s, false);
	}
	if (outcome == MILTER_FAILED)
		give_up(s, true);
	else
		settle(s);
	s->mail = NULL;
	return outcome;
}

/* ABORT is only for a message that has begun and has no end yet. */
void
milter_session_abort(struct milter_session *s)
{
	s->mail = NULL;
	s->rcpt_count = 0;
	if (s->c == NULL || !s->knows_mail)
		return;
	s->knows_mail = s->knows_data = false;
	s->knows_rcpts = 0;
	if (s->owed_count > 0 || s->sent_eob) {
		drop(s, false);
		return;
	}
	milter_put(&s->out, MILTER_ABORT, NULL, 0);
	milter_wire_put(s);
	io_flush(s->c->io, task_now());
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
