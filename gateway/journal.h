/*
 * The relay's journal: what became of messages.  Files journal/<serial>.jnl of
 * fixed-size records, appended to in memory and written once a turn of the
 * loop, synced about once a second: what is lost repeats a delivery, no more.
 *
 * File header, 32 bytes: "MGJOURNL", version (4), record size (4), serial (8),
 * zero (4), CRC32C of all before (4).  Record, 64 bytes, little-endian:
 *	0	CRC32C of bytes 4-63, begun with the serial's low half (4)
 *	4	type (1), zero (3)
 *	8	generation of the message (4)
 *	12	recipient's number in the record of the spool, or all ones (4)
 *	16	next try, wall clock in ms (8)
 *	24	attempts (4), zero (4)
 *	32	id, padded with NUL (24)
 *	56	zero (8)
 */
#ifndef GATEWAY_JOURNAL_H
#define GATEWAY_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/envelope.h"

#define JOURNAL_HEADER_SIZE 32
#define JOURNAL_RECORD_SIZE 64
#define JOURNAL_ALL UINT32_MAX

enum journal_type {
	JOURNAL_DELIVERED = 1, JOURNAL_BOUNCED, JOURNAL_DELETED,
	JOURNAL_MOVED,			/* to the next generation */
	JOURNAL_DEFERRED, JOURNAL_HELD, JOURNAL_RELEASED
};

struct journal_record {
	enum journal_type type;
	char id[ENVELOPE_ID_SIZE];
	uint32_t generation;
	uint32_t recipient;		/* or JOURNAL_ALL */
	uint32_t attempts;
	int64_t next_try_ms;
};

/* Fills JOURNAL_RECORD_SIZE bytes. */
void journal_encode(const struct journal_record *, uint64_t serial,
    void *bytes);

/* False: these JOURNAL_RECORD_SIZE bytes are no record of that journal. */
bool journal_decode(const void *bytes, uint64_t serial,
    struct journal_record *);

/*
 * Reads a whole file: calls f for each record, skips those that are corrupt
 * and returns how many those were, or -1 if it is not a journal.
 */
typedef void journal_replay_f(const struct journal_record *, uint64_t serial,
    void *argument);
int journal_parse(const void *bytes, size_t len, uint64_t serial,
    journal_replay_f *replay, void *argument);

struct journal;

/*
 * Replays all files of the directory (borrowed) in order, then is ready to
 * append to a new one.  NULL and *why on error.
 */
struct journal *journal_open(int directory, journal_replay_f *replay,
    void *argument, const char **why);

/* Writes and syncs what is left. */
void journal_close(struct journal **);

/* Appends; returns the serial of the file that it will stand in. */
uint64_t journal_append(struct journal *, const struct journal_record *);

/* Bytes appended so far, and how many of these are on stable storage. */
uint64_t journal_position(const struct journal *);
uint64_t journal_synced(const struct journal *);

/*
 * Once a second: writes, has a thread sync, and begins a new file when this
 * one is long.
 */
void journal_maintain(struct journal *);

/* Unlinks old files for which needed() is false. */
void journal_drop(struct journal *, bool (*needed)(uint64_t serial, void *),
    void *argument);

/* How many files there are. */
size_t journal_count(const struct journal *);

#endif
