#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/task.h"
#include "t/unit/unit.h"

/* --- names, from a table in the resolver's place --- */

static const struct {
	const char *name;
	enum dns_type type;
	enum dns_status status;
	const char *value;		/* an address or a name */
} zone[] = {
	{ "1.2.0.192.in-addr.arpa", DNS_PTR, DNS_FOUND, "mx.example.org" },
	{ "mx.example.org", DNS_A, DNS_FOUND, "192.0.2.1" },
	{ "2.2.0.192.in-addr.arpa", DNS_PTR, DNS_FOUND, "liar.example.org" },
	{ "liar.example.org", DNS_A, DNS_FOUND, "192.0.2.99" },
	{ "3.2.0.192.in-addr.arpa", DNS_PTR, DNS_FAILED, NULL },
	{ "4.2.0.192.in-addr.arpa", DNS_PTR, DNS_FOUND, "slow.example.org" },
	{ "slow.example.org", DNS_A, DNS_FAILED, NULL },
	{ "5.2.0.192.in-addr.arpa", DNS_PTR, DNS_FOUND, "a;b\r\nc.test" },
	{ "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
	  ".ip6.arpa", DNS_PTR, DNS_FOUND, "six.example.org" },
	{ "six.example.org", DNS_AAAA, DNS_FOUND, "2001:db8::1" },
};

static int asked;

static const struct dns_answer *
from_zone(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	(void)argument;
	asked++;
	for (size_t i = 0; i < sizeof(zone) / sizeof(zone[0]); i++) {
		struct dns_answer *answer;
		struct dns_record *record;

		if (zone[i].type != type || strcmp(zone[i].name, name) != 0)
			continue;
		answer = arena_alloc(arena, sizeof(*answer));
		record = arena_alloc(arena, sizeof(*record));
		answer->status = zone[i].status;
		answer->count = answer->status == DNS_FOUND;
		answer->records = record;
		record->name = zone[i].value;
		if (type == DNS_A && zone[i].value != NULL)
			inet_pton(AF_INET, zone[i].value, &record->a);
		if (type == DNS_AAAA && zone[i].value != NULL)
			inet_pton(AF_INET6, zone[i].value, &record->aaaa);
		return answer;
	}
	return NULL;
}

static void
address(const char *text, struct sockaddr_storage *storage)
{
	struct sockaddr_in *four = (void *)storage;
	struct sockaddr_in6 *six = (void *)storage;

	memset(storage, 0, sizeof(*storage));
	if (strchr(text, ':') == NULL) {
		four->sin_family = AF_INET;
		inet_pton(AF_INET, text, &four->sin_addr);
	} else {
		six->sin6_family = AF_INET6;
		inet_pton(AF_INET6, text, &six->sin6_addr);
	}
}

static void
confirms_names(void)
{
	static const struct {
		const char *name, *client;
		enum dns_status want;
		const char *confirmed, *ptr;
	} cases[] = {
		{ "confirmed", "192.0.2.1", DNS_FOUND, "mx.example.org",
		    "mx.example.org" },
		{ "IPv4-mapped", "::ffff:192.0.2.1", DNS_FOUND,
		    "mx.example.org", "mx.example.org" },
		{ "another address", "192.0.2.2", DNS_NXDOMAIN, NULL,
		    "liar.example.org" },
		{ "no answer", "192.0.2.3", DNS_FAILED, NULL, NULL },
		{ "no answer for the name", "192.0.2.4", DNS_FAILED, NULL,
		    "slow.example.org" },
		{ "not a host name", "192.0.2.5", DNS_NXDOMAIN, NULL, NULL },
		{ "no PTR", "192.0.2.6", DNS_NXDOMAIN, NULL, NULL },
		{ "IPv6", "2001:db8::1", DNS_FOUND, "six.example.org",
		    "six.example.org" },
	};

	dns_set_source(from_zone, NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct sockaddr_storage client;
		const char *name, *ptr;
		enum dns_status status;

		address(cases[i].client, &client);
		status = dns_confirmed_name(arena, (struct sockaddr *)&client,
		    &name, &ptr, DEADLINE_NEVER);
		CASE_ASSERT(cases[i].name, status == cases[i].want);
		CASE_ASSERT(cases[i].name, (name == NULL) ==
		    (cases[i].confirmed == NULL) && (name == NULL ||
		    strcmp(name, cases[i].confirmed) == 0));
		CASE_ASSERT(cases[i].name, (ptr == NULL) ==
		    (cases[i].ptr == NULL) && (ptr == NULL ||
		    strcmp(ptr, cases[i].ptr) == 0));
		arena_free(&arena);
	}
	dns_set_source(NULL, NULL);
}

