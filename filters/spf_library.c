/* libspf2, one term at a time. */
#include "filters/spf_library.h"

#include <string.h>

#include "base/arena.h"
#include "base/dns.h"
#include "base/log.h"

#define VOIDS_MAX	2		/* RFC 7208, 4.6.4 */

/* In records that we hand to the library this stands for the term's name. */
#define TARGET		"target.invalid"

enum spf_result
spf_trouble(struct spf_check *c, enum spf_result result, const char *why)
{
	/* The first cause stays: later ones follow from it. */
	if (c->trouble == SPF_NONE) {
		c->trouble = result;
		c->why = why;
	}
	return c->trouble;
}

/* --- what libspf2 asks of DNS --- */

static SPF_dns_rr_t *
no_records(struct spf_check *c, const char *domain, ns_type type, int code)
{
	SPF_dns_rr_t *rr = SPF_dns_rr_new_init(&c->layer, domain, type, 0,
	    code);

	if (rr == NULL)
		fatal("out of memory");
	return rr;
}

static void
copy_name(SPF_dns_rr_t *rr, int i, const char *name, bool is_mx)
{
	size_t size = strlen(name) + 1;

	if (SPF_dns_rr_buf_realloc(rr, i, size) != SPF_E_SUCCESS)
		fatal("out of memory");
	memcpy(is_mx ? rr->rr[i]->mx : rr->rr[i]->ptr, name, size);
}

static void
copy_address(struct spf_check *c, SPF_dns_rr_t *rr, int i,
    const struct dns_record *record)
{
	if (SPF_dns_rr_buf_realloc(rr, i, sizeof(rr->rr[i]->aaaa)) !=
	    SPF_E_SUCCESS)
		fatal("out of memory");
	/*
	 * A prefix length of 0 takes any address of this family: let the
	 * library find the client's own.
	 */
	if (rr->rr_type == ns_t_a)
		rr->rr[i]->a = c->any_address ? c->ip4 : record->a;
	else
		rr->rr[i]->aaaa = c->any_address ? c->ip6 : record->aaaa;
}

static SPF_dns_rr_t *
to_records(struct spf_check *c, const char *domain, ns_type type,
    const struct dns_answer *answer)
{
	SPF_dns_rr_t *rr = no_records(c, domain, type, NETDB_SUCCESS);
	size_t count = answer->count;

	/* RFC 7208, 4.6.4: the rest of the PTRs is not looked at. */
	if (type == ns_t_ptr && count > SPF_NAMES_MAX)
		count = SPF_NAMES_MAX;
	for (size_t i = 0; i < count; i++) {
		const struct dns_record *record = &answer->records[i];

		if (type == ns_t_mx || type == ns_t_ptr) {
			if (*record->name == '\0')
				continue;
			copy_name(rr, rr->num_rr, record->name,
			    type == ns_t_mx);
		} else
			copy_address(c, rr, rr->num_rr, record);
		rr->num_rr++;
	}
	return rr;
}

/* What an answer does to the whole check. */
static void
count_answer(struct spf_check *c, ns_type type, const struct dns_answer *answer)
{
	bool first = c->questions++ == 0;

	switch (answer->status) {
	case DNS_FOUND:
		if (type == ns_t_mx && answer->count > SPF_NAMES_MAX)
			spf_trouble(c, SPF_PERMERROR,
			    "more than ten MX records");
		break;
	case DNS_NODATA:
	case DNS_NXDOMAIN:
		/* One a term: RFC 7208, 4.6.4, counts terms. */
		if (first && ++c->voids > VOIDS_MAX)
			spf_trouble(c, SPF_PERMERROR, "too many void look-ups");
		break;
	case DNS_FAILED:
		/* RFC 7208, 5.5: a PTR that cannot be checked is skipped. */
		if (c->mechanism != SPF_PTR)
			spf_trouble(c, SPF_TEMPERROR, arena_printf(c->arena,
			    "DNS: %s", answer->why == NULL ? "no answer" :
			    answer->why));
		break;
	}
}

/* Must never return NULL: the library would abort. */
static SPF_dns_rr_t *
layer_lookup(SPF_dns_server_t *layer, const char *domain, ns_type type,
    int should_cache)
{
	struct spf_check *c = layer->hook;
	const struct dns_answer *answer;

	(void)should_cache;
	if (c->trouble != SPF_NONE || (type != ns_t_a && type != ns_t_aaaa &&
	    type != ns_t_mx && type != ns_t_ptr))
		return no_records(c, domain, type, NO_DATA);
	answer = dns_query(c->arena,
	    strcmp(domain, TARGET) == 0 ? c->target : domain,
	    (enum dns_type)type, c->deadline);
	count_answer(c, type, answer);
	if (c->trouble == SPF_TEMPERROR)
		return no_records(c, domain, type, TRY_AGAIN);
	if (c->trouble != SPF_NONE || answer->status != DNS_FOUND)
		return no_records(c, domain, type, NO_DATA);
	return to_records(c, domain, type, answer);
}

