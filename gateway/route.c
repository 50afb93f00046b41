/* Routes: patterns of recipients to ways of delivery. */
#include "gateway/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/conf.h"
#include "base/log.h"
#include "filters/envelope.h"
#include "policy/smtp_reply.h"

#define ROUTE_OPTIONS(ROW, o)						\
	ROW(o, via, strings, "mx", NULL, NULL,				\
	    "Ways to the next hop, tried in order: lmtp:unix:/path, "	\
	    "lmtp:address:port, smtp:host:port, smtp:[address]:port, "	\
	    "mx or mx:port, maildir:/path, discard:, "			\
	    "error:5.1.1 text.")					\
	ROW(o, tls, choice, "may", "none|may|require|verify", NULL,	\
	    "TLS to the next hop; require and verify never send in clear.") \
	ROW(o, connections, number, "20", "1", "1000",			\
	    "Connections to one destination at a time, at most.")

struct route_options { ROUTE_OPTIONS(OPTION_FIELD, route_options) };

static const struct option_row route_rows[] = {
	ROUTE_OPTIONS(OPTION_ROW, route_options)
};

const struct section_kind route_section = {
	.name = "route",
	.titled = true,
	.doc = "Where mail for these recipients goes: an address, a domain, "
	    ".domain for all below it, or * for all.",
	.rows = route_rows,
	.row_count = OPTION_COUNT(route_rows),
	.size = sizeof(struct route_options),
};

struct routes {
	struct route *list;		/* sorted by pattern */
	size_t count;
	struct route fallback;		/* the domain's MX */
	struct route_hop mx;
};

static char *
copy(const char *bytes, size_t len)
{
	char *result = strndup(bytes, len);

	if (result == NULL)
		fatal("out of memory");
	return result;
}

static int
port_parse(const char *text, uint16_t *port, const char **why)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 ||
	    value == 0 || value > 65535) {
		*why = "bad port";
		return -1;
	}
	*port = (uint16_t)value;
	return 0;
}

/* "host:port", "[address]:port", "unix:/path"; the port may lack. */
static int
host_parse(const char *text, struct route_hop *hop, const char **why)
{
	char plain[ROUTE_HOST_MAX + 16];
	const char *colon = strrchr(text, ':');
	size_t len = strlen(text);
	struct in_addr v4;

	if (len >= sizeof(plain)) {
		*why = "too long";
		return -1;
	}
	if (strncmp(text, "unix:", 5) == 0)
		return net_endpoint_parse(text, &hop->endpoint, why);
	if (text[0] == '[' && text[len - 1] == ']')
		colon = NULL;
	if (colon != NULL) {
		len = (size_t)(colon - text);
		if (port_parse(colon + 1, &hop->port, why) == -1)
			return -1;
	}
	memcpy(plain, text, len);
	plain[len] = '\0';
	/* [192.0.2.1] is written too; the end point's syntax has no brackets. */
	if (plain[0] == '[' && strchr(plain + 1, ':') == NULL && len > 2) {
		memmove(plain, plain + 1, len - 2);
		plain[len - 2] = '\0';
	}
	if (plain[0] == '[' || inet_pton(AF_INET, plain, &v4) == 1) {
		snprintf(plain + strlen(plain), 8, ":%u", hop->port);
		return net_endpoint_parse(plain, &hop->endpoint, why);
	}
	if (!net_is_host_name(plain)) {
		*why = "neither an address nor a host name";
		return -1;
	}
	hop->host = copy(plain, strlen(plain));
	return 0;
}

/* "5.1.1 text" or "4.2.1 text" */
static int
error_parse(const char *text, struct route_hop *hop, const char **why)
{
	char enhanced[REPLY_ENHANCED_SIZE];
	size_t n = reply_enhanced_parse(text, strlen(text), enhanced);

	if (n == 0 || enhanced[0] == '2') {
		*why = "error: needs a status code such as 5.1.1 and a text";
		return -1;
	}
	hop->code = enhanced[0] == '5' ? 550 : 450;
	hop->enhanced = copy(enhanced, strlen(enhanced));
	text += n + strspn(text + n, " ");
	hop->text = *text != '\0' ? copy(text, strlen(text)) :
	    copy("delivery refused by the administrator", 37);
	return 0;
}

/* After the word and its colon. */
static int
argument_parse(const char *argument, struct route_hop *hop, const char **why)
{
	switch (hop->kind) {
	case ROUTE_SMTP:
	case ROUTE_LMTP:
		return host_parse(argument, hop, why);
	case ROUTE_MX:
		return *argument == '\0' ? 0 :
		    port_parse(argument, &hop->port, why);
	case ROUTE_MAILDIR:
		if (argument[0] != '/') {
			*why = "maildir: needs an absolute path";
			return -1;
		}
		hop->path = copy(argument, strlen(argument));
		return 0;
	case ROUTE_ERROR:
		return error_parse(argument, hop, why);
	case ROUTE_DISCARD:
		return 0;
	}
	return 0;
}

int
route_hop_parse(const char *via, struct route_hop *hop, const char **why)
{
	static const struct {
		const char *word;
		enum route_kind kind;
		uint16_t port;
	} words[] = {
		{ "smtp", ROUTE_SMTP, 25 },	{ "lmtp", ROUTE_LMTP, 24 },
		{ "mx", ROUTE_MX, 25 },		{ "discard", ROUTE_DISCARD, 0 },
		{ "maildir", ROUTE_MAILDIR, 0 }, { "error", ROUTE_ERROR, 0 },
	};
	size_t len = strcspn(via, ":");

	memset(hop, 0, sizeof(*hop));
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) != len ||
		    strncmp(via, words[i].word, len) != 0)
			continue;
		hop->kind = words[i].kind;
		hop->port = words[i].port;
		hop->via = copy(via, strlen(via));
		if (argument_parse(via + len + (via[len] == ':'), hop,
		    why) == 0)
			return 0;
		route_hop_release(hop);
		return -1;
	}
	*why = "unknown kind of next hop; known are lmtp:, smtp:, mx, "
	    "discard:, maildir: and error:";
	return -1;
}

