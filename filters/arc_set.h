/*
 * The sets of an Authenticated Received Chain (RFC 8617, 4): collected from the
 * header, and whether they make up a chain.  A pure function of the header.
 */
#ifndef FILTERS_ARC_SET_H
#define FILTERS_ARC_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/dkim_signature.h"

struct arena;
struct header;
struct headers;

#define ARC_SETS_MAX 50			/* RFC 8617, 4.2.1 */

enum arc_status { ARC_NONE, ARC_PASS, ARC_FAIL };	/* cv= */

struct arc_set {
	const struct header *results;	/* ARC-Authentication-Results */
	const struct header *message;	/* ARC-Message-Signature */
	const struct header *seal;	/* ARC-Seal */
	const char *payload;		/* of results: behind "i=1;" */
	size_t payload_len;
	struct dkim_signature message_signature, seal_signature;
	enum arc_status status;
};

struct arc_sets {
	struct arc_set sets[ARC_SETS_MAX];	/* [0] has i=1 */
	size_t count;			/* the highest i= there is */
	bool ended;			/* by cv=fail in the last set */
	const char *why;		/* it is no chain, or NULL */
};

/*
 * Points into the header.  A signature that cannot be verified has its result
 * set, which is not an error of structure.  now: seconds since the epoch.
 */
void arc_sets_read(struct arc_sets *, struct arena *, const struct headers *,
    const struct dkim_rules *, int64_t now);

const char *arc_status_name(enum arc_status);

#endif
