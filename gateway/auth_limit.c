/* Failed authentications by client address. */
#include "gateway/auth_limit.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "gateway/client_key.h"

#define SETS 1024
#define WAYS 4				/* addresses of the same hash */

struct entry {
	struct client_key key;		/* nobody's: free */
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

/* Where its failures are, or -1. */
static int
find(const struct entry *set, const struct client_key *key)
{
	for (int i = 0; i < WAYS; i++)
		if (client_key_equal(&set[i].key, key))
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
	struct client_key key;
	int way;

	if (!client_key_make(&key, client))
		return 0;
	set = limit->sets[client_key_hash(&key) % SETS];
	way = find(set, &key);
	return way == -1 || is_old(&set[way], now_ms) ? 0 : set[way].failures;
}

uint32_t
auth_limit_add(struct auth_limit *limit,
    const struct sockaddr_storage *client, int64_t now_ms)
{
	struct client_key key;
	struct entry *set;
	int way;

	if (!client_key_make(&key, client))
		return 0;
	set = limit->sets[client_key_hash(&key) % SETS];
	way = find(set, &key);
	if (way == -1) {
		way = 0;
		for (int i = 1; i < WAYS; i++)
			if (set[i].last_ms < set[way].last_ms)
				way = i;
		set[way] = (struct entry){ .key = key };
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
	struct client_key key;
	struct entry *set;
	int way;

	if (!client_key_make(&key, client))
		return;
	set = limit->sets[client_key_hash(&key) % SETS];
	if ((way = find(set, &key)) != -1)
		memset(&set[way], 0, sizeof(set[way]));
}
