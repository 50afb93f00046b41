/*
 * The queue's inside.
 *	queue.c		what queue.h promises, but for:
 *	queue_index.c	entries: memory, look-up by id, recipients that are done
 *	queue_replay.c	what journals say, until the segments are read
 *	queue_read.c	segments: records, and what is corrupt
 *	queue_scan.c	which segments there are, and how far they may be read
 *	queue_message.c	reads a message
 *	queue_large.c	files of large messages
 *	queue_compact.c	moves what is left of old segments
 */
#ifndef GATEWAY_QUEUE_INTERNAL_H
#define GATEWAY_QUEUE_INTERNAL_H

#include "gateway/journal.h"
#include "gateway/queue.h"
#include "gateway/spool_dir.h"
#include "gateway/spool_record.h"

struct message;

/* Bits, one per recipient; more than 64 are on the heap. */
union bits {
	uint64_t few;
	uint64_t *many;
};

struct segment {
	struct segment *next;
	char writer[SEGMENT_WRITER_SIZE];
	uint64_t serial, mark;
	uint64_t previous, previous_end;	/* what its header says */
	int fd;				/* -1: not open now */
	uint64_t offset;		/* read up to here */
	uint64_t committed;		/* at least */
	uint64_t end;			/* no message is behind; or UINT64_MAX */
	uint64_t size;			/* of the file, once it is ended */
	bool header_read;
	bool locked;			/* a writer has it */
	bool ended;			/* read to its end */
	bool keep;			/* could not be read: never unlinked */
	bool gone;
	unsigned users;			/* messages whose slices need fd */
	size_t live;			/* entries that stand in it */
	uint64_t live_bytes;
	struct entry *first;
	uint64_t first_journal, last_journal;	/* that speak of it; 0: none */
	int64_t compact_after;		/* task_now() */
};

struct entry {
	struct queue_entry public;	/* first, as pointers are converted */
	struct entry *next;		/* of the same hash; or free */
	struct entry *before, *after;	/* in the segment */
	struct segment *segment;
	uint64_t offset;
	uint32_t length;		/* of the record */
	uint32_t recipients;
	uint32_t generation;
	bool large, gone;
	unsigned char pass;		/* compaction has seen it */
	union bits done;
	union bits moving;		/* recipients done when it was copied */
	bool is_moving;
	struct message *message;	/* the last one got */
	uint32_t readers;		/* that have got it, or read it now */
};

/* What queue_get gives out. */
struct message {
	struct queue_message public;	/* first */
	struct entry *entry;
	struct segment *segment;	/* whose fd is used, or NULL */
	int fd;				/* of a large file, or -1 */
	struct record record;
	uint32_t count;			/* recipients of the record */
	const struct recipient **all;	/* by their number in it */
};

/* A large file to be unlinked once the journal is synced that far. */
struct removal {
	struct removal *next;
	struct segment *segment;	/* which stays until it is done */
	uint64_t position;
	char name[SPOOL_NAME_SIZE];
};

/* A large file that no entry speaks of. */
struct orphan {
	struct orphan *next;
	char id[ENVELOPE_ID_SIZE];
};

struct replay;

struct queue {
	struct queue_settings settings;
	struct spool_dir dir;
	queue_found_f *found;
	void *argument;
	struct journal *journal;
	struct replay *replay;		/* while opening */
	struct segment *segments;
	uint64_t *looked_for;		/* serials, one per tail */
	unsigned char *window;		/* bytes of a file, see queue_read.c */
	size_t window_size, window_len;
	uint64_t window_offset;
	const struct segment *window_segment;
	struct removal *removals, **last_removal;
	/* queue_index.c */
	struct entry **hash;
	size_t hash_size, count;
	struct entry *free_entries;
	struct entry **slabs;
	size_t slab_count;
	/* queue_compact.c */
	struct segment *compacting;
	unsigned compactors;
	bool closing;			/* the last of them closes */
	unsigned char pass;
	int64_t compact_age_ms;		/* younger ones are left alone */
	/* queue_large.c */
	struct orphan *orphans;
	int64_t orphans_after;		/* task_now() */
};

