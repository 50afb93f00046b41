#include "filters/milter_shadow.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/condition.h"
#include "filters/milter.h"
#include "filters/milter_session.h"
#include "filters/trace.h"
#include "filters/view.h"

/* Under way at a time, for each milter; one message may be larger. */
#define RUNS_MAX	50
#define BYTES_MAX	(64 << 20)

enum fate { FATE_ACCEPT, FATE_REJECT, FATE_TEMPFAIL, FATE_DISCARD,
	FATE_QUARANTINE, FATE_COUNT };

static const char *const fate_names[FATE_COUNT] = {
	[FATE_ACCEPT] = "accept", [FATE_REJECT] = "reject",
	[FATE_TEMPFAIL] = "tempfail", [FATE_DISCARD] = "discard",
	[FATE_QUARANTINE] = "quarantine",
};

static const struct counter_row counter_rows[] = {
	{ "millgate_milter_shadow_total", COUNTER_TOTAL,
	    "What milters in the shadow would have done with messages, and "
	    "whether that became of them." },
};
COUNTER_TABLE(counter_rows)

struct shadow {
	struct shadow *next;		/* of the process */
	void *milter;			/* instance of filter_milter */
	const struct milter_session_settings *settings;
	struct shadow_run *runs;	/* those that have ended, too */
	size_t running, bytes;
	struct counter *agree[FATE_COUNT], *differ[FATE_COUNT];
	struct counter *abandoned;
};

struct rcpt {
	struct recipient *recipient;
	const char *refusal;		/* we refused it: why; or NULL */
	struct rcpt *next;
};

/* What SMTP told of a message that is not over; in its arena. */
struct note {
	const char *sender;
	const char *const *arguments;
	struct rcpt *rcpts, **last;
	enum answer asked;		/* its conditions, as far as known */
	struct shadow_run *run;		/* made at its turn */
};

/* A message that the milter is told of. */
struct shadow_run {
	struct shadow_run *next;
	struct shadow *shadow;
	struct task *task;
	bool ended;
	struct mail *mail;		/* a copy, as its session */
	size_t size;
	struct rcpt *rcpts;
	struct filter_run run;
	enum fate real;
	struct milter_session *session;
	const char *failure;		/* or NULL: the session knows */
	struct buf edits;		/* by kind */
	bool quarantines;
};

static milter_shadow_tell_f *tell_trace;
static struct shadow *all_shadows;

void
milter_shadow_set_tell(milter_shadow_tell_f *f)
{
	tell_trace = f;
}

/* --- set up --- */

static struct counter *
counter_of(const char *filter, const char *result, const char *would)
{
	char labels[256] = "";

	counter_label(labels, sizeof(labels), "filter", filter);
	counter_label(labels, sizeof(labels), "result", result);
	if (would != NULL)
		counter_label(labels, sizeof(labels), "would", would);
	return counter_get("millgate_milter_shadow_total", labels);
}

static void *
shadow_setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	void *milter = filter_milter.setup(conf, section, why);
	struct shadow *shadow;
	const char *name;

	if (milter == NULL)
		return NULL;
	if ((shadow = calloc(1, sizeof(*shadow))) == NULL)
		fatal("out of memory (milter shadow)");
	shadow->milter = milter;
	shadow->settings = milter_settings(milter);
	name = shadow->settings->name;
	for (int i = 0; i < FATE_COUNT; i++) {
		shadow->agree[i] = counter_of(name, "agree", fate_names[i]);
		shadow->differ[i] = counter_of(name, "differ", fate_names[i]);
	}
	shadow->abandoned = counter_of(name, "abandoned", NULL);
	shadow->next = all_shadows;
	all_shadows = shadow;
	return shadow;
}

/* Frees the runs that have ended; all: ends the others. */
static void
sweep(struct shadow *shadow, bool all)
{
	struct shadow_run **at = &shadow->runs, *r;

	while ((r = *at) != NULL) {
		if (!r->ended && !all) {
			at = &r->next;
			continue;
		}
		task_reap(&r->task);
		*at = r->next;
		free(r);
	}
}

static void
shadow_release(void *instance)
{
	struct shadow *shadow = instance, **at = &all_shadows;

	sweep(shadow, true);
	while (*at != shadow)
		at = &(*at)->next;
	*at = shadow->next;
	filter_milter.release(shadow->milter);
	free(shadow);
}

