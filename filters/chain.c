/*
 * The chain: events in, one verdict out.  Filters that only look run in tasks
 * (chain_looker.c); all others are called here, one after the other, so that
 * each sees the message as those before it left it.
 */
#include "filters/chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "filters/chain_run.h"
#include "filters/trace.h"

const char *const chain_action_names[CHAIN_ACTIONS] = {
	[ACTION_CONTINUE] = "continue", [ACTION_ACCEPT] = "accept",
	[ACTION_DISCARD] = "discard", [ACTION_TEMPFAIL] = "tempfail",
	[ACTION_REJECT] = "reject", [ACTION_DISCONNECT] = "disconnect",
};

bool
chain_is_final(struct verdict v)
{
	return v.action != ACTION_CONTINUE && v.action != ACTION_ACCEPT;
}

bool
chain_is_serial(const struct chain_run *r)
{
	return !r->left && r->began && !r->finished && !chain_looks(r);
}

struct chain *
chain_new(const struct chain_plan *plan, struct session *session)
{
	struct chain *chain = calloc(1, sizeof(*chain) +
	    plan->count * sizeof(chain->runs[0]));

	if (chain == NULL)
		fatal("out of memory (chain)");
	chain->plan = plan;
	chain->session = session;
	for (size_t i = 0; i < plan->count; i++) {
		struct chain_run *r = &chain->runs[i];

		r->entry = &plan->entries[i];
		r->chain = chain;
		r->run.filter = r->entry->filter;
		r->run.name = r->entry->name;
		r->run.instance = r->entry->instance;
		r->run.session = session;
	}
	return chain;
}

static void
leave_session(struct chain_run *r)
{
	if (r->left)
		return;
	r->left = true;
	if (r->entry->filter->close != NULL)
		r->entry->filter->close(&r->run);
}

void
chain_free(struct chain **chainp)
{
	struct chain *chain = *chainp;

	*chainp = NULL;
	if (chain == NULL)
		return;
	chain_abort(chain);
	for (size_t i = 0; i < chain->plan->count; i++)
		leave_session(&chain->runs[i]);
	free(chain);
}

/* The filter sees no more of the message, and forgets it. */
static void
drop_out(struct chain_run *r)
{
	if (!r->began || r->finished)
		return;
	r->finished = true;
	task_reap(&r->task);
	if (r->entry->filter->abort != NULL)
		r->entry->filter->abort(&r->run);
}

static void
end_message(struct chain *chain)
{
	struct chain_run *r = chain->runs;

	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		task_reap(&r->task);
		drop_out(r);
		if (r->began)
			histogram_observe(r->entry->seconds, r->spent_us);
		r->began = false;
		r->run.mail = NULL;
		r->run.findings = NULL;
		r->run.view = NULL;
		r->run.turn = false;
		r->asked = NULL;
	}
	chain->mail = NULL;
	chain->judged = false;
}

void
chain_end(struct chain *chain, const struct verdict *verdict)
{
	if (chain->mail == NULL)
		return;
	if (chain->judged)
		chain_tell_end(chain, verdict);
	end_message(chain);
}

void
chain_abort(struct chain *chain)
{
	static const struct verdict comes_again = { .action =
	    ACTION_TEMPFAIL };

	chain_end(chain, &comes_again);
}

static void
report(struct chain_run *r, const char *event, const struct verdict *v)
{
	struct mail *mail = r->run.mail;
	const char *action = chain_action_names[v->action];
	const char *text = v->text != NULL ? v->text : "";

	counter_add(r->entry->outcomes[v->action], 1);
	if (v->action == ACTION_CONTINUE)
		return;
	if (mail != NULL)
		trace_add(mail->trace, r->run.name, "%s: %s %d %s", event,
		    action, v->code, text);
	log_info(mail != NULL ? &mail->log : &r->run.session->log,
	    "filter=%s stage=%s action=%s reason=%s text=\"%s\"", r->run.name,
	    event, action, v->reason != NULL ? v->reason : "", text);
}

