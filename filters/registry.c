/* All filters that exist: the only place that knows them all. */
#include "filters/arc.h"
#include "filters/arc_seal.h"
#include "filters/authres.h"
#include "filters/chain.h"
#include "filters/convert.h"
#include "filters/dkim_sign.h"
#include "filters/dkim_verify.h"
#include "filters/dmarc.h"
#include "filters/filter_host.h"
#include "filters/milter.h"
#include "filters/policy.h"
#include "filters/rules.h"
#include "filters/spf.h"

const struct filter *const filters_all[] = {
	&filter_policy,
	&filter_policy_profile,
	&filter_dnsbl,
	&filter_rate_limit,
	&filter_outbound_guard,
	&filter_concurrency_limit,
	&filter_greylist,
	&filter_access_list,
	&filter_correspondents,
	&filter_recipient_check,
	&filter_reputation,
	&filter_spf,
	&filter_dkim,
	&filter_arc,
	&filter_dmarc,
	&filter_authres,
	&filter_convert,
	&filter_dkim_sign,
	&filter_arc_seal,
	&filter_rules,
	&filter_host,
	&filter_milter,
	NULL
};
