/*
 * Lookers: filters that change nothing and decide nothing, each in a task of
 * its own beside the session, so that their look-ups overlap with the arrival
 * of the message and with each other.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "filters/chain_run.h"
#include "filters/trace.h"

bool
chain_looks(const struct chain_run *r)
{
	return (r->entry->filter->traits & FILTER_LOOKS) != 0;
}

int
chain_body_feed(struct filter_run *run, chain_piece_f *piece, size_t *offset,
    char *scratch, struct verdict *verdict)
{
	const char *bytes;
	ssize_t n;

	*verdict = VERDICT_CONTINUE;
	while ((n = body_read(run->mail->body, *offset, scratch,
	    &bytes)) > 0) {
		*verdict = piece(run, bytes, (size_t)n);
		*offset += (size_t)n;
		if (verdict->action != ACTION_CONTINUE)
			return 0;
	}
	return n < 0 ? -1 : 0;
}

/* Waits until the message has come so far; false: it ended otherwise. */
static bool
await(struct mail *mail, enum mail_stage stage)
{
	while (mail->stage < stage)
		if (task_cond_wait(&mail->progress, mail->deadline) == -1)
			return false;
	return mail->stage != MAIL_STAGE_ABORTED;
}

/* An event of a looker, timed.  False: it has seen enough. */
static bool
event(struct chain_run *r, struct verdict (*f)(struct filter_run *))
{
	int64_t begin = clock_us();
	struct verdict v;

	if (f == NULL)
		return true;
	v = f(&r->run);
	r->spent_us += clock_us() - begin;
	return v.action == ACTION_CONTINUE;
}

/* The body as it arrives.  False: no more events. */
static bool
look_at_body(struct chain_run *r)
{
	struct mail *mail = r->run.mail;
	struct verdict v = VERDICT_CONTINUE;
	size_t offset = 0;
	char *scratch;
	bool more;

	if (r->entry->filter->body == NULL)
		return true;
	if ((scratch = malloc(BODY_READ_MAX)) == NULL)
		fatal("out of memory (chain)");
	for (more = true; more;) {
		bool last = mail->stage >= MAIL_STAGE_COMPLETE;
		int64_t begin = clock_us();
		int rc = chain_body_feed(&r->run, r->entry->filter->body,
		    &offset, scratch, &v);

		r->spent_us += clock_us() - begin;
		if (rc == -1) {
			log_warn(&mail->log, "filter=%s: cannot read the "
			    "body: %s", r->run.name, strerror(errno));
			more = false;
		}
		if (v.action != ACTION_CONTINUE)
			more = false;
		if (last || !more)
			break;
		/* A piece may have waited: has the message gone on meanwhile? */
		if (mail->stage < MAIL_STAGE_COMPLETE &&
		    offset == body_size(mail->body) &&
		    task_cond_wait(&mail->progress, mail->deadline) == -1)
			more = false;
	}
	free(scratch);
	return more;
}

static void
look(void *argument)
{
	struct chain_run *r = argument;
	struct mail *mail = r->run.mail;
	const struct filter *f = r->entry->filter;

	if (!event(r, f->mail)) {
		r->looked = true;
		return;
	}
	if ((f->eoh == NULL && f->body == NULL) ||
	    (await(mail, MAIL_STAGE_BODY) && event(r, f->eoh))) {
		if (look_at_body(r) && await(mail, MAIL_STAGE_COMPLETE)) {
			r->finished = true;
			event(r, f->eom);
			r->looked = true;
		}
	}
}

void
chain_looker_start(struct chain_run *r)
{
	r->looked = false;
	r->task = task_start(r->run.name, look, r);
}

void
chain_looker_finish(struct chain_run *r, int64_t deadline)
{
	if (r->task == NULL)
		return;
	if (task_join(&r->task, deadline) == -1) {
		log_warn(&r->run.mail->log, "filter=%s: no result in time",
		    r->run.name);
		trace_add(r->run.mail->trace, r->run.name,
		    "no result in time");
		counter_add(r->entry->late, 1);
		task_reap(&r->task);
	}
	/* Silence would be taken for "nothing there": dmarc reads this. */
	if (!r->looked && r->run.findings == NULL)
		finding_add(&r->run, r->entry->filter->name, "temperror",
		    "no result in time")->report = true;
}
