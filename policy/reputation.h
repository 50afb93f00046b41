/*
 * Reputation: how much of the mail of an address, an authenticated domain, a
 * user was spam, as a service (service.h).  It learns from what became of
 * messages, but never from what our own rules made of them, which may rest on
 * it: only a scanner's verdict, malware, a trap, a hard bounce, its receiver
 * or the operator is evidence.
 *
 * A message is estimated by those who sent it, one after the other: all mail,
 * the client's autonomous system if it is known (geo.h), its network, its
 * address; then the domain that SPF or DKIM
 * authenticated, whose organization and itself correct what is known of the
 * address, and which counts instead of it as soon as enough is known of it
 * (rep_choose()).  Of several domains the worst counts.  What a HELO or an
 * envelope sender claims can only make it worse.  For a user who logged in
 * nothing else counts.
 */
#ifndef POLICY_REPUTATION_H
#define POLICY_REPUTATION_H

#include "base/option.h"
#include "policy/reputation_entity.h"
#include "policy/reputation_estimate.h"
#include "policy/service.h"

#define REPUTATION_OPTIONS(ROW, o)					\
	ROW(o, dimensions, strings, "address, domain, user", NULL, NULL, \
	    "What it is kept of: address (and its network and, with "	\
	    "asn_database, its AS), domain "				\
	    "(authenticated by SPF or DKIM, and its organization), "	\
	    "selector (of DKIM), helo, sender (the domain that the envelope " \
	    "claims), user, pair (a sender of an authenticated domain and a " \
	    "recipient).")						\
	ROW(o, reject_above, number, "0", "0", "100",			\
	    "Refuse mail of which surely more than this percentage is spam; " \
	    "0: never.")						\
	ROW(o, defer_above, number, "0", "0", "100",			\
	    "The same, for later.")					\
	ROW(o, pass_below, number, "5", "0", "100",			\
	    "Let recipients of mail of which surely less than this "	\
	    "percentage is spam past the other services, such as "	\
	    "greylisting; 0: none.")

struct reputation_options { REPUTATION_OPTIONS(OPTION_FIELD,
	reputation_options) };

extern const struct section_kind reputation_section;
extern const struct policy_service reputation_service;

struct reputation;

/* Records were changed: what was read before is no longer believed. */
void reputation_changed(struct reputation *);

/* What the store says of an entity and of its group. */
struct rep_reading {
	struct rep_entity entity;
	struct rep_state own, group;	/* of a group: the same */
	int64_t now_ms;
	enum answer answer;
};

/* Its estimate from the readings, the prior of all mail included. */
struct rep_estimate rep_reading_estimate(const struct rep_reading *,
    const struct rep_estimate *prior);

/*
 * Its prior: what is known of what is above it but its group, say of its AS
 * but its network, which has for a prior all mail but the AS'.
 */
struct rep_estimate rep_prior(const struct rep_reading *,
    const struct rep_reading *above);

/* Reads it from the store.  UNKNOWN: *why. */
enum answer rep_reading_fetch(struct store *, struct rep_reading *,
    const char **why);

/*
 * Tells the entity, and unless alone its group, about an event.  NO: it is
 * known, or no evidence.
 */
enum answer rep_tell(struct store *, const struct rep_entity *,
    const char *event_id, enum policy_outcome_kind, bool alone, bool undo,
    const char **why);

/* Commands "rep ..." of millgatectl (reputation_command.c). */
policy_command_f rep_command;

#endif
