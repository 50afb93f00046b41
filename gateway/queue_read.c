/*
 * Reading a segment: whole records go to queue_accept, anything else is copied
 * to corrupt/ and logged.  Where a record's header is whole its length can be
 * believed, and one with a corrupt body is skipped; else the next header is
 * searched for.
 */
#include "config.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "gateway/crc32c.h"
#include "gateway/queue_internal.h"
#include "gateway/spool_calls.h"
#include "gateway/spool_envelope.h"

#define WINDOW_SIZE ((size_t)256 << 10)
#define OPEN_SEGMENTS 64

int
segment_open(struct queue *q, struct segment *s)
{
	char name[SPOOL_NAME_SIZE];

	if (s->fd != -1)
		return 0;
	segment_name_print(name, s->writer, s->serial);
	s->fd = spool_file_open(q->dir.segments, name, O_RDONLY);
	return s->fd == -1 ? -1 : 0;
}

void
segments_trim(struct queue *q)
{
	unsigned open = 0;

	for (struct segment *s = q->segments; s != NULL; s = s->next)
		if (s->fd != -1 && ++open > OPEN_SEGMENTS && s->ended &&
		    s->users == 0) {
			close(s->fd);
			s->fd = -1;
		}
}

/*
 * Bytes of the segment from offset on: at least want of them, but for the
 * limit and the end of the file.  Their number, or -1 with errno.
 */
static ssize_t
window_get(struct queue *q, struct segment *s, uint64_t offset, size_t want,
    uint64_t limit, const unsigned char **bytes)
{
	size_t size = want < WINDOW_SIZE ? WINDOW_SIZE : want;

	if (want > limit - offset)
		want = (size_t)(limit - offset);
	if (size > limit - offset)
		size = (size_t)(limit - offset);
	if (q->window_segment == s && offset >= q->window_offset &&
	    offset + want <= q->window_offset + q->window_len) {
		size_t skip = (size_t)(offset - q->window_offset);

		*bytes = q->window + skip;
		return (ssize_t)(q->window_len - skip);
	}
	if (size > q->window_size) {
		free(q->window);
		q->window_size = size < WINDOW_SIZE ? WINDOW_SIZE : size;
		q->window = malloc(q->window_size);
		assert(q->window != NULL);
	}
	q->window_segment = s;
	q->window_offset = offset;
	q->window_len = 0;
	while (q->window_len < size) {
		ssize_t n = pread(s->fd, q->window + q->window_len,
		    size - q->window_len, (off_t)(offset + q->window_len));

		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		if (n == 0)
			break;
		q->window_len += (size_t)n;
	}
	*bytes = q->window;
	return (ssize_t)q->window_len;
}

int
segment_header_read(struct queue *q, struct segment *s, const char **why)
{
	unsigned char bytes[SEGMENT_HEADER_SIZE];
	struct segment_header header;
	ssize_t n;

	if (segment_open(q, s) != 0 ||
	    (n = pread(s->fd, bytes, sizeof(bytes), 0)) == -1) {
		*why = strerrordesc_np(errno);
		return -1;
	}
	if (segment_header_decode(bytes, (size_t)n, &header, why) != 0)
		return -1;
	if (header.serial != s->serial ||
	    strcmp(header.writer, s->writer) != 0) {
		*why = "it has another segment's header";
		return -1;
	}
	s->mark = header.mark;
	s->previous = header.previous;
	s->previous_end = header.previous_end;
	s->offset = SEGMENT_HEADER_SIZE;
	s->header_read = true;
	return 0;
}

/* --- setting aside --- */

/* Copies; returns 0, 1 if there were zeros only, -1 with errno. */
static int
copy_range(struct segment *s, uint64_t from, uint64_t to, int fd)
{
	unsigned char bytes[16384];
	bool zeros = true;
	off_t out = 0;

	while (from < to) {
		size_t want = to - from < sizeof(bytes) ?
		    (size_t)(to - from) : sizeof(bytes);
		ssize_t n = pread(s->fd, bytes, want, (off_t)from);

		if (n == -1)
			return -1;
		if (n == 0)
			break;
		for (ssize_t i = 0; i < n && zeros; i++)
			zeros = bytes[i] == 0;
		if (spool_write_all(fd, bytes, (size_t)n, out) != 0)
			return -1;
		from += (uint64_t)n;
		out += n;
	}
	return zeros ? 1 : spool_calls.fdatasync(fd);
}

void
segment_set_aside(struct queue *q, struct segment *s, uint64_t from,
    uint64_t to, const char *why)
{
	char name[2 * SPOOL_NAME_SIZE];
	int fd, rc = -1;

	snprintf(name, sizeof(name), "%s-%016" PRIx64 "-%" PRIu64 ".part",
	    s->writer, s->serial, from);
	fd = openat(q->dir.corrupt, name, O_WRONLY | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0640);
	if (fd == -1 && errno == EEXIST)
		return;		/* by an earlier start */
	if (fd != -1) {
		rc = copy_range(s, from, to, fd);
		close(fd);
	}
	if (rc == 0 && spool_calls.fsync(q->dir.corrupt) == -1)
		rc = -1;
	if (rc == -1) {
		s->keep = true;
		log_error(NULL, "queue: segment=%s-%016" PRIx64 " offset=%"
		    PRIu64 " length=%" PRIu64 " why=\"%s\", kept, as it "
		    "cannot be set aside: %s", s->writer, s->serial, from,
		    to - from, why, strerror(errno));
	} else {
		log_error(NULL, "queue: segment=%s-%016" PRIx64 " offset=%"
		    PRIu64 " length=%" PRIu64 " why=\"%s\" %s", s->writer,
		    s->serial, from, to - from, why, rc == 1 ?
		    "zeros only" : "set aside in corrupt/");
	}
	if (rc != 0 && fd != -1)
		unlinkat(q->dir.corrupt, name, 0);
}

