/*
 * The author's domain: the From field of RFC 5322, 3.4 and 4.4, with groups
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

#define FROM_DOMAINS_MAX	16
#define FROM_LENGTH_MAX		65536

struct from {
	size_t fields;			/* how many were added */
	size_t count;			/* distinct domains, normalized */
	const char *domains[FROM_DOMAINS_MAX];
	bool too_many;			/* there were more domains */
	const char *why;		/* malformed: how; or NULL */
};

/*
 * Adds a From field's value (folded or not).  A second field is malformed.
 * Starts with a zeroed struct.
 */
void from_add(struct from *, struct arena *, const char *bytes, size_t len);

/* The one domain of a field that is well-formed; NULL: there is no such. */
const char *from_domain(const struct from *);

#endif
