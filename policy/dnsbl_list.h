/* A DNS list, and how it fares: its test, its silence, its errors. */
#ifndef POLICY_DNSBL_LIST_H
#define POLICY_DNSBL_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "policy/dnsbl_site.h"

struct arena;
struct counter;
struct dns_answer;
struct table;

enum dnsbl_answer { DNSBL_ANSWER_LISTED, DNSBL_ANSWER_NOT, DNSBL_ANSWER_ERROR,
	DNSBL_ANSWER_NONE, DNSBL_ANSWERS };

struct dnsbl_list {
	const char *zone;		/* of its first site */
	const char *shown;		/* the same, without a key */
	bool domains;
	struct dnsbl_site *sites;	/* all of the same zone */
	size_t site_count;
	bool tested;			/* or that was tried, in vain */
	bool on, off;			/* by its last test */
	char why[128];			/* it is off */
	bool off6;			/* for IPv6 clients, if it is not off */
	char why6[128];
	unsigned failures;
	bool silent;			/* that was logged */
	int64_t silent_until;
	struct counter *counters[DNSBL_ANSWERS];
};

/* The rest of a list whose sites are set.  names: see the option. */
void dnsbl_list_init(struct dnsbl_list *, const struct table *names);

/* Whether its test, if it was made, says that its answers can be believed. */
bool dnsbl_list_is_good(const struct dnsbl_list *, bool ipv6);

/* Not if it isn't good; after trouble one look-up at a time tries it again. */
bool dnsbl_list_may_ask(struct dnsbl_list *, bool ipv6);

/* Takes note of an answer; true: something is listed. */
bool dnsbl_list_heard(struct dnsbl_list *, struct arena *,
    const struct dns_answer *);

/*
 * Has a list passed its test (RFC 5782, 5), by the answers for what it must
 * have and what it must not have?  UNKNOWN: one is missing.  NO: *why, in the
 * arena.
 */
enum answer dnsbl_list_judge(struct arena *, const struct dns_answer *listed,
    const struct dns_answer *unlisted, const char **why);

/* The same; switches the list off or on. */
enum answer dnsbl_list_tested(struct dnsbl_list *, struct arena *,
    const struct dns_answer *listed, const struct dns_answer *unlisted);

/* The same of a list of addresses for IPv6, which many lists do not have. */
void dnsbl_list_tested6(struct dnsbl_list *, struct arena *,
    const struct dns_answer *listed, const struct dns_answer *unlisted);

/* "on", "off: it lists everything", ... */
const char *dnsbl_list_state(struct arena *, const struct dnsbl_list *);

#endif
