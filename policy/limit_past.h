/*
 * What was taken for messages of other MTAs, which may ask several times about
 * one and never tell what became of it: in this process, for the last 16,384
 * of them and ten minutes at most.
 */
#ifndef POLICY_LIMIT_PAST_H
#define POLICY_LIMIT_PAST_H

#include <stdint.h>

#include "policy/subject.h"

struct limit_past;

struct limit_past_key {
	unsigned char digest[SUBJECT_BYTES];
};

struct limit_past *limit_past_new(void);
void limit_past_free(struct limit_past **);

/* By subject, message and recipient, or "". */
struct limit_past_key limit_past_key(const char *subject,
    const char *message, const char *recipient);

/* 0: nothing, or that is forgotten. */
int64_t limit_past_get(const struct limit_past *,
    const struct limit_past_key *);
void limit_past_put(struct limit_past *, const struct limit_past_key *,
    int64_t taken);

#endif
