/* A service of the configuration, asked as the server asks it. */
#ifndef T_UNIT_POLICY_ASK_H
#define T_UNIT_POLICY_ASK_H

#include "policy/service.h"
#include "t/unit/policy/rig.h"

/* The n-th section of the service, set up. */
void *ask_setup(struct rig *, const struct policy_service *, size_t n);

/* A request of attributes: "sender=a@x.test|recipient=b@y.test". */
void ask_request(struct policy_request *, const char *text);

/*
 * What it decides.  text: as for ask_request(); state RCPT
 * unless text says protocol_state=END-OF-MESSAGE.  ours: trusted=yes counts.
 */
struct policy_decision ask(const struct policy_service *, void *instance,
    bool ours, const char *text);

/* Tells it what became of a message: "event=1|undo=yes|sender=a@x.test". */
void ask_tell(const struct policy_service *, void *instance,
    enum policy_outcome_kind, const char *text);

/*
 * What a command puts out, or "!" and why it fails, until the next call.  Words
 * are parted by blanks.
 */
const char *ask_command(struct rig *, const struct policy_service *,
    const char *words);

#endif
