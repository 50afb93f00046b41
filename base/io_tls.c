/* TLS on a connection: OpenSSL on the non-blocking socket. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "base/io_internal.h"
#include "base/log.h"
#include "base/tls_internal.h"

/* A smaller record can't have been cut by the size of OpenSSL's buffer. */
#define SMALL_RECORD 4096

/* What OpenSSL has to say; a refused certificate says more than "failed". */
static int
fail_tls(struct io *io)
{
	unsigned long code = ERR_peek_error();
	const char *text = ERR_reason_error_string(code);
	long verify = SSL_get_verify_result(io->ssl);

	if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED &&
	    verify != X509_V_OK)
		text = X509_verify_cert_error_string(verify);
	ERR_clear_error();
	io->tls_failed = true;
	return io_fail_text(io, EPROTO, text != NULL ? text : "TLS error");
}

/*
 * rc and errno are an operation's that didn't succeed: -1 with EAGAIN and
 * what to wait for, or noted; 0 if the peer has closed.
 */
static int
outcome(struct io *io, int rc, enum task_want *want)
{
	int error = errno;

	switch (SSL_get_error(io->ssl, rc)) {
	case SSL_ERROR_WANT_READ:
		*want = TASK_READ;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_WANT_WRITE:
		*want = TASK_WRITE;
		errno = EAGAIN;
		return -1;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		io->tls_failed = true;
		return error == 0 ? 0 : io_fail(io, error, NULL);
	default:
		return fail_tls(io);
	}
}

ssize_t
io_tls_read(struct io *io, void *bytes, size_t len, enum task_want *want)
{
	size_t n;
	int rc;

	if (io->tls_failed)
		return io_fail(io, EPROTO, io->why_text);
	ERR_clear_error();
	errno = 0;
	rc = SSL_read_ex(io->ssl, bytes, len, &n);
	if (rc != 1)
		return outcome(io, rc, want);
	io->drained = n < SMALL_RECORD && SSL_has_pending(io->ssl) == 0;
	return (ssize_t)n;
}

ssize_t
io_tls_write(struct io *io, const void *bytes, size_t len,
    enum task_want *want)
{
	size_t n;
	int rc;

	if (io->tls_failed)
		return io_fail(io, EPROTO, io->why_text);
	ERR_clear_error();
	errno = 0;
	rc = SSL_write_ex(io->ssl, bytes, len, &n);
	if (rc == 1)
		return (ssize_t)n;
	if (outcome(io, rc, want) == 0)
		return io_fail(io, EPIPE, NULL);
	return -1;
}

bool
io_tls_peer_gone(struct io *io)
{
	enum task_want want;
	size_t n;
	char c;
	int rc;

	if (io->tls_failed)
		return true;
	io->drained = false;
	ERR_clear_error();
	errno = 0;
	rc = SSL_peek_ex(io->ssl, &c, 1, &n);
	if (rc == 1)
		return false;
	return outcome(io, rc, &want) == 0 || errno != EAGAIN;
}

void
io_tls_free(struct io *io)
{
	if (io->ssl == NULL)
		return;
	ERR_clear_error();
	if (!io->tls_failed && SSL_is_init_finished(io->ssl))
		(void)SSL_shutdown(io->ssl);
	ERR_clear_error();
	SSL_free(io->ssl);
	free((void *)(uintptr_t)io->info.server_name);
	free((void *)(uintptr_t)io->info.peer_subject);
	free((void *)(uintptr_t)io->info.peer_issuer);
}

/* --- handshake --- */

/* RFC 4514 text of a name; NULL if it can't be had. */
static char *
print_name(const X509_NAME *name)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *bytes, *text = NULL;
	long len;

	if (bio == NULL)
		fatal("out of memory (certificate name)");
	if (X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0) {
		len = BIO_get_mem_data(bio, &bytes);
		text = strndup(bytes, (size_t)len);
	}
	BIO_free(bio);
	return text;
}

