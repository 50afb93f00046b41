/* Which server is the master, as Sentinels say. */
#ifndef POLICY_REDIS_SENTINEL_H
#define POLICY_REDIS_SENTINEL_H

#include <stddef.h>
#include <stdint.h>

#include "base/net.h"
#include "policy/redis_wire.h"

struct redis_sentinel;

/* What it points to is borrowed; name is the master's. */
struct redis_sentinel *redis_sentinel_new(const struct redis_access *,
    const struct net_endpoint *servers, size_t count, const char *name);
void redis_sentinel_free(struct redis_sentinel **);

/*
 * Asks one after the other, from the one that answered last on.  0, or -1 and
 * *why, which lasts until the next call.
 */
int redis_sentinel_locate(struct redis_sentinel *, struct net_endpoint *,
    int64_t deadline, const char **why);

#endif
