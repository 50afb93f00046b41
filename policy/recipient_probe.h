/*
 * Call-ahead: asks the server that mail is going to whether it takes a
 * recipient, by LMTP (RFC 2033) or SMTP: LHLO or EHLO, MAIL FROM:<>, RCPT, and
 * no message.  Who asks about the same recipient meanwhile gets the same answer.
 */
#ifndef POLICY_RECIPIENT_PROBE_H
#define POLICY_RECIPIENT_PROBE_H

#include <stdint.h>

#include "base/answer.h"

struct prober;
struct reply;

#define PROBE_TEXT_SIZE 256

/* Called with each answer that is not UNKNOWN, before who asked has it. */
typedef void prober_answer_f(void *argument, const char *recipient,
    enum answer, const char *text);

/*
 * server: "lmtp:unix:/path", "lmtp:127.0.0.1:24", "smtp:192.0.2.1:25".
 * hostname: ours.  NULL: *why.
 */
struct prober *prober_new(const char *server, const char *hostname,
    prober_answer_f *, void *argument, const char **why);

/* Ends what is under way; nobody may be waiting.  In a task; NULL is fine. */
void prober_free(struct prober **);

/*
 * Does the server take it?  YES, NO, or UNKNOWN: it did not say so by the
 * deadline; the question goes on, and its answer will be told.  text
 * is what it said, or why it said nothing.
 */
enum answer prober_ask(struct prober *, const char *recipient,
    int64_t deadline, char text[PROBE_TEXT_SIZE]);

/*
 * What a reply to RCPT says of the recipient: NO only if it speaks of the
 * address, not of us, of a full mailbox, or of policy.
 */
enum answer probe_understand(const struct reply *);

#endif
