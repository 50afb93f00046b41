/* How long something lasts, in commands and what they show. */
#ifndef POLICY_LIFETIME_H
#define POLICY_LIFETIME_H

#include <stdint.h>

struct buf;

/* What lasts longer is for good. */
#define LIFETIME_SHOWN_MS (INT64_C(3650) * 86400000)

/* "36d", "90s", of at least a second.  0; -1: *why. */
int lifetime_parse(const char *text, int64_t *ms, const char **why);

/* Appends the same, in the largest unit that holds it at least twice. */
void lifetime_print(struct buf *, int64_t ms);

#endif
