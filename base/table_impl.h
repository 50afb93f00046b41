/* How a table is made; for the table_*.c files only. */
#ifndef BASE_TABLE_IMPL_H
#define BASE_TABLE_IMPL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/table.h"

/* The longest key; what is longer cannot be in a table. */
#define TABLE_KEY_MAX 1024

struct table_entry {
	const char *key, *value;
	unsigned line;
};

/*
 * Open addressing over keys that somebody else holds: glibc's hsearch_r can't
 * grow and tsearch costs an allocation and a cache miss for each level, which
 * shows with a million recipients.  Entries are numbers; zero is free.
 */
struct table_hash {
	uint32_t *slots;
	size_t size, used;		/* size: a power of two, or 0 */
};

typedef bool table_same_f(const void *holder, uint32_t number,
    const void *key, size_t len);

typedef uint32_t table_hash_of_f(const void *holder, uint32_t number);

/* The hash of a key, which the functions below take as "at". */
uint32_t table_hash_bytes(const void *, size_t len);

/* The entry's number, or 0. */
uint32_t table_hash_find(const struct table_hash *hash, uint32_t at,
    table_same_f *same, const void *holder, const void *key, size_t len);

/* Adds a number (not 0); hash_of gives the hash of those there already. */
void table_hash_add(struct table_hash *hash, uint32_t at, uint32_t number,
    table_hash_of_f *hash_of, const void *holder);

/* A network as a key: no padding, so that bytes can be compared. */
struct table_network {
	unsigned char family, length;	/* 4 or 6; bits */
	unsigned char address[16];
};

struct table_networks {
	struct table_network *nets;
	uint32_t *entries;		/* which entry each belongs to */
	size_t count, size;
	struct table_hash hash;
	bool v4[33], v6[129];		/* lengths that occur */
};

enum table_network_text { TABLE_TEXT_OTHER, TABLE_TEXT_NETWORK,
	TABLE_TEXT_BROKEN };

/*
 * Is that text a network?  BROKEN: it is meant as one, but *why.  "10.0.0.1/8"
 * must not be passed over in a list of trusted networks.
 */
enum table_network_text table_network_parse(const char *,
    struct table_network *, const char **why);

/* False if that network is there already. */
bool table_networks_add(struct table_networks *, const struct table_network *,
    uint32_t entry);
/* The entry of the longest prefix, or UINT32_MAX. */
uint32_t table_networks_find(const struct table_networks *,
    const struct sockaddr *);
uint32_t table_networks_find_text(const struct table_networks *,
    const char *address);
void table_networks_release(struct table_networks *);

struct table_patterns;

/* Compiles /pattern/flags and stores it; NULL or why not (static buffer). */
const char *table_patterns_add(struct table_patterns **, const char *pattern,
    const char *flags, uint32_t entry);
/* YES with *entry, NO, or UNKNOWN with *why. */
enum answer table_patterns_find(const struct table_patterns *,
    const char *subject, uint32_t *entry, const char **why);
void table_patterns_free(struct table_patterns **);

struct table_ldap;

/* Takes its description; NULL, and what is wrong is added to errors. */
struct table_ldap *table_ldap_parse(const char *name, const char *text,
    size_t len, struct buf *errors);
/*
 * In a task, which waits for the directory; elsewhere, and of NULL, the answer
 * is UNKNOWN.
 */
enum answer table_ldap_find(struct table_ldap *, const char *key,
    const char **value, const char **why);
void table_ldap_free(struct table_ldap **);

#endif
