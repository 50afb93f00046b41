/*
 * A message's body.  Up to the limit it lies in chunks of memory that never
 * move, so readers may keep pointers into them; what comes after goes through
 * one more chunk, the tail, to an unlinked file.
 *
 * Chunk sizes are fixed by the chunk's number, so that an offset leads to its
 * chunk without a search: 8, 8, 16, 32 KB, then 64 KB each.  A small message
 * costs one allocation.
 */
#define _GNU_SOURCE		/* O_TMPFILE, mkostemp */
#include "filters/mail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"

#define CHUNK_FIRST 8192
#define CHUNK_FULL BODY_READ_MAX
#define CHUNK_FULL_NUMBER 4	/* the first chunk of full size */

struct body {
	char **chunks;
	size_t chunk_count, chunk_room;
	size_t memory_size;	/* bytes in chunks */
	size_t memory_limit;
	size_t file_size;	/* bytes written to the file */
	size_t tail_len;	/* bytes behind those, not yet written */
	char *tail;		/* NULL: not spilled */
	int fd;
	int error;		/* errno of a failed append, or 0 */
	char *directory;
	unsigned others;	/* owners but the first */
};

static size_t
chunk_number(size_t offset)
{
	size_t number = 0;

	if (offset >= CHUNK_FULL)
		return offset / CHUNK_FULL + CHUNK_FULL_NUMBER - 1;
	for (offset /= CHUNK_FIRST; offset > 0; offset /= 2)
		number++;
	return number;
}

static size_t
chunk_start(size_t number)
{
	if (number == 0)
		return 0;
	if (number < CHUNK_FULL_NUMBER)
		return (size_t)CHUNK_FIRST << (number - 1);
	return (number - CHUNK_FULL_NUMBER + 1) * CHUNK_FULL;
}

static size_t
chunk_size(size_t number)
{
	return chunk_start(number + 1) - chunk_start(number);
}

struct body *
body_new(size_t memory_limit, const char *temporary_directory)
{
	struct body *body = calloc(1, sizeof(*body));

	if (body == NULL || (body->directory =
	    strdup(temporary_directory)) == NULL)
		fatal("body: out of memory");
	body->memory_limit = memory_limit;
	body->fd = -1;
	return body;
}

void
body_free(struct body **bodyp)
{
	struct body *body = *bodyp;

	*bodyp = NULL;
	if (body == NULL)
		return;
	if (body->others > 0) {
		body->others--;
		return;
	}
	for (size_t i = 0; i < body->chunk_count; i++)
		free(body->chunks[i]);
	free(body->chunks);
	free(body->tail);
	free(body->directory);
	if (body->fd != -1)
		close(body->fd);
	free(body);
}

struct body *
body_share(struct body *body)
{
	body->others++;
	return body;
}

struct body *
body_renew(const struct body *body)
{
	return body_new(body->memory_limit, body->directory);
}

size_t
body_size(const struct body *body)
{
	return body->memory_size + body->file_size + body->tail_len;
}

static void
chunk_add(struct body *body)
{
	if (body->chunk_count == body->chunk_room) {
		body->chunk_room = body->chunk_room * 2 + CHUNK_FULL_NUMBER;
		body->chunks = realloc(body->chunks,
		    body->chunk_room * sizeof(*body->chunks));
		if (body->chunks == NULL)
			fatal("body: out of memory");
	}
	body->chunks[body->chunk_count] = malloc(chunk_size(body->chunk_count));
	if (body->chunks[body->chunk_count++] == NULL)
		fatal("body: out of memory");
}

/* Copies what fits below the limit; returns how much that was. */
static size_t
append_to_memory(struct body *body, const char *bytes, size_t len)
{
	size_t done = 0;

	if (len > body->memory_limit - body->memory_size)
		len = body->memory_limit - body->memory_size;
	while (done < len) {
		size_t number = chunk_number(body->memory_size);
		size_t room = chunk_start(number + 1) - body->memory_size;
		size_t n = len - done < room ? len - done : room;

		if (number == body->chunk_count)
			chunk_add(body);
		memcpy(body->chunks[number] + chunk_size(number) - room,
		    bytes + done, n);
		body->memory_size += n;
		done += n;
	}
	return done;
}

