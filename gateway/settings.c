/*
 * The configuration as a whole: its kinds of section, what it asks to listen
 * on, where its directories are, and the checks that look at several options
 * at once (millgate -n, start and reload).
 */
#include "config.h"

#include "gateway/settings.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <netdb.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/net.h"
#include "filters/chain.h"
#include "filters/filter_host.h"
#include "filters/rules.h"
#include "gateway/console.h"
#include "gateway/listener.h"
#include "gateway/master.h"
#include "gateway/process.h"
#include "gateway/relay.h"
#include "gateway/route.h"
#include "policy/policy.h"
#include "policy/service.h"

/* Not const: the default of hostname is the machine's name. */
static struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, top_options)
};

static const struct section_kind top_kind = {
	.name = "", .doc = "Options of the whole gateway.",
	.rows = top_rows, .row_count = OPTION_COUNT(top_rows),
	.size = sizeof(struct top_options),
};

const struct section_kind *settings_kinds[SETTINGS_KINDS_MAX];
size_t settings_kind_count;

static void
add_kind(const struct section_kind *kind)
{
	if (kind == NULL)
		return;
	for (size_t i = 0; i < settings_kind_count; i++)
		if (settings_kinds[i] == kind)
			return;
	if (settings_kind_count == SETTINGS_KINDS_MAX)
		fatal("SETTINGS_KINDS_MAX is too small");
	settings_kinds[settings_kind_count++] = kind;
}

void
settings_init(void)
{
	add_kind(&top_kind);
	add_kind(&listener_kind);
	add_kind(&certificate_kind);
	for (size_t i = 0; filters_all[i] != NULL; i++)
		add_kind(filters_all[i]->options);
	for (size_t i = 0; rules_kinds[i] != NULL; i++)
		add_kind(rules_kinds[i]);
	for (size_t i = 0; policy_kinds[i] != NULL; i++)
		add_kind(policy_kinds[i]);
	for (size_t i = 0; policy_services[i] != NULL; i++)
		add_kind(policy_services[i]->options);
	add_kind(&route_section);
	add_kind(&relay_section);
	add_kind(&console_section);
}

const char *
settings_machine_name(void)
{
	static char name[NI_MAXHOST];
	const struct addrinfo hints = { .ai_flags = AI_CANONNAME };
	struct addrinfo *found;

	if (gethostname(name, sizeof(name) - 1) != 0)
		name[0] = '\0';
	if (name[0] != '\0' && strchr(name, '.') == NULL &&
	    getaddrinfo(name, NULL, &hints, &found) == 0) {
		if (found->ai_canonname != NULL &&
		    strchr(found->ai_canonname, '.') != NULL)
			snprintf(name, sizeof(name), "%s",
			    found->ai_canonname);
		freeaddrinfo(found);
	}
	return net_is_host_name(name) ? name : "localhost";
}

void
settings_set_machine_name(const char *name)
{
	for (size_t i = 0; i < OPTION_COUNT(top_rows); i++)
		if (strcmp(top_rows[i].name, "hostname") == 0)
			top_rows[i].fallback = name;
}

void
settings_open_log(const struct conf *conf, const char *role)
{
	const struct top_options *options = conf_get(conf, "");

	log_open(&(struct log_settings){
	    .program = "millgate",
	    .role = role,
	    .target = options->log_target == 0 ? LOG_TO_STDERR : LOG_TO_SYSLOG,
	    .json = options->log_format == 1,
	    .level = (enum log_level)options->log_level,
	});
}

typedef void endpoint_f(const struct settings_endpoint *, void *);

static void
each_address(const struct conf_section *section, const char *option,
    const char *name, const char *const *addresses, endpoint_f *f,
    void *argument)
{
	for (; *addresses != NULL; addresses++)
		f(&(struct settings_endpoint){ .name = name,
		    .address = *addresses, .mode = 0666, .section = section,
		    .option = option }, argument);
}

