/*
 * What operators ask of the queue (millgatectl queue): the relay's side of the
 * link to the console.
 *
 * Request:	"NUMBER list", "NUMBER show ID", "NUMBER flush [ID]",
 *		"NUMBER hold ID", "NUMBER release ID", "NUMBER delete ID",
 *		"NUMBER sites", "NUMBER dmarc-list",
 *		"NUMBER dmarc-send [DOMAIN]"
 * Answer:	any number of "NUMBER +LINES", without lines to say that it takes
 *		time, then "NUMBER =ok" or "NUMBER =error TEXT"
 */
#ifndef GATEWAY_QUEUE_COMMAND_H
#define GATEWAY_QUEUE_COMMAND_H

struct queue;
struct relay;
struct report_sender;

/* Answers requests from that link in a task of its own. */
void queue_command_serve(int link, struct queue *, struct relay *,
    struct report_sender *);

#endif
