/*
 * A link: short text messages between two processes, each of which may carry a
 * descriptor.  It is a pair of sequenced-packet sockets, so a message arrives
 * whole or not at all.
 */
#ifndef GATEWAY_LINK_H
#define GATEWAY_LINK_H

#include <sys/types.h>

#define LINK_MESSAGE_MAX 4096

/* Makes the pair, non-blocking and close-on-exec.  0 or -1 with errno. */
int link_pair(int fds[2]);

/*
 * Sends a message, with the descriptor pass unless that is -1.  0, or -1 with
 * errno: EAGAIN if the other side does not read, EMSGSIZE if it is too long.
 */
int link_send(int fd, int pass, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Receives a message into text (LINK_MESSAGE_MAX bytes, NUL-ended).  *passed
 * is the descriptor that came with it, close-on-exec, or -1.  Returns the
 * length, 0 when the other side has closed, -1 with errno.
 */
ssize_t link_receive(int fd, char *text, int *passed);

#endif
