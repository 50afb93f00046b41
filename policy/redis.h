/*
 * A client of Redis for tasks: one connection that all tasks of the process
 * share, on which their commands follow each other without waiting (replies
 * come in order).  While Redis is away commands fail at once; a task of its own
 * tries to reach it again.  Any sign that the two ends disagree (a reply that
 * is an error, makes no sense, or does not come) resets the connection.
 */
#ifndef POLICY_REDIS_H
#define POLICY_REDIS_H

#include <stddef.h>
#include <stdint.h>

struct redis;
struct redisReply;

struct redis_settings {
	const char *const *servers;	/* tried in turn, NULL-ended */
	const char *user, *password;	/* or NULL */
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

/*
 * Sends a command (words of any bytes) and waits for its reply, which the
 * caller frees by freeReplyObject().  NULL: *why, valid until the next call.
 */
struct redisReply *redis_command(struct redis *, int count,
    const char *const *words, const size_t *lengths, int64_t deadline,
    const char **why);

/* The reply was not what the command must give. */
void redis_distrust(struct redis *, const char *why);

#endif
