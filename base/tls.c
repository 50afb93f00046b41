/*
 * TLS contexts.  A server has one SSL_CTX per certificate, all with the same
 * settings; which one serves a connection is decided when its SNI is known.
 *
 * Tickets are as good as a certificate check was: they are bound to the scope
 * that made them, so that one listener's ticket is nothing to another.
 */
#include "base/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tls_internal.h"

#define CHAIN_MAX	20
#define PEM_MAX		(64 * 1024 * 1024)

struct certificate {
	SSL_CTX *ssl;
	struct certificate *next;
};

struct tls_context {
	SSL_CTX *ssl;			/* of the default certificate */
	struct certificate *more;	/* in the order they were added */
	int min_version;
	char *ciphers;
	unsigned char scope[SHA256_DIGEST_LENGTH];
};

/* Of OpenSSL's queue, which is emptied. */
static const char *
ssl_why(const char *fallback)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return why != NULL ? why : fallback;
}

/* An encrypted key is refused; nobody is there to be asked. */
static int
no_password(char *to, int size, int writing, void *argument)
{
	(void)to, (void)size, (void)writing, (void)argument;
	return -1;
}

static BIO *
bio_of(const char *pem, size_t len)
{
	BIO *bio;

	if (len > PEM_MAX)
		return NULL;
	if ((bio = BIO_new_mem_buf(pem, (int)len)) == NULL)
		fatal("out of memory (PEM)");
	return bio;
}

static X509 *
next_certificate(BIO *bio)
{
	X509 *cert = PEM_read_bio_X509(bio, NULL, no_password, NULL);

	ERR_clear_error();		/* "no start line" is its way to end */
	return cert;
}

/* --- settings --- */

static int
parse_version(const char *text)
{
	if (text == NULL || strcmp(text, "TLSv1.2") == 0)
		return TLS1_2_VERSION;
	return strcmp(text, "TLSv1.3") == 0 ? TLS1_3_VERSION : -1;
}

static int
apply_settings(const struct tls_context *context, SSL_CTX *ssl,
    const char **why)
{
	/*
	 * AUTO_RETRY: a read goes on behind a record without data, such as a
	 * ticket; what was read ahead is reported by no socket.
	 */
	SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS |
	    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_AUTO_RETRY |
	    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	/* Mail has its own ends; many a peer closes without close_notify. */
	SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION |
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
	    SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ssl, 1);
	SSL_CTX_set_read_ahead(ssl, 1);
	SSL_CTX_set_dh_auto(ssl, 1);
	if (SSL_CTX_set_session_id_context(ssl, context->scope,
	    sizeof(context->scope)) != 1 ||
	    SSL_CTX_set_min_proto_version(ssl, context->min_version) != 1) {
		*why = ssl_why("cannot set up TLS");
		return -1;
	}
	if (context->ciphers != NULL &&
	    SSL_CTX_set_cipher_list(ssl, context->ciphers) != 1) {
		*why = ssl_why("no such cipher");
		return -1;
	}
	return 0;
}

static SSL_CTX *
ssl_new(const struct tls_context *context, const SSL_METHOD *method,
    const char **why)
{
	SSL_CTX *ssl;

	ERR_clear_error();
	if ((ssl = SSL_CTX_new(method)) == NULL) {
		*why = ssl_why("cannot set up TLS");
		return NULL;
	}
	if (apply_settings(context, ssl, why) != 0) {
		SSL_CTX_free(ssl);
		return NULL;
	}
	return ssl;
}

static struct tls_context *
context_new(const struct tls_settings *settings, const char **why)
{
	const char *scope = settings->session_scope;
	struct tls_context *context;
	int version = parse_version(settings->min_version);

	if (version < 0) {
		*why = "TLS version: TLSv1.2 or TLSv1.3 expected";
		return NULL;
	}
	/* OpenSSL writes to sockets without MSG_NOSIGNAL. */
	signal(SIGPIPE, SIG_IGN);
	if ((context = calloc(1, sizeof(*context))) == NULL)
		fatal("out of memory (TLS context)");
	context->min_version = version;
	if (settings->ciphers != NULL &&
	    (context->ciphers = strdup(settings->ciphers)) == NULL)
		fatal("out of memory (TLS context)");
	if (scope == NULL)
		scope = "";
	SHA256((const unsigned char *)scope, strlen(scope), context->scope);
	return context;
}

