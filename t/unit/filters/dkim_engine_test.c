#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/dkim_engine.h"
#include "filters/mail.h"
#include "t/unit/unit.h"

#include "t/unit/filters/dkim_vectors.h"

static const struct dkim_rules rules = {
	.minimum_key_bits = 1024, .clock_skew = 300, .max_signatures = 8
};

/* The key record of a selector; NULL: there is none. */
static const char *
key_record(struct arena *arena, const char *selector)
{
	if (strcmp(selector, "r") == 0)
		return arena_printf(arena, "v=DKIM1; k=rsa; p=%s", rsa_public);
	if (strcmp(selector, "plain") == 0)
		return arena_printf(arena, "p=%s", rsa_public);
	if (strcmp(selector, "small") == 0)
		return arena_printf(arena, "v=DKIM1; p=%s", small_public);
	if (strcmp(selector, "e") == 0)
		return arena_printf(arena, "v=DKIM1; k=ed25519; p=%s",
		    ed25519_public);
	return NULL;
}

static void
give_keys(struct dkim_verifier *verifier, struct arena *arena,
    const char *record)
{
	size_t count;
	struct dkim_signature *s = dkim_verifier_signatures(verifier, &count);

	for (size_t i = 0; i < count; i++) {
		const char *text = record;

		if (s[i].result != NULL)
			continue;
		if (text == NULL)
			text = key_record(arena, s[i].selector);
		if (text == NULL)
			continue;
		dkim_verifier_key(verifier, &s[i], text, strlen(text));
	}
}

/* "pass" or "fail (why)" for each signature, parted by commas. */
static const char *
summary(struct dkim_verifier *verifier, struct arena *arena)
{
	size_t count;
	struct dkim_signature *s = dkim_verifier_signatures(verifier, &count);
	const char *text = "";

	for (size_t i = 0; i < count; i++)
		text = arena_printf(arena, "%s%s%s%s%s%s", text,
		    i > 0 ? ", " : "", s[i].result,
		    s[i].reason != NULL ? " (" : "",
		    s[i].reason != NULL ? s[i].reason : "",
		    s[i].reason != NULL ? ")" : "");
	return text;
}

/* record: every signature's key, or NULL for that of its selector. */
static const char *
verify_by(enum dkim_engine_kind kind, struct dkim_rules use,
    struct arena *arena, const char *message, size_t len, const char *record,
    size_t piece)
{
	const char *why = NULL, *text, *bytes = arena_memdup(arena, message,
	    len);
	struct dkim_engine *engine;
	struct headers headers = { 0 };
	struct dkim_verifier *verifier;
	size_t at = headers_parse(&headers, arena, bytes, len);

	use.engine = kind;
	engine = dkim_engine_new(&use, &why);
	verifier = dkim_verifier_new(engine, arena, &headers, "test");
	if (len - at >= 2)
		at += 2;
	for (; at < len; at += piece)
		dkim_verifier_body(verifier, bytes + at,
		    piece < len - at ? piece : len - at);
	give_keys(verifier, arena, record);
	dkim_verifier_eom(verifier);
	text = summary(verifier, arena);
	dkim_verifier_free(&verifier);
	dkim_engine_free(&engine);
	return text;
}

/* Both engines must say the same. */
static const char *
verify(const struct dkim_rules *use, struct arena *arena, const char *message,
    size_t len, const char *record, size_t piece)
{
	const char *ours = verify_by(DKIM_ENGINE_OPENSSL, *use, arena, message,
	    len, record, piece);
	const char *theirs = verify_by(DKIM_ENGINE_LIBOPENDKIM, *use, arena,
	    message, len, record, piece);

	CU_ASSERT_STRING_EQUAL(ours, theirs);
	if (strcmp(ours, theirs) != 0)
		fprintf(stderr, "\nopenssl: %s\nlibopendkim: %s\n", ours,
		    theirs);
	return ours;
}

/* Where they differ, for what stands at each case. */
static void
differ(const struct dkim_rules *use, struct arena *arena,
    const struct buf *message, const char *ours, const char *theirs)
{
	CU_ASSERT_STRING_EQUAL(verify_by(DKIM_ENGINE_OPENSSL, *use, arena,
	    message->data, message->len, NULL, 100), ours);
	CU_ASSERT_STRING_EQUAL(verify_by(DKIM_ENGINE_LIBOPENDKIM, *use, arena,
	    message->data, message->len, NULL, 100), theirs);
}

