/*
 * libspf2 as the engine of one term: it asks DNS through us and matches
 * addresses.  Between spf_check.c, the frame around the terms, and it.
 */
#ifndef FILTERS_SPF_LIBRARY_H
#define FILTERS_SPF_LIBRARY_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include <spf2/spf.h>
#include <spf2/spf_dns.h>
#include <spf2/spf_log.h>

#include "filters/spf_check.h"
#include "filters/spf_guard.h"
#include "filters/spf_macro.h"

#define SPF_NAMES_MAX 10	/* of an MX or PTR answer (RFC 7208, 4.6.4) */

/* The state of one check. */
struct spf_check {
	struct arena *arena;
	int64_t deadline;
	const struct sockaddr *client;
	int family;			/* of the client, IPv4-mapped as IPv4 */
	struct in_addr ip4;
	struct in6_addr ip6;
	SPF_dns_server_t layer;
	SPF_server_t *server;		/* NULL until a term needs it */
	SPF_request_t *request;
	unsigned terms, voids;
	struct spf_macros macros;
	enum spf_result trouble;	/* TEMPERROR, PERMERROR or NONE */
	const char *why;

	/* The client's validated names, once a macro has asked for them. */
	bool names_known;
	const char *names[SPF_NAMES_MAX];
	size_t name_count;

	/* Whose term matched last, for the explanation. */
	const struct spf_record *matched;
	const char *matched_domain;

	/* The term at work. */
	enum spf_mechanism mechanism;
	bool any_address;		/* its prefix length is 0 */
	const char *target;		/* the name that it is about */
	unsigned questions;
};

/* Notes the first trouble; returns it. */
enum spf_result spf_trouble(struct spf_check *, enum spf_result,
    const char *why);

/* The library's global handlers. */
void spf_library_setup(void);

/* Frees what the check's terms made of the library's objects. */
void spf_library_close(struct spf_check *);

/*
 * PASS: this term (a, mx, ptr, exists), whose domain is target once expanded,
 * matches; NEUTRAL: it does not; else the trouble.
 */
enum spf_result spf_library_match(struct spf_check *,
    const struct spf_term *, const char *target);

#endif
