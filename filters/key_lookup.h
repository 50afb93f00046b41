/*
 * The look-ups of a message's public keys, all at the same time, while the
 * message goes on arriving.  They may outlive it: nobody waits for them when it
 * ends early.
 */
#ifndef FILTERS_KEY_LOOKUP_H
#define FILTERS_KEY_LOOKUP_H

#include <stddef.h>
#include <stdint.h>

struct key_lookup;
struct key_lookups;

struct key_lookups *key_lookups_new(int64_t deadline);

/* Lets them go; those under way end by themselves. */
void key_lookups_free(struct key_lookups **);

/* Asks for <selector>._domainkey.<domain>, once for each name. */
struct key_lookup *key_lookup_start(struct key_lookups *,
    const char *selector, const char *domain);

/* Waits until all have ended, or the deadline. */
void key_lookups_wait(struct key_lookups *, int64_t deadline);

/*
 * NULL and the record; or the result that its absence is, temperror or
 * permerror, and *why.
 */
const char *key_lookup_result(const struct key_lookup *, const char **record,
    size_t *len, const char **why);

#endif