void
milter_shadow_end(void)
{
	for (struct shadow *shadow = all_shadows; shadow != NULL;
	    shadow = shadow->next)
		sweep(shadow, true);
}

/* --- the message as it comes by --- */

static struct verdict
on_mail(struct filter_run *run)
{
	const struct envelope *envelope = &run->mail->envelope;
	struct note *note = arena_alloc(run->mail->arena, sizeof(*note));

	note->sender = envelope->sender;
	note->arguments = envelope->arguments;
	note->last = &note->rcpts;
	note->asked = ANSWER_UNKNOWN;
	run->mail_state = note;
	return VERDICT_CONTINUE;
}

static struct rcpt *
add_rcpt(struct arena *arena, struct rcpt ***last,
    struct recipient *recipient, const char *refusal)
{
	struct rcpt *rcpt = arena_alloc(arena, sizeof(*rcpt));

	rcpt->recipient = recipient;
	rcpt->refusal = refusal;
	**last = rcpt;
	*last = &rcpt->next;
	return rcpt;
}

static struct verdict
on_rcpt(struct filter_run *run, struct recipient *recipient)
{
	struct note *note = run->mail_state;

	add_rcpt(run->mail->arena, &note->last, recipient, NULL);
	return VERDICT_CONTINUE;
}

/* The recipient isn't in the envelope, so a copy is kept. */
static void
on_rcpt_refused(struct filter_run *run, struct recipient *recipient, int code,
    const char *text)
{
	struct arena *arena = run->mail->arena;
	struct recipient *copy = arena_alloc(arena, sizeof(*copy));
	struct note *note = run->mail_state;

	(void)code;
	copy->address = arena_strdup(arena, recipient->address);
	add_rcpt(arena, &note->last, copy, arena_strdup(arena, text));
}

static enum answer
is_asked(const struct filter_run *run, enum condition_point point)
{
	const struct shadow *shadow = run->instance;

	return condition_ask(milter_condition(shadow->milter), run->session,
	    run->mail, point);
}

/* Other milters may change the recipients later, which is not told either. */
static struct verdict
on_data(struct filter_run *run)
{
	struct note *note = run->mail_state;

	note->asked = is_asked(run, CONDITION_DATA);
	return VERDICT_CONTINUE;
}

static const char *
copy_text(struct arena *arena, const char *text)
{
	return text != NULL ? arena_strdup(arena, text) : NULL;
}

static const char *const *
copy_texts(struct arena *arena, const char *const *texts)
{
	const char **copy;
	size_t count = 0;

	if (texts == NULL)
		return NULL;
	while (texts[count] != NULL)
		count++;
	copy = arena_alloc(arena, (count + 1) * sizeof(*copy));
	for (size_t i = 0; i < count; i++)
		copy[i] = arena_strdup(arena, texts[i]);
	return copy;
}

static struct session *
copy_session(struct arena *arena, const struct session *session)
{
	struct session *copy = arena_memdup(arena, session, sizeof(*copy));
	const char **texts[] = { &copy->hostname, &copy->listener,
	    &copy->client_address, &copy->client_name, &copy->client_ptr,
	    &copy->helo, &copy->user, &copy->auth_method, &copy->tls_version,
	    &copy->tls_cipher, &copy->tls_subject, &copy->tls_issuer };

	copy->arena = arena;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		*texts[i] = copy_text(arena, *texts[i]);
	return copy;
}

/* The header section of a view, as fields of the copy. */
static void
copy_headers(struct mail *copy, const struct view *view)
{
	struct headers *headers = &copy->headers;

	for (size_t i = 0; i < view->count; i++) {
		const struct view_field *field = &view->fields[i];
		struct header *h = arena_alloc(copy->arena, sizeof(*h));

		h->raw = arena_memdup(copy->arena, field->raw, field->len);
		h->len = field->len;
		h->name_len = field->header->name_len;
		h->hidden = field->header->hidden;
		h->previous = headers->last;
		if (headers->last != NULL)
			headers->last->next = h;
		else
			headers->first = h;
		headers->last = h;
		headers->count++;
		headers->bytes += h->len;
	}
}

