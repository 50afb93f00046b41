/* Canonical forms (RFC 6376, 3.4), in one pass. */
#include "config.h"

#include "filters/dkim_canon.h"

#include <ctype.h>
#include <string.h>

#include "base/buf.h"

#define WINDOW 128

void
dkim_canon_field(struct buf *to, bool relaxed, const char *raw, size_t len,
    size_t name_len)
{
	const char *end = raw + len, *at;
	bool blank = false, begun = false;

	if (!relaxed) {
		buf_append(to, raw, len);
		return;
	}
	for (size_t i = 0; i < name_len; i++)
		buf_putc(to, tolower((unsigned char)raw[i]));
	buf_putc(to, ':');
	at = memchr(raw + name_len, ':', len - name_len);
	for (at++; at < end; at++) {
		if (*at == ' ' || *at == '\t')
			blank = true;
		else if (*at != '\r' || at + 1 == end || at[1] != '\n') {
			if (blank && begun)
				buf_putc(to, ' ');
			blank = false;
			begun = true;
			buf_putc(to, *at);
		} else
			at++;	/* the LF of a fold or of the end */
	}
	buf_append(to, "\r\n", 2);
}

static void
put_into_hash(void *hash, const char *bytes, size_t len)
{
	EVP_DigestUpdate(hash, bytes, len);
}

void
dkim_canon_body_begin(struct dkim_canon_body *body, EVP_MD_CTX *hash,
    bool relaxed)
{
	dkim_canon_body_begin_to(body, put_into_hash, hash, relaxed);
}

void
dkim_canon_body_begin_to(struct dkim_canon_body *body, dkim_canon_put_f *put,
    void *argument, bool relaxed)
{
	memset(body, 0, offsetof(struct dkim_canon_body, out));
	body->put = put;
	body->argument = argument;
	body->relaxed = relaxed;
}

static void
put(struct dkim_canon_body *body, const char *bytes, size_t len)
{
	if (body->len + len > sizeof(body->out)) {
		body->put(body->argument, body->out, body->len);
		body->len = 0;
	}
	if (len > sizeof(body->out)) {
		body->put(body->argument, bytes, len);
		return;
	}
	memcpy(body->out + body->len, bytes, len);
	body->len += len;
}

/* Bytes that stay, and before them what was held back. */
static void
put_held(struct dkim_canon_body *body, const char *bytes, size_t len)
{
	for (; body->lines > 0; body->lines--)
		put(body, "\r\n", 2);
	if (body->blank)
		put(body, " ", 1);
	body->blank = false;
	body->any = true;
	put(body, bytes, len);
}

/*
 * How many bytes from there on stay as they are: 0 where there is something to
 * change.  A space between words stays, so most lines do as a whole.  Looks no
 * farther than WINDOW, lest it reads the same bytes again and again.
 */
static size_t
plain_length(const struct dkim_canon_body *body, const char *at, size_t len)
{
	const char *end, *found;

	if (!body->relaxed) {
		found = memchr(at, '\r', len);
		return found != NULL ? (size_t)(found - at) : len;
	}
	if (*at == '\t' || *at == '\r' || (*at == ' ' && body->blank))
		return 0;
	end = at + (len < WINDOW ? len : WINDOW);
	if ((found = memchr(at, '\r', (size_t)(end - at))) != NULL)
		end = found;
	if ((found = memchr(at, '\t', (size_t)(end - at))) != NULL)
		end = found;
	if ((found = memmem(at, (size_t)(end - at), "  ", 2)) != NULL)
		end = found;
	/* What is behind it decides. */
	if (end > at && end[-1] == ' ')
		end--;
	return (size_t)(end - at);
}

void
dkim_canon_body_add(struct dkim_canon_body *body, const char *bytes,
    size_t len)
{
	const char *at = bytes, *end = bytes + len;

	while (at < end) {
		size_t plain;

		if (body->cr) {
			body->cr = false;
			if (*at == '\n') {
				body->blank = false;
				body->lines++;
				at++;
				continue;
			}
			put_held(body, "\r", 1);
		}
		plain = plain_length(body, at, (size_t)(end - at));
		if (plain > 0)
			put_held(body, at, plain);
		at += plain;
		if (at == end)
			break;
		if (*at == '\r') {
			body->cr = true;
			at++;
		} else if (body->relaxed && (*at == ' ' || *at == '\t')) {
			body->blank = true;
			at++;
		}
	}
}

/* 3.4.3: an empty body is a CRLF when simple; 3.4.4: nothing when relaxed. */
void
dkim_canon_body_end(struct dkim_canon_body *body)
{
	if (body->any || !body->relaxed)
		put(body, "\r\n", 2);
	body->put(body->argument, body->out, body->len);
	body->len = 0;
}
