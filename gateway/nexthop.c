/* The next hop: from a route to a connection. */
#include "gateway/nexthop.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <idn2.h>

#include "base/answer.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/dns.h"
#include "base/task.h"
#include "base/tls.h"
#include "filters/envelope.h"
#include "gateway/maildir.h"

#define HOSTS_MAX 10
#define ADDRESSES_MAX 8			/* of one host */

int
nexthop_tls(struct nexthop_settings *nexthop, const struct routes *routes,
    const char **why)
{
	static const struct tls_settings settings = {
		.min_version = "TLSv1.2", .session_scope = "relay",
	};

	nexthop->tls_any = tls_client_new(&settings, TLS_VERIFY_NONE, NULL, 0,
	    why);
	if (nexthop->tls_any == NULL)
		return -1;
	if (!routes_use(routes, CLIENT_TLS_VERIFY))
		return 0;
	nexthop->tls_verify = tls_client_new(&settings, TLS_VERIFY_NAME, NULL,
	    0, why);
	return nexthop->tls_verify != NULL ? 0 : -1;
}

/* One search for a connection. */
struct search {
	const struct nexthop_settings *settings;
	const struct route *route;
	bool lmtp, is_mx;
	int64_t deadline;
	struct arena *arena;
	struct delivery *failure;
	bool tried, temporary;		/* a host; one failed for now */
};

static void
search_failed(struct search *search, enum delivery_status status,
    const char *enhanced, const char *text)
{
	delivery_set(search->failure, search->arena, status, enhanced, text);
}

static void
endpoint_v4(struct net_endpoint *endpoint, struct in_addr address,
    uint16_t port)
{
	struct sockaddr_in *in = (struct sockaddr_in *)
	    (void *)&endpoint->address;

	memset(endpoint, 0, sizeof(*endpoint));
	in->sin_family = AF_INET;
	in->sin_addr = address;
	in->sin_port = htons(port);
	endpoint->len = sizeof(*in);
}

static void
endpoint_v6(struct net_endpoint *endpoint, const struct in6_addr *address,
    uint16_t port)
{
	struct sockaddr_in6 *in = (struct sockaddr_in6 *)
	    (void *)&endpoint->address;

	memset(endpoint, 0, sizeof(*endpoint));
	in->sin6_family = AF_INET6;
	in->sin6_addr = *address;
	in->sin6_port = htons(port);
	endpoint->len = sizeof(*in);
}

static struct client *
open_once(struct search *search, const struct net_endpoint *endpoint,
    const char *name, enum client_tls tls, struct delivery *failure)
{
	const struct nexthop_settings *settings = search->settings;
	int64_t left = search->deadline - task_now();
	struct client_settings client = {
		.lmtp = search->lmtp, .hostname = settings->hostname,
		.peer_name = name, .tls = tls,
		.tls_context = tls == CLIENT_TLS_VERIFY ?
		    settings->tls_verify : settings->tls_any,
		.connect_timeout_ms = settings->connect_timeout_ms,
		.greeting_timeout_ms = settings->greeting_timeout_ms,
		.command_timeout_ms = settings->command_timeout_ms,
		.data_timeout_ms = settings->data_timeout_ms,
		.total_timeout_ms = settings->total_timeout_ms,
		.refuse_self = search->is_mx,
	};

	if (search->deadline != DEADLINE_NEVER &&
	    (client.total_timeout_ms == 0 || client.total_timeout_ms > left))
		client.total_timeout_ms = left > 0 ? left : 1;
	return client_open(endpoint, &client, search->arena, failure);
}

/*
 * Tries one address.  Where TLS is only welcome and its handshake failed, a
 * second connection is made in clear; but not when somebody spoke between.
 */
