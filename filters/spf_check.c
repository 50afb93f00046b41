/*
 * SPF's check_host() (RFC 7208).
 *
 * libspf2 matches hosts, one term at a time; the frame around the terms is
 * ours: finding the record, macros, the order, include and redirect, and all
 * limits.  For in the library's own frame, include starts the count of look-ups
 * anew, redirect acts where it stands, a prefix length of 0 is refused, and
 * what exceeds 511 octets once compiled is lost without a word.  It sees no
 * octet of a record: terms reach it in words of our own.
 *
 * An explanation costs one more question, after a fail only.
 */
#include "filters/spf_check.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/dns.h"
#include "filters/domain.h"
#include "filters/spf_library.h"

#define TERMS_MAX	10		/* RFC 7208, 4.6.4 */
#define LOCAL_MAX	254		/* a name's text holds no more anyway */

/* --- the p macro (RFC 7208, 7.3): the client's validated name --- */

static bool
name_is_clients(struct spf_check *c, const char *name)
{
	const struct dns_answer *answer = dns_query(c->arena, name,
	    c->family == AF_INET ? DNS_A : DNS_AAAA, c->deadline);

	for (size_t i = 0; i < answer->count; i++)
		if (c->family == AF_INET ?
		    answer->records[i].a.s_addr == c->ip4.s_addr :
		    memcmp(&answer->records[i].aaaa, &c->ip6,
		    sizeof(c->ip6)) == 0)
			return true;
	return false;
}

/* Once for all macros, or a record could have it done for each term. */
static void
validate_names(struct spf_check *c)
{
	const struct dns_answer *names;

	if (c->names_known)
		return;
	c->names_known = true;
	names = dns_query(c->arena, dns_reverse_name(c->arena, c->client),
	    DNS_PTR, c->deadline);
	for (size_t i = 0; i < names->count && i < SPF_NAMES_MAX; i++) {
		const char *name = names->records[i].name;

		if (*name != '\0' && name_is_clients(c, name))
			c->names[c->name_count++] = name;
	}
}

static const char *
validated_name(struct spf_check *c, const char *domain)
{
	const char *below = NULL;

	validate_names(c);
	for (size_t i = 0; i < c->name_count; i++) {
		if (strcmp(c->names[i], domain) == 0)
			return c->names[i];
		if (below == NULL && domain_is_within(c->names[i], domain))
			below = c->names[i];
	}
	if (below != NULL)
		return below;
	return c->name_count > 0 ? c->names[0] : "unknown";
}

/* --- names --- */

static const char *
expand(struct spf_check *c, const char *domain, const char *spec, bool uses_p)
{
	if (spec == NULL)
		return domain;
	c->macros.domain = domain;
	if (uses_p)
		c->macros.client_name = validated_name(c, domain);
	return spf_macro_expand(c->arena, spec, &c->macros);
}

static bool
prefix_equal(const void *left, const void *right, int prefix)
{
	const unsigned char *a = left, *b = right;
	int bits = prefix % 8;

	if (memcmp(a, b, (size_t)(prefix / 8)) != 0)
		return false;
	return bits == 0 ||
	    (a[prefix / 8] ^ b[prefix / 8]) >> (8 - bits) == 0;
}

static bool
match_network(const struct spf_check *c, const struct spf_term *term)
{
	if (term->mechanism == SPF_IP4)
		return c->family == AF_INET &&
		    prefix_equal(&c->ip4, &term->ip4, term->prefix4);
	return c->family == AF_INET6 &&
	    prefix_equal(&c->ip6, &term->ip6, term->prefix6);
}

/* --- records --- */

static enum spf_result
count_term(struct spf_check *c)
{
	if (++c->terms > TERMS_MAX)
		return spf_trouble(c, SPF_PERMERROR, "too many DNS look-ups");
	return SPF_NONE;
}

static enum spf_result check_domain(struct spf_check *, const char *domain);

/* RFC 7208, 5.2: whatever is not pass or an error does not match. */
static enum spf_result
match_include(struct spf_check *c, const char *domain,
    const struct spf_term *term)
{
	const char *target = expand(c, domain, term->domain, term->uses_p);

	switch (check_domain(c, target)) {
	case SPF_PASS:
		return SPF_PASS;
	case SPF_TEMPERROR:
		return spf_trouble(c, SPF_TEMPERROR, "cannot read an include");
	case SPF_PERMERROR:
		return spf_trouble(c, SPF_PERMERROR, "error in an include");
	case SPF_NONE:
		return spf_trouble(c, SPF_PERMERROR, arena_printf(c->arena,
		    "%s is included and has no record", target));
	case SPF_FAIL:
	case SPF_SOFTFAIL:
	case SPF_NEUTRAL:
		break;
	}
	return SPF_NEUTRAL;
}

