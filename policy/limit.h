/*
 * Rate limits: how many messages or recipients whoever the key names may send
 * in a time, all over the fleet.  Messages of our own gateways reserve what
 * they need as their recipients come, and are charged once they are accepted;
 * other MTAs do not tell what becomes of theirs, which are charged at once.
 */
#ifndef POLICY_LIMIT_H
#define POLICY_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/option.h"

struct policy_service;

#define LIMIT_OPTIONS(ROW, o)						\
	ROW(o, key, strings, NULL, NULL, NULL,				\
	    "By what it is counted: user, client, network (/24, /64), sender, " \
	    "sender_domain, recipient, recipient_domain, auth_domain (by "	\
	    "DKIM or SPF; from our own gateways); several together are one "	\
	    "key. What lacks one of them is not limited.")		\
	ROW(o, count, choice, "messages", "messages|recipients", NULL,	\
	    "What is counted.")						\
	ROW(o, rate, string, NULL, NULL, NULL,				\
	    "How many in what time: \"100/1h\".")			\
	ROW(o, burst, number, "0", "0", "1000000",			\
	    "How many at once; 0: as many as the rate names.")		\
	ROW(o, action, choice, "defer", "defer|reject|hold|warn", NULL,	\
	    "What becomes of mail above the rate; warn: the log says so.") \
	ROW(o, exceptions, table, NULL, NULL, NULL,			\
	    "Other rates for some: \"joe@example.org = 1000/1h\", with a "	\
	    "burst: \"1000/1h 50\", or \"unlimited\".")			\
	ROW(o, message, string, "Rate limit exceeded", NULL, NULL,	\
	    "What the client hears; \", try again in N seconds\" follows.")

struct limit_options { LIMIT_OPTIONS(OPTION_FIELD, limit_options) };

extern const struct section_kind limit_section;
extern const struct policy_service limit_service;

struct limit_rate {
	bool unlimited;
	int64_t unit_us;		/* one is free again after this */
	int64_t burst;
};

/*
 * "100/1h", "100/1h 20", "unlimited"; burst: if none is given, 0 for the
 * rate's own number.  0; -1: *why.
 */
int limit_rate_parse(const char *text, int64_t burst, struct limit_rate *,
    const char **why);

#endif
