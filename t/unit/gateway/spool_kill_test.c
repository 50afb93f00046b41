/*
 * What was acknowledged survives: a child commits and is killed at a random
 * moment, its parent looks.  And how long a start takes with a long queue.
 */
#include "config.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/task.h"
#include "gateway/crc32c.h"
#include "gateway/queue_internal.h"
#include "gateway/spool_calls.h"
#include "gateway/spool_envelope.h"
#include "t/unit/gateway/spool_fixture.h"
#include "t/unit/unit.h"

#define ROUNDS 20
#define ID_LEN 8
#define MANY 100000

static struct fixture *child_fixture;
static int child_pipe, child_ready;
static unsigned child_count;

static void
child_task(void *argument)
{
	static const size_t sizes[] = { 0, 700, 5000, 20000, 250000 };
	char id[ID_LEN + 1];

	(void)argument;
	for (;;) {
		unsigned i = child_count++;

		snprintf(id, sizeof(id), "m%07u", i);
		if (fixture_commit(child_fixture, id, 1 + i % 3,
		    sizes[i % 5]) != 0 ||
		    write(child_pipe, id, ID_LEN) != ID_LEN)
			_exit(1);
		if (child_ready != -1 && write(child_ready, "", 1) == 1)
			child_ready = -1;
	}
}

static void
child(struct fixture *x, int fd, int ready)
{
	child_fixture = x;
	child_pipe = fd;
	child_ready = ready;
	task_init();
	fixture_open_spools(x);
	for (int i = 0; i < 8; i++)
		task_detach("commit", child_task, NULL);
	task_loop();
	_exit(1);
}

static int acknowledgements;	/* where they are read from */

static void
check(struct fixture *x)
{
	size_t acknowledged = 0, missing = 0;
	char id[ID_LEN + 1] = "";

	fixture_open_queue(x);
	while (read(acknowledgements, id, ID_LEN) == ID_LEN) {
		acknowledged++;
		if (queue_find(x->queue, id) == NULL)
			missing++;
	}
	CU_ASSERT(acknowledged > 0);
	CU_ASSERT(missing == 0);
	for (size_t i = 0; i < x->found && i < 256; i++)
		CU_ASSERT(fixture_recipients(x, x->entries[i]->id) > 0);
}

static void
kill_round(unsigned round)
{
	struct fixture x;
	char byte;
	int fds[2], ready[2], status;
	pid_t pid;

	fixture_init(&x);
	x.segment_size = 100000;
	CU_ASSERT_FATAL(pipe(fds) == 0 && pipe(ready) == 0);
	fcntl(fds[1], F_SETPIPE_SZ, 1 << 20);
	fflush(NULL);
	pid = fork();
	CU_ASSERT_FATAL(pid != -1);
	if (pid == 0) {
		close(fds[0]);
		close(ready[0]);
		child(&x, fds[1], ready[1]);
	}
	close(fds[1]);
	close(ready[1]);
	CU_ASSERT(read(ready[0], &byte, 1) == 1);
	usleep(round * 1733 % 20000);
	kill(pid, SIGKILL);
	CU_ASSERT(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	acknowledgements = fds[0];
	fixture_loop(&x, check);
	close(fds[0]);
	close(ready[0]);
	fixture_release(&x);
}

static void
killed(void)
{
	for (unsigned round = 0; round < ROUNDS; round++)
		kill_round(round);
}

/* --- killed at each durable step --- */

static int steps_left;
static bool step_is_done;	/* the call is made before the end */

/* The thread that is at the last step ends the process. */
#define STEP(call) do {							\
	bool last = __atomic_sub_fetch(&steps_left, 1,			\
	    __ATOMIC_SEQ_CST) == 0;					\
	if (last && !step_is_done)					\
		_exit(0);						\
	rc = call;							\
	if (last)							\
		_exit(0);						\
	return rc;							\
} while (0)

static ssize_t
step_pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
	ssize_t rc;

	STEP(pwritev(fd, iov, count, offset));
}

static ssize_t
step_pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
	ssize_t rc;

	STEP(pwrite(fd, bytes, len, offset));
}

static int
step_fdatasync(int fd)
{
	int rc;

	STEP(fdatasync(fd));
}

static int
step_fsync(int fd)
{
	int rc;

	STEP(fsync(fd));
}

static int
step_unlinkat(int directory, const char *name, int flags)
{
	int rc;

	STEP(unlinkat(directory, name, flags));
}

