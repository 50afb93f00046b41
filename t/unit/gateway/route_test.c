/* Routes: how they are written, which one a recipient takes. */
#include "gateway/route.h"

#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/dns.h"
#include "gateway/nexthop.h"
#include "t/unit/unit.h"

static const struct {
	const char *name, *via;
	bool valid;
	enum route_kind kind;
	const char *endpoint, *host;
	uint16_t port;
} hops[] = {
	{ "LMTP by UNIX socket", "lmtp:unix:/run/lmtp", true, ROUTE_LMTP,
	    "unix:/run/lmtp", NULL, 24 },
	{ "LMTP by address", "lmtp:127.0.0.1:2424", true, ROUTE_LMTP,
	    "127.0.0.1:2424", NULL, 2424 },
	{ "SMTP, default port", "smtp:127.0.0.1", true, ROUTE_SMTP,
	    "127.0.0.1:25", NULL, 25 },
	{ "SMTP, brackets", "smtp:[192.0.2.1]:587", true, ROUTE_SMTP,
	    "192.0.2.1:587", NULL, 587 },
	{ "SMTP, brackets alone", "smtp:[192.0.2.1]", true, ROUTE_SMTP,
	    "192.0.2.1:25", NULL, 25 },
	{ "SMTP, IPv6", "smtp:[2001:db8::1]:26", true, ROUTE_SMTP,
	    "[2001:db8::1]:26", NULL, 26 },
	{ "SMTP, IPv6, default port", "smtp:[::1]", true, ROUTE_SMTP,
	    "[::1]:25", NULL, 25 },
	{ "SMTP by name", "smtp:relay.example.net:587", true, ROUTE_SMTP,
	    NULL, "relay.example.net", 587 },
	{ "MX", "mx", true, ROUTE_MX, NULL, NULL, 25 },
	{ "MX, port", "mx:2525", true, ROUTE_MX, NULL, NULL, 2525 },
	{ "discard", "discard:", true, ROUTE_DISCARD, NULL, NULL, 0 },
	{ "maildir", "maildir:/var/mail/x", true, ROUTE_MAILDIR, NULL, NULL,
	    0 },
	{ "error", "error:5.1.1 nobody here", true, ROUTE_ERROR, NULL, NULL,
	    0 },
	{ "bad port", "smtp:127.0.0.1:0", false, 0, NULL, NULL, 0 },
	{ "large port", "smtp:127.0.0.1:65536", false, 0, NULL, NULL, 0 },
	{ "no host", "smtp:", false, 0, NULL, NULL, 0 },
	{ "bad host", "smtp:a_b c:25", false, 0, NULL, NULL, 0 },
	{ "bad kind", "uucp:x", false, 0, NULL, NULL, 0 },
	{ "relative maildir", "maildir:x", false, 0, NULL, NULL, 0 },
	{ "error without code", "error:no", false, 0, NULL, NULL, 0 },
	{ "error that is none", "error:2.0.0 fine", false, 0, NULL, NULL, 0 },
};

static void
parses(void)
{
	for (size_t i = 0; i < sizeof(hops) / sizeof(hops[0]); i++) {
		struct route_hop hop;
		char text[NET_TEXT_SIZE];
		const char *why = NULL;
		int rc = route_hop_parse(hops[i].via, &hop, &why);

		CASE_ASSERT(hops[i].name, (rc == 0) == hops[i].valid);
		CASE_ASSERT(hops[i].name, rc == 0 || why != NULL);
		if (rc == -1)
			continue;
		CASE_ASSERT(hops[i].name, hop.kind == hops[i].kind);
		CASE_ASSERT(hops[i].name, hop.port == hops[i].port);
		CASE_ASSERT(hops[i].name,
		    (hop.host == NULL) == (hops[i].host == NULL) &&
		    (hop.host == NULL || strcmp(hop.host, hops[i].host) == 0));
		CASE_ASSERT(hops[i].name, (hop.endpoint.len > 0) ==
		    (hops[i].endpoint != NULL));
		if (hops[i].endpoint != NULL && hop.endpoint.len > 0)
			CASE_ASSERT(hops[i].name, strcmp(net_endpoint_print(
			    (struct sockaddr *)&hop.endpoint.address, text),
			    hops[i].endpoint) == 0);
		route_hop_release(&hop);
	}
}

static const struct section_kind top = { .name = "", .size = 1 };
static const struct section_kind *const kinds[] = { &top, &route_section };

static const char text[] =
    "route \"*\" { via = { \"smtp:127.0.0.1:1\" } }\n"
    "route \"example.org\" { via = { \"smtp:127.0.0.1:2\" } }\n"
    "route \".example.org\" { via = { \"smtp:127.0.0.1:3\" } }\n"
    "route \".b.example.org\" { via = { \"smtp:127.0.0.1:4\" } }\n"
    "route \"user@example.org\" { via = { \"smtp:127.0.0.1:5\" } }\n";

