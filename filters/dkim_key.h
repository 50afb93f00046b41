/*
 * Keys and signatures of DKIM and ARC on OpenSSL (RFC 6376, 3.3; RFC 8463).
 * All hashes are SHA-256, but where rsa-sha1 is verified.
 */
#ifndef FILTERS_DKIM_KEY_H
#define FILTERS_DKIM_KEY_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

struct arena;

#define DKIM_HASH_SIZE 32
#define DKIM_RSA_BITS_MAX 8192

/* A hash that begins; EVP_MD_CTX_free() ends it. */
EVP_MD_CTX *dkim_hash_new(bool sha1);

/* Base 64 without line breaks. */
const char *dkim_base64(struct arena *, const unsigned char *bytes,
    size_t len);

/* --- private keys --- */

/* RSA or Ed25519, in PEM; EVP_PKEY_free() ends it.  NULL: *why. */
EVP_PKEY *dkim_key_private(const char *pem, size_t len, const char **why);

/* The name in a=. */
const char *dkim_key_algorithm(const EVP_PKEY *);

/*
 * The signature of a hash in base 64, folded with CRLF TAB, in the arena.
 * NULL: *why.
 */
const char *dkim_key_sign(EVP_PKEY *, struct arena *,
    const unsigned char hash[DKIM_HASH_SIZE], const char **why);

/* --- public keys --- */

/*
 * Keeps keys that were parsed: that takes longer than to verify a signature.
 * They are kept by the text of their records, which the caller has from DNS
 * each time, so that none can be out of date.  A thousand at most.
 */
struct dkim_key_cache;

struct dkim_key_cache *dkim_key_cache_new(void);
void dkim_key_cache_free(struct dkim_key_cache **);

/*
 * The key in a record that dkim_signature_check_key() has let pass; the caller
 * frees it by EVP_PKEY_free().  NULL: *why.
 */
EVP_PKEY *dkim_key_public(struct dkim_key_cache *, const char *record,
    size_t len, const char **why);

/*
 * Whether b=, in base 64 without white space, is the signature of the hash,
 * which is SHA-1's if so told.
 */
bool dkim_key_verify(EVP_PKEY *, bool sha1,
    const unsigned char hash[DKIM_HASH_SIZE], const char *base64);

#endif
