/* What of a client's address tells clients apart: all of IPv4, an IPv6 /64. */
#ifndef GATEWAY_CLIENT_KEY_H
#define GATEWAY_CLIENT_KEY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct client_key {
	unsigned char address[8];
	sa_family_t family;		/* AF_UNSPEC: of nobody */
};

/* False, and the key is nobody's: it has no address. */
bool client_key_make(struct client_key *, const struct sockaddr_storage *);

bool client_key_equal(const struct client_key *, const struct client_key *);
uint32_t client_key_hash(const struct client_key *);

#endif
