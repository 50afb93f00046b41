/*
 * Signing, on OpenSSL alone: libopendkim parses the private key anew for each
 * message, which takes more time than the signature itself, and leaks what it
 * allocates for an Ed25519 key.  Verified against it and against dkimpy.
 */
#include "filters/dkim_engine.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/dkim_canon.h"
#include "filters/dkim_key.h"
#include "filters/mail.h"

#define SIGNED_FIELDS_MAX 100	/* some verifiers cut h= at 4 KB */
#define LINE_LENGTH 76

struct dkim_signer {
	struct arena *arena;
	EVP_PKEY *key;			/* NULL: the caller has some */
	const char *selector;
	const char *const *fields, *const *oversign;
	bool relaxed_header, relaxed_body;
	int64_t expire;
};

struct dkim_signing {
	const struct dkim_signer *signer;
	struct arena *arena;
	const char *domain;
	unsigned instance;		/* of ARC; 0: DKIM */
	EVP_MD_CTX *header_hash, *body_hash;
	struct dkim_canon_body body;
	const char *bh;			/* NULL: the body goes on */
	struct buf names;		/* h=, folded */
	size_t line;			/* of its last line */
};

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

struct dkim_signer *
dkim_signer_new(const struct dkim_signer_settings *settings, const char **why)
{
	struct dkim_signer *signer = calloc(1, sizeof(*signer));

	if (signer == NULL)
		fatal("dkim: out of memory");
	signer->arena = arena_new(0);
	signer->fields = copy_strings(signer->arena, settings->fields);
	signer->oversign = copy_strings(signer->arena, settings->oversign);
	signer->relaxed_header = settings->relaxed_header;
	signer->relaxed_body = settings->relaxed_body;
	signer->expire = settings->expire;
	if (settings->key == NULL)
		return signer;
	signer->selector = arena_strdup(signer->arena, settings->selector);
	signer->key = dkim_key_private(settings->key, settings->key_len, why);
	if (signer->key == NULL)
		dkim_signer_free(&signer);
	return signer;
}

void
dkim_signer_free(struct dkim_signer **signerp)
{
	struct dkim_signer *signer = *signerp;

	*signerp = NULL;
	if (signer == NULL)
		return;
	EVP_PKEY_free(signer->key);
	arena_free(&signer->arena);
	free(signer);
}

/* Appends a name to h=, on a new line where the last one is full. */
static void
put_name(struct dkim_signing *signing, const char *name, size_t len)
{
	if (signing->names.len > 0) {
		buf_putc(&signing->names, ':');
		signing->line++;
	}
	if (signing->line + len + 1 > LINE_LENGTH) {
		buf_puts(&signing->names, "\r\n\t");
		signing->line = 8;
	}
	buf_append(&signing->names, name, len);
	signing->line += len;
}

static void
sign_field(struct dkim_signing *signing, const struct header *header)
{
	struct buf canonical = BUF_INIT;

	dkim_canon_field(&canonical, signing->signer->relaxed_header,
	    header->raw, header->len, header->name_len);
	EVP_DigestUpdate(signing->header_hash, canonical.data, canonical.len);
	buf_release(&canonical);
	put_name(signing, header->raw, header->name_len);
}

static bool
is_listed(const struct dkim_signer *signer, const struct header *header)
{
	for (size_t i = 0; signer->fields[i] != NULL; i++)
		if (header_is(header, signer->fields[i]))
			return true;
	return false;
}

/*
 * Signs From, or the others, from the last one up: in this order a verifier
 * takes several of one name.  Returns how many, -1 if one cannot be signed.
 */
static int
sign_fields(struct dkim_signing *signing, const struct headers *headers,
    bool from, int limit)
{
	int count = 0;

	for (const struct header *h = headers->last; h != NULL && count <
	    limit; h = h->previous) {
		if (h->hidden || header_is(h, "From") != from ||
		    (!from && !is_listed(signing->signer, h)))
			continue;
		if (memchr(h->raw, '\0', h->len) != NULL)
			return -1;
		sign_field(signing, h);
		count++;
	}
	return count;
}

/* RFC 6376, 5.4: From must be there and be signed, so it comes first. */
static int
sign_header(struct dkim_signing *signing, const struct headers *headers,
    const char **why)
{
	const char *const *oversign = signing->signer->oversign;
	int from = sign_fields(signing, headers, true, SIGNED_FIELDS_MAX);

	if (from == 0) {
		*why = "no From field";
		return -1;
	}
	if (from == -1 || sign_fields(signing, headers, false,
	    SIGNED_FIELDS_MAX - from) == -1) {
		*why = "a NUL in the header";
		return -1;
	}
	for (size_t i = 0; oversign[i] != NULL; i++)
		put_name(signing, oversign[i], strlen(oversign[i]));
	return 0;
}

struct dkim_signing *
dkim_signing_new(struct dkim_signer *signer, struct arena *arena,
    const struct headers *headers, const char *domain, const char *id,
    const char **why)
{
	struct dkim_signing *signing = arena_alloc(arena, sizeof(*signing));

	(void)id;
	signing->signer = signer;
	signing->arena = arena;
	if (domain != NULL)
		signing->domain = arena_strdup(arena, domain);
	signing->header_hash = dkim_hash_new(false);
	signing->body_hash = dkim_hash_new(false);
	signing->line = 8 + strlen("h=");
	dkim_canon_body_begin(&signing->body, signing->body_hash,
	    signer->relaxed_body);
	if (sign_header(signing, headers, why) == -1)
		dkim_signing_free(&signing);
	return signing;
}