/* A vector's signature field and the plain message, changed once. */
static struct buf
compose(const char *signature, const char *from, const char *to)
{
	struct buf message = BUF_INIT;
	char *found;

	if (signature != NULL)
		buf_puts(&message, signature);
	buf_puts(&message, plain_header);
	buf_puts(&message, "\r\n");
	buf_puts(&message, plain_body);
	if (from == NULL)
		return message;
	found = strstr(message.data, from);
	CU_ASSERT_PTR_NOT_NULL(found);
	if (found != NULL) {
		struct buf changed = BUF_INIT;

		buf_append(&changed, message.data,
		    (size_t)(found - message.data));
		buf_puts(&changed, to);
		buf_puts(&changed, found + strlen(from));
		buf_release(&message);
		message = changed;
	}
	return message;
}

static const struct {
	const char *name, *signature, *from, *to, *want;
} vectors[] = {
	{ "unsigned", NULL, NULL, NULL, "" },
	{ "rsa relaxed", rsa_relaxed, NULL, NULL, "pass" },
	{ "rsa simple", rsa_simple, NULL, NULL, "pass" },
	{ "rsa mixed", rsa_mixed, NULL, NULL, "pass" },
	{ "ed25519", ed_relaxed, NULL, NULL, "pass" },
	{ "an identity below d=", identity, NULL, NULL, "pass" },
	{ "a header change that relaxed forgives", rsa_relaxed,
	    "Ann  <", "Ann <", "pass" },
	{ "a header change that simple does not", rsa_simple,
	    "Ann  <", "Ann <", "fail (signature did not verify)" },
	{ "a body change that relaxed forgives", rsa_relaxed,
	    "Hello,  Bob \r", "Hello, Bob\r", "pass" },
	{ "a body change that simple does not", rsa_simple,
	    "Hello,  Bob \r", "Hello, Bob\r",
	    "fail (body hash did not verify)" },
	{ "another body", rsa_relaxed, "Hello", "Gello",
	    "fail (body hash did not verify)" },
	{ "another subject", rsa_relaxed, "folded", "forged",
	    "fail (signature did not verify)" },
	{ "another subject, ed25519", ed_relaxed, "folded", "forged",
	    "fail (signature did not verify)" },
	{ "another signature", rsa_relaxed, "t=1700000000",
	    "t=1700000001", "fail (signature did not verify)" },
	{ "an unsigned field", rsa_relaxed, "Received:", "X-New: y\r\n"
	    "Received:", "pass" },
	{ "a second From", rsa_relaxed, "Received:",
	    "From: ceo@bank.example\r\nReceived:",
	    "policy (a second From is not signed)" },
	{ "a second Subject", rsa_relaxed, "Received:",
	    "Subject: x\r\nReceived:",
	    "policy (a second Subject is not signed)" },
	{ "no From", rsa_relaxed, "From:", "X-From:",
	    "fail (signature did not verify)" },
	{ "no last CRLF", rsa_relaxed, "tab\t\r\n\r\n\r\n", "tab\t",
	    "pass" },
	{ "a last CR", rsa_relaxed, "tab\t\r\n\r\n\r\n", "tab\t\r",
	    "pass" },
	{ "l= of the whole body", length, NULL, NULL, "pass" },
	{ "l= and simple", length_simple, NULL, NULL, "pass" },
	{ "l= and an appended text", length, "tab\t\r\n",
	    "tab\t\r\nhttp://evil.example/\r\n",
	    "neutral (a part of the body is not signed)" },
	{ "l= and appended lines", length, "tab\t\r\n",
	    "tab\t\r\n\r\n\r\n \r\n", "pass" },
	{ "l= beyond the body", length, "tab\t\r\n", "t\r\n",
	    "fail (l= exceeds the body)" },
	{ "a small key", small, NULL, NULL,
	    "policy (key too small)" },
	{ "no key", rsa_relaxed, "s=r;", "s=none;",
	    "temperror (key unavailable)" },
	{ "expired", rsa_relaxed, "t=1700000000",
	    "x=1700000001; t=1700000000",
	    "fail (signature expired)" },
	{ "x= before t=", rsa_relaxed, "t=1700000000",
	    "x=1600000000; t=1700000000",
	    "permerror (x= is not after t=)" },
	{ "from the future", rsa_relaxed, "t=1700000000",
	    "t=9700000000", "permerror (signed in the future)" },
	{ "a comment in d=", rsa_relaxed, "d=example.org",
	    "d=example.org(.evil.test", "permerror (d= is no domain)" },
	{ "a quote in d=", rsa_relaxed, "d=example.org",
	    "d=example.org'", "permerror (d= is no domain)" },
	{ "no d=", rsa_relaxed, "d=example.org", "dd=example.org",
	    "permerror (d= is no domain)" },
	{ "a path in s=", rsa_relaxed, "s=r;", "s=../r;",
	    "permerror (s= is no selector)" },
	{ "i= outside d=", identity, "i=ann@mail.example.org",
	    "i=ann@mailexample.org",
	    "permerror (i= is not within d=)" },
	{ "d= twice", rsa_relaxed, "d=example.org;",
	    "d=example.org; d=example.org;",
	    "permerror (a tag that stands twice)" },
	{ "q=http", rsa_relaxed, "q=dns/txt", "q=http",
	    "permerror (q= is not dns/txt)" },
	{ "v=0.5", rsa_relaxed, "v=1", "v=0.5",
	    "permerror (v= is not 1)" },
	{ "an unknown algorithm", rsa_relaxed, "a=rsa-sha256",
	    "a=rsa-md5", "permerror (unknown algorithm)" },
	{ "rsa-sha1", rsa_relaxed, "a=rsa-sha256", "a=rsa-sha1",
	    "policy (weak algorithm)" },
	{ "an unknown canonicalization", rsa_relaxed,
	    "c=relaxed/relaxed", "c=lax/relaxed",
	    "permerror (unknown canonicalization)" },
	{ "From not in h=", rsa_relaxed, "h=from :", "h=to :",
	    "permerror (From is not signed)" },
	{ "rubbish", rsa_relaxed, "v=1;", "v=1; =;",
	    "permerror (a malformed tag name)" },
	{ "no base64 in b=", rsa_relaxed, " b=", " b=!",
	    "permerror (b= is no signature)" },
	{ "no base64 in bh=", rsa_relaxed, " bh=", " bh=,",
	    "permerror (bh= is no hash)" },
	{ "8-bit", rsa_relaxed, "s=r;", "s=r\xc3\xa4;",
	    "permerror (an invalid character)" },
};

