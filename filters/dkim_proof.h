/*
 * Such signatures as libopendkim cannot verify: it takes the value of b= out
 * only where no white space stands before the "=" (RFC 6376, 3.2, allows it),
 * and that of other tags whose names end in "b", too.
 */
#ifndef FILTERS_DKIM_PROOF_H
#define FILTERS_DKIM_PROOF_H

#include <stddef.h>

struct arena;
struct dkim_proof;
struct dkim_signature;
struct header;
struct headers;

/*
 * Reads the header now, with the signature's field in it, and keeps no pointer
 * to it.  NULL: the library will do.
 */
struct dkim_proof *dkim_proof_new(struct arena *, const struct headers *,
    const struct header *field, const struct dkim_signature *);

/*
 * Whether the signature is good by this key record, which
 * dkim_signature_check_key() took, and this is the hash of the body that it
 * names: the bits of its key, or 0.
 */
int dkim_proof_holds(const struct dkim_proof *, const char *record,
    size_t len, const void *body_hash, size_t body_hash_len);

#endif