/* --- queue_index.c --- */

struct entry *entry_new(struct queue *, const char *id, uint32_t recipients);
void entry_link(struct queue *, struct entry *);	/* into the hash */
void entry_unlink(struct queue *, struct entry *);
void entry_enter(struct entry *, struct segment *, const struct record *);
void entry_leave(struct entry *);			/* its segment */
struct entry *entry_find(const struct queue *, const char *id);
/* If nothing uses it any more. */
void entry_free(struct queue *, struct entry *);
void index_free(struct queue *);

void bits_alloc(union bits *, uint32_t count);
void bits_free(union bits *, uint32_t count);
bool bits_get(const union bits *, uint32_t count, uint32_t i);
void bits_set(union bits *, uint32_t count, uint32_t i);
void bits_copy(union bits *, const union bits *, uint32_t count);

/* --- queue.c --- */

/* Notes in the journal, and in the segment which file of it that is. */
void queue_note(struct queue *, struct entry *, enum journal_type,
    uint32_t recipient);
/* No recipient is left: takes it out of the queue. */
void queue_finish(struct queue *, struct entry *);
/* It cannot be read, and was set aside: takes it out of the queue. */
void queue_forget(struct queue *, struct entry *);

/* --- queue_message.c --- */

/*
 * Reads a message, its recipients without those that are done.  The caller
 * sees to it that the entry stays while this waits.  -1 and *why: it was set
 * aside.
 */
int message_read(struct queue *, struct entry *, struct message *,
    struct arena *, const char **why);
void message_release(struct message *);

/* --- queue_large.c --- */

/* Unlinks large/<id>.msg when the journal is synced that far. */
void large_remove(struct queue *, struct segment *, const char *id,
    uint64_t position);
void large_remove_due(struct queue *);
/* Is it there, a file of that size? */
bool large_exists(struct queue *, const char *id, uint64_t size);
/* Moves it to corrupt/, if it is there. */
void large_set_aside(struct queue *, const char *id);
/* What no message speaks of for an hour is set aside. */
void large_orphans(struct queue *);
void large_free(struct queue *);

/* --- queue_replay.c --- */

/* What the journals say of a message's copy. */
struct replay_state {
	uint64_t first_journal, last_journal;
	bool all, hold, hold_known, tried, newer;
	uint32_t attempts;
	int64_t next_try_ms;
	const uint64_t *words;		/* recipients that are done */
	size_t word_count;
};
struct replay *replay_new(void);
void replay_free(struct replay **);
void replay_add(const struct journal_record *, uint64_t serial, void *replay);
/* False: nothing.  newer: a later copy of it is spoken of. */
bool replay_find(const struct replay *, const char *id, uint32_t generation,
    struct replay_state *);

/* --- queue_read.c --- */

int segment_open(struct queue *, struct segment *);
/* Closes what is open but not used, if there are many. */
void segments_trim(struct queue *);
/* Reads the header; 0, or -1 and *why. */
int segment_header_read(struct queue *, struct segment *, const char **why);
/*
 * Reads records up to limit.  whole: all before limit is known to be
 * committed, or nobody writes any more; else it stops at what is not whole.
 */
void segment_read(struct queue *, struct segment *, uint64_t limit,
    bool whole);
/* Copies a range to corrupt/ and logs why. */
void segment_set_aside(struct queue *, struct segment *, uint64_t from,
    uint64_t to, const char *why);
/* The file as a whole. */
void segment_set_aside_file(struct queue *, struct segment *,
    const char *why);

/* --- queue_scan.c --- */

void queue_accept(struct queue *, struct segment *, const struct record *,
    const struct envelope *, size_t recipients);
/* Looks for new segments, reads headers and what is to be read. */
void queue_discover(struct queue *);
void queue_read_all(struct queue *);
/* Have writers gone?  Unlinks what is done. */
void queue_tend(struct queue *);
void segments_free(struct queue *);
/* The serial and end of one tail, both of the same segment. */
struct spool_tail tail_load(const struct spool_tail *);

/* --- queue_compact.c --- */

void queue_compact(struct queue *);

#endif
