/*
 * What it costs to verify a DKIM signature: each engine, RSA-2048, relaxed, a
 * key that was seen before.
 *	dkim_bench
 */
#include "config.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_key.h"
#include "filters/mail.h"

static const char header[] = "From: Ann <ann@example.org>\r\n"
    "To: Bob <bob@example.net>\r\nSubject: figures\r\n"
    "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    "Message-ID: <1@example.org>\r\n\r\n";
static const char *const names[] = { "From", "To", "Subject", "Date",
	"Message-ID", NULL };

static double
cpu_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
	    (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* Words of several lengths in lines of about 70 octets. */
static struct buf
make_body(size_t len)
{
	struct buf body = BUF_INIT;
	unsigned random = 1;

	while (body.len < len) {
		for (size_t line = 0; line < 66;) {
			size_t word = 1 + (random = random * 1103515245 +
			    12345) / 65536 % 9;

			for (size_t i = 0; i < word; i++)
				buf_putc(&body, 'a' + (int)i);
			buf_putc(&body, ' ');
			line += word + 1;
		}
		body.len--;
		buf_puts(&body, "\r\n");
	}
	return body;
}

/* The signature's field; *record is that of its key. */
static const char *
sign(struct arena *arena, const struct buf *body, const char **record)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	BIO *pem = BIO_new(BIO_s_mem());
	unsigned char der[1024], *end = der;
	struct headers headers = { 0 };
	struct dkim_signer_settings settings = { .selector = "s",
		.fields = names, .oversign = names + 5,
		.relaxed_header = true, .relaxed_body = true };
	struct dkim_signer *signer;
	struct dkim_signing *signing;
	const char *why, *value;
	char *text;
	int len = i2d_PUBKEY(key, &end);

	*record = arena_printf(arena, "v=DKIM1; k=rsa; p=%s",
	    dkim_base64(arena, der, (size_t)len));
	PEM_write_bio_PrivateKey(pem, key, NULL, NULL, 0, NULL, NULL);
	settings.key_len = (size_t)BIO_get_mem_data(pem, &text);
	settings.key = text;
	signer = dkim_signer_new(&settings, &why);
	headers_parse(&headers, arena, header, sizeof(header) - 1);
	signing = dkim_signing_new(signer, arena, &headers, "example.org",
	    "bench", &why);
	dkim_signing_body(signing, body->data, body->len);
	value = arena_printf(arena, "DKIM-Signature: %s\r\n%s",
	    dkim_signing_eom(signing, &why), header);
	dkim_signing_free(&signing);
	dkim_signer_free(&signer);
	BIO_free(pem);
	EVP_PKEY_free(key);
	return value;
}

static void
verify(struct dkim_engine *engine, const char *fields, const struct buf *body,
    const char *record)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct dkim_verifier *verifier;
	struct dkim_signature *signature;
	size_t count;

	headers_parse(&headers, arena, fields, strlen(fields));
	verifier = dkim_verifier_new(engine, arena, &headers, "bench");
	signature = dkim_verifier_signatures(verifier, &count);
	dkim_verifier_key(verifier, signature, record, strlen(record));
	for (size_t at = 0; at < body->len; at += BODY_READ_MAX)
		dkim_verifier_body(verifier, body->data + at,
		    body->len - at < BODY_READ_MAX ? body->len - at :
		    BODY_READ_MAX);
	dkim_verifier_eom(verifier);
	if (strcmp(signature->result, "pass") != 0) {
		fprintf(stderr, "dkim_bench: %s\n", signature->reason);
		exit(1);
	}
	dkim_verifier_free(&verifier);
	arena_free(&arena);
}

static void
measure(enum dkim_engine_kind kind, const char *name, size_t size)
{
	struct dkim_rules rules = { .engine = kind, .minimum_key_bits = 1024,
		.clock_skew = 300, .max_signatures = 8 };
	struct arena *arena = arena_new(0);
	struct buf body = make_body(size);
	const char *why, *record, *fields = sign(arena, &body, &record);
	struct dkim_engine *engine = dkim_engine_new(&rules, &why);
	int times = size > 100000 ? 50 : 1000;
	double begin;

	verify(engine, fields, &body, record);
	begin = cpu_us();
	for (int i = 0; i < times; i++)
		verify(engine, fields, &body, record);
	printf("%-12s %8zu bytes: %8.1f us\n", name, size,
	    (cpu_us() - begin) / times);
	dkim_engine_free(&engine);
	buf_release(&body);
	arena_free(&arena);
}

int
main(void)
{
	static const size_t sizes[] = { 1000, 10000, 100000, 1000000 };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		measure(DKIM_ENGINE_OPENSSL, "openssl", sizes[i]);
		measure(DKIM_ENGINE_LIBOPENDKIM, "libopendkim", sizes[i]);
	}
	return 0;
}
