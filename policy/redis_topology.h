/*
 * What Redis says of where things are: the master that Sentinel names, the map
 * of a Cluster, the redirections of its nodes.  All of it is parsed from
 * replies, none of it does I/O.
 */
#ifndef POLICY_REDIS_TOPOLOGY_H
#define POLICY_REDIS_TOPOLOGY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net.h"

struct redisReply;

#define REDIS_SLOTS	16384

/* The hash slot of a key: of what is in its first {}, unless that is empty. */
unsigned redis_slot(const char *key);

/*
 * The reply to SENTINEL get-master-addr-by-name; false: *why (one that names no
 * master, or by a host name: see Sentinel's resolve-hostnames).
 */
bool redis_master_parse(const struct redisReply *, struct net_endpoint *,
    const char **why);

struct redis_redirect {
	bool ask;			/* for this once; else it has moved */
	unsigned slot;
	struct net_endpoint to;
};

/*
 * An error's text, "MOVED slot host:port" or "ASK slot host:port"; without a
 * host it is the one that said so.  false: it is something else.
 */
bool redis_redirect_parse(const char *text, const struct net_endpoint *asked,
    struct redis_redirect *);

/*
 * The reply to CLUSTER SLOTS: calls f for each range of slots and its master.
 * false: *why; f may have been called before.
 */
bool redis_slots_parse(const struct redisReply *,
    const struct net_endpoint *asked, void (*f)(void *argument,
    unsigned first, unsigned last, const struct net_endpoint *master),
    void *argument, const char **why);

/* Whether they are the same address and port. */
bool redis_same_server(const struct net_endpoint *,
    const struct net_endpoint *);

#endif
