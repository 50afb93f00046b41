#include "config.h"

#include "gateway/queue.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/task.h"
#include "gateway/queue_internal.h"
#include "gateway/spool_calls.h"
#include "t/unit/gateway/spool_fixture.h"
#include "t/unit/unit.h"

#define TEST(name) static void test_##name(void) { fixture_run(name); }

static void
record(struct fixture *x, const char *id, const char *recipient,
    enum queue_outcome outcome, int64_t next_try_ms)
{
	struct queue_entry *entry = queue_find(x->queue, id);

	CU_ASSERT_FATAL(entry != NULL);
	queue_record(x->queue, entry, recipient, outcome, next_try_ms);
}

static void
restart(struct fixture *x)
{
	fixture_close(x);
	fixture_open_spools(x);
	fixture_open_queue(x);
}

static void
maintain(struct fixture *x)
{
	for (int i = 0; i < 50; i++) {
		queue_maintain(x->queue);
		task_sleep(1);
	}
}

/* New messages are found as they are committed. */
static void
polls(struct fixture *x)
{
	fixture_open_spools(x);
	fixture_open_queue(x);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 0);
	CU_ASSERT(fixture_commit(x, "a", 1, 5000) == 0);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 1 && queue_count(x->queue) == 1);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 1);
	CU_ASSERT(fixture_commit(x, "b", 1, 5000) == 0);
	CU_ASSERT(fixture_commit(x, "c", 1, 5000) == 0);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 3);
	CU_ASSERT(x->entries[0]->arrived_ms == 1000);
	CU_ASSERT(x->entries[0]->size == 5000);
	CU_ASSERT(x->entries[0]->pending == 1);
}
TEST(polls)

/* What is appended but not on stable storage is none of the relay's business. */
static void
only_committed(struct fixture *x)
{
	struct spool_tail tail;

	fixture_open_spools(x);
	fixture_open_queue(x);
	CU_ASSERT(fixture_commit(x, "a", 1, 100) == 0);
	tail = x->tails[0];
	CU_ASSERT(fixture_commit(x, "b", 1, 100) == 0);
	x->tails[0] = tail;
	queue_poll(x->queue);
	CU_ASSERT(x->found == 1);
}
TEST(only_committed)

static void
restarts(struct fixture *x)
{
	fixture_open_spools(x);
	fixture_open_queue(x);
	fixture_commit(x, "done", 2, 100);
	fixture_commit(x, "part", 3, 100);
	fixture_commit(x, "later", 100, 100);
	queue_poll(x->queue);
	record(x, "done", NULL, QUEUE_DELIVERED, 0);
	record(x, "part", "r1@example.org", QUEUE_DELIVERED, 0);
	record(x, "later", "r77@example.org", QUEUE_BOUNCED, 0);
	record(x, "later", NULL, QUEUE_DEFERRED, 5000);
	record(x, "later", NULL, QUEUE_DEFERRED, 9000);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT(queue_count(x->queue) == 2);
		CU_ASSERT(queue_find(x->queue, "done") == NULL);
		CU_ASSERT(fixture_is_whole(x, "part", 2, 100));
		CU_ASSERT(fixture_is_whole(x, "later", 99, 100));
		CU_ASSERT(queue_find(x->queue, "later")->attempts == 2);
		CU_ASSERT(queue_find(x->queue, "later")->next_try_ms == 9000);
		CU_ASSERT(queue_find(x->queue, "later")->pending == 99);
		restart(x);
	}
	record(x, "part", "r0@example.org", QUEUE_DELIVERED, 0);
	record(x, "part", "r1@example.org", QUEUE_DELIVERED, 0);
	CU_ASSERT(queue_find(x->queue, "part") != NULL);
	record(x, "part", "r2@example.org", QUEUE_DELIVERED, 0);
	CU_ASSERT(queue_find(x->queue, "part") == NULL);
}
TEST(restarts)

static void
holds(struct fixture *x)
{
	fixture_open_spools(x);
	fixture_open_queue(x);
	fixture_commit(x, "a", 1, 100);
	fixture_commit(x, "b", 1, 100);
	fixture_commit(x, "c", 1, 100);
	queue_poll(x->queue);
	record(x, "a", NULL, QUEUE_HELD, 0);
	record(x, "b", NULL, QUEUE_HELD, 0);
	record(x, "b", NULL, QUEUE_RELEASED, 0);
	record(x, "c", NULL, QUEUE_DELETED, 0);
	restart(x);
	CU_ASSERT(queue_find(x->queue, "a")->hold);
	CU_ASSERT(!queue_find(x->queue, "b")->hold);
	CU_ASSERT(queue_find(x->queue, "c") == NULL);
}
TEST(holds)

