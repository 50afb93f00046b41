/*
 * A conversation with a milter, for the tools: one step after another, each
 * answered before the next.  Works in a task; no gateway is needed.
 */
#ifndef GATEWAY_MILTER_TALK_H
#define GATEWAY_MILTER_TALK_H

#include "base/buf.h"
#include "filters/milter_place.h"
#include "filters/milter_pool.h"

struct tls_context;

struct milter_talk {
	/* Set by the caller. */
	const struct milter_place *place;
	struct tls_context *tls;
	const char *tls_name;
	int64_t timeout_ms;

	struct milter_connection c;	/* its answer to the negotiation */
	int64_t connect_us, negotiate_us;
	struct milter_error error;	/* text: why a function gave -1 */
	bool refused;			/* it could not even be connected to */
};

/* Connects and negotiates with this offer (its payload).  0 or -1. */
int milter_talk_open(struct milter_talk *, const char *offer, size_t len);

/* QUIT and close; a talk that is not open is fine. */
void milter_talk_close(struct milter_talk *);

/* Whether the filter wants that command, and answers it. */
bool milter_talk_wants(const struct milter_talk *, char code);
bool milter_talk_answers(const struct milter_talk *, char code);

/* Packets for the filter.  0 or -1. */
int milter_talk_send(struct milter_talk *, const char *bytes, size_t len);

/*
 * The reply to one command: its packets are appended as they came, edits and
 * then the last, whose code is returned.  Packets that only ask for patience
 * are left out.  -1: none came.
 */
int milter_talk_reply(struct milter_talk *, struct buf *packets);

#endif
