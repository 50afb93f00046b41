/*
 * Concurrency limits: how many connections or messages there may be at a time,
 * all over the fleet.  Each holds a lease, which ends with it or, if nobody
 * tells that or renews it, by itself.
 */
#ifndef POLICY_CONCURRENCY_H
#define POLICY_CONCURRENCY_H

#include "base/option.h"

struct policy_service;

#define CONCURRENCY_OPTIONS(ROW, o)					\
	ROW(o, key, strings, NULL, NULL, NULL,				\
	    "By what it is counted, as in rate_limit but for auth_domain; "	\
	    "connections by client, network and user only.")		\
	ROW(o, count, choice, "connections", "connections|messages", NULL, \
	    "What is counted; connections are our own gateways' only.")	\
	ROW(o, maximum, number, "10", "1", "1000000",			\
	    "How many there may be at a time.")				\
	ROW(o, exceptions, table, NULL, NULL, NULL,			\
	    "Other numbers for some: \"192.0.2.0/24 = 50\", or "		\
	    "\"unlimited\".")						\
	ROW(o, message, string, "Too much at a time, try again later", NULL, \
	    NULL, "What the client hears.")

struct concurrency_options { CONCURRENCY_OPTIONS(OPTION_FIELD,
	concurrency_options) };

extern const struct section_kind concurrency_section;
extern const struct policy_service concurrency_service;

#endif
