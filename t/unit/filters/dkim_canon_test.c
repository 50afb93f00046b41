#include <openssl/evp.h>
#include <string.h>

#include "base/buf.h"
#include "filters/dkim_canon.h"
#include "t/unit/unit.h"

static void
fields(void)
{
	static const struct {
		const char *name, *raw, *want;
	} cases[] = {
		{ "RFC 6376, 3.4.5", "A: X\r\n", "a:X\r\n" },
		{ "RFC 6376, 3.4.5, folded", "B : Y\t\r\n\tZ  \r\n",
		    "b:Y Z\r\n" },
		{ "empty", "A:\r\n", "a:\r\n" },
		{ "white space only", "A: \r\n \r\n", "a:\r\n" },
		{ "upper case stays in the value", "SubJect:AbC\r\n",
		    "subject:AbC\r\n" },
		{ "a bare CR stays", "A: b\rc\r\n", "a:b\rc\r\n" },
	};
	struct buf out = BUF_INIT;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *raw = cases[i].raw;
		size_t name_len = strcspn(raw, " :");

		buf_reset(&out);
		dkim_canon_field(&out, true, raw, strlen(raw), name_len);
		CASE_ASSERT(cases[i].name, strcmp(out.data, cases[i].want) ==
		    0);
		buf_reset(&out);
		dkim_canon_field(&out, false, raw, strlen(raw), name_len);
		CASE_ASSERT(cases[i].name, strcmp(out.data, raw) == 0);
	}
	buf_release(&out);
}

static void
hash(const char *bytes, size_t len, unsigned char *out)
{
	EVP_Digest(bytes, len, out, NULL, EVP_sha256(), NULL);
}

static void
hash_body(bool relaxed, const char *bytes, size_t len, size_t piece,
    unsigned char *out)
{
	struct dkim_canon_body body;
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	EVP_DigestInit_ex(context, EVP_sha256(), NULL);
	dkim_canon_body_begin(&body, context, relaxed);
	for (size_t at = 0; at < len; at += piece)
		dkim_canon_body_add(&body, bytes + at,
		    piece < len - at ? piece : len - at);
	dkim_canon_body_end(&body);
	EVP_DigestFinal_ex(context, out, NULL);
	EVP_MD_CTX_free(context);
}

static void
bodies(void)
{
	static const struct {
		const char *name, *body, *simple, *relaxed;
	} cases[] = {
		{ "RFC 6376, 3.4.5", " C \r\nD \t E\r\n\r\n\r\n",
		    " C \r\nD \t E\r\n", " C\r\nD E\r\n" },
		{ "empty", "", "\r\n", "" },
		{ "an empty line", "\r\n", "\r\n", "" },
		{ "white space lines", " \r\n\t\r\n", " \r\n\t\r\n", "" },
		{ "no last CRLF", "a\r\nb", "a\r\nb\r\n", "a\r\nb\r\n" },
		{ "a last CR", "a\r", "a\r\n", "a\r\n" },
		{ "empty lines within", "\r\na\r\n\r\n\r\nb\r\n\r\n",
		    "\r\na\r\n\r\n\r\nb\r\n", "\r\na\r\n\r\n\r\nb\r\n" },
		{ "white space behind empty lines", "a\r\n\r\n  b\r\n",
		    "a\r\n\r\n  b\r\n", "a\r\n\r\n b\r\n" },
		{ "bare CR and LF", "a\rb\nc\r\r\n", "a\rb\nc\r\r\n",
		    "a\rb\nc\r\r\n" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t piece = 1; piece < 8; piece += 3) {
			unsigned char got[32], want[32];
			const char *body = cases[i].body;

			hash_body(false, body, strlen(body), piece, got);
			hash(cases[i].simple, strlen(cases[i].simple), want);
			CASE_ASSERT(cases[i].name, memcmp(got, want, 32) == 0);
			hash_body(true, body, strlen(body), piece, got);
			hash(cases[i].relaxed, strlen(cases[i].relaxed),
			    want);
			CASE_ASSERT(cases[i].name, memcmp(got, want, 32) == 0);
		}
}

/* Lines longer than the room for output, and more than one fill of it. */
static void
large_bodies(void)
{
	struct buf body = BUF_INIT;
	unsigned char got[32], want[32];

	for (int i = 0; i < 30000; i++)
		buf_puts(&body, "abcdefg");
	for (int i = 0; i < 5000; i++)
		buf_puts(&body, "\r\n");
	for (int i = 0; i < 3000; i++)
		buf_puts(&body, "xy z\r\n");
	for (int relaxed = 0; relaxed < 2; relaxed++) {
		hash(body.data, body.len, want);
		hash_body(relaxed, body.data, body.len, 65536, got);
		CU_ASSERT_EQUAL(memcmp(got, want, 32), 0);
		hash_body(relaxed, body.data, body.len, 1000, got);
		CU_ASSERT_EQUAL(memcmp(got, want, 32), 0);
	}
	buf_release(&body);
}

SUITE(dkim_canon, { "fields", fields }, { "bodies", bodies },
    { "large bodies", large_bodies })