/* An entry that a delivery has stays until it is given back. */
static void
busy(struct fixture *x)
{
	struct arena *arena = arena_new(0);
	struct queue_message *m;
	struct queue_entry *e;
	const char *why;

	fixture_open_spools(x);
	fixture_open_queue(x);
	fixture_commit(x, "a", 2, 100);
	queue_poll(x->queue);
	e = queue_find(x->queue, "a");
	e->busy = true;
	m = queue_get(x->queue, e, arena, &why);
	CU_ASSERT_FATAL(m != NULL);
	queue_record(x->queue, e, m->envelope.recipients->address,
	    QUEUE_DELIVERED, 0);
	CU_ASSERT(e->pending == 1);
	queue_record(x->queue, e, NULL, QUEUE_DELETED, 0);
	CU_ASSERT(queue_count(x->queue) == 0);
	queue_record(x->queue, e, NULL, QUEUE_DELIVERED, 0);
	CU_ASSERT(queue_get(x->queue, e, arena, &why) == NULL);
	queue_put(x->queue, &m);
	CU_ASSERT(strcmp(e->id, "a") == 0);
	queue_release(x->queue, e);
	arena_free(&arena);
}
TEST(busy)

static void
unlinks(struct fixture *x)
{
	x->segment_size = 8000;
	fixture_open_spools(x);
	fixture_open_queue(x);
	fixture_commit(x, "a", 1, 6000);
	fixture_commit(x, "b", 1, 6000);
	fixture_commit(x, "big", 1, 300000);
	queue_poll(x->queue);
	CU_ASSERT(fixture_files(x, "segments") == 2);
	maintain(x);
	CU_ASSERT(fixture_files(x, "segments") == 2);
	record(x, "a", NULL, QUEUE_DELIVERED, 0);
	record(x, "big", NULL, QUEUE_DELIVERED, 0);
	CU_ASSERT(fixture_files(x, "large") == 1);
	maintain(x);
	CU_ASSERT(fixture_files(x, "segments") == 1);
	CU_ASSERT(fixture_files(x, "large") == 0);
	record(x, "b", NULL, QUEUE_DELIVERED, 0);
	maintain(x);
	/* A writer has it still. */
	CU_ASSERT(fixture_files(x, "segments") == 1);
	spool_close(&x->spool);
	maintain(x);
	CU_ASSERT(fixture_files(x, "segments") == 0);
	restart(x);
	CU_ASSERT(x->found == 0);
	maintain(x);
	CU_ASSERT(fixture_files(x, "journal") == 0);
	CU_ASSERT(fixture_files(x, "corrupt") == 0);
}
TEST(unlinks)

/* --- compaction --- */

static void
fill(struct fixture *x)
{
	char id[16];

	x->segment_size = 60000;
	fixture_open_spools(x);
	fixture_open_queue(x);
	for (int i = 0; i < 12; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		CU_ASSERT(fixture_commit(x, id, 70, 2000) == 0);
	}
	fixture_commit(x, "big", 3, 300000);
	fixture_commit(x, "next", 1, 59000);	/* another segment */
	queue_poll(x->queue);
	CU_ASSERT(x->found == 14);
	for (int i = 2; i < 12; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		record(x, id, NULL, QUEUE_DELIVERED, 0);
	}
	record(x, "m0", "r1@example.org", QUEUE_DELIVERED, 0);
	record(x, "m0", "r69@example.org", QUEUE_DELIVERED, 0);
	record(x, "m0", NULL, QUEUE_DEFERRED, 7000);
	record(x, "m1", NULL, QUEUE_HELD, 0);
	record(x, "big", "r0@example.org", QUEUE_DELIVERED, 0);
	x->queue->compact_age_ms = 0;
}

static void
check_compacted(struct fixture *x)
{
	CU_ASSERT(queue_count(x->queue) == 4);
	CU_ASSERT(fixture_is_whole(x, "m0", 68, 2000));
	CU_ASSERT(fixture_is_whole(x, "m1", 70, 2000));
	CU_ASSERT(fixture_is_whole(x, "big", 2, 300000));
	CU_ASSERT(queue_find(x->queue, "m0")->attempts == 1);
	CU_ASSERT(queue_find(x->queue, "m0")->next_try_ms == 7000);
	CU_ASSERT(queue_find(x->queue, "m0")->arrived_ms == 1000);
	CU_ASSERT(queue_find(x->queue, "m1")->hold);
	CU_ASSERT(fixture_files(x, "corrupt") == 0);
}

