/*
 * Which segments there are, and how far each may be read.
 *
 * A writer locks its segment (flock), so one that is not locked is complete.
 * What a writer has committed stands in its tail, in shared memory.  Once it
 * went on to another segment, the header of that says where this one ended.
 */
#include "config.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/queue_internal.h"
#include "gateway/spool_calls.h"
#include "gateway/spool_internal.h"

#define STALE_SECONDS 60	/* files that never became segments */

static struct segment *
find_segment(struct queue *q, const char *writer, uint64_t serial)
{
	for (struct segment *s = q->segments; s != NULL; s = s->next)
		if (s->serial == serial &&
		    (writer == NULL || strcmp(s->writer, writer) == 0))
			return s;
	return NULL;
}

static uint64_t
file_size(const struct segment *s)
{
	struct stat st;

	return s->fd != -1 && fstat(s->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

/* True, too, if it cannot be told. */
static bool
has_writer(struct queue *q, struct segment *s)
{
	if (segment_open(q, s) != 0 || flock(s->fd, LOCK_SH | LOCK_NB) == -1)
		return true;
	flock(s->fd, LOCK_UN);
	return false;
}

/* In order of serials: what a writer wrote first is read first. */
static void
add_segment(struct queue *q, const char *writer, uint64_t serial)
{
	struct segment *s = calloc(1, sizeof(*s)), **p = &q->segments;

	assert(s != NULL);
	memcpy(s->writer, writer, sizeof(s->writer));
	s->serial = serial;
	s->fd = -1;
	s->end = UINT64_MAX;
	s->locked = true;
	while (*p != NULL && (*p)->serial < serial)
		p = &(*p)->next;
	s->next = *p;
	*p = s;
}

static void
remove_segment(struct queue *q, struct segment *s)
{
	struct segment **p = &q->segments;

	while (*p != s)
		p = &(*p)->next;
	*p = s->next;
	if (q->window_segment == s)
		q->window_segment = NULL;
	if (s->fd != -1)
		close(s->fd);
	free(s);
}

/* What a writer left that died between making a file and locking it. */
static void
remove_stale(struct queue *q, const char *name)
{
	struct stat st;
	int fd = spool_file_open(q->dir.segments, name, O_RDONLY);

	if (fd == -1)
		return;
	if (fstat(fd, &st) == 0 && st.st_mtime + STALE_SECONDS < time(NULL) &&
	    flock(fd, LOCK_SH | LOCK_NB) == 0)
		spool_calls.unlinkat(q->dir.segments, name, 0);
	close(fd);
}

static void
list_directory(struct queue *q)
{
	int fd = openat(q->dir.segments, ".", O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC);
	char writer[SEGMENT_WRITER_SIZE];
	struct dirent *entry;
	uint64_t serial;
	DIR *dir;

	if (fd == -1 || (dir = fdopendir(fd)) == NULL) {
		log_error(NULL, "queue: cannot read segments/: %s",
		    strerror(errno));
		if (fd != -1)
			close(fd);
		return;
	}
	while ((entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (entry->d_name[0] == '.')
			continue;
		if (segment_name_parse(entry->d_name, writer, &serial)) {
			if (find_segment(q, writer, serial) == NULL)
				add_segment(q, writer, serial);
		} else if (len > 8 &&
		    strcmp(entry->d_name + len - 8, ".seg.new") == 0) {
			remove_stale(q, entry->d_name);
		} else if (q->replay != NULL) {		/* once a start */
			log_warn(NULL, "queue: segments/%s is not ours, left",
			    entry->d_name);
		}
	}
	closedir(dir);
}

/*
 * The committer writes the header with the first group.  A file that has none
 * and no writer either held no message that anybody was told 250 for, unless
 * the header was damaged.
 */
static void
take_header(struct queue *q, struct segment *s)
{
	bool locked = has_writer(q, s);
	char name[SPOOL_NAME_SIZE];
	const char *why;

	if (segment_header_read(q, s, &why) == 0) {
		s->locked = locked;
		return;
	}
	if (s->fd == -1) {
		s->gone = segment_open(q, s) == -1 && errno == ENOENT;
		s->keep = !s->gone;
		if (s->keep)
			log_error(NULL, "queue: segment=%s-%016" PRIx64
			    " cannot be opened: %s", s->writer, s->serial,
			    why);
		return;
	}
	if (locked)
		return;
	if (file_size(s) > SEGMENT_HEADER_SIZE) {
		segment_set_aside_file(q, s, why);
		return;
	}
	segment_name_print(name, s->writer, s->serial);
	spool_calls.unlinkat(q->dir.segments, name, 0);
	s->gone = true;
}

void
queue_discover(struct queue *q)
{
	struct segment *s, *next, *previous;

	list_directory(q);
	for (s = q->segments; s != NULL; s = next) {
		next = s->next;
		if (s->header_read || s->keep)
			continue;
		take_header(q, s);
		if (s->gone)
			remove_segment(q, s);
	}
	for (s = q->segments; s != NULL; s = s->next) {
		if (!s->header_read || s->previous == 0)
			continue;
		previous = find_segment(q, s->writer, s->previous);
		if (previous != NULL && s->previous_end < previous->end)
			previous->end = s->previous_end;
	}
}

/* --- how far --- */

struct spool_tail
tail_load(const struct spool_tail *shared)
{
	struct spool_tail tail;

	do {
		tail.serial = __atomic_load_n(&shared->serial,
		    __ATOMIC_ACQUIRE);
		tail.committed = __atomic_load_n(&shared->committed,
		    __ATOMIC_ACQUIRE);
	} while (__atomic_load_n(&shared->serial, __ATOMIC_ACQUIRE) !=
	    tail.serial);
	return tail;
}

/* The i-th tail; the last is that of our own writer. */
static bool
tail_at(struct queue *q, size_t i, struct spool_tail *tail)
{
	if (i < q->settings.tail_count && q->settings.tails != NULL) {
		*tail = tail_load(&q->settings.tails[i]);
		return true;
	}
	if (i > q->settings.tail_count || q->settings.compaction == NULL)
		return false;
	*tail = spool_position(q->settings.compaction);
	return true;
}

static bool
tail_limit(struct queue *q, const struct segment *s, uint64_t *limit)
{
	struct spool_tail tail;

	for (size_t i = 0; i <= q->settings.tail_count; i++)
		if (tail_at(q, i, &tail) && tail.serial == s->serial) {
			*limit = tail.committed;
			return true;
		}
	return false;
}

/* False: nothing may be read now. */
static bool
segment_limit(struct queue *q, struct segment *s, uint64_t *limit,
    bool *whole)
{
	*whole = true;
	if (!s->header_read)
		return false;
	if (s->end != UINT64_MAX) {
		*limit = s->end;
		return true;
	}
	if (s->locked && tail_limit(q, s, limit))
		return true;
	if (s->locked && q->settings.tails != NULL)
		return false;
	*whole = !s->locked;
	if (segment_open(q, s) != 0)
		return false;
	*limit = file_size(s);
	return true;
}

void
queue_read_all(struct queue *q)
{
	uint64_t limit;
	bool whole;

	for (struct segment *s = q->segments; s != NULL; s = s->next) {
		if (s->ended || !segment_limit(q, s, &limit, &whole))
			continue;
		if (s->offset < limit)
			segment_read(q, s, limit, whole);
		if (s->end != UINT64_MAX || !s->locked) {
			s->ended = true;
			s->size = file_size(s);
		}
	}
}

/* --- messages --- */

/*
 * A copy that compaction made takes the entry over.  Recipients were numbered
 * anew, those left out that were done when it was copied; what was done since
 * is noted again for the copy.
 */
static void
relocate(struct queue *q, struct entry *e, struct segment *s,
    const struct record *record, uint32_t recipients)
{
	union bits old = e->done;
	uint32_t old_count = e->recipients, to = 0;

	queue_note(q, e, JOURNAL_MOVED, JOURNAL_ALL);
	if (!e->gone)
		entry_leave(e);
	e->gone = false;
	entry_enter(e, s, record);
	e->recipients = recipients;
	bits_alloc(&e->done, recipients);
	e->public.pending = recipients;
	for (uint32_t i = 0; e->is_moving && i < old_count; i++) {
		if (bits_get(&e->moving, old_count, i))
			continue;
		if (e->message != NULL && i < e->message->count)
			e->message->all[to] = e->message->all[i];
		if (to < recipients && bits_get(&old, old_count, i)) {
			bits_set(&e->done, recipients, to);
			e->public.pending--;
			queue_note(q, e, JOURNAL_DELIVERED, to);
		}
		to++;
	}
	if (e->message != NULL)
		e->message->count = to;
	bits_free(&old, old_count);
	if (e->is_moving)
		bits_free(&e->moving, old_count);
	e->is_moving = false;
	if (e->public.pending == 0) {
		queue_finish(q, e);
		return;
	}
	if (e->public.attempts > 0 || e->public.next_try_ms > 0)
		queue_note(q, e, JOURNAL_DEFERRED, JOURNAL_ALL);
	queue_note(q, e, e->public.hold ? JOURNAL_HELD : JOURNAL_RELEASED,
	    JOURNAL_ALL);
}

/* At a start, when a crash left both. */
static void
replace(struct queue *q, struct entry *e, struct segment *s,
    const struct record *record, uint32_t recipients)
{
	(void)q;
	entry_leave(e);
	bits_free(&e->done, e->recipients);
	entry_enter(e, s, record);
	e->recipients = recipients;
	bits_alloc(&e->done, recipients);
}

static void
apply(struct entry *e, const struct envelope *envelope,
    const struct replay_state *state)
{
	e->public.pending = 0;
	for (uint32_t i = 0; i < e->recipients; i++) {
		if (i / 64 < state->word_count &&
		    state->words[i / 64] >> i % 64 & 1)
			bits_set(&e->done, e->recipients, i);
		else
			e->public.pending++;
	}
	e->public.arrived_ms = envelope->arrived_ms;
	e->public.hold = state->hold_known ? state->hold : envelope->hold;
	e->public.attempts = state->attempts;
	e->public.next_try_ms = state->next_try_ms;
}

/* Takes what the journals say.  False: nothing is left to do. */
static bool
consult(struct queue *q, struct segment *s, const struct record *record,
    const struct envelope *envelope, struct replay_state *state)
{
	memset(state, 0, sizeof(*state));
	if (q->replay == NULL || !replay_find(q->replay, envelope->id,
	    record->generation, state))
		return true;
	if (state->first_journal != 0 && (s->first_journal == 0 ||
	    state->first_journal < s->first_journal))
		s->first_journal = state->first_journal;
	if (state->last_journal > s->last_journal)
		s->last_journal = state->last_journal;
	if (state->newer)
		return false;
	if (state->all && record->type == RECORD_LARGE)
		large_remove(q, s, envelope->id, 0);
	return !state->all;
}

void
queue_accept(struct queue *q, struct segment *s, const struct record *record,
    const struct envelope *envelope, size_t recipients)
{
	struct entry *e = entry_find(q, envelope->id);
	struct replay_state state;
	bool found = e != NULL;

	if (!consult(q, s, record, envelope, &state))
		return;
	if (found && e->generation >= record->generation)
		return;		/* an older copy */
	if (found && q->replay == NULL) {
		relocate(q, e, s, record, (uint32_t)recipients);
		return;
	}
	if (record->type == RECORD_LARGE &&
	    !large_exists(q, envelope->id, record->content_len)) {
		large_set_aside(q, envelope->id);
		segment_set_aside(q, s, record->offset,
		    record->offset + record_length(record),
		    "its file in large/ is missing or cut");
		return;
	}
	if (found) {
		replace(q, e, s, record, (uint32_t)recipients);
	} else {
		e = entry_new(q, envelope->id, (uint32_t)recipients);
		entry_enter(e, s, record);
		entry_link(q, e);
	}
	e->public.size = record->content_len > UINT32_MAX ? UINT32_MAX :
	    (uint32_t)record->content_len;
	apply(e, envelope, &state);
	if (e->public.pending == 0)
		queue_finish(q, e);
	else if (q->replay == NULL)
		q->found(&e->public, q->argument);
}

/* --- looking after them --- */

/*
 * The header of the next one says where this one ends; that must not be
 * forgotten while more stands in the file.
 */
static bool
guards(struct queue *q, const struct segment *s)
{
	const struct segment *previous = s->previous == 0 ? NULL :
	    find_segment(q, s->writer, s->previous);

	return previous != NULL && previous->size > previous->end;
}

static bool
is_done(struct queue *q, const struct segment *s)
{
	return s->ended && s->live == 0 && s->users == 0 && !s->locked &&
	    !s->keep && s != q->compacting && !guards(q, s);
}

static bool
journal_needed(uint64_t serial, void *argument)
{
	struct queue *q = argument;

	for (struct segment *s = q->segments; s != NULL; s = s->next)
		if (s->first_journal <= serial && serial <= s->last_journal &&
		    s->first_journal != 0)
			return true;
	return false;
}

void
queue_tend(struct queue *q)
{
	char name[SPOOL_NAME_SIZE];
	struct segment *s, *next;
	int fd;

	for (s = q->segments; s != NULL; s = s->next)
		if (s->locked && s->header_read)
			s->locked = has_writer(q, s);
	/* After that: who gave up a lock may have begun another. */
	queue_discover(q);
	queue_read_all(q);
	for (s = q->segments; s != NULL; s = next) {
		next = s->next;
		if (!is_done(q, s))
			continue;
		segment_name_print(name, s->writer, s->serial);
		fd = s->fd;
		s->fd = -1;
		if (spool_unlink(q->dir.segments, name, fd) == -1)
			log_error(NULL, "queue: cannot unlink %s: %s", name,
			    strerror(errno));
		else
			remove_segment(q, s);
	}
	journal_drop(q->journal, journal_needed, q);
	segments_trim(q);
}

void
segments_free(struct queue *q)
{
	while (q->segments != NULL)
		remove_segment(q, q->segments);
}