/* For other MTAs, not for everybody on this machine. */
static void
each_door(const struct conf_section *section, const char *name,
    const char *const *addresses, int64_t mode, const char *group,
    endpoint_f *f, void *argument)
{
	static const int modes[] = { [SOCKET_OWNER] = 0600,
		[SOCKET_GROUP] = 0660, [SOCKET_ALL] = 0666 };

	for (; *addresses != NULL; addresses++)
		f(&(struct settings_endpoint){ .name = name,
		    .address = *addresses, .mode = modes[mode],
		    .group = group != NULL ? group : "postfix",
		    .group_may_lack = group == NULL,
		    .section = section, .option = "listen" }, argument);
}

static const struct conf_section *
only_section(const struct conf *conf, const char *kind)
{
	size_t count;
	const struct conf_section *sections = conf_sections(conf, kind,
	    &count);

	return count > 0 ? &sections[0] : NULL;
}

/* UNIX sockets of our own in the run directory; nobody else may connect. */
static void
own_socket(const struct conf *conf, const char *name, const char *file,
    endpoint_f *f, void *argument)
{
	const struct top_options *options = conf_get(conf, "");
	char address[512];

	snprintf(address, sizeof(address), "unix:%s/%s",
	    options->run_directory, file);
	f(&(struct settings_endpoint){ .name = name, .address = address,
	    .mode = 0600, .section = only_section(conf, ""),
	    .option = "run_directory" }, argument);
}

bool
settings_is_isolated(const struct section_kind *kind)
{
	for (size_t k = 0; filters_all[k] != NULL; k++)
		if (filters_all[k]->options == kind)
			return (filters_all[k]->traits & FILTER_ISOLATED) != 0;
	return false;
}

const struct filter_host_options *
settings_hosted(const struct conf *conf, const char *title)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, "filter_host", &count);
	for (size_t i = 0; i < count; i++)
		if (strcmp(sections[i].title, title) == 0)
			return sections[i].values;
	return NULL;
}

static bool
is_among(const char *const *names, const char *name)
{
	while (*names != NULL && strcmp(*names, name) != 0)
		names++;
	return *names != NULL;
}

/* A signer that a filter_host runs, and no listener asks for by its name. */
static bool
only_in_hosts(const struct conf *conf, const char *title)
{
	const struct conf_section *sections;
	bool hosted = false;
	size_t count;

	sections = conf_sections(conf, "filter_host", &count);
	for (size_t i = 0; i < count; i++)
		hosted |= is_among(((const struct filter_host_options *)
		    sections[i].values)->filters, title);
	sections = conf_sections(conf, "listener", &count);
	for (size_t i = 0; hosted && i < count; i++)
		hosted = !is_among(((const struct listener_options *)
		    sections[i].values)->filters, title);
	return hosted;
}

/* The nth section of the isolated kinds, with or without those. */
static const struct conf_section *
isolated(const struct conf *conf, size_t n, bool with_hosted)
{
	const struct conf_section *sections;
	size_t count;

	for (size_t k = 0; filters_all[k] != NULL; k++) {
		if (!(filters_all[k]->traits & FILTER_ISOLATED))
			continue;
		sections = conf_sections(conf, filters_all[k]->name, &count);
		for (size_t i = 0; i < count; i++) {
			if (!with_hosted && only_in_hosts(conf,
			    sections[i].title))
				continue;
			if (n-- == 0)
				return &sections[i];
		}
	}
	return NULL;
}

const struct conf_section *
settings_isolated(const struct conf *conf, size_t n)
{
	return isolated(conf, n, false);
}

