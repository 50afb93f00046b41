/* millgatectl milter: the command line of the tools for a single milter. */
#include "gateway/milter_command.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/buf.h"
#include "base/dns.h"
#include "base/task.h"
#include "base/tls.h"
#include "filters/milter_trace.h"
#include "gateway/milter_talk.h"

#define TIMEOUT_MS	30000		/* the gateway's command_timeout */
#define CA_MAX		(4 << 20)
#define TRACE_MAX	(1U << 30)

struct request {
	const char *ca_file, *endpoint;
	const char *file, *pcap;	/* a recording; where to export it */
	char *bytes;
	struct milter_record *records;
	size_t count;
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
read_file(const char *path, size_t max, char **bytes, size_t *len)
{
	struct buf text = BUF_INIT;
	FILE *file = fopen(path, "re");
	size_t n;
	int error;

	if (file == NULL)
		return milter_complain(EX_NOINPUT, path, strerror(errno));
	while (text.len < max && (n = fread(buf_reserve(&text, 65536), 1,
	    65536, file)) > 0)
		text.len += n;
	error = ferror(file) ? errno : text.len >= max ? EFBIG : 0;
	fclose(file);
	*bytes = text.data;
	*len = text.len;
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
	    (status = read_file(request->ca_file, CA_MAX, &ca, &len)) != EX_OK) {
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

	if (request->file == NULL)
		request->status = milter_probe(&request->talk,
		    request->endpoint);
	else
		request->status = milter_replay(&request->talk,
		    request->records, request->count);
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

/* --- recordings --- */

static int
load(struct request *request)
{
	const char *why = "it is empty";
	size_t len;
	int status = read_file(request->file, TRACE_MAX, &request->bytes,
	    &len);

	if (status != EX_OK)
		return status;
	if (len == 0 || milter_records_load(request->bytes, len,
	    &request->records, &request->count, &why) == -1)
		return milter_complain(EX_DATAERR, request->file, why);
	return EX_OK;
}

static int
export(const struct request *request)
{
	struct buf text = BUF_INIT;
	FILE *file = fopen(request->pcap, "we");
	bool good;

	if (file == NULL)
		return milter_complain(EX_CANTCREAT, request->pcap,
		    strerror(errno));
	milter_pcap(&text, request->records, request->count);
	good = fwrite(text.data, 1, text.len, file) == text.len;
	good &= fclose(file) == 0;
	buf_release(&text);
	return good ? EX_OK : milter_complain(EX_IOERR, request->pcap,
	    strerror(errno));
}

static int
run_trace(struct request *request)
{
	int status = load(request);

	if (status != EX_OK)
		return status;
	if (request->pcap != NULL)
		return export(request);
	milter_show(request->records, request->count);
	return fflush(stdout) == 0 ? EX_OK : milter_complain(EX_IOERR,
	    "cannot write", strerror(errno));
}

/* --- the command line --- */

static int
run_endpoint(struct request *request)
{
	const char *why = "";
	int status;

	if (milter_place_parse(request->endpoint, &request->place, &why) == -1)
		return milter_complain(EX_USAGE, request->endpoint, why);
	request->talk.place = &request->place;
	if ((status = set_up_tls(request)) == EX_OK && request->file != NULL)
		status = load(request);
	return status == EX_OK ? run(request) : status;
}

static const struct command {
	const char *word, *letters;
	bool file, endpoint;		/* the words that it takes */
	int (*run)(struct request *);
} commands[] = {
	{ "probe", "C:N:", false, true, run_endpoint },
	{ "trace", "", true, false, run_trace },
	{ "replay", "C:N:", true, true, run_endpoint },
};

/* Sets what the words say; false: they are wrong. */
static bool
parse(struct request *request, const struct command *command, int argc,
    char **argv)
{
	static const struct option pcap[] = {
		{ "pcap", required_argument, NULL, 'P' }, { 0 } };
	static const struct option none[] = { { 0 } };
	int option;

	optind = 0;		/* getopt was at work on what is before us */
	while ((option = getopt_long(argc, argv, command->letters,
	    command->run == run_trace ? pcap : none, NULL)) != -1) {
		if (option == 'C')
			request->ca_file = optarg;
		else if (option == 'N')
			request->talk.tls_name = optarg;
		else if (option == 'P')
			request->pcap = optarg;
		else
			return false;
	}
	if (argc - optind != command->file + command->endpoint)
		return false;
	if (command->file)
		request->file = argv[optind++];
	if (command->endpoint)
		request->endpoint = argv[optind];
	return true;
}

int
milter_command(int argc, char **argv)
{
	struct request request = { .talk.timeout_ms = TIMEOUT_MS };
	size_t i, count = sizeof(commands) / sizeof(commands[0]);
	int status;

	for (i = 0; argc > 1 && i < count; i++)
		if (strcmp(argv[1], commands[i].word) == 0)
			break;
	if (argc < 2 || i == count || !parse(&request, &commands[i], argc - 1,
	    argv + 1))
		return usage();
	status = commands[i].run(&request);
	tls_context_free(&request.talk.tls);
	milter_place_release(&request.place);
	free(request.records);
	free(request.bytes);
	return status;
}
