/* What Redis says of where things are: replies from their bytes on the wire. */
#include <assert.h>
#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "policy/redis_topology.h"
#include "policy/redis_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static void
take_range(void *argument, unsigned first, unsigned last,
    const struct net_endpoint *master)
{
	(void)argument;
	assert(first <= last && last < REDIS_SLOTS);
	assert(redis_same_server(master, master));
}

static void
parse(const redisReply *reply, const struct net_endpoint *asked)
{
	struct redis_redirect redirect;
	struct net_endpoint master;
	const char *why;

	if (redis_master_parse(reply, &master, &why))
		assert(redis_same_server(&master, &master));
	redis_slots_parse(reply, asked, take_range, NULL, &why);
	if (reply->type != REDIS_REPLY_ERROR &&
	    reply->type != REDIS_REPLY_STRING)
		return;
	assert(redis_slot(reply->str) < REDIS_SLOTS);
	if (redis_redirect_parse(reply->str, asked, &redirect))
		assert(redirect.slot < REDIS_SLOTS);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct redisReader *reader = redis_reader_new();
	struct net_endpoint asked;
	const char *why;
	void *reply;

	assert(net_endpoint_parse("127.0.0.1:6379", &asked, &why) == 0);
	redisReaderFeed(reader, (const char *)data, size);
	while (redisReaderGetReply(reader, &reply) == REDIS_OK &&
	    reply != NULL) {
		parse(reply, &asked);
		freeReplyObject(reply);
	}
	redisReaderFree(reader);
	return 0;
}
