/* Addresses and sockets: parse, print, listen. */
#ifndef BASE_NET_H
#define BASE_NET_H

#include <stdbool.h>
#include <sys/socket.h>

/*
 * An end point in the configuration:
 *	"127.0.0.1:25", "[::1]:25", ":25" (all addresses), "unix:/path"
 */
struct net_endpoint {
	struct sockaddr_storage address;
	socklen_t len;
};

/* Parses; 0, or -1 and *why.  Takes numbers only, names nothing. */
int net_endpoint_parse(const char *text, struct net_endpoint *,
    const char **why);

/* "192.0.2.1", "2001:db8::1" or a path; text holds NET_TEXT_SIZE bytes. */
#define NET_TEXT_SIZE 112
const char *net_address_print(const struct sockaddr *, char *text);

/* "192.0.2.1:25", "[2001:db8::1]:25", "unix:/path". */
const char *net_endpoint_print(const struct sockaddr *, char *text);

/* An IPv4-mapped IPv6 address becomes IPv4, in place. */
void net_unmap(struct sockaddr_storage *);

/*
 * A listening socket: bound, SO_REUSEADDR, IPV6_V6ONLY off for ":port",
 * non-blocking, close-on-exec; a stale UNIX socket file is replaced if nobody
 * answers there.  mode: permissions of a UNIX socket.  -1 and *why on error.
 */
int net_listen(const struct net_endpoint *, int backlog, int mode,
    const char **why);

/* True for a host name by RFC 5321: labels of letters, digits, hyphens. */
bool net_is_host_name(const char *);

#endif
