/*
 * The filter "arc_seal": adds a set of our own to a message's Authenticated
 * Received Chain (RFC 8617, 5.1), so that the next one can believe what we
 * found.  It goes behind "arc" and "authres", and behind all that changes the
 * message.  It holds a private key, so it runs in a filter host of its own.
 */
#ifndef FILTERS_ARC_SEAL_H
#define FILTERS_ARC_SEAL_H

#include "filters/filter.h"

extern const struct filter filter_arc_seal;

#endif
