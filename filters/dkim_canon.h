/*
 * Canonical forms of a message (RFC 6376, 3.4), as a stream of bytes into a
 * hash, or into several.
 */
#ifndef FILTERS_DKIM_CANON_H
#define FILTERS_DKIM_CANON_H

#include <openssl/evp.h>
#include <stdbool.h>
#include <stddef.h>

struct buf;

/* Appends a field, given with its CRLF; relaxed or as it stands. */
void dkim_canon_field(struct buf *, bool relaxed, const char *raw, size_t len,
    size_t name_len);

typedef void dkim_canon_put_f(void *argument, const char *bytes, size_t len);

/*
 * A body on its way into a hash.  Any split of the bytes will do; a last line
 * without CRLF gets one.
 */
struct dkim_canon_body {
	dkim_canon_put_f *put;
	void *argument;
	bool relaxed;
	bool cr;			/* seen, not yet known what it is */
	bool blank;			/* white space that was held back */
	bool any;			/* something was put out */
	size_t lines;			/* CRLFs that were held back */
	size_t len;			/* of out */
	char out[4096];
};

void dkim_canon_body_begin(struct dkim_canon_body *, EVP_MD_CTX *,
    bool relaxed);
void dkim_canon_body_begin_to(struct dkim_canon_body *, dkim_canon_put_f *,
    void *argument, bool relaxed);
void dkim_canon_body_add(struct dkim_canon_body *, const char *bytes,
    size_t len);
void dkim_canon_body_end(struct dkim_canon_body *);

#endif
