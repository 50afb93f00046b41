/*
 * Consultations: a filter that can be shown a view of the message, and say what
 * it thinks of it before anything is changed.  Where nothing before it changes
 * header or body, it sees them while they arrive.  Should they be others after
 * all when its turn comes, it is asked once more.
 */
#include "filters/chain_run.h"
#include "filters/view.h"

static bool
is_consulted(const struct chain_run *r)
{
	return r->entry->filter->consult != NULL && chain_is_serial(r);
}

/* Tasks wait for the header first: a message may be over before. */
void
chain_consult_early(struct chain *chain)
{
	struct chain_run *r = chain->runs;

	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		if (!r->entry->streams || !is_consulted(r))
			continue;
		r->asked = r->entry->filter->consult;
		chain_ask_start(r);
	}
}

/*
 * What lookers read stays as it came until they are done, so forged fields are
 * taken out of a copy.
 */
static struct view *
clean_view(struct chain *chain)
{
	struct mail copy = *chain->mail;
	struct chain_run *r = chain->runs;

	copy.trace = NULL;
	view_copy_headers(&chain->mail->headers, copy.arena, &copy.headers);
	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		if (r->entry->filter->clean == NULL || !chain_is_serial(r))
			continue;
		r->run.mail = &copy;
		r->entry->filter->clean(&r->run);
		r->run.mail = chain->mail;
	}
	return view_take(&copy.headers, copy.arena);
}

void
chain_consult_header(struct chain *chain)
{
	struct chain_run *r = chain->runs;
	struct view *view = NULL;

	for (size_t i = 0; i < chain->plan->count; i++, r++) {
		if (r->asked == NULL || r->run.view != NULL)
			continue;
		if (view == NULL)
			view = clean_view(chain);
		r->run.view = view;
	}
}

/* Its turn: the view that it saw must be what the message is now. */
static void
take_turn(struct chain_run *r, struct view **view)
{
	struct mail *mail = r->run.mail;

	if (r->task != NULL && (r->run.view == NULL ||
	    !view_holds(r->run.view, &mail->headers)))
		task_reap(&r->task);
	if (r->task == NULL) {
		if (*view == NULL)
			*view = view_take(&mail->headers, mail->arena);
		r->run.view = *view;
		r->asked = r->entry->filter->consult;
	}
	r->run.turn = true;
}

void
chain_consult(struct chain *chain, size_t from, size_t to)
{
	struct view *view = NULL;

	for (size_t i = from; i < to; i++) {
		struct chain_run *r = &chain->runs[i];

		if (is_consulted(r))
			take_turn(r, &view);
	}
	task_cond_broadcast(&chain->mail->progress);
	chain_ask(chain, from, to, chain->mail->deadline);
}

void
chain_tell_end(struct chain *chain, const struct verdict *verdict)
{
	struct chain_run *r = chain->runs;

	for (size_t i = 0; i < chain->plan->count; i++, r++)
		if (r->began && r->entry->filter->ended != NULL)
			r->entry->filter->ended(&r->run, verdict);
}
