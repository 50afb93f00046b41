/*
 * A milter in the shadow: asked about messages, and not heeded.  What it would
 * have done goes to the log, the history and the counters.
 *
 * The chain only has the message noted at the milter's place; the milter is
 * told of it, from connect on, when the chain is through with it, in a task of
 * its own with its own copy of the facts and a share in the body.  So it sees
 * what it would have seen in earnest, but can delay nothing.
 */
#ifndef FILTERS_MILTER_SHADOW_H
#define FILTERS_MILTER_SHADOW_H

#include "filters/filter.h"

/* In place of filter_milter for a section with shadow = yes. */
extern const struct filter filter_milter_shadow;

/*
 * Whom to tell: outcome is "agree", "differ" or "abandoned", text the lines of a
 * trace.  Before it, nobody is told.
 */
typedef void milter_shadow_tell_f(const char *id, const char *outcome,
    const char *text);
void milter_shadow_set_tell(milter_shadow_tell_f *);

/* The process ends: those that have not answered yet are given up. */
void milter_shadow_end(void);

#endif
