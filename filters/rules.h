/*
 * Rules: the end of the chain.  Each is a condition in Lua over what the
 * filters before found (lua_box.h), and gives points or an action; the sum of
 * all points and the thresholds say what becomes of the message.
 */
#ifndef FILTERS_RULES_H
#define FILTERS_RULES_H

#include "filters/filter.h"

struct buf;

extern const struct filter filter_rules;

/* Its kinds of section beside "scoring", NULL-ended. */
extern const struct section_kind *const rules_kinds[];

/* Adds what is wrong with the rules, each at its place, to errors. */
void rules_check(const struct conf *, struct buf *errors);

#endif
