/* What the policy process is told of a session and a message. */
#ifndef FILTERS_POLICY_REQUEST_H
#define FILTERS_POLICY_REQUEST_H

#include "policy/service.h"

struct buf;
struct filter_run;
struct recipient;

/*
 * Appends the attributes of a request at that event, and its end.  recipient:
 * whom it is about, or NULL: all of the message's.
 */
void policy_request_of(struct buf *, const struct filter_run *,
    const struct recipient *recipient, enum policy_state);

#endif
