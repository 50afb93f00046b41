/*
 * One connection to Redis that all tasks of the process share, on which their
 * commands follow each other without waiting (replies come in order).  While
 * the server is away commands fail at once; a task of its own tries to reach it
 * again.  Any sign that the two ends disagree (a reply that is an error, makes
 * no sense, or does not come) resets the connection.
 */
#ifndef POLICY_REDIS_LINK_H
#define POLICY_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net.h"
#include "policy/redis_wire.h"

struct redis_link;
struct redisReply;

struct redis_link_settings {
	const struct redis_access *access;
	const struct net_endpoint *servers;	/* tried in turn */
	size_t server_count;

	/* Instead of servers: who the master is now; 0, or -1 and *why. */
	int (*locate)(void *argument, struct net_endpoint *,
	    int64_t deadline, const char **why);
	bool clustered;			/* a node of a cluster */
	int64_t database;
	const char *probe_key;		/* written once a connection is made */

	/* Called when commands begin to fail, and when they work again. */
	void (*away)(void *argument, const char *why);
	void (*back)(void *argument);
	void *argument;
};

/* What the settings point to is borrowed, must live as long as it. */
struct redis_link *redis_link_new(const struct redis_link_settings *);

/* In a task, none of whose commands is under way; NULL is fine. */
void redis_link_free(struct redis_link **);

/*
 * Sends a command (words of any bytes; lengths may be NULL) and waits for its
 * reply, which the caller frees by freeReplyObject().  asking: ASKING goes
 * before it.  NULL: *why, valid until the next call.
 */
struct redisReply *redis_link_command(struct redis_link *, bool asking,
    int count, const char *const *words, const size_t *lengths,
    int64_t deadline, const char **why);

/* Resets the connection, which works again once it is made again. */
void redis_link_reset(struct redis_link *, const char *why);

/* The same, but only a good reply shows that it works again. */
void redis_link_distrust(struct redis_link *, const char *why);

/* The server that it is connected to; NULL: none. */
const struct net_endpoint *redis_link_server(const struct redis_link *);

#endif
