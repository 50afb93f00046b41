#include "config.h"

#include "gateway/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/task.h"
#include "gateway/spool_calls.h"
#include "t/unit/gateway/spool_fixture.h"
#include "t/unit/unit.h"

static void
commits(struct fixture *x)
{
	struct stat st;

	fixture_open_spools(x);
	CU_ASSERT(fixture_commit(x, "a", 1, 5000) == 0);
	CU_ASSERT(fixture_commit(x, "b", 3, 0) == 0);
	CU_ASSERT(x->tails[0].serial != 0);
	CU_ASSERT(stat(fixture_path(x, "segments"), &st) == 0);
	CU_ASSERT((uint64_t)st.st_size == x->tails[0].committed);
	CU_ASSERT((st.st_mode & 07777) == 0640);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 2);
	CU_ASSERT(fixture_is_whole(x, "a", 1, 5000));
	CU_ASSERT(fixture_is_whole(x, "b", 3, 0));
}

static void
test_commits(void)
{
	fixture_run(commits);
}

struct job {
	struct fixture *x;
	char id[16];
	size_t size;
	int rc;
};

static void
commit_task(void *argument)
{
	struct job *job = argument;

	job->rc = fixture_commit(job->x, job->id, 1, job->size);
}

/* Commits at the same time; returns how many went well. */
static int
commit_many(struct fixture *x, const char *prefix, int count, size_t size)
{
	struct job *jobs = calloc((size_t)count, sizeof(*jobs));
	struct task **tasks = calloc((size_t)count, sizeof(*tasks));
	int good = 0;

	for (int i = 0; i < count; i++) {
		jobs[i] = (struct job){ .x = x, .size = size };
		snprintf(jobs[i].id, sizeof(jobs[i].id), "%s%d", prefix, i);
		tasks[i] = task_start("commit", commit_task, &jobs[i]);
	}
	for (int i = 0; i < count; i++) {
		task_join(&tasks[i], DEADLINE_NEVER);
		good += jobs[i].rc == 0;
	}
	free(jobs);
	free(tasks);
	return good;
}

static void
group(struct fixture *x)
{
	uint64_t syncs, messages;

	fixture_open_spools(x);
	CU_ASSERT(commit_many(x, "m", 50, 5000) == 50);
	spool_statistics(x->spool, &syncs, &messages);
	CU_ASSERT(messages == 50);
	CU_ASSERT(syncs < 10);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 50);
}

static void
test_group(void)
{
	fixture_run(group);
}

/* A group does not wait for ever for those who committed before. */
static void
fewer_come_back(struct fixture *x)
{
	fixture_open_spools(x);
	CU_ASSERT(commit_many(x, "m", 20, 5000) == 20);
	CU_ASSERT(fixture_commit(x, "a", 1, 5000) == 0);
	CU_ASSERT(commit_many(x, "n", 5, 5000) == 5);
	CU_ASSERT(fixture_commit(x, "b", 1, 5000) == 0);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 27);
}

static void
test_fewer_come_back(void)
{
	fixture_run(fewer_come_back);
}

static void
segments(struct fixture *x)
{
	char id[16];

	x->segment_size = 20000;
	fixture_open_spools(x);
	fixture_open_queue(x);
	CU_ASSERT(commit_many(x, "m", 40, 5000) == 40);
	CU_ASSERT(fixture_files(x, "segments") >= 10);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 40);
	for (int i = 0; i < 40; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		CU_ASSERT(fixture_is_whole(x, id, 1, 5000));
	}
}

static void
test_segments(void)
{
	fixture_run(segments);
}

static void
large(struct fixture *x)
{
	fixture_open_spools(x);
	CU_ASSERT(fixture_commit(x, "big", 2, 3000000) == 0);
	CU_ASSERT(fixture_commit(x, "small", 1, 199999) == 0);
	CU_ASSERT(fixture_files(x, "large") == 1);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 2);
	CU_ASSERT(fixture_is_whole(x, "big", 2, 3000000));
	CU_ASSERT(fixture_is_whole(x, "small", 1, 199999));
}

static void
test_large(void)
{
	fixture_run(large);
}