void
settings_each_endpoint(const struct conf *conf, endpoint_f *f, void *argument)
{
	const struct conf_section *sections, *section;
	const struct policy_options *policy = conf_get(conf, "policy");
	const struct console_options *console = conf_get(conf, "console");
	char name[256], file[256];
	size_t count;

	sections = conf_sections(conf, "listener", &count);
	for (size_t i = 0; i < count; i++) {
		const struct listener_options *listener = sections[i].values;

		snprintf(name, sizeof(name), "listener:%s", sections[i].title);
		each_address(&sections[i], "address", name, listener->address,
		    f, argument);
	}
	sections = conf_sections(conf, "filter_host", &count);
	for (size_t i = 0; i < count; i++) {
		const struct filter_host_options *host = sections[i].values;

		snprintf(name, sizeof(name), "milter:%s", sections[i].title);
		each_door(&sections[i], name, host->listen, host->socket_mode,
		    host->socket_group, f, argument);
	}
	for (size_t i = 0; (section = settings_isolated(conf, i)) != NULL;
	    i++) {
		snprintf(name, sizeof(name), "host:%s", section->title);
		snprintf(file, sizeof(file), "host-%s.sock", section->title);
		own_socket(conf, name, file, f, argument);
	}
	each_door(only_section(conf, "policy"), "policy", policy->listen,
	    policy->socket_mode, policy->socket_group, f, argument);
	own_socket(conf, "policy:own", "policy.sock", f, argument);
	each_address(only_section(conf, "console"), "metrics", "metrics",
	    console->metrics, f, argument);
	each_address(only_section(conf, "console"), "feedback", "feedback",
	    console->feedback, f, argument);
	own_socket(conf, "control", "control", f, argument);
}

/* A configuration may serve other MTAs only. */
static bool
serves_others(const struct conf *conf)
{
	const struct policy_options *policy = conf_get(conf, "policy");
	const struct conf_section *hosts;
	size_t count;

	hosts = conf_sections(conf, "filter_host", &count);
	for (size_t i = 0; i < count; i++)
		if (((const struct filter_host_options *)
		    hosts[i].values)->listen[0] != NULL)
			return true;
	return policy->listen[0] != NULL;
}

static void
check_listeners(const struct conf *conf, struct buf *errors)
{
	const struct top_options *top = conf_get(conf, "");
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, "listener", &count);
	if (count == 0 && !serves_others(conf))
		conf_error(errors, conf, only_section(conf, ""), NULL,
		    "no listener: add one, such as "
		    "listener smtp { address = \":25\" }");
	for (size_t i = 0; i < count; i++) {
		const struct listener_options *listener = sections[i].values;
		struct chain_plan *plan;
		const char *why;

		if (listener->address[0] == NULL)
			conf_error(errors, conf, &sections[i], "address",
			    "is required");
		listener_check_auth(conf, &sections[i],
		    listener->tls != LISTENER_TLS_NONE &&
		    (listener->tls != LISTENER_TLS_AUTO ||
		    listener->certificate != NULL ||
		    top->tls_certificate != NULL), errors);
		/* Isolated filters are reached there; they are checked below. */
		plan = chain_plan_new(conf, top->run_directory,
		    listener->filters, &why);
		if (plan == NULL)
			conf_error(errors, conf, &sections[i], "filters", "%s",
			    why);
		chain_plan_free(&plan);
	}
}

static void
check_group(const struct conf *conf, const struct conf_section *section,
    const char *group, struct buf *errors)
{
	if (group != NULL && getgrnam(group) == NULL)
		conf_error(errors, conf, section, "socket_group",
		    "%s: no such group", group);
}

static void
check_doors(const struct conf *conf, struct buf *errors)
{
	const struct policy_options *policy = conf_get(conf, "policy");
	const struct conf_section *hosts;
	size_t count;

	check_group(conf, only_section(conf, "policy"), policy->socket_group,
	    errors);
	hosts = conf_sections(conf, "filter_host", &count);
	for (size_t i = 0; i < count; i++)
		check_group(conf, &hosts[i], ((const struct
		    filter_host_options *)hosts[i].values)->socket_group,
		    errors);
}

static const struct filter *
filter_of(const struct section_kind *kind)
{
	size_t k = 0;

	while (filters_all[k]->options != kind)
		k++;
	return filters_all[k];
}

/* A host is known by its title alone. */
static bool
stands_twice(const struct conf *conf, size_t n)
{
	const char *title = isolated(conf, n, true)->title;

	for (size_t i = 0; i < n; i++)
		if (strcmp(isolated(conf, i, true)->title, title) == 0)
			return true;
	return false;
}

