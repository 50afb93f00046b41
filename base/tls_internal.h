/* Between tls.c and io_tls.c. */
#ifndef BASE_TLS_INTERNAL_H
#define BASE_TLS_INTERNAL_H

#include <openssl/ssl.h>

struct tls_context;

/* What connections are made from; borrowed. */
SSL_CTX *tls_context_ssl(const struct tls_context *);

#endif
