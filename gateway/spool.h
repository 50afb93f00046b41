/*
 * The spool, the gateway's side: committed messages are appended to the
 * current segment; one fdatasync serves all that wait (group commit).
 *
 * Directory:	segments/<writer>-<serial>.seg	records of messages
 *		large/<id>.msg			a message too large for a segment
 *		journal/<serial>.jnl		the relay's outcomes
 *		corrupt/			what could not be read, set aside
 */
#ifndef GATEWAY_SPOOL_H
#define GATEWAY_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "filters/mail.h"

struct spool;

struct spool_settings {
	const char *directory;		/* relative to the process's root */
	const char *writer;		/* unique among processes: "g0", "relay" */
	int64_t segment_size;		/* bytes; a new one begins behind that */
	int64_t large_size;		/* messages from here on: own file */
	int64_t minimum_free;		/* bytes to be left on the disk */
	struct spool_tail *tail;	/* shared with the relay, or NULL */
	int doorbell_fd;		/* eventfd of the relay, or -1 */
};

/*
 * What the relay reads without a system call: how far this writer's current
 * segment is on stable storage.  In memory shared between processes.
 */
struct spool_tail {
	uint64_t serial;		/* of the segment; 0: none yet */
	uint64_t committed;		/* bytes */
};

/* Makes the directories if they lack.  -1 and *why on error. */
int spool_prepare(const char *directory, const char **why);

struct spool *spool_open(const struct spool_settings *, const char **why);

/* Waits for what is being committed, then closes. */
void spool_close(struct spool **);

/* Free space and inodes suffice for a message of that size; for MAIL. */
bool spool_has_room(struct spool *, int64_t size);

/*
 * Appends the message and waits until it is on stable storage: 0.  Else -1 and
 * *why, and the message will not be delivered.  Waits as a task; the deadline
 * bounds the wait for a place, never that for the disk.  After a failed sync
 * the segment is closed for good and a new one begun.
 */
int spool_commit(struct spool *, const struct envelope *,
    const struct slice *content, size_t count, const char **why);

/* Counted for metrics: calls of fdatasync so far, messages so far. */
void spool_statistics(const struct spool *, uint64_t *syncs,
    uint64_t *messages);

#endif
