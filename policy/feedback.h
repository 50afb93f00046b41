/*
 * Feedback: what is kept of messages that were accepted, so that a user, a spam
 * trap or the operator can tell later what one of them was.
 */
#ifndef POLICY_FEEDBACK_H
#define POLICY_FEEDBACK_H

#include "base/answer.h"
#include "policy/service.h"

struct store;

/* Keeps an accepted message's attributes for FEEDBACK_KEEP_MS. */
#define FEEDBACK_KEEP_MS (14 * INT64_C(86400000))
void feedback_remember(struct store *, const struct policy_outcome *);

/*
 * Makes the request anew that a message's outcome came with, as far as it was
 * kept.  YES; NO: no such message is known; UNKNOWN: *why.
 */
enum answer feedback_recall(struct store *, const char *id,
    struct policy_request *, const char **why);

/* What one may report: "spam", "trap", "malware", "released"; -1: none such. */
int feedback_find(const char *word);
#define FEEDBACK_WORDS "spam|trap|malware|released"

#endif