/* The body in a temporary file, as for a message above memory_limit. */
static void
from_file(struct fixture *x)
{
	FILE *file = tmpfile();
	struct recipient r = { .address = "r0@example.org" };
	struct envelope envelope = { .id = "f", .sender = "",
		.recipients = &r };
	char head[1000];
	struct slice slices[2] = { { .data = head, .len = sizeof(head) },
		{ .fd = fileno(file), .offset = 7, .len = 149000 } };
	const char *why = "";

	for (size_t i = 0; i < sizeof(head); i++)
		head[i] = fixture_byte("f", i);
	fwrite("skipped", 1, 7, file);
	for (size_t i = 1000; i < 150000; i++)
		putc(fixture_byte("f", i), file);
	fflush(file);
	fixture_open_spools(x);
	CU_ASSERT(spool_commit(x->spool, &envelope, slices, 2, &why) == 0);
	CU_ASSERT(fixture_commit(x, "after", 1, 100) == 0);
	/* A file that is shorter than was said. */
	strcpy(envelope.id, "g");
	slices[1].len++;
	CU_ASSERT(spool_commit(x->spool, &envelope, slices, 2, &why) == -1);
	fclose(file);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 2);
	CU_ASSERT(fixture_is_whole(x, "f", 1, 150000));
	CU_ASSERT(fixture_is_whole(x, "after", 1, 100));
}

static void
test_from_file(void)
{
	fixture_run(from_file);
}

static void
refuses(struct fixture *x)
{
	fixture_open_spools(x);
	CU_ASSERT(fixture_commit(x, "a", 0, 10) == -1);
	CU_ASSERT(fixture_commit(x, "", 1, 10) == -1);
}

static void
test_refuses(void)
{
	fixture_run(refuses);
}

static void
room(struct fixture *x)
{
	fixture_open_spools(x);
	CU_ASSERT(spool_has_room(x->spool, 1000));
	CU_ASSERT(!spool_has_room(x->spool, INT64_MAX / 2));
}

static void
test_room(void)
{
	fixture_run(room);
}

/* Without room the segment is left, for what it holds may be delivered. */
static void
no_room(struct fixture *x)
{
	uint64_t serial;

	x->minimum_free = INT64_MAX / 4;
	fixture_open_spools(x);
	CU_ASSERT(fixture_commit(x, "a", 1, 5000) == 0);
	serial = x->tails[0].serial;
	CU_ASSERT(fixture_commit(x, "b", 1, 5000) == 0);
	CU_ASSERT(x->tails[0].serial == serial);
	CU_ASSERT(!spool_has_room(x->spool, 1000));
	CU_ASSERT(fixture_commit(x, "c", 1, 5000) == 0);
	CU_ASSERT(x->tails[0].serial != serial);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 3);
}

static void
test_no_room(void)
{
	fixture_run(no_room);
}

/* --- faults --- */

static int failing;		/* how many calls fail yet */
static int fail_error;

static int
fail_sync(int fd)
{
	if (failing > 0) {
		failing--;
		errno = fail_error;
		return -1;
	}
	return fdatasync(fd);
}

static ssize_t
fail_write(int fd, const struct iovec *iov, int count, off_t offset)
{
	if (failing > 0) {
		failing--;
		/* A disk that is full halfway. */
		(void)!pwrite(fd, iov->iov_base, iov->iov_len / 2, offset);
		errno = fail_error;
		return -1;
	}
	return pwritev(fd, iov, count, offset);
}

/*
 * Everybody whose message was in the group hears of it; a restart finds those
 * that went well, and those only.
 */
static void
sync_fails(struct fixture *x)
{
	fixture_open_spools(x);
	fixture_open_queue(x);
	CU_ASSERT(commit_many(x, "a", 5, 1000) == 5);
	spool_calls.fdatasync = fail_sync;
	failing = 1;
	fail_error = EIO;
	CU_ASSERT(commit_many(x, "b", 5, 1000) == 0);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 5);
	CU_ASSERT(commit_many(x, "c", 5, 1000) == 5);
	spool_calls.fdatasync = fdatasync;
	queue_poll(x->queue);
	CU_ASSERT(x->found == 10);
	CU_ASSERT(fixture_files(x, "segments") == 2);
	fixture_close(x);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 10);
	CU_ASSERT(queue_find(x->queue, "b0") == NULL);
	CU_ASSERT(fixture_files(x, "corrupt") == 0);
}

static void
test_sync_fails(void)
{
	fixture_run(sync_fails);
}

/* The first group of a segment, twice: those files go. */
static void
first_sync_fails(struct fixture *x)
{
	fixture_open_spools(x);
	spool_calls.fdatasync = fail_sync;
	failing = 2;
	fail_error = ENOSPC;
	CU_ASSERT(commit_many(x, "a", 3, 1000) == 0);
	CU_ASSERT(commit_many(x, "b", 3, 1000) == 0);
	CU_ASSERT(commit_many(x, "c", 3, 1000) == 3);
	spool_calls.fdatasync = fdatasync;
	CU_ASSERT(fixture_files(x, "segments") == 1);
	fixture_close(x);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 3);
}

static void
test_first_sync_fails(void)
{
	fixture_run(first_sync_fails);
}

/*
 * The cut may be lost with the power while the records were not: the header of
 * the next segment still says where this one ended.
 */
