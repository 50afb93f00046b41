/* Failed authentications by client address. */
#include "gateway/auth_limit.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define SETS 1024
#define WAYS 4				/* addresses of the same hash */

struct entry {
	unsigned char address[8];
	sa_family_t family;		/* AF_UNSPEC: free */
	uint32_t failures;
	int64_t last_ms;
};

struct auth_limit {
	struct entry sets[SETS][WAYS];
};

struct auth_limit *
auth_limit_new(void)
{
	struct auth_limit *limit = calloc(1, sizeof(*limit));

	if (limit == NULL)
		fatal("out of memory");
	return limit;
}

void
auth_limit_free(struct auth_limit **limitp)
{
	free(*limitp);
	*limitp = NULL;
}

/* What of the address tells clients apart.  False: it has none. */
static bool
key_of(const struct sockaddr_storage *client, struct entry *key)
{
	memset(key, 0, sizeof(*key));
	key->family = client->ss_family;
	if (client->ss_family == AF_INET)
		memcpy(key->address, &((const struct sockaddr_in *)
		    client)->sin_addr, 4);
	else if (client->ss_family == AF_INET6)
		memcpy(key->address, &((const struct sockaddr_in6 *)
		    client)->sin6_addr, 8);
	else
		return false;
	return true;
}

static size_t
set_of(const struct entry *key)
{
	uint32_t hash = 2166136261u;		/* FNV-1a */

	for (size_t i = 0; i < sizeof(key->address); i++)
		hash = (hash ^ key->address[i]) * 16777619u;
	return (hash ^ hash >> 15) % SETS;
}

/* Where its failures are, or -1. */
static int
find(const struct entry *set, const struct entry *key)
{
	for (int i = 0; i < WAYS; i++)
		if (set[i].family == key->family && memcmp(set[i].address,
		    key->address, sizeof(key->address)) == 0)
			return i;
	return -1;
}

static bool
is_old(const struct entry *entry, int64_t now_ms)
{
	return now_ms - entry->last_ms >= AUTH_LIMIT_MS;
}

uint32_t
auth_limit_failures(const struct auth_limit *limit,
    const struct sockaddr_storage *client, int64_t now_ms)
{
	const struct entry *set;
	struct entry key;
	int way;

	if (!key_of(client, &key))
		return 0;
	set = limit->sets[set_of(&key)];
	way = find(set, &key);
	return way == -1 || is_old(&set[way], now_ms) ? 0 : set[way].failures;
}

uint32_t
auth_limit_add(struct auth_limit *limit,
    const struct sockaddr_storage *client, int64_t now_ms)
{
	struct entry *set, key;
	int way;

	if (!key_of(client, &key))
		return 0;
	set = limit->sets[set_of(&key)];
	way = find(set, &key);
	if (way == -1) {
		way = 0;
		for (int i = 1; i < WAYS; i++)
			if (set[i].last_ms < set[way].last_ms)
				way = i;
		set[way] = key;
	} else if (is_old(&set[way], now_ms)) {
		set[way].failures = 0;
	}
	set[way].last_ms = now_ms;
	if (set[way].failures < UINT32_MAX)
		set[way].failures++;
	return set[way].failures;
}

void
auth_limit_forget(struct auth_limit *limit,
    const struct sockaddr_storage *client)
{
	struct entry *set, key;
	int way;

	if (!key_of(client, &key))
		return;
	set = limit->sets[set_of(&key)];
	if ((way = find(set, &key)) != -1)
		memset(&set[way], 0, sizeof(set[way]));
}
