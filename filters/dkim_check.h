/*
 * Signatures of DKIM and of ARC being verified on OpenSSL: what of it both have
 * in common.
 */
#ifndef FILTERS_DKIM_CHECK_H
#define FILTERS_DKIM_CHECK_H

#include <openssl/evp.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/dkim_key.h"

struct arena;
struct dkim_fields;
struct dkim_signature;
struct header;

/* The hashes of one body, made in one pass. */
struct dkim_bodies;
struct dkim_body_hash;

struct dkim_bodies *dkim_bodies_new(struct arena *);
void dkim_bodies_free(struct dkim_bodies **);
void dkim_bodies_add(struct dkim_bodies *, const char *bytes, size_t len);

struct dkim_check {
	struct dkim_signature *signature;
	unsigned char hash[DKIM_HASH_SIZE];	/* what b= signs */
	struct dkim_body_hash *body;	/* NULL: it signs none (ARC-Seal) */
	EVP_PKEY *key;
};

/*
 * Begins with a signature's own field and those in its h=, of which it keeps
 * nothing.  Signatures with the same hash, canonical form and l= share the
 * work on the body.
 */
void dkim_check_message(struct dkim_check *, struct dkim_signature *,
    struct dkim_fields *, const struct header *, struct dkim_bodies *);

/*
 * Gives its key, which dkim_signature_check_key() has let pass; may set the
 * result.
 */
void dkim_check_key(struct dkim_check *, struct dkim_key_cache *,
    int64_t minimum_bits, const char *record, size_t len);

/* Gives a signature without result its own.  The body must be complete. */
void dkim_check_verify(struct dkim_check *);
void dkim_check_release(struct dkim_check *);

#endif
