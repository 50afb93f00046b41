/*
 * Who vouches for an envelope's sender.  Anybody can write a sender's address;
 * what is granted to one must hang on more.
 */
#ifndef POLICY_AUTHENTIC_H
#define POLICY_AUTHENTIC_H

#include <stdbool.h>
#include <stddef.h>

struct policy_query;

/* Whether the name is the domain or below it; letters' case ignored. */
bool authentic_is_within(const char *name, const char *domain);

/*
 * The next of the domains that a message proved (DKIM, SPF), from auth_domains
 * of our own gateways; at begins as 0.  False: there is no more.
 */
#define AUTHENTIC_DOMAIN_MAX 255
bool authentic_domain(const struct policy_query *, size_t *at,
    char domain[AUTHENTIC_DOMAIN_MAX + 1]);

/*
 * Whether the sender's address may be believed: the message proved its domain
 * or one above; or the client's name, confirmed by DNS, is below its domain; or
 * the client logged in by that very address.
 */
bool authentic_sender(const struct policy_query *);

#endif
