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
#include "base/task.h"

#define TEXT_SIZE	512
#define ADDRESSES_MAX	8		/* of a name, that are tried */
#define AGAIN_MIN_MS	5		/* between attempts at a full queue */
#define AGAIN_MAX_MS	60

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

static int
parse_plain(const char *text, struct milter_place *place, const char **why)
{
	char standard[TEXT_SIZE], local[TEXT_SIZE];

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

int
milter_place_parse(const char *text, struct milter_place *place,
    const char **why)
{
	char address[NET_TEXT_SIZE];

	*place = (struct milter_place){ .name = NULL };
	if (strncmp(text, "tls:", 4) == 0) {
		place->tls = true;
		text += 4;
	}
	if (parse_plain(text, place, why) == -1)
		return -1;
	if (!place->tls)
		return 0;
	place->certified = strdup(place->name != NULL ? place->name :
	    net_address_print((const struct sockaddr *)&place->net.address,
	    address));
	if (place->certified == NULL)
		fatal("out of memory (milter)");
	return 0;
}

void
milter_place_release(struct milter_place *place)
{
	free(place->name);
	free(place->certified);
	place->name = place->certified = NULL;
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

/*
 * A UNIX socket whose queue is full gives EAGAIN at once, where TCP would have
 * waited.  All clients of a busy milter meet that together, so each comes again
 * at a time of its own.
 */
static struct io *
connect_address(const struct milter_place *place, int64_t deadline,
    const char **why)
{
	struct io *io;

	for (;;) {
		io = io_connect((const struct sockaddr *)&place->net.address,
		    place->net.len, NULL, 0, deadline, why);
		if (io != NULL || errno != EAGAIN)
			return io;
		if (task_now() >= deadline || task_sleep(AGAIN_MIN_MS +
		    random() % (AGAIN_MAX_MS - AGAIN_MIN_MS)) == -1)
			return NULL;
	}
}

static struct io *
connect_plain(const struct milter_place *place, int64_t deadline,
    const char **why)
{
	struct arena *arena;
	struct io *io;
	int error;

	if (place->name == NULL)
		return connect_address(place, deadline, why);
	arena = arena_new(0);
	io = connect_name(place, arena, deadline, why);
	error = errno;
	arena_free(&arena);
	errno = error;
	return io;
}

struct io *
milter_place_connect(const struct milter_place *place,
    struct tls_context *tls, const char *tls_name, int64_t deadline,
    const char **why)
{
	static _Thread_local char problem[128];
	struct io *io = connect_plain(place, deadline, why);
	int error;

	if (io == NULL || !place->tls)
		return io;
	if (io_tls_connect(io, tls, tls_name != NULL ? tls_name :
	    place->certified, deadline) == 0)
		return io;
	error = errno;
	/* The text goes with the connection. */
	snprintf(problem, sizeof(problem), "%s", io_why(io));
	*why = problem;
	io_free(&io);
	errno = error;
	return NULL;
}
