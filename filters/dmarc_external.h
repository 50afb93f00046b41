/* Who may get reports about another's domain (RFC 9990, 4). */
#ifndef FILTERS_DMARC_EXTERNAL_H
#define FILTERS_DMARC_EXTERNAL_H

#include <stddef.h>

#include "base/answer.h"

struct dmarc_lookup;

struct dmarc_external {
	/* The receiver's own list of URIs, of that host all; NULL: none. */
	const char *rua;		/* in the lookup's arena; no string */
	size_t rua_len;
	const char *why;		/* for NO and UNKNOWN */
};

/*
 * Whether reports about the domain where a policy was found (normalized) may go
 * to an address at a host, as that policy's rua asks.  YES: they may, or to
 * rua in its place; UNKNOWN: DNS did not answer, later it may.  Waits for DNS.
 */
enum answer dmarc_external_check(const struct dmarc_lookup *,
    const char *domain, const char *host, struct dmarc_external *);

#endif
