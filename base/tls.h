/*
 * TLS contexts on OpenSSL 3.  A server context holds certificates by name
 * (SNI); a client context says how strictly the peer is verified.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct tls_context;

struct tls_settings {
	const char *min_version;	/* "TLSv1.2" or "TLSv1.3" */
	const char *ciphers;		/* OpenSSL list for TLS 1.2, or NULL */
	const char *session_scope;	/* tickets fail in another scope */
};

/*
 * A server context with its default certificate: PEM chain and PEM key, the
 * bytes, not paths (the process may be chrooted).  NULL with *why on error.
 */
struct tls_context *tls_server_new(const struct tls_settings *,
    const char *chain_pem, size_t chain_len, const char *key_pem,
    size_t key_len, const char **why);

/*
 * Adds a certificate, chosen when SNI matches one of its names (RFC 6066, 3;
 * subjectAltName dNSName with wildcards, else common name).
 */
int tls_server_add(struct tls_context *, const char *chain_pem,
    size_t chain_len, const char *key_pem, size_t key_len, const char **why);

enum tls_verify {
	TLS_VERIFY_NONE,		/* opportunistic, RFC 7435 */
	TLS_VERIFY_NAME			/* chain and host name must be right */
};

/* ca_pem: trusted roots; NULL: the system's (load before chroot). */
struct tls_context *tls_client_new(const struct tls_settings *,
    enum tls_verify, const char *ca_pem, size_t ca_len, const char **why);

/* What a client shows if it is asked who it is.  0, or -1 and *why. */
int tls_client_identify(struct tls_context *, const char *chain_pem,
    size_t chain_len, const char *key_pem, size_t key_len, const char **why);

void tls_context_free(struct tls_context **);

#endif
