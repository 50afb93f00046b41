/*
 * An SPF record, parsed by the grammar of RFC 7208, 4.6, 5, 6, 7 and 12 and no
 * other.  It stands in front of libspf2, which knows less than half of that
 * grammar and writes beyond its buffers for terms that are long enough
 * (CVE-2023-42118): what does not pass here, the library never sees.
 */
#ifndef FILTERS_SPF_GUARD_H
#define FILTERS_SPF_GUARD_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

struct arena;

#define SPF_RECORD_MAX	8192		/* octets of a record */
#define SPF_TERM_MAX	400		/* octets of a term */
#define SPF_MACROS_MAX	60		/* macros in a term */
#define SPF_EXPLANATION_MAX 1000	/* octets of an explanation */

enum spf_mechanism { SPF_ALL, SPF_INCLUDE, SPF_A, SPF_MX, SPF_PTR, SPF_IP4,
	SPF_IP6, SPF_EXISTS };

struct spf_term {
	char qualifier;			/* + - ~ ? */
	enum spf_mechanism mechanism;
	/*
	 * The domain-spec, macros not expanded, right-hand counts that exceed
	 * any name's labels left out; NULL: the current domain.
	 */
	const char *domain;
	bool uses_p;			/* the domain holds a p macro */
	int prefix4, prefix6;		/* 32 and 128 unless given */
	struct in_addr ip4;
	struct in6_addr ip6;
};

struct spf_record {
	size_t count;
	const struct spf_term *terms;	/* in their order, up to "all" */
	const char *redirect;		/* domain-spec, or NULL */
	bool redirect_uses_p;
	const char *exp;		/* domain-spec, or NULL */
	bool exp_uses_p;
};

/* Whether a TXT record is an SPF record at all (RFC 7208, 4.5). */
bool spf_is_record(const char *bytes, size_t len);

/* NULL: *why says why the record is a permerror. */
const struct spf_record *spf_record_parse(struct arena *, const char *bytes,
    size_t len, const char **why);

/*
 * Whether an explanation's text (RFC 7208, 6.2) follows the grammar, with no
 * more macros than a term may have.
 */
bool spf_is_explanation(const char *bytes, size_t len, bool *uses_p);

#endif
