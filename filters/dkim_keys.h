/* The private keys of a key table (base/key_table.h): whose mail they sign. */
#ifndef FILTERS_DKIM_KEYS_H
#define FILTERS_DKIM_KEYS_H

#include <stddef.h>

struct arena;
struct conf;
struct dkim_keys;
struct dkim_signing_key;
struct key_table;

/*
 * Parses each key once; the table must live as long.  NULL: *why, with the
 * table's name and line, good until the next call.
 */
struct dkim_keys *dkim_keys_new(const struct conf *, const struct key_table *,
    const char **why);
void dkim_keys_free(struct dkim_keys **);

/* Who a message is from. */
struct dkim_keys_from {
	const char *user;		/* authenticated as, or NULL */
	const char *author;		/* local@domain, @domain or NULL */
	const char *sender;		/* of the envelope, "" or NULL */
	int day;			/* key_table_day() */
};

/*
 * The keys of the most specific pattern that has some on this day: the user,
 * then the author's address, its domain and those above it, then the sender's
 * likewise.  An array in the arena; NULL: none.
 */
const struct dkim_signing_key *dkim_keys_find(const struct dkim_keys *,
    struct arena *, const struct dkim_keys_from *, size_t *count);

#endif
