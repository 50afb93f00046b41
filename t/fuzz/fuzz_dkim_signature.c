/*
 * A DKIM-Signature field, then a key record behind a line that says "key"; by
 * both engines, which must agree on what is good.
 */
#define _GNU_SOURCE		/* memmem */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/dkim_engine.h"
#include "filters/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whether one signature or more is good. */
static bool
verify(enum dkim_engine_kind kind, struct arena *arena, const char *field,
    size_t len, const char *key, size_t key_len)
{
	const struct dkim_rules rules = { .engine = kind,
		.minimum_key_bits = 1024, .clock_skew = 300,
		.max_signatures = 8, .sha1 = true };
	static struct dkim_engine *engines[2];
	struct headers headers = { 0 };
	struct dkim_verifier *verifier;
	struct dkim_signature *signatures;
	const char *why;
	size_t count;
	bool good = false;

	if (engines[kind] == NULL)
		engines[kind] = dkim_engine_new(&rules, &why);
	headers_parse(&headers, arena, field, len);
	headers_add(&headers, arena, NULL, "From", "a@example.org", true);
	verifier = dkim_verifier_new(engines[kind], arena, &headers, "fuzz");
	signatures = dkim_verifier_signatures(verifier, &count);
	for (size_t i = 0; i < count; i++)
		dkim_verifier_key(verifier, &signatures[i], key, key_len);
	dkim_verifier_body(verifier, key, key_len);
	dkim_verifier_eom(verifier);
	for (size_t i = 0; i < count; i++) {
		assert(signatures[i].result != NULL);
		good = good || strcmp(signatures[i].result, "pass") == 0;
	}
	dkim_verifier_free(&verifier);
	return good;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	const char *bytes = (const char *)data;
	const char *key = memmem(bytes, size, "\nkey\n", 5);
	size_t len = key != NULL ? (size_t)(key - bytes) + 1 : size;

	key = key != NULL ? key + 5 : bytes + size;
	if (verify(DKIM_ENGINE_LIBOPENDKIM, arena, bytes, len, key,
	    (size_t)(bytes + size - key)))
		assert(verify(DKIM_ENGINE_OPENSSL, arena, bytes, len, key,
		    (size_t)(bytes + size - key)));
	else
		verify(DKIM_ENGINE_OPENSSL, arena, bytes, len, key,
		    (size_t)(bytes + size - key));
	arena_free(&arena);
	return 0;
}
