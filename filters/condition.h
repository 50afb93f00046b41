/*
 * Conditions: for which messages a filter is asked at all.  A list of clauses,
 * each a few words:
 *
 *	trusted				the client is in trusted_networks
 *	authenticated, tls		it has logged in; it speaks TLS
 *	listener NAME			it came to that listener
 *	client 192.0.2.0/24		its address, or one network
 *	sender WHO, recipient WHO	a@example.org; example.org; .example.org
 *					(and all below); <>.  One recipient of
 *					several will do
 *	size > 10M, size < 10M		the message, as it came
 *	METHOD = RESULT			spf = pass: a filter before found so
 */
#ifndef FILTERS_CONDITION_H
#define FILTERS_CONDITION_H

#include "base/answer.h"

struct condition;
struct mail;
struct session;

/* How much is known: clauses tell as early as they can. */
enum condition_point {
	CONDITION_SESSION,		/* the client, before MAIL */
	CONDITION_MAIL,			/* and the sender, some recipients */
	CONDITION_DATA,			/* and all recipients */
	CONDITION_END			/* and all of the message */
};

/*
 * From lists ended by NULL: all of only_if must hold, and none of skip_if.
 * 0, and *condition is NULL if both are empty; -1: *why.
 */
int condition_new(const char *const *only_if, const char *const *skip_if,
    struct condition **, const char **why);
void condition_free(struct condition **);

/* Is the filter asked?  UNKNOWN: that cannot be said yet.  NULL: YES. */
enum answer condition_ask(const struct condition *, const struct session *,
    const struct mail *, enum condition_point);

#endif
