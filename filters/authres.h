/*
 * Authentication-Results (RFC 8601): the field that tells what was found, and
 * the filter "authres" that removes forged ones and adds ours.  The filter also
 * reports iprev, of sessions whose client's name was looked up, and auth.
 */
#ifndef FILTERS_AUTHRES_H
#define FILTERS_AUTHRES_H

#include <stdbool.h>
#include <stddef.h>

#include "filters/filter.h"

/*
 * The value of a field from the findings to report, in the arena, folded with
 * CRLF TAB.  utf8: the message may hold UTF-8 in its header (RFC 6532); else
 * octets beyond ASCII become "?".
 */
const char *authres_print(struct arena *, const char *id,
    const struct finding *, bool utf8);

/*
 * The authserv-id of a field's value, unquoted, or NULL: comments, folds,
 * quotes and a version do not hide it.
 */
const char *authres_id(struct arena *, const char *value, size_t len);

/*
 * The result that a field's value reports for a method, in the arena; "" if it
 * reports several, NULL if none.  The first part, the id, is passed over.
 */
const char *authres_result(struct arena *, const char *value, size_t len,
    const char *method);

/* Skips white space, folds and comments, which may be nested. */
const char *authres_skip_cfws(const char *at, const char *end);

/*
 * Whether two ids are the same: case, a last dot and the way to write labels
 * (A-labels, U-labels) do not matter.
 */
bool authres_id_equal(const char *, const char *);

/*
 * Removes the fields that claim to come from this id, even if only a program
 * that reads sloppily believes it; the last first.  Returns their number.
 */
size_t authres_remove(struct headers *, struct arena *, const char *id);

extern const struct filter filter_authres;

#endif