static void
compacts(struct fixture *x)
{
	char path[512];
	size_t before;

	fill(x);
	snprintf(path, sizeof(path), "%s", fixture_path(x, "segments"));
	before = fixture_files(x, "segments");
	maintain(x);
	CU_ASSERT(x->found == 14);
	/* The old one went, the relay's came. */
	CU_ASSERT(fixture_files(x, "segments") == before);
	check_compacted(x);
	CU_ASSERT(((struct entry *)queue_find(x->queue,
	    "m0"))->generation == 1);
	restart(x);
	check_compacted(x);
	record(x, "m0", "r0@example.org", QUEUE_DELIVERED, 0);
	CU_ASSERT(queue_find(x->queue, "m0")->pending == 67);
}
TEST(compacts)

/* A segment whose messages all wait is copied for the sake of the journals. */
static void
journals_end(struct fixture *x)
{
	struct entry *entry;

	x->segment_size = 60000;
	fixture_open_spools(x);
	fixture_open_queue(x);
	fixture_commit(x, "a", 2, 25000);
	fixture_commit(x, "b", 1, 25000);
	fixture_commit(x, "next", 1, 59000);	/* another segment */
	queue_poll(x->queue);
	record(x, "a", NULL, QUEUE_DEFERRED, 7000);
	x->queue->compact_age_ms = 0;
	maintain(x);
	entry = (struct entry *)queue_find(x->queue, "a");
	CU_ASSERT(entry->generation == 0);
	entry->segment->last_journal += 8;
	maintain(x);
	CU_ASSERT(entry->generation == 1);
	CU_ASSERT(entry->segment->last_journal ==
	    entry->segment->first_journal);
	restart(x);
	CU_ASSERT(fixture_is_whole(x, "a", 2, 25000));
	CU_ASSERT(fixture_is_whole(x, "b", 1, 25000));
	CU_ASSERT(queue_find(x->queue, "a")->next_try_ms == 7000);
}
TEST(journals_end)

/*
 * A crash between the copy and the unlinking leaves both.  The journal says so,
 * and without the journal the newer one wins.
 */
static void
duplicates(struct fixture *x)
{
	char name[512], *bytes;
	ssize_t len;
	int fd;

	fill(x);
	snprintf(name, sizeof(name), "%s/segments/%s-%016llx.seg",
	    x->directory, x->queue->segments->writer,
	    (unsigned long long)x->queue->segments->serial);
	bytes = malloc(1 << 20);
	fd = open(name, O_RDONLY);
	len = read(fd, bytes, 1 << 20);
	CU_ASSERT_FATAL(len > 30000);
	close(fd);
	maintain(x);
	CU_ASSERT(access(name, F_OK) == -1);
	fixture_close(x);
	fixture_put(x, name, bytes, (size_t)len);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 4);
	check_compacted(x);
	queue_close(&x->queue);
	fixture_empty(x, "journal");
	fixture_put(x, name, bytes, (size_t)len);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 14);
	CU_ASSERT(fixture_is_whole(x, "m0", 68, 2000));
	CU_ASSERT(queue_find(x->queue, "m0")->pending == 68);
	CU_ASSERT(fixture_is_whole(x, "big", 2, 300000));
	CU_ASSERT(queue_find(x->queue, "m1")->hold);
	free(bytes);
}
TEST(duplicates)

static int
slow_sync(int fd)
{
	usleep(20000);
	return fdatasync(fd);
}

/* What happens while the copy is being made is not forgotten. */
static void
moves_under_way(struct fixture *x)
{
	fill(x);
	spool_calls.fdatasync = slow_sync;
	queue_maintain(x->queue);
	CU_ASSERT(x->queue->compacting != NULL);
	task_sleep(5);
	CU_ASSERT(((struct entry *)queue_find(x->queue, "m0"))->is_moving);
	record(x, "m0", "r2@example.org", QUEUE_DELIVERED, 0);
	record(x, "m1", NULL, QUEUE_DELETED, 0);
	CU_ASSERT(queue_find(x->queue, "m1") == NULL);
	while (x->queue->compacting != NULL)
		task_sleep(5);
	spool_calls.fdatasync = fdatasync;
	maintain(x);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT(queue_count(x->queue) == 3);
		CU_ASSERT(fixture_is_whole(x, "m0", 67, 2000));
		CU_ASSERT(queue_find(x->queue, "m1") == NULL);
		CU_ASSERT(x->found == (i == 0 ? 14 : 3));
		restart(x);
	}
}
TEST(moves_under_way)

