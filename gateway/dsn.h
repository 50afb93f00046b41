/*
 * Delivery status notifications (RFC 3464, 3461, 6533): what the sender is told
 * of recipients that failed, are late, or, if asked for, were reached.
 */
#ifndef GATEWAY_DSN_H
#define GATEWAY_DSN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "gateway/client.h"

struct arena;

enum dsn_kind { DSN_FAILURE, DSN_DELAY, DSN_SUCCESS };

/* RET=FULL is honoured for messages up to that size, else the header goes. */
#define DSN_FULL_MAX (100 * 1024)
#define DSN_HEADER_MAX (64 * 1024)

struct dsn {
	enum dsn_kind kind;
	const char *hostname;		/* ours */
	const char *remote;		/* name of the next hop, or NULL */
	const struct envelope *envelope;	/* the message's */
	const struct slice *content;
	size_t content_count, size;
	const struct delivery *const *deliveries;
	size_t count;
	int64_t now_ms, give_up_ms;	/* wall clock */
	bool final;			/* success: delivered, not just relayed */
};

struct dsn_message {
	struct envelope envelope;	/* null sender, to the sender */
	const struct slice *content;
	size_t content_count, size;
};

/*
 * Whether the sender is to be told of this recipient.  Never when the sender
 * is null: nothing answers a notification (RFC 5321, 6.1).
 */
bool dsn_wanted(const struct envelope *, const struct recipient *,
    enum dsn_kind);

/* Makes the notification, in the arena; may refer to the original's slices. */
struct dsn_message *dsn_make(const struct dsn *, struct arena *);

#endif
