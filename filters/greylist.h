/*
 * The filter "greylist": asks the policy process whether a recipient's sender
 * has to come back later, and has the client told so.  Without an answer mail
 * passes.
 */
#ifndef FILTERS_GREYLIST_H
#define FILTERS_GREYLIST_H

#include "filters/filter.h"

extern const struct filter filter_greylist;

#endif