/* As SMTP told it: a milter isn't told what others make of the envelope. */
static void
copy_envelope(struct shadow_run *r, const struct mail *mail,
    const struct note *note)
{
	struct arena *arena = r->mail->arena;
	struct envelope *copy = &r->mail->envelope;
	struct rcpt **last = &r->rcpts;

	snprintf(copy->id, sizeof(copy->id), "%s", mail->envelope.id);
	copy->arrived_ms = mail->envelope.arrived_ms;
	copy->sender = arena_strdup(arena, note->sender);
	copy->arguments = copy_texts(arena, note->arguments);
	for (const struct rcpt *rcpt = note->rcpts; rcpt != NULL;
	    rcpt = rcpt->next) {
		struct recipient *recipient = arena_alloc(arena,
		    sizeof(*recipient));

		recipient->address = arena_strdup(arena,
		    rcpt->recipient->address);
		recipient->arguments = copy_texts(arena,
		    rcpt->recipient->arguments);
		add_rcpt(arena, &last, recipient,
		    copy_text(arena, rcpt->refusal));
	}
}

static struct shadow_run *
take_copy(const struct filter_run *run, const struct note *note)
{
	const struct mail *mail = run->mail;
	struct shadow_run *r = calloc(1, sizeof(*r));
	struct mail *copy = mail_new(NULL, 0, "");

	if (r == NULL)
		fatal("out of memory (milter shadow)");
	r->shadow = run->instance;
	r->mail = copy;
	r->size = mail->headers.bytes + body_size(mail->body);
	copy->log = mail->log;
	copy->session = copy_session(copy->arena, run->session);
	copy->trace = trace_new(copy->arena);
	copy->stage = MAIL_STAGE_COMPLETE;
	copy->received_size = mail->received_size;
	body_free(&copy->body);
	copy->body = body_share(mail->body);
	copy_envelope(r, mail, note);
	copy_headers(copy, run->view);
	r->run = (struct filter_run){ .filter = run->filter,
	    .name = r->shadow->settings->name, .session = copy->session,
	    .mail = copy, .view = view_take(&copy->headers, copy->arena),
	    .turn = true };
	return r;
}

/* At its turn: the message as it came to its place among the filters. */
static struct verdict
on_consult(struct filter_run *run)
{
	struct note *note = run->mail_state;

	if (note->asked == ANSWER_UNKNOWN)
		note->asked = is_asked(run, CONDITION_END);
	if (note->asked == ANSWER_YES)
		note->run = take_copy(run, note);
	else
		trace_add(run->mail->trace, run->name,
		    "not asked: its conditions");
	return VERDICT_CONTINUE;
}

static void
on_abort(struct filter_run *run)
{
	struct note *note = run->mail_state;

	if (note == NULL || note->run == NULL)
		return;
	mail_free(&note->run->mail);
	free(note->run);
	note->run = NULL;
}

/* --- afterwards --- */

static enum fate
fate_of(enum action action, bool hold)
{
	switch (action) {
	case ACTION_REJECT:
		return FATE_REJECT;
	case ACTION_TEMPFAIL:
	case ACTION_DISCONNECT:
		return FATE_TEMPFAIL;
	case ACTION_DISCARD:
		return FATE_DISCARD;
	default:
		return hold ? FATE_QUARANTINE : FATE_ACCEPT;
	}
}

static void
tell(const struct shadow_run *r, const char *outcome)
{
	size_t len;

	if (tell_trace != NULL)
		tell_trace(r->mail->envelope.id, outcome,
		    trace_text(r->mail->trace, &len));
}

static void
abandon(const struct shadow_run *r, const char *stage, const char *why)
{
	counter_add(r->shadow->abandoned, 1);
	log_info(&r->mail->log, "filter=%s shadow=abandoned stage=%s: %s",
	    r->run.name, stage, why);
	trace_add(r->mail->trace, r->run.name, "abandoned at %s: %s", stage,
	    why);
	tell(r, "abandoned");
}

static void
judge(const struct shadow_run *r, const struct verdict *v)
{
	enum fate would = fate_of(v->action, v->hold != NULL ||
	    r->quarantines);
	const char *result = would == r->real ? "agree" : "differ";
	const char *edits = r->edits.len > 0 ? r->edits.data : "";
	char reply[600] = "";

	counter_add((would == r->real ? r->shadow->agree :
	    r->shadow->differ)[would], 1);
	if (v->code != 0)
		snprintf(reply, sizeof(reply), " %d%s%s%s%.500s", v->code,
		    v->enhanced != NULL ? " " : "",
		    v->enhanced != NULL ? v->enhanced : "",
		    v->text != NULL ? " " : "", v->text != NULL ? v->text : "");
	log_info(&r->mail->log, "filter=%s shadow=%s real=%s would: %s%s%s%s%s",
	    r->run.name, result, fate_names[r->real], fate_names[would], reply,
	    *edits != '\0' ? " (" : "", edits, *edits != '\0' ? ")" : "");
	trace_add(r->mail->trace, r->run.name, "would: %s%s; real: %s",
	    fate_names[would], reply, fate_names[r->real]);
	tell(r, result);
}

