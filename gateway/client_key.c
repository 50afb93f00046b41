/* Clients by their addresses. */
#include "gateway/client_key.h"

#include <netinet/in.h>
#include <string.h>

bool
client_key_make(struct client_key *key, const struct sockaddr_storage *client)
{
	memset(key, 0, sizeof(*key));
	if (client->ss_family == AF_INET)
		memcpy(key->address, &((const struct sockaddr_in *)
		    client)->sin_addr, 4);
	else if (client->ss_family == AF_INET6)
		memcpy(key->address, &((const struct sockaddr_in6 *)
		    client)->sin6_addr, 8);
	else
		return false;
	key->family = client->ss_family;
	return true;
}

bool
client_key_equal(const struct client_key *a, const struct client_key *b)
{
	return a->family == b->family &&
	    memcmp(a->address, b->address, sizeof(a->address)) == 0;
}

uint32_t
client_key_hash(const struct client_key *key)
{
	uint32_t hash = 2166136261u;		/* FNV-1a */

	for (size_t i = 0; i < sizeof(key->address); i++)
		hash = (hash ^ key->address[i]) * 16777619u;
	return hash ^ hash >> 15;
}
