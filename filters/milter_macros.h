/* The macros that a milter is told with each command. */
#ifndef FILTERS_MILTER_MACROS_H
#define FILTERS_MILTER_MACROS_H

#include "filters/milter_codec.h"

struct buf;
struct mail;
struct recipient;
struct session;

/* What macros are made from.  mail is NULL before MAIL. */
struct milter_facts {
	const struct session *session;
	const struct mail *mail;
	const struct recipient *recipient;
	const char *refusal;		/* the recipient was refused: why */
};

/*
 * Appends the macro packet of a stage.  list: the names that the filter asked
 * for (SETSYMLIST), NULL: those that Sendmail and Postfix send by default.
 * Appends nothing if no macro has a value.
 */
void milter_put_macros(struct buf *, enum milter_stage, const char *list,
    const struct milter_facts *);

/* Whether there is a macro of that name, which stands without braces. */
bool milter_macro_exists(const char *name);

#endif
