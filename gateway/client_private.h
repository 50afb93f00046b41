/* Shared by client.c (the connection) and client_deliver.c (a transaction). */
#ifndef GATEWAY_CLIENT_PRIVATE_H
#define GATEWAY_CLIENT_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "filters/convert.h"

struct arena;
struct reply;

/* What the reply to EHLO says. */
struct client_offers {
	bool pipelining, eight_bit, smtputf8, dsn, starttls, size,
	    auth;
	int64_t size_limit;		/* 0: none stated */
};

struct client {
	struct io *io;
	bool lmtp, refuse_self, is_self;
	struct client_offers offers;
	bool dirty;			/* RSET before the next MAIL */
	bool broken;			/* not to be used again, QUIT neither */
	const char *why;		/* of the last failure */
	char *hostname, *peer_name, *peer;
	int64_t command_timeout_ms, data_timeout_ms, total_timeout_ms;
	int64_t deadline;		/* of this opening or delivery */
};

typedef void client_line_f(struct client *, const char *text, size_t len,
    int line);

/* Begins the total time of a delivery. */
void client_start_clock(struct client *);

/* Reads a whole reply.  -1: client->why, and the connection is broken. */
int client_reply(struct client *, int64_t timeout_ms, struct reply *,
    client_line_f *each);

/* Sends what was put.  -1 likewise. */
int client_flush(struct client *);

/* A message on its way: the slices, then the body if that is converted. */
struct client_content {
	const struct slice *slices;
	size_t count, size;
	const struct conversion *conversion;	/* or NULL */
	bool eight_bit;			/* so much is known of it */
};

/* --- client_convert.c --- */

/*
 * Makes of the content what the peer can take.  IMPOSSIBLE: *why, and it stays
 * as it is.  PLANNED: it is replaced.
 */
enum convert_result client_convert(const struct client *,
    struct client_content *, struct arena *, const char **why);

/* Whether its header has fields beyond ASCII (RFC 6532). */
bool client_header_is_utf8(const struct client_content *, struct arena *);

/* --- client_content.c --- */

enum content_result { CONTENT_SENT,
	CONTENT_LOST,			/* the connection: client->why */
	CONTENT_UNFIT,			/* a bare CR or NUL */
	CONTENT_UNREADABLE };

/* Sends the content and the final dot. */
enum content_result client_content(struct client *,
    const struct client_content *, struct arena *);

/*
 * When content was cut off: the refusal that the peer sent instead of waiting
 * for the dot, if it did.
 */
bool client_early_reply(struct client *, struct reply *);

#endif
