/*
 * The milter filter: options, the events of the chain, and what to do when the
 * milter gives no verdict.
 */
#include "filters/milter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/condition.h"
#include "filters/milter_session.h"
#include "filters/trace.h"

static const struct option_row milter_rows[] = {
	MILTER_OPTIONS(OPTION_ROW, milter_options)
};

static const struct section_kind milter_kind = {
	"milter", true, "A milter of others, asked about each message.",
	milter_rows, OPTION_COUNT(milter_rows), sizeof(struct milter_options)
};

static const struct {
	const char *name;
	uint32_t bits;
} rights[] = {
	{ "add_header", MILTER_MAY_ADDHDRS },
	{ "change_header", MILTER_MAY_CHGHDRS },
	{ "change_body", MILTER_MAY_CHGBODY },
	{ "add_recipient", MILTER_MAY_ADDRCPT | MILTER_MAY_ADDRCPT_PAR },
	{ "delete_recipient", MILTER_MAY_DELRCPT },
	{ "change_sender", MILTER_MAY_CHGFROM },
	{ "quarantine", MILTER_MAY_QUARANTINE },
};

static const struct counter_row counter_rows[] = {
	{ "millgate_milter_failures_total", COUNTER_TOTAL,
	    "How often a milter gave no verdict." },
};
COUNTER_TABLE(counter_rows)

struct milter {
	char *name;
	int default_action;
	struct condition *condition;	/* NULL: asked always */
	struct milter_session_settings settings;
	struct counter *failures;
};

static int
parse_rights(const char *const *names, uint32_t *allowed, const char **why)
{
	size_t i;

	for (*allowed = 0; *names != NULL; names++) {
		for (i = 0; i < OPTION_COUNT(rights); i++)
			if (strcmp(rights[i].name, *names) == 0)
				break;
		if (i == OPTION_COUNT(rights)) {
			*why = "allow: add_header, change_header, "
			    "change_body, add_recipient, delete_recipient, "
			    "change_sender and quarantine are known";
			return -1;
		}
		*allowed |= rights[i].bits;
	}
	return 0;
}

static void
milter_release(void *instance)
{
	struct milter *m = instance;

	milter_pool_free(&m->settings.pool);
	condition_free(&m->condition);
	free(m->name);
	free(m);
}

/* ca: the text of the file tls_ca, NULL if none is given. */
static void *
milter_new(const char *name, const struct milter_options *o, const char *ca,
    size_t ca_len, const char **why)
{
	char labels[256] = "";
	struct milter *m = calloc(1, sizeof(*m));

	if (m == NULL || (m->name = strdup(name)) == NULL)
		fatal("out of memory (milter)");
	struct milter_pool_settings pool = {
		.name = m->name, .endpoints = o->endpoint,
		.connect_timeout_ms = o->connect_timeout,
		.command_timeout_ms = o->command_timeout,
		.version = (uint32_t)o->protocol, .spare = (size_t)o->spare,
		/* Rspamd sends a body in one packet. */
		.reply_max = (size_t)o->max_body + MILTER_PAYLOAD_MAX,
		.tls_ca = ca, .tls_ca_len = ca_len, .tls_name = o->tls_name,
		.trace = (size_t)o->trace,
	};

	m->default_action = o->default_action;
	m->settings = (struct milter_session_settings){
		.name = m->name, .command_timeout_ms = o->command_timeout,
		.content_timeout_ms = o->content_timeout,
		.total_timeout_ms = o->total_timeout, .reuse = o->reuse,
		.max_body = (size_t)o->max_body,
	};
	if (parse_rights(o->allow, &m->settings.allowed, why) == -1 ||
	    condition_new(o->only_if, o->skip_if, &m->condition, why) == -1 ||
	    (m->settings.pool = milter_pool_new(&pool, why)) == NULL) {
		milter_release(m);
		return NULL;
	}
	counter_label(labels, sizeof(labels), "filter", name);
	m->failures = counter_get("millgate_milter_failures_total", labels);
	return m;
}

static void *
milter_setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct milter_options *o = section->values;
	const char *ca = NULL;
	size_t ca_len = 0;

	if (o->tls_ca != NULL && !conf_file(conf, o->tls_ca, &ca, &ca_len)) {
		*why = "tls_ca cannot be read";
		return NULL;
	}
	return milter_new(section->title, o, ca, ca_len, why);
}

bool
milter_keeps(const void *instance)
{
	const struct milter *m = instance;

	return (m->settings.allowed & (MILTER_MAY_ADDHDRS |
	    MILTER_MAY_CHGHDRS | MILTER_MAY_CHGBODY)) == 0;
}

const struct milter_session_settings *
milter_settings(const void *instance)
{
	return &((const struct milter *)instance)->settings;
}

