/*
 * The signatures of an ARC chain (RFC 8617, 5.2), verified without asking DNS:
 * the caller gives the keys.
 */
#ifndef FILTERS_ARC_CHECK_H
#define FILTERS_ARC_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arc_check;
struct arc_sets;
struct arena;
struct dkim_key_cache;
struct dkim_signature;
struct headers;

/*
 * Begins at the end of the header, of which it hashes what it needs and keeps
 * nothing; the sets must stay.  RSA keys have minimum_bits at least.
 */
struct arc_check *arc_check_new(struct arena *, struct arc_sets *,
    const struct headers *, struct dkim_key_cache *, int64_t minimum_bits);
void arc_check_free(struct arc_check **);

/* The nth signature that needs its key, from 0; NULL: no more. */
struct dkim_signature *arc_check_signature(const struct arc_check *,
    size_t n);

/* Gives a signature's key.  If there is none, set its result instead. */
void arc_check_key(struct arc_check *, struct dkim_signature *,
    const char *record, size_t len);

/* Hashes a piece of the body for all sets in one pass. */
void arc_check_body(struct arc_check *, const char *bytes, size_t len);

/*
 * When all is there: verifies one set, the last first.  False: all is done.
 * (A step is a few hundred microseconds at most.)
 */
bool arc_check_step(struct arc_check *);

/*
 * "none", "pass", "fail", or "temperror" if only the answers of DNS are
 * missing; why is NULL for the first two.
 */
struct arc_verdict {
	const char *result, *why;
	size_t oldest;			/* 5.2, step 5: oldest-pass */
};

struct arc_verdict arc_check_verdict(const struct arc_check *);

#endif
