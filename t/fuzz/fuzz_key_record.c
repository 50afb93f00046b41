/* A DKIM key record, for a signature of each algorithm. */
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/dkim_key.h"
#include "filters/dkim_signature.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
try(struct arena *arena, const char *algorithm, const char *record, size_t len)
{
	static struct dkim_key_cache *cache;
	struct dkim_signature signature = { .domain = "example.org",
		.identity = "a@sub.example.org", .algorithm = algorithm };
	unsigned char hash[DKIM_HASH_SIZE] = { 0 };
	const char *why = NULL;
	EVP_PKEY *key;
	bool rsa;

	if (cache == NULL)
		cache = dkim_key_cache_new();
	record = arena_memdup(arena, record, len);
	dkim_signature_check_key(&signature, record, len);
	if (signature.result != NULL) {
		assert(signature.reason != NULL);
		return;
	}
	key = dkim_key_public(cache, record, len, &why);
	assert(key != NULL || why != NULL);
	if (key == NULL)
		return;
	rsa = strcmp(algorithm, "ed25519-sha256") != 0;
	assert(EVP_PKEY_is_a(key, rsa ? "RSA" : "ED25519"));
	assert(EVP_PKEY_get_bits(key) <= DKIM_RSA_BITS_MAX);
	assert(!dkim_key_verify(key, dkim_signature_is_sha1(&signature), hash,
	    "AAAA"));
	EVP_PKEY_free(key);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);

	try(arena, "rsa-sha256", (const char *)data, size);
	try(arena, "rsa-sha1", (const char *)data, size);
	try(arena, "ed25519-sha256", (const char *)data, size);
	arena_free(&arena);
	return 0;
}
