/*
 * Compaction: what is left of an old segment is committed again, through the
 * relay's own writer, and is on stable storage before anything is unlinked.
 * The copy has the next generation, so that after a crash which left both the
 * newer one wins.  Several tasks copy at a time and share each fdatasync.
 */
#include "config.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/queue_internal.h"
#include "gateway/spool_internal.h"

#define TASKS 16
#define RETRY_MS (60 * 1000)

/*
 * Messages that nobody takes for days are noted as deferred time and again; the
 * journals stay as long as their segment, which may be full of such.  Copies
 * begin with a line or two in the present journal.
 */
#define JOURNALS_MAX 8

static bool
is_worth_it(const struct queue *q, const struct segment *s)
{
	int64_t began = (int64_t)(s->serial >> 20);	/* see segment_new */

	if (!s->ended || s->locked || s->keep || s->live == 0 ||
	    task_now() < s->compact_after)
		return false;
	return s->last_journal - s->first_journal >= JOURNALS_MAX ||
	    (s->live_bytes < s->size / 4 &&
	    clock_wall_ms() - began >= q->compact_age_ms);
}

static struct entry *
next_entry(struct queue *q)
{
	struct entry *e;

	for (e = q->compacting->first; e != NULL; e = e->after)
		if (e->pass != q->pass && !e->public.busy && !e->is_moving &&
		    e->readers == 0)
			break;
	if (e != NULL)
		e->pass = q->pass;
	return e;
}

static void
move_undo(struct queue *q, struct entry *e)
{
	bits_free(&e->moving, e->recipients);
	e->is_moving = false;
	if (!e->gone)
		return;
	/* It was done meanwhile, and only waited for its copy. */
	entry_unlink(q, e);
	if (e->large)
		large_remove(q, e->segment, e->public.id,
		    journal_position(q->journal));
	entry_free(q, e);
}

static bool
move(struct queue *q, struct entry *e)
{
	struct arena *arena = arena_new(16384);
	struct segment *s = q->compacting;
	struct message m;
	const char *why = NULL;
	int rc;

	bits_copy(&e->moving, &e->done, e->recipients);
	e->is_moving = true;
	rc = message_read(q, e, &m, arena, &why);
	if (rc == 0) {
		/* As it was read: the bits that it left out. */
		struct spool_copy copy = { .generation = e->generation + 1,
			.large = e->large, .size = m.record.content_len,
			.crc = m.record.content_crc };

		bits_free(&e->moving, e->recipients);
		bits_copy(&e->moving, &e->done, e->recipients);
		m.public.envelope.hold = e->public.hold;
		rc = spool_commit_copy(q->settings.compaction,
		    &m.public.envelope, m.public.content,
		    m.public.content_count, &copy, &why);
		message_release(&m);
	}
	if (rc != 0) {
		if (!e->gone)
			log_warn(NULL, "queue: cannot compact: %s", why);
		s->compact_after = task_deadline(RETRY_MS);
		move_undo(q, e);
	}
	arena_free(&arena);
	return rc == 0;
}

static void
run(void *argument)
{
	struct queue *q = argument;
	struct entry *e;

	while (!q->closing && (e = next_entry(q)) != NULL && move(q, e))
		continue;
	if (--q->compactors > 0)
		return;
	/* The copies are committed: this reads them, and moves the entries. */
	if (!q->closing)
		queue_poll(q);
	q->compacting = NULL;
	if (q->closing)
		queue_close(&q);
}

void
queue_compact(struct queue *q)
{
	struct segment *s = q->segments;

	if (q->settings.compaction == NULL || q->compacting != NULL)
		return;
	while (s != NULL && !is_worth_it(q, s))
		s = s->next;
	if (s == NULL)
		return;
	/* What is busy now is left for another time. */
	s->compact_after = task_deadline(RETRY_MS);
	q->compacting = s;
	q->pass++;
	q->compactors = s->live < TASKS ? (unsigned)s->live : TASKS;
	for (unsigned i = 0, n = q->compactors; i < n; i++)
		task_detach("compact", run, q);
}
