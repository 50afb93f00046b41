/* The filter "spf": RFC 7208 for HELO and MAIL FROM. */
#ifndef FILTERS_SPF_H
#define FILTERS_SPF_H

#include "filters/filter.h"

extern const struct filter filter_spf;

#endif
