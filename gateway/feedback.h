/*
 * What other systems report of messages, over HTTP: POST /report with a body
 * such as {"id": "1K10DJ9ANZG00W95", "outcome": "spam", "undo": false} and
 * "Authorization: Bearer TOKEN".  200; 400: not such a request; 401; 404: no such
 * message; 503: the policy process does not answer.  The body of the answer
 * says more, as JSON.
 */
#ifndef GATEWAY_FEEDBACK_H
#define GATEWAY_FEEDBACK_H

struct buf;
struct feedback;

/* Does a command (control_server.h). */
typedef int feedback_command_f(const char *command, struct buf *text,
    const char **why);

/* token is copied. */
struct feedback *feedback_new(const char *token, feedback_command_f *);

/* Accepts from that socket, which is taken.  -1 and *why. */
int feedback_listen(struct feedback *, int fd, const char **why);

/* Closes the sockets and cuts off clients; NULL is fine. */
void feedback_free(struct feedback **);

#endif
