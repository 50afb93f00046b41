/*
 * The filter "arc": validates the Authenticated Received Chain of a message
 * (RFC 8617) and says whether those who sealed it are trusted.  Goes before
 * "dmarc", which may then heed what they found.
 */
#ifndef FILTERS_ARC_H
#define FILTERS_ARC_H

#include "filters/filter.h"

extern const struct filter filter_arc;

#endif
