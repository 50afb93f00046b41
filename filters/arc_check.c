/* Verifying an ARC chain (RFC 8617, 5.2). */
#include "filters/arc_check.h"

#include <string.h>

#include "base/arena.h"
#include "filters/arc_set.h"
#include "filters/dkim_canon.h"
#include "filters/dkim_fields.h"
#include "filters/dkim_key.h"

/* Two for each set: the seal, then the message's. */
struct part {
	struct dkim_signature *signature;
	unsigned char hash[DKIM_HASH_SIZE];	/* what b= signs */
	EVP_PKEY *key;
};

/* A body in one of its two canonical forms. */
struct body_hash {
	EVP_MD_CTX *context;		/* NULL: nobody wants it */
	struct dkim_canon_body body;
	const char *text;		/* in base 64, in the end */
};

struct arc_check {
	struct arena *arena;
	struct arc_sets *sets;
	struct dkim_key_cache *cache;
	int64_t minimum_bits;
	struct part parts[2 * ARC_SETS_MAX];
	struct body_hash bodies[2];	/* simple, relaxed */
	size_t left;			/* sets to verify */
	bool messages_pass;		/* of all sets so far */
	bool done;
	struct arc_verdict verdict;
};

static void
hash_message(struct part *part, struct dkim_fields *fields,
    const struct header *header)
{
	EVP_MD_CTX *hash = dkim_hash_new();

	dkim_fields_hash(fields, hash, part->signature);
	dkim_field_hash_own(hash, part->signature->relaxed_header, header,
	    part->signature);
	EVP_DigestFinal_ex(hash, part->hash, NULL);
	EVP_MD_CTX_free(hash);
}

/*
 * 5.1.1: a seal signs all sets up to its own, from the first on, in the order
 * results, message, seal; so the hash goes on from set to set.
 */
static void
hash_seal(struct part *part, EVP_MD_CTX *chain, const struct arc_set *set)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();

	dkim_field_hash(chain, true, set->results);
	dkim_field_hash(chain, true, set->message);
	if (part->signature->result == NULL && hash != NULL &&
	    EVP_MD_CTX_copy_ex(hash, chain) == 1) {
		dkim_field_hash_own(hash, true, set->seal, part->signature);
		EVP_DigestFinal_ex(hash, part->hash, NULL);
	}
	dkim_field_hash(chain, true, set->seal);
	EVP_MD_CTX_free(hash);
}

static void
want_body(struct arc_check *check, bool relaxed)
{
	struct body_hash *body = &check->bodies[relaxed];

	if (body->context != NULL)
		return;
	body->context = dkim_hash_new();
	dkim_canon_body_begin(&body->body, body->context, relaxed);
}

static void
begin_sets(struct arc_check *check, const struct headers *headers)
{
	struct dkim_fields *fields = dkim_fields_new(check->arena, headers);
	EVP_MD_CTX *chain = dkim_hash_new();

	for (size_t i = 0; i < check->sets->count; i++) {
		struct arc_set *set = &check->sets->sets[i];
		struct part *seal = &check->parts[2 * i], *message = seal + 1;

		seal->signature = &set->seal_signature;
		message->signature = &set->message_signature;
		hash_seal(seal, chain, set);
		if (message->signature->result != NULL)
			continue;
		hash_message(message, fields, set->message);
		want_body(check, message->signature->relaxed_body);
	}
	EVP_MD_CTX_free(chain);
}

static bool
decide(struct arc_check *check, const char *result, const char *why)
{
	check->verdict.result = result;
	check->verdict.why = why;
	check->done = true;
	return false;
}

struct arc_check *
arc_check_new(struct arena *arena, struct arc_sets *sets,
    const struct headers *headers, struct dkim_key_cache *cache,
    int64_t minimum_bits)
{
	struct arc_check *check = arena_alloc(arena, sizeof(*check));

	check->arena = arena;
	check->sets = sets;
	check->cache = cache;
	check->minimum_bits = minimum_bits;
	check->messages_pass = true;
	if (sets->why != NULL)
		decide(check, "fail", sets->why);
	else if (sets->count == 0)
		decide(check, "none", NULL);
	else {
		check->left = sets->count;
		begin_sets(check, headers);
	}
	return check;
}

