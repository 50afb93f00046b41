/*
 * What an MTA tells a filter host, as session and message for the chain: the
 * host's side of each command, whatever brings it (milter_host.c).
 */
#ifndef FILTERS_MILTER_GUEST_H
#define FILTERS_MILTER_GUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "filters/chain.h"
#include "filters/milter_codec.h"
#include "filters/milter_host.h"

struct milter_guest {
	const struct chain_plan *plan;
	const struct milter_host_settings *settings;
	uint32_t protocol;		/* as negotiated */
	struct session session;		/* its arena is NULL: no session */
	struct chain *chain;
	struct mail *mail;		/* NULL between messages */
	struct buf header;
	bool failed;			/* the message cannot be kept */
	char next_id[ENVELOPE_ID_SIZE];	/* of the message that MAIL begins */
};

/* A command's effect, and what the filters say.  -1: not at this point. */
typedef int milter_guest_f(struct milter_guest *,
    const struct milter_command *, struct verdict *);

milter_guest_f milter_guest_macros, milter_guest_connect, milter_guest_helo,
    milter_guest_mail, milter_guest_rcpt, milter_guest_data,
    milter_guest_header, milter_guest_eoh, milter_guest_body,
    milter_guest_unknown, milter_guest_abort, milter_guest_quit;

/*
 * The message is complete, with the last of its body; milter_guest_abort ends
 * it when the chain has seen it.
 */
milter_guest_f milter_guest_complete;

void milter_guest_release(struct milter_guest *);

#endif