static const struct dns_answer *
many_names(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));
	struct dns_record *records = arena_alloc(arena, 50 * sizeof(*records));

	(void)name, (void)argument;
	asked++;
	if (type != DNS_PTR)
		return NULL;
	for (int i = 0; i < 50; i++)
		records[i].name = "x.example.org";
	answer->count = 50;
	answer->records = records;
	return answer;
}

static void
bounds_names(void)
{
	struct arena *arena = arena_new(0);
	struct sockaddr_storage client;
	const char *name, *ptr;

	dns_set_source(many_names, NULL);
	asked = 0;
	address("192.0.2.1", &client);
	CU_ASSERT(dns_confirmed_name(arena, (struct sockaddr *)&client, &name,
	    &ptr, DEADLINE_NEVER) == DNS_NXDOMAIN);
	CU_ASSERT(asked == 11);
	dns_set_source(NULL, NULL);
	arena_free(&arena);
}

static void
refuses_impossible_names(void)
{
	static const char *const names[] = { "a..test", ".test",
		("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.test") };
	struct arena *arena = arena_new(0);

	dns_set_source(from_zone, NULL);
	asked = 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		CASE_ASSERT(names[i], dns_query(arena, names[i], DNS_A,
		    DEADLINE_NEVER)->status == DNS_NXDOMAIN);
	CU_ASSERT(asked == 0);
	dns_set_source(NULL, NULL);
	arena_free(&arena);
}

/* --- the resolver itself, forwarding to a server made of one socket --- */

static int server = -1;

/* Answers by the first letter: a found, n no such name, s not at all. */
static void
serve(void *argument)
{
	unsigned char packet[1500];
	struct sockaddr_storage from;
	socklen_t from_len;
	ssize_t len;

	(void)argument;
	for (;;) {
		if (task_wait_fd(server, TASK_READ, DEADLINE_NEVER) != 0)
			return;
		from_len = sizeof(from);
		len = recvfrom(server, packet, 512, 0,
		    (struct sockaddr *)&from, &from_len);
		if (len < 17 || packet[13] == 's')
			continue;
		packet[2] = 0x81;
		packet[3] = packet[13] == 'n' ? 0x83 : 0x80;
		/* Everything behind the question goes (EDNS). */
		len = 12;
		while (packet[len] != 0)
			len += packet[len] + 1;
		len += 5;
		memset(packet + 6, 0, 6);
		if (packet[13] == 'a') {
			memcpy(packet + len, "\xc0\x0c\0\1\0\1\0\0\0\x3c"
			    "\0\4\xc0\0\2\1", 16);
			packet[7] = 1;
			len += 16;
		}
		sendto(server, packet, (size_t)len, 0,
		    (struct sockaddr *)&from, from_len);
	}
}

