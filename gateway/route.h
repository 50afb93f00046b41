/*
 * Routes: which way a recipient's mail goes.  From the sections "route", whose
 * title is a pattern: "user@example.org", "example.org", ".example.org" (all
 * below it), "*".  The most specific one wins, the longest parent first; with
 * none mail goes to the domain's MX.
 */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net.h"
#include "base/option.h"
#include "gateway/client.h"

struct conf;
struct buf;
struct routes;

extern const struct section_kind route_section;

enum route_kind { ROUTE_SMTP, ROUTE_LMTP, ROUTE_MX, ROUTE_DISCARD,
	ROUTE_MAILDIR, ROUTE_ERROR };

/* One way to go, parsed from an entry of via. */
struct route_hop {
	enum route_kind kind;
	const char *via;		/* as configured */
	struct net_endpoint endpoint;	/* len 0: look host up */
	const char *host;		/* or NULL */
	uint16_t port;			/* of host, or of MX hosts */
	const char *path;		/* of a maildir */
	int code;			/* ROUTE_ERROR */
	const char *enhanced, *text;	/* likewise */
};

struct route {
	const char *pattern;
	const struct route_hop *hops;	/* tried in this order */
	size_t hop_count;
	enum client_tls tls;
	uint32_t connections;		/* to one destination at a time */
};

#define ROUTE_HOST_MAX 255

/* Parses an entry of via into *hop; strings are allocated.  -1 and *why. */
int route_hop_parse(const char *via, struct route_hop *, const char **why);
void route_hop_release(struct route_hop *);

/* All routes of the configuration.  NULL: *why. */
struct routes *routes_new(const struct conf *, const char **why);
void routes_free(struct routes **);

/* For the configuration's check: errors with file and line. */
void routes_check(const struct conf *, struct buf *errors);

/* The route of an address (without <>).  Never NULL. */
const struct route *routes_find(const struct routes *, const char *address);

/* Whether any of them asks for that. */
bool routes_use(const struct routes *, enum client_tls);

#endif
