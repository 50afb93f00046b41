/*
 * Events: what happened to a message or session, sent by gateways, relay and
 * policy to the console, which keeps the history (millgatectl explain).  They
 * travel as packets of many events; when the console does not keep up they are
 * dropped and counted, and mail goes on.
 */
#ifndef GATEWAY_EVENT_H
#define GATEWAY_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Strings are never NULL, but may be "". */
struct event {
	int64_t time_ms;		/* wall clock */
	const char *id;			/* message or session */
	const char *kind;		/* "received", "refused", "delivery" */
	const char *client;		/* name[address] */
	const char *sender;
	const char *recipients;		/* parted by blanks */
	const char *outcome;		/* "queued", "reject", "sent" */
	const char *text;		/* the trace: lines */
};

/* Sends through this descriptor from now on; starts a task that flushes. */
void event_open(int fd);

/* Queues an event; sent within a tenth of a second. */
void event_send(const struct event *);
void event_flush(void);

/* Appends an event in its packed form. */
void event_pack(struct buf *, const struct event *);

/*
 * Takes the event at *offset out of a packet and moves *offset behind it.  The
 * strings point into the packet.  False at the end, or if it is malformed.
 */
bool event_unpack(const char *packet, size_t len, size_t *offset,
    struct event *);

/* Packets are no longer than this. */
#define EVENT_PACKET_MAX 65536

#endif
