/*
 * DNS by libunbound's event API, in this thread's loop.
 *
 * libunbound caches, joins equal questions and validates; here a task waits for
 * its answer with a deadline of its own, for libunbound alone takes 23 seconds
 * and more to give up on a silent server.
 */
#include "base/dns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <event2/event.h>
#include <unbound.h>
#include <unbound-event.h>

#include "base/arena.h"
#include "base/counter.h"
#include "base/dns_packet.h"
#include "base/task.h"

#define NAME_MAX_LEN	253		/* RFC 1035, 2.3.4, as text */
#define LABEL_MAX_LEN	63
#define PTR_MAX		10		/* names of a client that we look at */
#define TIMEOUT_DEFAULT	5000

/* One for each loop, hence each process; the seam of tests stands beside it. */
static struct {
	struct ub_ctx *ctx;
	int64_t timeout_ms;
	dns_source_f *source;
	void *source_argument;
	struct counter *answers[4];	/* by enum dns_status */
} resolver;

static const struct counter_row dns_rows[] = {
	{ "millgate_dns_answers_total", COUNTER_TOTAL,
	    "DNS questions by what came of them." },
};
COUNTER_TABLE(dns_rows)

/* Labels by enum dns_status. */
static const char *const status_labels[] = {
	[DNS_FOUND] = "status=\"found\"", [DNS_NODATA] = "status=\"nodata\"",
	[DNS_NXDOMAIN] = "status=\"nxdomain\"",
	[DNS_FAILED] = "status=\"failed\"" };

#define STATUSES (sizeof(status_labels) / sizeof(status_labels[0]))

struct question {
	struct arena *arena;
	enum dns_type type;
	struct task_cond done;
	const struct dns_answer *answer;	/* NULL: still waiting */
};

/* --- setting up --- */

static int
unbound_why(int rc, const char **why)
{
	if (rc == 0)
		return 0;
	*why = ub_strerror(rc);
	return -1;
}

static int
set_options(struct ub_ctx *ctx, size_t cache_size, const char **why)
{
	char messages[32], records[32];
	const char *const options[][2] = {
		{ "use-syslog:", "no" },
		/* A resolver on this very machine is the usual forwarder. */
		{ "do-not-query-localhost:", "no" },
		/* A private client's PTR is the site's server's to know. */
		{ "unblock-lan-zones:", "yes" },
		{ "insecure-lan-zones:", "yes" },
		{ "outgoing-range:", "256" },
		{ "outgoing-num-tcp:", "16" },
		{ "num-queries-per-thread:", "1024" },
		{ "msg-cache-size:", messages },
		{ "rrset-cache-size:", records },
	};

	if (cache_size == 0)
		cache_size = 12 * 1024 * 1024;
	snprintf(messages, sizeof(messages), "%zu", cache_size / 3);
	snprintf(records, sizeof(records), "%zu", cache_size / 3 * 2);
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (unbound_why(ub_ctx_set_option(ctx, options[i][0],
		    options[i][1]), why) != 0)
			return -1;
	return 0;
}

static int
set_forwarders(struct ub_ctx *ctx, const char *const *forwarders,
    const char **why)
{
	if (forwarders == NULL || forwarders[0] == NULL)
		return unbound_why(ub_ctx_resolvconf(ctx, NULL), why);
	if (strcmp(forwarders[0], "recursion") == 0 && forwarders[1] == NULL)
		return 0;
	for (; *forwarders != NULL; forwarders++)
		if (unbound_why(ub_ctx_set_fwd(ctx, *forwarders), why) != 0)
			return -1;
	return 0;
}

/* Whether a line of the trust anchors speaks of this zone. */
static bool
has_anchor(const char *path, const char *zone)
{
	size_t len = strlen(zone);
	char line[4096];
	bool found = false;
	FILE *file;

	if (path == NULL || (file = fopen(path, "re")) == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), file) != NULL)
		found = strncasecmp(line, zone, len) == 0 &&
		    (line[len] == ' ' || line[len] == '\t');
	fclose(file);
	return found;
}

