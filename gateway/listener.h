/*
 * The SMTP server of a gateway process: its listeners, their options, the
 * sessions that come in by them, and what all of them share.
 */
#ifndef GATEWAY_LISTENER_H
#define GATEWAY_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/conf.h"
#include "base/option.h"
#include "filters/filter.h"
#include "gateway/spool.h"

enum listener_tls { LISTENER_TLS_AUTO, LISTENER_TLS_NONE, LISTENER_TLS_STARTTLS,
	LISTENER_TLS_IMPLICIT, LISTENER_TLS_REQUIRED };

enum listener_early { LISTENER_EARLY_REJECT, LISTENER_EARLY_LOG,
	LISTENER_EARLY_OFF };

#define LISTENER_OPTIONS(ROW, o)					\
	ROW(o, address, strings, NULL, NULL, NULL,			\
	    "Where to listen: \":25\", \"192.0.2.1:25\", \"[::1]:25\", "	\
	    "\"unix:/path\".")						\
	ROW(o, filters, strings, NULL, NULL, NULL,			\
	    "The chain: filters that mail passes, in this order.")	\
	ROW(o, tls, choice, "auto", "auto|none|starttls|implicit|required", \
	    NULL, "auto: STARTTLS if there is a certificate; implicit: TLS " \
	    "from the start (465); required: no mail without it.")	\
	ROW(o, certificate, file, NULL, NULL, NULL,			\
	    "PEM file: certificate and chain; default: tls_certificate.") \
	ROW(o, key, file, NULL, NULL, NULL,				\
	    "PEM file: the key of that certificate.")			\
	ROW(o, recipients, table, NULL, NULL, NULL,			\
	    "Addresses that exist in our domains; unset: all do.")	\
	ROW(o, auth, string, NULL, NULL, NULL,				\
	    "Dovecot's auth-client socket, \"unix:/path\" or "		\
	    "\"address:port\"; turns AUTH on, by Dovecot's mechanisms.")	\
	ROW(o, auth_without_tls, flag, "no", NULL, NULL,		\
	    "Offer AUTH also in clear text, where passwords can be read.") \
	ROW(o, require_auth, flag, "no", NULL, NULL,			\
	    "No mail but from authenticated users.")			\
	ROW(o, sender_login, table, NULL, NULL, NULL,			\
	    "Addresses or \"@domain\", and the logins that own each: users " \
	    "send only as what they own, in MAIL and From.")		\
	ROW(o, max_auth_failures, number, "3", "1", "100",		\
	    "Failed authentications, which are answered late; then the "	\
	    "session ends.")						\
	ROW(o, max_auth_failures_per_client, number, "20", "0", "1000000",		\
	    "Failed authentications of a client address, over its "	\
	    "sessions and in each gateway process, after which it gets a "	\
	    "421 to AUTH until it has been quiet for an hour; one that "	\
	    "passes is forgiven, trusted_networks are not counted.  0: no "	\
	    "limit.")							\
	ROW(o, bare_newline, choice, "reject", "reject|normalize", NULL, \
	    "A message with CR or LF outside CRLF, or NUL: refuse it, or "	\
	    "make CRLF and spaces of them.")				\
	ROW(o, screen, flag, "no", NULL, NULL,				\
	    "Screen clients before they are greeted, as the section screen " \
	    "says; trusted_networks are exempt.")			\
	ROW(o, early_talker, choice, "reject", "reject|log|off", NULL,	\
	    "A client that speaks before our greeting.")			\
	ROW(o, greet_delay, duration, "0", "0", "1m",			\
	    "How long to wait with the greeting, for early talkers.")	\
	ROW(o, banner, string, NULL, NULL, NULL,				\
	    "What follows our name in the greeting.")			\
	ROW(o, hostname_lookup, flag, "yes", NULL, NULL,		\
	    "Look up the client's name and confirm it.")			\
	ROW(o, cut_through, flag, "no", NULL, NULL,			\
	    "Deliver before the answer, so that the next hop's word is the " \
	    "client's; what it defers is queued.")			\
	ROW(o, max_recipients, number, "1000", "100", "100000",		\
	    "Recipients of a message.")					\
	ROW(o, max_errors, number, "20", "1", "10000",			\
	    "Refused commands in a session since its last message.")	\
	ROW(o, max_commands, number, "1000", "10", "1000000",		\
	    "Commands of a session that further no message.")		\
	ROW(o, max_messages, number, "1000", "1", "1000000",		\
	    "Messages of a session.")					\
	ROW(o, max_sessions, number, "20000", "1", "1000000",		\
	    "Sessions at a time, in each gateway process.")		\
	ROW(o, max_sessions_per_client, number, "100", "1", "1000000",	\
	    "Sessions at a time of one IPv4 address or IPv6 /64; trusted "	\
	    "networks are exempt.")					\
	ROW(o, max_sessions_per_network, number, "400", "1", "1000000",	\
	    "Sessions at a time of one IPv4 /24 or IPv6 /48; trusted "	\
	    "networks are exempt.")					\
	ROW(o, line_limit, size, "2048", "512", "16K",			\
	    "The longest command line.")				\
	ROW(o, max_header, size, "256K", "4K", "16M",			\
	    "The largest header section.")				\
	ROW(o, max_received, number, "50", "1", "1000",			\
	    "Received fields from which on a message is in a loop.")	\
	ROW(o, command_timeout, duration, "5m", "100ms", "1h",		\
	    "How long a command, all of it, may be on its way.")		\
	ROW(o, data_timeout, duration, "10m", "100ms", "1d",		\
	    "How long a message, all of it, may be on its way.")		\
	ROW(o, filter_timeout, duration, "5m", "1s", "10m",		\
	    "How long filters may take once a message is complete.")	\
	ROW(o, session_timeout, duration, "1h", "1s", "1d",		\
	    "How long a session may last.")

