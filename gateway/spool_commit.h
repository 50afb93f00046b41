/*
 * Group commit: a thread that calls fdatasync, once for all messages that were
 * appended while its last call ran.  Everything here is called by the loop's
 * thread; the other one only syncs, publishes the tail and rings.
 */
#ifndef GATEWAY_SPOOL_COMMIT_H
#define GATEWAY_SPOOL_COMMIT_H

#include <stdint.h>

#include "gateway/spool_record.h"

struct committer;
struct spool_tail;

/* A segment being written. */
struct spool_segment {
	int fd;
	struct segment_header header;
	uint64_t end;			/* appended so far */
	uint64_t committed;		/* on stable storage; 0: nothing yet */
	uint64_t synced;		/* the same, as the thread knows it */
	uint64_t allocated;
	unsigned groups;		/* that still speak of it */
	bool closed;			/* nothing more is appended */
	bool failed;			/* a sync failed: never used again */
};

struct committer_settings {
	int segments;			/* the directory */
	struct spool_tail *tail;	/* or NULL */
	int doorbell_fd;		/* or -1 */
	/* Called when a segment that is closed has no group any more. */
	void (*done)(struct spool_segment *, void *argument);
	void *argument;
};

struct committer *committer_new(const struct committer_settings *,
    const char **why);

/* Waits for all groups, then ends the thread. */
void committer_free(struct committer **);

/* Waits until no group is under way; blocks the thread. */
void committer_drain(struct committer *);

/*
 * Waits until the segment is on stable storage as far as it is appended now.
 * 0; -1 and *why: the segment has failed; 1 and *why: the task was cancelled,
 * what becomes of the record is not known.
 */
int committer_wait(struct committer *, struct spool_segment *,
    const char **why);

/* The same for a file, which it closes, and the directory that names it. */
int committer_wait_file(struct committer *, int fd, int directory,
    const char **why);

/* The newest segment that has something committed, and how far. */
void committer_position(const struct committer *, uint64_t *serial,
    uint64_t *committed);

uint64_t committer_syncs(const struct committer *);

#endif
