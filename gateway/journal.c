/*
 * Files of the journal.  Only the relay writes here; a thread syncs, so that a
 * slow disk does not stop deliveries.
 */
#include "config.h"

#include "gateway/journal.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <event2/event.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/journal_file.h"
#include "gateway/spool_calls.h"
#include "gateway/spool_dir.h"

#define FILE_LIMIT (16u << 20)		/* then a new one begins */
#define PENDING_LIMIT (64u << 20)	/* kept while the disk is full */
#define NAME_SIZE 32

struct journal {
	int directory;
	int fd;				/* -1: no file yet */
	uint64_t serial;		/* of the file that is appended to */
	uint64_t size;			/* of that file */
	struct buf pending;		/* not written yet */
	uint64_t position;
	bool write_failed;
	struct event *flush;		/* at the end of this turn */
	uint64_t *old;			/* serials, ascending */
	size_t old_count;

	pthread_t thread;		/* begun when there is work */
	bool started;
	sem_t work;
	atomic_bool busy;		/* the thread has these: */
	uint64_t target;
	bool stop, failed;
	atomic_uint_fast64_t synced;
};

static void
name_print(char name[NAME_SIZE], uint64_t serial)
{
	snprintf(name, NAME_SIZE, "%016" PRIx64 ".jnl", serial);
}

static void *
run(void *argument)
{
	struct journal *j = argument;

	for (;;) {
		while (sem_wait(&j->work) == -1)
			continue;
		if (j->stop)
			return NULL;
		j->failed = spool_calls.fdatasync(j->fd) == -1 ||
		    spool_calls.fsync(j->directory) == -1;
		if (!j->failed)
			atomic_store(&j->synced, j->target);
		atomic_store(&j->busy, false);
	}
}

/* --- writing --- */

static int
file_begin(struct journal *j)
{
	unsigned char header[JOURNAL_HEADER_SIZE];
	char name[NAME_SIZE];

	name_print(name, j->serial);
	j->fd = openat(j->directory, name, O_RDWR | O_CREAT | O_EXCL |
	    O_NOFOLLOW | O_CLOEXEC, 0640);
	if (j->fd == -1)
		return -1;
	journal_header_encode(j->serial, header);
	if (spool_write_all(j->fd, header, sizeof(header), 0) != 0) {
		int error = errno;

		spool_calls.unlinkat(j->directory, name, 0);
		close(j->fd);
		j->fd = -1;
		errno = error;
		return -1;
	}
	j->size = sizeof(header);
	return 0;
}

/*
 * With a full disk what is not written waits: unlinking what was delivered
 * needs no room, and makes some.
 */
static void
journal_flush(struct journal *j)
{
	if (j->pending.len == 0)
		return;
	if ((j->fd == -1 && file_begin(j) != 0) || spool_write_all(j->fd,
	    j->pending.data, j->pending.len, (off_t)j->size) != 0) {
		if (!j->write_failed)
			log_error(NULL, "journal: cannot write: %s; a restart "
			    "would repeat deliveries", strerror(errno));
		j->write_failed = true;
		if (j->pending.len > PENDING_LIMIT)
			buf_drain(&j->pending, PENDING_LIMIT / 2);
		return;
	}
	if (j->write_failed)
		log_info(NULL, "journal: writes again");
	j->write_failed = false;
	j->size += j->pending.len;
	buf_reset(&j->pending);
}

static void
on_flush(int fd, short what, void *argument)
{
	(void)fd;
	(void)what;
	journal_flush(argument);
}

uint64_t
journal_append(struct journal *j, const struct journal_record *record)
{
	if (j->pending.len == 0 && !j->write_failed)
		event_active(j->flush, EV_TIMEOUT, 0);
	journal_encode(record, j->serial,
	    buf_reserve(&j->pending, JOURNAL_RECORD_SIZE));
	j->pending.len += JOURNAL_RECORD_SIZE;
	j->pending.data[j->pending.len] = '\0';
	j->position += JOURNAL_RECORD_SIZE;
	return j->serial;
}

static int
thread_start(struct journal *j)
{
	sigset_t all, before;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&j->thread, NULL, run, j);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	j->started = error == 0;
	return error;
}

/* Only called when the thread is idle and nothing is pending. */
static void
file_end(struct journal *j)
{
	j->old = realloc(j->old, (j->old_count + 1) * sizeof(*j->old));
	assert(j->old != NULL);
	j->old[j->old_count++] = j->serial++;
	close(j->fd);
	j->fd = -1;
}

void
journal_maintain(struct journal *j)
{
	journal_flush(j);
	if (atomic_load(&j->busy) || j->fd == -1 || j->pending.len > 0)
		return;
	if (j->failed) {
		/* What its pages hold is not known any more. */
		log_error(NULL, "journal: cannot sync; begins a new file");
		j->failed = false;
		file_end(j);
		return;
	}
	if (journal_synced(j) < j->position) {
		if (!j->started && thread_start(j) != 0)
			return;		/* the next second will do */
		j->target = j->position;
		atomic_store(&j->busy, true);
		sem_post(&j->work);
	} else if (j->size >= FILE_LIMIT) {
		file_end(j);
	}
}

