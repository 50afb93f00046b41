/*
 * Screening in a gateway (policy/screen.h): asks the policy process about a
 * client that connects, remembers for a moment what it said, and tells it in
 * the end how the client behaved.
 */
#ifndef GATEWAY_SCREEN_H
#define GATEWAY_SCREEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct conf;
struct screen;
struct smtp_session;

/* NULL: *why. */
struct screen *screen_new(const struct conf *, const char **why);
void screen_free(struct screen **);

/*
 * The reply for one that was found to be banned a moment ago, or NULL: not
 * known.
 */
const char *screen_banned(const struct screen *,
    const struct sockaddr_storage *client);

/*
 * A session begins: asks about its client.  False: it was refused, and ends.
 * Else the session's greet_wait, screen_verdict and tarpit may be set.
 */
bool screen_begin(struct smtp_session *);

/*
 * A reply of 5xx.  That a recipient does not exist counts only when it happens
 * more than once, and more often than not: lists of addresses age, and people
 * mistype them.  What speaks of the message or of us does not count.
 */
void screen_note_refusal(struct smtp_session *, const char *enhanced);

/* Between a command and its answer: holds it back, if that is due. */
void screen_delay(struct smtp_session *);

/* A session ends. */
void screen_end(struct smtp_session *);

#endif
