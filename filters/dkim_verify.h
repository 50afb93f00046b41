/*
 * The filter "dkim": verifies the signatures of a message (RFC 6376) and
 * reports one finding for each, "none" if there is none.  Keys are looked up
 * while the body arrives.
 */
#ifndef FILTERS_DKIM_VERIFY_H
#define FILTERS_DKIM_VERIFY_H

#include "filters/filter.h"

extern const struct filter filter_dkim;

#endif