/* Whatever else comes of the message. */
static void
hold(const struct chain_run *r, const char *event, const struct verdict *v)
{
	struct mail *mail = r->run.mail;

	if (v->hold == NULL || mail == NULL)
		return;
	mail->envelope.hold = true;
	mail->envelope.hold_reason = v->hold;
	trace_add(mail->trace, r->run.name, "%s: hold %s", event, v->hold);
	log_info(&mail->log, "filter=%s stage=%s action=hold reason=%s "
	    "text=\"%s\"", r->run.name, event, v->reason != NULL ?
	    v->reason : "", v->hold);
}

/* What a verdict means for the filter itself; returns what others see. */
static struct verdict
settle(struct chain_run *r, const char *event, struct verdict v)
{
	hold(r, event, &v);
	if (v.action == ACTION_CONTINUE)
		return v;
	v.filter = r->run.name;
	report(r, event, &v);
	if (v.action != ACTION_ACCEPT)
		return v;
	if (r->run.mail == NULL)
		leave_session(r);
	else
		drop_out(r);
	return VERDICT_CONTINUE;
}

/* The event that stands at that offset in struct filter. */
static chain_event_f *
event_at(const struct chain_run *r, size_t offset)
{
	return *(chain_event_f *const *)((const char *)r->entry->filter +
	    offset);
}

/* An event for the filters [from, to), one of which may decide. */
static struct verdict
unit_event(struct chain *chain, size_t from, size_t to, const char *name,
    size_t offset)
{
	/* Their tasks are not to be waited for here. */
	if (chain_looks(&chain->runs[from]))
		return VERDICT_CONTINUE;
	for (size_t i = from; i < to; i++) {
		struct chain_run *r = &chain->runs[i];
		bool wanted = chain->mail != NULL ? chain_is_serial(r) :
		    !r->left;

		r->asked = wanted ? event_at(r, offset) : NULL;
	}
	chain_ask(chain, from, to, DEADLINE_NEVER);
	for (size_t i = from; i < to; i++) {
		struct chain_run *r = &chain->runs[i];
		struct verdict v = settle(r, name, r->verdict);

		if (v.action == ACTION_DISCARD && chain->mail == NULL)
			log_warn(&chain->session->log, "filter=%s stage=%s: "
			    "discard before MAIL is ignored", r->run.name,
			    name);
		else if (chain_is_final(v))
			return v;
	}
	return VERDICT_CONTINUE;
}

/* An event for all, in order. */
static struct verdict
event_for_all(struct chain *chain, const char *name, size_t offset)
{
	struct verdict v = VERDICT_CONTINUE;
	size_t end;

	for (size_t i = 0; i < chain->plan->count && !chain_is_final(v);
	    i = end) {
		end = chain_group_end(chain->plan, i);
		v = unit_event(chain, i, end, name, offset);
	}
	return v;
}

/* --- before MAIL --- */

static struct verdict
session_event(struct chain *chain, const char *name, size_t offset)
{
	if (!chain_is_final(chain->held))
		chain->held = event_for_all(chain, name, offset);
	return chain->held;
}

struct verdict
chain_connect(struct chain *chain)
{
	return session_event(chain, "connect",
	    offsetof(struct filter, connect));
}

struct verdict
chain_helo(struct chain *chain)
{
	return session_event(chain, "helo",
	    offsetof(struct filter, helo));
}

struct verdict
chain_unknown(struct chain *chain, const char *line)
{
	struct chain_run *r = chain->runs;

	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		struct verdict v;

		if (r->entry->filter->unknown == NULL || r->left)
			continue;
		v = r->entry->filter->unknown(&r->run, line);
		if (!chain_is_final(v) || v.action == ACTION_DISCARD)
			continue;
		v.filter = r->run.name;
		return v;
	}
	return VERDICT_CONTINUE;
}

/* --- the message --- */

/*
 * A final verdict ends the message for all filters.  After a discard the
 * client goes on sending, so the chain stays in the message, silent.
 */
static struct verdict
conclude(struct chain *chain, struct verdict v)
{
	struct chain_run *r = chain->runs;

	if (v.action == ACTION_DISCARD) {
		chain->discarded = v;
		for (size_t i = 0; i < chain->plan->count; i++, r++)
			drop_out(r);
		return v;
	}
	end_message(chain);
	return v;
}

static void
begin_message(struct chain *chain, struct mail *mail)
{
	struct chain_run *r = chain->runs;

	chain_abort(chain);
	chain->mail = mail;
	chain->complete_us = 0;
	chain->discarded = VERDICT_CONTINUE;
	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		r->run.mail = mail;
		r->run.mail_state = NULL;
		r->run.findings = NULL;
		r->began = r->finished = false;
		r->spent_us = 0;
	}
}

