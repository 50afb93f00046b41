/* The queue: what queue.h promises. */
#include "config.h"

#include "gateway/queue.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/queue_internal.h"

#define COMPACT_AGE_MS (10 * 60 * 1000)
#define LOCK_TRIES 20
#define LOCK_PAUSE_MS 50

static const enum journal_type types[] = {
	[QUEUE_DELIVERED] = JOURNAL_DELIVERED,
	[QUEUE_BOUNCED] = JOURNAL_BOUNCED,
	[QUEUE_DEFERRED] = JOURNAL_DEFERRED,
	[QUEUE_DELETED] = JOURNAL_DELETED,
	[QUEUE_HELD] = JOURNAL_HELD,
	[QUEUE_RELEASED] = JOURNAL_RELEASED,
};

void
queue_note(struct queue *q, struct entry *e, enum journal_type type,
    uint32_t recipient)
{
	struct journal_record record = { .type = type,
		.generation = e->generation, .recipient = recipient,
		.attempts = e->public.attempts,
		.next_try_ms = e->public.next_try_ms };
	uint64_t serial;

	memcpy(record.id, e->public.id, sizeof(record.id));
	serial = journal_append(q->journal, &record);
	if (e->segment->first_journal == 0)
		e->segment->first_journal = serial;
	e->segment->last_journal = serial;
}

void
queue_finish(struct queue *q, struct entry *e)
{
	e->gone = true;
	entry_leave(e);
	if (e->is_moving)
		return;		/* its copy will come, and must find it */
	if (e->large)
		large_remove(q, e->segment, e->public.id,
		    journal_position(q->journal));
	entry_unlink(q, e);
	bits_free(&e->done, e->recipients);
	entry_free(q, e);
}

void
queue_forget(struct queue *q, struct entry *e)
{
	e->large = false;	/* its file was set aside, not to be unlinked */
	e->public.pending = 0;
	queue_finish(q, e);
}

/* --- opening --- */

static void
report(struct queue *q)
{
	queue_found_f *found = q->found;

	for (size_t i = 0; i < q->hash_size; i++)
		for (struct entry *e = q->hash[i], *next; e != NULL;
		    e = next) {
			next = e->next;
			found(&e->public, q->argument);
		}
}

/*
 * Two relays would deliver everything twice.  One whose master was killed may
 * need a moment to end.
 */
