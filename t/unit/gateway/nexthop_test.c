/* From a domain to a connection, with a table in the resolver's place. */
#include "config.h"

#include "gateway/nexthop.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/io.h"
#include "base/task.h"
#include "t/unit/unit.h"

static const struct {
	const char *name;
	enum dns_type type;
	enum dns_status status;
	unsigned preference;
	const char *value;
} zone[] = {
	{ "one.test", DNS_MX, DNS_FOUND, 10, "live.test" },
	{ "live.test", DNS_A, DNS_FOUND, 0, "127.0.0.1" },
	{ "live.test", DNS_MX, DNS_NODATA, 0, NULL },
	{ "two.test", DNS_MX, DNS_FOUND, 5, "dead.test" },
	{ "two.test", DNS_MX, DNS_FOUND, 10, "live.test" },
	{ "dead.test", DNS_A, DNS_FOUND, 0, "127.0.0.2" },
	{ "dead.test", DNS_MX, DNS_NODATA, 0, NULL },
	{ "null.test", DNS_MX, DNS_FOUND, 0, "" },
	{ "silent.test", DNS_MX, DNS_FAILED, 0, NULL },
	{ "hidden.test", DNS_MX, DNS_FOUND, 10, "silent.test" },
	{ "silent.test", DNS_A, DNS_FAILED, 0, NULL },
	{ "empty.test", DNS_MX, DNS_FOUND, 10, "nowhere.test" },
	{ "ours.test", DNS_MX, DNS_FOUND, 10, "me.test" },
	{ "xn--bcher-kva.test", DNS_MX, DNS_FOUND, 10, "live.test" },
};

static const struct dns_answer *
from_zone(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));
	struct dns_record *records = arena_alloc(arena, 10 * sizeof(*records));

	(void)argument;
	answer->status = DNS_NXDOMAIN;
	answer->records = records;
	for (size_t i = 0; i < sizeof(zone) / sizeof(zone[0]); i++) {
		struct dns_record *record = &records[answer->count];

		if (zone[i].type != type || strcmp(zone[i].name, name) != 0)
			continue;
		answer->status = zone[i].status;
		if (zone[i].status != DNS_FOUND)
			continue;
		record->name = zone[i].value;
		record->preference = zone[i].preference;
		if (type == DNS_A)
			inet_pton(AF_INET, zone[i].value, &record->a);
		answer->count++;
	}
	return answer;
}

static const struct {
	const char *name, *domain;
	enum delivery_status status;
	const char *enhanced;		/* NULL: connected, to: */
	const char *peer;
} cases[] = {
	{ "an MX", "one.test", DELIVERY_OK, NULL, "live.test[127.0.0.1]" },
	{ "the second MX", "two.test", DELIVERY_OK, NULL, "live.test[" },
	{ "no MX but an address", "live.test", DELIVERY_OK, NULL,
	    "live.test[" },
	{ "nobody listens", "dead.test", DELIVERY_TEMPORARY, "4.4.1", NULL },
	{ "null MX", "null.test", DELIVERY_PERMANENT, "5.1.10", NULL },
	{ "no domain", "none.test", DELIVERY_PERMANENT, "5.1.2", NULL },
	{ "no answer", "silent.test", DELIVERY_TEMPORARY, "4.4.3", NULL },
	{ "no answer for the MX host", "hidden.test", DELIVERY_TEMPORARY,
	    "4.4.3", NULL },
	{ "an MX without address", "empty.test", DELIVERY_PERMANENT, "5.4.4",
	    NULL },
	{ "we are the MX", "ours.test", DELIVERY_PERMANENT, "5.4.6", NULL },
	{ "a literal", "[127.0.0.1]", DELIVERY_OK, NULL,
	    "127.0.0.1[127.0.0.1]" },
	{ "a bad literal", "[127.0.0.300]", DELIVERY_PERMANENT, "5.1.2",
	    NULL },
	{ "an open literal", "[127.0.0.1", DELIVERY_PERMANENT, "5.1.2", NULL },
	{ "a long literal", "[1111111111111111111111111111111111111111111111111"
	    "1111111111]", DELIVERY_PERMANENT, "5.1.2", NULL },
	{ "U-labels", "b\xc3\xbc""cher.test", DELIVERY_OK, NULL,
	    "live.test[" },
	{ "no host name", "a b.test", DELIVERY_PERMANENT, "5.1.2", NULL },
	{ "none at all", NULL, DELIVERY_PERMANENT, "5.1.2", NULL },
};

