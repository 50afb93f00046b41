/*
 * Cut-through for the SMTP server: what the next hops said of each recipient
 * becomes one answer to the client.
 */
#ifndef GATEWAY_ANSWER_THROUGH_H
#define GATEWAY_ANSWER_THROUGH_H

#include "gateway/listener.h"

/*
 * A smtp_cut_through_f; the argument is a struct cutthrough.  All delivered:
 * the client hears so.  None delivered and all refused: it hears the refusal.
 * Else those delivered leave the envelope and the rest is to be queued.
 */
bool answer_through(struct mail *, const struct slice *content, size_t count,
    size_t size, struct verdict *reply, void *cutthrough);

#endif