static void
signatures_verify(void)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
		struct arena *arena = arena_new(0);
		struct buf message = compose(vectors[i].signature, vectors[i].from,
		    vectors[i].to);
		const char *got;

		for (size_t piece = 1; piece < 200; piece += 66) {
			got = verify(&rules, arena, message.data, message.len,
			    NULL, piece);
			CASE_ASSERT(vectors[i].name,
			    strcmp(got, vectors[i].want) == 0);
			if (strcmp(got, vectors[i].want) != 0)
				fprintf(stderr, ": %s", got);
		}
		buf_release(&message);
		arena_free(&arena);
	}
}

static void
keys_are_checked(void)
{
	static const struct {
		const char *name, *before, *after, *want;
	} cases[] = {
		{ "bare", "p=", "", "pass" },
		{ "all tags", "v=DKIM1; h=sha1:sha256; k=rsa; n=a note; "
		    "s=email; t=s; p=", ";", "pass" },
		{ "any service", "s=other:*; p=", "", "pass" },
		{ "in test", "t=y:s; p=", "", "pass (test key)" },
		{ "of the future", "v=DKIM2; p=", "",
		    "permerror (unknown key version)" },
		{ "revoked", "v=DKIM1; p=; n=", "", "permerror (key revoked)" },
		{ "without p=", "v=DKIM1; n=", "",
		    "permerror (the key record has no key)" },
		{ "not for mail", "s=tlsrpt; p=", "",
		    "permerror (not a key for mail)" },
		{ "for another hash", "h=sha1; p=", "",
		    "permerror (not a key for this hash)" },
		{ "of an unknown type", "k=dsa; p=", "",
		    "permerror (unknown key type)" },
		{ "of another type", "k=ed25519; p=", "",
		    "permerror (the key is of another algorithm)" },
		{ "p= twice", "p=; p=", "", "permerror (malformed key record)" },
		{ "rubbish", "\"v=DKIM1\" p=", "",
		    "permerror (malformed key record)" },
		{ "cut", "p=AAAA", "", "permerror (malformed key)" },
		{ "no base64", "p=!!", "", "permerror (malformed key)" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct buf message = compose(rsa_relaxed, NULL, NULL);
		const char *record = arena_printf(arena, "%s%s%s",
		    cases[i].before, rsa_public, cases[i].after);
		const char *got = verify(&rules, arena, message.data,
		    message.len, record, 1000);

		CASE_ASSERT(cases[i].name, strcmp(got, cases[i].want) == 0);
		if (strcmp(got, cases[i].want) != 0)
			fprintf(stderr, ": %s", got);
		buf_release(&message);
		arena_free(&arena);
	}
}

/* t=s: i= must be d= itself (RFC 6376, 3.6.1). */
static void
a_key_can_exclude_subdomains(void)
{
	struct arena *arena = arena_new(0);
	struct buf message = compose(identity, NULL, NULL);

	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, message.data,
	    message.len, arena_printf(arena, "t=s; p=%s", rsa_public), 1000),
	    "permerror (not a key for subdomains)");
	buf_release(&message);
	arena_free(&arena);
}

