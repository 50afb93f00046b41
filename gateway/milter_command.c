/* millgatectl milter: the command line of the tools for a single milter. */
#include "gateway/milter_command.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/dns.h"
#include "base/task.h"
#include "base/tls.h"
#include "gateway/milter_talk.h"

#define TIMEOUT_MS	30000		/* the gateway's command_timeout */
#define CA_MAX		(4 << 20)

struct request {
	const char *ca_file, *endpoint;
	struct milter_place place;
	struct milter_talk talk;
	int status;
};

int
milter_complain(int status, const char *what, const char *why)
{
	fprintf(stderr, "millgatectl: %s: %s\n", what, why);
	return status;
}

static int
usage(void)
{
	fprintf(stderr, "usage: millgatectl milter ...\n%s",
	    MILTER_COMMAND_USAGE);
	return EX_USAGE;
}

static int
read_file(const char *path, char **bytes, size_t *len)
{
	FILE *file = fopen(path, "re");
	int error;

	if (file == NULL)
		return milter_complain(EX_NOINPUT, path, strerror(errno));
	if ((*bytes = malloc(CA_MAX)) == NULL) {
		fclose(file);
		return milter_complain(EX_OSERR, path, strerror(ENOMEM));
	}
	*len = fread(*bytes, 1, CA_MAX, file);
	error = ferror(file) ? errno : *len == CA_MAX ? EFBIG : 0;
	fclose(file);
	return error == 0 ? EX_OK :
	    milter_complain(EX_NOINPUT, path, strerror(error));
}

static int
set_up_tls(struct request *request)
{
	static const struct tls_settings settings = { .min_version = NULL };
	const char *why = "";
	char *ca = NULL;
	size_t len = 0;
	int status;

	if (!request->place.tls)
		return EX_OK;
	if (request->ca_file != NULL &&
	    (status = read_file(request->ca_file, &ca, &len)) != EX_OK) {
		free(ca);
		return status;
	}
	request->talk.tls = tls_client_new(&settings, TLS_VERIFY_NAME, ca, len,
	    &why);
	free(ca);
	return request->talk.tls != NULL ? EX_OK : milter_complain(EX_CONFIG,
	    request->ca_file != NULL ? request->ca_file : "TLS", why);
}

static void
run_task(void *argument)
{
	struct request *request = argument;

	request->status = milter_probe(&request->talk, request->endpoint);
	task_stop();
}

static int
run(struct request *request)
{
	static const char *const none[] = { NULL };
	const struct dns_settings settings = { .forwarders = none,
		.stubs = none, .timeout_ms = TIMEOUT_MS, .cache_size = 1 << 20 };
	struct task *task;
	const char *why;

	task_init();
	if (request->place.name != NULL && dns_init(&settings, &why) == -1) {
		task_shutdown();
		return milter_complain(EX_TEMPFAIL, "DNS", why);
	}
	task = task_start("milter", run_task, request);
	task_loop();
	task_join(&task, DEADLINE_NEVER);
	if (request->place.name != NULL)
		dns_shutdown();
	task_shutdown();
	if (fflush(stdout) != 0)
		return milter_complain(EX_IOERR, "cannot write",
		    strerror(errno));
	return request->status;
}

int
milter_command(int argc, char **argv)
{
	struct request request = { .talk.timeout_ms = TIMEOUT_MS };
	const char *why = "";
	int option, status;

	if (argc < 2 || strcmp(argv[1], "probe") != 0)
		return usage();
	optind = 2;
	while ((option = getopt(argc, argv, "C:N:")) != -1) {
		if (option == 'C')
			request.ca_file = optarg;
		else if (option == 'N')
			request.talk.tls_name = optarg;
		else
			return usage();
	}
	if (argc - optind != 1)
		return usage();
	request.endpoint = argv[optind];
	if (milter_place_parse(request.endpoint, &request.place, &why) == -1)
		return milter_complain(EX_USAGE, request.endpoint, why);
	request.talk.place = &request.place;
	if ((status = set_up_tls(&request)) == EX_OK)
		status = run(&request);
	tls_context_free(&request.talk.tls);
	milter_place_release(&request.place);
	return status;
}
