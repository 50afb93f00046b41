/* Where a milter listens: a socket, an address, or a name to be looked up. */
#ifndef FILTERS_MILTER_PLACE_H
#define FILTERS_MILTER_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/net.h"

struct io;
struct tls_context;

struct milter_place {
	struct net_endpoint net;	/* unless there is a name */
	char *name;
	uint16_t port;			/* of the name */
	bool tls;
	char *certified;		/* with TLS: whom the certificate names */
};

/*
 * "unix:/path", "127.0.0.1:8891", "rspamd.example.org:11332", and Sendmail's
 * spelling of them: "local:/path", "inet:8891@127.0.0.1".  Behind "tls:" they
 * are spoken to with TLS.  0, or -1 and *why.
 */
int milter_place_parse(const char *text, struct milter_place *,
    const char **why);
void milter_place_release(struct milter_place *);

/*
 * Connects, to each address of a name until one answers; with TLS in the given
 * context, whose peer must be named as the place is, or by tls_name if that is
 * not NULL.  NULL: *why, a static string, and errno.
 */
struct io *milter_place_connect(const struct milter_place *,
    struct tls_context *, const char *tls_name, int64_t deadline,
    const char **why);

#endif