/*
 * A stub zone is not where the root says it is, so the root's signatures would
 * prove it false: it is insecure, unless it has a trust anchor of its own.
 */
static int
set_stub(struct ub_ctx *ctx, const char *stub, const char *anchors,
    const char **why)
{
	const char *equals = strchr(stub, '=');
	char zone[NAME_MAX_LEN + 2];

	if (equals == NULL || (size_t)(equals - stub) >= sizeof(zone)) {
		*why = "a stub is written zone=address@port";
		return -1;
	}
	memcpy(zone, stub, (size_t)(equals - stub));
	zone[equals - stub] = '\0';
	if (unbound_why(ub_ctx_set_stub(ctx, zone, equals + 1, 0), why) != 0)
		return -1;
	if (anchors == NULL || has_anchor(anchors, zone))
		return 0;
	return unbound_why(ub_ctx_set_option(ctx, "domain-insecure:", zone),
	    why);
}

/*
 * libunbound answers some names itself (test., 127.in-addr.arpa.); whoever
 * sets a server for such a zone wants to hear that.
 */
static int
open_zones(struct ub_ctx *ctx, const struct dns_settings *settings,
    const char **why)
{
	char zone[NAME_MAX_LEN + 2];

	for (const char *const *stub = settings->stubs;
	    stub != NULL && *stub != NULL; stub++) {
		snprintf(zone, sizeof(zone), "%.*s",
		    (int)strcspn(*stub, "="), *stub);
		if (unbound_why(ub_ctx_zone_add(ctx, zone, "transparent"),
		    why) != 0)
			return -1;
	}
	if (settings->forwarders == NULL || settings->forwarders[0] == NULL ||
	    strcmp(settings->forwarders[0], "recursion") == 0)
		return 0;
	return unbound_why(ub_ctx_zone_add(ctx, "test.", "transparent"), why);
}

static void
warmed_up(void *argument, int rcode, void *packet, int len, int secure,
    char *why, int limited)
{
	(void)argument, (void)rcode, (void)packet, (void)len, (void)secure;
	(void)why, (void)limited;
}

/*
 * libunbound reads its files and makes its worker at the first question, which
 * must come before the process locks itself in.  "localhost." is answered by
 * itself.
 */
static int
warm_up(struct ub_ctx *ctx, const char **why)
{
	int id = 0;

	return unbound_why(ub_resolve_event(ctx, "localhost.", DNS_A, 1, NULL,
	    warmed_up, &id), why);
}

static int
context_fill(struct ub_ctx *ctx, const struct dns_settings *settings,
    const char **why)
{
	if (set_options(ctx, settings->cache_size, why) != 0 ||
	    set_forwarders(ctx, settings->forwarders, why) != 0)
		return -1;
	for (const char *const *stub = settings->stubs;
	    stub != NULL && *stub != NULL; stub++)
		if (set_stub(ctx, *stub, settings->trust_anchor_file, why) != 0)
			return -1;
	if (settings->trust_anchor_file != NULL &&
	    unbound_why(ub_ctx_add_ta_file(ctx, settings->trust_anchor_file),
	    why) != 0)
		return -1;
	if (open_zones(ctx, settings, why) != 0)
		return -1;
	return warm_up(ctx, why);
}

int
dns_init(const struct dns_settings *settings, const char **why)
{
	struct ub_ctx *ctx = ub_ctx_create_event(task_base());

	if (ctx == NULL) {
		*why = "cannot create the resolver";
		return -1;
	}
	if (context_fill(ctx, settings, why) != 0) {
		ub_ctx_delete(ctx);
		return -1;
	}
	resolver.ctx = ctx;
	for (size_t i = 0; i < STATUSES; i++)
		resolver.answers[i] = counter_get(dns_rows[0].name,
		    status_labels[i]);
	resolver.timeout_ms = settings->timeout_ms > 0 ?
	    settings->timeout_ms : TIMEOUT_DEFAULT;
	return 0;
}