const struct condition *
milter_condition(const void *instance)
{
	return ((const struct milter *)instance)->condition;
}

void *
milter_new_host(const char *name, const char *endpoint, const char **why)
{
	static const char *const all[] = { "add_header", "change_header",
	    "change_body", "add_recipient", "delete_recipient",
	    "change_sender", "quarantine", NULL };
	const char *const endpoints[] = { endpoint, NULL };
	const struct milter_options o = {
		.endpoint = endpoints, .connect_timeout = 5000,
		.command_timeout = 30000, .content_timeout = 60000,
		.total_timeout = 120000, .default_action = DEFAULT_TEMPFAIL,
		.protocol = MILTER_VERSION, .allow = all, .spare = 2,
		.reuse = true, .max_body = INT64_C(2) << 30,
	};
	struct milter *m = milter_new(name, &o, NULL, 0, why);

	/* Our own filters act on nothing but the message that they give back. */
	if (m != NULL)
		m->settings.idempotent = true;
	return m;
}

/* --- no verdict --- */

static void
tell_failure(struct filter_run *run)
{
	struct milter *m = run->instance;
	struct milter_session *s = run->state;
	const char *stage = milter_session_stage(s);
	const char *error = milter_session_error(s);

	/* Another of its group has decided, or the session is over. */
	if (milter_session_cancelled(s) && (run->mail == NULL ||
	    task_now() < run->mail->deadline))
		return;
	counter_add(m->failures, 1);
	/* An open breaker is told once a message, not at each command. */
	if (run->mail == NULL && milter_session_held_off(s))
		return;
	log_warn(run->mail != NULL ? &run->mail->log : &run->session->log,
	    "filter=%s stage=%s: %s", run->name, stage, error);
	if (run->mail != NULL)
		trace_add(run->mail->trace, run->name, "failed at %s: %s",
		    stage, error);
}

static struct verdict
hold(struct filter_run *run)
{
	return (struct verdict){ .action = ACTION_ACCEPT,
	    .reason = "milter-failed", .hold = arena_printf(run->mail->arena,
	    "milter %s failed", run->name) };
}

static struct verdict
default_verdict(struct filter_run *run, bool half_done)
{
	struct milter *m = run->instance;
	int action = m->default_action;

	/* The filter had begun to replace what is to be delivered. */
	if (half_done && action == DEFAULT_ACCEPT)
		action = DEFAULT_TEMPFAIL;
	switch (action) {
	case DEFAULT_ACCEPT:
		return (struct verdict){ .action = ACTION_ACCEPT,
		    .reason = "milter-failed" };
	case DEFAULT_REJECT:
		return (struct verdict){ .action = ACTION_REJECT, .code = 550,
		    .enhanced = "5.7.1", .text = "Command rejected",
		    .reason = "milter-failed" };
	case DEFAULT_QUARANTINE:
		return hold(run);
	case DEFAULT_DISCARD:
		return (struct verdict){ .action = ACTION_DISCARD,
		    .reason = "milter-failed" };
	default:
		return (struct verdict){ .action = ACTION_TEMPFAIL,
		    .code = 451, .enhanced = "4.7.1",
		    .text = "Service unavailable - try again later",
		    .reason = "milter-failed" };
	}
}

static struct verdict
conclude(struct filter_run *run, enum milter_outcome outcome,
    const struct verdict *verdict)
{
	if (outcome == MILTER_GOES_ON)
		return VERDICT_CONTINUE;
	if (outcome == MILTER_DECIDED)
		return *verdict;
	tell_failure(run);
	/*
	 * Before MAIL nothing is lost yet: it's asked again there, so that one
	 * failure doesn't hold for all messages of the session.
	 */
	if (run->mail == NULL)
		return VERDICT_CONTINUE;
	return default_verdict(run, false);
}

/* --- conditions --- */

/* What mail_state points to once it is decided whether the milter is asked. */
static char asked[] = "asked", passed_over[] = "passed over";

/*
 * What was decided, or else can be now.  Before MAIL the milter is told nothing
 * while that is open; it learns of the client when a message is for it.
 */
static enum answer
is_asked(struct filter_run *run, enum condition_point point)
{
	struct milter *m = run->instance;
	enum answer answer;

	if (m->condition == NULL)
		return ANSWER_YES;
	if (run->mail != NULL && run->mail_state != NULL)
		return run->mail_state == asked ? ANSWER_YES : ANSWER_NO;
	answer = condition_ask(m->condition, run->session, run->mail, point);
	if (run->mail == NULL || answer == ANSWER_UNKNOWN)
		return answer;
	run->mail_state = answer == ANSWER_YES ? asked : passed_over;
	if (answer == ANSWER_YES)
		return answer;
	trace_add(run->mail->trace, run->name, "not asked: its conditions");
	/* It may know the envelope. */
	if (run->state != NULL)
		milter_session_abort(run->state);
	return answer;
}

