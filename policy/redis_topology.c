/* Redis Cluster specification; Sentinel's documentation. */
#include "policy/redis_topology.h"

#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOST_MAX 64			/* an address as text */

/* CRC-16/XMODEM: polynomial 0x1021, begins with 0. */
static unsigned
crc16(const char *bytes, size_t len)
{
	unsigned crc = 0;

	for (size_t i = 0; i < len; i++) {
		crc ^= (unsigned)(unsigned char)bytes[i] << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = (crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0)) &
			    0xffff;
	}
	return crc;
}

unsigned
redis_slot(const char *key)
{
	const char *open = strchr(key, '{');
	const char *close = open != NULL ? strchr(open, '}') : NULL;

	if (close == NULL || close == open + 1)
		return crc16(key, strlen(key)) % REDIS_SLOTS;
	return crc16(open + 1, (size_t)(close - open - 1)) % REDIS_SLOTS;
}

/* Addresses only: a name would have to be looked up while all wait. */
static bool
make_endpoint(const char *host, size_t len, unsigned long port,
    const struct net_endpoint *asked, struct net_endpoint *endpoint)
{
	char text[HOST_MAX + 16];
	const char *why;

	if (port == 0 || port > 65535 || len >= HOST_MAX)
		return false;
	if (len == 0) {
		if (asked == NULL || (asked->address.ss_family != AF_INET &&
		    asked->address.ss_family != AF_INET6))
			return false;
		*endpoint = *asked;
		((struct sockaddr_in *)&endpoint->address)->sin_port =
		    htons((in_port_t)port);
		return true;
	}
	snprintf(text, sizeof(text), memchr(host, ':', len) != NULL ?
	    "[%.*s]:%lu" : "%.*s:%lu", (int)len, host, port);
	return net_endpoint_parse(text, endpoint, &why) == 0;
}

static bool
is_string(const redisReply *reply)
{
	return reply != NULL && reply->type == REDIS_REPLY_STRING;
}

bool
redis_master_parse(const struct redisReply *reply,
    struct net_endpoint *master, const char **why)
{
	*why = "Sentinel's reply makes no sense";
	if (reply->type == REDIS_REPLY_NIL) {
		*why = "Sentinel knows no master of that name";
		return false;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    !is_string(reply->element[0]) || !is_string(reply->element[1]))
		return false;
	*why = "Sentinel does not name the master by its address";
	return reply->element[0]->len > 0 &&
	    make_endpoint(reply->element[0]->str,
	    (size_t)reply->element[0]->len,
	    strtoul(reply->element[1]->str, NULL, 10), NULL, master);
}

bool
redis_redirect_parse(const char *text, const struct net_endpoint *asked,
    struct redis_redirect *redirect)
{
	const char *host, *colon;
	char *end;

	redirect->ask = strncmp(text, "ASK ", 4) == 0;
	if (!redirect->ask && strncmp(text, "MOVED ", 6) != 0)
		return false;
	text = strchr(text, ' ') + 1;
	redirect->slot = (unsigned)strtoul(text, &end, 10);
	if (end == text || *end != ' ' || redirect->slot >= REDIS_SLOTS)
		return false;
	host = end + 1;
	if ((colon = strrchr(host, ':')) == NULL)
		return false;
	return make_endpoint(host, (size_t)(colon - host),
	    strtoul(colon + 1, NULL, 10), asked, &redirect->to);
}

/* An element of the metadata: names and values in turn. */
static const redisReply *
find_ip(const redisReply *node)
{
	const redisReply *more = node->elements > 3 ? node->element[3] : NULL;

	if (more == NULL || more->type != REDIS_REPLY_ARRAY)
		return NULL;
	for (size_t i = 0; i + 1 < more->elements; i += 2)
		if (is_string(more->element[i]) &&
		    strcmp(more->element[i]->str, "ip") == 0 &&
		    is_string(more->element[i + 1]))
			return more->element[i + 1];
	return NULL;
}

/* Address, port, id and, since 7.0, what else it is known by. */
static bool
take_node(const redisReply *node, const struct net_endpoint *asked,
    struct net_endpoint *endpoint)
{
	const redisReply *host, *ip;
	long long port;

	if (node == NULL || node->type != REDIS_REPLY_ARRAY ||
	    node->elements < 2 || node->element[0] == NULL ||
	    node->element[1] == NULL ||
	    node->element[1]->type != REDIS_REPLY_INTEGER)
		return false;
	host = node->element[0];
	port = node->element[1]->integer;
	if (port <= 0 || port > 65535)
		return false;
	if (host->type == REDIS_REPLY_NIL)
		return make_endpoint("", 0, (unsigned long)port, asked,
		    endpoint);
	if (!is_string(host))
		return false;
	if (make_endpoint(host->str, (size_t)host->len, (unsigned long)port,
	    asked, endpoint))
		return true;
	ip = find_ip(node);
	return ip != NULL && make_endpoint(ip->str, (size_t)ip->len,
	    (unsigned long)port, asked, endpoint);
}

bool
redis_slots_parse(const struct redisReply *reply,
    const struct net_endpoint *asked, void (*f)(void *argument,
    unsigned first, unsigned last, const struct net_endpoint *master),
    void *argument, const char **why)
{
	struct net_endpoint master;

	*why = "a map of the cluster that makes no sense";
	if (reply->type != REDIS_REPLY_ARRAY)
		return false;
	for (size_t i = 0; i < reply->elements; i++) {
		const redisReply *range = reply->element[i];
		long long first, last;

		if (range == NULL || range->type != REDIS_REPLY_ARRAY ||
		    range->elements < 3 || range->element[0] == NULL ||
		    range->element[1] == NULL ||
		    range->element[0]->type != REDIS_REPLY_INTEGER ||
		    range->element[1]->type != REDIS_REPLY_INTEGER)
			return false;
		first = range->element[0]->integer;
		last = range->element[1]->integer;
		if (first < 0 || last < first || last >= REDIS_SLOTS)
			return false;
		if (!take_node(range->element[2], asked, &master)) {
			*why = "the cluster does not name a node by its "
			    "address";
			return false;
		}
		f(argument, (unsigned)first, (unsigned)last, &master);
	}
	*why = "the cluster serves no slots";
	return reply->elements > 0;
}

bool
redis_same_server(const struct net_endpoint *a, const struct net_endpoint *b)
{
	const struct sockaddr_in *in[] = { (const void *)&a->address,
		(const void *)&b->address };
	const struct sockaddr_in6 *in6[] = { (const void *)&a->address,
		(const void *)&b->address };

	if (a->address.ss_family != b->address.ss_family)
		return false;
	switch (a->address.ss_family) {
	case AF_INET:
		return in[0]->sin_port == in[1]->sin_port &&
		    in[0]->sin_addr.s_addr == in[1]->sin_addr.s_addr;
	case AF_INET6:
		return in6[0]->sin6_port == in6[1]->sin6_port &&
		    memcmp(&in6[0]->sin6_addr, &in6[1]->sin6_addr, 16) == 0;
	default:
		return false;
	}
}
