/*
 * The fields of a header as signatures name them in h=, and their canonical
 * form in a hash (RFC 6376, 3.7 and 5.4.2).
 */
#ifndef FILTERS_DKIM_FIELDS_H
#define FILTERS_DKIM_FIELDS_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

struct arena;
struct dkim_signature;
struct header;
struct headers;

/* An index, in the arena: any number of signatures take fields from it. */
struct dkim_fields;

struct dkim_fields *dkim_fields_new(struct arena *, const struct headers *);

/* Hashes what a signature's h= names: of one name, the lowest first. */
void dkim_fields_hash(struct dkim_fields *, EVP_MD_CTX *,
    const struct dkim_signature *);

/* Hashes one field. */
void dkim_field_hash(EVP_MD_CTX *, bool relaxed, const struct header *);

/* Hashes a signature's own field: what b= holds, and the last CRLF, left out. */
void dkim_field_hash_own(EVP_MD_CTX *, bool relaxed, const struct header *,
    const struct dkim_signature *);

#endif