static void
ask_all(void *argument)
{
	struct task *serving = task_start("server", serve, NULL);
	struct arena *arena = arena_new(0);
	const struct dns_answer *answer;

	(void)argument;
	answer = dns_query(arena, "a.test", DNS_A, task_deadline(5000));
	CU_ASSERT(answer->status == DNS_FOUND);
	CU_ASSERT(answer->count == 1 && answer->records[0].a.s_addr ==
	    htonl(0xc0000201));
	CU_ASSERT(!answer->secure);
	/* From the cache: the answer comes before the call returns. */
	answer = dns_query(arena, "A.test", DNS_A, task_deadline(5000));
	CU_ASSERT(answer->status == DNS_FOUND);
	CU_ASSERT(dns_query(arena, "n.test", DNS_A, task_deadline(5000))
	    ->status == DNS_NXDOMAIN);
	CU_ASSERT(dns_query(arena, "e.test", DNS_A, task_deadline(5000))
	    ->status == DNS_NODATA);
	answer = dns_query(arena, "s.test", DNS_A, task_deadline(50));
	CU_ASSERT(answer->status == DNS_FAILED);
	CU_ASSERT(answer->why != NULL && strcmp(answer->why, "time-out") == 0);
	CU_ASSERT(dns_query(arena, "n b\\c.test", DNS_A, task_deadline(5000))
	    ->status == DNS_NXDOMAIN);
	arena_free(&arena);
	task_cancel(serving);
	task_join(&serving, DEADLINE_NEVER);
	task_stop();
}

static void
asks_a_forwarder(void)
{
	struct sockaddr_in here = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(here);
	char forwarder[32];
	const char *forwarders[] = { forwarder, NULL };
	struct dns_settings settings = { .forwarders = forwarders,
		.timeout_ms = 5000 };
	const char *why = "";

	server = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	CU_ASSERT_FATAL(bind(server, (struct sockaddr *)&here, len) == 0);
	getsockname(server, (struct sockaddr *)&here, &len);
	snprintf(forwarder, sizeof(forwarder), "127.0.0.1@%d",
	    ntohs(here.sin_port));
	task_init();
	CU_ASSERT_FATAL(dns_init(&settings, &why) == 0);
	task_detach("questions", ask_all, NULL);
	task_loop();
	dns_shutdown();
	task_shutdown();
	close(server);
}

static void
ask_behind_another(void *argument)
{
	struct arena *arena = arena_new(0);
	const struct dns_answer *answer;

	(void)argument;
	answer = dns_query(arena, "localhost", DNS_A, DEADLINE_NEVER);
	CU_ASSERT_EQUAL(answer->status, DNS_FOUND);
	answer = dns_query(arena, "nowhere.test", DNS_A, DEADLINE_NEVER);
	CU_ASSERT_EQUAL(answer->status, DNS_FAILED);
	CU_ASSERT(answer->why != NULL && strcmp(answer->why, "SERVFAIL") == 0);
	arena_free(&arena);
	task_stop();
}

/* libunbound's buffer still holds the answer before; nothing can be sent. */
static void
takes_no_other_answer(void)
{
	const char *stubs[] = { "nowhere.test=255.255.255.255@53", NULL };
	const struct dns_settings settings = { .stubs = stubs };
	const char *why = NULL;

	task_init();
	CU_ASSERT_FATAL(dns_init(&settings, &why) == 0);
	task_detach("questions", ask_behind_another, NULL);
	task_loop();
	dns_shutdown();
	task_shutdown();
}

static void
refuses_bad_settings(void)
{
	const char *forwarders[] = { "not an address", NULL };
	const char *stubs[] = { "test.", NULL };
	struct dns_settings settings = { .forwarders = forwarders };
	const char *why = NULL;

	task_init();
	CU_ASSERT(dns_init(&settings, &why) == -1);
	CU_ASSERT(why != NULL);
	settings.forwarders = NULL;
	settings.stubs = stubs;
	CU_ASSERT(dns_init(&settings, &why) == -1);
	task_shutdown();
}

SUITE(dns, { "confirms names", confirms_names },
    { "bounds names", bounds_names },
    { "refuses impossible names", refuses_impossible_names },
    { "asks a forwarder", asks_a_forwarder },
    { "takes no other's answer", takes_no_other_answer },
    { "refuses bad settings", refuses_bad_settings })
