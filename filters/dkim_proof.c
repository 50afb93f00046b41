/*
 * The header's hash and its signature (RFC 6376, 3.7, 5.4.2; RFC 8463).  The
 * body's hash is the library's.
 */
#include "filters/dkim_proof.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "filters/dkim_canon.h"
#include "filters/dkim_signature.h"
#include "filters/mail.h"

#define HASH_SIZE 32

struct dkim_proof {
	struct arena *arena;
	bool ed25519;
	unsigned char hash[HASH_SIZE];
	const unsigned char *signature, *body_hash;
	size_t len, body_hash_len;
};

static bool
is_misread(const struct tag_list *tags)
{
	for (size_t i = 0; i < tags->count; i++) {
		const struct tag *tag = &tags->tags[i];

		if (tag->name[tag->name_len - 1] == 'b' &&
		    (tag->name_len > 1 || tag->name[1] != '='))
			return true;
	}
	return false;
}

/* Relaxed unless c= is simple, or is not there. */
static bool
is_relaxed(const struct tag_list *tags)
{
	static const char word[] = "relaxed";
	const struct tag *c = tag_list_find(tags, "c");
	size_t len = sizeof(word) - 1;

	return c != NULL && c->len >= len &&
	    strncasecmp(c->value, word, len) == 0;
}

static void
hash_field(EVP_MD_CTX *hash, bool relaxed, const struct header *header)
{
	struct buf canonical = BUF_INIT;

	dkim_canon_field(&canonical, relaxed, header->raw, header->len,
	    header->name_len);
	EVP_DigestUpdate(hash, canonical.data, canonical.len);
	buf_release(&canonical);
}

/* RFC 6376, 5.4.2: each name takes the last field of it not yet taken. */
static void
hash_fields(struct arena *arena, EVP_MD_CTX *hash, bool relaxed,
    const struct headers *headers, const struct header *own,
    const char *names)
{
	bool *taken = arena_alloc(arena, headers->count * sizeof(*taken) + 1);
	size_t len, i;

	for (; *names != '\0'; names += len + (names[len] == ':')) {
		len = strcspn(names, ":");
		i = headers->count;
		for (const struct header *h = headers->last; h != NULL;
		    h = h->previous) {
			if (taken[--i] || h->hidden || h == own ||
			    h->name_len != len ||
			    strncasecmp(h->raw, names, len) != 0)
				continue;
			taken[i] = true;
			hash_field(hash, relaxed, h);
			break;
		}
	}
}

/* 3.5: the value of b= and all white space around it is left out. */
static void
hash_own(EVP_MD_CTX *hash, bool relaxed, const struct header *own,
    const struct tag *b)
{
	const char *end = own->raw + own->len, *rest = b->value + b->len;
	const char *equals = memchr(b->name, '=',
	    (size_t)(end - b->name));
	struct buf field = BUF_INIT, canonical = BUF_INIT;

	while (rest < end - 2 && strchr(" \t\r\n", *rest) != NULL)
		rest++;
	buf_append(&field, own->raw, (size_t)(equals + 1 - own->raw));
	buf_append(&field, rest, (size_t)(end - rest));
	dkim_canon_field(&canonical, relaxed, field.data, field.len,
	    own->name_len);
	/* 3.7: without the last CRLF. */
	EVP_DigestUpdate(hash, canonical.data, canonical.len - 2);
	buf_release(&field);
	buf_release(&canonical);
}

/* The bytes of a tag in base64, white space in it or not; NULL: it is none. */
static const unsigned char *
decode(struct arena *arena, const struct tag *tag, size_t *len)
{
	EVP_ENCODE_CTX *base64 = EVP_ENCODE_CTX_new();
	unsigned char *bytes = arena_alloc(arena, tag->len + 4);
	int n = 0, last = 0, rc;

	if (base64 == NULL)
		fatal("dkim: out of memory");
	EVP_DecodeInit(base64);
	rc = EVP_DecodeUpdate(base64, bytes, &n,
	    (const unsigned char *)tag->value, (int)tag->len);
	if (rc != -1)
		rc = EVP_DecodeFinal(base64, bytes + n, &last);
	EVP_ENCODE_CTX_free(base64);
	*len = (size_t)(n + last);
	return rc == -1 ? NULL : bytes;
}

