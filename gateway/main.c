/*
 * millgate: runs the gateway, or checks and shows its configuration.  The
 * master starts the same program again, with --role, for each of its children.
 */
#include "config.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "gateway/master.h"
#include "gateway/process.h"
#include "gateway/settings.h"
#include "policy/reason.h"

#define DEFAULT_CONFIGURATION SYSCONFDIR "/millgate/millgate.conf"
#define LISTENERS_MAX 64

enum { OPTION_ROLE = 256, OPTION_INSTANCE, OPTION_SLOT, OPTION_LISTEN,
	OPTION_MACHINE,
	OPTION_SAMPLE, OPTION_MDOC, OPTION_REASONS };

static const struct option long_options[] = {
	{ "role",	required_argument, NULL, OPTION_ROLE },
	{ "instance",	required_argument, NULL, OPTION_INSTANCE },
	{ "slot",	required_argument, NULL, OPTION_SLOT },
	{ "listen",	required_argument, NULL, OPTION_LISTEN },
	{ "machine",	required_argument, NULL, OPTION_MACHINE },
	{ "sample",	no_argument, NULL, OPTION_SAMPLE },
	{ "mdoc",	no_argument, NULL, OPTION_MDOC },
	{ "mdoc-reasons", no_argument, NULL, OPTION_REASONS },
	{ "help",	no_argument, NULL, 'h' },
	{ "version",	no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 }
};

struct arguments {
	const char *path;
	bool check, show;
	const char *role, *instance, *slot;
	struct process_listener listeners[LISTENERS_MAX];
	size_t listener_count;
};

static int
usage(FILE *to, int status)
{
	fprintf(to, "usage: millgate [-c file]       run\n"
	    "       millgate [-c file] -n    check the configuration\n"
	    "       millgate [-c file] -T    show all effective values\n"
	    "       millgate --sample        print a commented sample file\n"
	    "       millgate -V              print the version\n");
	return status;
}

/* "12=listener:smtp", from the master. */
static int
add_listener(struct arguments *arguments, char *text)
{
	struct process_listener *listener;
	char *name = strchr(text, '=');

	if (name == NULL || arguments->listener_count == LISTENERS_MAX)
		return -1;
	listener = &arguments->listeners[arguments->listener_count++];
	listener->fd = atoi(text);
	listener->name = name + 1;
	return 0;
}

static int
check(const struct arguments *arguments)
{
	struct buf errors = BUF_INIT;
	struct conf *conf;
	int status = EX_CONFIG;

	settings_set_machine_name(settings_machine_name());
	conf = conf_load(arguments->path, NULL, settings_kinds,
	    settings_kind_count, &errors);
	if (conf != NULL && settings_check(conf, &errors) == 0)
		status = EXIT_SUCCESS;
	if (errors.len > 0)
		fputs(errors.data, stderr);
	if (status == EXIT_SUCCESS && arguments->show)
		conf_print(conf, stdout);
	else if (status == EXIT_SUCCESS)
		printf("%s: no errors\n", arguments->path);
	conf_free(&conf);
	buf_release(&errors);
	return status;
}

static int
run_role(struct arguments *arguments)
{
	const struct role *role = role_find(arguments->role);

	if (role == NULL || arguments->slot == NULL ||
	    arguments->instance == NULL)
		return usage(stderr, EX_USAGE);
	return process_main(role, arguments->instance,
	    (unsigned)strtoul(arguments->slot, NULL, 10),
	    arguments->listeners, arguments->listener_count);
}

/* Returns -1 to go on, or the exit status. */
static int
take(struct arguments *arguments, int option)
{
	switch (option) {
	case 'c':
		arguments->path = optarg;
		return -1;
	case 'n':
		arguments->check = true;
		return -1;
	case 'T':
		arguments->check = arguments->show = true;
		return -1;
	case OPTION_ROLE:
		arguments->role = optarg;
		return -1;
	case OPTION_INSTANCE:
		arguments->instance = optarg;
		return -1;
	case OPTION_SLOT:
		arguments->slot = optarg;
		return -1;
	case OPTION_LISTEN:
		return add_listener(arguments, optarg) == 0 ? -1 :
		    usage(stderr, EX_USAGE);
	case OPTION_MACHINE:
		settings_set_machine_name(optarg);
		return -1;
	case OPTION_SAMPLE:
		conf_print_sample(stdout, settings_kinds, settings_kind_count);
		return EXIT_SUCCESS;
	case OPTION_MDOC:
		conf_print_mdoc(stdout, settings_kinds, settings_kind_count);
		return EXIT_SUCCESS;
	case OPTION_REASONS:
		reason_print_mdoc(stdout);
		return EXIT_SUCCESS;
	case 'V':
		printf("Millgate %s\n", PACKAGE_VERSION);
		return EXIT_SUCCESS;
	case 'h':
		return usage(stdout, EXIT_SUCCESS);
	default:
		return usage(stderr, EX_USAGE);
	}
}

int
main(int argc, char **argv)
{
	static struct arguments arguments = { .path = DEFAULT_CONFIGURATION };
	int option, status;

	settings_init();
	while ((option = getopt_long(argc, argv, "c:hnTV", long_options,
	    NULL)) != -1)
		if ((status = take(&arguments, option)) != -1)
			return status;
	if (optind != argc)
		return usage(stderr, EX_USAGE);
	if (arguments.role != NULL)
		return run_role(&arguments);
	if (arguments.check)
		return check(&arguments);
	return master_run(arguments.path, NULL);
}
