/* RFC 6376, 3.7 and 6.1.3. */
#include "filters/dkim_check.h"

#include <stdbool.h>
#include <string.h>

#include "base/arena.h"
#include "filters/dkim_canon.h"
#include "filters/dkim_fields.h"
#include "filters/dkim_signature.h"

/* A canonical form of the body, and those who hash it. */
struct form {
	struct dkim_canon_body canonical;
	struct dkim_body_hash *first;
	uint64_t len;
	bool ended;
};

struct dkim_body_hash {
	struct form *form;
	struct dkim_body_hash *next;
	struct arena *arena;
	EVP_MD_CTX *context;
	bool sha1, limited;
	uint64_t limit, left;		/* l= */
	const char *text;		/* in base 64, in the end */
};

struct dkim_bodies {
	struct arena *arena;
	struct form *forms[2];		/* simple, relaxed; NULL: unwanted */
};

struct dkim_bodies *
dkim_bodies_new(struct arena *arena)
{
	struct dkim_bodies *bodies = arena_alloc(arena, sizeof(*bodies));

	bodies->arena = arena;
	return bodies;
}

void
dkim_bodies_free(struct dkim_bodies **bodiesp)
{
	struct dkim_bodies *bodies = *bodiesp;
	struct dkim_body_hash *hash;

	*bodiesp = NULL;
	for (size_t i = 0; bodies != NULL && i < 2; i++)
		if (bodies->forms[i] != NULL)
			for (hash = bodies->forms[i]->first; hash != NULL;
			    hash = hash->next)
				EVP_MD_CTX_free(hash->context);
}

static void
put(void *argument, const char *bytes, size_t len)
{
	struct form *form = argument;

	form->len += len;
	for (struct dkim_body_hash *h = form->first; h != NULL; h = h->next) {
		size_t n = !h->limited || len < h->left ? len :
		    (size_t)h->left;

		EVP_DigestUpdate(h->context, bytes, n);
		h->left -= h->limited ? n : 0;
	}
}

static struct dkim_body_hash *
want_body(struct dkim_bodies *bodies, const struct dkim_signature *signature)
{
	struct form **form = &bodies->forms[signature->relaxed_body];
	bool sha1 = dkim_signature_is_sha1(signature);
	struct dkim_body_hash *h;

	if (*form == NULL) {
		*form = arena_alloc(bodies->arena, sizeof(**form));
		dkim_canon_body_begin_to(&(*form)->canonical, put, *form,
		    signature->relaxed_body);
	}
	for (h = (*form)->first; h != NULL; h = h->next)
		if (h->sha1 == sha1 && h->limited == signature->has_length &&
		    h->limit == signature->length)
			return h;
	h = arena_alloc(bodies->arena, sizeof(*h));
	h->form = *form;
	h->arena = bodies->arena;
	h->context = dkim_hash_new(sha1);
	h->sha1 = sha1;
	h->limited = signature->has_length;
	h->limit = h->left = signature->length;
	h->next = (*form)->first;
	(*form)->first = h;
	return h;
}

void
dkim_bodies_add(struct dkim_bodies *bodies, const char *bytes, size_t len)
{
	for (size_t i = 0; i < 2; i++)
		if (bodies->forms[i] != NULL)
			dkim_canon_body_add(&bodies->forms[i]->canonical,
			    bytes, len);
}

static const char *
body_text(struct dkim_body_hash *body)
{
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned len;

	if (!body->form->ended)
		dkim_canon_body_end(&body->form->canonical);
	body->form->ended = true;
	if (body->text == NULL) {
		EVP_DigestFinal_ex(body->context, hash, &len);
		body->text = dkim_base64(body->arena, hash, len);
	}
	return body->text;
}

void
dkim_check_message(struct dkim_check *check, struct dkim_signature *signature,
    struct dkim_fields *fields, const struct header *header,
    struct dkim_bodies *bodies)
{
	EVP_MD_CTX *hash = dkim_hash_new(dkim_signature_is_sha1(signature));

	check->signature = signature;
	dkim_fields_hash(fields, hash, signature);
	dkim_field_hash_own(hash, signature->relaxed_header, header,
	    signature);
	EVP_DigestFinal_ex(hash, check->hash, NULL);
	EVP_MD_CTX_free(hash);
	check->body = want_body(bodies, signature);
}

static void
decide(struct dkim_signature *signature, const char *result,
    const char *reason)
{
	signature->result = result;
	signature->reason = reason;
}

void
dkim_check_key(struct dkim_check *check, struct dkim_key_cache *cache,
    int64_t minimum_bits, const char *record, size_t len)
{
	const char *why;

	check->key = dkim_key_public(cache, record, len, &why);
	if (check->key == NULL)
		decide(check->signature, "permerror", why);
	else if (EVP_PKEY_is_a(check->key, "RSA") &&
	    EVP_PKEY_get_bits(check->key) < minimum_bits)
		decide(check->signature, "policy", "key too small");
}

/* False, and the result, if the body is not the one that was signed. */
static bool
body_holds(const struct dkim_check *check)
{
	struct dkim_signature *signature = check->signature;
	const char *text = body_text(check->body);

	if (signature->has_length &&
	    signature->length > check->body->form->len)
		decide(signature, "fail", "l= exceeds the body");
	else if (strcmp(signature->body_hash, text) != 0)
		decide(signature, "fail", "body hash did not verify");
	return signature->result == NULL;
}

void
dkim_check_verify(struct dkim_check *check)
{
	struct dkim_signature *signature = check->signature;

	if (signature->result != NULL)
		return;
	if (check->key == NULL)
		decide(signature, "temperror", "key unavailable");
	else if (check->body != NULL && !body_holds(check))
		return;
	else if (!dkim_key_verify(check->key,
	    dkim_signature_is_sha1(signature), check->hash,
	    signature->signature))
		decide(signature, "fail", "signature did not verify");
	else if (check->body != NULL && signature->has_length &&
	    signature->length < check->body->form->len)
		decide(signature, "pass", DKIM_PARTIAL_BODY);
	else
		decide(signature, "pass", signature->test ? "test key" : NULL);
}

void
dkim_check_release(struct dkim_check *check)
{
	EVP_PKEY_free(check->key);
	check->key = NULL;
}