/* What would have become of the recipients; none left: of the message. */
static enum milter_outcome
tell_rcpts(struct shadow_run *r, struct verdict *v)
{
	enum milter_outcome outcome = MILTER_GOES_ON;
	size_t accepted = 0;

	for (const struct rcpt *rcpt = r->rcpts; rcpt != NULL &&
	    outcome == MILTER_GOES_ON; rcpt = rcpt->next) {
		if (task_now() >= r->mail->deadline) {
			r->failure = "no time was left for it";
			return MILTER_FAILED;
		}
		outcome = milter_session_rcpt(r->session, rcpt->recipient,
		    rcpt->refusal, v);
		if (outcome != MILTER_DECIDED || (v->action != ACTION_REJECT &&
		    v->action != ACTION_TEMPFAIL)) {
			accepted += rcpt->refusal == NULL;
			continue;
		}
		trace_add(r->mail->trace, r->run.name, "would refuse <%s>: %d "
		    "%s", rcpt->recipient->address, v->code,
		    v->text != NULL ? v->text : "");
		outcome = MILTER_GOES_ON;
	}
	if (outcome == MILTER_GOES_ON && accepted == 0)
		return MILTER_DECIDED;
	*v = outcome == MILTER_GOES_ON ? VERDICT_CONTINUE : *v;
	return outcome;
}

static enum milter_outcome
tell_all(struct shadow_run *r, struct verdict *v)
{
	struct milter_session *s = r->session;
	enum milter_outcome outcome = milter_session_connect(s, v);
	bool half_done;

	if (outcome == MILTER_GOES_ON && r->mail->session->helo != NULL)
		outcome = milter_session_helo(s, v);
	if (outcome == MILTER_GOES_ON)
		outcome = milter_session_mail(s, r->mail, v);
	if (outcome == MILTER_GOES_ON)
		outcome = tell_rcpts(r, v);
	if (outcome == MILTER_GOES_ON)
		outcome = milter_session_data(s, v);
	if (outcome == MILTER_GOES_ON)
		outcome = milter_session_consult(s, &r->run, v, &half_done);
	return outcome;
}

/* A task. */
static void
ask(void *argument)
{
	struct shadow_run *r = argument;
	struct verdict v = VERDICT_CONTINUE;

	r->mail->deadline = task_deadline(
	    r->shadow->settings->total_timeout_ms);
	r->session = milter_session_new(r->shadow->settings,
	    r->mail->session);
	if (tell_all(r, &v) == MILTER_FAILED) {
		abandon(r, milter_session_stage(r->session),
		    r->failure != NULL ? r->failure :
		    milter_session_error(r->session));
	} else {
		r->quarantines = milter_session_show_edits(r->session,
		    &r->edits);
		judge(r, &v);
	}
	milter_session_free(&r->session);
	buf_release(&r->edits);
	mail_free(&r->mail);
	r->shadow->running--;
	r->shadow->bytes -= r->size;
	r->ended = true;
}

static void
on_ended(struct filter_run *run, const struct verdict *verdict)
{
	struct shadow *shadow = run->instance;
	struct note *note = run->mail_state;
	struct shadow_run *r = note != NULL ? note->run : NULL;

	sweep(shadow, false);
	if (r == NULL)
		return;
	if (shadow->running >= RUNS_MAX || (shadow->running > 0 &&
	    shadow->bytes + r->size > BYTES_MAX)) {
		abandon(r, "connect", "too many are under way");
		on_abort(run);
		return;
	}
	note->run = NULL;
	r->real = fate_of(verdict->action, run->mail->envelope.hold);
	r->next = shadow->runs;
	shadow->runs = r;
	shadow->running++;
	shadow->bytes += r->size;
	r->task = task_start(r->run.name, ask, r);
}

const struct filter filter_milter_shadow = {
	.name = "milter",
	.traits = FILTER_KEEPS,
	.setup = shadow_setup,
	.release = shadow_release,
	.mail = on_mail,
	.rcpt = on_rcpt,
	.rcpt_refused = on_rcpt_refused,
	.data = on_data,
	.consult = on_consult,
	.abort = on_abort,
	.ended = on_ended,
};
