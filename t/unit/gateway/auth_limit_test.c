/* Failures are counted by address, for an hour, in a table that never grows. */
#include "gateway/auth_limit.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/net.h"
#include "t/unit/unit.h"

#define MINUTE (60 * 1000)

static struct sockaddr_storage
address(const char *text)
{
	struct sockaddr_storage client = { 0 };
	struct sockaddr_in *four = (struct sockaddr_in *)&client;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)&client;

	if (inet_pton(AF_INET, text, &four->sin_addr) == 1)
		client.ss_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &six->sin6_addr) == 1)
		client.ss_family = AF_INET6;
	else
		client.ss_family = AF_UNIX;
	return client;
}

static void
counts(void)
{
	static const struct step {
		const char *name, *client;
		int64_t minute;
		char what;		/* '+' fails, '-' passes, '?' neither */
		uint32_t want;
	} steps[] = {
		{ "first", "192.0.2.1", 0, '+', 1 },
		{ "second", "192.0.2.1", 59, '+', 2 },
		{ "a neighbour", "192.0.2.2", 59, '?', 0 },
		{ "not yet forgotten", "192.0.2.1", 118, '?', 2 },
		{ "forgotten", "192.0.2.1", 119, '?', 0 },
		{ "begins anew", "192.0.2.1", 119, '+', 1 },
		{ "it knows a password", "192.0.2.1", 119, '-', 0 },
		{ "never seen, passes", "192.0.2.3", 119, '-', 0 },
		{ "IPv6", "2001:db8::1", 119, '+', 1 },
		{ "IPv6, the same /64", "2001:db8::f:2", 119, '+', 2 },
		{ "IPv6, another", "2001:db8:0:1::1", 119, '?', 0 },
		{ "IPv6, not 32.1.13.184", "32.1.13.184", 119, '?', 0 },
		{ "no address", "local", 119, '+', 0 },
	};
	struct auth_limit *limit = auth_limit_new();

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		const struct step *step = &steps[i];
		struct sockaddr_storage client = address(step->client);
		int64_t now = step->minute * MINUTE;

		if (step->what == '-')
			auth_limit_forget(limit, &client);
		if (step->what == '+')
			CASE_ASSERT(step->name, auth_limit_add(limit, &client,
			    now) == step->want);
		CASE_ASSERT(step->name, auth_limit_failures(limit, &client,
		    now) == step->want);
	}
	auth_limit_free(&limit);
}

/* Many addresses push out those before them, and of them the oldest. */
static void
flood(void)
{
	struct auth_limit *limit = auth_limit_new();
	struct sockaddr_storage client = { .ss_family = AF_INET };
	struct sockaddr_in *four = (struct sockaddr_in *)&client;
	size_t early = 0, late = 0;

	for (uint32_t i = 0; i < 20000; i++) {
		four->sin_addr.s_addr = htonl(0x0a000000 + i);
		CU_ASSERT(auth_limit_add(limit, &client, 1 + i) == 1);
	}
	for (uint32_t i = 0; i < 20000; i++) {
		four->sin_addr.s_addr = htonl(0x0a000000 + i);
		if (auth_limit_failures(limit, &client, 20001) > 0)
			*(i < 10000 ? &early : &late) += 1;
	}
	CU_ASSERT(early + late <= 4096);
	CU_ASSERT(late > 3000 && early < late / 4);
	auth_limit_free(&limit);
}

SUITE(auth_limit,
	{ "counts", counts },
	{ "a flood", flood })
