/* The filter "dmarc": RFC 9989, on what "spf" and "dkim" found before it. */
#ifndef FILTERS_DMARC_H
#define FILTERS_DMARC_H

#include "filters/filter.h"

extern const struct filter filter_dmarc;

#endif
