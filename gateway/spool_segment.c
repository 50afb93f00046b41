/*
 * Files of the spool, written.
 *
 * Space is reserved in steps behind the end of the file (FALLOC_FL_KEEP_SIZE),
 * so that a segment lies in one piece and a full disk shows before a message
 * is half written.  It makes fdatasync no cheaper (0.26 ms with or without);
 * blocks that were written before do (0.18 ms), but writing zeros first costs
 * more than that saves.
 */
#include "config.h"

#include "gateway/spool_segment.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/task.h"
#include "gateway/crc32c.h"
#include "gateway/spool_calls.h"
#include "gateway/spool_dir.h"

#define RESERVE_STEP (8u << 20)
#define COPY_SIZE (64u << 10)	/* of a file's bytes at a time */
#define YIELD_BYTES (1u << 20)	/* about 1 ms of writing */
#define PIECES 256		/* of a message, in one pwritev */
#define FILE_MODE 0640		/* the relay reads them as the group */

/*
 * Serials grow, and no two writers have the same: milliseconds of the clock
 * above 20 bits that come from the writer's name.
 */
static uint64_t
serial_next(const char *writer, uint64_t last)
{
	uint64_t name = crc32c(0, writer, strlen(writer)) & 0xfffff;
	uint64_t now = (uint64_t)clock_wall_ms();

	if (now <= last >> 20)
		now = (last >> 20) + 1;
	return now << 20 | name;
}

static int
file_create(int directory, const char *name)
{
	int fd = openat(directory, name, O_RDWR | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, FILE_MODE);

	if (fd != -1)
		fchmod(fd, FILE_MODE);	/* whatever the umask */
	return fd;
}

/* Under another name until it is locked: unlocked means abandoned. */
static int
segment_create(int directory, const char *writer, uint64_t serial)
{
	char name[SPOOL_NAME_SIZE], temporary[SPOOL_NAME_SIZE + 8];
	int fd, error;

	segment_name_print(name, writer, serial);
	snprintf(temporary, sizeof(temporary), "%s.new", name);
	if ((fd = file_create(directory, temporary)) == -1)
		return -1;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0 &&
	    renameat2(directory, temporary, directory, name,
	    RENAME_NOREPLACE) == 0)
		return fd;
	error = errno;
	unlinkat(directory, temporary, 0);
	close(fd);
	errno = error;
	return -1;
}

struct spool_segment *
segment_new(int directory, const char *writer, uint64_t *serial,
    const char **why)
{
	struct spool_segment *segment;
	uint64_t next = serial_next(writer, *serial);
	int fd = segment_create(directory, writer, next);

	*serial = next;
	if (fd == -1) {
		*why = strerrordesc_np(errno);
		return NULL;
	}
	segment = calloc(1, sizeof(*segment));
	assert(segment != NULL);
	segment->fd = fd;
	segment->end = SEGMENT_HEADER_SIZE;
	segment->header.serial = next;
	snprintf(segment->header.writer, sizeof(segment->header.writer), "%s",
	    writer);
	while (segment->header.mark == 0)
		arc4random_buf(&segment->header.mark,
		    sizeof(segment->header.mark));
	return segment;
}

void
segment_free(struct spool_segment **segmentp)
{
	struct spool_segment *segment = *segmentp;

	if (segment == NULL)
		return;
	if (!segment->failed && ftruncate(segment->fd,
	    (off_t)segment->end) == -1)
		segment->failed = true;	/* only space is lost, until unlink */
	close(segment->fd);
	free(segment);
	*segmentp = NULL;
}

static void
reserve(struct spool_segment *segment, uint64_t len)
{
	uint64_t step = RESERVE_STEP;

	if (segment->end + len <= segment->allocated)
		return;
	if (segment->allocated < segment->end)
		segment->allocated = segment->end;
	if (step < len)
		step = len;
	/* If there is no room for the step there may be for the message. */
	(void)!fallocate(segment->fd, FALLOC_FL_KEEP_SIZE,
	    (off_t)segment->allocated, (off_t)step);
	segment->allocated += step;
}

