/*
 * The services as they are configured, and profiles: lists of services that
 * judge a request one after the other.
 */
#ifndef POLICY_PROFILE_H
#define POLICY_PROFILE_H

#include "policy/service.h"

struct profiles;

#define PROFILE_OPTIONS(ROW, o)						\
	ROW(o, services, strings, NULL, NULL, NULL,			\
	    "What judges requests whose policy_context is this profile's "	\
	    "name, in order: \"greylist\", or titles of rate_limit and the "	\
	    "like.")

struct profile_options { PROFILE_OPTIONS(OPTION_FIELD, profile_options) };

extern const struct section_kind profile_section;

/*
 * A service by its name in the configuration: the kind, if that has no titles,
 * or a section's title.  NULL: there is none, or two of that name; *why.
 */
const struct policy_service *profile_service(const struct conf *,
    const char *name, const struct conf_section **, const char **why);

/* Errors in profiles and the services' own, added to errors. */
void profile_check_options(const struct conf *, struct buf *errors);

/* Sets all services up.  NULL: *why. */
struct profiles *profiles_new(const struct conf *, struct store *,
    const char **why);
void profiles_free(struct profiles **);

/*
 * Judges a request by the service that our own gateway names, else by the
 * profile of its policy_context, else by the default one.
 */
void profiles_decide(struct profiles *, const struct policy_query *,
    struct policy_decision *);

/* Tells all that learn, and keeps what somebody may report on (feedback.h). */
void profiles_outcome(struct profiles *, const struct policy_outcome *);

/* Whether there is a command of that first word. */
bool profiles_command_known(const char *word);

/*
 * Does a command of millgatectl, its words parted by blanks.  As
 * policy_command_f.
 */
int profiles_command(struct profiles *, const char *command, struct buf *out,
    const char **why);

#endif
