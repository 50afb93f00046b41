/*
 * The authors and their domain: the From field of RFC 5322, 3.4 and 4.4, with groups
 * (RFC 6854) and UTF-8 (RFC 6532).
 *
 * Whoever forges mail writes From fields that programs read differently, so
 * what does not follow the grammar is said to be malformed, and then every
 * domain that a reader could take for the author's is listed.
 */
#ifndef FILTERS_FROM_H
#define FILTERS_FROM_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct headers;

#define FROM_DOMAINS_MAX	16
#define FROM_ADDRESSES_MAX	16
#define FROM_LENGTH_MAX		65536

struct from {
	size_t fields;			/* how many were added */
	size_t count;			/* distinct domains, normalized */
	const char *domains[FROM_DOMAINS_MAX];
	bool too_many;			/* there were more domains */
	/*
	 * What the grammar says are addresses: no comments, quotes only where
	 * they are needed, the domain normalized.
	 */
	size_t address_count;
	const char *addresses[FROM_ADDRESSES_MAX];
	bool broken;			/* against the grammar, or too much */
	const char *why;		/* malformed: how; or NULL */
};

/*
 * Adds a From field's value (folded or not).  A second field is malformed.
 * Starts with a zeroed struct.
 */
void from_add(struct from *, struct arena *, const char *bytes, size_t len);

/* Adds the From fields of a message. */
void from_add_all(struct from *, struct arena *, const struct headers *);

/*
 * An envelope's address in the form of addresses above; NULL: it has none, for
 * the domain is missing or a literal.
 */
const char *from_normalize_address(struct arena *, const char *address);

/* The one domain of a field that is well-formed; NULL: there is no such. */
const char *from_domain(const struct from *);

#endif
