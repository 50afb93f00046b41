/*
 * What a milter wants changed: collected while it answers the end of the
 * message, made all at once when it has accepted, or not at all.
 */
#ifndef FILTERS_MILTER_EDITS_H
#define FILTERS_MILTER_EDITS_H

#include "filters/milter_codec.h"

struct buf;
struct mail;
struct milter_edits;
struct view;

struct milter_edits_rules {
	const char *filter;		/* for the log */
	uint32_t allowed;		/* enum milter_action_bits */
	size_t max_body;		/* bytes of a new one */
	bool leading_space;		/* values are exact (HDR_LEADSPC) */
};

/* rules are borrowed; the edits live in the mail's arena, but for a body. */
struct milter_edits *milter_edits_new(struct mail *,
    const struct milter_edits_rules *);
void milter_edits_free(struct milter_edits **);

/* Takes a reply for which milter_reply_edits() holds.  -1: *why, no more. */
int milter_edits_add(struct milter_edits *, const struct milter_reply *,
    const char **why);

/* No more come: a new body gets its last line end.  -1: *why. */
int milter_edits_end(struct milter_edits *, const char **why);

/* A new body has begun to arrive. */
bool milter_edits_replace_body(const struct milter_edits *);

/*
 * Shows the edits without making them: as lines of the mail's trace, their
 * number by kind appended to text.  True: one of them is quarantine.
 */
bool milter_edits_show(const struct milter_edits *, struct buf *text);

/*
 * Makes the edits, in their order.  Fields are numbered as in the view that the
 * filter saw; what others have changed since then is changed again, which is
 * logged.
 */
void milter_edits_apply(struct milter_edits *, const struct view *);

#endif