uint64_t
journal_position(const struct journal *j)
{
	return j->position;
}

uint64_t
journal_synced(const struct journal *j)
{
	return atomic_load(&j->synced);
}

size_t
journal_count(const struct journal *j)
{
	return j->old_count + (j->fd != -1);
}

void
journal_drop(struct journal *j, bool (*needed)(uint64_t serial, void *),
    void *argument)
{
	char name[NAME_SIZE];
	size_t kept = 0;

	for (size_t i = 0; i < j->old_count; i++) {
		name_print(name, j->old[i]);
		if (needed(j->old[i], argument) ||
		    (spool_calls.unlinkat(j->directory, name, 0) == -1 &&
		    errno != ENOENT))
			j->old[kept++] = j->old[i];
	}
	j->old_count = kept;
}

/* --- reading --- */

static int
compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int
find_files(struct journal *j)
{
	int fd = openat(j->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct dirent *entry;
	uint64_t serial;
	DIR *dir;
	int end;

	if (fd == -1 || (dir = fdopendir(fd)) == NULL) {
		if (fd != -1)
			close(fd);
		return -1;
	}
	while ((entry = readdir(dir)) != NULL) {
		end = 0;
		if (sscanf(entry->d_name, "%16" SCNx64 ".jnl%n", &serial,
		    &end) != 1 || end != 20 || entry->d_name[20] != '\0')
			continue;
		j->old = realloc(j->old, (j->old_count + 1) *
		    sizeof(*j->old));
		assert(j->old != NULL);
		j->old[j->old_count++] = serial;
	}
	closedir(dir);
	if (j->old_count > 1)
		qsort(j->old, j->old_count, sizeof(*j->old), compare);
	return 0;
}

/* A file that cannot be read repeats deliveries; that must not stop others. */
static void
replay_file(struct journal *j, uint64_t serial, journal_replay_f *replay,
    void *argument)
{
	char name[NAME_SIZE];
	struct buf bytes = BUF_INIT;
	struct stat st;
	ssize_t n = -1;
	int fd, corrupt;

	name_print(name, serial);
	fd = spool_file_open(j->directory, name, O_RDONLY);
	if (fd != -1 && fstat(fd, &st) == 0) {
		buf_reserve(&bytes, (size_t)st.st_size);
		while ((n = pread(fd, bytes.data + bytes.len,
		    (size_t)st.st_size - bytes.len, (off_t)bytes.len)) > 0)
			bytes.len += (size_t)n;
	}
	if (n == -1)
		log_error(NULL, "journal: cannot read %s: %s", name,
		    strerror(errno));
	corrupt = journal_parse(bytes.data, bytes.len, serial, replay,
	    argument);
	if (corrupt == -1)
		log_error(NULL, "journal: %s is not a journal", name);
	else if (corrupt > 0)
		log_warn(NULL, "journal: %d corrupt records in %s", corrupt,
		    name);
	buf_release(&bytes);
	if (fd != -1)
		close(fd);
}

struct journal *
journal_open(int directory, journal_replay_f *replay, void *argument,
    const char **why)
{
	struct journal *j = calloc(1, sizeof(*j));

	assert(j != NULL);
	j->directory = directory;
	j->fd = -1;
	sem_init(&j->work, 0, 0);
	if (find_files(j) != 0) {
		*why = strerrordesc_np(errno);
		sem_destroy(&j->work);
		free(j->old);
		free(j);
		return NULL;
	}
	for (size_t i = 0; i < j->old_count; i++)
		replay_file(j, j->old[i], replay, argument);
	j->serial = j->old_count > 0 ? j->old[j->old_count - 1] + 1 : 1;
	j->flush = event_new(task_base(), -1, 0, on_flush, j);
	assert(j->flush != NULL);
	return j;
}

void
journal_close(struct journal **jp)
{
	struct journal *j = *jp;

	if (j == NULL)
		return;
	journal_flush(j);
	j->stop = true;
	if (j->started) {
		sem_post(&j->work);
		pthread_join(j->thread, NULL);
	}
	if (j->fd != -1) {
		if (journal_synced(j) < j->position &&
		    (spool_calls.fdatasync(j->fd) == -1 ||
		    spool_calls.fsync(j->directory) == -1))
			log_error(NULL, "journal: cannot sync: %s",
			    strerror(errno));
		close(j->fd);
	}
	event_free(j->flush);
	sem_destroy(&j->work);
	buf_release(&j->pending);
	free(j->old);
	free(j);
	*jp = NULL;
}