static void
several_signatures_stand_alone(void)
{
	struct arena *arena = arena_new(0);
	struct buf two = compose(rsa_relaxed, NULL, NULL);
	struct buf message = BUF_INIT;

	buf_puts(&message, ed_relaxed);
	buf_append(&message, two.data, two.len);
	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, message.data,
	    message.len, NULL, 10), "pass, pass");

	/* One that is broken, and one whose l= must not rub off. */
	buf_reset(&message);
	buf_puts(&message, "DKIM-Signature: v=1; d=x(\r\n");
	buf_puts(&message, length);
	buf_append(&message, two.data, two.len);
	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, message.data,
	    message.len, NULL, 10),
	    "permerror (d= is no domain), pass, pass");
	buf_puts(&message, "appended\r\n");
	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, message.data,
	    message.len, NULL, 10), "permerror (d= is no domain), "
	    "neutral (a part of the body is not signed), "
	    "fail (body hash did not verify)");

	buf_reset(&message);
	for (int i = 0; i < 100; i++)
		buf_puts(&message, i % 2 ? rsa_relaxed : ed_relaxed);
	buf_append(&message, two.data, two.len);
	CU_ASSERT_EQUAL(strncmp(verify(&rules, arena, message.data,
	    message.len, NULL, 10), "pass, pass, pass, pass, pass, pass, "
	    "pass, pass, neutral (too many signatures), neutral", 86), 0);
	buf_release(&message);
	buf_release(&two);
	arena_free(&arena);
}

/* Every field named, and more: libopendkim writes behind its array. */
static void
h_may_name_more_than_there_is(void)
{
	struct arena *arena = arena_new(0);
	static const char text[] =
	    "DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=r;\r\n"
	    "\th=from:dkim-signature:to:x:y:z; bh=AAAA; b=AAAA\r\n"
	    "From: a@example.org\r\nTo: b@example.org\r\n\r\nbody\r\n";
	struct buf message = BUF_INIT;

	/* The library does not come to the body's hash. */
	buf_puts(&message, text);
	differ(&rules, arena, &message, "fail (body hash did not verify)",
	    "fail (signature did not verify)");
	buf_release(&message);
	arena_free(&arena);
}

