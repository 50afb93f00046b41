/*
 * Message content on its way to the next hop: dots stuffed (RFC 5321, 4.5.2),
 * every line ended by CRLF, nothing copied.  Pure.
 *
 * No bare CR, bare LF or NUL ever leaves: a bare LF becomes CRLF before dots
 * are looked at (else "LF." would end the message at a lax next hop), the
 * others make the content unfit.
 */
#ifndef GATEWAY_CLIENT_DATA_H
#define GATEWAY_CLIENT_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Between pieces of one message. */
struct data_state {
	bool in_line;			/* something precedes on this line */
	bool cr;			/* the last byte was CR */
};

#define DATA_STATE_INIT { false, false }

/* One call of data_stuff() needs at least so much room. */
#define DATA_IOV_MIN 4

/*
 * Turns bytes into vectors behind iov[*count], as far as max allows.  Returns
 * the bytes used, or -1: bare CR or NUL.  Vectors point into bytes or to
 * constants.
 */
ssize_t data_stuff(struct data_state *, const char *bytes, size_t len,
    struct iovec *iov, int max, int *count);

/* The end: CRLF if the last line has none, then the dot.  -1: bare CR. */
int data_end(struct data_state *, struct iovec *iov, int *count);

#endif
