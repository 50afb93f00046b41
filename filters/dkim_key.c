/* Keys and signatures on OpenSSL (RFC 6376, 3.3; RFC 8301; RFC 8463). */
#include "filters/dkim_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "filters/dkim_signature.h"

#define RSA_BITS_MIN 1024	/* RFC 8301, 3.2 */
#define SIGNATURE_MAX (DKIM_RSA_BITS_MAX / 8)
#define LINE_LENGTH 66
#define ED25519_SIZE 32
#define SHA1_SIZE 20
#define CACHE_SETS 256
#define CACHE_WAYS 4
#define EXPONENT_BITS_MAX 64
#define RECORD_MAX 1024		/* as dkim_signature.c has it */

EVP_MD_CTX *
dkim_hash_new(bool sha1)
{
	EVP_MD_CTX *hash = EVP_MD_CTX_new();

	if (hash == NULL || EVP_DigestInit_ex(hash, sha1 ? EVP_sha1() :
	    EVP_sha256(), NULL) != 1)
		fatal("dkim: no SHA-256 or SHA-1");
	return hash;
}

const char *
dkim_base64(struct arena *arena, const unsigned char *bytes, size_t len)
{
	unsigned char *text = arena_alloc(arena, (len + 2) / 3 * 4 + 1);

	EVP_EncodeBlock(text, bytes, (int)len);
	return (const char *)text;
}

/* An encrypted key: never ask the terminal for its pass phrase. */
static int
no_pass_phrase(char *text, int size, int writing, void *argument)
{
	(void)text;
	(void)size;
	(void)writing;
	(void)argument;
	return -1;
}

static bool
is_rsa(const EVP_PKEY *key)
{
	return EVP_PKEY_is_a(key, "RSA");
}

