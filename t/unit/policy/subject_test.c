/* Clients, networks and digests. */
#include "policy/subject.h"

#include <string.h>

#include "t/unit/unit.h"

static void
networks(void)
{
	static const struct {
		const char *name, *client;
		int64_t v4, v6;
		const char *want;	/* NULL: no address */
	} cases[] = {
		{ "IPv4", "192.0.2.77", 24, 64, "192.0.2.0/24" },
		{ "a part of a byte", "192.0.2.77", 26, 64, "192.0.2.64/26" },
		{ "all of it", "192.0.2.77", 32, 64, "192.0.2.77/32" },
		{ "IPv4 in IPv6", "::ffff:192.0.2.77", 24, 64,
		    "192.0.2.0/24" },
		{ "the same in hexadecimal", "::FFFF:c000:24d", 24, 64,
		    "192.0.2.0/24" },
		{ "IPv6", "2001:db8:1:2:3::4", 24, 64,
		    "2001:db8:1:2::/64" },
		{ "the longest", "2001:1db8:1111:2222:3333:4444:5555:6666",
		    24, 128, "2001:1db8:1111:2222:3333:4444:5555:6666/128" },
		{ "none", "unknown", 24, 64, NULL },
		{ "half a one", "192.0.2", 24, 64, NULL },
		{ "nothing", NULL, 24, 64, NULL },
	};
	struct sockaddr_storage client;
	char text[SUBJECT_NETWORK_SIZE];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool known = subject_client(cases[i].client, &client);

		CASE_ASSERT(cases[i].name, known == (cases[i].want != NULL));
		if (!known)
			continue;
		subject_network(&client, cases[i].v4, cases[i].v6, text);
		CASE_ASSERT(cases[i].name, strcmp(text, cases[i].want) == 0);
	}
}

static void
digest(const char *first, const char *second, char hex[])
{
	subject_digest((const char *const[]){ first, second }, 2, hex);
}

static void
digests(void)
{
	char one[SUBJECT_DIGEST_HEX + 1], other[SUBJECT_DIGEST_HEX + 1];
	char chunks[600], capitals[600];

	subject_digest((const char *const[]){ "" }, 1, one);
	CU_ASSERT_STRING_EQUAL(one, "6e340b9cffb37a989ca544e6bb780a2c");
	digest("Joe@Example.ORG", "x", one);
	digest("joe@example.org", "X", other);
	CU_ASSERT_STRING_EQUAL(one, other);
	digest("ab", "c", one);
	digest("a", "bc", other);
	CU_ASSERT_STRING_NOT_EQUAL(one, other);

	memset(chunks, 'a', sizeof(chunks) - 1);
	memset(capitals, 'A', sizeof(capitals) - 1);
	chunks[sizeof(chunks) - 1] = capitals[sizeof(capitals) - 1] = '\0';
	digest(chunks, "x", one);
	digest(capitals, "x", other);
	CU_ASSERT_STRING_EQUAL(one, other);
	capitals[sizeof(capitals) - 2] = 'b';
	digest(capitals, "x", other);
	CU_ASSERT_STRING_NOT_EQUAL(one, other);
}

SUITE(subject,
    { "clients and networks", networks },
    { "digests", digests })