static void
work_is_bounded(void)
{
	struct arena *arena = arena_new(0);
	struct buf message = BUF_INIT;

	buf_puts(&message, "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; "
	    "s=r;\r\n\tbh=AAAA; b=AAAA; h=from");
	for (int i = 0; i < 100000; i++)
		buf_puts(&message, ":x");
	buf_puts(&message, "\r\nFrom: a@a.example\r\n\r\n");
	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, message.data,
	    message.len, NULL, 100), "permerror (the signature is too long)");

	buf_reset(&message);
	buf_puts(&message, "DKIM-Signature: v=1; a=rsa-sha256; d=a.example; "
	    "s=r;\r\n\tbh=AAAA; b=AAAA; h=from");
	for (int i = 0; i < 1900; i++)
		buf_puts(&message, ":x");
	for (int i = 0; i < 10000; i++)
		buf_puts(&message, "\r\nX: y");
	buf_puts(&message, "\r\nFrom: a@a.example\r\n\r\n");
	/* Names times fields is the library's work, not ours. */
	differ(&rules, arena, &message, "fail (body hash did not verify)",
	    "neutral (too many fields)");

	buf_reset(&message);
	buf_puts(&message, rsa_relaxed);
	buf_puts(&message, "X: a");
	buf_append(&message, "\0b\r\n", 4);
	buf_puts(&message, plain_header);
	buf_puts(&message, "\r\n");
	buf_puts(&message, plain_body);
	/* The library cuts an unsigned field, too. */
	differ(&rules, arena, &message, "pass",
	    "permerror (a NUL in the header)");
	buf_release(&message);
	arena_free(&arena);
}

static void
rules_can_be_loosened(void)
{
	static const struct dkim_rules loose = { .minimum_key_bits = 512,
	    .max_signatures = 1, .sha1 = true, .partial_body = true };
	struct arena *arena = arena_new(0);
	struct buf message = compose(length, "tab\t\r\n",
	    "tab\t\r\nmore\r\n");

	CU_ASSERT_STRING_EQUAL(verify(&loose, arena, message.data,
	    message.len, NULL, 100),
	    "pass (a part of the body is not signed)");
	buf_release(&message);
	message = compose(small, NULL, NULL);
	CU_ASSERT_STRING_EQUAL(verify(&loose, arena, message.data,
	    message.len, NULL, 100), "pass");
	buf_release(&message);
	message = compose(rsa_relaxed, "a=rsa-sha256", "a=rsa-sha1");
	differ(&loose, arena, &message, "fail (body hash did not verify)",
	    "fail (signature did not verify)");
	buf_release(&message);
	message = compose(rsa_sha1, NULL, NULL);
	CU_ASSERT_STRING_EQUAL(verify(&loose, arena, message.data,
	    message.len, NULL, 100), "pass");
	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, message.data,
	    message.len, NULL, 100), "policy (weak algorithm)");
	buf_release(&message);
	message = compose(rsa_sha1, "folded", "forged");
	CU_ASSERT_STRING_EQUAL(verify(&loose, arena, message.data,
	    message.len, NULL, 100), "fail (signature did not verify)");
	buf_release(&message);
	arena_free(&arena);
}

/* Signing */

static const char *const fields[] = { "From", "To", "Subject", "Date",
	"Message-ID", "Cc", NULL };
static const char *const oversign[] = { "From", "Subject", NULL };

static struct dkim_signer_settings
settings(const char *key, const char *selector)
{
	return (struct dkim_signer_settings){ .key = key,
	    .key_len = strlen(key), .selector = selector, .fields = fields,
	    .oversign = oversign, .relaxed_header = true,
	    .relaxed_body = true };
}

/* The message with a signature on top; released by the caller. */
static struct buf
sign(const struct dkim_signer_settings *use, const char *message,
    struct arena *arena)
{
	struct headers headers = { 0 };
	struct buf signed_message = BUF_INIT;
	const char *why = NULL, *value = NULL;
	struct dkim_signer *signer = dkim_signer_new(use, &why);
	struct dkim_signing *signing;
	size_t at;

	CU_ASSERT_PTR_NOT_NULL_FATAL(signer);
	at = headers_parse(&headers, arena, message, strlen(message)) + 2;
	signing = dkim_signing_new(signer, arena, &headers, "example.org",
	    "test", &why);
	if (signing != NULL) {
		dkim_signing_body(signing, message + at, 3);
		dkim_signing_body(signing, message + at + 3,
		    strlen(message) - at - 3);
		value = dkim_signing_eom(signing, &why);
	}
	CU_ASSERT_PTR_NOT_NULL(value);
	buf_printf(&signed_message, "DKIM-Signature: %s\r\n%s", value,
	    message);
	dkim_signing_free(&signing);
	dkim_signer_free(&signer);
	return signed_message;
}

