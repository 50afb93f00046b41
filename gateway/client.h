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
	const char *peer_name;		/* for certificate and log; or NULL */
	enum client_tls tls;
	struct tls_context *tls_context;
	int64_t connect_timeout_ms, greeting_timeout_ms, command_timeout_ms,
	    data_timeout_ms;		/* RFC 5321, 4.5.3.2 */
	int64_t total_timeout_ms;	/* of opening, of each delivery; 0: none */
	bool refuse_self;		/* a peer of our own name is a loop */
};

/* What became of a recipient. */
enum delivery_status { DELIVERY_OK, DELIVERY_TEMPORARY, DELIVERY_PERMANENT };

struct delivery {
	const struct recipient *recipient;
	enum delivery_status status;
	int code;			/* reply code, 0: no reply */
	const char *enhanced;		/* "5.1.1", never NULL */
	const char *text;		/* one line, printable, in arena: the whole
					 * reply with its codes; code 0: a reason */
	const char *command;		/* what it answers: "RCPT TO" */
	bool dsn_relayed;		/* the next hop speaks DSN (RFC 3461) */
	bool tls_failed;		/* client_open: clear text may do */
};

/* The reply's text without its codes, for a reply of our own. */
const char *delivery_text(const struct delivery *);

/*
 * Sets what became of a recipient without a next hop having said so.  code 0;
 * enhanced is borrowed, text is copied and made printable.
 */
void delivery_set(struct delivery *, struct arena *, enum delivery_status,
    const char *enhanced, const char *text);

/*
 * Connects and greets: EHLO or LHLO, else HELO, and STARTTLS as settings ask.
 * NULL: *failure says what to think of all recipients.
 */
struct client *client_open(const struct net_endpoint *,
    const struct client_settings *, struct arena *, struct delivery *failure);

/*
 * Delivers one message to count recipients; results[i].recipient is set by the
 * caller, the rest by this function.  Returns whether the connection can be
 * used again.
 *
 * Content leaves as it is but for its line ends: a bare LF becomes CRLF, a bare
 * CR or NUL is refused (5.6.0), for it would be read differently elsewhere
 * (SMTP smuggling).  What a next hop without 8BITMIME cannot take, or SMTP has
 * no lines for, is converted (filters/convert.h).  If that can't be, since it is
 * signed: 8-bit content is refused (5.6.3), long lines are sent as they are.
 */
bool client_deliver(struct client *, const struct envelope *,
    const struct slice *content, size_t content_count, size_t size,
    struct delivery *results, size_t count, struct arena *);

/*
 * Whether a kept connection was closed before it took anything of the last
 * delivery, so that another may be tried at once.
 */
bool client_was_stale(const struct delivery *results, size_t count);

/* Bounds each delivery from now on. */
void client_limit(struct client *, int64_t total_timeout_ms);

/* QUIT without waiting, close. */
void client_close(struct client **);

/* name[address]:port, for relay= in the log. */
const char *client_peer(const struct client *);

/* Still connected, with nothing unexpected to read. */
bool client_alive(struct client *);

#endif