void
arc_check_free(struct arc_check **checkp)
{
	struct arc_check *check = *checkp;

	*checkp = NULL;
	if (check == NULL)
		return;
	for (size_t i = 0; i < 2 * ARC_SETS_MAX; i++)
		EVP_PKEY_free(check->parts[i].key);
	for (size_t i = 0; i < 2; i++)
		EVP_MD_CTX_free(check->bodies[i].context);
}

struct dkim_signature *
arc_check_signature(const struct arc_check *check, size_t n)
{
	return n < 2 * check->left ? check->parts[n].signature : NULL;
}

void
arc_check_key(struct arc_check *check, size_t n, const char *record,
    size_t len)
{
	struct part *part = &check->parts[n];
	struct dkim_signature *signature = part->signature;

	dkim_signature_check_key(signature, record, len);
	if (signature->result != NULL)
		return;
	part->key = dkim_key_public(check->cache, record, len,
	    &signature->reason);
	if (part->key == NULL)
		signature->result = "permerror";
	else if (EVP_PKEY_is_a(part->key, "RSA") &&
	    EVP_PKEY_get_bits(part->key) < check->minimum_bits) {
		signature->result = "policy";
		signature->reason = "key too small";
	}
}

void
arc_check_body(struct arc_check *check, const char *bytes, size_t len)
{
	for (size_t i = 0; i < 2; i++)
		if (check->bodies[i].context != NULL)
			dkim_canon_body_add(&check->bodies[i].body, bytes,
			    len);
}

static const char *
body_text(struct arc_check *check, bool relaxed)
{
	struct body_hash *body = &check->bodies[relaxed];
	unsigned char hash[DKIM_HASH_SIZE];

	if (body->text == NULL) {
		dkim_canon_body_end(&body->body);
		EVP_DigestFinal_ex(body->context, hash, NULL);
		body->text = dkim_base64(check->arena, hash, sizeof(hash));
	}
	return body->text;
}

/* Gives a signature its result. */
static void
verify(struct arc_check *check, struct part *part, bool message)
{
	struct dkim_signature *signature = part->signature;

	if (signature->result != NULL)
		return;
	signature->result = "fail";
	if (part->key == NULL) {
		signature->result = "temperror";
		signature->reason = "the key is missing";
	} else if (message && strcmp(signature->body_hash, body_text(check,
	    signature->relaxed_body)) != 0)
		signature->reason = "the body was changed";
	else if (!dkim_key_verify(part->key, part->hash,
	    signature->signature))
		signature->reason = "wrong signature";
	else
		signature->result = "pass";
}

/*
 * What a signature that must pass contributes.  A chain that fails for sure
 * fails, whatever DNS may yet say of the other signatures.
 */
static bool
require(struct arc_check *check, const struct dkim_signature *signature,
    const char *what, size_t number)
{
	const char *why;

	if (strcmp(signature->result, "pass") == 0)
		return true;
	why = arena_printf(check->arena, "%s %zu: %s", what, number,
	    signature->reason);
	if (strcmp(signature->result, "temperror") != 0)
		return decide(check, "fail", why);
	if (check->verdict.why == NULL)
		check->verdict.why = why;
	return true;
}

bool
arc_check_step(struct arc_check *check)
{
	size_t i = check->left;
	struct part *seal, *message;

	if (check->done)
		return false;
	if (i == 0)
		return decide(check, check->verdict.why != NULL ?
		    "temperror" : "pass", check->verdict.why);
	seal = &check->parts[2 * (i - 1)];
	message = seal + 1;
	/* Step 5: of the older ones one may fail, which tells how far back. */
	if (check->messages_pass) {
		verify(check, message, true);
		if (i == check->sets->count && !require(check,
		    message->signature, "signature", i))
			return false;
		if (strcmp(message->signature->result, "pass") != 0) {
			check->messages_pass = false;
			check->verdict.oldest = i + 1;
		}
	}
	verify(check, seal, false);
	if (!require(check, seal->signature, "seal", i))
		return false;
	check->left--;
	return true;
}

struct arc_verdict
arc_check_verdict(const struct arc_check *check)
{
	return check->verdict;
}