/* PASS: matches; NEUTRAL: does not; else trouble. */
static enum spf_result
match(struct spf_check *c, const char *domain,
    const struct spf_term *term)
{
	switch (term->mechanism) {
	case SPF_ALL:
		return SPF_PASS;
	case SPF_IP4:
	case SPF_IP6:
		return match_network(c, term) ? SPF_PASS : SPF_NEUTRAL;
	case SPF_INCLUDE:
	case SPF_A:
	case SPF_MX:
	case SPF_PTR:
	case SPF_EXISTS:
		break;
	}
	if (count_term(c) != SPF_NONE)
		return c->trouble;
	if (term->mechanism == SPF_INCLUDE)
		return match_include(c, domain, term);
	return spf_library_match(c, term,
	    expand(c, domain, term->domain, term->uses_p));
}

static enum spf_result
qualified(struct spf_check *c, const char *domain,
    const struct spf_term *term)
{
	static const char *const names[] = { [SPF_ALL] = "all",
		[SPF_INCLUDE] = "include", [SPF_A] = "a", [SPF_MX] = "mx",
		[SPF_PTR] = "ptr", [SPF_IP4] = "ip4", [SPF_IP6] = "ip6",
		[SPF_EXISTS] = "exists" };
	bool everyone = term->mechanism == SPF_ALL ||
	    (term->mechanism == SPF_IP4 && term->prefix4 == 0) ||
	    (term->mechanism == SPF_IP6 && term->prefix6 == 0);

	c->why = arena_printf(c->arena, "%c%s in the record of %s matches%s",
	    term->qualifier, names[term->mechanism], domain,
	    everyone && term->qualifier == '+' ? " every client" : "");
	switch (term->qualifier) {
	case '-':
		return SPF_FAIL;
	case '~':
		return SPF_SOFTFAIL;
	case '?':
		return SPF_NEUTRAL;
	default:
		return SPF_PASS;
	}
}

static enum spf_result
redirect(struct spf_check *c, const char *domain,
    const struct spf_record *record)
{
	const char *target;
	enum spf_result result;

	if (count_term(c) != SPF_NONE)
		return c->trouble;
	target = expand(c, domain, record->redirect,
	    record->redirect_uses_p);
	result = check_domain(c, target);
	/* RFC 7208, 6.1 */
	return result != SPF_NONE ? result : spf_trouble(c, SPF_PERMERROR,
	    "redirect leads to no record");
}

/* RFC 7208, 4.5: exactly one record; NULL: *result says what comes of it. */
static const struct spf_record *
find_record(struct spf_check *c, const char *domain, enum spf_result *result)
{
	const struct dns_answer *answer = dns_query(c->arena, domain, DNS_TXT,
	    c->deadline);
	const struct dns_record *found = NULL;
	const struct spf_record *record;
	const char *why;

	if (answer->status == DNS_FAILED) {
		*result = spf_trouble(c, SPF_TEMPERROR, arena_printf(c->arena,
		    "DNS: %s", answer->why == NULL ? "no answer" :
		    answer->why));
		return NULL;
	}
	for (size_t i = 0; i < answer->count; i++) {
		const struct dns_record *r = &answer->records[i];

		if (!spf_is_record(r->text, r->text_len))
			continue;
		if (found != NULL) {
			*result = spf_trouble(c, SPF_PERMERROR, arena_printf(
			    c->arena, "%s has several records", domain));
			return NULL;
		}
		found = r;
	}
	*result = SPF_NONE;
	if (found == NULL)
		return NULL;
	record = spf_record_parse(c->arena, found->text, found->text_len, &why);
	if (record == NULL)
		*result = spf_trouble(c, SPF_PERMERROR, arena_printf(c->arena,
		    "record of %s: %s", domain, why));
	return record;
}

/* RFC 7208, 4.3: a name of several labels, each of which DNS can hold. */
static bool
can_have_record(const char *domain)
{
	size_t label = 0, labels = 1, len = strlen(domain);

	for (const char *p = domain; *p != '\0'; p++) {
		if (*p != '.') {
			if (++label > 63)
				return false;
			continue;
		}
		if (label == 0)
			return false;
		label = 0;
		labels++;
	}
	return label > 0 && labels > 1 && len <= DOMAIN_MAX;
}

static enum spf_result
check_domain(struct spf_check *c, const char *domain)
{
	const struct spf_record *record;
	enum spf_result result;

	if (!can_have_record(domain))
		return SPF_NONE;
	record = find_record(c, domain, &result);
	if (record == NULL)
		return result;
	for (size_t i = 0; i < record->count; i++) {
		result = match(c, domain, &record->terms[i]);
		if (c->trouble != SPF_NONE)
			return c->trouble;
		if (result != SPF_PASS)
			continue;
		c->matched = record;
		c->matched_domain = domain;
		return qualified(c, domain, &record->terms[i]);
	}
	if (record->redirect != NULL)
		return redirect(c, domain, record);
	c->why = arena_printf(c->arena, "nothing in the record of %s matches",
	    domain);
	return SPF_NEUTRAL;
}

/* --- the check --- */

static bool
set_client(struct spf_check *c, const struct sockaddr *client)
{
	const struct sockaddr_in *four = (const void *)client;
	const struct sockaddr_in6 *six = (const void *)client;

	c->client = client;
	c->family = client->sa_family;
	if (c->family == AF_INET)
		c->ip4 = four->sin_addr;
	else if (c->family == AF_INET6)
		c->ip6 = six->sin6_addr;
	else
		return false;
	if (c->family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&c->ip6)) {
		c->family = AF_INET;
		memcpy(&c->ip4, c->ip6.s6_addr + 12, sizeof(c->ip4));
	}
	return true;
}