void
dns_shutdown(void)
{
	if (resolver.ctx != NULL)
		ub_ctx_delete(resolver.ctx);
	resolver.ctx = NULL;
}

void
dns_set_source(dns_source_f *source, void *argument)
{
	resolver.source = source;
	resolver.source_argument = argument;
}

/* --- asking --- */

/*
 * The name as libunbound's parser wants it: with a last dot, backslashes
 * escaped.  NULL: no such name can exist.
 */
static char *
name_escape(struct arena *arena, const char *name)
{
	size_t len = strlen(name), label = 0;
	char *escaped, *to;

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len > NAME_MAX_LEN)
		return NULL;
	to = escaped = arena_alloc(arena, 2 * len + 2);
	for (size_t i = 0; i < len; i++) {
		if (name[i] == '.') {
			if (label == 0)
				return NULL;
			label = 0;
		} else if (++label > LABEL_MAX_LEN)
			return NULL;
		if (name[i] == '\\')
			*to++ = '\\';
		*to++ = name[i];
	}
	if (len > 0 && label == 0)
		return NULL;
	*to = '.';
	return escaped;
}

/*
 * Called on the loop's stack, or, for what is in the cache, from within
 * ub_resolve_event().
 */
static void
answered(void *argument, int rcode, void *packet, int len, int secure,
    char *bogus, int limited)
{
	struct question *question = argument;
	struct arena *arena = question->arena;
	struct dns_answer *answer;

	(void)limited;
	if (secure == 1)
		question->answer = dns_answer_none(arena, DNS_FAILED,
		    arena_printf(arena, "DNSSEC: %s",
		    bogus == NULL ? "bogus" : bogus));
	/* With an error the buffer still holds the answer to another question. */
	else if (rcode != 0 || packet == NULL || len <= 0)
		question->answer = dns_answer_none(arena, DNS_FAILED,
		    rcode == 0 ? "no answer" : "SERVFAIL");
	else {
		answer = arena_memdup(arena, dns_packet_parse(arena, packet,
		    (size_t)len, question->type), sizeof(*answer));
		answer->secure = secure == 2;
		question->answer = answer;
	}
	task_cond_broadcast(&question->done);
}

static const struct dns_answer *
ask(struct arena *arena, const char *escaped, enum dns_type type,
    int64_t deadline)
{
	struct question question = { .arena = arena, .type = type };
	int64_t own = task_deadline(resolver.timeout_ms);
	int id = 0, rc;

	if (own < deadline)
		deadline = own;
	rc = ub_resolve_event(resolver.ctx, escaped, (int)type, 1, &question,
	    answered, &id);
	if (rc != 0)
		return dns_answer_none(arena, DNS_FAILED, ub_strerror(rc));
	while (question.answer == NULL)
		if (task_cond_wait(&question.done, deadline) != 0)
			break;
	if (question.answer != NULL)
		return question.answer;
	/* Cancelled questions never call back, so our stack is safe. */
	ub_cancel(resolver.ctx, id);
	return dns_answer_none(arena, DNS_FAILED,
	    errno == ECANCELED ? "cancelled" : "time-out");
}

const struct dns_answer *
dns_query(struct arena *arena, const char *name, enum dns_type type,
    int64_t deadline)
{
	const struct dns_answer *answer;
	const char *escaped = name_escape(arena, name);

	if (escaped == NULL)
		return dns_answer_none(arena, DNS_NXDOMAIN, NULL);
	if (resolver.source != NULL) {
		answer = resolver.source(arena, name, type,
		    resolver.source_argument);
		return answer != NULL ? answer :
		    dns_answer_none(arena, DNS_NXDOMAIN, NULL);
	}
	if (resolver.ctx == NULL)
		return dns_answer_none(arena, DNS_FAILED, "no resolver");
	answer = ask(arena, escaped, type, deadline);
	counter_add(resolver.answers[answer->status], 1);
	return answer;
}

