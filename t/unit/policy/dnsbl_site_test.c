/* Sites of DNS lists, what of their answers counts, and names in them. */
#include "policy/dnsbl_site.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "t/unit/unit.h"

static const struct {
	const char *name, *text, *zone;
	int weight;
	const char *counts[4], *others[4];
} good[] = {
	{ "a name alone", "zen.example", "zen.example", 1,
	    { "127.0.0.2", "127.1.2.3", "127.0.1.255" },
	    { "127.0.0.1", "127.255.255.254", "192.0.2.1" } },
	{ "capitals and a last dot", "ZEN.Example.", "zen.example", 1,
	    { "127.0.0.2" }, { NULL } },
	{ "a weight", "a.test*3", "a.test", 3, { "127.0.0.9" }, { NULL } },
	{ "a negative one", "a.test*-2", "a.test", -2, { "127.0.0.9" },
	    { NULL } },
	{ "one answer", "a.test=127.0.0.2*4", "a.test", 4, { "127.0.0.2" },
	    { "127.0.0.3", "127.0.1.2" } },
	{ "a range", "a.test=127.0.0.[2..11]*3", "a.test", 3,
	    { "127.0.0.2", "127.0.0.11" }, { "127.0.0.12", "127.0.0.1" } },
	{ "several", "a.test=127.0.0.[4;7..9;200]", "a.test", 1,
	    { "127.0.0.4", "127.0.0.8", "127.0.0.200" },
	    { "127.0.0.5", "127.0.0.10", "127.0.0.255" } },
	{ "in several places", "a.test=127.0.[0..255].[1;3]*-1", "a.test", -1,
	    { "127.0.5.3", "127.0.255.1" },
	    { "127.0.0.1", "127.0.5.2", "127.1.5.3" } },
	{ "error answers never count", "a.test=127.[0..255].[0..255].[0..255]",
	    "a.test", 1, { "127.255.0.1" },
	    { "127.255.255.1", "127.255.255.255", "127.0.0.1" } },
};

static const struct { const char *name, *text; } bad[] = {
	{ "nothing", "" }, { "no name", "=127.0.0.2" },
	{ "an empty label", "a..test" }, { "a blank", "a.test *3" },
	{ "an empty filter", "a.test=" },
	{ "three numbers", "a.test=127.0.0" },
	{ "five numbers", "a.test=127.0.0.2.3" },
	{ "a number too large", "a.test=127.0.0.256" },
	{ "outside of 127", "a.test=192.0.2.1" },
	{ "a range without an end", "a.test=127.0.0.[2..]" },
	{ "a range backwards", "a.test=127.0.0.[9..2]" },
	{ "an open bracket", "a.test=127.0.0.[2..11" },
	{ "an empty bracket", "a.test=127.0.0.[]" },
	{ "a separator at the end", "a.test=127.0.0.[2;]" },
	{ "a range without brackets", "a.test=127.0.0.2..11" },
	{ "no weight", "a.test*" }, { "a weight of 0", "a.test*0" },
	{ "two signs", "a.test*--2" },
	{ "a huge weight", "a.test*99999999999999999999" },
	{ "a weight of letters", "a.test*x" },
	{ "something behind it", "a.test*3;" },
	{ "no name of a host", "a_/b.test" },
};

static struct in_addr
address(const char *text)
{
	struct in_addr in;

	CU_ASSERT_EQUAL_FATAL(inet_pton(AF_INET, text, &in), 1);
	return in;
}

static void
parses(void)
{
	struct dnsbl_site site;
	const char *why = "";

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		CASE_ASSERT(good[i].name, dnsbl_site_parse(good[i].text,
		    &site, &why) == 0);
		CASE_ASSERT(good[i].name,
		    strcmp(site.zone, good[i].zone) == 0);
		CASE_ASSERT(good[i].name, site.weight == good[i].weight);
		for (int j = 0; j < 4; j++) {
			if (good[i].counts[j] != NULL)
				CASE_ASSERT(good[i].name, dnsbl_site_counts(
				    &site, address(good[i].counts[j])));
			if (good[i].others[j] != NULL)
				CASE_ASSERT(good[i].name, !dnsbl_site_counts(
				    &site, address(good[i].others[j])));
		}
	}
}

static void
refuses(void)
{
	char text[300] = "";
	struct dnsbl_site site;
	const char *why;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		why = NULL;
		CASE_ASSERT(bad[i].name, dnsbl_site_parse(bad[i].text, &site,
		    &why) == -1 && why != NULL);
	}
	while (strlen(text) < 200)
		strcat(text, "abcdefgh.");
	strcat(text, "test");
	CU_ASSERT_EQUAL(dnsbl_site_parse(text, &site, &why), -1);
}

static void
names(void)
{
	static const struct { const char *name, *address, *want; } cases[] = {
		{ "IPv4", "192.0.2.99", "99.2.0.192.a.test" },
		{ "IPv6", "2001:db8::1", "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."
		    "0.0.0.0.0.0.8.b.d.0.1.0.0.2.a.test" },
		{ "IPv4 in IPv6", "::ffff:192.0.2.99", "99.2.0.192.a.test" },
	};
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
		struct sockaddr_in four = { .sin_family = AF_INET };
		bool is_six = inet_pton(AF_INET6, cases[i].address,
		    &six.sin6_addr) == 1;

		if (!is_six)
			four.sin_addr = address(cases[i].address);
		CASE_ASSERT(cases[i].name, strcmp(dnsbl_address_name(arena,
		    is_six ? (struct sockaddr *)&six :
		    (struct sockaddr *)&four, "a.test"),
		    cases[i].want) == 0);
	}
	CU_ASSERT_PTR_NULL(dnsbl_address_name(arena, &(struct sockaddr){
	    .sa_family = AF_UNIX }, "a.test"));
	arena_free(&arena);
}

SUITE(dnsbl_site, { "what is written", parses },
    { "what is wrong", refuses }, { "names of addresses", names })
