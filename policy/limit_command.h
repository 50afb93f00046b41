/*
 * Commands of millgatectl about what is counted: "limit show", "limit show
 * NAME", "limit show NAME KEY", "limit reset NAME KEY", and the same of
 * concurrency.  A key of several parts is as many words.
 */
#ifndef POLICY_LIMIT_COMMAND_H
#define POLICY_LIMIT_COMMAND_H

#include "policy/service.h"

/* As policy_command_f; kind: what the keys in the store begin with. */
int limit_command(const char *kind, const struct policy_instance *,
    size_t count, struct store *, const char *const *words,
    size_t word_count, struct buf *out, const char **why);

#endif
