/*
 * Connections to a milter: its end points in order of preference, each with a
 * circuit breaker, and a few connections that are negotiated and wait for a
 * session.  A milter that has seen a client keeps its connection for that
 * session only, as libmilter 8.17 cannot begin another (QUIT_NC).
 */
#ifndef FILTERS_MILTER_POOL_H
#define FILTERS_MILTER_POOL_H

#include "base/buf.h"
#include "filters/milter_codec.h"

struct io;
struct milter_endpoint;
struct milter_pool;
struct milter_tape;
struct milter_trace;

#define MILTER_ERROR_SIZE 256

struct milter_error {
	char text[MILTER_ERROR_SIZE];
	bool lost;			/* the connection: another may do */
	bool cancelled;			/* not its fault */
	bool held_off;			/* the breaker is open */
};

struct milter_connection {
	struct io *io;
	struct milter_endpoint *endpoint;
	size_t reply_max;
	struct milter_negotiation answer;
	struct buf answer_bytes;	/* the lists in answer point into it */
	struct buf packet;		/* a large one */
	struct milter_tape *tape;	/* NULL: nothing is recorded */
	int64_t idle_since;
	struct milter_connection *next;
};

struct milter_pool_settings {
	const char *name;		/* of the filter, for the log */
	const char *const *endpoints;	/* texts, NULL-ended */
	int64_t connect_timeout_ms, command_timeout_ms;
	uint32_t version;
	size_t spare;			/* connections kept ready */
	size_t reply_max;		/* bytes of a packet */
	const char *tls_ca;		/* PEM; NULL: the system's */
	size_t tls_ca_len;
	const char *tls_name;		/* NULL: as the end point says */
	size_t trace;			/* bytes of recordings; 0: none */
};

/* NULL: *why names the end point that is wrong. */
struct milter_pool *milter_pool_new(const struct milter_pool_settings *,
    const char **why);
void milter_pool_free(struct milter_pool **);

/*
 * A negotiated connection that has seen no client; NULL: *error.  *blamed has
 * the end points whose breakers have heard of a failure on account of one
 * message: each counts it once, however often it is asked about the message.
 */
struct milter_connection *milter_pool_take(struct milter_pool *,
    uint32_t *blamed, struct milter_error *);

/* Closes it, with QUIT if polite. */
void milter_pool_drop(struct milter_pool *, struct milter_connection **,
    bool polite);

/* Gives back one that may serve another session (QUIT_NC was put). */
void milter_pool_give(struct milter_pool *, struct milter_connection **);

/* The breaker of the connection's end point hears how it went. */
void milter_pool_worked(struct milter_connection *);
void milter_pool_ended(struct milter_connection *);	/* neither nor */
void milter_pool_failed(struct milter_pool *, struct milter_connection *,
    uint32_t *blamed);

/* The last answer to a negotiation; false before the first. */
bool milter_pool_protocol(const struct milter_pool *, uint32_t *protocol,
    uint32_t *version);

/* "unix:/path", "host:port": where it leads to. */
const char *milter_connection_peer(const struct milter_connection *);

/* The next packet, valid until the next read.  -1: *error. */
int milter_connection_read(struct milter_connection *,
    struct milter_packet *, int64_t deadline, struct milter_error *);

#endif
