/*
 * The spool, the gateway's side.
 *
 * A commit is one pwritev of this thread, then a wait for the committer's
 * fdatasync.  What a message goes through, and what a crash leaves:
 *	a segment is new	its directory entry is synced with the first
 *				group; before that nobody was told 250
 *	appended, not synced	a record may be found at the next start, whole
 *				or torn; whole ones are delivered, and the
 *				client, who has no answer, sends again
 *	synced			250 may be said; found at any start
 *	the sync failed		451 is said.  The file is cut to where it was
 *				good, and the next segment's header says so too:
 *				it is synced before anybody hears 250 again, and
 *				what stands behind that end is ignored.  Only if
 *				the machine stops before it, and the disk took
 *				the records but not the cut, will a message be
 *				delivered that was answered 451.
 *	a write failed		451 for that message; the file is cut before it
 *				and closed.  Those before it are synced as usual.
 * A large message's file and its name are synced before the record that speaks
 * of them is written.
 */
#include "config.h"

#include "gateway/spool.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/spool_calls.h"
#include "gateway/spool_commit.h"
#include "gateway/spool_dir.h"
#include "gateway/spool_envelope.h"
#include "gateway/spool_internal.h"
#include "gateway/spool_segment.h"

#define ROOM_INTERVAL_MS 1000
#define INODES_LEFT 64

struct spool {
	struct spool_settings settings;
	char writer[SEGMENT_WRITER_SIZE];
	struct spool_dir dir;
	struct committer *committer;
	struct spool_segment *segment;	/* appended to, or NULL */
	struct spool_segment *failed;	/* kept locked, see segment_done */
	uint64_t serial;
	uint64_t messages;
	unsigned users;			/* tasks that commit */
	bool closing;			/* the last of them closes */
	int64_t room;			/* bytes, as of room_checked */
	int64_t room_checked;
	bool room_failed;
};

/*
 * A segment that failed stays locked until the next one is on stable storage
 * and says where this one ended; until then the relay must not take its end
 * for that of the file, in case it could not be cut.
 */
static void
segment_done(struct spool_segment *segment, void *argument)
{
	struct spool *spool = argument;
	char name[SPOOL_NAME_SIZE];

	if (spool->segment == segment)
		spool->segment = NULL;
	if (segment->failed && segment->committed == 0) {
		segment_name_print(name, spool->writer,
		    segment->header.serial);
		spool_calls.unlinkat(spool->dir.segments, name, 0);
	} else if (segment->failed && spool->failed == NULL) {
		spool->failed = segment;
		return;
	}
	segment_free(&segment);
}

static void
segment_leave(struct spool *spool)
{
	struct spool_segment *segment = spool->segment;

	spool->segment = NULL;
	if (segment == NULL)
		return;
	segment->closed = true;
	if (segment->groups == 0)
		segment_done(segment, spool);
}

/* The greatest serial that this writer's predecessors left. */
static int
find_serial(struct spool *spool, const char **why)
{
	char writer[SEGMENT_WRITER_SIZE];
	struct dirent *entry;
	uint64_t serial;
	int fd = dup(spool->dir.segments);
	DIR *dir;

	if (fd == -1 || (dir = fdopendir(fd)) == NULL) {
		*why = strerrordesc_np(errno);
		if (fd != -1)
			close(fd);
		return -1;
	}
	rewinddir(dir);
	while ((entry = readdir(dir)) != NULL)
		if (segment_name_parse(entry->d_name, writer, &serial) &&
		    strcmp(writer, spool->writer) == 0 &&
		    serial > spool->serial)
			spool->serial = serial;
	closedir(dir);
	return 0;
}

struct spool *
spool_open(const struct spool_settings *settings, const char **why)
{
	struct spool *spool = calloc(1, sizeof(*spool));
	struct committer_settings committer;

	assert(spool != NULL);
	assert(strlen(settings->writer) < sizeof(spool->writer));
	spool->settings = *settings;
	spool->settings.directory = NULL;	/* not ours to keep */
	spool->settings.writer = NULL;
	strcpy(spool->writer, settings->writer);
	spool->room_checked = -ROOM_INTERVAL_MS;
	if (spool_dir_open(&spool->dir, settings->directory, false,
	    why) != 0) {
		free(spool);
		return NULL;
	}
	committer = (struct committer_settings){
		.segments = spool->dir.segments, .tail = settings->tail,
		.doorbell_fd = settings->doorbell_fd, .done = segment_done,
		.argument = spool
	};
	if (find_serial(spool, why) != 0 ||
	    (spool->committer = committer_new(&committer, why)) == NULL)
		spool_close(&spool);
	return spool;
}

void
spool_close(struct spool **spoolp)
{
	struct spool *spool = *spoolp;

	if (spool == NULL)
		return;
	if (spool->committer != NULL)
		committer_drain(spool->committer);
	if (spool->users > 0) {
		/* They are told, but have not run yet. */
		spool->closing = true;
		*spoolp = NULL;
		return;
	}
	segment_leave(spool);
	segment_free(&spool->failed);
	committer_free(&spool->committer);
	spool_dir_close(&spool->dir);
	free(spool);
	*spoolp = NULL;
}

static void
room_check(struct spool *spool)
{
	struct statvfs st;
	int64_t now = task_now();

	if (now - spool->room_checked < ROOM_INTERVAL_MS)
		return;
	spool->room_checked = now;
	if (fstatvfs(spool->dir.segments, &st) == -1) {
		if (!spool->room_failed)
			log_warn(NULL, "spool: cannot tell the disk's free "
			    "space: %s", strerror(errno));
		spool->room_failed = true;
		return;		/* as it was; the commit will show */
	}
	spool->room_failed = false;
	spool->room = (int64_t)st.f_bavail * (int64_t)st.f_frsize;
	/* Some file systems don't count inodes. */
	if (st.f_files != 0 && st.f_favail < INODES_LEFT)
		spool->room = 0;
}