static struct client *
try_address(struct search *search, const struct net_endpoint *endpoint,
    const char *name)
{
	struct delivery failure = { 0 };
	struct client *client;

	client = open_once(search, endpoint, name, search->route->tls,
	    &failure);
	if (client == NULL && failure.tls_failed &&
	    search->route->tls == CLIENT_TLS_MAY)
		client = open_once(search, endpoint, name, CLIENT_TLS_NONE,
		    &failure);
	if (client != NULL)
		return client;
	/* One host that may come back outweighs others that say never. */
	if (!search->tried || failure.status == DELIVERY_TEMPORARY ||
	    !search->temporary)
		*search->failure = failure;
	search->tried = true;
	search->temporary |= failure.status == DELIVERY_TEMPORARY;
	return NULL;
}

static struct client *
try_answer(struct search *search, const struct dns_answer *answer,
    enum dns_type type, const char *name, uint16_t port)
{
	struct net_endpoint endpoint;
	struct client *client;

	for (size_t i = 0; i < answer->count && i < ADDRESSES_MAX; i++) {
		if (type == DNS_A)
			endpoint_v4(&endpoint, answer->records[i].a, port);
		else
			endpoint_v6(&endpoint, &answer->records[i].aaaa, port);
		if ((client = try_address(search, &endpoint, name)) != NULL)
			return client;
		if (task_now() >= search->deadline)
			return NULL;
	}
	return NULL;
}

/* A host by name: its A, then its AAAA records.  *known: it has some. */
static struct client *
try_host(struct search *search, const char *name, uint16_t port,
    enum answer *known)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA };
	struct client *client;

	*known = ANSWER_NO;
	for (size_t i = 0; i < 2; i++) {
		const struct dns_answer *answer = dns_query(search->arena,
		    name, types[i], search->deadline);

		if (answer->status == DNS_FAILED && *known == ANSWER_NO)
			*known = ANSWER_UNKNOWN;
		if (answer->status != DNS_FOUND)
			continue;
		*known = ANSWER_YES;
		client = try_answer(search, answer, types[i], name, port);
		if (client != NULL)
			return client;
	}
	return NULL;
}

static int
host_compare(const void *a, const void *b)
{
	const struct nexthop_host *left = a, *right = b;

	return left->preference < right->preference ? -1 :
	    left->preference > right->preference;
}

int
nexthop_mx_sort(const struct dns_answer *answer, const char *hostname,
    struct nexthop_host *hosts, size_t max)
{
	size_t count = 0, better;

	if (answer->count == 1 && answer->records[0].name[0] == '\0')
		return -1;
	for (size_t i = 0; i < answer->count && count < max; i++) {
		if (answer->records[i].name[0] == '\0')
			continue;
		/* Shuffled here; sorting below need not be stable for it. */
		size_t at = (size_t)random() % (count + 1);
		hosts[count] = hosts[at];
		hosts[at].name = answer->records[i].name;
		hosts[at].preference = answer->records[i].preference;
		count++;
	}
	qsort(hosts, count, sizeof(*hosts), host_compare);
	for (size_t i = 0; i < count; i++) {
		if (strcasecmp(hosts[i].name, hostname) != 0)
			continue;
		for (better = 0; better < count &&
		    hosts[better].preference < hosts[i].preference; better++)
			;
		return (int)better;
	}
	return (int)count;
}

static struct client *
try_mx_hosts(struct search *search, const struct nexthop_host *hosts,
    int count, uint16_t port, const char *domain)
{
	bool unknown = false, exists = false;
	struct client *client;
	enum answer known;

	for (int i = 0; i < count && i < HOSTS_MAX; i++) {
		client = try_host(search, hosts[i].name, port, &known);
		if (client != NULL)
			return client;
		unknown |= known == ANSWER_UNKNOWN;
		exists |= known == ANSWER_YES;
		if (task_now() >= search->deadline)
			unknown = true;
	}
	/* The only host refused for good, but DNS hid another: try again. */
	if (unknown && !search->temporary)
		search_failed(search, DELIVERY_TEMPORARY, "4.4.3",
		    arena_printf(search->arena, "Host name look-up failed for "
		    "the MX hosts of %s", domain));
	else if (!unknown && !exists)
		search_failed(search, DELIVERY_PERMANENT, "5.4.4",
		    arena_printf(search->arena, "Host or domain name not "
		    "found: no MX host of %s has an address", domain));
	return NULL;
}