static void
what_is_signed_verifies(void)
{
	static const struct {
		const char *name, *key, *selector;
		bool relaxed_header, relaxed_body;
		const char *from, *to;
	} cases[] = {
		{ "rsa relaxed", rsa_private, "r", true, true, NULL, NULL },
		{ "rsa simple", rsa_private, "r", false, false, NULL, NULL },
		{ "rsa mixed", rsa_private, "r", true, false, NULL, NULL },
		{ "ed25519", ed25519_private, "e", true, true, NULL, NULL },
		{ "no last CRLF", rsa_private, "r", true, true,
		    "tab\t\r\n\r\n\r\n", "tab" },
		{ "two To", rsa_private, "r", true, true, "Date:",
		    "To: x@example.org\r\nDate:" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct dkim_signer_settings use = settings(cases[i].key,
		    cases[i].selector);
		struct buf plain = compose(NULL, cases[i].from, cases[i].to);
		struct buf message;
		const char *got;

		use.relaxed_header = cases[i].relaxed_header;
		use.relaxed_body = cases[i].relaxed_body;
		use.expire = 86400;
		message = sign(&use, plain.data, arena);
		got = verify(&rules, arena, message.data, message.len, NULL,
		    100);
		CASE_ASSERT(cases[i].name, strcmp(got, "pass") == 0);
		CASE_ASSERT(cases[i].name,
		    strstr(message.data, "x=") != NULL);
		buf_release(&plain);
		buf_release(&message);
		arena_free(&arena);
	}
}

static void
oversigned_fields_cannot_be_added(void)
{
	struct arena *arena = arena_new(0);
	struct dkim_signer_settings use = settings(rsa_private, "r");
	struct buf plain = compose(NULL, NULL, NULL), forged = BUF_INIT;
	struct buf message = sign(&use, plain.data, arena);

	buf_printf(&forged, "Subject: x\r\n%s", message.data);
	CU_ASSERT_STRING_EQUAL(verify(&rules, arena, forged.data, forged.len,
	    NULL, 100), "fail (signature did not verify)");
	buf_release(&plain);
	buf_release(&message);
	buf_release(&forged);
	arena_free(&arena);
}

static void
bad_keys_are_refused(void)
{
	static const struct {
		const char *name, *key, *want;
	} cases[] = {
		{ "nothing", "", "the key is not a private key in PEM" },
		{ "rubbish", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n"
		    "-----END RSA PRIVATE KEY-----\n",
		    "the key is not a private key in PEM" },
		{ "a small key", small_private,
		    "the RSA key has less than 1024 bits" },
		{ "an elliptic curve", ec_private,
		    "the key is neither RSA nor Ed25519" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct dkim_signer_settings use = settings(cases[i].key, "r");
		const char *why = NULL;
		struct dkim_signer *signer = dkim_signer_new(&use, &why);

		CASE_ASSERT(cases[i].name, signer == NULL);
		CASE_ASSERT(cases[i].name, why != NULL &&
		    strcmp(why, cases[i].want) == 0);
		dkim_signer_free(&signer);
	}
}

static void
a_message_without_from_is_not_signed(void)
{
	struct arena *arena = arena_new(0);
	struct dkim_signer_settings use = settings(rsa_private, "r");
	struct headers headers = { 0 };
	const char *why = NULL;
	struct dkim_signer *signer = dkim_signer_new(&use, &why);

	headers_parse(&headers, arena, "To: x\r\n", 7);
	CU_ASSERT_PTR_NULL(dkim_signing_new(signer, arena, &headers,
	    "example.org", "test", &why));
	CU_ASSERT_STRING_EQUAL(why, "no From field");
	dkim_signer_free(&signer);
	arena_free(&arena);
}

SUITE(dkim_engine,
    { "signatures verify", signatures_verify },
    { "keys are checked", keys_are_checked },
    { "a key can exclude subdomains", a_key_can_exclude_subdomains },
    { "several signatures stand alone", several_signatures_stand_alone },
    { "h= may name more than there is", h_may_name_more_than_there_is },
    { "work is bounded", work_is_bounded },
    { "rules can be loosened", rules_can_be_loosened },
    { "what is signed verifies", what_is_signed_verifies },
    { "oversigned fields cannot be added", oversigned_fields_cannot_be_added },
    { "bad keys are refused", bad_keys_are_refused },
    { "a message without From is not signed",
	a_message_without_from_is_not_signed })
