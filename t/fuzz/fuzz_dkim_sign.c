/*
 * What we sign libopendkim verifies: two implementations of canonicalization
 * must agree.  Input: one byte of choice, a field's value up to LF LF, a body.
 */
#define _GNU_SOURCE		/* memmem */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/dkim_engine.h"
#include "filters/mail.h"
#include "t/unit/filters/dkim_vectors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const fields[] = { "Subject", "To", NULL };
static const char *const oversign[] = { "From", "Subject", NULL };
static const struct dkim_rules rules = {
	.minimum_key_bits = 1024, .clock_skew = 300, .max_signatures = 8
};

static const char *
sign(struct arena *arena, const struct headers *headers, int choice,
    const char *body, size_t len)
{
	struct dkim_signer_settings settings = { .key = ed25519_private,
	    .key_len = sizeof(ed25519_private) - 1, .selector = "e",
	    .fields = fields, .oversign = oversign,
	    .relaxed_header = choice & 1, .relaxed_body = choice & 2 };
	static struct dkim_signer *signers[4];
	struct dkim_signer *signer = signers[choice & 3];
	struct dkim_signing *signing;
	const char *why, *value;
	size_t half = len / 2;

	if (signer == NULL)
		signer = signers[choice & 3] = dkim_signer_new(&settings,
		    &why);
	signing = dkim_signing_new(signer, arena, headers, "example.org", "",
	    &why);
	dkim_signing_body(signing, body, half);
	dkim_signing_body(signing, body + half, len - half);
	value = dkim_signing_eom(signing, &why);
	dkim_signing_free(&signing);
	return value;
}

static void
verify(struct arena *arena, const struct headers *headers, const char *body,
    size_t len)
{
	static struct dkim_engine *engine;
	const char *why, *key = arena_printf(arena, "k=ed25519; p=%s",
	    ed25519_public);
	struct dkim_verifier *verifier;
	struct dkim_signature *signature;
	size_t count;

	if (engine == NULL)
		engine = dkim_engine_new(&rules, &why);
	verifier = dkim_verifier_new(engine, arena, headers, "fuzz");
	signature = dkim_verifier_signatures(verifier, &count);
	dkim_verifier_key(verifier, signature, key, strlen(key));
	dkim_verifier_body(verifier, body, len);
	dkim_verifier_eom(verifier);
	assert(count == 1 && strcmp(signature->result, "pass") == 0);
	dkim_verifier_free(&verifier);
}

/* The gateway lets no bare CR or LF pass, so their treatment is not compared. */
static const char *
with_crlf(struct arena *arena, const char *bytes, size_t *len)
{
	char *text = arena_alloc(arena, 2 * *len + 1), *to = text;

	for (size_t i = 0; i < *len; i++) {
		if (bytes[i] == '\n')
			*to++ = '\r';
		if (bytes[i] != '\r')
			*to++ = bytes[i];
	}
	*len = (size_t)(to - text);
	return text;
}

/* libopendkim takes form feeds and such for white space, RFC 6376 does not. */
static void
no_controls(char *value)
{
	for (; *value != '\0'; value++)
		if (strchr("\v\f", *value) != NULL)
			*value = 'x';
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena;
	struct headers headers = { 0 };
	const char *bytes = (const char *)data + 1, *body;
	char *value;

	if (size < 2)
		return 0;
	arena = arena_new(0);
	size--;
	body = memmem(bytes, size, "\n\n", 2);
	value = arena_strndup(arena, bytes,
	    body == NULL ? 0 : (size_t)(body - bytes));
	no_controls(value);
	body = body == NULL ? bytes : body + 2;
	size -= (size_t)(body - bytes);
	body = with_crlf(arena, body, &size);
	headers_add(&headers, arena, NULL, "From", "a@example.org", true);
	headers_add(&headers, arena, NULL, "Subject", value, true);
	headers_add(&headers, arena, headers.first, "DKIM-Signature",
	    sign(arena, &headers, data[0], body, size), true);
	verify(arena, &headers, body, size);
	arena_free(&arena);
	return 0;
}
