/*
 * The SMTP (RFC 5321) and LMTP (RFC 2033) client: one connection to a next
 * hop, used for one delivery after another.  The relay uses it, and the
 * gateway for cut-through delivery.
 */
#ifndef GATEWAY_CLIENT_H
#define GATEWAY_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/net.h"
#include "filters/mail.h"

struct client;
struct tls_context;

enum client_tls { CLIENT_TLS_NONE, CLIENT_TLS_MAY, CLIENT_TLS_REQUIRE,
	CLIENT_TLS_VERIFY };

struct client_settings {
	bool lmtp;
	const char *hostname;		/* ours, for EHLO or LHLO */
	const char *peer_name;		/* for the certificate, and the log */
	enum client_tls tls;
	struct tls_context *tls_context;
	int64_t connect_timeout_ms, greeting_timeout_ms, command_timeout_ms,
	    data_timeout_ms;		/* RFC 5321, 4.5.3.2 */
};

/* What became of a recipient. */
enum delivery_status { DELIVERY_OK, DELIVERY_TEMPORARY, DELIVERY_PERMANENT };

struct delivery {
	const struct recipient *recipient;
	enum delivery_status status;
	int code;			/* reply code, 0: no reply */
	const char *enhanced;		/* "5.1.1", never NULL */
	const char *text;		/* reply, one line, printable; in arena */
	const char *command;		/* what it answers: "RCPT TO" */
	bool dsn_relayed;		/* the next hop speaks DSN (RFC 3461) */
};

/* Connects and greets.  NULL: *failure says what to think of all recipients. */
struct client *client_open(const struct net_endpoint *,
    const struct client_settings *, struct arena *, struct delivery *failure);

/*
 * Delivers one message to count recipients; results[i].recipient is set by the
 * caller, the rest by this function.  Returns whether the connection can be
 * used again.
 */
bool client_deliver(struct client *, const struct envelope *,
    const struct slice *content, size_t content_count, size_t size,
    struct delivery *results, size_t count, struct arena *);

/* QUIT without waiting, close. */
void client_close(struct client **);

/* name[address]:port, for relay= in the log. */
const char *client_peer(const struct client *);

/* Still connected, with nothing unexpected to read. */
bool client_alive(struct client *);

#endif
