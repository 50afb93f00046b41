/*
 * The console's side of the control protocol (control.h): each client is a
 * task, so that none waits for another.
 */
#ifndef GATEWAY_CONTROL_SERVER_H
#define GATEWAY_CONTROL_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"

struct buf;
struct control_queue;
struct control_server;
struct counter_block;
struct history;

/* What the commands work on; all is borrowed. */
struct control_service {
	struct history *history;
	int64_t keep_ms;		/* how far back it goes */
	struct control_queue *queue;
	struct counter_block *const *blocks;
	size_t block_count;
	/* Asks the master to "stop".  -1 with errno. */
	int (*ask_master)(const char *);
	/*
	 * Has the master reload, and adds what it says to text, lines.  ANSWER
	 * NO: refused; UNKNOWN: it has not said yet.
	 */
	enum answer (*reload)(struct buf *text, int64_t deadline);
	/*
	 * Has the policy process do a command, such as "greylist show", and adds
	 * its lines to text.  As policy_command_f; NULL: there is none.
	 */
	int (*policy)(const char *command, struct buf *text, const char **why);
	int queue_timeout_ms;		/* of the relay; 0: the usual */
};

struct control_server *control_server_new(const struct control_service *);

/* Accepts clients from that socket, which stays the caller's. */
void control_server_listen(struct control_server *, int fd);

/* Serves a connected client in a task; takes the descriptor. */
void control_server_serve(struct control_server *, int fd);

/* Accepts no more, waits for what runs, cuts it off at the deadline. */
void control_server_drain(struct control_server *, int64_t deadline);

/* After the drain. */
void control_server_free(struct control_server **);

#endif
