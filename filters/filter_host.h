/*
 * Filters of ours together in a process of their own: isolated from the
 * gateway, which reaches them as one filter, and offered to other MTAs as a
 * milter.
 *
 *	filter_host auth {
 *		filters = { spf, dkim, dmarc, authres }
 *		listen = { "127.0.0.1:8891" }
 *	}
 */
#ifndef FILTERS_FILTER_HOST_H
#define FILTERS_FILTER_HOST_H

#include "filters/filter.h"

enum filter_host_front { FRONT_NATIVE, FRONT_LIBMILTER };

#define FILTER_HOST_OPTIONS(ROW, o)					\
	ROW(o, filters, strings, NULL, NULL, NULL,			\
	    "The filters that run there, in this order.")		\
	ROW(o, listen, strings, NULL, NULL, NULL,			\
	    "Where other MTAs reach it as a milter: "			\
	    "\"127.0.0.1:8891\", \"unix:/path\".")			\
	OPTION_SOCKET_ROWS(ROW, o)					\
	ROW(o, front, choice, "native", "native|libmilter", NULL,	\
	    "Who speaks there: our own code, or Sendmail's libmilter, which "	\
	    "serves one address.")

struct filter_host_options { FILTER_HOST_OPTIONS(OPTION_FIELD,
    filter_host_options) };

extern const struct filter filter_host;

#endif
