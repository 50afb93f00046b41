#include "policy/redis_sentinel.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/redis_topology.h"

#define ONE_MS 300			/* for one of several */

struct redis_sentinel {
	const struct redis_access *access;
	const struct net_endpoint *servers;
	size_t count, current;
	const char *name;
	struct redis_wire wire;
	char why[REDIS_WHY_SIZE + NET_TEXT_SIZE + 16];
};

struct redis_sentinel *
redis_sentinel_new(const struct redis_access *access,
    const struct net_endpoint *servers, size_t count, const char *name)
{
	struct redis_sentinel *sentinel;

	if ((sentinel = calloc(1, sizeof(*sentinel))) == NULL)
		fatal("out of memory (redis)");
	sentinel->access = access;
	sentinel->servers = servers;
	sentinel->count = count;
	sentinel->name = name;
	return sentinel;
}

void
redis_sentinel_free(struct redis_sentinel **sentinelp)
{
	struct redis_sentinel *sentinel = *sentinelp;

	*sentinelp = NULL;
	if (sentinel == NULL)
		return;
	redis_wire_close(&sentinel->wire);
	free(sentinel);
}

/* A Sentinel need not ask for the password that its servers have. */
static int
connect_sentinel(struct redis_sentinel *s, int64_t deadline)
{
	const char *words[3];
	redisReply *reply;
	int count = redis_wire_auth(s->access, words);

	if (redis_wire_connect(&s->wire, s->access, &s->servers[s->current],
	    deadline) != 0)
		return -1;
	if (count == 0)
		return 0;
	reply = redis_wire_ask(&s->wire, count, words, deadline);
	if (reply == NULL)
		return -1;
	freeReplyObject(reply);
	return 0;
}

static int
ask_one(struct redis_sentinel *s, struct net_endpoint *master,
    int64_t deadline)
{
	const char *const words[] = { "SENTINEL", "get-master-addr-by-name",
		s->name };
	redisReply *reply;
	const char *why = "";
	bool good;

	if (s->wire.io == NULL && connect_sentinel(s, deadline) != 0)
		return -1;
	if ((reply = redis_wire_ask(&s->wire, 3, words, deadline)) == NULL)
		return -1;
	good = redis_master_parse(reply, master, &why);
	if (!good)
		redis_wire_note(&s->wire, reply->type == REDIS_REPLY_ERROR ?
		    reply->str : why);
	freeReplyObject(reply);
	return good ? 0 : -1;
}

int
redis_sentinel_locate(struct redis_sentinel *s, struct net_endpoint *master,
    int64_t deadline, const char **why)
{
	char server[NET_TEXT_SIZE];

	*why = s->why;
	/* An idle connection may have been closed: once more than there are. */
	for (size_t i = 0; i <= s->count && task_now() < deadline; i++) {
		int64_t end = task_deadline(ONE_MS);
		bool open = s->wire.io != NULL;

		if (ask_one(s, master, end < deadline ? end : deadline) == 0)
			return 0;
		redis_wire_close(&s->wire);
		snprintf(s->why, sizeof(s->why), "sentinel %s: %s",
		    net_endpoint_print((const struct sockaddr *)
		    &s->servers[s->current].address, server), s->wire.why);
		if (!open)
			s->current = (s->current + 1) % s->count;
	}
	return -1;
}
