/*
 * The look-ups of a message's public keys, all at the same time, while the
 * message goes on arriving.  They may outlive it: nobody waits for them when it
 * ends early.
 */
#ifndef FILTERS_KEY_LOOKUP_H
#define FILTERS_KEY_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

struct arena;
struct dkim_signature;
struct key_lookups;

/* None yet; the deadline is for all that are asked. */
struct key_lookups *key_lookups_new(int64_t deadline);

/* Lets them go; those under way end by themselves. */
void key_lookups_free(struct key_lookups **);

/*
 * Asks for <selector>._domainkey.<domain> for a signature without result, once
 * for each name.  The signature must stay until the look-ups are let go.
 */
void key_lookups_ask(struct key_lookups *, struct dkim_signature *);

typedef void key_lookups_give_f(void *argument, struct dkim_signature *,
    const char *record, size_t len);

/*
 * Waits until all have ended, or the deadline.  Then every signature that asked
 * is given its key, or the result that its absence is.
 */
void key_lookups_take(struct key_lookups *, int64_t deadline,
    key_lookups_give_f *, void *argument);

#endif