static const struct {
	const char *address, *pattern;
} finds[] = {
	{ "user@example.org", "user@example.org" },
	{ "USER@Example.ORG", "user@example.org" },
	{ "other@example.org", "example.org" },
	{ "a@EXAMPLE.org", "example.org" },
	{ "a@x.example.org", ".example.org" },
	{ "a@y.x.example.org", ".example.org" },
	{ "a@b.example.org", ".example.org" },
	{ "a@x.b.example.org", ".b.example.org" },
	{ "a@notexample.org", "*" },
	{ "a@example.org.net", "*" },
	{ "postmaster", "*" },
	{ "\"a@example.org\"@z.test", "*" },
};

static void
chooses(void)
{
	struct buf errors = BUF_INIT;
	struct conf *conf = conf_load(NULL, text, kinds, 2, &errors);
	struct routes *routes;
	const char *why = NULL;

	CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
	routes = routes_new(conf, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(routes);
	for (size_t i = 0; i < sizeof(finds) / sizeof(finds[0]); i++)
		CASE_ASSERT(finds[i].address, strcmp(routes_find(routes,
		    finds[i].address)->pattern, finds[i].pattern) == 0);
	CU_ASSERT(routes_find(routes, "a@b")->connections == 20);
	CU_ASSERT(routes_find(routes, "a@b")->tls == CLIENT_TLS_MAY);
	routes_free(&routes);
	conf_free(&conf);
	buf_release(&errors);
}

static void
without_routes(void)
{
	struct buf one = BUF_INIT, other = BUF_INIT;
	const struct route *route;
	struct routes *routes;
	const char *why;

	routes = routes_new(NULL, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(routes);
	route = routes_find(routes, "a@example.org");
	CU_ASSERT(route->hops[0].kind == ROUTE_MX);
	/* With MX the domain makes the destination, its case does not. */
	nexthop_key(route, "a@Example.ORG", &one);
	nexthop_key(route, "b@example.org", &other);
	CU_ASSERT_STRING_EQUAL(one.data, other.data);
	buf_reset(&other);
	nexthop_key(route, "b@example.net", &other);
	CU_ASSERT_STRING_NOT_EQUAL(one.data, other.data);
	routes_free(&routes);
	buf_release(&one);
	buf_release(&other);
}

static void
refuses(void)
{
	static const char *const texts[] = {
		"route \"*\" { via = { \"nowhere:\" } }",
		"route \"*\" { via = { \"mx\", \"smtp:127.0.0.1\" } }",
		"route \"*\" { via = { \"smtp:127.0.0.1\", \"discard:\" } }",
		("route \"*\" { via = { \"smtp:127.0.0.1\", "
		    "\"lmtp:127.0.0.1\" } }"),
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct buf errors = BUF_INIT;
		struct conf *conf = conf_load(NULL, texts[i], kinds, 2,
		    &errors);
		const char *why = NULL;

		CU_ASSERT_PTR_NOT_NULL_FATAL(conf);
		CASE_ASSERT(texts[i], routes_new(conf, &why) == NULL);
		CASE_ASSERT(texts[i], why != NULL);
		routes_check(conf, &errors);
		CASE_ASSERT(texts[i], errors.len > 0);
		conf_free(&conf);
		buf_release(&errors);
	}
}

static const struct {
	const char *name;
	struct dns_record records[4];
	size_t count;
	int want;
	const char *first;
} mxs[] = {
	{ "one", { { .preference = 10, .name = "a.test" } }, 1, 1, "a.test" },
	{ "by preference", { { .preference = 20, .name = "b.test" },
	    { .preference = 10, .name = "a.test" } }, 2, 2, "a.test" },
	{ "null MX", { { .preference = 0, .name = "" } }, 1, -1, NULL },
	{ "null MX among others is no host", { { .preference = 0,
	    .name = "" }, { .preference = 5, .name = "a.test" } }, 2, 1,
	    "a.test" },
	{ "we are the best", { { .preference = 5, .name = "me.test" },
	    { .preference = 10, .name = "a.test" } }, 2, 0, NULL },
	{ "we are a backup", { { .preference = 10, .name = "ME.test" },
	    { .preference = 5, .name = "a.test" },
	    { .preference = 20, .name = "b.test" } }, 3, 1, "a.test" },
	{ "our equals are no better", { { .preference = 10,
	    .name = "me.test" }, { .preference = 10, .name = "a.test" } }, 2,
	    0, NULL },
};

static void
sorts_mx(void)
{
	for (size_t i = 0; i < sizeof(mxs) / sizeof(mxs[0]); i++) {
		struct dns_answer answer = { .status = DNS_FOUND,
		    .count = mxs[i].count, .records = mxs[i].records };
		struct nexthop_host hosts[4];
		int n = nexthop_mx_sort(&answer, "me.test", hosts, 4);

		CASE_ASSERT(mxs[i].name, n == mxs[i].want);
		if (n > 0)
			CASE_ASSERT(mxs[i].name,
			    strcmp(hosts[0].name, mxs[i].first) == 0);
	}
}

SUITE(route, { "parses", parses }, { "chooses", chooses },
    { "without routes", without_routes }, { "refuses", refuses },
    { "sorts MX", sorts_mx })
