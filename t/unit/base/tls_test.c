#include <errno.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/task.h"
#include "base/tls.h"
#include "base/tls_internal.h"
#include "t/unit/unit.h"

#define SECOND 1000

/* --- certificates, self-signed --- */

struct identity {
	struct buf cert, key;
};

static void
append_bio(struct buf *buf, BIO *bio)
{
	char *bytes;
	long len = BIO_get_mem_data(bio, &bytes);

	buf_append(buf, bytes, (size_t)len);
	BIO_free(bio);
}

static void
add_extension(X509 *cert, int nid, const char *value)
{
	X509V3_CTX v3;
	X509_EXTENSION *extension;

	X509V3_set_ctx(&v3, cert, cert, NULL, NULL, 0);
	extension = X509V3_EXT_conf_nid(NULL, &v3, nid, value);
	CU_ASSERT_PTR_NOT_NULL_FATAL(extension);
	X509_add_ext(cert, extension, -1);
	X509_EXTENSION_free(extension);
}

/* names: "DNS:a.example,DNS:*.b.example"; NULL: only the common name. */
static void
make_identity(struct identity *identity, const char *common_name,
    const char *names)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *subject = X509_get_subject_name(cert);
	BIO *bio;

	*identity = (struct identity){ BUF_INIT, BUF_INIT };
	X509_set_version(cert, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -60);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
	    (const unsigned char *)common_name, -1, -1, 0);
	X509_set_issuer_name(cert, subject);
	X509_set_pubkey(cert, key);
	add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
	if (names != NULL)
		add_extension(cert, NID_subject_alt_name, names);
	CU_ASSERT_FATAL(X509_sign(cert, key, EVP_sha256()) > 0);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, cert);
	append_bio(&identity->cert, bio);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	append_bio(&identity->key, bio);
	X509_free(cert);
	EVP_PKEY_free(key);
}

static struct identity mx, other;

static void
make_identities(void)
{
	if (mx.cert.data != NULL)
		return;
	make_identity(&mx, "mx.example.org", "DNS:mx.example.org,"
	    "DNS:*.mx.example.org,IP:127.0.0.1");
	make_identity(&other, "other.example.net", NULL);
}

/* The last test's: nothing may be left for LeakSanitizer to find. */
static void
free_identities(void)
{
	buf_release(&mx.cert);
	buf_release(&mx.key);
	buf_release(&other.cert);
	buf_release(&other.key);
}

static struct tls_context *
new_server(const struct tls_settings *settings)
{
	struct tls_context *server;
	const char *why = "";

	make_identities();
	server = tls_server_new(settings, mx.cert.data, mx.cert.len,
	    mx.key.data, mx.key.len, &why);
	CASE_ASSERT(why, server != NULL);
	return server;
}

/* --- contexts --- */

static void
checks_pem(void)
{
	static const struct {
		const char *name;
		const struct buf *cert, *key;
		size_t cert_len;		/* 0: all */
		const char *why;
	} cases[] = {
		{ "right",	&mx.cert, &mx.key, 0, NULL },
		{ "no key",	&mx.cert, &mx.cert, 0,
		    "no key in PEM, or it is encrypted" },
		{ "swapped",	&mx.key, &mx.cert, 0,
		    "no certificate in PEM" },
		{ "cut",	&mx.cert, &mx.key, 100,
		    "no certificate in PEM" },
		{ "another's key", &mx.cert, &other.key, 0,
		    "certificate and key don't match" },
	};
	struct tls_settings settings = { "TLSv1.2", NULL, "a" };

	make_identities();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = NULL;
		size_t len = cases[i].cert_len ? cases[i].cert_len :
		    cases[i].cert->len;
		struct tls_context *server = tls_server_new(&settings,
		    cases[i].cert->data, len, cases[i].key->data,
		    cases[i].key->len, &why);

		CASE_ASSERT(cases[i].name,
		    (server != NULL) == (cases[i].why == NULL));
		CASE_ASSERT(cases[i].name, server != NULL ||
		    (why != NULL && strcmp(why, cases[i].why) == 0));
		tls_context_free(&server);
		CU_ASSERT_PTR_NULL(server);
	}
}

