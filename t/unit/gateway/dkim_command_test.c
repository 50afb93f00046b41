#include <openssl/bio.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "gateway/dkim_command.h"
#include "t/unit/unit.h"

/* The example of RFC 8463, A.2: its key and its record. */
static const char ed_pem[] = "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n"
    "-----END PRIVATE KEY-----\n";
#define ED_PUBLIC "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
#define ED_RECORD "v=DKIM1; k=ed25519; p=" ED_PUBLIC

static EVP_PKEY *
ed_key(void)
{
	BIO *bio = BIO_new_mem_buf(ed_pem, -1);
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);

	BIO_free(bio);
	CU_ASSERT_FATAL(key != NULL);
	return key;
}

static void
record(void)
{
	struct arena *arena = arena_new(0);
	EVP_PKEY *key = ed_key();

	CU_ASSERT_STRING_EQUAL(dkim_record_text(arena, key), ED_RECORD);
	CU_ASSERT_STRING_EQUAL(dkim_record_zone(arena, "s._domainkey.x.org",
	    ED_RECORD), "s._domainkey.x.org. IN TXT \"" ED_RECORD "\"");
	EVP_PKEY_free(key);
	arena_free(&arena);
}

static void
rsa_record(void)
{
	struct arena *arena = arena_new(0);
	EVP_PKEY *key = EVP_RSA_gen(1024);
	const char *text;

	CU_ASSERT_FATAL(key != NULL);
	text = dkim_record_text(arena, key);
	/* What SubjectPublicKeyInfo begins with for RSA. */
	CU_ASSERT(strncmp(text, "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4",
	    44) == 0);
	CU_ASSERT_PTR_NULL(dkim_record_differs(arena, key, text,
	    strlen(text)));
	CU_ASSERT_STRING_EQUAL(dkim_record_differs(arena, key, ED_RECORD,
	    strlen(ED_RECORD)), "the key is of another algorithm");
	EVP_PKEY_free(key);
	arena_free(&arena);
}

/* Strings of a TXT record: none longer than 255, nothing lost between them. */
static void
strings(void)
{
	static const struct {
		const char *name;
		size_t len;
		const char *want;
	} cases[] = {
		{ "one string", 255, "n. IN TXT \"%255s\"" },
		{ "two strings", 256, "n. IN TXT (\n\t\"%255s\"\n\t\"x\" )" },
		{ "just two", 510, "n. IN TXT (\n\t\"%255s\"\n\t\"%255s\" )" },
		{ "three", 511,
		    "n. IN TXT (\n\t\"%255s\"\n\t\"%255s\"\n\t\"x\" )" },
	};
	char text[600], full[256], want[700];

	memset(full, 'x', 255);
	full[255] = '\0';
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		size_t n = 0;

		for (const char *p = cases[i].want; *p != '\0'; p++)
			if (strncmp(p, "%255s", 5) == 0) {
				memcpy(want + n, full, 255);
				n += 255;
				p += 4;
			} else
				want[n++] = *p;
		want[n] = '\0';
		memset(text, 'x', cases[i].len);
		text[cases[i].len] = '\0';
		CASE_ASSERT(cases[i].name, strcmp(dkim_record_zone(arena, "n",
		    text), want) == 0);
		arena_free(&arena);
	}
}

static void
differences(void)
{
	static const struct {
		const char *record, *why;
	} cases[] = {
		{ ED_RECORD, NULL },
		{ "k=ed25519; p=" ED_PUBLIC ";", NULL },
		{ "v=DKIM1; k=ed25519; t=s:y; s=email; h=sha256; p="
		    ED_PUBLIC, NULL },
		{ "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7h "
		    "cvPapiMlrwIaaPcHURo=", NULL },
		{ "v=DKIM1; k=ed25519; p="
		    "21qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
		    "p= is another key" },
		{ "v=DKIM1; p=" ED_PUBLIC, "the key is of another algorithm" },
		{ "v=DKIM1; k=ed25519; p=", "key revoked" },
		{ "v=DKIM1; k=ed25519", "the key record has no key" },
		{ "v=DKIM1; k=ed25519; h=sha1; p=" ED_PUBLIC,
		    "not a key for this hash" },
		{ "v=DKIM1; k=ed25519; s=other; p=" ED_PUBLIC,
		    "not a key for mail" },
		{ "v=spf1 -all", "unknown key version" },
		{ "hello", "malformed key record" },
		{ "", "the key record has no key" },
	};
	struct arena *arena = arena_new(0);
	EVP_PKEY *key = ed_key();

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = dkim_record_differs(arena, key,
		    cases[i].record, strlen(cases[i].record));

		CASE_ASSERT(cases[i].record, cases[i].why == NULL ?
		    why == NULL : why != NULL && strcmp(why, cases[i].why) ==
		    0);
	}
	EVP_PKEY_free(key);
	arena_free(&arena);
}

SUITE(dkim_command, { "record", record }, { "rsa record", rsa_record },
    { "strings", strings }, { "differences", differences })
