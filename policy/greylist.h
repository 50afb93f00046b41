/*
 * Greylisting: who sends to a recipient for the first time from a network is
 * asked to come back later, which a mail server does and most malware does not.
 *
 * A sender is known by the client's network (or by what it authenticated as),
 * the sender's domain and the recipient, so that the pools of large senders
 * pass once.  A network that has passed several times is let through.
 */
#ifndef POLICY_GREYLIST_H
#define POLICY_GREYLIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/answer.h"
#include "base/option.h"

struct buf;
struct conf;
struct greylist;
struct policy_service;
struct store;

enum greylist_sender { GREYLIST_SENDER_DOMAIN, GREYLIST_SENDER_ADDRESS };

#define GREYLIST_OPTIONS(ROW, o)					\
	ROW(o, delay, duration, "5m", "1s", "1d",			\
	    "How long a stranger has to wait before it comes back.")	\
	ROW(o, retry_window, duration, "2d", "1m", "30d",		\
	    "How late it may come back and still be remembered.")	\
	ROW(o, lifetime, duration, "36d", "1h", "1000d",		\
	    "How long one that has passed is known, since its last mail.") \
	ROW(o, ipv4_prefix, number, "24", "8", "32",			\
	    "Clients whose addresses share so many bits are one network.") \
	ROW(o, ipv6_prefix, number, "64", "16", "128",			\
	    "The same for IPv6.")					\
	ROW(o, sender, choice, "domain", "domain|address", NULL,	\
	    "What of the sender counts: its domain, or all of it.")	\
	ROW(o, auto_whitelist, number, "5", "0", "1000000",		\
	    "A network that has passed so often is let through; 0: none is.") \
	ROW(o, exempt, table, NULL, NULL, NULL,				\
	    "Clients never asked to wait: networks, and domains of confirmed " \
	    "names of clients (\"mx.example.org\", \".example.org\").")	\
	ROW(o, message, string, "Greylisted", NULL, NULL,		\
	    "What the client hears; \", try again in N seconds\" follows.")

struct greylist_options { GREYLIST_OPTIONS(OPTION_FIELD, greylist_options) };

extern const struct section_kind greylist_section;

extern const struct policy_service greylist_service;

/* Strings may be NULL where nothing is known. */
struct greylist_request {
	const char *identity;		/* what the client authenticated as */
	const char *client_address;	/* "192.0.2.1" */
	const char *client_name;	/* confirmed by DNS */
	const char *sender, *recipient;
};

/*
 * Keys of records: the triplet's (since when it waits; when it last passed, 0 if
 * never) and its network's (how many triplets passed; when last).
 */
#define GREYLIST_KEY_SIZE 128
struct greylist_keys { char triplet[GREYLIST_KEY_SIZE],
	network[GREYLIST_KEY_SIZE]; };

/* The options are those of conf; conf and store must live as long as it. */
struct greylist *greylist_new(const struct conf *, struct store *);
void greylist_free(struct greylist **);

/*
 * Has this one waited long enough?  YES: let it in.  NO: it must come back, in
 * *wait_ms at the earliest.  UNKNOWN: cannot be told.  *why, which lasts until
 * the next call, says more.  In a task.
 */
enum answer greylist_check(struct greylist *, const struct greylist_request *,
    int64_t *wait_ms, const char **why);

/* What it is known by; false: there is neither identity nor address. */
bool greylist_keys_find(const struct greylist *,
    const struct greylist_request *, struct greylist_keys *);
const struct greylist_options *greylist_options(const struct greylist *);

#endif
