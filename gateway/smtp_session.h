/*
 * An SMTP session's insides, shared by the files that serve it: smtp_session.c
 * (commands), smtp_mail.c (MAIL, RCPT), smtp_message.c (DATA, BDAT, the end of
 * a message), smtp_auth.c (AUTH), smtp_sender.c (who may send as whom),
 * smtp_reply.c (replies), listener.c (who starts it).
 */
#ifndef GATEWAY_SMTP_SESSION_H
#define GATEWAY_SMTP_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/counter.h"
#include "base/task.h"
#include "filters/chain.h"
#include "filters/mail.h"
#include "gateway/access.h"
#include "gateway/listener.h"
#include "gateway/settings.h"
#include "gateway/smtp_command.h"
#include "gateway/smtp_data.h"

struct auth_limit;
struct io;
struct sasl;
struct screen;
struct tls_context;

/* A listener as set up. */
struct smtp_listener {
	struct smtp_server *server;
	const char *title;
	const struct listener_options *options;
	struct chain_plan *plan;
	struct tls_context *tls;	/* NULL: no TLS */
	bool tls_implicit, tls_required;
	struct access_rules access;
	struct sasl *sasl;		/* NULL: no AUTH */
	bool sasl_shared;		/* with a listener before it */
	size_t sessions;
};

enum smtp_count { SMTP_COUNT_SESSIONS, SMTP_COUNT_OPEN, SMTP_COUNT_BYTES,
	SMTP_COUNT_REFUSED_SESSIONS, SMTP_COUNT_TOTAL };

#define SMTP_BUCKETS 4096

/* What all listeners of the process share. */
struct smtp_server {
	const struct top_options *top;
	const char *hostname;
	const char *temporary;
	struct spool *spool;
	struct smtp_listener *listeners;
	size_t listener_count;
	struct smtp_session *sessions;	/* all that are open */
	size_t session_count;
	size_t max_sessions;		/* as far as descriptors go */
	/* By network (/24, /48), to count those of one client. */
	struct smtp_session *buckets[SMTP_BUCKETS];
	struct task **accepters;
	size_t accepter_count;
	bool draining;
	int64_t drain_until;		/* commands are taken so long */
	struct task_cond gone;		/* a session has ended */
	struct buf scratch;		/* never in use across a wait */
	smtp_trace_f *trace;
	void *trace_argument;
	smtp_cut_through_f *cut_through;
	void *cut_through_argument;
	struct counter *counts[SMTP_COUNT_TOTAL];
	struct histogram *transaction_time;
	struct auth_limit *auth_limit;
	struct screen *screen;		/* NULL: no listener has it */
};

/* Bits, so that a command's row can list the states that it is good in. */
enum smtp_state {
	SMTP_STATE_CONNECTED = 1,	/* EHLO or HELO is to come */
	SMTP_STATE_GREETED = 2,
	SMTP_STATE_MAIL = 4,		/* a sender */
	SMTP_STATE_RCPT = 8,		/* and a recipient */
	SMTP_STATE_BDAT = 16		/* and the first chunk */
};

/* A reply with its reason, for log and statistics. */
struct smtp_refusal {
	int code;
	const char *enhanced;
	const char *text;
	const char *reason;		/* reason code: "relay-denied" */
};

/*
 * A mail transaction.  It lies in the mail's arena and ends with it, whole, so
 * that nothing of it can reach the next one.
 */
struct smtp_transaction {
	struct mail *mail;
	struct recipient **last;	/* where the next one is linked */
	size_t recipients;
	struct buf refused;		/* others, parted by blanks */
	int64_t started_ms;
	bool discard;			/* take it, answer 250, drop it */
	/* Content. */
	struct smtp_data data;
	struct buf header;		/* the fields point into it */
	size_t header_scanned;
	bool header_done;
	size_t chunks;			/* of BDAT */
	int64_t deadline;		/* for all of the content */
	struct smtp_refusal refusal;	/* code 0: none so far */
};

