/*
 * What rate_limit and concurrency_limit have in common as services: whom they
 * count and where, how they are set up and checked, and what they say.
 */
#ifndef POLICY_LIMIT_FRAME_H
#define POLICY_LIMIT_FRAME_H

#include <stdint.h>

#include "policy/limit_count.h"
#include "policy/limit_key.h"
#include "policy/service.h"

struct arena;
struct counter;
struct table;

struct limit_frame {
	struct limit_scope scope;
	struct limit_key key;
	const struct table *exceptions;
	struct store *store;
	struct counter *answers[3];	/* by enum answer */
};

/*
 * kind: as in limit_scope, and the counter is millgate_KIND_total.  0; -1: the
 * key is none, *why.
 */
int limit_frame_init(struct limit_frame *, const char *kind,
    const struct conf_section *, const char *const *key,
    const struct table *exceptions, struct store *, const char **why);

/* Has the subject an exception?  YES: *value. */
enum answer limit_frame_exception(const struct limit_frame *,
    const struct limit_subject *, const char **value);

/* To the log: whose limit it is, and how much is used. */
void limit_frame_explain(const struct limit_take *, const struct limit_state *,
    struct policy_decision *);

/* 0; -1: that is nothing for exceptions, with why appended. */
typedef int limit_exception_f(const char *value, const struct conf_section *,
    struct buf *why);

/* Errors of a section that both kinds can have. */
void limit_frame_check(const struct conf *, const struct conf_section *,
    const struct table *exceptions, limit_exception_f *, const char *message,
    struct buf *errors);

#endif
