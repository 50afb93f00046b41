/* Writing a segment's file, and the file of a large message. */
#ifndef GATEWAY_SPOOL_SEGMENT_H
#define GATEWAY_SPOOL_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

#include "filters/mail.h"
#include "gateway/spool_commit.h"
#include "gateway/spool_record.h"

struct buf;

/*
 * A new file, locked (flock) as long as it is open, so that the relay knows
 * that a writer lives.  *serial is the last one used, and becomes this one's.
 */
struct spool_segment *segment_new(int directory, const char *writer,
    uint64_t *serial, const char **why);

/* Gives back what was reserved and not used, closes. */
void segment_free(struct spool_segment **);

/*
 * Appends a record; envelope_len, content_len (and content_crc of a large
 * message) must be set in it.  No copy is made of what is in memory.  -1 and
 * *why: the file is as it was.
 */
int segment_append(struct spool_segment *, struct record *,
    const struct buf *envelope, const struct slice *content, size_t count,
    const char **why);

/*
 * Writes a message to a file of its own, other tasks running in between; sets
 * content_crc.  The descriptor, not synced yet; or -1 and *why.
 */
int large_write(int directory, const char *id, const struct slice *content,
    size_t count, struct record *, const char **why);

#endif
