/*
 * Macros of SPF (RFC 7208, 7).  libspf2's own drop the first character of a
 * value that has no more parts than were asked for ("%{l1r-}" of "joe" gives
 * "oe"), so this is ours.
 */
#ifndef FILTERS_SPF_MACRO_H
#define FILTERS_SPF_MACRO_H

#include <stddef.h>

struct arena;

struct spf_macros {
	const char *sender;		/* s */
	const char *local;		/* l */
	const char *sender_domain;	/* o */
	const char *domain;		/* d: whose record it is */
	const char *address;		/* i */
	const char *version;		/* v: "in-addr" or "ip6" */
	const char *helo;		/* h */
	const char *client_name;	/* p: validated, or "unknown" */
	/* In explanations only; NULL: "unknown". */
	const char *readable_address;	/* c */
	const char *receiver;		/* r */
	const char *time;		/* t: seconds since the epoch */
};

/*
 * What a domain-spec that passed the guard stands for, as a name to look up:
 * lower case, no last dot, shortened from the left to 253 octets.
 */
const char *spf_macro_expand(struct arena *, const char *spec,
    const struct spf_macros *);

/*
 * What an explanation says: printable ASCII, other octets replaced by "?", and
 * at most SPF_TEXT_MAX of them.
 */
const char *spf_macro_text(struct arena *, const char *explanation,
    const struct spf_macros *);
#define SPF_TEXT_MAX 400

#endif
