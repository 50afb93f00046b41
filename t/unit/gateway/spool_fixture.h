/* A spool in a temporary directory, and messages to put there. */
#ifndef T_UNIT_GATEWAY_SPOOL_FIXTURE_H
#define T_UNIT_GATEWAY_SPOOL_FIXTURE_H

#include "filters/mail.h"
#include "gateway/queue.h"
#include "gateway/spool.h"

struct fixture {
	char directory[64];
	struct spool_tail tails[2];	/* of "g0" and of "relay" */
	struct spool *spool;		/* g0's */
	struct spool *relay;		/* relay's */
	struct queue *queue;
	size_t found;
	struct queue_entry *entries[256];	/* as found */
	int64_t segment_size, large_size, minimum_free;
};

/* Runs it as a task, in a loop of its own, with an empty spool. */
void fixture_run(void (*)(struct fixture *));

/* The same in three steps, for a test that forks. */
void fixture_init(struct fixture *);
void fixture_loop(struct fixture *, void (*)(struct fixture *));
void fixture_release(struct fixture *);

void fixture_open_spools(struct fixture *);
void fixture_open_queue(struct fixture *);
void fixture_close(struct fixture *);	/* queue and spools */

/* Commits a message to "r0@example.org" and so on; 0 or -1. */
int fixture_commit(struct fixture *, const char *id, unsigned recipients,
    size_t size);

/* How many files there are below that directory of the spool. */
size_t fixture_files(const struct fixture *, const char *directory);

/* The first file there; its path. */
const char *fixture_path(const struct fixture *, const char *directory);

/* Removes all files there. */
void fixture_empty(const struct fixture *, const char *directory);

/* Makes a file of that path anew, and empties corrupt/. */
void fixture_put(const struct fixture *, const char *path, const void *bytes,
    size_t len);

/* Is the message there, with that many recipients, and as it was written? */
bool fixture_is_whole(struct fixture *, const char *id, unsigned recipients,
    size_t size);

/* Number of recipients that queue_get gives, -1 if it cannot be read. */
int fixture_recipients(struct fixture *, const char *id);

/* The content's byte at that offset. */
char fixture_byte(const char *id, size_t offset);

#endif