/* A file that nobody else can open and that goes when it is closed. */
static int
open_unlinked(const char *directory)
{
	char path[4096];
	int fd, saved;

	fd = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (fd != -1 || (errno != EOPNOTSUPP && errno != EISDIR &&
	    errno != ENOENT && errno != EINVAL))
		return fd;
	/* Not every file system (NFS, older overlays) has O_TMPFILE. */
	if ((size_t)snprintf(path, sizeof(path), "%s/body.XXXXXX",
	    directory) >= sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	if ((fd = mkostemp(path, O_CLOEXEC)) == -1)
		return -1;
	if (unlink(path) == -1) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	return fd;
}

static int
write_to_file(struct body *body, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = pwrite(body->fd, bytes, len,
		    (off_t)body->file_size);

		if (n == -1 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (n == 0)
				errno = ENOSPC;
			return -1;
		}
		body->file_size += (size_t)n;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
append_to_file(struct body *body, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t n = CHUNK_FULL - body->tail_len;

		/* A whole chunk need not be copied first. */
		if (body->tail_len == 0 && len >= CHUNK_FULL)
			return write_to_file(body, bytes, len);
		if (n > len)
			n = len;
		memcpy(body->tail + body->tail_len, bytes, n);
		body->tail_len += n;
		bytes += n;
		len -= n;
		if (body->tail_len < CHUNK_FULL)
			break;
		n = body->tail_len;
		body->tail_len = 0;	/* never counted twice */
		if (write_to_file(body, body->tail, n) == -1)
			return -1;
	}
	return 0;
}

static int
spill(struct body *body)
{
	if (body->tail != NULL)
		return 0;
	if ((body->fd = open_unlinked(body->directory)) == -1)
		return -1;
	if ((body->tail = malloc(CHUNK_FULL)) == NULL)
		fatal("body: out of memory");
	return 0;
}

int
body_append(struct body *body, const void *bytes, size_t len)
{
	size_t done;

	if (body->error != 0) {
		errno = body->error;
		return -1;
	}
	done = append_to_memory(body, bytes, len);
	if (done == len)
		return 0;
	if (spill(body) == 0 && append_to_file(body,
	    (const char *)bytes + done, len - done) == 0)
		return 0;
	body->error = errno;
	return -1;
}

static ssize_t
read_from_file(const struct body *body, size_t offset, char *scratch)
{
	size_t len = body->file_size - offset;
	ssize_t n;

	if (len > BODY_READ_MAX)
		len = BODY_READ_MAX;
	do
		n = pread(body->fd, scratch, len, (off_t)offset);
	while (n == -1 && errno == EINTR);
	if (n == 0) {		/* shorter than what we wrote */
		errno = EIO;
		return -1;
	}
	return n;
}

ssize_t
body_read(const struct body *body, size_t offset, char *scratch,
    const char **bytes)
{
	if (offset < body->memory_size) {
		size_t number = chunk_number(offset);
		size_t end = chunk_start(number + 1);

		if (end > body->memory_size)
			end = body->memory_size;
		*bytes = body->chunks[number] + offset - chunk_start(number);
		return (ssize_t)(end - offset);
	}
	offset -= body->memory_size;
	*bytes = scratch;
	if (offset < body->file_size)
		return read_from_file(body, offset, scratch);
	offset -= body->file_size;
	if (offset >= body->tail_len)
		return 0;
	/* The tail is used again when it was written, so give a copy. */
	memcpy(scratch, body->tail + offset, body->tail_len - offset);
	return (ssize_t)(body->tail_len - offset);
}

struct slice *
body_slices(const struct body *body, struct arena *arena, size_t *count)
{
	struct slice *slices = arena_alloc(arena,
	    (body->chunk_count + 2) * sizeof(*slices));
	size_t n = 0;

	for (size_t i = 0; i < body->chunk_count; i++) {
		size_t len = body->memory_size - chunk_start(i);

		if (len > chunk_size(i))
			len = chunk_size(i);
		slices[n++] = (struct slice){ .data = body->chunks[i],
		    .fd = -1, .len = len };
	}
	if (body->file_size > 0)
		slices[n++] = (struct slice){ .fd = body->fd,
		    .len = body->file_size };
	if (body->tail_len > 0)
		slices[n++] = (struct slice){ .data = body->tail, .fd = -1,
		    .len = body->tail_len };
	*count = n;
	return slices;
}