/* --- a check that needs the library --- */

static void
library_open(struct spf_check *c)
{
	SPF_response_t *response = NULL;

	c->layer = (SPF_dns_server_t){ .lookup = layer_lookup,
		.name = "resolver", .hook = c };
	c->server = SPF_server_new_dns(&c->layer, 0);
	if (c->server == NULL)
		fatal("out of memory");
	/* The default text would be expanded after each term. */
	SPF_server_set_explanation(c->server, "-", &response);
	if (response != NULL)
		SPF_response_free(response);
	c->request = SPF_request_new(c->server);
	if (c->request == NULL)
		fatal("out of memory");
	if (c->family == AF_INET)
		SPF_request_set_ipv4(c->request, c->ip4);
	else
		SPF_request_set_ipv6(c->request, c->ip6);
	SPF_request_set_helo_dom(c->request, TARGET);
	SPF_request_set_env_from(c->request, "postmaster@" TARGET);
}

/* --- one term --- */

/* PASS: the one term of this record matches; NEUTRAL: it does not. */
static enum spf_result
library_match(struct spf_check *c, const char *record)
{
	SPF_response_t *response = SPF_response_new(c->request);
	SPF_record_t *compiled = NULL;
	SPF_errcode_t error;
	SPF_result_t result = SPF_RESULT_PERMERROR;

	c->request->cur_dom = TARGET;
	c->questions = 0;
	error = SPF_record_compile(c->server, response, &compiled, record);
	if (error == SPF_E_SUCCESS && compiled != NULL) {
		response->spf_record_exp = compiled;
		error = SPF_record_interpret(compiled, c->request, response, 0);
		result = SPF_response_result(response);
	}
	if (compiled != NULL)
		SPF_record_free(compiled);
	SPF_response_free(response);
	c->request->cur_dom = NULL;
	if (result == SPF_RESULT_PASS && c->trouble != SPF_PERMERROR) {
		c->trouble = SPF_NONE;
		return SPF_PASS;
	}
	if (c->trouble != SPF_NONE)
		return c->trouble;
	if (result == SPF_RESULT_NEUTRAL)
		return SPF_NEUTRAL;
	return spf_trouble(c, SPF_PERMERROR, SPF_strerror(error));
}

static const char *
cidr_text(struct spf_check *c, const struct spf_term *term)
{
	int prefix = c->family == AF_INET ? term->prefix4 : term->prefix6;

	/* Only the client's family matters; the library refuses 0. */
	if (prefix == 0 || (term->mechanism != SPF_A &&
	    term->mechanism != SPF_MX))
		return "";
	return arena_printf(c->arena, c->family == AF_INET ? "/%d" : "//%d",
	    prefix);
}

/* The name that a ptr term is about is the one name that the library reads. */
static bool
is_plain(const char *name)
{
	return *name != '\0' && name[strspn(name,
	    "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == '\0';
}

enum spf_result
spf_library_match(struct spf_check *c, const struct spf_term *term,
    const char *target)
{
	static const char *const names[] = { [SPF_A] = "a", [SPF_MX] = "mx",
		[SPF_PTR] = "ptr", [SPF_EXISTS] = "exists" };

	if (c->server == NULL)
		library_open(c);
	c->mechanism = term->mechanism;
	c->target = target;
	c->any_address = (c->family == AF_INET ? term->prefix4 :
	    term->prefix6) == 0;
	if (term->mechanism != SPF_PTR)
		return library_match(c, arena_printf(c->arena,
		    "v=spf1 %s:" TARGET "%s", names[term->mechanism],
		    cidr_text(c, term)));
	/* No PTR that we take ends in a name of other characters. */
	if (!is_plain(target))
		return SPF_NEUTRAL;
	return library_match(c, arena_printf(c->arena, "v=spf1 ptr:%s",
	    target));
}

void
spf_library_close(struct spf_check *c)
{
	if (c->server == NULL)
		return;
	SPF_request_free(c->request);
	SPF_server_free(c->server);
}

static void __attribute__((noreturn))
on_error(const char *file, int line, const char *message)
{
	fatal("libspf2: %s:%d: %s", file, line, message);
}

static void
on_other(const char *file, int line, const char *message)
{
	(void)file, (void)line, (void)message;
}

void
spf_library_setup(void)
{
	SPF_error_handler = on_error;
	SPF_warning_handler = on_other;
	SPF_info_handler = on_other;
	SPF_debug_handler = on_other;
}
