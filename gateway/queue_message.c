/*
 * Reading a message: one pread for a small one, whose content is then in
 * memory; a large one's content stays in its file, and is only checked.
 */
#include "config.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/crc32c.h"
#include "gateway/queue_internal.h"
#include "gateway/spool_envelope.h"

#define MEMORY_MAX (256u << 10)		/* records up to here: one pread */
#define CHECK_SIZE (64u << 10)
#define YIELD_BYTES (1u << 20)		/* about 1 ms of reading */

enum reading { READING_OK, READING_CORRUPT, READING_ERROR };

static enum reading
read_exactly(int fd, void *bytes, size_t len, uint64_t offset)
{
	char *p = bytes;

	while (len > 0) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return READING_ERROR;
		if (n == 0)
			return READING_CORRUPT;		/* cut */
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return READING_OK;
}

/* Others run between the chunks, so the entry may have changed after this. */
static enum reading
check_content(struct arena *arena, int fd, uint64_t offset,
    const struct record *record)
{
	char *chunk = arena_alloc(arena, CHECK_SIZE);
	uint64_t left = record->content_len, since = 0;
	uint32_t crc = 0;

	while (left > 0) {
		size_t n = left < CHECK_SIZE ? (size_t)left : CHECK_SIZE;
		enum reading rc = read_exactly(fd, chunk, n, offset);

		if (rc != READING_OK)
			return rc;
		crc = crc32c(crc, chunk, n);
		offset += n;
		left -= n;
		if ((since += n) >= YIELD_BYTES && task_self() != NULL) {
			task_yield();
			since = 0;
		}
	}
	return crc == record->content_crc ? READING_OK : READING_CORRUPT;
}

/* The record but for content that is left in its file. */
static enum reading
read_record(const struct entry *e, struct message *m, struct arena *arena,
    char **bytes, size_t *len)
{
	unsigned char head[RECORD_HEADER_SIZE];
	struct segment *s = m->segment;
	enum reading rc;

	*len = e->length;
	if (e->length > MEMORY_MAX) {
		rc = read_exactly(s->fd, head, sizeof(head), e->offset);
		if (rc != READING_OK)
			return rc;
		if (!record_decode(head, sizeof(head), s->mark, e->offset,
		    &m->record) || record_length(&m->record) != e->length)
			return READING_CORRUPT;
		*len = sizeof(head) + m->record.envelope_len;
	}
	*bytes = arena_alloc(arena, *len);
	rc = read_exactly(s->fd, *bytes, *len, e->offset);
	if (rc != READING_OK)
		return rc;
	if (!record_decode(*bytes, *len, s->mark, e->offset, &m->record) ||
	    record_length(&m->record) != e->length ||
	    RECORD_HEADER_SIZE + (size_t)m->record.envelope_len > *len)
		return READING_CORRUPT;
	return READING_OK;
}

static enum reading
open_content(struct queue *q, const struct entry *e, struct message *m,
    struct arena *arena, char *bytes, size_t len)
{
	struct slice *slice = arena_alloc(arena, sizeof(*slice));
	size_t envelope_end = RECORD_HEADER_SIZE + m->record.envelope_len;
	char name[SPOOL_NAME_SIZE];

	m->public.content = slice;
	m->public.content_count = 1;
	m->public.size = slice->len = (size_t)m->record.content_len;
	slice->fd = -1;
	if (m->record.type == RECORD_LARGE) {
		large_name_print(name, e->public.id);
		m->fd = spool_file_open(q->dir.large, name, O_RDONLY);
		if (m->fd == -1)
			return errno == ENOENT ? READING_CORRUPT :
			    READING_ERROR;
		slice->fd = m->fd;
	} else if (envelope_end + m->record.content_len > len) {
		slice->fd = m->segment->fd;
		slice->offset = (off_t)(e->offset + envelope_end);
	} else {
		slice->data = bytes + envelope_end;
		return crc32c(0, slice->data, slice->len) ==
		    m->record.content_crc ? READING_OK : READING_CORRUPT;
	}
	return check_content(arena, slice->fd, (uint64_t)slice->offset,
	    &m->record);
}

static enum reading
read_envelope(struct message *m, struct arena *arena, const char *bytes,
    const char **why)
{
	size_t recipients, i = 0;

	bytes += RECORD_HEADER_SIZE;
	if (crc32c(0, bytes, m->record.envelope_len) !=
	    m->record.envelope_crc || spool_envelope_decode(bytes,
	    m->record.envelope_len, arena, &m->public.envelope, &recipients,
	    why) != 0)
		return READING_CORRUPT;
	m->all = arena_alloc(arena, recipients * sizeof(*m->all));
	m->count = (uint32_t)recipients;
	for (struct recipient *r = m->public.envelope.recipients; r != NULL;
	    r = r->next)
		m->all[i++] = r;
	return READING_OK;
}

/* Unlinks from the list those that are done; they stay in m->all. */
static void
leave_out_done(const struct entry *e, struct message *m)
{
	struct recipient **p = &m->public.envelope.recipients;

	for (uint32_t i = 0; i < e->recipients && *p != NULL; i++) {
		if (bits_get(&e->done, e->recipients, i))
			*p = (*p)->next;
		else
			p = &(*p)->next;
	}
}

static enum reading
read_once(struct queue *q, struct entry *e, struct message *m,
    struct arena *arena, const char **why)
{
	enum reading rc;
	char *bytes;
	size_t len;

	if (segment_open(q, e->segment) != 0)
		return READING_ERROR;
	m->segment = e->segment;
	m->segment->users++;
	if ((rc = read_record(e, m, arena, &bytes, &len)) != READING_OK ||
	    (rc = read_envelope(m, arena, bytes, why)) != READING_OK)
		return rc;
	return open_content(q, e, m, arena, bytes, len);
}

int
message_read(struct queue *q, struct entry *e, struct message *m,
    struct arena *arena, const char **why)
{
	struct log log = { "" };
	enum reading rc;

	for (;;) {
		uint32_t generation = e->generation;

		*m = (struct message){ .fd = -1, .entry = e };
		*why = "the record is corrupt";
		rc = read_once(q, e, m, arena, why);
		if (e->gone) {
			*why = "it has left the queue";
			message_release(m);
			return -1;
		}
		if (generation == e->generation)
			break;
		message_release(m);	/* moved meanwhile */
	}
	if (rc == READING_OK) {
		leave_out_done(e, m);
		return 0;
	}
	memcpy(log.id, e->public.id, sizeof(e->public.id));
	if (rc == READING_ERROR) {
		*why = strerrordesc_np(errno);
		e->segment->keep = true;
		log_error(&log, "queue: cannot be read: %s", *why);
	} else {
		log_error(&log, "queue: %s", *why);
		segment_set_aside(q, e->segment, e->offset,
		    e->offset + e->length, *why);
		if (e->large)
			large_set_aside(q, e->public.id);
	}
	message_release(m);
	queue_forget(q, e);
	return -1;
}

void
message_release(struct message *m)
{
	if (m->segment != NULL)
		m->segment->users--;
	if (m->fd != -1)
		close(m->fd);
	m->segment = NULL;
	m->fd = -1;
}
