/*
 * Reason codes: why a message, a recipient or a client was refused or held, in
 * one closed list.  A code stands behind each refusal's text in the reply,
 * [code reference], in the log and in millgate_smtp_rejects_total; the manual
 * page millgate-reasons(7) is made of the list.  Codes never change.
 *
 * t/lint/reasons holds the sources against the list.
 */
#ifndef POLICY_REASON_H
#define POLICY_REASON_H

#include <stdio.h>

struct reason {
	const char *code;		/* "user-unknown" */
	const char *meaning;
	const char *advice;		/* what the postmaster can do */
};

/* In alphabetical order, ended by a NULL code. */
extern const struct reason reasons[];

/* NULL: it is none. */
const struct reason *reason_find(const char *code);

/* Prints the list for the manual. */
void reason_print_mdoc(FILE *);

#endif
