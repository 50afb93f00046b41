/* Where reports go: the list of URIs in rua (RFC 9989, 4.7; RFC 9990, 3.5). */
#ifndef FILTERS_DMARC_URI_H
#define FILTERS_DMARC_URI_H

#include <stddef.h>
#include <stdint.h>

#define DMARC_ADDRESS_MAX 320

struct dmarc_uri {
	char address[DMARC_ADDRESS_MAX];
	const char *domain;		/* in address, as written */
	uint64_t limit;			/* bytes; 0: none was given */
};

/*
 * The next mail address of the list, from *at on, which moves behind it.  1;
 * 0: no more; -1: what stood there cannot be used (no mailto, no address).
 */
int dmarc_uri_next(const char **at, const char *end, struct dmarc_uri *);

#endif
