/*
 * Brings a message into a form that no later hop needs to change (RFC 6376,
 * 5.3): lines of 998 octets at most, and 7-bit text.  Parts that have others
 * are encoded, long header fields folded; all else stays as it is.
 *
 * A message is converted as a whole or not at all: not if it is signed, nor if
 * what would have to be encoded must not be.
 */
#ifndef FILTERS_CONVERT_H
#define FILTERS_CONVERT_H

#include "filters/filter.h"
#include "filters/mime_walk.h"

enum convert_result {
	CONVERT_NOT_NEEDED,
	CONVERT_PLANNED,
	CONVERT_IMPOSSIBLE,		/* *why */
	CONVERT_UNREADABLE		/* errno */
};

/* Reads slices one after the other; begins zeroed but for these. */
struct slice_reader {
	const struct slice *slices;
	size_t count;
	size_t index, done;		/* done: of that slice */
	char *scratch;			/* for files, in the arena */
};

#define SLICE_READ_MAX 65536

/*
 * The next octets, at most so many and SLICE_READ_MAX, good until the next call.
 * Returns their number, 0 at the end, -1: errno.
 */
ssize_t slice_read(struct slice_reader *, size_t max, struct arena *,
    const char **bytes);

/* Scans them all; yields in large ones.  -1: errno. */
int slices_scan(const struct slice *, size_t count, struct arena *,
    struct mime_scan *);

/* How a message becomes another. */
struct conversion {
	const struct slice *body;
	size_t count;
	struct mime_entity entity;	/* as it was */
	struct mime_found found;
	bool fold;			/* the header */
};

/*
 * Plans it for a header and a body in slices, which are borrowed.  want: of
 * enum mime_want.  Yields in large bodies.
 */
enum convert_result convert_plan(struct conversion *, const struct headers *,
    struct arena *, const struct slice *body, size_t count, unsigned want,
    const char **why);

/* Changes the header as planned. */
void convert_header(const struct conversion *, struct headers *,
    struct arena *);

/* Gets the new body's next octets; anything but 0 ends it. */
typedef int convert_write_f(void *argument, const char *bytes, size_t len);

/* Writes the new body.  -1: the old one cannot be read (errno). */
int convert_write(const struct conversion *, struct arena *,
    convert_write_f *, void *argument);

/*
 * What is converted, as sections say it, and its bits of enum mime_want; behind
 * these a section may have more.
 */
#define CONVERT_CHOICES "all|long_lines"
#define CONVERT_WANT(choice) ((choice) == 0 ?				\
	MIME_WANT_LINES | MIME_WANT_SEVEN_BIT : MIME_WANT_LINES)

/* Converts the message of a filter; trace and log tell what could not be. */
void convert_mail(struct filter_run *, unsigned want);

extern const struct filter filter_convert;

#endif