/* RFC 7208, 7.3: IPv6 as nibbles. */
static const char *
macro_address(struct spf_check *c)
{
	static const char digits[] = "0123456789abcdef";
	char text[64];

	if (c->family == AF_INET)
		return arena_strdup(c->arena, inet_ntop(AF_INET, &c->ip4, text,
		    sizeof(text)));
	for (size_t i = 0; i < 16; i++) {
		text[4 * i] = digits[c->ip6.s6_addr[i] >> 4];
		text[4 * i + 2] = digits[c->ip6.s6_addr[i] & 15];
		text[4 * i + 1] = text[4 * i + 3] = '.';
	}
	return arena_strndup(c->arena, text, 63);
}

static void
set_macros(struct spf_check *c, const struct spf_question *question,
    const char *domain)
{
	const char *at = strrchr(question->sender, '@');
	size_t len = (size_t)(at - question->sender);

	/*
	 * RFC 5321 allows 64 octets in a local part; what is longer by far
	 * keeps its end, as the names that it is expanded into do.
	 */
	if (len > LOCAL_MAX)
		c->macros.local = arena_strndup(c->arena, at - LOCAL_MAX,
		    LOCAL_MAX);
	else if (len > 0)
		c->macros.local = arena_strndup(c->arena, question->sender,
		    len);
	else
		c->macros.local = "postmaster";
	c->macros.sender_domain = domain;
	c->macros.sender = arena_printf(c->arena, "%s@%s", c->macros.local,
	    domain);
	c->macros.address = macro_address(c);
	c->macros.version = c->family == AF_INET ? "in-addr" : "ip6";
	c->macros.helo = question->helo == NULL ||
	    strlen(question->helo) > DOMAIN_MAX ? "unknown" : question->helo;
}

/*
 * RFC 7208, 6.2: the exp= of the record that failed, after a redirect that of
 * its target, never that of an include.  Whatever is wrong with it, there is no
 * explanation.
 */
static void
explain(struct spf_check *c, const struct spf_question *question,
    struct spf_answer *answer)
{
	const char *domain = c->matched_domain, *target, *text;
	const struct dns_answer *found;
	char readable[INET6_ADDRSTRLEN];
	bool uses_p;

	if (c->matched->exp == NULL)
		return;
	target = expand(c, domain, c->matched->exp, c->matched->exp_uses_p);
	if (!can_have_record(target))
		return;
	found = dns_query(c->arena, target, DNS_TXT, c->deadline);
	if (found->status != DNS_FOUND || found->count != 1)
		return;
	text = arena_strndup(c->arena, found->records[0].text,
	    found->records[0].text_len);
	if (!spf_is_explanation(text, found->records[0].text_len, &uses_p))
		return;
	inet_ntop(c->family, c->family == AF_INET ? (void *)&c->ip4 :
	    (void *)&c->ip6, readable, sizeof(readable));
	c->macros.readable_address = arena_strdup(c->arena, readable);
	c->macros.receiver = question->receiver;
	c->macros.time = arena_printf(c->arena, "%lld", (long long)time(NULL));
	c->macros.domain = domain;
	if (uses_p)
		c->macros.client_name = validated_name(c, domain);
	text = spf_macro_text(c->arena, text, &c->macros);
	if (*text == '\0')
		return;
	answer->explanation = text;
	answer->explainer = domain;
}

struct spf_answer
spf_check(struct arena *arena, const struct spf_question *question)
{
	struct spf_check c = { .arena = arena, .deadline = question->deadline };
	struct spf_answer answer = { .result = SPF_NONE };
	const char *at = strrchr(question->sender, '@'), *domain;

	domain = at == NULL ? NULL :
	    domain_normalize(arena, at + 1, strlen(at + 1));
	if (domain == NULL || domain_labels(domain) < 2) {
		answer.why = "not a domain name";
		return answer;
	}
	if (!set_client(&c, question->client)) {
		answer.why = "the client has no address";
		return answer;
	}
	set_macros(&c, question, domain);
	answer.result = check_domain(&c, domain);
	answer.why = answer.result == SPF_NONE ? "no record" : c.why;
	answer.terms = c.terms;
	answer.voids = c.voids;
	if (answer.result == SPF_FAIL)
		explain(&c, question, &answer);
	spf_library_close(&c);
	return answer;
}

void
spf_check_setup(void)
{
	spf_library_setup();
}

const char *
spf_result_name(enum spf_result result)
{
	static const char *const names[] = { [SPF_NONE] = "none",
		[SPF_NEUTRAL] = "neutral", [SPF_PASS] = "pass",
		[SPF_FAIL] = "fail", [SPF_SOFTFAIL] = "softfail",
		[SPF_TEMPERROR] = "temperror", [SPF_PERMERROR] = "permerror" };

	return names[result];
}