static void
checks_settings(void)
{
	static const struct {
		const char *name;
		struct tls_settings settings;
		bool want;
	} cases[] = {
		{ "1.2",	{ "TLSv1.2", NULL, "a" },	true },
		{ "1.3",	{ "TLSv1.3", NULL, NULL },	true },
		{ "default",	{ NULL, NULL, NULL },		true },
		{ "ciphers",	{ NULL, "HIGH:!aNULL", NULL },	true },
		{ "SSLv3",	{ "SSLv3", NULL, NULL },	false },
		{ "no cipher",	{ NULL, "none-such", NULL },	false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = NULL;
		struct tls_context *client = tls_client_new(
		    &cases[i].settings, TLS_VERIFY_NONE, NULL, 0, &why);

		CASE_ASSERT(cases[i].name,
		    (client != NULL) == cases[i].want);
		CASE_ASSERT(cases[i].name, client != NULL || why != NULL);
		tls_context_free(&client);
	}
}

static void
needs_roots(void)
{
	struct tls_settings settings = { NULL, NULL, NULL };
	const char *why = NULL;

	CU_ASSERT_PTR_NULL(tls_client_new(&settings, TLS_VERIFY_NAME, "x", 1,
	    &why));
	CU_ASSERT_STRING_EQUAL(why, "no certificate in PEM");
}

/* --- handshakes: a client and a server task on a socket pair --- */

struct talk {
	const char *name;
	const char *server_version, *client_version;
	enum tls_verify verify;
	const struct buf *ca;		/* NULL with TLS_VERIFY_NONE: none */
	const char *host;		/* what the client asks for */
	const char *subject;		/* NULL: the handshake fails */
	bool verified;
	const char *why;		/* the client's, if it fails */

	struct tls_context *server, *client;
	struct io *server_io, *client_io;
};

static void
serve(void *argument)
{
	struct talk *talk = argument;
	int64_t deadline = task_deadline(5 * SECOND);
	const char *line;
	size_t len;
	int rc;

	rc = io_tls_accept(talk->server_io, talk->server, deadline);
	CASE_ASSERT(talk->name, talk->subject == NULL || rc == 0);
	if (rc != 0)
		return;
	while (io_read_line(talk->server_io, 1000, &line, &len, deadline) == 1)
	{
		io_put(talk->server_io, line, len);
		CU_ASSERT_EQUAL(io_flush(talk->server_io, deadline), 0);
	}
	if (talk->subject != NULL)
		CASE_ASSERT(talk->name, io_peer_gone(talk->server_io));
}

static void
check_info(struct talk *talk, const struct io_tls_info *info)
{
	const char *version = talk->client_version;

	CASE_ASSERT(talk->name, info != NULL);
	if (info == NULL)
		return;
	CASE_ASSERT(talk->name, strcmp(info->version, version) == 0);
	CASE_ASSERT(talk->name, info->cipher != NULL && info->bits >= 128);
	CASE_ASSERT(talk->name, info->verified == talk->verified);
	if (talk->verified)
		CASE_ASSERT(talk->name,
		    strcmp(info->peer_subject, talk->subject) == 0 &&
		    strcmp(info->peer_issuer, talk->subject) == 0);
	else
		CASE_ASSERT(talk->name, info->peer_subject == NULL);
}

static void
converse(struct talk *talk, int64_t deadline)
{
	struct io *io = talk->client_io;
	const char *line;
	size_t len;

	for (int i = 0; i < 3; i++) {
		io_printf(io, "line %d\n", i);
		CU_ASSERT_EQUAL(io_flush(io, deadline), 0);
		CU_ASSERT_EQUAL(io_read_line(io, 100, &line, &len, deadline),
		    1);
		CASE_ASSERT(talk->name,
		    len == 7 && line[5] == (char)('0' + i));
		CU_ASSERT_FALSE(io_peer_gone(io));
	}
}

static void
call(void *argument)
{
	struct talk *talk = argument;
	int64_t deadline = task_deadline(5 * SECOND);
	struct task *server = task_start("server", serve, talk);
	int rc;

	CU_ASSERT_PTR_NULL(io_tls(talk->client_io));
	rc = io_tls_connect(talk->client_io, talk->client, talk->host,
	    deadline);
	/* In TLS 1.3 the client is done before the server has judged. */
	CASE_ASSERT(talk->name, (rc == 0) == (talk->subject != NULL));
	if (rc == 0) {
		check_info(talk, io_tls(talk->client_io));
		converse(talk, deadline);
	} else {
		CASE_ASSERT(talk->name, errno == EPROTO);
		CASE_ASSERT(talk->name, talk->why != NULL &&
		    strcmp(io_why(talk->client_io), talk->why) == 0);
		CASE_ASSERT(talk->name,
		    io_fill(talk->client_io, deadline) == -1);
	}
	io_free(&talk->client_io);
	CU_ASSERT_EQUAL(task_join(&server, DEADLINE_NEVER), 0);
	if (rc == 0 && talk->host != NULL && strcmp(talk->host, "127.0.0.1"))
		CASE_ASSERT(talk->name, strcmp(
		    io_tls(talk->server_io)->server_name, talk->host) == 0);
	io_free(&talk->server_io);
}

static void
run_talk(struct talk *talk, task_f *body)
{
	struct tls_settings server = { talk->server_version, NULL, "a" };
	struct tls_settings client = { talk->client_version, NULL, "a" };
	const char *why = "";
	int s[2];

	talk->server = new_server(&server);
	CU_ASSERT_EQUAL(tls_server_add(talk->server, other.cert.data,
	    other.cert.len, other.key.data, other.key.len, &why), 0);
	talk->client = tls_client_new(&client, talk->verify,
	    talk->ca != NULL ? talk->ca->data : NULL,
	    talk->ca != NULL ? talk->ca->len : 0, &why);
	CASE_ASSERT(why, talk->client != NULL);
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	task_init();
	talk->server_io = io_new(s[0]);
	talk->client_io = io_new(s[1]);
	task_detach(talk->name, body, talk);
	task_loop();
	CU_ASSERT_EQUAL(task_count(), 0);
	task_shutdown();
	tls_context_free(&talk->server);
	tls_context_free(&talk->client);
}

static void
shakes_hands(void)
{
	static const char *const two = "TLSv1.2", *const three = "TLSv1.3";
	struct talk cases[] = {
		{ .name = "opportunistic", .server_version = two,
		    .client_version = three, .subject = "" },
		{ .name = "opportunistic, other host", .server_version = two,
		    .client_version = three, .subject = "",
		    .host = "elsewhere.example" },
		{ .name = "opportunistic, known root", .server_version = two,
		    .client_version = three, .host = "mx.example.org",
		    .ca = &mx.cert, .subject = "CN=mx.example.org",
		    .verified = true },
		{ .name = "right name", .server_version = three,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &mx.cert, .host = "mx.example.org",
		    .subject = "CN=mx.example.org", .verified = true },
		{ .name = "wildcard", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &mx.cert, .host = "a.mx.example.org",
		    .subject = "CN=mx.example.org", .verified = true },
		{ .name = "address", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &mx.cert, .host = "127.0.0.1",
		    .subject = "CN=mx.example.org", .verified = true },
		{ .name = "chosen by SNI", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &other.cert, .host = "other.example.net",
		    .subject = "CN=other.example.net", .verified = true },
		{ .name = "wrong name", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &mx.cert, .host = "mx.example.com",
		    .why = "hostname mismatch" },
		{ .name = "below a wildcard", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &mx.cert, .host = "a.b.mx.example.org",
		    .why = "hostname mismatch" },
		{ .name = "unknown root", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &other.cert, .host = "mx.example.org",
		    .why = "self-signed certificate" },
		{ .name = "no name", .server_version = two,
		    .client_version = three, .verify = TLS_VERIFY_NAME,
		    .ca = &mx.cert, .why = "no name to verify" },
	};

	make_identities();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		run_talk(&cases[i], call);
}

/* --- what may come before and instead of a handshake --- */

/* CVE-2011-0411: what was sent in clear is never taken for TLS input. */
static void
inject(void *argument)
{
	struct talk *talk = argument;
	int64_t deadline = task_deadline(5 * SECOND);
	const char *line;
	size_t len;

	io_puts(talk->client_io, "STARTTLS\r\nNOOP\r\n");
	CU_ASSERT_EQUAL(io_flush(talk->client_io, deadline), 0);
	CU_ASSERT_EQUAL(io_read_line(talk->server_io, 100, &line, &len,
	    deadline), 1);
	CU_ASSERT_EQUAL(io_tls_accept(talk->server_io, talk->server, deadline),
	    -1);
	CU_ASSERT_EQUAL(errno, EPROTO);
	CU_ASSERT_STRING_EQUAL(io_why(talk->server_io),
	    "clear text before the handshake");
	io_puts(talk->server_io, "220 go\r\n250 injected\r\n");
	CU_ASSERT_EQUAL(io_flush(talk->server_io, deadline), 0);
	CU_ASSERT_EQUAL(io_read_line(talk->client_io, 100, &line, &len,
	    deadline), 1);
	CU_ASSERT_EQUAL(io_tls_connect(talk->client_io, talk->client, NULL,
	    deadline), -1);
	CU_ASSERT_EQUAL(errno, EPROTO);
	io_free(&talk->client_io);
	io_free(&talk->server_io);
}

static void
refuses_injected_text(void)
{
	struct talk talk = { .name = "injection" };

	run_talk(&talk, inject);
}

static void
send_text(void *argument)
{
	struct talk *talk = argument;
	int64_t deadline = task_deadline(5 * SECOND);

	io_puts(talk->client_io, "MAIL FROM:<a@example.org>\r\n");
	CU_ASSERT_EQUAL(io_flush(talk->client_io, deadline), 0);
	CU_ASSERT_EQUAL(io_tls_accept(talk->server_io, talk->server, deadline),
	    -1);
	CU_ASSERT_EQUAL(errno, EPROTO);
	CU_ASSERT(strlen(io_why(talk->server_io)) > 0);
	io_free(&talk->client_io);
	io_free(&talk->server_io);
}

static void
refuses_clear_text(void)
{
	struct talk talk = { .name = "clear text" };

	run_talk(&talk, send_text);
}

static void
say_nothing(void *argument)
{
	struct talk *talk = argument;

	CU_ASSERT_EQUAL(io_tls_accept(talk->server_io, talk->server,
	    task_deadline(2)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	CU_ASSERT_EQUAL(io_fill(talk->server_io, task_deadline(2)), -1);
	CU_ASSERT_EQUAL(errno, EPROTO);
	io_free(&talk->server_io);
	CU_ASSERT_EQUAL(io_tls_connect(talk->client_io, talk->client, NULL,
	    task_deadline(2)), -1);
	io_free(&talk->client_io);
}

static void
handshakes_have_deadlines(void)
{
	struct talk talk = { .name = "silence" };

	run_talk(&talk, say_nothing);
}

/* --- large amounts, both ways at once --- */

#define LARGE 300000

static void
send_large(void *argument)
{
	struct io *io = argument;
	static char bytes[LARGE];
	struct iovec iov[3] = { { bytes, 100 }, { bytes + 100, LARGE - 200 },
	    { bytes + LARGE - 100, 100 } };

	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = (char)(i * 7 + i / 251);
	CU_ASSERT_EQUAL(io_writev(io, iov, 3, task_deadline(5 * SECOND)), 0);
}

static void
exchange_large(struct io *io)
{
	struct task *sender = task_start("sender", send_large, io);
	const char *bytes;
	size_t total = 0, wrong = 0, len;

	while (total < LARGE && io_fill(io, task_deadline(5 * SECOND)) > 0) {
		bytes = io_input(io, &len);
		for (size_t i = 0; i < len; i++, total++)
			if (bytes[i] != (char)(total * 7 + total / 251))
				wrong++;
		io_consume(io, len);
	}
	CU_ASSERT_EQUAL(total, LARGE);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(task_join(&sender, DEADLINE_NEVER), 0);
}

static void
serve_large(void *argument)
{
	struct talk *talk = argument;

	CU_ASSERT_EQUAL(io_tls_accept(talk->server_io, talk->server,
	    task_deadline(5 * SECOND)), 0);
	exchange_large(talk->server_io);
}

static void
call_large(void *argument)
{
	struct talk *talk = argument;
	struct task *server = task_start("server", serve_large, talk);

	CU_ASSERT_EQUAL(io_tls_connect(talk->client_io, talk->client, NULL,
	    task_deadline(5 * SECOND)), 0);
	exchange_large(talk->client_io);
	CU_ASSERT_EQUAL(task_join(&server, DEADLINE_NEVER), 0);
	io_free(&talk->client_io);
	io_free(&talk->server_io);
}

static void
is_full_duplex(void)
{
	struct talk talk = { .name = "large" };

	run_talk(&talk, call_large);
}

/* --- a server that speaks first --- */

static void
serve_at_once(void *argument)
{
	struct talk *talk = argument;

	CU_ASSERT_EQUAL(io_tls_accept(talk->server_io, talk->server,
	    task_deadline(5 * SECOND)), 0);
	io_puts(talk->server_io, "220 mx.example.org\r\n");
	CU_ASSERT_EQUAL(io_flush(talk->server_io, task_deadline(SECOND)), 0);
}

/*
 * The ticket and the greeting lie in the socket when the client reads: what is
 * behind a record without data must not be waited for.
 */
static void
read_greeting(void *argument)
{
	struct talk *talk = argument;
	struct task *server = task_start("server", serve_at_once, talk);
	const char *line;
	size_t len;

	CU_ASSERT_EQUAL(io_tls_connect(talk->client_io, talk->client, NULL,
	    task_deadline(5 * SECOND)), 0);
	CU_ASSERT_EQUAL(task_join(&server, DEADLINE_NEVER), 0);
	CU_ASSERT_EQUAL(io_read_line(talk->client_io, 100, &line, &len,
	    task_deadline(SECOND)), 1);
	io_free(&talk->client_io);
	io_free(&talk->server_io);
}

static void
reads_behind_tickets(void)
{
	struct talk talk = { .name = "greeting" };

	run_talk(&talk, read_greeting);
}

/* --- tickets --- */

static SSL_SESSION *ticket;

static int
keep_ticket(SSL *ssl, SSL_SESSION *session)
{
	(void)ssl;
	SSL_SESSION_free(ticket);
	ticket = session;
	return 1;
}

/* One handshake in memory, with what ticket holds; true: it was resumed. */
static bool
resumes(struct tls_context *server, struct tls_context *client)
{
	SSL *s = SSL_new(tls_context_ssl(server));
	SSL *c = SSL_new(tls_context_ssl(client));
	BIO *a, *b;
	bool resumed;
	char byte;

	BIO_new_bio_pair(&a, 65536, &b, 65536);
	SSL_set_bio(s, a, a);
	SSL_set_bio(c, b, b);
	SSL_set_accept_state(s);
	SSL_set_connect_state(c);
	if (ticket != NULL)
		SSL_set_session(c, ticket);
	for (int i = 0; i < 5; i++) {
		SSL_do_handshake(c);
		SSL_do_handshake(s);
	}
	SSL_read(c, &byte, 1);		/* takes the ticket */
	CU_ASSERT(SSL_is_init_finished(c) && SSL_is_init_finished(s));
	resumed = SSL_session_reused(c) == 1;
	SSL_shutdown(c);
	SSL_shutdown(s);
	SSL_free(s);
	SSL_free(c);
	return resumed;
}

static void
binds_tickets_to_scopes(void)
{
	static const char *const versions[] = { "TLSv1.2", "TLSv1.3" };

	for (size_t i = 0; i < 2; i++) {
		struct tls_settings a = { versions[i], NULL, "a" };
		struct tls_settings b = { versions[i], NULL, "b" };
		struct tls_context *first = new_server(&a);
		struct tls_context *second = new_server(&b), *client;
		const char *why;
		unsigned char keys[80];
		SSL_CTX *ssl;

		client = tls_client_new(&a, TLS_VERIFY_NONE, NULL, 0, &why);
		ssl = tls_context_ssl(client);
		SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT |
		    SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ssl, keep_ticket);
		SSL_CTX_set_max_proto_version(ssl,
		    i == 0 ? TLS1_2_VERSION : TLS1_3_VERSION);
		/* Even a server that can read the ticket won't take it. */
		SSL_CTX_get_tlsext_ticket_keys(tls_context_ssl(first), keys,
		    sizeof(keys));
		SSL_CTX_set_tlsext_ticket_keys(tls_context_ssl(second), keys,
		    sizeof(keys));
		CASE_ASSERT(versions[i], !resumes(first, client));
		CASE_ASSERT(versions[i], ticket != NULL);
		CASE_ASSERT(versions[i], resumes(first, client));
		CASE_ASSERT(versions[i], !resumes(second, client));
		SSL_SESSION_free(ticket);
		ticket = NULL;
		tls_context_free(&first);
		tls_context_free(&second);
		tls_context_free(&client);
	}
}

SUITE(tls,
    { "checks PEM", checks_pem },
    { "checks settings", checks_settings },
    { "needs roots", needs_roots },
    { "shakes hands", shakes_hands },
    { "refuses injected text", refuses_injected_text },
    { "refuses clear text", refuses_clear_text },
    { "handshakes have deadlines", handshakes_have_deadlines },
    { "is full duplex", is_full_duplex },
    { "reads behind tickets", reads_behind_tickets },
    { "binds tickets to scopes", binds_tickets_to_scopes },
    { "frees its certificates", free_identities })
