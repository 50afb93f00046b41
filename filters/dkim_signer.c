/*
 * Signing on libopendkim.  The fields to sign are chosen here, so the library
 * signs all that it is given; a key is checked once, when the signer is made,
 * because the library would sign with a key of the wrong type.
 */
#include "filters/dkim_engine.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <opendkim/dkim.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/mail.h"

#define RSA_BITS_MIN 1024	/* RFC 8301, 3.2 */
#define SIGNED_FIELDS_MAX 100	/* h= stays below libopendkim's 4 KB */
#define PADDING 64		/* see dkim_engine.c */

struct dkim_signer {
	DKIM_LIB *library;
	struct arena *arena;
	char *key;			/* PEM */
	const char *selector;
	const char *const *fields;
	dkim_alg_t algorithm;
	dkim_canon_t header, body;
};

struct dkim_signing {
	struct arena *arena;
	DKIM *handle;
	bool failed;
	bool begun;			/* there is a body */
	char last[2];			/* of it */
};

static void *
padded_malloc(void *closure, size_t size)
{
	(void)closure;
	return malloc(size + PADDING);
}

static void
padded_free(void *closure, void *memory)
{
	(void)closure;
	free(memory);
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

/* Finds out what the key is good for. */
static int
key_check(struct dkim_signer *signer, const char *pem, size_t len,
    const char **why)
{
	BIO *bio = BIO_new_mem_buf(pem, (int)len);
	EVP_PKEY *key = bio == NULL ? NULL :
	    PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, NULL);

	BIO_free(bio);
	ERR_clear_error();
	if (key == NULL)
		*why = "not a private key in PEM";
	else if (EVP_PKEY_is_a(key, "ED25519"))
		signer->algorithm = DKIM_SIGN_ED25519SHA256;
	else if (!EVP_PKEY_is_a(key, "RSA"))
		*why = "the key is neither RSA nor Ed25519";
	else if (EVP_PKEY_get_bits(key) < RSA_BITS_MIN)
		*why = "the RSA key has less than 1024 bits";
	else
		signer->algorithm = DKIM_SIGN_RSASHA256;
	EVP_PKEY_free(key);
	return signer->algorithm == DKIM_SIGN_UNKNOWN ? -1 : 0;
}

static const char *const *
copy_strings(struct arena *arena, const char *const *strings)
{
	size_t count = 0;
	const char **copy;

	while (strings[count] != NULL)
		count++;
	copy = arena_alloc(arena, (count + 1) * sizeof(*copy));
	for (size_t i = 0; i < count; i++)
		copy[i] = arena_strdup(arena, strings[i]);
	return copy;
}

static int
library_set_up(struct dkim_signer *signer,
    const struct dkim_signer_settings *settings)
{
	uint64_t expire = (uint64_t)settings->expire;
	const char *const *oversign = copy_strings(signer->arena,
	    settings->oversign);

	signer->library = dkim_init(padded_malloc, padded_free);
	if (signer->library == NULL)
		return -1;
	/* The list is passed by address, yet the size is a pointer's. */
	if (oversign[0] != NULL && dkim_options(signer->library,
	    DKIM_OP_SETOPT, DKIM_OPTS_OVERSIGNHDRS,
	    (void *)(uintptr_t)oversign, sizeof(oversign)) != DKIM_STAT_OK)
		return -1;
	if (expire > 0 && dkim_options(signer->library, DKIM_OP_SETOPT,
	    DKIM_OPTS_SIGNATURETTL, &expire, sizeof(expire)) != DKIM_STAT_OK)
		return -1;
	return 0;
}

struct dkim_signer *
dkim_signer_new(const struct dkim_signer_settings *settings, const char **why)
{
	struct arena *arena = arena_new(0);
	struct dkim_signer *signer = calloc(1, sizeof(*signer));

	if (signer == NULL)
		fatal("dkim: out of memory");
	signer->arena = arena;
	signer->algorithm = DKIM_SIGN_UNKNOWN;
	signer->selector = arena_strdup(arena, settings->selector);
	signer->fields = copy_strings(arena, settings->fields);
	signer->header = settings->relaxed_header ? DKIM_CANON_RELAXED :
	    DKIM_CANON_SIMPLE;
	signer->body = settings->relaxed_body ? DKIM_CANON_RELAXED :
	    DKIM_CANON_SIMPLE;
	if (key_check(signer, settings->key, settings->key_len, why) == -1)
		goto fail;
	signer->key = arena_strndup(arena, settings->key, settings->key_len);
	*why = "libopendkim cannot be set up";
	if (library_set_up(signer, settings) == -1)
		goto fail;
	return signer;
fail:
	dkim_signer_free(&signer);
	return NULL;
}

