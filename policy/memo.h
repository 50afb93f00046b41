/*
 * What was answered a moment ago, by instance: Postfix may ask several times
 * about the same recipient of the same mail, and must hear the same each time.
 * Bounded: an old answer gives way to a new one.
 */
#ifndef POLICY_MEMO_H
#define POLICY_MEMO_H

#include <stdbool.h>
#include <stdint.h>

struct memo;
struct policy_decision;
struct policy_request;

struct memo *memo_new(void);
void memo_free(struct memo **);

/* What was decided about that request and still holds at now_ms; else false. */
bool memo_get(const struct memo *, const struct policy_request *,
    int64_t now_ms, struct policy_decision *);

/* Requests without instance are not kept. */
void memo_put(struct memo *, const struct policy_request *, int64_t now_ms,
    const struct policy_decision *);

#endif