struct listener_options {
	LISTENER_OPTIONS(OPTION_FIELD, listener_options)
};

/* listener smtp { address = { ":25" } ... } */
extern const struct section_kind listener_kind;

struct buf;
struct conf_section;

/* Adds errors of a listener's options about AUTH. */
void listener_check_auth(const struct conf *, const struct conf_section *,
    bool has_tls, struct buf *errors);

/* Further certificates, chosen by the name that the client asks for (SNI). */
#define CERTIFICATE_OPTIONS(ROW, o)					\
	ROW(o, chain, file, NULL, NULL, NULL,				\
	    "PEM file: the certificate and its chain.")			\
	ROW(o, key, file, NULL, NULL, NULL,				\
	    "PEM file: its private key.")

struct certificate_options {
	CERTIFICATE_OPTIONS(OPTION_FIELD, certificate_options)
};

extern const struct section_kind certificate_kind;

struct smtp_server;

/*
 * Called when a message has ended (queued, refused, lost), and when a session
 * is refused a step outside a message (mail NULL).  verdict is one of
 * "accepted", "discarded", "held", "rejected", "deferred", "lost", "aborted"
 * (by the client: RSET, QUIT); refused the recipients that were, parted by
 * blanks; text the trace, or a line that says which step, which client and the
 * reply.
 */
typedef void smtp_trace_f(const char *id, const struct mail *,
    const char *refused, const char *verdict, const char *text, size_t len,
    void *argument);

/*
 * Delivers a message before it is answered, where a listener has cut_through.
 * True: *reply is what the client
 * hears (ACTION_ACCEPT: delivered; ACTION_REJECT or ACTION_TEMPFAIL with code
 * and text), strings in the mail's arena.  False: queue it.  The envelope may
 * have lost those recipients that were served.
 */
typedef bool smtp_cut_through_f(struct mail *, const struct slice *content,
    size_t count, size_t size, struct verdict *reply, void *argument);

/*
 * Sets up filters, certificates and limits of all listeners.  host_directory:
 * where isolated filters are reached (chain_plan_new).  The spool stays the
 * caller's; NULL: nothing can be queued.  NULL and *why on error.
 */
struct smtp_server *smtp_server_new(const struct conf *,
    const char *host_directory, struct spool *, const char **why);

/* No session may be left (smtp_server_drain). */
void smtp_server_free(struct smtp_server **);

/* The spool, if it was opened later; before the first session. */
void smtp_server_set_spool(struct smtp_server *, struct spool *);

/*
 * To be called before the first session: a directory for large messages on
 * their way, as this process sees it (default: the spool's); the hooks.
 */
void smtp_server_set_temporary(struct smtp_server *, const char *directory);
void smtp_server_set_trace(struct smtp_server *, smtp_trace_f *, void *);
void smtp_server_set_cut_through(struct smtp_server *, smtp_cut_through_f *,
    void *);

/*
 * Accepts sessions for that listener from a listening socket, which other
 * processes may share; in a task of its own.  The socket stays the caller's,
 * who keeps it open until the server is drained.  -1 and *why on error.
 */
int smtp_server_listen(struct smtp_server *, const char *title, int fd,
    const char **why);

/*
 * Starts a session on a connected socket, which it closes.  local and client
 * are as getsockname() and getpeername() tell.  -1: no such listener, or
 * limits; then the socket was answered and closed.
 */
int smtp_server_serve(struct smtp_server *, const char *title, int fd,
    const struct sockaddr_storage *client);

/* How many sessions there are now. */
size_t smtp_server_sessions(const struct smtp_server *);

/*
 * Accepts no more; ends sessions with 421, those at once that are idle behind a
 * message, others after a moment; waits for messages that are under way, at the
 * deadline cuts them off; returns when all are gone.  To be called in a task.
 */
void smtp_server_drain(struct smtp_server *, int64_t deadline);

#endif
