/*
 * The filter "dkim_sign": signs what our own users and hosts send (RFC 6376).
 * It holds a private key, so it runs in a filter host of its own.
 */
#ifndef FILTERS_DKIM_SIGN_H
#define FILTERS_DKIM_SIGN_H

#include "filters/filter.h"

extern const struct filter filter_dkim_sign;

#endif