/* Findings, and the size, are known when its turn comes. */
static bool
is_asked_of_content(struct filter_run *run)
{
	enum answer answer = is_asked(run, CONDITION_DATA);

	if (answer != ANSWER_UNKNOWN)
		return answer == ANSWER_YES;
	while (!run->turn)
		if (task_cond_wait(&run->mail->progress,
		    run->mail->deadline) == -1)
			return true;	/* the conversation fails by itself */
	return is_asked(run, CONDITION_END) == ANSWER_YES;
}

/* --- events --- */

static struct milter_session *
session_of(struct filter_run *run)
{
	struct milter *m = run->instance;

	if (run->state == NULL)
		run->state = milter_session_new(&m->settings, run->session);
	return run->state;
}

static struct verdict
on_connect(struct filter_run *run)
{
	struct verdict v = VERDICT_CONTINUE;

	if (is_asked(run, CONDITION_SESSION) != ANSWER_YES)
		return v;
	return conclude(run, milter_session_connect(session_of(run), &v), &v);
}

static struct verdict
on_helo(struct filter_run *run)
{
	struct verdict v = VERDICT_CONTINUE;

	if (is_asked(run, CONDITION_SESSION) != ANSWER_YES)
		return v;
	return conclude(run, milter_session_helo(session_of(run), &v), &v);
}

static struct verdict
on_mail(struct filter_run *run)
{
	struct verdict v = VERDICT_CONTINUE;

	if (is_asked(run, CONDITION_MAIL) == ANSWER_NO)
		return v;
	return conclude(run, milter_session_mail(session_of(run), run->mail,
	    &v), &v);
}

static struct verdict
on_rcpt(struct filter_run *run, struct recipient *recipient)
{
	struct verdict v = VERDICT_CONTINUE;

	if (is_asked(run, CONDITION_MAIL) == ANSWER_NO)
		return v;
	return conclude(run, milter_session_rcpt(session_of(run), recipient,
	    NULL, &v), &v);
}

/* The recipient isn't in the envelope, so a copy is kept for later. */
static void
on_rcpt_refused(struct filter_run *run, struct recipient *recipient, int code,
    const char *text)
{
	struct arena *arena = run->mail->arena;
	struct recipient *copy = arena_alloc(arena, sizeof(*copy));
	struct verdict v = VERDICT_CONTINUE;

	(void)code;
	if (is_asked(run, CONDITION_MAIL) == ANSWER_NO)
		return;
	copy->address = arena_strdup(arena, recipient->address);
	if (milter_session_rcpt(session_of(run), copy,
	    arena_strdup(arena, text), &v) == MILTER_FAILED)
		tell_failure(run);
}

static struct verdict
on_data(struct filter_run *run)
{
	struct verdict v = VERDICT_CONTINUE;

	if (is_asked(run, CONDITION_DATA) == ANSWER_NO)
		return v;
	return conclude(run, milter_session_data(session_of(run), &v), &v);
}

static struct verdict
on_unknown(struct filter_run *run, const char *line)
{
	struct verdict v = VERDICT_CONTINUE;

	if (is_asked(run, run->mail == NULL ? CONDITION_SESSION :
	    CONDITION_MAIL) != ANSWER_YES)
		return v;
	if (milter_session_unknown(session_of(run), line,
	    &v) == MILTER_FAILED)
		tell_failure(run);
	return v;
}

static struct verdict
on_consult(struct filter_run *run)
{
	struct verdict v = VERDICT_CONTINUE;
	enum milter_outcome outcome;
	bool half_done;

	if (!is_asked_of_content(run))
		return v;
	outcome = milter_session_consult(session_of(run), run, &v,
	    &half_done);
	if (outcome != MILTER_FAILED)
		return conclude(run, outcome, &v);
	tell_failure(run);
	return default_verdict(run, half_done);
}

static void
on_apply(struct filter_run *run)
{
	if (run->mail_state != passed_over)
		milter_session_apply(run->state);
}

static void
on_abort(struct filter_run *run)
{
	if (run->state != NULL)
		milter_session_abort(run->state);
}

static void
on_close(struct filter_run *run)
{
	struct milter_session *s = run->state;

	milter_session_free(&s);
	run->state = NULL;
}

const struct filter filter_milter = {
	.name = "milter",
	.options = &milter_kind,
	.setup = milter_setup,
	.release = milter_release,
	.connect = on_connect,
	.helo = on_helo,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.rcpt_refused = on_rcpt_refused,
	.data = on_data,
	.unknown = on_unknown,
	.consult = on_consult,
	.apply = on_apply,
	.abort = on_abort,
	.close = on_close,
};