struct verdict
chain_mail(struct chain *chain, struct mail *mail)
{
	struct verdict v = VERDICT_CONTINUE;
	size_t end;

	if (chain_is_final(chain->held))
		return chain->held;
	begin_message(chain, mail);
	for (size_t i = 0; i < chain->plan->count; i = end) {
		end = chain_group_end(chain->plan, i);
		for (size_t j = i; j < end; j++) {
			struct chain_run *r = &chain->runs[j];

			r->began = !r->left;
			if (r->began && chain_looks(r))
				chain_looker_start(r);
		}
		v = unit_event(chain, i, end, "mail",
		    offsetof(struct filter, mail));
		if (chain_is_final(v))
			return conclude(chain, v);
	}
	return VERDICT_CONTINUE;
}

struct verdict
chain_rcpt(struct chain *chain, struct recipient *recipient)
{
	struct chain_run *r = chain->runs;

	if (chain->mail == NULL)
		return VERDICT_CONTINUE;
	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		struct verdict v;
		int64_t begin;

		if (!chain_is_serial(r) || r->entry->filter->rcpt == NULL)
			continue;
		begin = clock_us();
		v = r->entry->filter->rcpt(&r->run, recipient);
		r->spent_us += clock_us() - begin;
		v = settle(r, "rcpt", v);
		if (v.action == ACTION_DISCARD ||
		    v.action == ACTION_DISCONNECT)
			return conclude(chain, v);
		/* Later filters do not hear of a refused recipient. */
		if (chain_is_final(v))
			return v;
	}
	return VERDICT_CONTINUE;
}

void
chain_rcpt_refused(struct chain *chain, struct recipient *recipient, int code,
    const char *text)
{
	struct chain_run *r = chain->runs;

	for (size_t i = 0; i < chain->plan->count; i++, r++)
		if (chain_is_serial(r) && r->entry->filter->rcpt_refused != NULL)
			r->entry->filter->rcpt_refused(&r->run, recipient,
			    code, text);
}

struct verdict
chain_data(struct chain *chain)
{
	struct verdict v;

	if (chain->mail == NULL)
		return VERDICT_CONTINUE;
	v = event_for_all(chain, "data", offsetof(struct filter, data));
	if (chain_is_final(v))
		return conclude(chain, v);
	chain_consult_early(chain);
	return VERDICT_CONTINUE;
}

/* The stage is the message's, whoever drives us. */
static void
advance(struct chain *chain, enum mail_stage stage)
{
	struct mail *mail = chain->mail;

	if (mail->stage < stage)
		mail->stage = stage;
	task_cond_broadcast(&mail->progress);
}

void
chain_header_done(struct chain *chain)
{
	if (chain->mail == NULL)
		return;
	chain_consult_header(chain);
	advance(chain, MAIL_STAGE_BODY);
}

void
chain_body_grown(struct chain *chain)
{
	if (chain->mail != NULL)
		task_cond_broadcast(&chain->mail->progress);
}

/* --- its end --- */

/* An event without argument of one serial filter, timed. */
static struct verdict
message_event(struct chain_run *r, const char *name, chain_event_f *f)
{
	int64_t begin;
	struct verdict v;

	if (f == NULL || !chain_is_serial(r))
		return VERDICT_CONTINUE;
	begin = clock_us();
	v = f(&r->run);
	r->spent_us += clock_us() - begin;
	return settle(r, name, v);
}

/* The content for one serial filter, up to its eom. */
static struct verdict
feed(struct chain_run *r)
{
	const struct filter *f = r->entry->filter;
	struct verdict v = message_event(r, "eoh", f->eoh);
	size_t offset = 0;
	int64_t begin;
	char *scratch;
	int rc;

	if (chain_is_final(v) || f->body == NULL || !chain_is_serial(r))
		return v;
	if ((scratch = malloc(BODY_READ_MAX)) == NULL)
		fatal("out of memory (chain)");
	begin = clock_us();
	rc = chain_body_feed(&r->run, f->body, &offset, scratch, &v);
	r->spent_us += clock_us() - begin;
	free(scratch);
	if (rc == -1) {
		log_error(&r->run.mail->log, "filter=%s: cannot read the "
		    "body: %s", r->run.name, strerror(errno));
		v = (struct verdict){ .action = ACTION_TEMPFAIL, .code = 451,
		    .enhanced = "4.3.0", .text = "Local error",
		    .reason = "body-unreadable" };
	}
	return settle(r, "body", v);
}

