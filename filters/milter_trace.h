/*
 * Recordings of conversations with milters: written by the gateway if a
 * milter's option says so, read by millgatectl.
 *
 * A file is a row of records, each written whole by one of the processes that
 * append to it.  All numbers are big-endian:
 *	"MT", uint32 length of what follows, kind, uint64 conversation,
 *	uint64 time (microseconds of the Unix epoch), uint32 full, bytes
 * kind: 'B' begin (bytes: name NUL end point NUL), '>' a packet to the filter
 * and '<' one from it (bytes: code and payload, or their beginning; full: how
 * long they were on the wire), 'E' end.
 */
#ifndef FILTERS_MILTER_TRACE_H
#define FILTERS_MILTER_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct buf;
struct milter_tape;
struct milter_trace;

/* --- writing --- */

/*
 * Where this process writes DIRECTORY/NAME.SUFFIX.  Before it, nothing is
 * recorded.
 */
void milter_trace_set_directory(const char *directory, const char *suffix);

/*
 * The recordings of a milter, in two files (one .old) of limit bytes in all, so
 * that the latest are kept.
 */
struct milter_trace *milter_trace_new(const char *name, size_t limit);
void milter_trace_free(struct milter_trace **);

/* A conversation, from its connection to its end; NULL trace: NULL. */
struct milter_tape *milter_tape_new(struct milter_trace *,
    const char *endpoint);
void milter_tape_free(struct milter_tape **);

/*
 * Notes a packet; the content of bodies only up to 64 KB a message, and of
 * unknown commands nothing, as they may be a password that came astray.  NULL:
 * does nothing.
 */
void milter_tape_packet(struct milter_tape *, bool from_filter, char code,
    const char *payload, size_t len);

/* The same for a piece of the body to the filter, in parts. */
void milter_tape_body(struct milter_tape *, const struct iovec *, int count);

/* The same for the whole packets to the filter in bytes. */
void milter_tape_bytes(struct milter_tape *, const char *bytes, size_t len);

/* Writes what was noted to the file. */
void milter_tape_flush(struct milter_tape *);

/* --- reading --- */

struct milter_record {
	char kind;
	uint64_t conversation, time_us;
	size_t full;			/* of code and payload */
	const char *bytes;
	size_t len;
	size_t size;			/* of the record */
	size_t number;			/* in the file */
};

/* A record at the front of bytes.  0, or -1 and *why. */
int milter_record_parse(const char *bytes, size_t len, struct milter_record *,
    const char **why);

/*
 * All records, conversation by conversation, in an array that the caller frees;
 * they point into bytes.  What a crash left of the last is passed over.
 * -1: *why.
 */
int milter_records_load(const char *bytes, size_t len,
    struct milter_record **, size_t *count, const char **why);

#endif
