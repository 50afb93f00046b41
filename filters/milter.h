/*
 * Other people's milters as filters: the MTA's side of the milter protocol,
 * versions 2 to 6.
 *
 *	milter rspamd { endpoint = { "127.0.0.1:11332" } }
 *
 * What the filter is told is kept, so that a connection that was lost before
 * the end of the message is made again and the filter told once more.  Its
 * edits are collected, and made only when it has accepted the message.
 */
#ifndef FILTERS_MILTER_H
#define FILTERS_MILTER_H

#include "filters/filter.h"

#define MILTER_OPTIONS(ROW, o)						\
	ROW(o, endpoint, strings, NULL, NULL, NULL,			\
	    "Where the milter listens: \"unix:/path\", "		\
	    "\"127.0.0.1:8891\", \"host.example.org:8891\" or "		\
	    "\"inet:8891@127.0.0.1\"; the others are tried when the "	\
	    "first fails.  Behind \"tls:\", as in "			\
	    "\"tls:host.example.org:8891\", TLS is spoken, and the "	\
	    "certificate must be right.")				\
	ROW(o, tls_ca, file, NULL, NULL, NULL,				\
	    "Whom to trust with certificates of end points: a file "	\
	    "in PEM; else those whom the system trusts.")		\
	ROW(o, tls_name, string, NULL, NULL, NULL,			\
	    "What the certificate must name in place of the end "	\
	    "point's host or address.")					\
	ROW(o, connect_timeout, duration, "5s", "10ms", "5m",		\
	    "How long connecting may take.")				\
	ROW(o, command_timeout, duration, "30s", "10ms", "10m",		\
	    "How long the reply to a command may take.")		\
	ROW(o, content_timeout, duration, "5m", "10ms", "10m",		\
	    "How long a reply to header, body or end may take.")	\
	ROW(o, total_timeout, duration, "8m", "10ms", "10m",		\
	    "How long the content of a message may take in all.")	\
	ROW(o, default_action, choice, "tempfail",			\
	    "tempfail|accept|reject|quarantine|discard", NULL,		\
	    "What becomes of a message for which the milter fails.")	\
	ROW(o, protocol, number, "6", "2", "6",				\
	    "The version of the milter protocol that is offered.")	\
	ROW(o, allow, strings, "add_header, change_header, "		\
	    "change_body, add_recipient, delete_recipient, "		\
	    "change_sender, quarantine", NULL, NULL,			\
	    "What the milter may do to messages; else it's ignored.")	\
	ROW(o, only_if, strings, NULL, NULL, NULL,			\
	    "Ask it only about messages for which all of these hold: "	\
	    "trusted, authenticated, tls, \"listener NAME\", "		\
	    "\"client 192.0.2.0/24\", \"sender example.org\" "		\
	    "(\".example.org\": and all below), "			\
	    "\"recipient example.org\", \"size > 10M\", "		\
	    "\"spf = pass\".  It is told nothing of others if the "	\
	    "client and the sender tell; else their envelope.")		\
	ROW(o, skip_if, strings, NULL, NULL, NULL,			\
	    "Don't ask it about messages for which one of these holds.") \
	ROW(o, max_body, size, "100M", "1K", "2G",			\
	    "How large a body the milter may put in place of the "	\
	    "message's.")						\
	ROW(o, group, string, NULL, NULL, NULL,				\
	    "Milters of one group that stand side by side in a "	\
	    "listener's filters work at the same time, on the message as "	\
	    "it is before them; who comes first counts first.")		\
	ROW(o, shadow, flag, "no", NULL, NULL,				\
	    "Only try the milter out: it is asked about each message "	\
	    "when the others are through with it, and what it would "	\
	    "have done is logged, counted and shown by millgatectl "	\
	    "explain.  Nothing waits for it.")				\
	ROW(o, trace, size, "0", "0", "1G",				\
	    "How much of the latest conversations with it each "	\
	    "gateway records, below trace in the spool directory; "	\
	    "0: nothing.  millgatectl milter trace shows them.")	\
	ROW(o, spare, number, "2", "0", "64",				\
	    "Connections kept ready, negotiated, for the next clients.") \
	ROW(o, reuse, flag, "no", NULL, NULL,				\
	    "Use a connection for more than one client: Rspamd can, "	\
	    "libmilter cannot.")

struct milter_options { MILTER_OPTIONS(OPTION_FIELD, milter_options) };

enum default_action { DEFAULT_TEMPFAIL, DEFAULT_ACCEPT, DEFAULT_REJECT,
	DEFAULT_QUARANTINE, DEFAULT_DISCARD };

struct condition;
struct milter_session_settings;

extern const struct filter filter_milter;

/* Header and body are not its to change. */
bool milter_keeps(const void *instance);

/* How the instance speaks with the milter. */
const struct milter_session_settings *milter_settings(const void *instance);

/* For which messages it is asked; NULL: all. */
const struct condition *milter_condition(const void *instance);

/* An instance for a filter in one of our own hosts, by its socket. */
void *milter_new_host(const char *name, const char *endpoint,
    const char **why);

#endif
