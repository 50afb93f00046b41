/* Message content on its way to the next hop (RFC 5321, 4.5.2). */
#include "gateway/client_data.h"

#include <stdint.h>
#include <string.h>

static char dot[] = ".", crlf[] = "\r\n", last[] = "\r\n.\r\n";

static void
put(struct iovec *iov, int *count, const char *bytes, size_t len)
{
	struct iovec *before = *count > 0 ? &iov[*count - 1] : NULL;

	if (len == 0)
		return;
	if (before != NULL &&
	    (const char *)before->iov_base + before->iov_len == bytes) {
		before->iov_len += len;
		return;
	}
	iov[*count].iov_base = (void *)(uintptr_t)bytes;
	iov[*count].iov_len = len;
	(*count)++;
}

/*
 * The length of the line at p with its line end, and how it ends: CRLF, a bare
 * LF, CR at the end of the bytes, or not at all.  0: bare CR or NUL in it.
 */
enum line_end { END_CRLF, END_LF, END_CR, END_NONE, END_BAD };

static size_t
line_find(const char *p, size_t len, bool cr, enum line_end *end)
{
	const char *lf = memchr(p, '\n', len);
	size_t n = lf != NULL ? (size_t)(lf - p) : len;
	const char *r = memchr(p, '\r', n);

	if (memchr(p, '\0', n) != NULL || (cr && lf != p)) {
		*end = END_BAD;
		return n;
	}
	if (lf != NULL) {
		if (r == NULL)
			*end = cr ? END_CRLF : END_LF;
		else
			*end = r + 1 == lf ? END_CRLF : END_BAD;
		return n + 1;
	}
	if (r == NULL)
		*end = END_NONE;
	else
		*end = r + 1 == p + len ? END_CR : END_BAD;
	return n;
}

ssize_t
data_stuff(struct data_state *state, const char *bytes, size_t len,
    struct iovec *iov, int max, int *count)
{
	size_t used = 0, n;
	enum line_end end;

	while (used < len && *count + DATA_IOV_MIN <= max) {
		const char *p = bytes + used;

		n = line_find(p, len - used, state->cr, &end);
		if (end == END_BAD)
			return -1;
		if (!state->in_line && *p == '.')
			put(iov, count, dot, 1);
		if (end == END_LF) {
			put(iov, count, p, n - 1);
			put(iov, count, crlf, 2);
		} else {
			put(iov, count, p, n);
		}
		state->in_line = end == END_NONE || end == END_CR;
		state->cr = end == END_CR;
		used += n;
	}
	return (ssize_t)used;
}

int
data_end(struct data_state *state, struct iovec *iov, int *count)
{
	if (state->cr)
		return -1;
	if (state->in_line)
		put(iov, count, last, 5);
	else
		put(iov, count, last + 2, 3);
	return 0;
}