/* Sections with a host of their own: its setup tells a bad key and the like. */
static void
check_isolated(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *section;

	for (size_t i = 0; (section = isolated(conf, i, true)) != NULL;
	    i++) {
		const struct filter *filter = filter_of(section->kind);
		const char *why = NULL;
		void *instance = filter->setup(conf, section, &why);

		if (instance == NULL)
			conf_error(errors, conf, section, NULL, "%s", why);
		else
			filter->release(instance);
		if (stands_twice(conf, i))
			conf_error(errors, conf, section, NULL,
			    "another filter with a host has this title");
	}
}

static void
check_console(const struct conf *conf, struct buf *errors)
{
	const struct console_options *console = conf_get(conf, "console");
	const char *why;
	char *token;

	if (console->feedback[0] == NULL)
		return;
	if (console->feedback_token == NULL) {
		conf_error(errors, conf, only_section(conf, "console"),
		    "feedback", "needs a feedback_token");
		return;
	}
	token = conf_secret(conf, console->feedback_token, &why);
	if (token == NULL)
		conf_error(errors, conf, only_section(conf, "console"),
		    "feedback_token", "%s", why);
	free(token);
}

int
settings_check(const struct conf *conf, struct buf *errors)
{
	size_t before = errors->len;

	check_listeners(conf, errors);
	check_doors(conf, errors);
	check_isolated(conf, errors);
	check_console(conf, errors);
	rules_check(conf, errors);
	routes_check(conf, errors);
	policy_check(conf, errors);
	return errors->len == before ? 0 : -1;
}

/* A directory that exists, with this owner and mode if we are root. */
static int
prepare(const char *path, const char *user, mode_t mode, const char **why)
{
	static char problem[PATH_MAX + 256];
	const struct passwd *account;

	if (mkdir(path, 0755) != 0 && errno != EEXIST) {
		snprintf(problem, sizeof(problem), "%s: %s", path,
		    strerror(errno));
		*why = problem;
		return -1;
	}
	if (geteuid() != 0)
		return 0;
	if ((account = getpwnam(user)) == NULL) {
		snprintf(problem, sizeof(problem), "no user %s: started as "
		    "root, Millgate runs each role as its own user", user);
		*why = problem;
		return -1;
	}
	if (lchown(path, account->pw_uid, account->pw_gid) != 0 ||
	    chmod(path, mode) != 0) {
		snprintf(problem, sizeof(problem), "%s: %s", path,
		    strerror(errno));
		*why = problem;
		return -1;
	}
	return 0;
}

/*
 * The spool belongs to the relay.  Gateways, in the same group, add files to
 * segments and large; the sticky bit keeps each from unlinking what is not its
 * own.
 */
int
settings_prepare_directories(const struct conf *conf, const char **why)
{
	const struct top_options *options = conf_get(conf, "");
	const struct {
		const char *parent, *name, *user;
		mode_t mode;
	} directories[] = {
		{ options->spool_directory, "", "millgate-relay", 03770 },
		{ options->spool_directory, "/segments", "millgate-relay",
		    03770 },
		{ options->spool_directory, "/large", "millgate-relay",
		    03770 },
		{ options->spool_directory, "/incoming", "millgate", 0700 },
		{ options->spool_directory, "/trace", "millgate", 0700 },
		{ options->spool_directory, "/journal", "millgate-relay",
		    0700 },
		{ options->spool_directory, "/corrupt", "millgate-relay",
		    0700 },
		{ options->state_directory, "", "root", 0755 },
		{ options->state_directory, "/policy", "millgate-policy",
		    0700 },
		{ options->state_directory, "/console", "millgate-console",
		    0700 },
	};

	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]);
	    i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s%s", directories[i].parent,
		    directories[i].name);
		if (prepare(path, directories[i].user, directories[i].mode,
		    why) != 0)
			return -1;
	}
	return 0;
}