/* --- names of addresses --- */

/* The client's address as DNS knows it: IPv4-mapped ones are IPv4. */
static int
address_of(const struct sockaddr *address, struct in_addr *four,
    struct in6_addr *six)
{
	if (address->sa_family == AF_INET) {
		*four = ((const struct sockaddr_in *)(const void *)
		    address)->sin_addr;
		return AF_INET;
	}
	if (address->sa_family != AF_INET6)
		return AF_UNSPEC;
	*six = ((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	if (!IN6_IS_ADDR_V4MAPPED(six))
		return AF_INET6;
	memcpy(four, six->s6_addr + 12, sizeof(*four));
	return AF_INET;
}

const char *
dns_reverse_name(struct arena *arena, const struct sockaddr *address)
{
	static const char digits[] = "0123456789abcdef";
	struct in_addr four;
	struct in6_addr six;
	const unsigned char *b;
	char nibbles[65], *to = nibbles;

	switch (address_of(address, &four, &six)) {
	case AF_INET:
		b = (const unsigned char *)&four;
		return arena_printf(arena, "%u.%u.%u.%u.in-addr.arpa",
		    b[3], b[2], b[1], b[0]);
	case AF_INET6:
		for (int i = 15; i >= 0; i--) {
			*to++ = digits[six.s6_addr[i] & 15];
			*to++ = '.';
			*to++ = digits[six.s6_addr[i] >> 4];
			*to++ = '.';
		}
		*to = '\0';
		return arena_printf(arena, "%sip6.arpa", nibbles);
	default:
		return NULL;
	}
}

/* What goes into trace fields, logs and macros must look like a host. */
static bool
is_host(const char *name)
{
	return *name != '\0' && name[strspn(name, "abcdefghijklmnopqrstuvwxyz"
	    "0123456789-_.")] == '\0';
}

static enum dns_status
name_confirms(struct arena *arena, const char *name,
    const struct sockaddr *address, int64_t deadline)
{
	const struct dns_answer *answer;
	struct in_addr four;
	struct in6_addr six;
	int family = address_of(address, &four, &six);

	answer = dns_query(arena, name, family == AF_INET ? DNS_A : DNS_AAAA,
	    deadline);
	if (answer->status != DNS_FOUND)
		return answer->status;
	for (size_t i = 0; i < answer->count; i++) {
		const struct dns_record *r = &answer->records[i];

		if (family == AF_INET ? r->a.s_addr == four.s_addr :
		    memcmp(&r->aaaa, &six, sizeof(six)) == 0)
			return DNS_FOUND;
	}
	return DNS_NXDOMAIN;
}

enum dns_status
dns_confirmed_name(struct arena *arena, const struct sockaddr *address,
    const char **name, const char **ptr, int64_t deadline)
{
	const char *reverse = dns_reverse_name(arena, address);
	enum dns_status result = DNS_NXDOMAIN;
	const struct dns_answer *names;

	*name = *ptr = NULL;
	if (reverse == NULL)
		return DNS_NXDOMAIN;
	names = dns_query(arena, reverse, DNS_PTR, deadline);
	if (names->status == DNS_FAILED)
		return DNS_FAILED;
	for (size_t i = 0; i < names->count && i < PTR_MAX; i++) {
		const char *candidate = names->records[i].name;

		if (!is_host(candidate))
			continue;
		if (*ptr == NULL)
			*ptr = candidate;
		switch (name_confirms(arena, candidate, address, deadline)) {
		case DNS_FOUND:
			*name = candidate;
			return DNS_FOUND;
		case DNS_FAILED:
			result = DNS_FAILED;
			break;
		case DNS_NODATA:
		case DNS_NXDOMAIN:
			break;
		}
	}
	return result;
}
