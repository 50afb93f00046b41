/*
 * The policy server: answers Postfix's policy delegation protocol, for other
 * MTAs and for our own gateways.  A task for each connection; a client that is
 * slow, malformed or idle disturbs no other.
 */
#ifndef POLICY_SERVER_H
#define POLICY_SERVER_H

#include <stddef.h>
#include <stdint.h>

struct conf;
struct policy_server;
struct store;

/* conf and store must live as long as it.  NULL: *why. */
struct policy_server *policy_server_new(const struct conf *, struct store *,
    const char **why);

/* Drained before; in a task or when the loop has ended.  NULL is fine. */
void policy_server_free(struct policy_server **);

/*
 * Serves who connects to that listening socket, which stays the caller's; in a
 * task of its own.
 */
void policy_server_listen(struct policy_server *, int fd);

/* Serves a connected socket, which it closes. */
void policy_server_serve(struct policy_server *, int fd);

/* How many connections there are. */
size_t policy_server_clients(const struct policy_server *);

/*
 * Accepts no more, closes idle connections, waits for answers under way, at the
 * deadline cuts the rest off; returns when all are gone.  In a task.
 */
void policy_server_drain(struct policy_server *, int64_t deadline);

#endif
