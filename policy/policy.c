/* The options of the policy service, and what they must not say together. */
#include "policy/policy.h"

#include "base/buf.h"
#include "base/conf.h"
#include "base/net.h"
#include "policy/geo.h"
#include "policy/profile.h"
#include "policy/report.h"
#include "policy/store.h"

static const struct option_row policy_rows[] = {
	POLICY_OPTIONS(OPTION_ROW, policy_options)
};

const struct section_kind policy_section = {
	.name = "policy",
	.doc = "Answers other MTAs that ask what to do with a recipient or a "
	    "message.",
	.rows = policy_rows,
	.row_count = OPTION_COUNT(policy_rows),
	.size = sizeof(struct policy_options),
};

const struct section_kind *const policy_kinds[] = {
	&policy_section,
	&profile_section,
	&store_section,
	&report_section,
	NULL
};

static void
check_addresses(const struct conf *conf, const char *kind, const char *option,
    const char *const *addresses, struct buf *errors)
{
	const struct conf_section *section;
	struct net_endpoint endpoint;
	const char *why;
	size_t count;

	section = conf_sections(conf, kind, &count);
	for (; *addresses != NULL; addresses++)
		if (net_endpoint_parse(*addresses, &endpoint, &why) != 0)
			conf_error(errors, conf, section, option, "%s: %s",
			    *addresses, why);
}

void
policy_check(const struct conf *conf, struct buf *errors)
{
	const struct policy_options *policy = conf_get(conf, "policy");

	check_addresses(conf, "policy", "listen", policy->listen, errors);
	geo_check_options(conf, errors);
	store_check_options(conf, errors);
	profile_check_options(conf, errors);
	report_check_options(conf, errors);
}
