/* Verifying an ARC chain (RFC 8617, 5.2). */
#include "filters/arc_check.h"

#include <string.h>

#include "base/arena.h"
#include "filters/arc_set.h"
#include "filters/dkim_check.h"
#include "filters/dkim_fields.h"

struct arc_check {
	struct arena *arena;
	struct arc_sets *sets;
	struct dkim_key_cache *cache;
	int64_t minimum_bits;
	/* Two for each set: the seal, then the message's. */
	struct dkim_check parts[2 * ARC_SETS_MAX];
	struct dkim_bodies *bodies;
	size_t left;			/* sets to verify */
	bool messages_pass;		/* of all sets so far */
	bool done;
	struct arc_verdict verdict;
};

/*
 * 5.1.1: a seal signs all sets up to its own, from the first on, in the order
 * results, message, seal; so the hash goes on from set to set.
 */
static void
hash_seal(struct dkim_check *part, EVP_MD_CTX *chain, const struct arc_set *set)
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
begin_sets(struct arc_check *check, const struct headers *headers)
{
	struct dkim_fields *fields = dkim_fields_new(check->arena, headers);
	EVP_MD_CTX *chain = dkim_hash_new(false);

	for (size_t i = 0; i < check->sets->count; i++) {
		struct arc_set *set = &check->sets->sets[i];
		struct dkim_check *seal = &check->parts[2 * i], *message = seal + 1;

		seal->signature = &set->seal_signature;
		message->signature = &set->message_signature;
		hash_seal(seal, chain, set);
		if (message->signature->result == NULL)
			dkim_check_message(message, message->signature,
			    fields, set->message, check->bodies);
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
	check->bodies = dkim_bodies_new(arena);
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
		dkim_check_release(&check->parts[i]);
	dkim_bodies_free(&check->bodies);
}

struct dkim_signature *
arc_check_signature(const struct arc_check *check, size_t n)
{
	return n < 2 * check->left ? check->parts[n].signature : NULL;
}

void
arc_check_key(struct arc_check *check, struct dkim_signature *signature,
    const char *record, size_t len)
{
	dkim_signature_check_key(signature, record, len);
	for (size_t n = 0; n < 2 * ARC_SETS_MAX; n++)
		if (check->parts[n].signature == signature &&
		    signature->result == NULL)
			dkim_check_key(&check->parts[n], check->cache,
			    check->minimum_bits, record, len);
}

void
arc_check_body(struct arc_check *check, const char *bytes, size_t len)
{
	dkim_bodies_add(check->bodies, bytes, len);
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
	struct dkim_check *seal, *message;

	if (check->done)
		return false;
	if (i == 0)
		return decide(check, check->verdict.why != NULL ?
		    "temperror" : "pass", check->verdict.why);
	seal = &check->parts[2 * (i - 1)];
	message = seal + 1;
	/* Step 5: of the older ones one may fail, which tells how far back. */
	if (check->messages_pass) {
		dkim_check_verify(message);
		if (i == check->sets->count && !require(check,
		    message->signature, "signature", i))
			return false;
		if (strcmp(message->signature->result, "pass") != 0) {
			check->messages_pass = false;
			check->verdict.oldest = i + 1;
		}
	}
	dkim_check_verify(seal);
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