static int
failing_sync(int fd)
{
	(void)fd;
	errno = EIO;
	return -1;
}

static void
compaction_fails(struct fixture *x)
{
	size_t before;

	fill(x);
	before = fixture_files(x, "segments");
	spool_calls.fdatasync = failing_sync;
	maintain(x);
	spool_calls.fdatasync = fdatasync;
	CU_ASSERT(fixture_files(x, "segments") == before);
	check_compacted(x);
	restart(x);
	check_compacted(x);
}
TEST(compaction_fails)

/* --- damage --- */

struct image {
	char *bytes;
	size_t len, ends[4];
};

static int
no_sync(int fd)
{
	(void)fd;
	return 0;
}

static void
sync_quickly(bool quickly)
{
	spool_calls.fdatasync = quickly ? no_sync : fdatasync;
	spool_calls.fsync = quickly ? no_sync : fsync;
}

/* A segment of three messages, and where each ends. */
static struct image
three(struct fixture *x)
{
	static const char *const ids[] = { "a", "b", "c" };
	struct image image = { .ends = { SEGMENT_HEADER_SIZE } };
	int fd;

	fixture_open_spools(x);
	for (int i = 0; i < 3; i++) {
		CU_ASSERT(fixture_commit(x, ids[i], 1, 150) == 0);
		image.ends[i + 1] = x->tails[0].committed;
	}
	fixture_close(x);
	image.len = image.ends[3];
	image.bytes = malloc(image.len);
	fd = open(fixture_path(x, "segments"), O_RDONLY);
	CU_ASSERT_FATAL(read(fd, image.bytes, image.len) ==
	    (ssize_t)image.len);
	close(fd);
	return image;
}

static void
torn(struct fixture *x)
{
	struct image image = three(x);
	char name[512];

	snprintf(name, sizeof(name), "%s", fixture_path(x, "segments"));
	sync_quickly(true);
	for (size_t len = 0; len <= image.len; len += len < 960 ? 64 : 1) {
		size_t whole = 0;

		while (whole < 3 && image.ends[whole + 1] <= len)
			whole++;
		fixture_put(x, name, image.bytes, len);
		fixture_open_queue(x);
		CU_ASSERT(x->found == whole);
		/* Some bytes of a record are kept for the operator. */
		CU_ASSERT(fixture_files(x, "corrupt") == (len > 1024 &&
		    len != image.ends[whole]));
		queue_close(&x->queue);
	}
	sync_quickly(false);
	free(image.bytes);
}
TEST(torn)

static void
flipped(struct fixture *x)
{
	struct image image = three(x);
	char name[512];

	snprintf(name, sizeof(name), "%s", fixture_path(x, "segments"));
	sync_quickly(true);
	for (size_t at = 0; at < image.len; at += 7) {
		size_t hit = 0;

		while (hit < 3 && image.ends[hit + 1] <= at)
			hit++;
		image.bytes[at] ^= (char)(1 << at % 8);
		fixture_put(x, name, image.bytes, image.len);
		image.bytes[at] ^= (char)(1 << at % 8);
		fixture_open_queue(x);
		/* The header stands twice. */
		CU_ASSERT(x->found == (at < 1024 ? 3 : 2));
		CU_ASSERT(fixture_files(x, "corrupt") == (at >= 1024));
		for (size_t i = 0; i < 3 && at >= 1024; i++) {
			const char id[2] = { "abc"[i], '\0' };

			CU_ASSERT((queue_find(x->queue, id) != NULL) ==
			    (i != hit));
		}
		queue_close(&x->queue);
	}
	sync_quickly(false);
	free(image.bytes);
}
TEST(flipped)