void
segment_set_aside_file(struct queue *q, struct segment *s, const char *why)
{
	char name[SPOOL_NAME_SIZE];

	segment_name_print(name, s->writer, s->serial);
	if (renameat(q->dir.segments, name, q->dir.corrupt, name) == -1) {
		s->keep = true;
		log_error(NULL, "queue: segment=%s why=\"%s\", cannot be set "
		    "aside: %s", name, why, strerror(errno));
		return;
	}
	s->gone = true;
	log_error(NULL, "queue: segment=%s why=\"%s\" set aside in corrupt/",
	    name, why);
}

/* --- records --- */

enum step { STEP_OK, STEP_BAD_HEADER, STEP_BAD_BODY, STEP_SHORT, STEP_ERROR };

/* Checks the record at s->offset; what is whole is accepted. */
static enum step
read_record(struct queue *q, struct segment *s, uint64_t limit,
    struct record *record, const char **why)
{
	const unsigned char *bytes;
	struct envelope envelope;
	uint64_t at = s->offset, left;
	size_t recipients, need = RECORD_HEADER_SIZE;
	uint32_t crc = 0;
	ssize_t n = window_get(q, s, at, need, limit, &bytes);

	if (n == -1)
		return STEP_ERROR;
	if (!record_decode(bytes, (size_t)n, s->mark, at, record))
		return STEP_BAD_HEADER;
	if (record_length(record) > limit - at ||
	    record_length(record) > UINT32_MAX)
		return STEP_SHORT;
	need += record->envelope_len;
	if ((n = window_get(q, s, at, need, limit, &bytes)) == -1)
		return STEP_ERROR;
	if ((size_t)n < need)
		return STEP_SHORT;
	bytes += RECORD_HEADER_SIZE;
	*why = "the envelope is corrupt";
	if (crc32c(0, bytes, record->envelope_len) != record->envelope_crc ||
	    spool_envelope_decode(bytes, record->envelope_len, NULL,
	    &envelope, &recipients, why) != 0)
		return STEP_BAD_BODY;
	left = record_length(record) - need;
	for (at += need; left > 0; at += (uint64_t)n) {
		n = window_get(q, s, at, 1, limit, &bytes);
		if (n <= 0)
			return n == 0 ? STEP_SHORT : STEP_ERROR;
		if ((uint64_t)n > left)
			n = (ssize_t)left;
		crc = crc32c(crc, bytes, (size_t)n);
		left -= (uint64_t)n;
	}
	if (record->type == RECORD_MESSAGE && crc != record->content_crc) {
		*why = "the content is corrupt";
		return STEP_BAD_BODY;
	}
	queue_accept(q, s, record, &envelope, recipients);
	return STEP_OK;
}

/* Where the next record begins; limit if there is none. */
static uint64_t
search(struct queue *q, struct segment *s, uint64_t at, uint64_t limit,
    struct record *next)
{
	const unsigned char *bytes;

	while (at < limit) {
		ssize_t n = window_get(q, s, at, RECORD_HEADER_SIZE, limit,
		    &bytes);
		size_t found;

		if (n < RECORD_HEADER_SIZE)
			return limit;
		found = record_search(bytes, (size_t)n, s->mark, at);
		if (found < (size_t)n) {
			record_decode(bytes + found, (size_t)n - found,
			    s->mark, at + found, next);
			return at + found;
		}
		at += (uint64_t)n - (RECORD_HEADER_SIZE - 1);
	}
	return limit;
}

/*
 * Something is wrong at s->offset.  Behind the last record that is known to
 * have been committed it may be the trace of a crash, that is, of a message
 * nobody was told 250 for; we cannot tell, so that is set aside as well.
 */
static void
skip(struct queue *q, struct segment *s, uint64_t next, uint64_t limit,
    uint64_t committed, const char *why)
{
	if (next == limit && committed <= s->offset)
		why = "torn end";
	segment_set_aside(q, s, s->offset, next, why);
	q->window_segment = NULL;
	s->offset = next;
}

static void
skip_bad(struct queue *q, struct segment *s, uint64_t limit)
{
	struct record next = { .committed = 0 };
	uint64_t at = search(q, s, s->offset + 1, limit, &next);

	skip(q, s, at, limit, next.committed > s->committed ? next.committed :
	    s->committed, "corrupt record");
}

void
segment_read(struct queue *q, struct segment *s, uint64_t limit, bool whole)
{
	struct record record;
	const char *why;

	q->window_segment = NULL;
	while (s->offset < limit) {
		enum step step = segment_open(q, s) != 0 ? STEP_ERROR :
		    read_record(q, s, limit, &record, &why);

		if (step == STEP_OK) {
			if (record.committed > s->committed)
				s->committed = record.committed;
			s->offset += record_length(&record);
			continue;
		}
		if (step == STEP_ERROR) {
			log_error(NULL, "queue: segment=%s-%016" PRIx64
			    " offset=%" PRIu64 " cannot be read: %s",
			    s->writer, s->serial, s->offset, strerror(errno));
			s->keep = true;
			s->offset = limit;
			return;
		}
		if (!whole)
			return;		/* still being written */
		if (step == STEP_BAD_BODY)
			skip(q, s, s->offset + record_length(&record), limit,
			    s->committed, why);
		else
			skip_bad(q, s, limit);
	}
}