void
tls_context_free(struct tls_context **contextp)
{
	struct tls_context *context = *contextp;
	struct certificate *certificate;

	if (context == NULL)
		return;
	while ((certificate = context->more) != NULL) {
		context->more = certificate->next;
		SSL_CTX_free(certificate->ssl);
		free(certificate);
	}
	SSL_CTX_free(context->ssl);
	free(context->ciphers);
	free(context);
	*contextp = NULL;
}

SSL_CTX *
tls_context_ssl(const struct tls_context *context)
{
	return context->ssl;
}

/* --- identities --- */

static int
use_chain(SSL_CTX *ssl, const char *pem, size_t len, const char **why)
{
	BIO *bio = bio_of(pem, len);
	X509 *cert = NULL;
	int rc = -1;

	if (bio == NULL || (cert = next_certificate(bio)) == NULL) {
		*why = "no certificate in PEM";
		goto out;
	}
	if (SSL_CTX_use_certificate(ssl, cert) != 1) {
		*why = ssl_why("unusable certificate");
		goto out;
	}
	X509_free(cert);
	for (int i = 0; (cert = next_certificate(bio)) != NULL; i++) {
		if (i == CHAIN_MAX) {
			*why = "too many certificates in PEM";
			goto out;
		}
		if (SSL_CTX_add0_chain_cert(ssl, cert) != 1) {
			*why = ssl_why("unusable certificate in the chain");
			goto out;
		}
	}
	rc = 0;
out:
	X509_free(cert);
	BIO_free(bio);
	return rc;
}

static int
use_key(SSL_CTX *ssl, const char *pem, size_t len, const char **why)
{
	BIO *bio = bio_of(pem, len);
	EVP_PKEY *key = NULL;
	int rc = -1;

	if (bio != NULL)
		key = PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL);
	if (key == NULL) {
		*why = "no key in PEM, or it is encrypted";
		ERR_clear_error();
		goto out;
	}
	if (X509_check_private_key(SSL_CTX_get0_certificate(ssl), key) != 1) {
		*why = "certificate and key don't match";
		ERR_clear_error();
		goto out;
	}
	if (SSL_CTX_use_PrivateKey(ssl, key) != 1) {
		*why = ssl_why("unusable key");
		goto out;
	}
	rc = 0;
out:
	EVP_PKEY_free(key);
	BIO_free(bio);
	return rc;
}

/* --- servers --- */