void
route_hop_release(struct route_hop *hop)
{
	free((void *)(uintptr_t)hop->via);
	free((void *)(uintptr_t)hop->host);
	free((void *)(uintptr_t)hop->path);
	free((void *)(uintptr_t)hop->enhanced);
	free((void *)(uintptr_t)hop->text);
	memset(hop, 0, sizeof(*hop));
}

static void
route_release(struct route *route)
{
	struct route_hop *hops = (struct route_hop *)(uintptr_t)route->hops;

	for (size_t i = 0; i < route->hop_count; i++)
		route_hop_release(&hops[i]);
	free(hops);
	free((void *)(uintptr_t)route->pattern);
}

/* Only connections can fail over to the next entry. */
static bool
is_connection(const struct route_hop *hop)
{
	return hop->kind == ROUTE_SMTP || hop->kind == ROUTE_LMTP;
}

static int
route_parse(const struct conf_section *section, struct route *route,
    const char **why)
{
	const struct route_options *options = section->values;
	struct route_hop *hops;
	size_t count = 0;

	memset(route, 0, sizeof(*route));
	while (options->via[count] != NULL)
		count++;
	if (count == 0) {
		*why = "via is empty";
		return -1;
	}
	if ((hops = calloc(count, sizeof(*hops))) == NULL)
		fatal("out of memory");
	route->pattern = copy(section->title, strlen(section->title));
	route->hops = hops;
	route->tls = (enum client_tls)options->tls;
	route->connections = (uint32_t)options->connections;
	for (size_t i = 0; i < count; i++) {
		if (route_hop_parse(options->via[i], &hops[i], why) == -1)
			return -1;
		route->hop_count++;
		if (i > 0 && (!is_connection(&hops[i]) ||
		    hops[i].kind != hops[0].kind)) {
			*why = "several ways must all be smtp: or all lmtp:";
			return -1;
		}
	}
	return 0;
}

static int
route_compare(const void *a, const void *b)
{
	return strcasecmp(((const struct route *)a)->pattern,
	    ((const struct route *)b)->pattern);
}

struct routes *
routes_new(const struct conf *conf, const char **why)
{
	struct routes *routes = calloc(1, sizeof(*routes));
	const struct conf_section *sections;
	size_t count = 0;

	sections = conf != NULL ? conf_sections(conf, "route", &count) : NULL;
	if (routes == NULL ||
	    (routes->list = calloc(count + 1, sizeof(*routes->list))) == NULL)
		fatal("out of memory");
	for (size_t i = 0; i < count; i++) {
		routes->count++;
		if (route_parse(&sections[i], &routes->list[i], why) == -1) {
			routes_free(&routes);
			return NULL;
		}
	}
	qsort(routes->list, routes->count, sizeof(*routes->list),
	    route_compare);
	routes->mx.kind = ROUTE_MX;
	routes->mx.port = 25;
	routes->mx.via = "mx";
	routes->fallback.pattern = "*";
	routes->fallback.hops = &routes->mx;
	routes->fallback.hop_count = 1;
	routes->fallback.tls = CLIENT_TLS_MAY;
	routes->fallback.connections = 20;
	return routes;
}

void
routes_free(struct routes **routesp)
{
	struct routes *routes = *routesp;

	if (routes == NULL)
		return;
	*routesp = NULL;
	for (size_t i = 0; i < routes->count; i++)
		route_release(&routes->list[i]);
	free(routes->list);
	free(routes);
}

/* Names the entry of via that is wrong, if it is one of them. */
static void
check_section(const struct conf *conf, const struct conf_section *section,
    struct buf *errors)
{
	const struct route_options *options = section->values;
	struct route_hop hop;
	struct route route;
	const char *why;

	for (const char *const *via = options->via; *via != NULL; via++) {
		if (route_hop_parse(*via, &hop, &why) == -1) {
			conf_error(errors, conf, section, "via", "\"%s\": %s",
			    *via, why);
			return;
		}
		route_hop_release(&hop);
	}
	if (route_parse(section, &route, &why) == -1)
		conf_error(errors, conf, section, "via", "%s", why);
	route_release(&route);
}

void
routes_check(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, "route", &count);
	for (size_t i = 0; i < count; i++)
		check_section(conf, &sections[i], errors);
}

static const struct route *
find(const struct routes *routes, const char *pattern)
{
	struct route key = { .pattern = pattern };

	return bsearch(&key, routes->list, routes->count,
	    sizeof(*routes->list), route_compare);
}

const struct route *
routes_find(const struct routes *routes, const char *address)
{
	const char *domain = address_domain(address);
	const struct route *route;

	if ((route = find(routes, address)) != NULL)
		return route;
	if (domain != NULL && (route = find(routes, domain)) != NULL)
		return route;
	/* .parent: the longest first, and never the domain itself. */
	for (const char *p = domain; p != NULL; p = strchr(p + 1, '.')) {
		if (*p == '.' && (route = find(routes, p)) != NULL)
			return route;
	}
	if ((route = find(routes, "*")) != NULL)
		return route;
	return &routes->fallback;
}

bool
routes_use(const struct routes *routes, enum client_tls tls)
{
	for (size_t i = 0; i < routes->count; i++)
		if (routes->list[i].tls == tls)
			return true;
	return false;
}
