/*
 * The mail that tells a postmaster what the outbound guard did, from what the
 * policy process hands over (policy/guard.h).
 */
#ifndef GATEWAY_GUARD_MAIL_H
#define GATEWAY_GUARD_MAIL_H

#include <stdint.h>

struct arena;
struct buf;

struct guard_mail {
	const char *hostname;		/* ours */
	const char *const *to;		/* addresses, NULL-ended */
	const char *id;			/* of the message */
	int64_t now_ms;			/* wall clock */
};

/*
 * The key of a claim of the guard's, "SUBJECT BEGIN ID", and where its rows
 * begin; NULL: it is of something else, or makes no sense.  The text is written
 * to only if it is the guard's.
 */
const char *guard_mail_claim(struct arena *, char *text, char **rows);

/*
 * Appends the message, in ASCII, with lines ended by CRLF.  Rows are written
 * to; those that make no sense are left out, and of an account all but the
 * worst.  How many accounts it tells of; 0:
 * nothing is appended.
 */
int guard_mail_print(const struct guard_mail *, char *rows, struct buf *);

#endif
