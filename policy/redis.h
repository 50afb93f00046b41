/*
 * A client of Redis for tasks: one server or the first of several that takes
 * writes, the master that Sentinel names, or a Cluster, where each master has a
 * connection and a command goes to the one that has its key.
 */
#ifndef POLICY_REDIS_H
#define POLICY_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "policy/redis_wire.h"

struct redis;
struct redisReply;

struct redis_settings {
	const char *const *servers;	/* NULL-ended */
	const char *sentinel;		/* the master's name; NULL: none */
	bool cluster;
	struct redis_access access;
	int64_t database;
	const char *probe_key;		/* written once a connection is made */

	/* Called when commands begin to fail, and when they work again. */
	void (*away)(void *argument, const char *why);
	void (*back)(void *argument);
	void *argument;
};

/* Strings are borrowed, must live as long as it.  NULL: *why. */
struct redis *redis_new(const struct redis_settings *, const char **why);

/* In a task, none of whose commands is under way; NULL is fine. */
void redis_free(struct redis **);

/* Where to: by the key, or to a node that redis_next_node() named. */
struct redis_request {
	const char *key, *node;
	int count;
	const char *const *words;
	int64_t deadline;
};

/*
 * Sends a command and waits for its reply, which the caller frees by
 * freeReplyObject().  NULL: *why, valid until the next call.
 */
struct redisReply *redis_command(struct redis *, const struct redis_request *,
    const char **why);

/* The last reply was not what the command must give; *why as above. */
void redis_distrust(struct redis *, const char *why);

/*
 * The servers that have keys, in turn: the one behind that name, the first for
 * NULL.  NULL: none (that is known by then).  Valid until the next call.
 */
const char *redis_next_node(struct redis *, const char *name,
    int64_t deadline);

#endif
