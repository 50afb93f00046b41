/*
 * Recipient validation: does the recipient exist?  A table says so, a directory
 * as a table of it, or the server that mail is going to.  A definite no is 550;
 * what cannot be told is 450.
 */
#ifndef POLICY_RECIPIENT_CHECK_H
#define POLICY_RECIPIENT_CHECK_H

#include "base/option.h"

struct policy_service;

#define RECIPIENT_CHECK_OPTIONS(ROW, o)					\
	ROW(o, domains, table, NULL, NULL, NULL,			\
	    "Recipients of these domains are checked. Required.")		\
	ROW(o, recipients, table, NULL, NULL, NULL,			\
	    "Those that exist: addresses, or \"@domain\" for all of one.")	\
	ROW(o, call_ahead, string, NULL, NULL, NULL,			\
	    "The server to ask about those that no table knows: "		\
	    "\"lmtp:unix:/run/dovecot/lmtp\", \"smtp:192.0.2.1:25\".")	\
	ROW(o, call_ahead_timeout, duration, "5s", "100ms", "30s",	\
	    "How long a client waits for its answer; then it is put off, "	\
	    "and has the answer when it comes back.")			\
	ROW(o, cache_yes, duration, "1d", "1m", "90d",			\
	    "How long it is known that the server takes a recipient.")	\
	ROW(o, cache_no, duration, "10m", "1s", "1d",			\
	    "How long it is known that it does not.")

struct recipient_check_options { RECIPIENT_CHECK_OPTIONS(OPTION_FIELD,
	recipient_check_options) };

extern const struct section_kind recipient_check_section;
extern const struct policy_service recipient_check_service;

#endif