static void
commit_two(struct fixture *x)
{
	fixture_open_spools(x);
	if (fixture_commit(x, "m0000000", 1, 3000) == 0)
		(void)!write(child_pipe, "m0000000", ID_LEN);
	if (fixture_commit(x, "m0000001", 1, 250000) == 0)
		(void)!write(child_pipe, "m0000001", ID_LEN);
	_exit(1);	/* it came through */
}

static void
check_steps(struct fixture *x)
{
	char id[ID_LEN + 1] = "";

	fixture_open_queue(x);
	while (read(acknowledgements, id, ID_LEN) == ID_LEN)
		CU_ASSERT(queue_find(x->queue, id) != NULL);
	for (size_t i = 0; i < x->found; i++)
		CU_ASSERT(fixture_is_whole(x, x->entries[i]->id, 1,
		    x->entries[i]->size));
}

/* True: the child was through before that step. */
static bool
step_round(int step, bool done)
{
	struct fixture x;
	int fds[2], status;
	pid_t pid;

	fixture_init(&x);
	CU_ASSERT_FATAL(pipe(fds) == 0);
	fflush(NULL);
	pid = fork();
	CU_ASSERT_FATAL(pid != -1);
	if (pid == 0) {
		child_pipe = fds[1];
		steps_left = step;
		step_is_done = done;
		spool_calls = (struct spool_calls){ step_pwritev, step_pwrite,
			step_fdatasync, step_fsync, step_unlinkat };
		fixture_loop(&x, commit_two);
	}
	close(fds[1]);
	CU_ASSERT(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	acknowledgements = fds[0];
	fixture_loop(&x, check_steps);
	close(fds[0]);
	fixture_release(&x);
	return WEXITSTATUS(status) == 1;
}

static void
each_step(void)
{
	int step = 1;

	while (step < 100 && !step_round(step, false)) {
		step_round(step, true);
		step++;
	}
	CU_ASSERT(step > 8 && step < 100);
}

/* Written directly, so that this does not take the time to sync them. */
static void
write_many(struct fixture *x)
{
	struct segment_header header = { .serial = 1 << 20, .mark = 7,
		.writer = "g0" };
	struct recipient r = { .address = "somebody@example.org" };
	struct envelope envelope = { .sender = "a@example.com",
		.recipients = &r };
	char path[512], content[100] = "";
	struct buf bytes = BUF_INIT, out = BUF_INIT;
	FILE *file;

	snprintf(path, sizeof(path), "%s/segments/g0-%016x.seg",
	    x->directory, 1 << 20);
	segment_header_encode(&header, buf_reserve(&out,
	    SEGMENT_HEADER_SIZE));
	out.len = SEGMENT_HEADER_SIZE;
	for (unsigned i = 0; i < MANY; i++) {
		struct record record = { .type = RECORD_MESSAGE,
			.offset = out.len, .content_len = sizeof(content),
			.content_crc = crc32c(0, content, sizeof(content)) };

		snprintf(envelope.id, sizeof(envelope.id), "m%07u", i);
		buf_reset(&bytes);
		spool_envelope_encode(&bytes, &envelope);
		record.envelope_len = (uint32_t)bytes.len;
		record.envelope_crc = crc32c(0, bytes.data, bytes.len);
		record_encode(&record, 7, buf_reserve(&out,
		    RECORD_HEADER_SIZE));
		out.len += RECORD_HEADER_SIZE;
		buf_append(&out, bytes.data, bytes.len);
		buf_append(&out, content, sizeof(content));
	}
	file = fopen(path, "w");
	CU_ASSERT_FATAL(file != NULL);
	CU_ASSERT(fwrite(out.data, 1, out.len, file) == out.len);
	fclose(file);
	buf_release(&bytes);
	buf_release(&out);
}

static void
many(struct fixture *x)
{
	struct timespec from, to;
	double ms;

	write_many(x);
	clock_gettime(CLOCK_MONOTONIC, &from);
	fixture_open_queue(x);
	clock_gettime(CLOCK_MONOTONIC, &to);
	ms = (double)(to.tv_sec - from.tv_sec) * 1e3 +
	    (double)(to.tv_nsec - from.tv_nsec) / 1e6;
	CU_ASSERT(x->found == MANY);
	CU_ASSERT(queue_count(x->queue) == MANY);
	CU_ASSERT(queue_find(x->queue, "m0099999") != NULL);
	CU_ASSERT(ms < 3000);
	CU_ASSERT(sizeof(struct entry) <= 250);
	fprintf(stderr, "\n%d messages in %.0f ms, %zu bytes each ", MANY, ms,
	    sizeof(struct entry));
}

static void
test_many(void)
{
	fixture_run(many);
}

SUITE(spool_kill, { "killed", killed },
    { "each step", each_step }, { "many", test_many })
