/*
 * A connection: buffered bytes over a socket, with or without TLS, for tasks.
 * Reads and writes wait for the peer up to a deadline (task.h); -1 with errno,
 * which is EPROTO for a TLS error (io_why() tells which).  The input buffer is
 * given back while an idle connection waits.
 */
#ifndef BASE_IO_H
#define BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct io;
struct tls_context;

/* Takes the socket (made non-blocking, close-on-exec). */
struct io *io_new(int fd);

/* Closes and frees; NULL is fine.  Sends TLS close_notify if it can at once. */
void io_free(struct io **);

/* Connects; NULL with errno and *why on failure.  from may be NULL. */
struct io *io_connect(const struct sockaddr *to, socklen_t to_len,
    const struct sockaddr *from, socklen_t from_len, int64_t deadline,
    const char **why);

/*
 * How io_connect() reaches a UNIX socket: gives a connected descriptor, or -1
 * with errno and *why.  A process that is locked in asks its master instead of
 * connecting by itself.  For the whole process; NULL: a plain connect.
 */
typedef int io_connect_unix_f(const char *path, const char **why,
    int64_t deadline);
void io_set_unix_connector(io_connect_unix_f *);

/*
 * From now on acknowledges what the peer sends at once (TCP_QUICKACK, which
 * does not last and is set before each read): for a peer that leaves Nagle's
 * algorithm on and writes in small pieces, such as libmilter.
 */
void io_quickack(struct io *);

int io_fd(const struct io *);

/* Text for the last error: TLS error or strerror(errno). */
const char *io_why(const struct io *);

/* --- input --- */

/*
 * Reads once what there is into the input buffer.  Returns the bytes added,
 * 0 at end of file, -1 on error.
 */
ssize_t io_fill(struct io *, int64_t deadline);

/* What is in the input buffer; valid until the next call that reads. */
const char *io_input(const struct io *, size_t *len);

/* Drops len bytes from the front of the input buffer. */
void io_consume(struct io *, size_t len);

/*
 * One line, up to and including LF, in *line and *len; consumed, valid until
 * the next call that reads.  Returns 1; 0 at end of file; -1 on error, with
 * errno EMSGSIZE if max bytes hold no LF (what was read stays in the buffer).
 * max is at most 16384, the size of the buffer.
 */
int io_read_line(struct io *, size_t max, const char **line, size_t *len,
    int64_t deadline);

/* Exactly len bytes: 1; end of file before the first byte: 0; else -1. */
int io_read_full(struct io *, void *bytes, size_t len, int64_t deadline);

/* Whether the peer has closed or reset, without consuming anything. */
bool io_peer_gone(struct io *);

/* --- output --- */

/* Appends to the output buffer; sent by io_flush() or when it grows large. */
void io_put(struct io *, const void *bytes, size_t len);
void io_puts(struct io *, const char *string);
void io_printf(struct io *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes in the output buffer that were not sent yet. */
size_t io_pending(const struct io *);

/* Sends the output buffer.  0 or -1. */
int io_flush(struct io *, int64_t deadline);

/*
 * Sends the output buffer and then these bytes, without copying them.  -1: it
 * is unknown how much was sent, the connection is of no more use.
 */
int io_writev(struct io *, const struct iovec *, int count, int64_t deadline);

/* --- TLS (tls.h makes the contexts) --- */

/*
 * Turns TLS on, as server or client.  Fails (EPROTO) if clear-text input is
 * already buffered: it came before the handshake (CVE-2011-0411).
 * server_name: what SNI says and the certificate must name; see tls.h.
 */
int io_tls_accept(struct io *, struct tls_context *, int64_t deadline);
int io_tls_connect(struct io *, struct tls_context *, const char *server_name,
    int64_t deadline);

/* What was negotiated.  Strings live as long as the io; NULL without TLS. */
struct io_tls_info {
	const char *version;		/* "TLSv1.3" */
	const char *cipher;		/* "TLS_AES_256_GCM_SHA384" */
	int bits;
	const char *server_name;	/* SNI, or NULL */
	const char *peer_subject;	/* NULL if not verified */
	const char *peer_issuer;
	bool verified;
};
const struct io_tls_info *io_tls(const struct io *);

#endif
