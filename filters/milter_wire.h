/* What the parts of the conversation share; for milter_*.c only. */
#ifndef FILTERS_MILTER_WIRE_H
#define FILTERS_MILTER_WIRE_H

#include "filters/milter_edits.h"
#include "filters/milter_macros.h"
#include "filters/milter_session.h"

#define MILTER_WINDOW 64	/* replies that may be owed at a time */

struct milter_rcpt {
	struct recipient *recipient;
	const char *refusal;		/* why we refused it, or NULL */
};

struct milter_session {
	const struct milter_session_settings *settings;
	struct session *session;
	struct mail *mail;		/* the message, NULL between two */
	const struct filter_run *run;	/* while it is consulted */
	struct milter_edits_rules rules;
	struct milter_edits *edits;	/* to be made, or NULL */
	int64_t limit;			/* of the content, in all */
	struct milter_connection *c;	/* NULL: none now */
	uint32_t blamed;		/* end points, for this message */
	bool had_mail;

	/* What SMTP told. */
	struct milter_rcpt *rcpts;
	size_t rcpt_count, rcpt_size;

	/* What the milter at this connection was told. */
	bool knows_client, knows_helo, knows_mail, knows_data, sent_eob;
	size_t knows_rcpts;
	bool skip_rcpt;

	/* Commands that are not answered yet, oldest first. */
	char owed[MILTER_WINDOW];
	size_t owed_count;
	bool skip_headers, skip_body;
	bool out_of_step;		/* good for nothing more */
	bool told_content;		/* some of it */
	bool interrupted;		/* while it waited for the message */

	struct buf out;			/* packets being made */
	const char *stage;
	struct milter_error error;
};

/* How far a milter can be told of a session, before the content. */
enum milter_point { MILTER_POINT_CLIENT, MILTER_POINT_HELO,
	MILTER_POINT_MAIL, MILTER_POINT_RCPT, MILTER_POINT_DATA };

/* A command: its name, and the bits by which a filter refuses or is silent. */
struct milter_command_row {
	const char *stage;
	char code;
	uint32_t no, silent;
	enum milter_stage macros;
};

/* --- a step (milter_wire.c) --- */

/* Passes the packets in out on, to be sent with what follows. */
void milter_wire_put(struct milter_session *);

/* Sends what is pending.  -1: s->error. */
int milter_wire_flush(struct milter_session *, int64_t deadline);

/* The next reply that is not about progress.  -1: s->error. */
int milter_wire_reply(struct milter_session *, struct milter_reply *,
    int64_t wait_ms, int64_t limit);

/* False: the milter said something without being asked (s->error). */
bool milter_wire_in_step(struct milter_session *);

/* Fails the conversation; no connection is worth a second try then. */
enum milter_outcome milter_wire_fail(struct milter_session *,
    const char *why);

/* What a reply to a command means. */
enum milter_outcome milter_wire_judge(struct milter_session *,
    const struct milter_reply *, struct verdict *);

/* Puts the macros of a stage. */
void milter_wire_macros(struct milter_session *, enum milter_stage,
    const struct milter_rcpt *);

/* --- what SMTP told (milter_tell.c) --- */

/* Sends the command in out, after its macros, and waits for its reply. */
enum milter_outcome milter_exchange(struct milter_session *,
    const struct milter_command_row *, struct verdict *, bool *skip);

/* Makes the milter know all up to that point. */
enum milter_outcome milter_catch_up(struct milter_session *,
    enum milter_point, struct verdict *);

/*
 * The same, with a second connection if the first one was lost, and what a
 * failure or decision means for it.
 */
enum milter_outcome milter_converse(struct milter_session *,
    enum milter_point, struct verdict *);

/* The milter is known to say nothing at this point: it's told later. */
bool milter_is_silent(const struct milter_session *, enum milter_point);

/* The failed connection goes; the breaker hears of it if it counts. */
void milter_give_up(struct milter_session *, bool count);

/* Closes the connection, with QUIT if polite. */
void milter_drop(struct milter_session *, bool polite);

/* --- the message (milter_content.c) --- */

/* Waits until there is a header to show.  False: s->error, interrupted. */
bool milter_await_header(struct milter_session *);

/*
 * Header, body and end of the message, each as soon as it is there, and the
 * final answer, with edits to be made.
 */
enum milter_outcome milter_content(struct milter_session *,
    struct verdict *);

#endif
