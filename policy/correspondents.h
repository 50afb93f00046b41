/*
 * Known correspondents: who our users have written to may answer.
 *
 * A message from one of them passes if the sender's address can be believed
 * (authentic.h), or if it comes from a network that such a message came from
 * before: at RCPT, where greylisting asks, DKIM is not known yet.
 */
#ifndef POLICY_CORRESPONDENTS_H
#define POLICY_CORRESPONDENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/answer.h"
#include "base/option.h"

struct policy_service;
struct store;

#define CORRESPONDENTS_OPTIONS(ROW, o)					\
	ROW(o, remember, duration, "90d", "1d", "3650d",		\
	    "How long somebody is known whom one of our users wrote to, "	\
	    "since the last time.")

struct correspondents_options { CORRESPONDENTS_OPTIONS(OPTION_FIELD,
	correspondents_options) };

extern const struct section_kind correspondents_section;
extern const struct policy_service correspondents_service;

/* So many new ones a user has in a day; others are not remembered. */
#define CORRESPONDENTS_NEW_MAX 1000

/*
 * Remembers that the user wrote to the count addresses, lasting so long.
 * UNKNOWN: *why.
 */
enum answer correspondents_learn(struct store *, const char *user,
    const char *const *addresses, size_t count, int64_t remember_ms,
    const char **why);

/*
 * Has the user written to that address?  authentic: the address can be
 * believed, and the client's network ("192.0.2.0/24", or "") is remembered;
 * else NO unless it was so before.
 */
enum answer correspondents_check(struct store *, const char *user,
    const char *address, bool authentic, const char *network,
    const char **why);

#endif