static int
lock(struct queue *q, const char **why)
{
	const struct timespec pause = { 0, LOCK_PAUSE_MS * 1000000L };

	for (int i = 0; i < LOCK_TRIES; i++) {
		if (flock(q->dir.journal, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EWOULDBLOCK)
			break;
		nanosleep(&pause, NULL);
	}
	*why = errno == EWOULDBLOCK ? "another process has the queue" :
	    strerrordesc_np(errno);
	return -1;
}

struct queue *
queue_open(const struct queue_settings *settings, queue_found_f *found,
    void *argument, const char **why)
{
	struct queue *q = calloc(1, sizeof(*q));

	assert(q != NULL);
	q->settings = *settings;
	q->settings.directory = NULL;
	q->found = found;
	q->argument = argument;
	q->last_removal = &q->removals;
	q->looked_for = calloc(settings->tail_count + 1,
	    sizeof(*q->looked_for));
	assert(q->looked_for != NULL);
	q->compact_age_ms = COMPACT_AGE_MS;
	q->orphans_after = task_now();
	if (spool_dir_open(&q->dir, settings->directory, true, why) != 0) {
		free(q->looked_for);
		free(q);
		return NULL;
	}
	q->replay = replay_new();
	if (lock(q, why) != 0 || (q->journal = journal_open(q->dir.journal,
	    replay_add, q->replay, why)) == NULL) {
		queue_close(&q);
		return NULL;
	}
	queue_discover(q);
	queue_read_all(q);
	replay_free(&q->replay);
	report(q);
	large_orphans(q);
	return q;
}

void
queue_close(struct queue **qp)
{
	struct queue *q = *qp;

	if (q == NULL)
		return;
	if (q->compacting != NULL) {
		q->closing = true;
		*qp = NULL;
		return;
	}
	journal_close(&q->journal);
	replay_free(&q->replay);
	large_free(q);
	index_free(q);
	segments_free(q);
	free(q->window);
	free(q->looked_for);
	spool_dir_close(&q->dir);
	free(q);
	*qp = NULL;
}

/*
 * A serial is looked for once: what is not there then was unlinked, and its
 * writer is idle, or has died and left its tail behind.
 */
static bool
knows_tails(struct queue *q)
{
	bool all = true;

	for (size_t i = 0; i < q->settings.tail_count; i++) {
		struct spool_tail tail = tail_load(&q->settings.tails[i]);
		struct segment *s = q->segments;

		if (tail.serial == 0 || tail.serial == q->looked_for[i])
			continue;
		while (s != NULL && (s->serial != tail.serial ||
		    !s->header_read))
			s = s->next;
		if (s != NULL)
			continue;
		q->looked_for[i] = tail.serial;
		all = false;
	}
	return all;
}

void
queue_poll(struct queue *q)
{
	if (q->settings.tails == NULL || q->compacting != NULL ||
	    !knows_tails(q))
		queue_discover(q);
	queue_read_all(q);
}

/* --- messages --- */

struct queue_message *
queue_get(struct queue *q, struct queue_entry *public, struct arena *arena,
    const char **why)
{
	struct entry *e = (struct entry *)public;
	struct message *m;

	if (e->gone) {
		*why = "it has left the queue";
		return NULL;
	}
	m = arena_alloc(arena, sizeof(*m));
	e->readers++;		/* so that it stays meanwhile */
	if (message_read(q, e, m, arena, why) == 0) {
		e->message = m;
		return &m->public;
	}
	e->readers--;
	entry_free(q, e);
	return NULL;
}

void
queue_put(struct queue *q, struct queue_message **messagep)
{
	struct message *m = (struct message *)*messagep;

	if (m == NULL)
		return;
	message_release(m);
	if (m->entry->message == m)
		m->entry->message = NULL;
	m->entry->readers--;
	entry_free(q, m->entry);
	*messagep = NULL;
}

/* --- outcomes --- */

/* Which of the record's recipients that is, or JOURNAL_ALL: none. */
static uint32_t
find_recipient(const struct entry *e, const struct message *m,
    const char *address)
{
	for (uint32_t i = 0; i < m->count; i++)
		if (m->all[i]->address == address)
			return i;
	/* The same address may stand there twice. */
	for (uint32_t i = 0; i < m->count; i++)
		if (!bits_get(&e->done, e->recipients, i) &&
		    strcmp(m->all[i]->address, address) == 0)
			return i;
	return JOURNAL_ALL;
}

static void
done_one(struct queue *q, struct entry *e, enum journal_type type,
    const char *address)
{
	struct arena *arena = NULL;
	struct message read, *m = e->message;
	const char *why;
	uint32_t i;
	int rc;

	if (m == NULL) {
		arena = arena_new(16384);
		m = &read;
		e->readers++;
		rc = message_read(q, e, m, arena, &why);
		e->readers--;
		if (rc != 0) {
			entry_free(q, e);
			arena_free(&arena);
			return;
		}
	}
	i = find_recipient(e, m, address);
	if (arena != NULL) {
		message_release(m);
		arena_free(&arena);
	}
	if (i >= e->recipients || bits_get(&e->done, e->recipients, i))
		return;
	bits_set(&e->done, e->recipients, i);
	e->public.pending--;
	queue_note(q, e, type, i);
	if (e->public.pending == 0)
		queue_finish(q, e);
}

static void
done_all(struct queue *q, struct entry *e, enum journal_type type)
{
	for (uint32_t i = 0; i < e->recipients; i++)
		bits_set(&e->done, e->recipients, i);
	e->public.pending = 0;
	queue_note(q, e, type, JOURNAL_ALL);
	queue_finish(q, e);
}

void
queue_record(struct queue *q, struct queue_entry *public,
    const char *recipient, enum queue_outcome outcome, int64_t next_try_ms)
{
	struct entry *e = (struct entry *)public;

	if (e->gone)
		return;
	switch (outcome) {
	case QUEUE_DELIVERED:
	case QUEUE_BOUNCED:
	case QUEUE_DELETED:
		if (recipient == NULL)
			done_all(q, e, types[outcome]);
		else
			done_one(q, e, types[outcome], recipient);
		return;
	case QUEUE_DEFERRED:
		public->attempts++;
		public->next_try_ms = next_try_ms;
		break;
	case QUEUE_HELD:
		public->hold = true;
		break;
	case QUEUE_RELEASED:
		public->hold = false;
		public->next_try_ms = 0;
		break;
	}
	queue_note(q, e, types[outcome], JOURNAL_ALL);
}

void
queue_release(struct queue *q, struct queue_entry *public)
{
	public->busy = false;
	entry_free(q, (struct entry *)public);
}

/* --- looking --- */

struct queue_entry *
queue_find(struct queue *q, const char *id)
{
	struct entry *e = entry_find(q, id);

	return e == NULL || e->gone ? NULL : &e->public;
}

void
queue_each(struct queue *q, void (*f)(struct queue_entry *, void *),
    void *argument)
{
	for (size_t i = 0; i < q->hash_size; i++)
		for (struct entry *e = q->hash[i], *next; e != NULL;
		    e = next) {
			next = e->next;
			if (!e->gone)
				f(&e->public, argument);
		}
}

size_t
queue_count(const struct queue *q)
{
	return q->count;
}

void
queue_maintain(struct queue *q)
{
	journal_maintain(q->journal);
	large_remove_due(q);
	queue_tend(q);
	large_orphans(q);
	queue_compact(q);
}
