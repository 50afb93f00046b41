/*
 * DNS lists of addresses and domains (RFC 5782): all are asked at once, and
 * what they say is added up, blocking lists with positive weights, lists of
 * good senders with negative ones.
 *
 * A list is tested at the start and again and again: one that does not have its
 * test entry, or has everything, or answers what is no listing, is switched off
 * until it passes.  One that does not answer is left alone for a while.  Neither
 * says anything of the client.
 */
#ifndef POLICY_DNSBL_H
#define POLICY_DNSBL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "base/option.h"

struct arena;
struct buf;
struct conf;
struct dnsbl;
struct policy_decision;
struct policy_service;

enum dnsbl_action { DNSBL_REJECT, DNSBL_DEFER, DNSBL_WARN };

#define DNSBL_OPTIONS(ROW, o)						\
	ROW(o, sites, strings, NULL, NULL, NULL,			\
	    "Lists of addresses, as Postscreen's: \"zen.example\", "	\
	    "\"zen.example=127.0.0.[2..11]*3\", \"white.example*-2\".")	\
	ROW(o, domain_sites, strings, NULL, NULL, NULL,			\
	    "Lists of domains, for the sender's, the one in HELO, and those " \
	    "that authenticated the message.")				\
	ROW(o, threshold, number, "1", "1", "1000000",			\
	    "The sum of weights from which on action is taken.")	\
	ROW(o, action, choice, "reject", "reject|defer|warn", NULL,	\
	    "What it is; warn: only the log says so.")			\
	ROW(o, pass_threshold, number, "0", "-1000000", "0",		\
	    "A sum as low as this passes, and no service behind is asked; 0: " \
	    "none does.")						\
	ROW(o, timeout, duration, "3s", "100ms", "5s",			\
	    "How long all lists together may take; those that did not answer " \
	    "do not count.")						\
	ROW(o, test_interval, duration, "1h", "1s", "7d",		\
	    "How often each list is tested.")				\
	ROW(o, names, table, NULL, NULL, NULL,				\
	    "What clients are told in place of a site whose name holds a key: " \
	    "\"KEY.zen.dq.example = zen.example\".")

struct dnsbl_options { DNSBL_OPTIONS(OPTION_FIELD, dnsbl_options) };

extern const struct section_kind dnsbl_section;
extern const struct policy_service dnsbl_service;

/*
 * The lists of the configuration, shared by all that open them, of which the
 * first starts their tests.  Each closes them, in a task.
 */
struct dnsbl *dnsbl_open(const struct conf *);
void dnsbl_close(struct dnsbl **);

const struct dnsbl_options *dnsbl_options(const struct dnsbl *);

/* All look-ups and the text of a site. */
#define DNSBL_ANSWER_MS	7000

#define DNSBL_SITES_MAX	32	/* lists, of both kinds */
#define DNSBL_DOMAINS_MAX 8

struct dnsbl_question {
	const char *address;		/* or NULL */
	const char *domains[DNSBL_DOMAINS_MAX];	/* others are passed over */
	size_t domain_count;
};

/* Strings are the arena's. */
struct dnsbl_result {
	int64_t score;
	const char *site;		/* what weighs most, as clients hear it;
					 * NULL: nothing is listed */
	const char *subject;		/* "client [192.0.2.1]" */
	const char *name;		/* in DNS, for its text */
	const char *why;		/* "zen.example=127.0.0.2*3 ..." */
};

/* Adds a domain unless it is there already, or no name of two labels. */
void dnsbl_add_domain(struct dnsbl_question *, struct arena *,
    const char *domain);

/* Asks the lists, and waits at most the option's time. */
void dnsbl_ask(struct dnsbl *, struct arena *, const struct dnsbl_question *,
    struct dnsbl_result *);

/*
 * The reply for who is listed: the site's own text is asked for, and what of it
 * is printable put behind ours.
 */
const char *dnsbl_reply(struct arena *, const struct dnsbl_result *);

/*
 * Asks, and decides as the options say.  False: it is not for the lists to
 * decide; decision->why may tell more.
 */
bool dnsbl_decide(struct dnsbl *, struct arena *,
    const struct dnsbl_question *, struct policy_decision *);

/* Appends a line for each list: its state. */
void dnsbl_show(struct dnsbl *, struct buf *);

/* The same, with what each says of an address or domain. */
void dnsbl_show_of(struct dnsbl *, const char *subject, struct buf *);

#endif
