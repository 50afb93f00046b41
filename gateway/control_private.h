/* Between control_server.c (clients) and control_command.c (what they ask). */
#ifndef GATEWAY_CONTROL_PRIVATE_H
#define GATEWAY_CONTROL_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/control.h"
#include "gateway/control_server.h"

struct io;
struct task;

/* A client, from its connection to its end. */
struct control_client {
	struct control_server *server;
	const struct control_service *service;
	struct io *io;
	struct task *task;
	bool broken;			/* it takes no more */
	struct control_client *next;
};

/* Adds a line to the answer, escaped; never waits. */
void control_put(struct control_client *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Sends what was put if it is much.  -1: the client takes no more. */
int control_flow(struct control_client *);

/* Ends the answer: "ok", "error", "usage"; text may be NULL. */
void control_end(struct control_client *, const char *status,
    const char *text);

/* Does what is asked and ends the answer. */
void control_command(struct control_client *,
    const struct control_request *);

#endif
