/*
 * What is to be counted of a DNS list (RFC 5782), in Postscreen's notation:
 *
 *	zen.example			any listing, 1 point
 *	zen.example=127.0.0.[2..11]*3	these answers, 3 points
 *	white.example=127.0.[0..15].[1;3]*-2
 */
#ifndef POLICY_DNSBL_SITE_H
#define POLICY_DNSBL_SITE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

struct arena;
struct sockaddr;

#define DNSBL_ZONE_MAX	180	/* 64 more are an IPv6 address's */

struct dnsbl_site {
	char zone[DNSBL_ZONE_MAX + 1];	/* lower case, no last dot */
	int weight;
	/* Which bytes an answer may have at each of the four places. */
	uint32_t bytes[4][8];
};

/* 0; -1: *why. */
int dnsbl_site_parse(const char *text, struct dnsbl_site *,
    const char **why);

/* Whether that answer is one of those to be counted. */
bool dnsbl_site_counts(const struct dnsbl_site *, struct in_addr);

/*
 * What an answer says.  127.255.255.x is an error by custom, such as a refusal
 * to serve public resolvers, and so is 127.0.0.1.  Outside of 127.0.0.0/8 it is
 * none of a list, but the host of somebody who sells the domain.
 */
enum dnsbl_code { DNSBL_LISTED, DNSBL_ERROR, DNSBL_FOREIGN };
enum dnsbl_code dnsbl_code(struct in_addr);

/* The name that a list has an address under; NULL: not IPv4 or IPv6. */
const char *dnsbl_address_name(struct arena *, const struct sockaddr *,
    const char *zone);

#endif
