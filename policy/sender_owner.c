/* Who may send as whom, by the login that another MTA tells. */
#include "policy/sender_owner.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/conf.h"
#include "base/table.h"
#include "policy/service.h"

#define SEPARATORS ", \t"

static const struct option_row sender_owner_rows[] = {
	SENDER_OWNER_OPTIONS(OPTION_ROW, sender_owner_options)
};

const struct section_kind sender_owner_section = {
	.name = "sender_owner",
	.titled = true,
	.doc = "Refuses senders that do not belong to who logged in.",
	.rows = sender_owner_rows,
	.row_count = OPTION_COUNT(sender_owner_rows),
	.size = sizeof(struct sender_owner_options),
};

/* Letters' case does not matter, as it does not to Dovecot. */
static bool
is_among(const char *user, const char *logins)
{
	size_t len = strlen(user), n;

	for (logins += strspn(logins, SEPARATORS); *logins != '\0';
	    logins += n, logins += strspn(logins, SEPARATORS)) {
		n = strcspn(logins, SEPARATORS);
		if (n == len && strncasecmp(user, logins, n) == 0)
			return true;
	}
	return false;
}

enum answer
sender_owner_allows(const struct table *owners, const char *address,
    const char *user, const char **why)
{
	const char *logins = "";
	enum answer owned = table_find_address(owners, address, &logins, why);

	if (owned == ANSWER_UNKNOWN)
		return ANSWER_UNKNOWN;
	if (user == NULL)
		return owned == ANSWER_YES ? ANSWER_NO : ANSWER_YES;
	return owned == ANSWER_YES && is_among(user, logins) ? ANSWER_YES :
	    ANSWER_NO;
}

/* --- the service --- */

/* The null sender is nobody's (RFC 5321, 4.5.5). */
static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const struct sender_owner_options *options = instance;
	const char *sender = policy_value(query->request, POLICY_SENDER);
	const char *user = policy_known(query->request, POLICY_SASL_USERNAME);
	const char *why = "";

	if (*sender == '\0')
		return;
	switch (sender_owner_allows(options->owners, sender, user, &why)) {
	case ANSWER_YES:
		return;
	case ANSWER_UNKNOWN:
		policy_decide(decision, POLICY_DEFER, "sender-check",
		    "Sender address cannot be checked now");
		decision->code = 451;
		strcpy(decision->enhanced, "4.7.1");
		snprintf(decision->why, sizeof(decision->why), "%s", why);
		return;
	case ANSWER_NO:
		break;
	}
	if (user == NULL)
		policy_decide(decision, POLICY_REJECT, "sender-login",
		    "Sender address rejected: not logged in");
	else
		policy_decide(decision, POLICY_REJECT, "sender-login",
		    "Sender address rejected: not owned by user %.100s", user);
	decision->code = 553;
	strcpy(decision->enhanced, "5.7.1");
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	(void)conf;
	(void)store;
	(void)why;
	return (void *)(uintptr_t)section->values;
}

static void
release(void *instance)
{
	(void)instance;
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, sender_owner_section.name, &count);
	for (size_t i = 0; i < count; i++)
		if (((const struct sender_owner_options *)
		    sections[i].values)->owners == NULL)
			conf_error(errors, conf, &sections[i], "owners",
			    "is required");
}

const struct policy_service sender_owner_service = {
	.options = &sender_owner_section,
	.states = POLICY_AT_MAIL | POLICY_AT_RCPT,
	.setup = setup,
	.release = release,
	.decide = decide,
	.check = check,
};
