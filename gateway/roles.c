/* The table of roles: one row gives a process its user, root and promises. */
#include "config.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/conf.h"
#include "base/sandbox.h"
#include "filters/filter_host.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "gateway/settings.h"
#include "policy/service.h"

static bool
has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

static const char *
one_instance(const struct conf *conf, size_t i)
{
	(void)conf;
	return i == 0 ? "" : NULL;
}

/* Gateways are numbered; as many as there are processors unless told. */
static const char *
gateway_instance(const struct conf *conf, size_t i)
{
	static char number[16];
	const struct top_options *options = conf_get(conf, "");
	long count = (long)options->gateways;

	if (count == 0)
		count = sysconf(_SC_NPROCESSORS_ONLN);
	if (i > 0 && (long)i >= count)
		return NULL;
	snprintf(number, sizeof(number), "%zu", i);
	return number;
}

/* One host for each section with a private key. */
static const char *
host_instance(const struct conf *conf, size_t i)
{
	const struct conf_section *section = settings_isolated(conf, i);

	return section == NULL ? NULL : section->title;
}

static bool
gateway_may_see(const struct conf_section *section, const char *option,
    void *instance)
{
	(void)option;
	(void)instance;
	return !settings_is_isolated(section->kind) &&
	    policy_service_find(section->kind) == NULL &&
	    strcmp(section->kind->name, "store") != 0 &&
	    strcmp(section->kind->name, "console") != 0;
}

/* The passwords of the store, and of directories that services ask. */
static bool
policy_may_see(const struct conf_section *section, const char *option,
    void *instance)
{
	(void)option;
	(void)instance;
	return strcmp(section->kind->name, "store") == 0 ||
	    policy_service_find(section->kind) != NULL;
}

/* A host sees the files of the sections that run in it, and no others. */
static bool
host_may_see(const struct conf_section *section, const char *option,
    void *argument)
{
	const struct process_view *view = argument;
	const struct filter_host_options *hosted;

	(void)option;
	if (!settings_is_isolated(section->kind))
		return false;
	hosted = settings_hosted(view->conf, view->instance);
	if (hosted == NULL)
		return strcmp(section->title, view->instance) == 0;
	for (size_t i = 0; hosted->filters[i] != NULL; i++)
		if (strcmp(section->title, hosted->filters[i]) == 0)
			return true;
	return false;
}

static bool
gateway_listens(const char *name, const char *instance)
{
	(void)instance;
	return has_prefix(name, "listener:");
}

static bool
host_listens(const char *name, const char *instance)
{
	return (has_prefix(name, "host:") && strcmp(name + 5, instance) == 0) ||
	    (has_prefix(name, "milter:") && strcmp(name + 7, instance) == 0);
}

static bool
policy_listens(const char *name, const char *instance)
{
	(void)instance;
	return has_prefix(name, "policy");
}

/* The token of those that report by HTTP. */
static bool
console_may_see(const struct conf_section *section, const char *option,
    void *instance)
{
	(void)option;
	(void)instance;
	return strcmp(section->kind->name, "console") == 0;
}

static bool
console_listens(const char *name, const char *instance)
{
	(void)instance;
	return strcmp(name, "control") == 0 || strcmp(name, "metrics") == 0 ||
	    strcmp(name, "feedback") == 0;
}

static bool
never_listens(const char *name, const char *instance)
{
	(void)name;
	(void)instance;
	return false;
}

const struct role roles[] = {
	{
		.name = "console", .user = "millgate-console",
		.root = ROOT_STATE, .alone = true, .stop_order = 3,
		.promises = SANDBOX_ACCEPT | SANDBOX_CONNECT | SANDBOX_READ |
		    SANDBOX_WRITE,
		.instance = one_instance,
		.may_see = console_may_see,
		.wants_listener = console_listens,
		.prepare = console_prepare, .start = console_start,
		.drain = console_drain, .message = console_message,
	},
	{
		.name = "policy", .user = "millgate-policy",
		.root = ROOT_STATE, .stop_order = 2,
		.promises = SANDBOX_ACCEPT | SANDBOX_CONNECT | SANDBOX_READ |
		    SANDBOX_WRITE,
		.instance = one_instance,
		.may_see = policy_may_see,
		.wants_listener = policy_listens,
		.prepare = policy_prepare, .start = policy_start,
		.drain = policy_drain,
	},
	{
		.name = "host", .user = "millgate-filter",
		.root = ROOT_EMPTY, .stop_order = 3,
		.promises = SANDBOX_ACCEPT,
		.instance = host_instance,
		.may_see = host_may_see,
		.wants_listener = host_listens,
		.prepare = host_prepare, .start = host_start,
		.drain = host_drain,
	},
	{
		.name = "relay", .user = "millgate-relay",
		.root = ROOT_SPOOL, .alone = true, .stop_order = 2,
		.promises = SANDBOX_CONNECT | SANDBOX_READ | SANDBOX_WRITE |
		    SANDBOX_THREAD,
		.instance = one_instance,
		.wants_listener = never_listens,
		.prepare = relay_prepare, .start = relay_start_process,
		.drain = relay_drain_process, .message = relay_message,
	},
	{
		.name = "gateway", .user = "millgate",
		/* By this word pflogsumm knows who received and refused. */
		.log_name = "smtpd",
		.root = ROOT_SPOOL, .stop_order = 1,
		.promises = SANDBOX_ACCEPT | SANDBOX_CONNECT | SANDBOX_READ |
		    SANDBOX_WRITE | SANDBOX_THREAD,
		.instance = gateway_instance,
		.may_see = gateway_may_see,
		.wants_listener = gateway_listens,
		.prepare = gateway_prepare, .start = gateway_start,
		.drain = gateway_drain,
	},
	{ .name = NULL }
};

const struct role *
role_find(const char *name)
{
	for (const struct role *role = roles; role->name != NULL; role++)
		if (strcmp(role->name, name) == 0)
			return role;
	return NULL;
}
