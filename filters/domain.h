/* Domain names as mail authentication compares them. */
#ifndef FILTERS_DOMAIN_H
#define FILTERS_DOMAIN_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct domain_suffixes;

#define DOMAIN_MAX 253

/*
 * The form in which names are compared and looked up: A-labels, lower case, no
 * last dot.  NULL: this is no domain name (a label is empty or too long, there
 * are other characters than letters, digits, "-" and "_").
 */
const char *domain_normalize(struct arena *, const char *bytes, size_t len);

/* How many labels a normalized name has. */
size_t domain_labels(const char *domain);

/* The name less its first label; NULL when there is but one. */
const char *domain_parent(const char *domain);

/* Whether a name is that domain or below it; both normalized. */
bool domain_is_within(const char *name, const char *domain);

/*
 * The Public Suffix List: that file or the one built into libpsl, whichever is
 * newer.  NULL and *why if there is neither.
 */
struct domain_suffixes *domain_suffixes_load(const char *path,
    const char **why);
void domain_suffixes_free(struct domain_suffixes **);

/*
 * The organizational domain by that list (RFC 7489, 3.2): one label more than
 * the longest public suffix.  A suffix is its own.
 */
const char *domain_organizational(const struct domain_suffixes *,
    const char *domain);

#endif