static void
cut_is_lost(struct fixture *x)
{
	char path[512], copy[8192];
	ssize_t len;
	int fd;

	fixture_open_spools(x);
	CU_ASSERT(commit_many(x, "a", 1, 1000) == 1);
	snprintf(path, sizeof(path), "%s", fixture_path(x, "segments"));
	spool_calls.fdatasync = fail_sync;
	failing = 0;
	CU_ASSERT(commit_many(x, "b", 1, 1000) == 1);
	/* As if b's group had failed, but its bytes had reached the disk. */
	fd = open(path, O_RDWR);
	len = pread(fd, copy, sizeof(copy), 0);
	CU_ASSERT(len > 2000);
	close(fd);
	failing = 1;
	CU_ASSERT(commit_many(x, "x", 1, 1000) == 0);
	CU_ASSERT(commit_many(x, "c", 1, 1000) == 1);
	spool_calls.fdatasync = fdatasync;
	fd = open(path, O_RDWR);
	/* Something behind the end that the next header tells. */
	CU_ASSERT(pwrite(fd, copy, (size_t)len, len) == len);
	close(fd);
	fixture_close(x);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 3);
	CU_ASSERT(fixture_files(x, "corrupt") == 0);
	for (size_t i = 0; i < 3; i++)
		queue_record(x->queue, x->entries[i], NULL, QUEUE_DELIVERED,
		    0);
	/* The one that says so goes after the one that it speaks of. */
	queue_maintain(x->queue);
	queue_maintain(x->queue);
	CU_ASSERT(fixture_files(x, "segments") == 0);
}

static void
test_cut_is_lost(void)
{
	fixture_run(cut_is_lost);
}

static void
write_fails(struct fixture *x)
{
	fixture_open_spools(x);
	CU_ASSERT(commit_many(x, "a", 5, 1000) == 5);
	spool_calls.pwritev = fail_write;
	failing = 1;
	fail_error = ENOSPC;
	CU_ASSERT(commit_many(x, "b", 5, 1000) == 4);
	spool_calls.pwritev = pwritev;
	fixture_close(x);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 9);
	CU_ASSERT(fixture_files(x, "corrupt") == 0);
}

static void
test_write_fails(void)
{
	fixture_run(write_fails);
}

static ssize_t
fail_pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
	if (failing > 0 && --failing == 0) {
		errno = fail_error;
		return -1;
	}
	return pwrite(fd, bytes, len, offset);
}

static void
large_fails(struct fixture *x)
{
	fixture_open_spools(x);
	CU_ASSERT(fixture_commit(x, "a", 1, 100) == 0);
	spool_calls.pwrite = fail_pwrite;
	failing = 2;
	fail_error = ENOSPC;
	CU_ASSERT(fixture_commit(x, "big", 1, 5000000) == -1);
	spool_calls.pwrite = pwrite;
	CU_ASSERT(fixture_files(x, "large") == 0);
	spool_calls.fdatasync = fail_sync;
	failing = 1;
	CU_ASSERT(fixture_commit(x, "big", 1, 5000000) == -1);
	spool_calls.fdatasync = fdatasync;
	CU_ASSERT(fixture_files(x, "large") == 0);
	CU_ASSERT(fixture_commit(x, "big", 1, 500000) == 0);
	fixture_close(x);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 2);
	CU_ASSERT(fixture_is_whole(x, "big", 1, 500000));
}

static void
test_large_fails(void)
{
	fixture_run(large_fails);
}

/* Tasks that wait while it is closed hear how it went. */
static void
closes(struct fixture *x)
{
	struct job jobs[10];
	struct task *tasks[10];

	fixture_open_spools(x);
	for (int i = 0; i < 10; i++) {
		jobs[i] = (struct job){ .x = x, .size = 500, .rc = 5 };
		snprintf(jobs[i].id, sizeof(jobs[i].id), "m%d", i);
		tasks[i] = task_start("commit", commit_task, &jobs[i]);
	}
	task_yield();
	spool_close(&x->spool);
	for (int i = 0; i < 10; i++) {
		task_join(&tasks[i], DEADLINE_NEVER);
		CU_ASSERT(jobs[i].rc == 0);
	}
	fixture_open_queue(x);
	CU_ASSERT(x->found == 10);
}

static void
test_closes(void)
{
	fixture_run(closes);
}

SUITE(spool, { "commits", test_commits }, { "group", test_group },
    { "fewer come back", test_fewer_come_back },
    { "segments", test_segments }, { "large", test_large },
    { "from a file", test_from_file }, { "refuses", test_refuses },
    { "room", test_room },
    { "no room", test_no_room }, { "sync fails", test_sync_fails },
    { "first sync fails", test_first_sync_fails },
    { "cut is lost", test_cut_is_lost }, { "write fails", test_write_fails },
    { "large fails", test_large_fails }, { "closes", test_closes })
