/*
 * The outbound guard: whether a user sends as the user is wont to.  What an
 * account did in the last hour (messages, recipients, recipients that it never
 * wrote to, bounces) is held against its busiest hours of the days before.
 * Above a multiple of those its mail is slowed down, above twice that held, and
 * above four times that the account is suspended.  From a country where the
 * user is not at home each comes one earlier, and several such countries at a
 * time lead there by themselves, if there is a database of them (geo.h).
 */
#ifndef POLICY_GUARD_H
#define POLICY_GUARD_H

#include "base/option.h"

struct policy_service;

#define GUARD_OPTIONS(ROW, o)						\
	ROW(o, factor, number, "5", "2", "100",				\
	    "How many times its usual busiest hour an account may send "	\
	    "before it is slowed down; at twice that its mail is held, at "	\
	    "four times it is suspended.")				\
	ROW(o, action, choice, "suspend", "slow|hold|suspend", NULL,	\
	    "How far it goes.")						\
	ROW(o, suspend, duration, "1d", "1m", "365d",			\
	    "How long an account is suspended, unless it is released.")	\
	ROW(o, messages, number, "60", "1", "1000000",			\
	    "So many messages in an hour are never too many.")		\
	ROW(o, recipients, number, "200", "1", "1000000",		\
	    "The same of recipients.")					\
	ROW(o, new_recipients, number, "100", "1", "1000000",		\
	    "The same of recipients whom the user did not write to in 90 "	\
	    "days.")							\
	ROW(o, bounces, number, "30", "1", "1000000",			\
	    "The same of recipients who turned out not to exist, or to "	\
	    "refuse.")							\
	ROW(o, countries, number, "1", "1", "100",			\
	    "So many countries within an hour or two are never too many; "	\
	    "those where the user has been on three days, and the first "	\
	    "of all, are one. It takes the country_database of policy.")	\
	ROW(o, exempt, table, NULL, NULL, NULL,				\
	    "Users who are not watched.")				\
	ROW(o, notify, strings, NULL, NULL, NULL,			\
	    "Mail addresses that hear of an account that is slowed down, "	\
	    "held or suspended, once a day of each.")

struct guard_options { GUARD_OPTIONS(OPTION_FIELD, guard_options) };

/*
 * What a relay is to tell them is a tally (store.h) of this subject, which is
 * no domain; its rows are user, action, measure, count, limit and country or
 * "", parted by tabs.
 */
#define GUARD_TALLY	"!guard"
#define GUARD_TALLY_FIELDS 6

extern const struct section_kind guard_section;
extern const struct policy_service guard_service;

#endif
