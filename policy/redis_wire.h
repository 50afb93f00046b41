/*
 * Commands and replies of Redis (RESP2) over a connection of our own: hiredis
 * writes and reads them, sockets, TLS and deadlines are ours.
 */
#ifndef POLICY_REDIS_WIRE_H
#define POLICY_REDIS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net.h"

struct io;
struct redisReader;
struct redisReply;
struct tls_context;

/* How servers are met.  Strings are borrowed; NULL: not so. */
struct redis_access {
	const char *user, *password;
	struct tls_context *tls;
	const char *tls_name;		/* in place of the server's address */
};

#define REDIS_WHY_SIZE 256

struct redis_wire {
	struct io *io;			/* NULL: no connection */
	struct redisReader *reader;
	size_t unfinished;		/* bytes of a reply that is not whole */
	char why[REDIS_WHY_SIZE];	/* the last trouble */
};

/* Each: 0, or -1 and why is set.  All in tasks. */
int redis_wire_connect(struct redis_wire *, const struct redis_access *,
    const struct net_endpoint *, int64_t deadline);
int redis_wire_read(struct redis_wire *, int64_t deadline);

/* A reply; 0 if none is complete yet; -1: garbage. */
int redis_wire_next(struct redis_wire *, struct redisReply **);

/* Puts a command into the output buffer of io.  lengths may be NULL. */
void redis_wire_put(struct redis_wire *, int count, const char *const *words,
    const size_t *lengths);

/* One command and its reply; NULL: none. */
struct redisReply *redis_wire_ask(struct redis_wire *, int count,
    const char *const *words, int64_t deadline);

/* The command that says who we are: its words' count, 0 without a password. */
int redis_wire_auth(const struct redis_access *, const char *words[3]);

/* Whether it is an error whose text begins like that; NULL is none. */
bool redis_says(const struct redisReply *, const char *error);

void redis_wire_note(struct redis_wire *, const char *why);

/* Closes; what was noted stays. */
void redis_wire_close(struct redis_wire *);

/* A reader of replies with our limits. */
struct redisReader *redis_reader_new(void);

#endif
