#include "policy/redis_topology.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "policy/redis_wire.h"
#include "t/unit/unit.h"

static void
slots(void)
{
	/* Those of the specification, and of CLUSTER KEYSLOT. */
	static const struct { const char *name, *key; unsigned slot; } cases[] = {
		{ "the check value", "123456789", 12739 },
		{ "a word", "foo", 12182 },
		{ "nothing", "", 0 },
		{ "a group", "{foo}.bar", 12182 },
		{ "within", "grey:{foo}:x", 12182 },
		{ "an empty group is none", "foo{}{bar}", 8363 },
		{ "up to the first end", "foo{{bar}}zap", 4015 },
		{ "the first of two", "foo{bar}{zap}", 5061 },
		{ "no end", "foo{bar", 15278 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CASE_ASSERT(cases[i].name,
		    redis_slot(cases[i].key) == cases[i].slot);
}

static const char *
print(const struct net_endpoint *endpoint)
{
	static char text[NET_TEXT_SIZE];

	return net_endpoint_print(
	    (const struct sockaddr *)&endpoint->address, text);
}

static void
redirections(void)
{
	static const struct {
		const char *name, *text, *to;
		unsigned slot;
		bool ask;
	} cases[] = {
		{ "moved", "MOVED 3999 192.0.2.1:6381", "192.0.2.1:6381",
		    3999, false },
		{ "ask", "ASK 16383 192.0.2.1:6381", "192.0.2.1:6381", 16383,
		    true },
		{ "IPv6", "MOVED 0 2001:db8::1:6381", "[2001:db8::1]:6381", 0,
		    false },
		{ "the same host", "MOVED 1 :6381", "198.51.100.1:6381", 1,
		    false },
		{ "a name", "MOVED 1 redis.test:6381", NULL, 0, false },
		{ "no such slot", "MOVED 16384 192.0.2.1:6381", NULL, 0,
		    false },
		{ "no slot", "MOVED x 192.0.2.1:6381", NULL, 0, false },
		{ "no port", "MOVED 1 192.0.2.1", NULL, 0, false },
		{ "port 0", "MOVED 1 192.0.2.1:0", NULL, 0, false },
		{ "a port that is none", "MOVED 1 192.0.2.1:65536", NULL, 0,
		    false },
		{ "nothing else", "MOVED ", NULL, 0, false },
		{ "another error", "ERR MOVED 1 192.0.2.1:1", NULL, 0, false },
		{ "shorter", "MOVED", NULL, 0, false },
		{ "empty", "", NULL, 0, false },
	};
	struct net_endpoint asked;
	const char *why;

	CU_ASSERT_EQUAL(net_endpoint_parse("198.51.100.1:6379", &asked, &why),
	    0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct redis_redirect redirect;
		bool is = redis_redirect_parse(cases[i].text, &asked,
		    &redirect);

		CASE_ASSERT(cases[i].name, is == (cases[i].to != NULL));
		if (!is)
			continue;
		CASE_ASSERT(cases[i].name, redirect.ask == cases[i].ask);
		CASE_ASSERT(cases[i].name, redirect.slot == cases[i].slot);
		CASE_ASSERT(cases[i].name, strcmp(print(&redirect.to),
		    cases[i].to) == 0);
	}
}

/* A reply from its bytes on the wire. */
static redisReply *
reply_of(const char *bytes)
{
	struct redisReader *reader = redis_reader_new();
	void *reply = NULL;

	redisReaderFeed(reader, bytes, strlen(bytes));
	redisReaderGetReply(reader, &reply);
	redisReaderFree(reader);
	return reply;
}

static void
masters(void)
{
	static const struct { const char *name, *bytes, *to; } cases[] = {
		{ "an address", "*2\r\n$9\r\n192.0.2.1\r\n$4\r\n6379\r\n",
		    "192.0.2.1:6379" },
		{ "IPv6", "*2\r\n$3\r\n::1\r\n$4\r\n6379\r\n", "[::1]:6379" },
		{ "unknown", "*-1\r\n", NULL },
		{ "a name", "*2\r\n$4\r\nhost\r\n$4\r\n6379\r\n", NULL },
		{ "no host", "*2\r\n$0\r\n\r\n$4\r\n6379\r\n", NULL },
		{ "no port", "*2\r\n$9\r\n192.0.2.1\r\n$1\r\nx\r\n", NULL },
		{ "an integer", "*2\r\n$9\r\n192.0.2.1\r\n:6379\r\n", NULL },
		{ "too few", "*1\r\n$9\r\n192.0.2.1\r\n", NULL },
		{ "an error", "-ERR what\r\n", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		redisReply *reply = reply_of(cases[i].bytes);
		struct net_endpoint master;
		const char *why = "";
		bool is;

		CU_ASSERT_PTR_NOT_NULL_FATAL(reply);
		is = redis_master_parse(reply, &master, &why);
		CASE_ASSERT(cases[i].name, is == (cases[i].to != NULL));
		CASE_ASSERT(cases[i].name, is ? strcmp(print(&master),
		    cases[i].to) == 0 : *why != '\0');
		freeReplyObject(reply);
	}
}

static void
put_range(void *argument, unsigned first, unsigned last,
    const struct net_endpoint *master)
{
	buf_printf(argument, "%u-%u %s;", first, last, print(master));
}

#define RANGE(first, last, node) "*3\r\n:" first "\r\n:" last "\r\n" node
#define NODE "*3\r\n$9\r\n192.0.2.1\r\n:7000\r\n$2\r\nid\r\n"

static void
maps(void)
{
	static const struct { const char *name, *bytes, *ranges; } cases[] = {
		{ "two ranges", "*2\r\n" RANGE("0", "9", NODE)
		    RANGE("10", "16383", NODE),
		    "0-9 192.0.2.1:7000;10-16383 192.0.2.1:7000;" },
		{ "a replica, too", "*1\r\n*4\r\n:0\r\n:9\r\n" NODE NODE,
		    "0-9 192.0.2.1:7000;" },
		{ "the host that was asked", "*1\r\n" RANGE("0", "9",
		    "*2\r\n$-1\r\n:7001\r\n"), "0-9 198.51.100.1:7001;" },
		{ "a name and its address", "*1\r\n" RANGE("0", "9",
		    "*4\r\n$1\r\nx\r\n:7001\r\n$2\r\nid\r\n*2\r\n"
		    "$2\r\nip\r\n$3\r\n::1\r\n"), "0-9 [::1]:7001;" },
		{ "a name", "*1\r\n" RANGE("0", "9",
		    "*3\r\n$1\r\nx\r\n:7001\r\n$2\r\nid\r\n"), NULL },
		{ "none", "*0\r\n", NULL },
		{ "nil", "*-1\r\n", NULL },
		{ "an error", "-ERR This instance has cluster support "
		    "disabled\r\n", NULL },
		{ "backwards", "*1\r\n" RANGE("9", "0", NODE), NULL },
		{ "beyond", "*1\r\n" RANGE("9", "16384", NODE), NULL },
		{ "negative", "*1\r\n" RANGE("-1", "9", NODE), NULL },
		{ "a port that is none", "*1\r\n" RANGE("0", "9",
		    "*2\r\n$3\r\n::1\r\n:70000\r\n"), NULL },
		{ "no node", "*1\r\n*2\r\n:0\r\n:9\r\n", NULL },
		{ "numbers", "*3\r\n:0\r\n:9\r\n:1\r\n", NULL },
		{ "a node of nothing", "*1\r\n" RANGE("0", "9", "*0\r\n"),
		    NULL },
	};
	struct net_endpoint asked;
	const char *why;

	CU_ASSERT_EQUAL(net_endpoint_parse("198.51.100.1:6379", &asked, &why),
	    0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		redisReply *reply = reply_of(cases[i].bytes);
		struct buf ranges = BUF_INIT;
		bool is;

		CU_ASSERT_PTR_NOT_NULL_FATAL(reply);
		why = "";
		is = redis_slots_parse(reply, &asked, put_range, &ranges,
		    &why);
		CASE_ASSERT(cases[i].name, is == (cases[i].ranges != NULL));
		CASE_ASSERT(cases[i].name, is ? strcmp(ranges.data,
		    cases[i].ranges) == 0 : *why != '\0');
		freeReplyObject(reply);
		buf_release(&ranges);
	}
}

static void
servers(void)
{
	static const char *const texts[] = { "192.0.2.1:1", "192.0.2.1:2",
		"192.0.2.2:1", "[2001:db8::1]:1", "[2001:db8::2]:1",
		"[2001:db8::1]:2", "unix:/a" };
	struct net_endpoint a, b;
	const char *why;

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		for (size_t j = 0; j < sizeof(texts) / sizeof(texts[0]); j++) {
			net_endpoint_parse(texts[i], &a, &why);
			net_endpoint_parse(texts[j], &b, &why);
			CASE_ASSERT(texts[i], redis_same_server(&a, &b) ==
			    (i == j && a.address.ss_family != AF_UNIX));
		}
}

SUITE(redis_topology,
    { "hash slots", slots },
    { "redirections", redirections },
    { "the master that Sentinel names", masters },
    { "maps of a cluster", maps },
    { "servers", servers })
