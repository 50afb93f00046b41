/*
 * The next hop: from a route to a connection.  Looks hosts up (MX by RFC 5321,
 * 5.1, null MX by RFC 7505), tries one after another, and speaks clear text
 * where opportunistic TLS fails.
 */
#ifndef GATEWAY_NEXTHOP_H
#define GATEWAY_NEXTHOP_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/client.h"
#include "gateway/route.h"

struct arena;
struct buf;
struct tls_context;

/* What all connections of a process share. */
struct nexthop_settings {
	const char *hostname;		/* ours */
	struct tls_context *tls_any;	/* does not verify; or NULL */
	struct tls_context *tls_verify;	/* or NULL */
	int64_t connect_timeout_ms, greeting_timeout_ms, command_timeout_ms,
	    data_timeout_ms, total_timeout_ms;
};

/*
 * Makes the TLS contexts that these routes need; before the process locks
 * itself in, for the system's roots are read.  -1: *why.
 */
int nexthop_tls(struct nexthop_settings *, const struct routes *,
    const char **why);

/*
 * Connects to a route's next hop; domain is the recipient's, for MX.  deadline
 * bounds the whole search.  NULL: *failure tells why, in the arena.
 */
struct client *nexthop_connect(const struct nexthop_settings *,
    const struct route *, const char *domain, int64_t deadline,
    struct arena *, struct delivery *failure);

/* Delivery ends here, without a connection: discard, maildir, error. */
bool nexthop_is_local(const struct route *);

/* Carries such a delivery out; relay is what the log calls the place. */
void nexthop_local(const struct route *, const struct envelope *,
    const struct slice *content, size_t content_count,
    struct delivery *results, size_t count, struct arena *,
    const char **relay);

/* What recipients must share to go together: the route and, for MX, domain. */
void nexthop_key(const struct route *, const char *address, struct buf *);

/* --- for tests: the list of hosts from an answer --- */

struct dns_answer;
struct nexthop_host {
	const char *name;
	unsigned preference;
};

/*
 * Sorts an MX answer into hosts, equal preferences in random order, ours and
 * all that are not better left out.  Returns how many, 0: mail loops back to
 * us, or -1: null MX.
 */
int nexthop_mx_sort(const struct dns_answer *, const char *hostname,
    struct nexthop_host *hosts, size_t max);

#endif
