/* Between io.c and io_tls.c: what a connection is. */
#ifndef BASE_IO_INTERNAL_H
#define BASE_IO_INTERNAL_H

#include <openssl/ssl.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/task.h"

struct io_tls_state;

struct io {
	struct task_fd fd;
	char *input;			/* NULL: none is held */
	size_t start, end;		/* what of it is not consumed */
	size_t scanned;			/* from start on: holds no LF */
	struct buf output;
	const char *why;		/* of the last error; NULL: errno's */
	char *why_text;			/* behind why, if it was allocated */
	int error;
	unsigned streak;		/* reads in a row without a wait */
	bool tcp;
	bool quickack;
	bool drained;			/* the last read took all there was */
	bool flushing;			/* a task is sending the output */
	SSL *ssl;			/* NULL: clear text */
	bool tls_failed;
	struct io_tls_info info;
};

/* Notes an error, sets errno; why must be constant, NULL: strerror(error). */
int io_fail(struct io *, int error, const char *why);

/* The same with a text of its own; copied. */
int io_fail_text(struct io *, int error, const char *text);

/*
 * As recv() and send(), through TLS: -1 and EAGAIN with what to wait for in
 * *want, other errors are noted.
 */
ssize_t io_tls_read(struct io *, void *bytes, size_t len, enum task_want *);
ssize_t io_tls_write(struct io *, const void *bytes, size_t len,
    enum task_want *);
bool io_tls_peer_gone(struct io *);
void io_tls_free(struct io *);

#endif
