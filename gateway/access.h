/*
 * Relay control: which recipients a client may send to.  Never an open relay:
 * whatever cannot be shown to be ours is refused.
 */
#ifndef GATEWAY_ACCESS_H
#define GATEWAY_ACCESS_H

#include "base/answer.h"

struct arena;
struct table;

enum access_result {
	ACCESS_OK,
	ACCESS_RELAY_DENIED,		/* neither ours nor a trusted client */
	ACCESS_ROUTING,			/* ours, but asks us to send it on */
	ACCESS_NO_USER,			/* ours, but there is no such user */
	ACCESS_BAD_DOMAIN,		/* not a domain name (IDNA) */
	ACCESS_TRY_LATER		/* a table did not answer */
};

struct access_rules {
	const struct table *relay_domains;	/* NULL: none */
	const struct table *recipients;		/* NULL: any */
};

/*
 * May this client send to the address ("local@domain", syntax checked)?
 * trusted: whether the client is in trusted networks or authenticated.
 * ACCESS_TRY_LATER: *why says what did not answer.
 */
enum access_result access_check(const struct access_rules *,
    enum answer trusted, const char *address, const char **why);

/*
 * The whole address of "postmaster" (RFC 5321, 4.5.1): at the first of our
 * domains, else at hostname.  In the arena.
 */
const char *access_postmaster(const struct access_rules *, struct arena *,
    const char *hostname);

#endif