/*
 * What was delivered from the current segment keeps its place on the disk until
 * we leave it.  While we refuse mail we never fill it, so we leave it at once:
 * it may be what the room is wanting for.
 */
bool
spool_has_room(struct spool *spool, int64_t size)
{
	room_check(spool);
	if (spool->room > 0 &&
	    spool->room - size >= spool->settings.minimum_free)
		return true;
	if (spool->room < spool->settings.minimum_free &&
	    spool->segment != NULL &&
	    spool->segment->end > SEGMENT_HEADER_SIZE)
		segment_leave(spool);
	return false;
}

/* The segment to append len bytes to. */
static int
segment_for(struct spool *spool, uint64_t len, const char **why)
{
	struct spool_segment *segment = spool->segment;

	if (segment != NULL && (segment->closed ||
	    (segment->end > SEGMENT_HEADER_SIZE && segment->end + len >
	    (uint64_t)spool->settings.segment_size)))
		segment_leave(spool);
	if (spool->segment == NULL)
		spool->segment = segment_new(spool->dir.segments,
		    spool->writer, &spool->serial, why);
	return spool->segment == NULL ? -1 : 0;
}

/* Once a segment behind it is on stable storage its lock may go. */
static void
failed_forget(struct spool *spool)
{
	uint64_t serial, committed;

	if (spool->failed == NULL)
		return;
	committer_position(spool->committer, &serial, &committed);
	if (serial != spool->failed->header.serial)
		segment_free(&spool->failed);
}

/* 0; -1: failed, nothing is left of it; 1: cancelled, cannot tell. */
static int
append_and_wait(struct spool *spool, const struct envelope *envelope,
    struct record *record, const struct slice *content, size_t count,
    const char **why)
{
	struct spool_segment *segment;
	struct buf bytes = BUF_INIT;
	int rc = -1;

	if (spool->closing) {		/* a large one waits twice */
		*why = "the spool is closing";
		return -1;
	}
	spool_envelope_encode(&bytes, envelope);
	record->envelope_len = (uint32_t)bytes.len;
	if (bytes.len > RECORD_ENVELOPE_MAX) {
		*why = "the envelope is too large";
		goto out;
	}
	if (segment_for(spool, record_length(record), why) != 0)
		goto out;
	segment = spool->segment;
	if (segment_append(segment, record, &bytes, content, count,
	    why) != 0) {
		segment_leave(spool);
		spool->room_checked = -ROOM_INTERVAL_MS;
		goto out;
	}
	spool->room -= (int64_t)record_length(record);
	rc = 0;
out:
	buf_release(&bytes);
	if (rc != 0)
		return -1;
	rc = committer_wait(spool->committer, segment, why);
	if (rc != 0)
		return rc;
	failed_forget(spool);
	spool->messages++;
	return 0;
}

static int
commit_large(struct spool *spool, const struct envelope *envelope,
    struct record *record, const struct slice *content, size_t count,
    const char **why)
{
	char name[SPOOL_NAME_SIZE];
	int fd = large_write(spool->dir.large, envelope->id, content, count,
	    record, why);
	int rc;

	if (fd == -1)
		return -1;
	spool->room -= (int64_t)record->content_len;
	rc = committer_wait_file(spool->committer, fd, spool->dir.large, why);
	if (rc == 0)
		rc = append_and_wait(spool, envelope, record, NULL, 0, why);
	if (rc == -1) {
		large_name_print(name, envelope->id);
		spool_calls.unlinkat(spool->dir.large, name, 0);
	}
	return rc;
}

static int
commit(struct spool *spool, const struct envelope *envelope,
    const struct slice *content, size_t count, const struct spool_copy *copy,
    const char **why)
{
	struct record record = { .type = RECORD_MESSAGE };

	if (envelope->recipients == NULL || envelope->id[0] == '\0') {
		*why = "no recipient, or no id";
		return -1;
	}
	for (size_t i = 0; i < count; i++)
		record.content_len += content[i].len;
	if (copy != NULL)
		record.generation = copy->generation;
	if (copy != NULL && copy->large) {
		record.type = RECORD_LARGE;
		record.content_len = copy->size;
		record.content_crc = copy->crc;
		return append_and_wait(spool, envelope, &record, NULL, 0, why);
	}
	if (record.content_len < (uint64_t)spool->settings.large_size)
		return append_and_wait(spool, envelope, &record, content,
		    count, why);
	record.type = RECORD_LARGE;
	return commit_large(spool, envelope, &record, content, count, why);
}

int
spool_commit_copy(struct spool *spool, const struct envelope *envelope,
    const struct slice *content, size_t count, const struct spool_copy *copy,
    const char **why)
{
	int rc;

	if (spool->closing) {
		*why = "the spool is closing";
		return -1;
	}
	spool->users++;
	rc = commit(spool, envelope, content, count, copy, why);
	if (--spool->users == 0 && spool->closing)
		spool_close(&spool);
	return rc == 0 ? 0 : -1;
}

int
spool_commit(struct spool *spool, const struct envelope *envelope,
    const struct slice *content, size_t count, const char **why)
{
	return spool_commit_copy(spool, envelope, content, count, NULL, why);
}

struct spool_tail
spool_position(const struct spool *spool)
{
	struct spool_tail tail;

	committer_position(spool->committer, &tail.serial, &tail.committed);
	return tail;
}

void
spool_statistics(const struct spool *spool, uint64_t *syncs,
    uint64_t *messages)
{
	*syncs = committer_syncs(spool->committer);
	*messages = spool->messages;
}
