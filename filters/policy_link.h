/* A filter's way to the policy process: questions, and what it only tells. */
#ifndef FILTERS_POLICY_LINK_H
#define FILTERS_POLICY_LINK_H

#include <stdint.h>

struct buf;
struct conf;
struct policy_action;
struct policy_link;

/* name: of the filter, for the log; must live as long.  NULL: *why. */
struct policy_link *policy_link_new(const struct conf *, const char *name,
    const char **why);

/* No question may be under way; what was not told yet is dropped. */
void policy_link_free(struct policy_link **);

/*
 * Asks (policy_put() and policy_end() made the request) until the deadline.
 * -1: no answer, *why; the log says so once, and for a moment nobody asks.  In a
 * task.
 */
int policy_link_ask(struct policy_link *, const struct buf *request,
    int64_t deadline, struct policy_action *, const char **why);

/* Hands over a request that has no answer.  Never waits; it may be lost. */
void policy_link_tell(struct policy_link *, const struct buf *request);

#endif
