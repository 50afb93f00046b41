/*
 * What was answered a moment ago, by instance: Postfix may ask several times
 * about the same recipient of the same mail, and must hear the same each time.
 * Bounded: an old answer gives way to a new one.
 */
#ifndef POLICY_MEMO_H
#define POLICY_MEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "policy/subject.h"

struct memo;
struct policy_decision;
struct policy_request;

struct memo *memo_new(void);
void memo_free(struct memo **);

/* What a request is known by; one without instance is not kept. */
struct memo_key {
	bool kept;
	unsigned char digest[SUBJECT_BYTES];
};

struct memo_key memo_key(const struct policy_request *);

/* What was decided about that request and still holds at now_ms; else false. */
bool memo_get(const struct memo *, const struct memo_key *, int64_t now_ms,
    struct policy_decision *);
void memo_put(struct memo *, const struct memo_key *, int64_t now_ms,
    const struct policy_decision *);

#endif