/* Found when it is read for delivery, too. */
static void
corrupt_later(struct fixture *x)
{
	struct arena *arena = arena_new(0);
	const char *why = NULL;
	int fd;

	fixture_open_spools(x);
	fixture_open_queue(x);
	fixture_commit(x, "a", 1, 1000);
	fixture_commit(x, "big", 1, 300000);
	queue_poll(x->queue);
	fd = open(fixture_path(x, "segments"), O_RDWR);
	CU_ASSERT(pwrite(fd, "!", 1, 1800) == 1);
	close(fd);
	fd = open(fixture_path(x, "large"), O_RDWR);
	CU_ASSERT(pwrite(fd, "!", 1, 200000) == 1);
	close(fd);
	for (size_t i = 0; i < 2; i++) {
		x->entries[i]->busy = true;
		CU_ASSERT(queue_get(x->queue, x->entries[i], arena,
		    &why) == NULL);
		CU_ASSERT(why != NULL);
		queue_release(x->queue, x->entries[i]);
	}
	CU_ASSERT(queue_count(x->queue) == 0);
	CU_ASSERT(fixture_files(x, "corrupt") == 3);
	CU_ASSERT(fixture_files(x, "large") == 0);
	restart(x);
	CU_ASSERT(x->found == 0);
	CU_ASSERT(fixture_files(x, "corrupt") == 3);
	arena_free(&arena);
}
TEST(corrupt_later)

/* F20: a file that is not ours, one without a header, a link. */
static void
foreign(struct fixture *x)
{
	char path[512], other[512];

	fixture_open_spools(x);
	fixture_commit(x, "a", 1, 100);
	snprintf(path, sizeof(path), "%s/segments/README", x->directory);
	fixture_put(x, path, "hello", 5);
	snprintf(path, sizeof(path), "%s/segments/g7-0000000000000007.seg",
	    x->directory);
	fixture_put(x, path, (char[2000]){ 0 }, 2000);
	snprintf(path, sizeof(path), "%s/segments/g7-0000000000000008.seg",
	    x->directory);
	CU_ASSERT(symlink("/etc/passwd", path) == 0);
	snprintf(other, sizeof(other), "%s/segments/g7-0000000000000009.seg",
	    x->directory);
	fixture_put(x, other, "", 0);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 1);
	CU_ASSERT(fixture_files(x, "corrupt") == 1);
	maintain(x);
	CU_ASSERT(access(other, F_OK) == -1);
	CU_ASSERT(fixture_files(x, "segments") == 3);
}
TEST(foreign)

/* A message's text cannot be taken for a record. */
static void
made_up(struct fixture *x)
{
	struct image image = three(x);
	struct recipient r = { .address = "r0@example.org" };
	struct envelope envelope = { .id = "evil", .sender = "",
		.recipients = &r };
	struct slice slice = { .data = image.bytes + 1024,
		.len = image.len - 1024 };
	const char *why = "";
	int fd;

	fixture_empty(x, "segments");
	fixture_open_spools(x);
	CU_ASSERT(spool_commit(x->spool, &envelope, &slice, 1, &why) == 0);
	spool_close(&x->spool);
	fd = open(fixture_path(x, "segments"), O_RDWR);
	CU_ASSERT(pwrite(fd, "!", 1, 1040) == 1);
	close(fd);
	fixture_open_queue(x);
	CU_ASSERT(x->found == 0);
	CU_ASSERT(fixture_files(x, "corrupt") == 1);
	free(image.bytes);
}
TEST(made_up)

static void
one_relay(struct fixture *x)
{
	struct queue_settings settings = { .directory = x->directory };
	const char *why = NULL;

	fixture_open_queue(x);
	CU_ASSERT(queue_open(&settings, NULL, NULL, &why) == NULL);
	CU_ASSERT_STRING_EQUAL(why, "another process has the queue");
}
TEST(one_relay)

/* Without tails: by the directory and the files' sizes. */
static void
no_tails(struct fixture *x)
{
	fixture_open_spools(x);
	fixture_open_queue(x);
	x->queue->settings.tails = NULL;
	x->queue->settings.tail_count = 0;
	x->queue->settings.compaction = NULL;
	fixture_commit(x, "a", 1, 100);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 1);
	fixture_commit(x, "b", 1, 100);
	queue_poll(x->queue);
	CU_ASSERT(x->found == 2);
}
TEST(no_tails)

SUITE(queue, { "polls", test_polls }, { "only committed",
    test_only_committed }, { "restarts", test_restarts },
    { "holds", test_holds }, { "busy", test_busy },
    { "unlinks", test_unlinks }, { "compacts", test_compacts },
    { "journals end", test_journals_end },
    { "duplicates", test_duplicates },
    { "moves under way", test_moves_under_way },
    { "compaction fails", test_compaction_fails }, { "torn", test_torn },
    { "flipped", test_flipped }, { "corrupt later", test_corrupt_later },
    { "foreign", test_foreign }, { "made up", test_made_up },
    { "one relay", test_one_relay }, { "no tails", test_no_tails })
