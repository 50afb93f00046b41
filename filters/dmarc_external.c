/* Verifying external destinations of reports (RFC 9990, 4). */
#include "filters/dmarc_external.h"

#include <string.h>

#include "base/arena.h"
#include "base/dns.h"
#include "filters/dmarc_policy.h"
#include "filters/dmarc_uri.h"
#include "filters/domain.h"

/* Of the same organization, which needs no word from the receiver? */
static enum answer
is_own(const struct dmarc_lookup *lookup, const char *domain, const char *host)
{
	struct dmarc_policy policy;

	if (strcmp(domain, host) == 0)
		return ANSWER_YES;
	dmarc_policy_find(lookup, domain, &policy);
	return dmarc_aligned(lookup, &policy, host, false);
}

/* Step 9: another address is fine, another host would let reports wander. */
static enum answer
check_override(const struct dmarc_lookup *lookup, const char *host,
    struct dmarc_external *external)
{
	const char *at = external->rua, *end = at + external->rua_len;
	struct dmarc_uri uri;
	bool usable = false;
	int rc;

	while ((rc = dmarc_uri_next(&at, end, &uri)) != 0) {
		const char *to;

		if (rc == -1)
			continue;
		to = domain_normalize(lookup->arena, uri.domain,
		    strlen(uri.domain));
		if (to == NULL || strcmp(to, host) != 0) {
			external->why = "it names yet another host";
			return ANSWER_NO;
		}
		usable = true;
	}
	if (usable)
		return ANSWER_YES;
	external->why = "it names no mail address";
	return ANSWER_NO;
}

/* Steps 6 to 9 */
static enum answer
check_records(const struct dmarc_lookup *lookup, const char *host,
    const struct dns_answer *answer, struct dmarc_external *external)
{
	bool permitted = false;

	for (size_t i = 0; i < answer->count; i++) {
		const struct dns_record *r = &answer->records[i];
		struct dmarc_record record;
		const char *why;

		if (dmarc_record_parse(r->text, r->text_len, &record,
		    &why) != 0)
			continue;
		permitted = true;
		if (record.rua_len == 0)
			continue;
		external->rua = record.rua;
		external->rua_len = record.rua_len;
		return check_override(lookup, host, external);
	}
	if (permitted)
		return ANSWER_YES;
	external->why = "it does not permit it";
	return ANSWER_NO;
}

/* What the receiver says, steps 2 to 9. */
static enum answer
ask(const struct dmarc_lookup *lookup, const char *domain, const char *host,
    struct dmarc_external *external)
{
	const struct dns_answer *answer;

	/* Step 4: a name that is too long does not exist for dns_query(). */
	answer = dns_query(lookup->arena, arena_printf(lookup->arena,
	    "%s._report._dmarc.%s", domain, host), DNS_TXT, lookup->deadline);
	if (answer->status != DNS_FAILED)
		return check_records(lookup, host, answer, external);
	external->why = answer->why == NULL ? "no answer" : answer->why;
	return ANSWER_UNKNOWN;
}

enum answer
dmarc_external_check(const struct dmarc_lookup *lookup, const char *domain,
    const char *host, struct dmarc_external *external)
{
	enum answer own, permitted;

	*external = (struct dmarc_external){ .rua = NULL };
	host = domain_normalize(lookup->arena, host, strlen(host));
	if (host == NULL) {
		external->why = "it is no host name";
		return ANSWER_NO;
	}
	own = is_own(lookup, domain, host);
	if (own == ANSWER_YES)
		return ANSWER_YES;
	permitted = ask(lookup, domain, host, external);
	/* Without a permit it matters whether it needs one. */
	if (permitted == ANSWER_NO && own == ANSWER_UNKNOWN) {
		external->why = "its organization is not known";
		return ANSWER_UNKNOWN;
	}
	return permitted;
}
