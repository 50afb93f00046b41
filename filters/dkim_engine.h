/*
 * DKIM (RFC 6376): verifying and signing.  Two engines can verify, OpenSSL with
 * our own code, and libopendkim (dkim_backend.h).  None asks DNS: it names the
 * keys that it needs, and the caller gives them any time before the end of the
 * message.
 */
#ifndef FILTERS_DKIM_ENGINE_H
#define FILTERS_DKIM_ENGINE_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/dkim_signature.h"

struct arena;
struct body;
struct headers;
struct dkim_engine;
struct dkim_verifier;
struct dkim_signer;
struct dkim_signing;

/* --- verifying --- */

/* For any number of messages; the rules are copied.  NULL: *why. */
struct dkim_engine *dkim_engine_new(const struct dkim_rules *,
    const char **why);
void dkim_engine_free(struct dkim_engine **);

/*
 * Begins a message at the end of its header; id is for errors.  Reads the
 * fields now and keeps no pointer to them.
 */
struct dkim_verifier *dkim_verifier_new(struct dkim_engine *, struct arena *,
    const struct headers *, const char *id);
void dkim_verifier_free(struct dkim_verifier **);

/*
 * The signatures in order of their fields.  One whose result is NULL needs its
 * key: the TXT record of <selector>._domainkey.<domain>.
 */
struct dkim_signature *dkim_verifier_signatures(struct dkim_verifier *,
    size_t *count);

/* Gives a signature's key record.  If there is none, set its result instead. */
void dkim_verifier_key(struct dkim_verifier *, struct dkim_signature *,
    const char *record, size_t len);

void dkim_verifier_body(struct dkim_verifier *, const char *bytes, size_t len);

/*
 * When all is there: verifies a signature, which may take a few hundred
 * microseconds.  False: every one has its result; those without a key have
 * temperror.
 */
bool dkim_verifier_step(struct dkim_verifier *);

/* All steps at once. */
void dkim_verifier_eom(struct dkim_verifier *);

/* --- signing --- */

struct dkim_signer_settings {
	const char *key;		/* PEM; NULL: see dkim_signing_by() */
	size_t key_len;
	const char *selector;		/* of this key */
	const char *const *fields;	/* sign those that are there; NULL-ended */
	const char *const *oversign;	/* and one more of these */
	bool relaxed_header, relaxed_body;
	int64_t expire;			/* seconds; 0: never */
};

/* Strings and key are copied.  NULL: *why. */
struct dkim_signer *dkim_signer_new(const struct dkim_signer_settings *,
    const char **why);
void dkim_signer_free(struct dkim_signer **);

/*
 * Begins a message with its header; NULL: *why.  The domain is NULL if the
 * signer has no key.
 */
struct dkim_signing *dkim_signing_new(struct dkim_signer *, struct arena *,
    const struct headers *, const char *domain, const char *id,
    const char **why);

/* Makes it the ARC-Message-Signature of that set (RFC 8617, 4.1.2). */
void dkim_signing_arc(struct dkim_signing *, unsigned instance);
void dkim_signing_body(struct dkim_signing *, const char *bytes, size_t len);

/* All of a body, yielding between pieces.  -1: *why. */
int dkim_signing_feed(struct dkim_signing *, const struct body *,
    const char **why);

/*
 * The value of the DKIM-Signature field, folded with CRLF TAB, in the arena.
 * NULL: *why.
 */
const char *dkim_signing_eom(struct dkim_signing *, const char **why);

/*
 * The same by another key, any number of times: the message is hashed once for
 * all of them.  No body may follow.
 */
struct dkim_signing_key {
	const char *domain, *selector;
	EVP_PKEY *key;			/* dkim_key_private() */
};

const char *dkim_signing_by(struct dkim_signing *,
    const struct dkim_signing_key *, const char **why);
void dkim_signing_free(struct dkim_signing **);

/* For ARC-Seal: b= for a hash (SHA-256), folded, or NULL and *why; and a=. */
const char *dkim_signer_seal(const struct dkim_signer *, struct arena *,
    const unsigned char *hash, const char **why);
const char *dkim_signer_algorithm(const struct dkim_signer *);

#endif