static void
note_info(struct io *io, const char *server_name)
{
	X509 *peer = SSL_get0_peer_certificate(io->ssl);

	io->info.version = SSL_get_version(io->ssl);
	io->info.cipher = SSL_get_cipher_name(io->ssl);
	io->info.bits = SSL_get_cipher_bits(io->ssl, NULL);
	if (server_name != NULL)
		io->info.server_name = strdup(server_name);
	/* Without a name that was checked, a chain proves nothing. */
	io->info.verified = !SSL_is_server(io->ssl) && peer != NULL &&
	    server_name != NULL &&
	    SSL_get_verify_result(io->ssl) == X509_V_OK;
	if (!io->info.verified)
		return;
	io->info.peer_subject = print_name(X509_get_subject_name(peer));
	io->info.peer_issuer = print_name(X509_get_issuer_name(peer));
}

static int
begin(struct io *io, struct tls_context *context, int64_t deadline)
{
	if (io->ssl != NULL)
		return io_fail(io, EPROTO, "TLS is on already");
	if (io->start < io->end)
		return io_fail(io, EPROTO, "clear text before the handshake");
	if (io_flush(io, deadline) != 0)
		return -1;
	ERR_clear_error();
	if ((io->ssl = SSL_new(tls_context_ssl(context))) == NULL)
		fatal("out of memory (TLS connection)");
	if (SSL_set_fd(io->ssl, io->fd.fd) != 1)
		fatal("out of memory (TLS connection)");
	io->drained = false;
	return 0;
}

static int
shake_hands(struct io *io, int64_t deadline)
{
	enum task_want want = TASK_READ;
	int rc;

	for (;;) {
		ERR_clear_error();
		errno = 0;
		rc = SSL_do_handshake(io->ssl);
		if (rc == 1)
			return 0;
		if (outcome(io, rc, &want) == 0) {
			io->tls_failed = true;
			return io_fail(io, ECONNRESET,
			    "the peer closed within the handshake");
		}
		if (errno != EAGAIN)
			return -1;
		if (task_fd_wait(&io->fd, want, deadline) != 0) {
			io->tls_failed = true;
			return io_fail(io, errno, NULL);
		}
	}
}

int
io_tls_accept(struct io *io, struct tls_context *context, int64_t deadline)
{
	if (begin(io, context, deadline) != 0)
		return -1;
	SSL_set_accept_state(io->ssl);
	if (shake_hands(io, deadline) != 0)
		return -1;
	note_info(io, SSL_get_servername(io->ssl, TLSEXT_NAMETYPE_host_name));
	return 0;
}

static bool
is_address(const char *name)
{
	struct in6_addr address;

	return inet_pton(AF_INET, name, &address) == 1 ||
	    inet_pton(AF_INET6, name, &address) == 1;
}

/* What the certificate must name; SNI takes host names only (RFC 6066, 3). */
static int
expect_name(struct io *io, const char *name)
{
	X509_VERIFY_PARAM *parameters = SSL_get0_param(io->ssl);
	int ok;

	if (name == NULL && SSL_get_verify_mode(io->ssl) == SSL_VERIFY_NONE)
		return 0;
	if (name == NULL) {
		io->tls_failed = true;
		return io_fail(io, EPROTO, "no name to verify");
	}
	if (is_address(name)) {
		ok = X509_VERIFY_PARAM_set1_ip_asc(parameters, name);
	} else {
		SSL_set_hostflags(io->ssl,
		    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		ok = SSL_set1_host(io->ssl, name) == 1 &&
		    SSL_set_tlsext_host_name(io->ssl, name) == 1;
	}
	return ok == 1 ? 0 : fail_tls(io);
}

int
io_tls_connect(struct io *io, struct tls_context *context,
    const char *server_name, int64_t deadline)
{
	if (begin(io, context, deadline) != 0)
		return -1;
	SSL_set_connect_state(io->ssl);
	if (expect_name(io, server_name) != 0)
		return -1;
	if (shake_hands(io, deadline) != 0)
		return -1;
	note_info(io, server_name);
	return 0;
}

const struct io_tls_info *
io_tls(const struct io *io)
{
	return io->info.version != NULL ? &io->info : NULL;
}