EVP_PKEY *
dkim_key_private(const char *pem, size_t len, const char **why)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)len);
	EVP_PKEY *key = NULL;

	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);
	BIO_free(bio);
	ERR_clear_error();
	*why = NULL;
	if (key == NULL)
		*why = "the key is not a private key in PEM";
	else if (EVP_PKEY_is_a(key, "ED25519"))
		return key;
	else if (!is_rsa(key))
		*why = "the key is neither RSA nor Ed25519";
	else if (EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
		*why = "the RSA key has less than 1024 bits";
	else if (EVP_PKEY_get_bits(key) > DKIM_RSA_BITS_MAX)
		*why = "the RSA key has more than 8192 bits";
	if (*why == NULL)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

const char *
dkim_key_algorithm(const EVP_PKEY *key)
{
	return is_rsa(key) ? "rsa-sha256" : "ed25519-sha256";
}

static EVP_PKEY_CTX *
rsa_begin(EVP_PKEY *key, bool sha1, int (*init)(EVP_PKEY_CTX *))
{
	EVP_PKEY_CTX *rsa = EVP_PKEY_CTX_new(key, NULL);

	if (rsa != NULL && init(rsa) == 1 &&
	    EVP_PKEY_CTX_set_rsa_padding(rsa, RSA_PKCS1_PADDING) == 1 &&
	    EVP_PKEY_CTX_set_signature_md(rsa, sha1 ? EVP_sha1() :
	    EVP_sha256()) == 1)
		return rsa;
	EVP_PKEY_CTX_free(rsa);
	return NULL;
}

/* RFC 8463, 3: Ed25519 signs the hash as if it were the message. */
static bool
sign_hash(EVP_PKEY *key, const unsigned char *hash, unsigned char *signature,
    size_t *len)
{
	EVP_PKEY_CTX *rsa;
	EVP_MD_CTX *ed25519;
	bool good;

	if (!is_rsa(key)) {
		ed25519 = EVP_MD_CTX_new();
		good = ed25519 != NULL && EVP_DigestSignInit(ed25519, NULL,
		    NULL, NULL, key) == 1 && EVP_DigestSign(ed25519,
		    signature, len, hash, DKIM_HASH_SIZE) == 1;
		EVP_MD_CTX_free(ed25519);
		return good;
	}
	rsa = rsa_begin(key, false, EVP_PKEY_sign_init);
	good = rsa != NULL &&
	    EVP_PKEY_sign(rsa, signature, len, hash, DKIM_HASH_SIZE) == 1;
	EVP_PKEY_CTX_free(rsa);
	return good;
}

const char *
dkim_key_sign(EVP_PKEY *key, struct arena *arena,
    const unsigned char hash[DKIM_HASH_SIZE], const char **why)
{
	unsigned char signature[SIGNATURE_MAX];
	size_t len = sizeof(signature);
	struct buf folded = BUF_INIT;
	const char *b;

	if (!sign_hash(key, hash, signature, &len)) {
		ERR_clear_error();
		*why = "OpenSSL cannot sign";
		return NULL;
	}
	b = dkim_base64(arena, signature, len);
	for (size_t left = strlen(b), n; left > 0; left -= n, b += n) {
		n = left < LINE_LENGTH ? left : LINE_LENGTH;
		buf_append(&folded, b, n);
		if (n < left)
			buf_puts(&folded, "\r\n\t");
	}
	b = arena_strndup(arena, folded.data, folded.len);
	buf_release(&folded);
	return b;
}

/* Public keys */

struct entry {
	uint64_t hash;
	size_t len;
	char *record;
	EVP_PKEY *key;
	uint64_t used;
};

struct dkim_key_cache {
	struct entry entries[CACHE_SETS][CACHE_WAYS];
	uint64_t clock;
};

struct dkim_key_cache *
dkim_key_cache_new(void)
{
	struct dkim_key_cache *cache = calloc(1, sizeof(*cache));

	if (cache == NULL)
		fatal("dkim: out of memory");
	return cache;
}

static void
entry_release(struct entry *entry)
{
	EVP_PKEY_free(entry->key);
	free(entry->record);
	*entry = (struct entry){ 0 };
}

void
dkim_key_cache_free(struct dkim_key_cache **cachep)
{
	struct dkim_key_cache *cache = *cachep;

	*cachep = NULL;
	if (cache == NULL)
		return;
	for (size_t i = 0; i < CACHE_SETS * CACHE_WAYS; i++)
		entry_release(&cache->entries[i / CACHE_WAYS][i % CACHE_WAYS]);
	free(cache);
}

/* FNV-1a.  Who finds collisions does but push keys out of the cache. */
static uint64_t
hash_of(const char *bytes, size_t len)
{
	uint64_t hash = 14695981039346656037u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
	return hash;
}

/* Decodes base 64 with white space in it; -1 if it is none or too long. */
static int
decode(const char *text, size_t len, unsigned char *to, size_t size)
{
	char compact[2 * RECORD_MAX];
	size_t n = 0, padding = 0;
	int decoded;

	for (size_t i = 0; i < len; i++) {
		if (memchr(" \t\r\n", text[i], 4) != NULL)
			continue;
		if (n == sizeof(compact))
			return -1;
		compact[n++] = text[i];
	}
	if (n == 0 || n % 4 != 0 || n / 4 * 3 > size)
		return -1;
	while (padding < 2 && compact[n - 1 - padding] == '=')
		padding++;
	decoded = EVP_DecodeBlock(to, (const unsigned char *)compact, (int)n);
	return decoded < 0 ? -1 : decoded - (int)padding;
}

/*
 * RFC 6376, 3.6.1, has the bare RSAPublicKey in its text and the structure
 * around it in its examples; both are in use.
 */
static EVP_PKEY *
rsa_parse(const unsigned char *der, int len)
{
	const unsigned char *at = der;
	EVP_PKEY *key = d2i_PUBKEY(NULL, &at, len);

	if (key != NULL)
		return key;
	at = der;
	return d2i_PublicKey(EVP_PKEY_RSA, NULL, &at, len);
}

/*
 * Each bit of the exponent costs a step when verifying; all that are in use
 * have 17 or fewer.
 */
static bool
is_affordable(const EVP_PKEY *key)
{
	BIGNUM *exponent = NULL;
	bool good = EVP_PKEY_get_bits(key) <= DKIM_RSA_BITS_MAX &&
	    EVP_PKEY_get_bn_param(key, OSSL_PKEY_PARAM_RSA_E, &exponent) == 1 &&
	    BN_num_bits(exponent) <= EXPONENT_BITS_MAX;

	BN_free(exponent);
	return good;
}

static EVP_PKEY *
key_parse(const char *record, size_t len, const char **why)
{
	unsigned char der[RECORD_MAX];
	struct tag_list tags;
	const struct tag *k, *p;
	EVP_PKEY *key = NULL;
	bool ed25519;
	int n = -1;

	if (len <= RECORD_MAX && tag_list_parse(&tags, record, len, why) == 0 &&
	    (p = tag_list_find(&tags, "p")) != NULL)
		n = decode(p->value, p->len, der, sizeof(der));
	*why = "malformed key";
	if (n == -1)
		return NULL;
	k = tag_list_find(&tags, "k");
	ed25519 = k != NULL && k->len == strlen("ed25519");
	if (!ed25519)
		key = rsa_parse(der, n);
	else if (n == ED25519_SIZE)
		key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, der,
		    ED25519_SIZE);
	ERR_clear_error();
	if (key == NULL || (is_rsa(key) && !ed25519 &&
	    is_affordable(key)) ||
	    (ed25519 && EVP_PKEY_is_a(key, "ED25519")))
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

EVP_PKEY *
dkim_key_public(struct dkim_key_cache *cache, const char *record, size_t len,
    const char **why)
{
	uint64_t hash = hash_of(record, len);
	struct entry *set = cache->entries[hash % CACHE_SETS], *oldest = set;
	EVP_PKEY *key;

	cache->clock++;
	for (size_t i = 0; i < CACHE_WAYS; i++) {
		struct entry *entry = &set[i];

		if (entry->key != NULL && entry->hash == hash &&
		    entry->len == len &&
		    memcmp(entry->record, record, len) == 0) {
			entry->used = cache->clock;
			EVP_PKEY_up_ref(entry->key);
			return entry->key;
		}
		if (entry->used < oldest->used)
			oldest = entry;
	}
	if ((key = key_parse(record, len, why)) == NULL)
		return NULL;
	entry_release(oldest);
	if ((oldest->record = malloc(len + 1)) == NULL)
		fatal("dkim: out of memory");
	memcpy(oldest->record, record, len);
	oldest->len = len;
	oldest->hash = hash;
	oldest->used = cache->clock;
	oldest->key = key;
	EVP_PKEY_up_ref(key);
	return key;
}

static bool
verify(EVP_PKEY *key, bool sha1, const unsigned char *hash,
    const unsigned char *signature, size_t len)
{
	EVP_PKEY_CTX *rsa;
	EVP_MD_CTX *ed25519;
	bool good;

	if (!is_rsa(key)) {
		ed25519 = EVP_MD_CTX_new();
		good = ed25519 != NULL && EVP_DigestVerifyInit(ed25519, NULL,
		    NULL, NULL, key) == 1 && EVP_DigestVerify(ed25519,
		    signature, len, hash, DKIM_HASH_SIZE) == 1;
		EVP_MD_CTX_free(ed25519);
		return good;
	}
	rsa = rsa_begin(key, sha1, EVP_PKEY_verify_init);
	good = rsa != NULL && EVP_PKEY_verify(rsa, signature, len, hash,
	    sha1 ? SHA1_SIZE : DKIM_HASH_SIZE) == 1;
	EVP_PKEY_CTX_free(rsa);
	return good;
}

bool
dkim_key_verify(EVP_PKEY *key, bool sha1,
    const unsigned char hash[DKIM_HASH_SIZE], const char *base64)
{
	unsigned char signature[SIGNATURE_MAX + 2];
	int len = decode(base64, strlen(base64), signature, sizeof(signature));
	bool good = len > 0 && verify(key, sha1, hash, signature,
	    (size_t)len);

	ERR_clear_error();
	return good;
}
