/* The services, and what all of them use. */
#include "policy/service.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/conf.h"
#include "base/net.h"
#include "policy/access_list.h"
#include "policy/concurrency.h"
#include "policy/correspondents.h"
#include "policy/dnsbl.h"
#include "policy/greylist.h"
#include "policy/guard.h"
#include "policy/limit.h"
#include "policy/recipient_check.h"
#include "policy/reputation.h"
#include "policy/screen.h"
#include "policy/sender_owner.h"

#define MESSAGE_MAX	200

const struct policy_service *const policy_services[] = {
	&dnsbl_service,
	&greylist_service,
	&access_list_service,
	&correspondents_service,
	&limit_service,
	&guard_service,
	&concurrency_service,
	&screen_service,
	&recipient_check_service,
	&sender_owner_service,
	&reputation_service,
	NULL
};

const struct policy_service *
policy_service_find(const struct section_kind *kind)
{
	for (size_t i = 0; policy_services[i] != NULL; i++)
		if (policy_services[i]->options == kind)
			return policy_services[i];
	return NULL;
}

static const char *const outcome_names[OUTCOME_KINDS + 1] = {
	[OUTCOME_ACCEPTED] = "accepted", [OUTCOME_REFUSED] = "refused",
	[OUTCOME_SPAM] = "spam", [OUTCOME_HAM] = "ham",
	[OUTCOME_MALWARE] = "malware", [OUTCOME_TRAP] = "trap",
	[OUTCOME_BOUNCED] = "bounced",
	[OUTCOME_REPORTED_SPAM] = "reported-spam",
	[OUTCOME_RELEASED] = "released", [OUTCOME_CLOSED] = "closed",
};

const char *
policy_outcome_name(enum policy_outcome_kind kind)
{
	return outcome_names[kind];
}

int
policy_outcome_find(const char *name)
{
	for (int i = 0; i <= OUTCOME_KINDS; i++)
		if (strcmp(outcome_names[i], name) == 0)
			return i;
	return -1;
}

void
policy_decide(struct policy_decision *decision, enum policy_verb verb,
    const char *reason, const char *format, ...)
{
	va_list arguments;

	decision->verb = verb;
	decision->reason = reason;
	va_start(arguments, format);
	vsnprintf(decision->text, sizeof(decision->text), format, arguments);
	va_end(arguments);
}

void
policy_check_message(const struct conf *conf,
    const struct conf_section *section, const char *message,
    struct buf *errors)
{
	const char *c = message != NULL ? message : "";

	while (*c >= ' ' && *c <= '~')
		c++;
	if (message == NULL || c == message || *c != '\0' ||
	    c - message > MESSAGE_MAX)
		conf_error(errors, conf, section, "message",
		    "is to be 1 to %d printable ASCII characters",
		    MESSAGE_MAX);
}

void
policy_check_address(const struct conf *conf,
    const struct conf_section *section, const char *option,
    const char *address, struct buf *errors)
{
	const char *at = strrchr(address, '@');

	if (at == NULL || at == address || !net_is_host_name(at + 1) ||
	    address[strcspn(address, " \t\r\n<>,;\"")] != '\0')
		conf_error(errors, conf, section, option,
		    "%s: not a mail address", address);
}
