/* The spool as the queue sees it, which moves messages within it. */
#ifndef GATEWAY_SPOOL_INTERNAL_H
#define GATEWAY_SPOOL_INTERNAL_H

#include "gateway/spool.h"

/* A message that is in the spool already. */
struct spool_copy {
	uint32_t generation;		/* greater than that of the original */
	bool large;			/* content stays in large/<id>.msg */
	uint64_t size;			/* for large */
	uint32_t crc;			/* for large */
};

/* As spool_commit, for a copy with other recipients left. */
int spool_commit_copy(struct spool *, const struct envelope *,
    const struct slice *content, size_t count, const struct spool_copy *,
    const char **why);

/* What a tail would say. */
struct spool_tail spool_position(const struct spool *);

#endif