void
dkim_signing_arc(struct dkim_signing *signing, unsigned instance)
{
	signing->instance = instance;
}

void
dkim_signing_body(struct dkim_signing *signing, const char *bytes, size_t len)
{
	dkim_canon_body_add(&signing->body, bytes, len);
}

int
dkim_signing_feed(struct dkim_signing *signing, const struct body *body,
    const char **why)
{
	char *scratch = malloc(BODY_READ_MAX);
	const char *bytes;
	size_t at = 0;
	ssize_t n;

	if (scratch == NULL)
		fatal("dkim: out of memory");
	while ((n = body_read(body, at, scratch, &bytes)) > 0) {
		dkim_signing_body(signing, bytes, (size_t)n);
		if ((at += (size_t)n) < body_size(body))
			task_yield();
	}
	free(scratch);
	if (n == -1)
		*why = "the body cannot be read";
	return (int)n;
}

static void
end_body(struct dkim_signing *signing)
{
	unsigned char hash[DKIM_HASH_SIZE];

	if (signing->bh != NULL)
		return;
	dkim_canon_body_end(&signing->body);
	EVP_DigestFinal_ex(signing->body_hash, hash, NULL);
	signing->bh = dkim_base64(signing->arena, hash, sizeof(hash));
}

/* All of the field's value but what b= holds. */
static void
put_value(const struct dkim_signing *signing,
    const struct dkim_signing_key *key, struct buf *value)
{
	const struct dkim_signer *signer = signing->signer;
	int64_t now = time(NULL);

	if (signing->instance == 0)
		buf_puts(value, "v=1;");
	else
		buf_printf(value, "i=%u;", signing->instance);
	buf_printf(value, " a=%s; c=%s/%s;\r\n\td=%s;\r\n\ts=%s; t=%lld;",
	    dkim_key_algorithm(key->key),
	    signer->relaxed_header ? "relaxed" : "simple",
	    signer->relaxed_body ? "relaxed" : "simple",
	    key->domain, key->selector, (long long)now);
	if (signer->expire > 0)
		buf_printf(value, " x=%lld;",
		    (long long)(now + signer->expire));
	buf_puts(value, "\r\n\th=");
	buf_append(value, signing->names.data, signing->names.len);
	buf_printf(value, ";\r\n\tbh=%s;\r\n\tb=", signing->bh);
}

/* The hash of the header with this field behind it, whose b= is empty. */
static void
finish_hash(const struct dkim_signing *signing, const struct buf *value,
    unsigned char *hash)
{
	EVP_MD_CTX *header_hash = dkim_hash_new(false);
	const char *name = signing->instance == 0 ? "DKIM-Signature" :
	    "ARC-Message-Signature";
	struct buf field = BUF_INIT, canonical = BUF_INIT;

	buf_printf(&field, "%s: ", name);
	buf_append(&field, value->data, value->len);
	buf_append(&field, "\r\n", 2);
	dkim_canon_field(&canonical, signing->signer->relaxed_header,
	    field.data, field.len, strlen(name));
	/* 3.7: without the last CRLF. */
	if (EVP_MD_CTX_copy_ex(header_hash, signing->header_hash) != 1)
		fatal("dkim: out of memory");
	EVP_DigestUpdate(header_hash, canonical.data, canonical.len - 2);
	EVP_DigestFinal_ex(header_hash, hash, NULL);
	EVP_MD_CTX_free(header_hash);
	buf_release(&field);
	buf_release(&canonical);
}

const char *
dkim_signing_by(struct dkim_signing *signing,
    const struct dkim_signing_key *key, const char **why)
{
	unsigned char hash[DKIM_HASH_SIZE];
	struct buf value = BUF_INIT;
	const char *text = NULL, *b;

	end_body(signing);
	put_value(signing, key, &value);
	finish_hash(signing, &value, hash);
	b = dkim_key_sign(key->key, signing->arena, hash, why);
	if (b != NULL) {
		buf_puts(&value, b);
		text = arena_strndup(signing->arena, value.data, value.len);
	}
	buf_release(&value);
	return text;
}

const char *
dkim_signing_eom(struct dkim_signing *signing, const char **why)
{
	const struct dkim_signing_key own = { signing->domain,
		signing->signer->selector, signing->signer->key };

	return dkim_signing_by(signing, &own, why);
}

void
dkim_signing_free(struct dkim_signing **signingp)
{
	struct dkim_signing *signing = *signingp;

	*signingp = NULL;
	if (signing == NULL)
		return;
	EVP_MD_CTX_free(signing->header_hash);
	EVP_MD_CTX_free(signing->body_hash);
	buf_release(&signing->names);
}

const char *
dkim_signer_seal(const struct dkim_signer *signer, struct arena *arena,
    const unsigned char *hash, const char **why)
{
	return dkim_key_sign(signer->key, arena, hash, why);
}

const char *
dkim_signer_algorithm(const struct dkim_signer *signer)
{
	return dkim_key_algorithm(signer->key);
}
