/* STARTTLS, TLS from the start, TLS required (RFC 3207). */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/task.h"
#include "base/tls.h"
#include "t/unit/gateway/smtp_talk.h"
#include "t/unit/unit.h"


static char directory[] = "/tmp/smtp_tls.XXXXXX";
static char options[256];
static struct tls_context *client_tls;

/* Our certificate, self-signed, and its key in files. */
static void
write_certificate(const char *certificate_path, const char *key_path)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	FILE *file;

	ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
	X509_gmtime_adj(X509_getm_notBefore(certificate), -60);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN",
	    MBSTRING_ASC, (const unsigned char *)"mx.ours.example", -1, -1, 0);
	X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
	X509_set_pubkey(certificate, key);
	CU_ASSERT(X509_sign(certificate, key, EVP_sha256()) > 0);
	file = fopen(certificate_path, "w");
	PEM_write_X509(file, certificate);
	fclose(file);
	file = fopen(key_path, "w");
	PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
	fclose(file);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static bool
steps(struct talk *talk, const char *name, const struct talk_step *list,
    size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!talk_step(talk, name, &list[i]))
			return false;
	return true;
}
#define STEPS(talk, name, list) \
	CU_ASSERT(steps(talk, name, list, sizeof(list) / sizeof *(list)))

static void
handshake(struct talk *talk)
{
	CU_ASSERT(io_tls_connect(talk->io, client_tls, "mx.ours.example",
	    task_deadline(5000)) == 0);
}

/* All that was said in clear text is forgotten. */
static void
starttls(void)
{
	static const struct talk_step before[] = { HELLO,
	    { "MAIL FROM:<a@b.org>\r\n", "250" },
	    { "STARTTLS x\r\n", "501" }, { "STARTTLS\r\n", "220" } };
	static const struct talk_step after[] = {
	    { "RCPT TO:<r@ours.example>\r\n", "503" },
	    { "MAIL FROM:<a@b.org>\r\n", "503" }, { "EHLO h\r\n", "250" },
	    { "RCPT TO:<r@ours.example>\r\n", "503" },
	    { "STARTTLS\r\n", "503" }, { "MAIL FROM:<a@b.org>\r\n", "250" },
	    { "RCPT TO:<r@ours.example>\r\n", "250" }, { "DATA\r\n", "354" },
	    { "A: b\r\n\r\n.\r\n", "250" }, { "QUIT\r\n", "221 EOF" } };
	struct talk talk;

	talk_begin(&talk, options, "");
	talk_connect(&talk, STRANGER);
	STEPS(&talk, "before", before);
	CU_ASSERT(strstr(talk.replies.data, "250-STARTTLS\r\n") != NULL);
	buf_reset(&talk.replies);
	handshake(&talk);
	STEPS(&talk, "after", after);
	CU_ASSERT(strstr(talk.replies.data, "STARTTLS\r\n") == NULL);
	CU_ASSERT(strstr(talk.taken.data, "with ESMTPS id ") != NULL);
	CU_ASSERT(strstr(talk.taken.data, "(using TLSv1.3 with cipher ") !=
	    NULL);
	talk_end(&talk);
}

/* What stands behind STARTTLS is not answered (CVE-2011-0411). */
static void
injection(void)
{
	static const struct talk_step before[] = { HELLO,
	    { "STARTTLS\r\nNOOP\r\n", "220" } };
	static const struct talk_step after[] = { { NULL, "" },
	    { "EHLO h\r\n", "250" }, { "QUIT\r\n", "221 EOF" } };
	struct talk talk;

	talk_begin(&talk, options, "");
	talk_connect(&talk, STRANGER);
	STEPS(&talk, "before", before);
	handshake(&talk);
	STEPS(&talk, "after", after);
	talk_end(&talk);
}

static void
clear_text_as_hello(void)
{
	static const struct talk_step list[] = { HELLO,
	    { "STARTTLS\r\n", "220" } };
	struct talk talk;

	talk_begin(&talk, options, "");
	talk_connect(&talk, STRANGER);
	STEPS(&talk, "list", list);
	io_puts(talk.io, "MAIL FROM:<a@b.org>\r\n");
	io_flush(talk.io, task_deadline(1000));
	while (smtp_server_sessions(talk.server) > 0)
		task_sleep(1);
	talk_end(&talk);
}

static void
required(void)
{
	static const struct talk_step before[] = { HELLO,
	    { "MAIL FROM:<a@b.org>\r\n", "530" }, { "NOOP\r\n", "250" },
	    { "STARTTLS\r\n", "220" } };
	static const struct talk_step after[] = { { "EHLO h\r\n", "250" },
	    { "MAIL FROM:<a@b.org>\r\n", "250" }, { "QUIT\r\n", "221 EOF" } };
	struct talk talk;

	talk_begin(&talk, options, "tls = required");
	talk_connect(&talk, STRANGER);
	STEPS(&talk, "before", before);
	handshake(&talk);
	STEPS(&talk, "after", after);
	talk_end(&talk);
}

static void
implicit(void)
{
	static const struct talk_step list[] = { HELLO,
	    { "STARTTLS\r\n", "503" }, { "MAIL FROM:<a@b.org>\r\n", "250" },
	    { "QUIT\r\n", "221 EOF" } };
	struct talk talk;

	talk_begin(&talk, options, "tls = implicit");
	talk_connect(&talk, STRANGER);
	handshake(&talk);
	STEPS(&talk, "list", list);
	talk_end(&talk);
}

static void
off(void)
{
	static const struct talk_step list[] = { HELLO,
	    { "STARTTLS\r\n", "502" }, { "QUIT\r\n", "221 EOF" } };
	struct talk talk;

	talk_begin(&talk, options, "tls = none");
	talk_connect(&talk, STRANGER);
	STEPS(&talk, "list", list);
	CU_ASSERT(strstr(talk.replies.data, "STARTTLS\r\n") == NULL);
	talk_end(&talk);
}

static void
all_runs(void)
{
	starttls();
	injection();
	clear_text_as_hello();
	required();
	implicit();
	off();
}

static void
all(void)
{
	const struct tls_settings settings = { .min_version = "TLSv1.2" };
	char certificate[64], key[64];
	const char *why;

	CU_ASSERT_FATAL(mkdtemp(directory) != NULL);
	snprintf(certificate, sizeof certificate, "%s/cert.pem", directory);
	snprintf(key, sizeof key, "%s/key.pem", directory);
	write_certificate(certificate, key);
	snprintf(options, sizeof options, "tls_certificate = \"%s\"\n"
	    "tls_key = \"%s\"", certificate, key);
	client_tls = tls_client_new(&settings, TLS_VERIFY_NONE, NULL, 0, &why);
	talk_run(all_runs);
	tls_context_free(&client_tls);
	unlink(certificate);
	unlink(key);
	rmdir(directory);
}

SUITE(smtp_tls, { "TLS in all ways", all })