void
dkim_signer_free(struct dkim_signer **signerp)
{
	struct dkim_signer *signer = *signerp;

	*signerp = NULL;
	if (signer == NULL)
		return;
	if (signer->library != NULL)
		dkim_close(signer->library);
	if (signer->key != NULL)
		OPENSSL_cleanse(signer->key, strlen(signer->key));
	arena_free(&signer->arena);
	free(signer);
}

static bool
is_signed(const struct dkim_signer *signer, const struct header *header)
{
	if (header->hidden)
		return false;
	for (size_t i = 0; signer->fields[i] != NULL; i++)
		if (header_is(header, signer->fields[i]))
			return true;
	return false;
}

/* A verifier takes fields of one name from the last up, so the last count. */
static int
feed_header(const struct dkim_signer *signer, DKIM *handle,
    const struct headers *headers)
{
	size_t count = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (is_signed(signer, h))
			count++;
	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		if (!is_signed(signer, h) || count-- > SIGNED_FIELDS_MAX)
			continue;
		if (memchr(h->raw, '\0', h->len) != NULL ||
		    dkim_header(handle, (u_char *)(uintptr_t)h->raw,
		    h->len - 2) != DKIM_STAT_OK)
			return -1;
	}
	return 0;
}

struct dkim_signing *
dkim_signing_new(struct dkim_signer *signer, struct arena *arena,
    const struct headers *headers, const char *domain, const char *id,
    const char **why)
{
	struct dkim_signing *signing;
	DKIM_STAT status;
	DKIM *handle;

	/* A first From that is too far down to be signed is no From. */
	if (headers_find(headers, "From", 1) == NULL) {
		*why = "no From field";
		return NULL;
	}
	handle = dkim_sign(signer->library,
	    (u_char *)arena_strdup(arena, id), NULL, (u_char *)signer->key,
	    (const u_char *)signer->selector, (const u_char *)domain,
	    signer->header, signer->body, signer->algorithm, -1, &status);
	if (handle == NULL) {
		*why = "libopendkim refuses to sign";
		return NULL;
	}
	if (feed_header(signer, handle, headers) == -1 ||
	    dkim_eoh(handle) != DKIM_STAT_OK) {
		*why = "the header cannot be signed";
		dkim_free(handle);
		return NULL;
	}
	signing = arena_alloc(arena, sizeof(*signing));
	signing->arena = arena;
	signing->handle = handle;
	return signing;
}

void
dkim_signing_body(struct dkim_signing *signing, const char *bytes, size_t len)
{
	if (len == 0 || signing->failed)
		return;
	signing->begun = true;
	signing->last[0] = len > 1 ? bytes[len - 2] : signing->last[1];
	signing->last[1] = bytes[len - 1];
	if (dkim_body(signing->handle, (u_char *)(uintptr_t)bytes, len) !=
	    DKIM_STAT_OK)
		signing->failed = true;
}

const char *
dkim_signing_eom(struct dkim_signing *signing, const char **why)
{
	u_char *value;
	size_t len;

	if (signing->begun && memcmp(signing->last, "\r\n", 2) != 0)
		dkim_signing_body(signing,
		    signing->last[1] == '\r' ? "\n" : "\r\n",
		    signing->last[1] == '\r' ? 1 : 2);
	if (signing->failed || dkim_eom(signing->handle, NULL) !=
	    DKIM_STAT_OK || dkim_getsighdr_d(signing->handle,
	    strlen("DKIM-Signature: "), &value, &len) != DKIM_STAT_OK) {
		*why = "the message cannot be signed";
		return NULL;
	}
	return arena_strndup(signing->arena, (const char *)value, len);
}

void
dkim_signing_free(struct dkim_signing **signingp)
{
	struct dkim_signing *signing = *signingp;

	*signingp = NULL;
	if (signing != NULL)
		dkim_free(signing->handle);
}
