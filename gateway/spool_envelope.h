/*
 * The envelope in a record of the spool: a version byte, then fields of tag
 * (1), length (4, little-endian) and value.  A reader skips tags that it does
 * not know, so that fields can be added.
 */
#ifndef GATEWAY_SPOOL_ENVELOPE_H
#define GATEWAY_SPOOL_ENVELOPE_H

#include "filters/envelope.h"

struct arena;
struct buf;

void spool_envelope_encode(struct buf *, const struct envelope *);

/*
 * Reads an envelope.  With arena NULL only id, arrived_ms and hold are set,
 * and nothing is allocated; *recipients counts them.  -1 and *why if the bytes
 * are not an envelope with an id and a recipient.
 */
int spool_envelope_decode(const void *bytes, size_t len, struct arena *,
    struct envelope *, size_t *recipients, const char **why);

#endif
