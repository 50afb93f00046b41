/*
 * A client of Dovecot's auth process, which knows the users and all of SASL
 * (RFC 4422): whose password is good, it says.  One connection for each process
 * and service is kept, and the sessions' requests share it.
 */
#ifndef GATEWAY_SASL_H
#define GATEWAY_SASL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct io;
struct sasl;
struct sasl_request;

/* The longest response, in base64: what Dovecot reads in a line. */
#define SASL_RESPONSE_MAX 7680

/* "Cannot tell" is never "no": UNAVAILABLE says nothing about the password. */
enum sasl_result { SASL_CHALLENGE, SASL_OK, SASL_FAILED, SASL_UNAVAILABLE };

/* Strings belong to the request. */
struct sasl_answer {
	enum sasl_result result;
	const char *challenge;		/* base64 */
	const char *user;		/* OK: who it is; FAILED: or NULL */
	const char *reason;		/* FAILED, UNAVAILABLE: or NULL */
};

/* The client, and what Dovecot is told of its session. */
struct sasl_peer {
	struct io *io;			/* if it hangs up, nothing is waited for */
	const struct sockaddr *client, *local;
	bool tls;
	int64_t timeout_ms;		/* for each answer */
};

/*
 * address: "unix:/path", or "address:port" with or without "inet:" before it;
 * connected to when first needed.  NULL and *why: it is no address.
 */
struct sasl *sasl_new(const char *address, const char **why);

/* No request may be left.  Called by a task. */
void sasl_free(struct sasl **);

/*
 * The mechanisms as EHLO shows them, "PLAIN LOGIN"; those last known while the
 * service is away.  NULL: it has never answered.
 */
const char *sasl_mechanisms(struct sasl *);

bool sasl_has_mechanism(struct sasl *, const char *name);

/*
 * Begins an exchange by a mechanism that there is and waits for the answer.
 * initial is base64, "" for an empty response, or NULL for none.  The request
 * is the caller's, who ends it, whatever the answer.
 */
struct sasl_request *sasl_begin(struct sasl *, const struct sasl_peer *,
    const char *mechanism, const char *initial, struct sasl_answer *);

/* Answers a challenge, in base64. */
void sasl_continue(struct sasl_request *, const char *response,
    struct sasl_answer *);

/* NULL is fine. */
void sasl_end(struct sasl_request **);

#endif