struct dkim_proof *
dkim_proof_new(struct arena *arena, const struct headers *headers,
    const struct header *field, const struct dkim_signature *signature)
{
	const char *value = field->raw + field->name_len, *why;
	struct dkim_proof *proof;
	struct tag_list tags;
	const struct tag *b, *bh;
	EVP_MD_CTX *hash;

	value = (const char *)memchr(value, ':', field->len -
	    field->name_len) + 1;
	if (tag_list_parse(&tags, value, field->len -
	    (size_t)(value - field->raw), &why) == -1 || !is_misread(&tags) ||
	    strcmp(signature->algorithm, "rsa-sha1") == 0 ||
	    (b = tag_list_find(&tags, "b")) == NULL ||
	    (bh = tag_list_find(&tags, "bh")) == NULL)
		return NULL;
	proof = arena_alloc(arena, sizeof(*proof));
	proof->arena = arena;
	proof->ed25519 = strcmp(signature->algorithm, "ed25519-sha256") == 0;
	proof->signature = decode(arena, b, &proof->len);
	proof->body_hash = decode(arena, bh, &proof->body_hash_len);
	if (proof->signature == NULL || proof->body_hash == NULL)
		return NULL;
	hash = EVP_MD_CTX_new();
	if (hash == NULL || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
		fatal("dkim: no SHA-256");
	hash_fields(arena, hash, is_relaxed(&tags), headers, field,
	    signature->signed_fields);
	hash_own(hash, is_relaxed(&tags), field, b);
	EVP_DigestFinal_ex(hash, proof->hash, NULL);
	EVP_MD_CTX_free(hash);
	return proof;
}

static EVP_PKEY *
key_of(const struct dkim_proof *proof, const char *record, size_t len)
{
	const unsigned char *bytes;
	const struct tag *p;
	struct tag_list tags;
	const char *why;
	size_t size;

	if (tag_list_parse(&tags, record, len, &why) == -1 ||
	    (p = tag_list_find(&tags, "p")) == NULL ||
	    (bytes = decode(proof->arena, p, &size)) == NULL)
		return NULL;
	if (proof->ed25519)
		return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL,
		    bytes, size);
	return d2i_PUBKEY(NULL, &bytes, (long)size);
}

/* RFC 8463, 3: Ed25519 signs the hash as if it were the message. */
static bool
verify_ed25519(const struct dkim_proof *proof, EVP_PKEY *key)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool good = context != NULL && EVP_DigestVerifyInit(context, NULL,
	    NULL, NULL, key) == 1 && EVP_DigestVerify(context,
	    proof->signature, proof->len, proof->hash, HASH_SIZE) == 1;

	EVP_MD_CTX_free(context);
	return good;
}

static bool
verify_rsa(const struct dkim_proof *proof, EVP_PKEY *key)
{
	EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
	bool good = context != NULL && EVP_PKEY_is_a(key, "RSA") &&
	    EVP_PKEY_verify_init(context) == 1 &&
	    EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1 &&
	    EVP_PKEY_CTX_set_signature_md(context, EVP_sha256()) == 1 &&
	    EVP_PKEY_verify(context, proof->signature, proof->len,
	    proof->hash, HASH_SIZE) == 1;

	EVP_PKEY_CTX_free(context);
	return good;
}

int
dkim_proof_holds(const struct dkim_proof *proof, const char *record,
    size_t len, const void *body_hash, size_t body_hash_len)
{
	EVP_PKEY *key;
	int bits = 0;

	if (body_hash_len != HASH_SIZE || proof->body_hash_len != HASH_SIZE ||
	    memcmp(body_hash, proof->body_hash, HASH_SIZE) != 0)
		return 0;
	key = key_of(proof, record, len);
	if (key != NULL && (proof->ed25519 ? verify_ed25519(proof, key) :
	    verify_rsa(proof, key)))
		bits = EVP_PKEY_get_bits(key);
	EVP_PKEY_free(key);
	ERR_clear_error();
	return bits;
}
