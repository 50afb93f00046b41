/*
 * What libmilter's connections had negotiated: behind QUIT_NC another session
 * begins on one, of which the library tells nothing, although it stands by what
 * was agreed.  A table of fixed size; what was not found for long goes first.
 * May be called by any thread.
 */
#ifndef FILTERS_MILTER_PAST_H
#define FILTERS_MILTER_PAST_H

#include <stdbool.h>
#include <stdint.h>

struct milter_past {
	uint32_t actions, protocol;	/* as the MTA offered them */
};

/* context: the library's handle of the connection. */
void milter_past_keep(const void *context, struct milter_past);
bool milter_past_find(const void *context, struct milter_past *);

#endif
