/*
 * DNS for tasks, on libunbound's event API: cached, validating when asked,
 * through forwarders or by recursion.
 */
#ifndef BASE_DNS_H
#define BASE_DNS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct arena;

enum dns_status {
	DNS_FOUND,		/* there are records of this type */
	DNS_NODATA,		/* the name exists, the type does not */
	DNS_NXDOMAIN,		/* there is no such name */
	DNS_FAILED		/* cannot tell: SERVFAIL, time-out, bogus */
};

enum dns_type { DNS_A = 1, DNS_NS = 2, DNS_CNAME = 5, DNS_PTR = 12,
	DNS_MX = 15, DNS_TXT = 16, DNS_AAAA = 28, DNS_TLSA = 52 };

struct dns_record {
	struct in_addr a;
	struct in6_addr aaaa;
	unsigned preference;		/* MX */
	const char *name;		/* MX, PTR, NS, CNAME: no last dot,
					 * lower case, "" for the root */
	const char *text;		/* TXT: strings joined; NUL-ended; TLSA:
					 * the record's data as it came */
	size_t text_len;		/* TXT may hold NULs */
};

struct dns_answer {
	enum dns_status status;
	bool secure;			/* DNSSEC-validated */
	uint32_t ttl;			/* seconds */
	const char *why;		/* for DNS_FAILED */
	size_t count;
	const struct dns_record *records;
};

struct dns_settings {
	/*
	 * "127.0.0.1@53"; the single word "recursion" asks the root's servers;
	 * empty: the name servers of /etc/resolv.conf.  NULL-ended, or NULL.
	 */
	const char *const *forwarders;
	const char *const *stubs;	/* "test.=127.0.0.1@5300"; NULL-ended */
	const char *trust_anchor_file;	/* NULL: no validation */
	int64_t timeout_ms;		/* for one question, all tries */
	size_t cache_size;		/* bytes */
};

/*
 * Sets up the resolver on this thread's loop (task_init() comes before it) and
 * reads all files that it will ever need.  -1 and *why on error.
 */
int dns_init(const struct dns_settings *, const char **why);
void dns_shutdown(void);

/*
 * Asks, waits, and returns the answer, which belongs to the arena.  Never
 * NULL.  CNAMEs are followed by the resolver.  A name that no DNS can hold
 * (an empty label, one over 63 octets, over 253 in all) does not exist.
 * Called by tasks.
 */
const struct dns_answer *dns_query(struct arena *, const char *name,
    enum dns_type, int64_t deadline);

/*
 * Answers from f in place of the resolver, for tests; NULL: the resolver again.
 * f may return NULL for a name that it does not know: it does not exist.
 */
typedef const struct dns_answer *dns_source_f(struct arena *, const char *name,
    enum dns_type, void *argument);
void dns_set_source(dns_source_f *, void *argument);

/* The name under in-addr.arpa or ip6.arpa of an address. */
const char *dns_reverse_name(struct arena *, const struct sockaddr *);

/*
 * Forward-confirmed reverse name (RFC 8601 iprev, 3): a PTR whose address
 * look-up gives the client again.  FOUND, NXDOMAIN (none confirms) or FAILED;
 * *ptr is the first PTR even if unconfirmed, or NULL.  At most ten PTRs are
 * looked at, and only such as are host names.
 */
enum dns_status dns_confirmed_name(struct arena *, const struct sockaddr *,
    const char **name, const char **ptr, int64_t deadline);

#endif
