/*
 * Servers of our own on loopback: the kinds of Redis that the store knows.
 * They are started once, at the same time, and end with this process.
 */
#ifndef T_UNIT_POLICY_RIG_REDIS_H
#define T_UNIT_POLICY_RIG_REDIS_H

#include <sys/types.h>

/* SCRIPTS: the access list has no Functions. */
enum rig_redis { RIG_REDIS_TLS, RIG_REDIS_SCRIPTS, RIG_REDIS_SENTINEL,
	RIG_REDIS_CLUSTER, RIG_REDIS_COUNT };

/* The store's options for it, once it answers. */
const char *rig_redis_options(enum rig_redis);

/* Where "cert", "key", "password" and "empty" are. */
const char *rig_redis_directory(void);

/* Starts a redis-server with these arguments behind its name. */
pid_t rig_redis_start(const char *directory, const char *const *arguments);

#endif