static int listener;
static unsigned port;

/* Says hello to as many as come. */
static void
serve(void *argument)
{
	const char *line;
	struct io *io;
	size_t len;
	int fd;

	(void)argument;
	while (task_wait_fd(listener, TASK_READ, DEADLINE_NEVER) == 0) {
		if ((fd = accept(listener, NULL, NULL)) == -1)
			continue;
		io = io_new(fd);
		io_puts(io, "220 x\r\n");
		io_flush(io, task_deadline(1000));
		while (io_read_line(io, 1000, &line, &len,
		    task_deadline(1000)) == 1) {
			io_puts(io, "250 x\r\n");
			io_flush(io, task_deadline(1000));
		}
		io_free(&io);
	}
}

static struct client *
connect_to(struct route_hop *hop, const char *domain, struct arena *arena,
    struct delivery *failure)
{
	static const struct nexthop_settings settings = {
		.hostname = "me.test", .connect_timeout_ms = 1000,
		.greeting_timeout_ms = 1000, .command_timeout_ms = 1000,
		.data_timeout_ms = 1000,
	};
	struct route route = { .pattern = "*", .hops = hop, .hop_count = 1,
	    .tls = CLIENT_TLS_NONE };

	return nexthop_connect(&settings, &route, domain,
	    task_deadline(2000), arena, failure);
}

static void
run(void *argument)
{
	struct route_hop hop = { .kind = ROUTE_MX, .port = (uint16_t)port };
	struct task *server = task_start("server", serve, NULL);
	struct arena *arena = arena_new(0);
	struct delivery failure;
	struct client *client;

	(void)argument;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		client = connect_to(&hop, cases[i].domain, arena, &failure);
		CASE_ASSERT(cases[i].name, (client != NULL) ==
		    (cases[i].enhanced == NULL));
		if (client != NULL && cases[i].peer != NULL)
			CASE_ASSERT(cases[i].name, strstr(client_peer(client),
			    cases[i].peer) == client_peer(client));
		if (client == NULL && cases[i].enhanced != NULL) {
			CASE_ASSERT(cases[i].name,
			    failure.status == cases[i].status);
			CASE_ASSERT(cases[i].name, strcmp(failure.enhanced,
			    cases[i].enhanced) == 0);
		}
		client_close(&client);
	}
	/* A configured host that cannot be found never bounces mail. */
	hop.kind = ROUTE_SMTP;
	hop.host = "none.test";
	CU_ASSERT_PTR_NULL(connect_to(&hop, "x.test", arena, &failure));
	CU_ASSERT_EQUAL(failure.status, DELIVERY_TEMPORARY);
	hop.host = "live.test";
	client = connect_to(&hop, "x.test", arena, &failure);
	CU_ASSERT_PTR_NOT_NULL(client);
	client_close(&client);
	task_cancel(server);
	task_join(&server, DEADLINE_NEVER);
	arena_free(&arena);
}

static void
connects(void)
{
	struct net_endpoint endpoint;
	char text[NET_TEXT_SIZE];
	const char *why;

	net_endpoint_parse("127.0.0.1:0", &endpoint, &why);
	listener = net_listen(&endpoint, 50, 0, &why);
	CU_ASSERT_FATAL(listener != -1);
	endpoint.len = sizeof(endpoint.address);
	getsockname(listener, (struct sockaddr *)&endpoint.address,
	    &endpoint.len);
	net_endpoint_print((struct sockaddr *)&endpoint.address, text);
	port = (unsigned)atoi(strrchr(text, ':') + 1);
	dns_set_source(from_zone, NULL);
	task_init();
	task_detach("test", run, NULL);
	task_loop();
	task_shutdown();
	dns_set_source(NULL, NULL);
	close(listener);
}

SUITE(nexthop, { "connects", connects })
