/*
 * A client that talks to a server of ours over a socketpair, for tests of whole
 * sessions.  All runs in tasks on one loop; messages are taken at the hook for
 * cut-through delivery, so no spool is needed.
 */
#ifndef T_UNIT_GATEWAY_SMTP_TALK_H
#define T_UNIT_GATEWAY_SMTP_TALK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "gateway/listener.h"

struct conf;
struct io;

/* A step of a dialogue. */
struct talk_step {
	const char *send;		/* NULL: nothing */
	/*
	 * Codes of the replies awaited, "250 250 354"; "EOF": the server
	 * closes; NULL or "": none.
	 */
	const char *expect;
};

/* Who connects. */
#define STRANGER "192.0.2.1"
#define FRIEND "127.0.0.1"
/* Filling. */
#define LINE_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789" \
	"abcde "
#define LINE_512 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64

/* Steps that begin most dialogues. */
#define HELLO { NULL, "220" }, { "EHLO h.example\r\n", "250" }
#define MAIL { "MAIL FROM:<s@other.example>\r\n", "250" }
#define RCPT { "RCPT TO:<r@ours.example>\r\n", "250" }
#define DATA { "DATA\r\n", "354" }
#define TEXT "Subject: x\r\n\r\nbody\r\n"
#define QUIT { "QUIT\r\n", "221 EOF" }

struct talk {
	struct conf *conf;
	struct smtp_server *server;
	struct io *io;			/* the client's end */
	struct buf replies;		/* all that the server said */
	struct buf taken;		/* messages: "from>to,to:content" */
	struct buf traces;		/* verdicts: "accepted,lost," */
	size_t message_count;
	struct verdict answer;		/* of the hook */
	void (*at_commit)(struct talk *);	/* called by the hook */
};

/* Options of the listener are the same for all; "" if none. */
void talk_begin(struct talk *, const char *top_options,
    const char *listener_options);
void talk_end(struct talk *);

/* Connects as that client ("192.0.2.1"); the greeting is not read. */
void talk_connect(struct talk *, const char *client);
void talk_hang_up(struct talk *);

/* Sends and awaits.  False: the replies were others; says which. */
bool talk_step(struct talk *, const char *name, const struct talk_step *);

/* Runs a function in a task, with a loop around it. */
void talk_run(void (*f)(void));

#endif
