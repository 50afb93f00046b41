/* A maildir as a place of delivery. */
#include "gateway/maildir.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/task.h"

/* What the thread gets.  The waiting task owns it all. */
struct job {
	const char *path;
	char name[64];
	struct buf head;
	const struct slice *content;
	size_t count;
	int done_fd;
	int error;			/* errno, 0: done */
};

static int
write_all(int fd, const char *bytes, size_t len)
{
	ssize_t n;

	while (len > 0) {
		n = write(fd, bytes, len);
		if (n == -1 && errno == EINTR)
			continue;
		if (n == -1)
			return -1;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
write_slice(int fd, const struct slice *slice)
{
	char chunk[16384];
	size_t done = 0, want;
	ssize_t n;

	if (slice->data != NULL)
		return write_all(fd, slice->data, slice->len);
	while (done < slice->len) {
		want = slice->len - done < sizeof(chunk) ? slice->len - done :
		    sizeof(chunk);
		n = pread(slice->fd, chunk, want, slice->offset + (off_t)done);
		if (n == 0)
			errno = EIO;
		if (n <= 0 || write_all(fd, chunk, (size_t)n) == -1)
			return -1;
		done += (size_t)n;
	}
	return 0;
}

static int
write_message(const struct job *job, int fd)
{
	if (write_all(fd, job->head.data, job->head.len) == -1)
		return -1;
	for (size_t i = 0; i < job->count; i++)
		if (write_slice(fd, &job->content[i]) == -1)
			return -1;
	return fsync(fd);
}

static int
make_directories(int top)
{
	static const char *const names[] = { "tmp", "new", "cur" };

	for (size_t i = 0; i < 3; i++)
		if (mkdirat(top, names[i], 0700) == -1 && errno != EEXIST)
			return -1;
	return 0;
}

/* tmp/name, then new/name, then both are on the disk. */
static int
store(const struct job *job, int top)
{
	char from[80], to[80];
	int fd, new_fd, rc;

	snprintf(from, sizeof(from), "tmp/%s", job->name);
	snprintf(to, sizeof(to), "new/%s", job->name);
	fd = openat(top, from, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC |
	    O_NOFOLLOW, 0600);
	if (fd == -1)
		return -1;
	rc = write_message(job, fd);
	if (close(fd) == -1)
		rc = -1;
	if (rc == -1 || renameat(top, from, top, to) == -1) {
		int error = errno;

		unlinkat(top, from, 0);
		errno = error;
		return -1;
	}
	new_fd = openat(top, "new", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (new_fd == -1)
		return -1;
	rc = fsync(new_fd);
	close(new_fd);
	return rc;
}

static void *
thread_run(void *argument)
{
	struct job *job = argument;
	uint64_t one = 1;
	int top;

	if (mkdir(job->path, 0700) == -1 && errno != EEXIST)
		job->error = errno;
	else if ((top = open(job->path, O_RDONLY | O_DIRECTORY |
	    O_CLOEXEC)) == -1)
		job->error = errno;
	else {
		if (make_directories(top) == -1 || store(job, top) == -1)
			job->error = errno;
		close(top);
	}
	/* An eventfd at zero always takes a one. */
	if (write(job->done_fd, &one, sizeof(one)) == -1)
		abort();
	return NULL;
}

static void
head_make(struct job *job, const struct envelope *envelope,
    const struct delivery *recipients, size_t count)
{
	buf_printf(&job->head, "Return-Path: <%s>\r\n", envelope->sender);
	for (size_t i = 0; i < count; i++)
		buf_printf(&job->head, "Delivered-To: %s\r\n",
		    recipients[i].recipient->address);
}

int
maildir_deliver(const char *path, const struct envelope *envelope,
    const struct delivery *recipients, size_t count,
    const struct slice *content, size_t content_count, const char **why)
{
	static unsigned serial;
	struct job job = { .path = path, .content = content,
	    .count = content_count, .head = BUF_INIT };
	pthread_t thread;
	int error;

	if ((job.done_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) == -1) {
		*why = strerror(errno);
		return -1;
	}
	snprintf(job.name, sizeof(job.name), "%s.%u.%ld", envelope->id,
	    serial++, (long)getpid());
	head_make(&job, envelope, recipients, count);
	error = pthread_create(&thread, NULL, thread_run, &job);
	if (error != 0) {
		job.error = error;
	} else {
		/* The thread uses our stack: whatever comes, wait for it. */
		task_wait_fd(job.done_fd, TASK_READ, DEADLINE_NEVER);
		pthread_join(thread, NULL);
	}
	close(job.done_fd);
	buf_release(&job.head);
	if (job.error == 0)
		return 0;
	*why = strerror(job.error);
	return -1;
}
