/*
 * Patterns: Perl's regular expressions, with limits on the time and memory that
 * one may take on a text, for somebody may have chosen the text for that.
 */
#ifndef BASE_PATTERN_H
#define BASE_PATTERN_H

#include <stddef.h>

#include "base/answer.h"

struct pattern;

/*
 * flags: letters of i, m, s and x.  NULL: *why, good until the next call.
 * Fastest if it is made before the sandbox forbids code that is made at run time.
 */
struct pattern *pattern_new(const char *text, const char *flags,
    const char **why);
void pattern_free(struct pattern **);

/* What matched of the text: its first group, or all if there is none. */
struct pattern_match {
	size_t offset, len;
};

/*
 * Does it match somewhere?  UNKNOWN: it took too long, or failed; *why.  match
 * may be NULL.
 */
enum answer pattern_find(const struct pattern *, const char *text, size_t len,
    struct pattern_match *match, const char **why);

#endif