struct smtp_session {
	struct smtp_listener *listener;
	struct smtp_server *server;
	struct smtp_session *next, **previous;
	struct smtp_session *bucket_next, **bucket_previous;
	struct task *task;
	struct io *io;
	struct session peer;		/* what filters know of it */
	const char *client;		/* name[address] */
	struct chain *chain;
	enum answer trusted;
	enum smtp_state state;
	struct smtp_transaction *transaction;	/* NULL outside of one */
	struct smtp_span asked_sender;	/* of a MAIL that is looked at */
	/* A verdict at connect or HELO, which holds from MAIL on. */
	struct verdict connect_verdict, helo_verdict;
	/* By screening (screen.h): of recipients, unless a user logs in. */
	struct verdict screen_verdict;
	int64_t greet_wait;		/* no greeting before; 0: at once */
	bool screened, passed, early, tarpit;
	int64_t deadline;
	bool waiting;			/* for a command: may be cancelled */
	bool closing;
	bool lost;			/* the client is gone */
	enum smtp_verb verb;		/* the last one */
	uint32_t errors, junk, messages, commands, auth_failures;
	/* For screening: replies of 5xx; those that no such recipient is there. */
	uint32_t offences, unknown;
	uint32_t accepted;		/* recipients of accepted messages */
	uint32_t done[SMTP_VERB_COUNT], refused[SMTP_VERB_COUNT];
};

/* smtp_session.c: a task; the argument is the session. */
void smtp_session_run(void *);

/* The TLS handshake; false: it failed, and the session ends. */
bool smtp_session_tls(struct smtp_session *);

/* Deadline of a wait of at most that long, within the session's. */
int64_t smtp_session_deadline(const struct smtp_session *, int64_t ms);

/*
 * The connection failed with this errno (0: end of file): says so in the log,
 * answers 421 if it can, and ends the session.
 */
void smtp_session_lost(struct smtp_session *, int error, const char *after);

/* Sends pending replies; false: the session was lost. */
bool smtp_session_flush(struct smtp_session *);

/*
 * Reads a line of at most max bytes by the deadline of a command.  False: the
 * session was lost, or the line was too long and that was answered.
 */
bool smtp_session_read_line(struct smtp_session *, size_t max,
    const char **line, size_t *len);

/* smtp_greeting.c: up to the greeting, or what is said instead. */
void smtp_session_begin(struct smtp_session *);

/*
 * smtp_auth.c: sets up AUTH of a listener, those before it in the server being
 * set up; -1 and *why on error.
 */
int smtp_auth_setup(struct smtp_listener *, const char **why);
void smtp_auth_release(struct smtp_listener *);

/* The longest line of AUTH and its exchange (RFC 4954, 4). */
#define SMTP_AUTH_LINE_MAX 12290

/* The mechanisms to offer now, or NULL. */
const char *smtp_auth_offer(const struct smtp_session *);
void smtp_do_auth(struct smtp_session *, struct smtp_span);

/* smtp_reply.c: one reply, or (enhanced NULL) without an enhanced code. */
void smtp_reply(struct smtp_session *, int code, const char *enhanced,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A command refused for its form. */
void smtp_reply_error(struct smtp_session *, const struct smtp_error *);

/* 421, and the session ends. */
void smtp_reply_close(struct smtp_session *, const char *enhanced,
    const char *text);

/*
 * Refuses a step: the reply with reason and reference, the log line, the
 * counter, the trace.  stage: "RCPT"; subject: the address, or NULL.
 */
void smtp_refuse(struct smtp_session *, const char *stage,
    const char *subject, const struct smtp_refusal *);

/* A verdict that ends what the client began; DISCARD and ACCEPT do not. */
bool smtp_verdict_refuses(const struct verdict *);

/*
 * Refuses as a filter's verdict says (milter's meaning: 421 ends the session).
 * To be called for REJECT, TEMPFAIL and DISCONNECT.
 */
void smtp_refuse_verdict(struct smtp_session *, const char *stage,
    const char *subject, const struct verdict *);

/*
 * smtp_sender.c: by the listener's sender_login.  Of the sender, at MAIL: true,
 * it was refused and the transaction has ended.  Of AUTH= there: forgotten, if
 * it is another user's.  Of the author, when the header is complete: sets the
 * transaction's refusal.
 */
bool smtp_sender_refused(struct smtp_session *);
void smtp_check_submitter(struct smtp_session *);
void smtp_check_author(struct smtp_session *);

/* smtp_mail.c */
void smtp_do_mail(struct smtp_session *, struct smtp_span);
void smtp_do_rcpt(struct smtp_session *, struct smtp_span);

/* Ends the transaction, whatever its state; verdict is for the trace hook. */
void smtp_transaction_end(struct smtp_session *, const char *verdict);

/* smtp_message.c */
void smtp_do_data(struct smtp_session *, struct smtp_span);
void smtp_do_bdat(struct smtp_session *, struct smtp_span);

/*
 * A chunk that comes although its command is out of order: read, dropped.
 * True: the refusal is still to be said.
 */
bool smtp_skip_bdat(struct smtp_session *, struct smtp_span);

#endif
