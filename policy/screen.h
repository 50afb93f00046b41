/*
 * Screening: what a client meets before a message costs anything.
 *
 * The policy process, where the service lives, knows who is banned, who has a
 * pass, and what DNS lists say of an address.  The gateways ask it when a client
 * connects, let strangers wait for the greeting, slow down whom they refuse, and
 * report offences and good behaviour when a session ends.
 */
#ifndef POLICY_SCREEN_H
#define POLICY_SCREEN_H

#include "base/option.h"

struct policy_service;

#define SCREEN_OPTIONS(ROW, o)						\
	ROW(o, greet_wait, duration, "3s", "0", "30s",			\
	    "How long a client without a pass waits for our greeting, for " \
	    "early talkers; 0: it does not.")				\
	ROW(o, pass, duration, "12h", "1m", "30d",			\
	    "A client that has sent accepted mail and did nothing wrong is "	\
	    "not screened for so long.")				\
	ROW(o, tarpit, duration, "0", "0", "1m",			\
	    "How long each reply to a client that is listed or offends is "	\
	    "held back.")						\
	ROW(o, max_tarpit, number, "500", "1", "1000000",		\
	    "Sessions so slowed down at a time, in each gateway process.")	\
	ROW(o, ban_offences, number, "20", "0", "1000000",		\
	    "Refused commands, recipients, messages and logins after which a " \
	    "client is banned, see DNS LISTS AND SCREENING; speaking before "	\
	    "the greeting counts as five; 0: nobody is.")		\
	ROW(o, ban_window, duration, "10m", "1s", "7d",			\
	    "So many within this time.")				\
	ROW(o, ban_time, duration, "10m", "1s", "7d",			\
	    "How long the first ban lasts; each further one twice as long as " \
	    "the one before.")						\
	ROW(o, ban_max, duration, "1d", "1s", "30d",			\
	    "The longest ban, and how long one is remembered.")

struct screen_options { SCREEN_OPTIONS(OPTION_FIELD, screen_options) };

extern const struct section_kind screen_section;
extern const struct policy_service screen_service;

/*
 * A report is an outcome for this service: accepted (it deserves a pass), or
 * refused, with "offences=7" and perhaps " early-talk" as results.
 */
#define SCREEN_OFFENCES		"offences="
#define SCREEN_EARLY_TALK	"early-talk"

#endif
