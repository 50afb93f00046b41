/*
 * Cut-through: the gateway delivers a message before it answers its client, so
 * that the next hop's word is the sender's answer and no bounce is made.
 */
#ifndef GATEWAY_CUTTHROUGH_H
#define GATEWAY_CUTTHROUGH_H

#include <stddef.h>
#include <stdint.h>

#include "filters/mail.h"
#include "gateway/client.h"

struct conf;
struct cutthrough;

/*
 * Reads the routes and the time-outs of the section "relay" and makes the TLS
 * contexts: before the process locks itself in.  One per process.  NULL: *why.
 */
struct cutthrough *cutthrough_new(const struct conf *, const char *hostname,
    const char **why);

/* Closes the kept connections; no delivery may be under way. */
void cutthrough_free(struct cutthrough **);

/*
 * Delivers to count recipients by their routes until the deadline, those of
 * different next hops at the same time; results[i].recipient is set by the
 * caller, the rest, in the mail's arena, by this function.  What is
 * DELIVERY_TEMPORARY is for the spool, or for the client as configured; so is
 * what had no answer at the deadline, which may then come twice.
 *
 * Returns OK if all are, TEMPORARY if any is, else PERMANENT.
 */
enum delivery_status cutthrough_deliver(struct cutthrough *, struct mail *,
    struct delivery *results, size_t count, int64_t deadline);

#endif
