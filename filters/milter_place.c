/* Where a milter listens, and how to get there. */
#include "filters/milter_place.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/io.h"
#include "base/log.h"

#define TEXT_SIZE	512
#define ADDRESSES_MAX	8		/* of a name, that are tried */

/* Sendmail's spelling, inet:port@host, as host:port. */
static int
rewrite(const char *text, char *to, size_t size, const char **why)
{
	const char *at, *host;
	int n;

	if (strncmp(text, "local:", 6) == 0) {
		n = snprintf(to, size, "unix:%s", text + 6);
	} else if (strncmp(text, "inet:", 5) == 0 ||
	    strncmp(text, "inet6:", 6) == 0) {
		text = strchr(text, ':') + 1;
		if ((at = strchr(text, '@')) == NULL) {
			*why = "inet:port@host is expected";
			return -1;
		}
		host = at + 1;
		n = snprintf(to, size, strchr(host, ':') != NULL &&
		    host[0] != '[' ? "[%s]:%.*s" : "%s:%.*s", host,
		    (int)(at - text), text);
	} else {
		n = snprintf(to, size, "%s", text);
	}
	if (n >= 0 && (size_t)n < size)
		return 0;
	*why = "end point is too long";
	return -1;
}

/* A host name is not looked up before it is needed, and then each time. */
static bool
parse_name(const char *text, struct milter_place *place)
{
	const char *colon = strrchr(text, ':');
	char *name, *end;
	unsigned long port;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return false;
	port = strtoul(colon + 1, &end, 10);
	if (*end != '\0' || port == 0 || port > 65535)
		return false;
	if ((name = strndup(text, (size_t)(colon - text))) == NULL)
		fatal("out of memory (milter)");
	/* Digits and dots alone are an address that is wrong. */
	if (!net_is_host_name(name) ||
	    strspn(name, "0123456789.") == strlen(name)) {
		free(name);
		return false;
	}
	place->name = name;
	place->port = (uint16_t)port;
	return true;
}

int
milter_place_parse(const char *text, struct milter_place *place,
    const char **why)
{
	char standard[TEXT_SIZE], local[TEXT_SIZE];

	*place = (struct milter_place){ .name = NULL };
	if (rewrite(text, standard, sizeof(standard), why) == -1)
		return -1;
	/* DNS need not know it. */
	if (strncmp(standard, "localhost:", 10) == 0) {
		snprintf(local, sizeof(local), "127.0.0.1:%.500s",
		    standard + 10);
		return net_endpoint_parse(local, &place->net, why);
	}
	if (net_endpoint_parse(standard, &place->net, why) == 0 ||
	    parse_name(standard, place))
		return 0;
	return -1;
}

void
milter_place_release(struct milter_place *place)
{
	free(place->name);
	place->name = NULL;
}

static struct io *
connect_record(const struct milter_place *place, enum dns_type type,
    const struct dns_record *record, int64_t deadline, const char **why)
{
	const struct sockaddr_in in = { .sin_family = AF_INET,
	    .sin_port = htons(place->port), .sin_addr = record->a };
	const struct sockaddr_in6 in6 = { .sin6_family = AF_INET6,
	    .sin6_port = htons(place->port), .sin6_addr = record->aaaa };

	if (type == DNS_A)
		return io_connect((const struct sockaddr *)&in, sizeof(in),
		    NULL, 0, deadline, why);
	return io_connect((const struct sockaddr *)&in6, sizeof(in6), NULL, 0,
	    deadline, why);
}

static struct io *
connect_name(const struct milter_place *place, struct arena *arena,
    int64_t deadline, const char **why)
{
	static const enum dns_type types[] = { DNS_A, DNS_AAAA };
	struct io *io = NULL;
	int error = EHOSTUNREACH;

	*why = "its name has no address";
	for (size_t t = 0; t < 2; t++) {
		const struct dns_answer *answer = dns_query(arena, place->name,
		    types[t], deadline);

		if (answer->status == DNS_FAILED)
			*why = "its name cannot be looked up now";
		for (size_t i = 0; i < answer->count && i < ADDRESSES_MAX;
		    i++) {
			io = connect_record(place, types[t],
			    &answer->records[i], deadline, why);
			if (io != NULL)
				return io;
			if ((error = errno) == ECANCELED)
				break;
		}
	}
	errno = error;
	return NULL;
}

struct io *
milter_place_connect(const struct milter_place *place, int64_t deadline,
    const char **why)
{
	struct arena *arena;
	struct io *io;
	int error;

	if (place->name == NULL)
		return io_connect((const struct sockaddr *)&place->net.address,
		    place->net.len, NULL, 0, deadline, why);
	arena = arena_new(0);
	io = connect_name(place, arena, deadline, why);
	error = errno;
	arena_free(&arena);
	errno = error;
	return io;
}
