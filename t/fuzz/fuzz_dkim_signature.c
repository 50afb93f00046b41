/* A DKIM-Signature field, then a key record behind a line that says "key". */
#define _GNU_SOURCE		/* memmem */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/dkim_engine.h"
#include "filters/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct dkim_rules rules = {
	.minimum_key_bits = 1024, .clock_skew = 300, .max_signatures = 8,
	.sha1 = true
};

static void
verify(struct arena *arena, const char *field, size_t len, const char *key,
    size_t key_len)
{
	static struct dkim_engine *engine;
	struct headers headers = { 0 };
	struct dkim_verifier *verifier;
	struct dkim_signature *signatures;
	const char *why;
	size_t count;

	if (engine == NULL)
		engine = dkim_engine_new(&rules, &why);
	headers_parse(&headers, arena, field, len);
	headers_add(&headers, arena, NULL, "From", "a@example.org", true);
	verifier = dkim_verifier_new(engine, arena, &headers, "fuzz");
	signatures = dkim_verifier_signatures(verifier, &count);
	for (size_t i = 0; i < count; i++)
		dkim_verifier_key(verifier, &signatures[i], key, key_len);
	dkim_verifier_body(verifier, key, key_len);
	dkim_verifier_eom(verifier);
	for (size_t i = 0; i < count; i++)
		assert(signatures[i].result != NULL);
	dkim_verifier_free(&verifier);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	const char *bytes = (const char *)data;
	const char *key = memmem(bytes, size, "\nkey\n", 5);
	size_t len = key != NULL ? (size_t)(key - bytes) + 1 : size;

	key = key != NULL ? key + 5 : bytes + size;
	verify(arena, bytes, len, key, (size_t)(bytes + size - key));
	arena_free(&arena);
	return 0;
}
