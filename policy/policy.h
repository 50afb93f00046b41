/*
 * The policy service as a whole: its options and kinds of section, and the
 * check of what they say together.
 */
#ifndef POLICY_POLICY_H
#define POLICY_POLICY_H

#include "base/option.h"

struct buf;
struct conf;

#define POLICY_OPTIONS(ROW, o)						\
	ROW(o, listen, strings, NULL, NULL, NULL,			\
	    "Addresses where other MTAs may ask, by Postfix's policy "	\
	    "delegation protocol, such as \"127.0.0.1:10040\", "		\
	    "\"unix:/path\"; none: only our own gateways do.")		\
	OPTION_SOCKET_ROWS(ROW, o)					\
	ROW(o, services, strings, "greylist", NULL, NULL,		\
	    "What judges their requests, in order: \"greylist\", or titles "	\
	    "of rate_limit and the like.")				\
	ROW(o, asn_database, path, NULL, NULL, NULL,			\
	    "File in MaxMind's format that tells the autonomous system "	\
	    "(AS) of an address, such as GeoLite2-ASN.mmdb. Without it "	\
	    "there is no reputation of autonomous systems.")		\
	ROW(o, country_database, path, NULL, NULL, NULL,		\
	    "The same for its country, such as GeoLite2-Country.mmdb. "	\
	    "Without it the outbound guard knows of no countries.")	\
	ROW(o, max_clients, number, "4000", "1", "100000",		\
	    "Connections at a time.")					\
	ROW(o, idle_timeout, duration, "10m", "1s", "1d",		\
	    "How long a connection may wait between two requests.")

struct policy_options { POLICY_OPTIONS(OPTION_FIELD, policy_options) };

extern const struct section_kind policy_section;

/* The kinds of section of this folder, but the services', NULL-ended. */
extern const struct section_kind *const policy_kinds[];

/* Errors between options, added to errors. */
void policy_check(const struct conf *, struct buf *errors);

#endif
