/*
 * The services of the policy process as filters: each is asked at those events
 * that it knows something about, and what it wants done is done.  Without an
 * answer mail passes.
 */
#ifndef FILTERS_POLICY_H
#define FILTERS_POLICY_H

#include "filters/filter.h"

/* "policy": the default profile; a title of policy_profile: that one. */
extern const struct filter filter_policy, filter_policy_profile;

extern const struct filter filter_access_list, filter_correspondents;
extern const struct filter filter_recipient_check;
extern const struct filter filter_dnsbl;
extern const struct filter filter_greylist;
extern const struct filter filter_rate_limit, filter_concurrency_limit;
extern const struct filter filter_outbound_guard;
extern const struct filter filter_reputation;

#endif