/* [192.0.2.1] or [IPv6:2001:db8::1] (RFC 5321, 4.1.3). */
static struct client *
try_literal(struct search *search, const char *domain, uint16_t port)
{
	struct net_endpoint endpoint;
	char text[INET6_ADDRSTRLEN];
	struct in_addr v4;
	struct in6_addr v6;
	size_t len = strlen(domain);

	if (len >= 2 && len - 2 < sizeof(text) + 5 &&
	    domain[len - 1] == ']') {
		const char *start = domain + 1;
		size_t n = len - 2;
		bool six = n > 5 && strncasecmp(start, "IPv6:", 5) == 0;

		if (six) {
			start += 5;
			n -= 5;
		}
		if (n < sizeof(text)) {
			memcpy(text, start, n);
			text[n] = '\0';
			if (six && inet_pton(AF_INET6, text, &v6) == 1) {
				endpoint_v6(&endpoint, &v6, port);
				return try_address(search, &endpoint, NULL);
			}
			if (!six && inet_pton(AF_INET, text, &v4) == 1) {
				endpoint_v4(&endpoint, v4, port);
				return try_address(search, &endpoint, NULL);
			}
		}
	}
	search_failed(search, DELIVERY_PERMANENT, "5.1.2",
	    "Bad address literal");
	return NULL;
}

/* The A-label form (RFC 5891) of a domain, in the arena; NULL: not one. */
static const char *
domain_ascii(struct arena *arena, const char *domain)
{
	const char *ascii;
	char *out;

	for (const char *p = domain; ; p++) {
		if (*p == '\0')
			return domain;
		if ((unsigned char)*p >= 0x80)
			break;
	}
	if (idn2_to_ascii_8z(domain, &out, IDN2_NONTRANSITIONAL) != IDN2_OK)
		return NULL;
	ascii = arena_strdup(arena, out);
	idn2_free(out);
	return ascii;
}

static struct client *
try_mx(struct search *search, const char *domain, uint16_t port)
{
	struct nexthop_host hosts[HOSTS_MAX * 4];
	const struct dns_answer *answer;
	const char *ascii;
	int count;

	search->is_mx = true;
	if (domain != NULL && domain[0] == '[')
		return try_literal(search, domain, port);
	ascii = domain != NULL ? domain_ascii(search->arena, domain) : NULL;
	if (ascii == NULL || !net_is_host_name(ascii)) {
		search_failed(search, DELIVERY_PERMANENT, "5.1.2",
		    "Bad destination domain");
		return NULL;
	}
	answer = dns_query(search->arena, ascii, DNS_MX, search->deadline);
	switch (answer->status) {
	case DNS_FAILED:
		search_failed(search, DELIVERY_TEMPORARY, "4.4.3",
		    arena_printf(search->arena, "Host or domain name look-up "
		    "failed: MX of %s: %s", ascii,
		    answer->why != NULL ? answer->why : "no answer"));
		return NULL;
	case DNS_NXDOMAIN:
		search_failed(search, DELIVERY_PERMANENT, "5.1.2",
		    arena_printf(search->arena, "Host or domain name not "
		    "found: %s", ascii));
		return NULL;
	case DNS_NODATA:
		/* RFC 5321, 5.1: the name itself is an implicit MX. */
		hosts[0].name = ascii;
		hosts[0].preference = 0;
		return try_mx_hosts(search, hosts, 1, port, ascii);
	case DNS_FOUND:
		break;
	}
	count = nexthop_mx_sort(answer, search->settings->hostname, hosts,
	    sizeof(hosts) / sizeof(hosts[0]));
	if (count == -1)
		search_failed(search, DELIVERY_PERMANENT, "5.1.10",
		    arena_printf(search->arena, "Domain %s does not accept "
		    "mail (null MX)", ascii));
	else if (count == 0)
		search_failed(search, DELIVERY_PERMANENT, "5.4.6",
		    arena_printf(search->arena, "mail for %s loops back to "
		    "myself", ascii));
	else
		return try_mx_hosts(search, hosts, count, port, ascii);
	return NULL;
}

