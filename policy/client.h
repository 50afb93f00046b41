/* The policy process as our other processes reach it. */
#ifndef POLICY_CLIENT_H
#define POLICY_CLIENT_H

#include <stddef.h>
#include <stdint.h>

struct buf;
struct conf;
struct net_endpoint;
struct policy_client;

/* Where it listens for us: a socket in run_directory.  -1: *why. */
int policy_client_address(const struct conf *, struct net_endpoint *,
    const char **why);

/*
 * A connection that is made when it is needed; for one task at a time.
 * NULL: *why.
 */
struct policy_client *policy_client_new(const struct conf *,
    const char **why);
void policy_client_free(struct policy_client **);

/* Sends requests.  -1: *why, and the connection is closed. */
int policy_client_send(struct policy_client *, const struct buf *,
    int64_t deadline, const char **why);

/* An answer whole, without the empty line that ends it.  -1 as above. */
int policy_client_receive(struct policy_client *, struct buf *answer,
    int64_t deadline, const char **why);

#endif
