/*
 * Whom or what a record of the store is about: a client, its network, or texts
 * that are too long, too odd or too private for a key.
 */
#ifndef POLICY_SUBJECT_H
#define POLICY_SUBJECT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/* "192.0.2.1", "2001:db8::1"; IPv4 in IPv6 is IPv4.  False, zeroed: none. */
bool subject_client(const char *text, struct sockaddr_storage *);

/* The network that shares so many bits: "192.0.2.0/24", "2001:db8::/64". */
#define SUBJECT_NETWORK_SIZE (INET6_ADDRSTRLEN + 4)
void subject_network(const struct sockaddr_storage *client,
    int64_t ipv4_prefix, int64_t ipv6_prefix,
    char text[SUBJECT_NETWORK_SIZE]);

/* 128 bits of SHA-256 of texts; not exact: letters' case is ignored. */
#define SUBJECT_BYTES 16
void subject_bytes(const char *const *texts, size_t count, bool exact,
    unsigned char bytes[SUBJECT_BYTES]);

/* The same, not exact, in hexadecimal. */
#define SUBJECT_DIGEST_HEX (2 * SUBJECT_BYTES)
void subject_digest(const char *const *texts, size_t count,
    char hex[SUBJECT_DIGEST_HEX + 1]);

#endif
