#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "filters/dkim_proof.h"
#include "filters/dkim_signature.h"
#include "filters/mail.h"
#include "t/unit/unit.h"

/* The secret key of RFC 8463, A.2, and its record. */
static const unsigned char secret[32] = { 0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd,
	0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49,
	0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
	0x7f, 0x60 };
static const char record[] = "v=DKIM1; k=ed25519; "
    "p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
static const char other_record[] = "v=DKIM1; k=ed25519; "
    "p=PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

#define TAGS "v=1; a=ed25519-sha256; c=%s; d=x.test; s=s; " \
    "h=from:subject:from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

struct proof_case {
	const char *name, *c;
	const char *before, *after;	/* the value of b=, in the field */
	const char *canonical_before, *canonical_after;
	const char *header;		/* NULL: the one that was signed */
	const char *record;
	bool needed, holds;
};

static const char header[] = "From: b@x.test\r\nSubject:  hi \r\n"
    "From:  a@x.test\r\n";
#define RELAXED "from:a@x.test\r\nsubject:hi\r\nfrom:b@x.test\r\n"
#define SIMPLE "From:  a@x.test\r\nSubject:  hi \r\nFrom: b@x.test\r\n"

static const struct proof_case cases[] = {
	{ "nothing odd", "relaxed", "; b=", "", "; b=", "", NULL, record,
	    false, false },
	{ "relaxed", "relaxed", "; b =  ", " ;\tz=1", "; b =", "; z=1", NULL,
	    record, true, true },
	{ "relaxed, last", "relaxed", ";\r\n\tb\r\n =", "", "; b =", "", NULL,
	    record, true, true },
	{ "simple", "simple", ";\tb =  ", "  ; z=1", ";\tb =", "; z=1", NULL,
	    record, true, true },
	{ "another tag", "relaxed", "; fb=x; b=", "", "; fb=x; b=", "", NULL,
	    record, true, true },
	{ "another header", "relaxed", "; b =", "", "; b =", "",
	    "From: b@x.test\r\nSubject: ho\r\nFrom: a@x.test\r\n", record,
	    true, false },
	{ "fields that moved", "relaxed", "; b =", "", "; b =", "",
	    "From: a@x.test\r\nSubject: hi\r\nFrom: b@x.test\r\n", record,
	    true, false },
	{ "another tag's value", "relaxed", "; b =", "; z=2", "; b =",
	    "; z=1", NULL, record, true, false },
	{ "another key", "relaxed", "; b =", "", "; b =", "", NULL,
	    other_record, true, false },
};

/* The signature in base64. */
static const char *
sign(struct arena *arena, const struct proof_case *c)
{
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL,
	    secret, sizeof(secret));
	EVP_MD_CTX *context = EVP_MD_CTX_new();
	bool relaxed = strcmp(c->c, "relaxed") == 0;
	const char *text = arena_printf(arena, "%s%s" TAGS "%s%s",
	    relaxed ? RELAXED : SIMPLE,
	    relaxed ? "dkim-signature:" : "DKIM-Signature: ", c->c,
	    c->canonical_before, c->canonical_after);
	unsigned char hash[32], signature[64];
	unsigned char *base64 = arena_alloc(arena, 100);
	size_t len = sizeof(signature);

	EVP_Digest(text, strlen(text), hash, NULL, EVP_sha256(), NULL);
	EVP_DigestSignInit(context, NULL, NULL, NULL, key);
	CU_ASSERT(EVP_DigestSign(context, signature, &len, hash, 32) == 1);
	EVP_EncodeBlock(base64, signature, (int)len);
	EVP_MD_CTX_free(context);
	EVP_PKEY_free(key);
	return (const char *)base64;
}

static void
proof(void)
{
	const struct dkim_rules rules = { .minimum_key_bits = 1024 };
	unsigned char none[32];

	EVP_Digest("", 0, none, NULL, EVP_sha256(), NULL);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct proof_case *c = &cases[i];
		struct arena *arena = arena_new(0);
		const char *field = arena_printf(arena, "DKIM-Signature: " TAGS
		    "%s%s%s\r\n", c->c, c->before, sign(arena, c), c->after);
		const char *text = arena_printf(arena, "%s%s", field,
		    c->header != NULL ? c->header : header);
		struct headers headers = { 0 };
		struct dkim_signature signature;
		struct dkim_proof *proof;

		headers_parse(&headers, arena, text, strlen(text));
		CASE_ASSERT(c->name, headers.count == 4);
		dkim_signature_parse(&signature, arena, &rules, field + 15,
		    strlen(field) - 15, 0);
		CASE_ASSERT(c->name, signature.result == NULL);
		proof = dkim_proof_new(arena, &headers, headers.first,
		    &signature);
		CASE_ASSERT(c->name, (proof != NULL) == c->needed);
		if (proof != NULL) {
			CASE_ASSERT(c->name, (dkim_proof_holds(proof,
			    c->record, strlen(c->record), none, 32) > 0) ==
			    c->holds);
			CASE_ASSERT(c->name, dkim_proof_holds(proof, c->record,
			    strlen(c->record), "another hash of 32 octets......",
			    32) == 0);
		}
		arena_free(&arena);
	}
}

SUITE(dkim_proof, { "proof", proof })
