/*
 * A header section as it stood at one time: what filters are shown that work
 * beside others, or before the message is complete.  Fields are known by their
 * identity, so that what is asked about the third of a view can be done to the
 * message later, whatever has become of it.
 */
#ifndef FILTERS_VIEW_H
#define FILTERS_VIEW_H

#include "filters/mail.h"

struct view_field {
	struct header *header;		/* the message's */
	const char *raw;		/* as it was */
	size_t len;
};

struct view {
	struct view_field *fields;	/* hidden ones too */
	size_t count;
};

/* Views lie in the arena. */
struct view *view_take(const struct headers *, struct arena *);

/* A copy of the fields, that can be changed without changing the original. */
void view_copy_headers(const struct headers *, struct arena *,
    struct headers *copy);

/*
 * Whether the header section stands as the view shows it.  Then the view's
 * fields are those from now on, even if it was taken of a copy.
 */
bool view_holds(struct view *, const struct headers *);

#endif