static struct verdict
finish(struct chain_run *r)
{
	struct verdict v = feed(r);
	int64_t begin = clock_us();

	if (chain_is_final(v) || !chain_is_serial(r))
		return v;
	r->finished = true;
	if (r->entry->filter->eom != NULL)
		v = r->entry->filter->eom(&r->run);
	r->spent_us += clock_us() - begin;
	if (v.action == ACTION_CONTINUE)
		report(r, "eom", &v);
	return settle(r, "eom", v);
}

/* Changes are made when all of the group agree, in order. */
static struct verdict
finish_consulted(struct chain *chain, size_t from, size_t to)
{
	chain_consult(chain, from, to);
	for (size_t i = from; i < to; i++) {
		struct chain_run *r = &chain->runs[i];
		struct verdict v = settle(r, "eom", r->verdict);

		if (chain_is_final(v))
			return v;
	}
	for (size_t i = from; i < to; i++) {
		struct chain_run *r = &chain->runs[i];

		if (!chain_is_serial(r))
			continue;
		r->finished = true;
		report(r, "eom", &r->verdict);
		if (r->entry->filter->apply != NULL)
			r->entry->filter->apply(&r->run);
	}
	return VERDICT_CONTINUE;
}

static struct verdict
finish_unit(struct chain *chain, size_t from, size_t to)
{
	struct chain_run *r = &chain->runs[from];

	if (r->entry->filter->consult != NULL)
		return finish_consulted(chain, from, to);
	if (!chain_looks(r))
		return chain_is_serial(r) ? finish(r) : VERDICT_CONTINUE;
	if (r->began)
		report(r, "eom", &(const struct verdict){
		    .action = ACTION_CONTINUE });
	return VERDICT_CONTINUE;
}

static void
end_turn(struct chain_run *r)
{
	if (!r->began)
		return;
	findings_merge(&r->run);
	if (r->spent_us >= 1000)
		trace_add(r->run.mail->trace, r->run.name, "took %.1fms",
		    (double)r->spent_us / 1000);
}

/*
 * Lookers come first: what they read must not change under them.  Their
 * findings still count at their place in the order.
 */
static struct verdict
finish_all(struct chain *chain)
{
	struct mail *mail = chain->mail;
	struct verdict v = VERDICT_CONTINUE;
	struct chain_run *r;
	size_t i, end;

	for (i = 0, r = chain->runs; i < chain->plan->count; i++, r++)
		if (chain_looks(r))
			chain_looker_finish(r, mail->deadline);
	for (i = 0, r = chain->runs; i < chain->plan->count; i++, r++)
		if (chain_is_serial(r) && r->entry->filter->clean != NULL)
			r->entry->filter->clean(&r->run);
	for (i = 0; i < chain->plan->count && !chain_is_final(v); i = end) {
		end = chain_group_end(chain->plan, i);
		v = finish_unit(chain, i, end);
		for (; i < end; i++)
			end_turn(&chain->runs[i]);
	}
	return v;
}

struct verdict
chain_judge(struct chain *chain)
{
	struct mail *mail = chain->mail;
	struct verdict v;

	if (mail == NULL)
		return VERDICT_CONTINUE;
	if (chain->discarded.action == ACTION_DISCARD) {
		v = chain->discarded;
		end_message(chain);
		return v;
	}
	chain->complete_us = clock_us();
	chain_consult_header(chain);
	advance(chain, MAIL_STAGE_COMPLETE);
	v = finish_all(chain);
	if (!chain_is_final(v) && mail->envelope.recipients == NULL) {
		log_info(&mail->log, "filters removed all recipients");
		v = (struct verdict){ .action = ACTION_DISCARD,
		    .reason = "no-recipients" };
	}
	chain->judged = true;
	return v;
}

struct verdict
chain_eom(struct chain *chain)
{
	struct verdict v = chain_judge(chain);

	chain_end(chain, &v);
	return v;
}
