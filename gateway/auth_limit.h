/*
 * Failed authentications of each client address, over its sessions: who guesses
 * passwords comes again and again.  A table of fixed size in each process; the
 * addresses (IPv6: networks of /64) that failed longest ago are forgotten first.
 */
#ifndef GATEWAY_AUTH_LIMIT_H
#define GATEWAY_AUTH_LIMIT_H

#include <stdint.h>
#include <sys/socket.h>

struct auth_limit;

struct auth_limit *auth_limit_new(void);
void auth_limit_free(struct auth_limit **);

/* An address is forgotten so long after its last failure. */
#define AUTH_LIMIT_MS (60 * 60 * 1000)

/* How many failures are known of the client now; 0 if it has no address. */
uint32_t auth_limit_failures(const struct auth_limit *,
    const struct sockaddr_storage *client, int64_t now_ms);

/* One more.  Returns how many there are. */
uint32_t auth_limit_add(struct auth_limit *,
    const struct sockaddr_storage *client, int64_t now_ms);

/* It does know a password. */
void auth_limit_forget(struct auth_limit *,
    const struct sockaddr_storage *client);

#endif