static int
write_vector(int fd, struct iovec *iov, int count, off_t offset)
{
	while (count > 0) {
		ssize_t n = spool_calls.pwritev(fd, iov, count, offset);

		if (n == -1 && errno == EINTR)
			continue;
		if (n == 0)
			errno = EIO;
		if (n <= 0)
			return -1;
		offset += n;
		while (count > 0 && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			count--;
		}
		if (count > 0) {
			iov->iov_base = (char *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
	return 0;
}

/* Header, envelope and content at once; PIECES a call. */
static int
append_memory(struct spool_segment *segment, struct record *record,
    const struct buf *envelope, const struct slice *content, size_t count)
{
	struct iovec iov[PIECES];
	unsigned char head[RECORD_HEADER_SIZE];
	off_t offset = (off_t)segment->end;
	size_t total = sizeof(head) + envelope->len;
	int n = 2;

	for (size_t i = 0; i < count; i++)
		record->content_crc = crc32c(record->content_crc,
		    content[i].data, content[i].len);
	record_encode(record, segment->header.mark, head);
	iov[0] = (struct iovec){ head, sizeof(head) };
	iov[1] = (struct iovec){ envelope->data, envelope->len };
	for (size_t i = 0; i < count; i++) {
		if (content[i].len == 0)
			continue;
		if (n == PIECES) {
			if (write_vector(segment->fd, iov, n, offset) != 0)
				return -1;
			offset += (off_t)total;
			total = 0;
			n = 0;
		}
		iov[n++] = (struct iovec){ (void *)(uintptr_t)content[i].data,
		    content[i].len };
		total += content[i].len;
	}
	return write_vector(segment->fd, iov, n, offset);
}

/* The next bytes of a slice, from memory or through scratch; -1 with errno. */
static ssize_t
slice_read(const struct slice *slice, size_t done, char *scratch,
    const char **bytes)
{
	size_t left = slice->len - done;
	ssize_t n;

	if (slice->data != NULL) {
		*bytes = slice->data + done;
		return (ssize_t)(left < YIELD_BYTES ? left : YIELD_BYTES);
	}
	*bytes = scratch;
	n = pread(slice->fd, scratch, left < COPY_SIZE ? left : COPY_SIZE,
	    slice->offset + (off_t)done);
	if (n == 0)
		errno = EIO;	/* shorter than we were told */
	return n == 0 ? -1 : n;
}

/*
 * Copies slices to the file from offset on, with their CRC.  The scratch is
 * not on the stack: those of tasks are small.
 */
static int
copy_slices(int fd, const struct slice *content, size_t count, off_t offset,
    uint32_t *crc, bool yield)
{
	char *scratch = malloc(COPY_SIZE);
	const char *bytes;
	size_t since = 0;
	int rc = 0;

	assert(scratch != NULL);
	for (size_t i = 0, done = 0; i < count && rc == 0;) {
		ssize_t n;

		if (done == content[i].len) {
			i++;
			done = 0;
			continue;
		}
		n = slice_read(&content[i], done, scratch, &bytes);
		if (n == -1 ||
		    spool_write_all(fd, bytes, (size_t)n, offset) != 0) {
			rc = -1;
			break;
		}
		*crc = crc32c(*crc, bytes, (size_t)n);
		offset += n;
		done += (size_t)n;
		since += (size_t)n;
		if (yield && since >= YIELD_BYTES && task_self() != NULL) {
			task_yield();
			since = 0;
		}
	}
	free(scratch);
	return rc;
}

/* With content from files the header, which has its CRC, is written last. */
static int
append_files(struct spool_segment *segment, struct record *record,
    const struct buf *envelope, const struct slice *content, size_t count)
{
	off_t offset = (off_t)(segment->end + RECORD_HEADER_SIZE +
	    envelope->len);

	if (copy_slices(segment->fd, content, count, offset,
	    &record->content_crc, false) != 0)
		return -1;
	return append_memory(segment, record, envelope, NULL, 0);
}

int
segment_append(struct spool_segment *segment, struct record *record,
    const struct buf *envelope, const struct slice *content, size_t count,
    const char **why)
{
	bool files = false;
	int rc;

	record->offset = segment->end;
	record->committed = segment->committed;
	record->envelope_crc = crc32c(0, envelope->data, envelope->len);
	reserve(segment, record_length(record));
	for (size_t i = 0; i < count; i++)
		if (content[i].data == NULL && content[i].len > 0)
			files = true;
	rc = files ?
	    append_files(segment, record, envelope, content, count) :
	    append_memory(segment, record, envelope, content, count);
	if (rc != 0) {
		*why = strerrordesc_np(errno);
		(void)!ftruncate(segment->fd, (off_t)segment->end);
		return -1;
	}
	segment->end += record_length(record);
	return 0;
}

int
large_write(int directory, const char *id, const struct slice *content,
    size_t count, struct record *record, const char **why)
{
	char name[SPOOL_NAME_SIZE];
	int fd;

	large_name_print(name, id);
	if ((fd = file_create(directory, name)) == -1) {
		*why = strerrordesc_np(errno);
		return -1;
	}
	if (copy_slices(fd, content, count, 0, &record->content_crc,
	    true) == 0)
		return fd;
	*why = strerrordesc_np(errno);
	spool_calls.unlinkat(directory, name, 0);
	close(fd);
	return -1;
}
