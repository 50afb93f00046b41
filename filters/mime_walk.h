/*
 * Walks through a MIME body (RFC 2046, 5.1) and finds what must be encoded so
 * that it has neither lines that are too long nor 8-bit octets.  The outcome is
 * a list of edits, so that everything else stays as it is to the octet.
 *
 * Nothing inside a message/rfc822 or something signed or encrypted is touched,
 * nor what different readers might read differently: the walk fails rather.
 *
 *	walk = mime_walk_new(arena, &entity, want);
 *	mime_walk(walk, bytes, len);		...
 *	mime_walk_end(walk, &found, &why);
 */
#ifndef FILTERS_MIME_WALK_H
#define FILTERS_MIME_WALK_H

#include "filters/mime.h"

#define MIME_DEPTH_MAX 32
#define MIME_PARTS_MAX 1000
#define MIME_HEADER_MAX 65536		/* of a part */

/* What shall not be left. */
enum mime_want {
	MIME_WANT_LINES = 1,		/* lines of more than MIME_LINE_MAX */
	MIME_WANT_SEVEN_BIT = 2,	/* 8-bit text, but for header fields */
	MIME_WANT_ASCII = 4		/* and there: cannot be helped */
};

/* Whether text has something of that. */
bool mime_is_unwanted(const struct mime_scan *, unsigned want);

/* Octets of the body that give way to a text, or to themselves encoded. */
struct mime_edit {
	size_t offset, len;
	const char *text;		/* NULL: encoded */
	size_t text_len;
	enum mime_code code;
};

struct mime_found {
	struct mime_edit *edits;	/* by offset; none overlaps another */
	size_t count;
	size_t parts;			/* that get encoded */
	enum mime_encoding encoding;	/* of the whole, from now on */
	bool eight_bit;			/* there was such */
	bool utf8;			/* and of an untyped entity it is UTF-8 */
};

struct mime_walk;

/* want: of enum mime_want.  What is found lives in the arena. */
struct mime_walk *mime_walk_new(struct arena *, const struct mime_entity *,
    unsigned want);
void mime_walk(struct mime_walk *, const char *bytes, size_t len);

/* 0, or -1: *why, and it stays as it is.  Ends the walk. */
int mime_walk_end(struct mime_walk *, struct mime_found *, const char **why);

#endif
