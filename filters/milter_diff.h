/* What filters changed in a message, as a milter's replies. */
#ifndef FILTERS_MILTER_DIFF_H
#define FILTERS_MILTER_DIFF_H

#include <stdbool.h>
#include <stdint.h>

struct buf;
struct mail;
struct milter_snapshot;

/* Notes the mail as it is now; in the mail's arena. */
struct milter_snapshot *milter_snapshot_new(const struct mail *);

/*
 * Appends the replies that make the noted mail into what it is now.  allowed:
 * the actions that were negotiated; leading_space: values are exact.  Returns
 * false if something could not be said with those, or the body not be read.
 */
bool milter_diff(struct buf *, const struct milter_snapshot *, struct mail *,
    uint32_t allowed, bool leading_space);

#endif