/* A configured host.  That it cannot be found is our fault: never a bounce. */
static struct client *
try_named(struct search *search, const struct route_hop *hop)
{
	struct client *client;
	enum answer known;

	client = try_host(search, hop->host, hop->port, &known);
	if (client != NULL || known == ANSWER_YES)
		return client;
	if (!search->temporary)
		search_failed(search, DELIVERY_TEMPORARY, "4.4.3",
		    arena_printf(search->arena, "Host name look-up failed: "
		    "%s", hop->host));
	search->tried = search->temporary = true;
	return NULL;
}

struct client *
nexthop_connect(const struct nexthop_settings *settings,
    const struct route *route, const char *domain, int64_t deadline,
    struct arena *arena, struct delivery *failure)
{
	struct search search = {
		.settings = settings, .route = route, .deadline = deadline,
		.arena = arena, .failure = failure,
	};
	struct client *client = NULL;

	delivery_set(failure, arena, DELIVERY_TEMPORARY, "4.4.1",
	    "no connection within the time allowed");
	for (size_t i = 0; i < route->hop_count && client == NULL; i++) {
		const struct route_hop *hop = &route->hops[i];

		search.lmtp = hop->kind == ROUTE_LMTP;
		if (hop->kind == ROUTE_MX)
			client = try_mx(&search, domain, hop->port);
		else if (hop->endpoint.len > 0)
			client = try_address(&search, &hop->endpoint, NULL);
		else
			client = try_named(&search, hop);
		if (task_now() >= deadline)
			break;
	}
	return client;
}

bool
nexthop_is_local(const struct route *route)
{
	enum route_kind kind = route->hops[0].kind;

	return kind == ROUTE_DISCARD || kind == ROUTE_MAILDIR ||
	    kind == ROUTE_ERROR;
}

void
nexthop_local(const struct route *route, const struct envelope *envelope,
    const struct slice *content, size_t content_count,
    struct delivery *results, size_t count, struct arena *arena,
    const char **relay)
{
	const struct route_hop *hop = &route->hops[0];
	enum delivery_status status = DELIVERY_OK;
	const char *enhanced = "2.0.0", *text = "discarded", *why;

	*relay = "none";
	if (hop->kind == ROUTE_ERROR) {
		status = hop->code >= 500 ? DELIVERY_PERMANENT :
		    DELIVERY_TEMPORARY;
		enhanced = hop->enhanced;
		text = hop->text;
	} else if (hop->kind == ROUTE_MAILDIR) {
		*relay = "maildir";
		text = "delivered to maildir";
		if (maildir_deliver(hop->path, envelope, results, count,
		    content, content_count, &why) == -1) {
			status = DELIVERY_TEMPORARY;
			enhanced = "4.2.0";
			text = arena_printf(arena, "maildir %s: %s", hop->path,
			    why);
		}
	}
	for (size_t i = 0; i < count; i++) {
		results[i].dsn_relayed = false;
		delivery_set(&results[i], arena, status, enhanced, text);
	}
}

void
nexthop_key(const struct route *route, const char *address, struct buf *key)
{
	const char *domain;

	for (size_t i = 0; i < route->hop_count; i++)
		buf_printf(key, "%s ", route->hops[i].via);
	buf_printf(key, "%d", (int)route->tls);
	if (route->hops[0].kind != ROUTE_MX)
		return;
	buf_putc(key, ' ');
	for (domain = address_domain(address); domain != NULL &&
	    *domain != '\0'; domain++)
		buf_putc(key, *domain >= 'A' && *domain <= 'Z' ?
		    *domain + ('a' - 'A') : *domain);
}
