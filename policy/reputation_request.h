/* Whom a message came from: the entities of a policy request. */
#ifndef POLICY_REPUTATION_REQUEST_H
#define POLICY_REPUTATION_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "policy/reputation_entity.h"

#define REP_SENDERS_MAX	12		/* of one message */
#define REP_DOMAINS_MAX	4

struct policy_query;

struct rep_senders {
	struct rep_entity entities[REP_SENDERS_MAX];
	size_t count;
};

/*
 * Adds them to none, in the order in which they are heard: address, helo,
 * sender, domains, selectors; or the user alone; then the pair.  dimensions:
 * bits, 1 << REP_ADDRESS.  A trusted client is known for others' mail: its
 * address says nothing.
 */
void rep_senders_of(const struct policy_query *, unsigned dimensions,
    struct rep_senders *);

#endif
