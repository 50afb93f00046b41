/*
 * MIME (RFC 2045, 2046): what an entity's header says of its body, what octets
 * the body holds, and the transfer encodings.  Pure.
 */
#ifndef FILTERS_MIME_H
#define FILTERS_MIME_H

#include <stdbool.h>
#include <stddef.h>

struct arena;
struct buf;
struct headers;

#define MIME_LINE_MAX 998		/* octets (RFC 5322, 2.1.1), CRLF not */
#define MIME_BOUNDARY_MAX 250		/* RFC 2046, 5.1.1: 70 */

/* --- what a header says --- */

enum mime_kind {
	MIME_TEXT,
	MIME_OTHER,			/* image/png */
	MIME_MULTIPART,
	MIME_MESSAGE,			/* has no encoding of its own */
	MIME_SEALED,			/* signed or encrypted */
	MIME_AMBIGUOUS			/* readers differ about it */
};

enum mime_encoding { MIME_7BIT, MIME_8BIT, MIME_QUOTED_PRINTABLE, MIME_BASE64,
	MIME_UNKNOWN_ENCODING };	/* 8BIT is binary, too */

struct mime_entity {
	enum mime_kind kind;
	enum mime_encoding encoding;
	bool typed;			/* has a Content-Type */
	bool digest;			/* its parts are messages unless told */
	char boundary[MIME_BOUNDARY_MAX + 1];	/* of a multipart */
};

/* digest: the entity is a part of multipart/digest. */
void mime_entity_read(struct mime_entity *, const struct headers *,
    struct arena *, bool digest);

void mime_set_encoding(struct headers *, struct arena *, enum mime_encoding);

/*
 * Folds what lines are too long; whether there were any.  It can't be done to a
 * field whose name fills the line, nor to one of MIME's with such a word.
 */
bool mime_can_fold(const struct headers *, struct arena *);
bool mime_fold(struct headers *, struct arena *);

/* --- what octets there are --- */

/* Of text in pieces; begins zeroed. */
struct mime_scan {
	bool eight_bit;
	bool long_line;			/* of more than MIME_LINE_MAX octets */
	size_t column;			/* octets of the line so far */
};

void mime_scan(struct mime_scan *, const char *bytes, size_t len);

bool mime_has_eight_bit(const char *bytes, size_t len);

/* Whether text in pieces is UTF-8; begins zeroed. */
struct mime_utf8 {
	bool bad;
	unsigned char left;		/* octets that a letter still needs */
	unsigned char least, most;	/* for the next of them */
};

void mime_utf8(struct mime_utf8 *, const char *bytes, size_t len);
bool mime_utf8_end(const struct mime_utf8 *);

/* --- encodings --- */

enum mime_code {
	MIME_TO_QUOTED_PRINTABLE,
	MIME_TO_BASE64,
	/* For what is encoded already, but in lines that are too long. */
	MIME_REPAIR_QUOTED_PRINTABLE,
	MIME_REPAIR_BASE64
};

/*
 * Encodes text in pieces; begins zeroed but for code and out.  Lines have at
 * most 76 characters, and none begins with "-" or ".": encoding makes no
 * boundary that was none, nor an end of data.  There is no line end behind the
 * last line of base64, and in quoted-printable only one that was there.
 */
struct mime_coder {
	enum mime_code code;
	struct buf *out;
	size_t column;
	unsigned char held[57];		/* of base64: a line to be */
	size_t held_count;
	bool cr;			/* it may belong to a CRLF */
	char blank;			/* 0: none; it may end a line */
	/* Of quoted-printable that is decoded first. */
	bool old_cr;
	char escape[2];			/* "=" and a digit */
	size_t escape_count;
	char blanks[256];		/* at a line's end they don't count */
	size_t blank_count;
};

void mime_code(struct mime_coder *, const char *bytes, size_t len);
void mime_code_end(struct mime_coder *);

#endif