static bool
fits(const SSL_CTX *ssl, const char *name)
{
	return X509_check_host(SSL_CTX_get0_certificate(ssl), name, 0,
	    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

/*
 * RFC 6066, 3: an unknown name is no error; mail servers are reached by names
 * that they don't know of, such as an MX alias.
 */
static int
choose_certificate(SSL *connection, int *alert, void *argument)
{
	const struct tls_context *context = argument;
	const char *name;

	(void)alert;
	name = SSL_get_servername(connection, TLSEXT_NAMETYPE_host_name);
	if (name == NULL)
		return SSL_TLSEXT_ERR_NOACK;
	if (fits(context->ssl, name))
		return SSL_TLSEXT_ERR_OK;
	for (struct certificate *c = context->more; c != NULL; c = c->next) {
		if (!fits(c->ssl, name))
			continue;
		SSL_set_SSL_CTX(connection, c->ssl);
		return SSL_TLSEXT_ERR_OK;
	}
	return SSL_TLSEXT_ERR_NOACK;
}

static SSL_CTX *
server_ssl(const struct tls_context *context, const char *chain_pem,
    size_t chain_len, const char *key_pem, size_t key_len, const char **why)
{
	SSL_CTX *ssl = ssl_new(context, TLS_server_method(), why);

	if (ssl == NULL)
		return NULL;
	if (use_chain(ssl, chain_pem, chain_len, why) == 0 &&
	    use_key(ssl, key_pem, key_len, why) == 0)
		return ssl;
	SSL_CTX_free(ssl);
	return NULL;
}

struct tls_context *
tls_server_new(const struct tls_settings *settings, const char *chain_pem,
    size_t chain_len, const char *key_pem, size_t key_len, const char **why)
{
	struct tls_context *context = context_new(settings, why);

	if (context == NULL)
		return NULL;
	context->ssl = server_ssl(context, chain_pem, chain_len, key_pem,
	    key_len, why);
	if (context->ssl == NULL) {
		tls_context_free(&context);
		return NULL;
	}
	SSL_CTX_set_tlsext_servername_callback(context->ssl,
	    choose_certificate);
	SSL_CTX_set_tlsext_servername_arg(context->ssl, context);
	return context;
}

int
tls_server_add(struct tls_context *context, const char *chain_pem,
    size_t chain_len, const char *key_pem, size_t key_len, const char **why)
{
	struct certificate *certificate, **last = &context->more;
	SSL_CTX *ssl;

	ssl = server_ssl(context, chain_pem, chain_len, key_pem, key_len, why);
	if (ssl == NULL)
		return -1;
	if ((certificate = calloc(1, sizeof(*certificate))) == NULL)
		fatal("out of memory (TLS certificate)");
	certificate->ssl = ssl;
	while (*last != NULL)
		last = &(*last)->next;
	*last = certificate;
	return 0;
}

/* --- clients --- */

static int
trust_pem(X509_STORE *store, const char *pem, size_t len, const char **why)
{
	BIO *bio = bio_of(pem, len);
	size_t count = 0;
	X509 *cert;

	while (bio != NULL && (cert = next_certificate(bio)) != NULL) {
		if (X509_STORE_add_cert(store, cert) == 1)
			count++;
		X509_free(cert);
	}
	BIO_free(bio);
	ERR_clear_error();
	if (count > 0)
		return 0;
	*why = "no certificate in PEM";
	return -1;
}

/*
 * The default directory of certificates is read as they are needed, too late
 * behind a chroot; so the bundle that systems keep beside it is read now.
 */
static int
trust_system(X509_STORE *store, const char **why)
{
	const char *bundles[] = {
		getenv(X509_get_default_cert_file_env()),
		X509_get_default_cert_file(),
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/tls/certs/ca-bundle.crt",
	};

	for (size_t i = 0; i < sizeof(bundles) / sizeof(bundles[0]); i++)
		if (bundles[i] != NULL && access(bundles[i], R_OK) == 0 &&
		    X509_STORE_load_file(store, bundles[i]) == 1)
			return 0;
	if (X509_STORE_set_default_paths(store) == 1)
		return 0;
	*why = ssl_why("cannot load the system's certificates");
	return -1;
}

struct tls_context *
tls_client_new(const struct tls_settings *settings, enum tls_verify verify,
    const char *ca_pem, size_t ca_len, const char **why)
{
	struct tls_context *context = context_new(settings, why);
	X509_STORE *store;
	int rc = 0;

	if (context == NULL)
		return NULL;
	context->ssl = ssl_new(context, TLS_client_method(), why);
	if (context->ssl == NULL)
		goto failed;
	store = SSL_CTX_get_cert_store(context->ssl);
	if (ca_pem != NULL)
		rc = trust_pem(store, ca_pem, ca_len, why);
	else if (verify == TLS_VERIFY_NAME)
		rc = trust_system(store, why);
	if (rc != 0)
		goto failed;
	ERR_clear_error();
	SSL_CTX_set_verify(context->ssl, verify == TLS_VERIFY_NAME ?
	    SSL_VERIFY_PEER : SSL_VERIFY_NONE, NULL);
	return context;
failed:
	tls_context_free(&context);
	return NULL;
}

int
tls_client_identify(struct tls_context *context, const char *chain_pem,
    size_t chain_len, const char *key_pem, size_t key_len, const char **why)
{
	if (use_chain(context->ssl, chain_pem, chain_len, why) != 0)
		return -1;
	return use_key(context->ssl, key_pem, key_len, why);
}
