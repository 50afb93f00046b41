/*
 * Local rules of what becomes of mail that fails DMARC, whatever the author's
 * domain asks for (RFC 9989, 5.4).  Each is WHAT = ACTION:
 *
 *	example.org = none		mail of that author's domain passes
 *	.example.org = quarantine	of all domains below it
 *	192.0.2.0/24 = reject		of clients in that network
 */
#ifndef FILTERS_DMARC_OVERRIDE_H
#define FILTERS_DMARC_OVERRIDE_H

#include <stdbool.h>
#include <sys/socket.h>

#include "filters/dmarc_record.h"

struct dmarc_overrides;
struct table;

struct dmarc_override {
	const char *what;		/* as the rule has it */
	struct table *network;		/* NULL: it is a domain */
	const char *domain;		/* normalized */
	bool below;			/* the domains below that one */
	enum dmarc_action action;
};

/*
 * From a list ended by NULL; NULL is an empty list.  0, and *overrides is NULL
 * if there are none; -1: *why.
 */
int dmarc_overrides_new(const char *const *rules, struct dmarc_overrides **,
    const char **why);
void dmarc_overrides_free(struct dmarc_overrides **);

/* The first rule for a normalized author's domain or a client, or NULL. */
const struct dmarc_override *dmarc_override_find(
    const struct dmarc_overrides *, const char *author,
    const struct sockaddr *client);

#endif
