/* The filter "greylist" against a policy service that does as it is told. */
#include "filters/policy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/net.h"
#include "base/task.h"
#include "filters/trace.h"
#include "policy/greylist.h"
#include "policy/protocol.h"
#include "t/unit/unit.h"

#define DEFER "action=DEFER_IF_PERMIT 4.7.1 Greylisted, try again in 9 s\n\n"
#define CLOSE "close"

#define TOP_OPTIONS(ROW, o)						\
	ROW(o, hostname, string, "mx", NULL, NULL, "Us.")		\
	ROW(o, run_directory, string, NULL, NULL, NULL, "Sockets.")
struct top_options { TOP_OPTIONS(OPTION_FIELD, top_options) };
static const struct option_row top_rows[] = {
	TOP_OPTIONS(OPTION_ROW, top_options)
};
static const struct section_kind top_kind = {
	.name = "", .doc = "All of it.", .rows = top_rows,
	.row_count = OPTION_COUNT(top_rows),
	.size = sizeof(struct top_options),
};
static const struct section_kind *const kinds[] = { &top_kind,
	&greylist_section };

/* The service: answers each request by the next text; NULL: not at all. */
struct world {
	char directory[64];
	struct conf *conf;
	int listener;
	const char *const *answers;
	struct io *clients[8];
	size_t client_count, connections;
	struct buf heard;
	struct session session;
	struct mail *mail;
	struct filter_run run;
};

struct client {
	struct world *world;
	struct io **io;
};

static void
answer(void *argument)
{
	struct client *client = argument;
	struct world *w = client->world;
	const char *line, *text;
	size_t len;

	while (io_read_line(*client->io, 1024, &line, &len,
	    DEADLINE_NEVER) == 1) {
		buf_append(&w->heard, line, len);
		if (len > 1 || (text = *w->answers) == NULL)
			continue;
		w->answers++;
		if (strcmp(text, CLOSE) == 0)
			break;
		io_puts(*client->io, text);
		io_flush(*client->io, task_deadline(1000));
	}
	io_free(client->io);
	free(client);
}

static void
serve(void *argument)
{
	struct world *w = argument;
	struct client *client;
	int fd;

	while (task_wait_fd(w->listener, TASK_READ, DEADLINE_NEVER) == 0) {
		if ((fd = accept(w->listener, NULL, NULL)) == -1)
			continue;
		w->connections++;
		client = malloc(sizeof(*client));
		CU_ASSERT_PTR_NOT_NULL_FATAL(client);
		client->world = w;
		client->io = &w->clients[w->client_count++ % 8];
		*client->io = io_new(fd);
		task_detach("client", answer, client);
	}
}

static void
begin(struct world *w)
{
	const struct conf_section *section;
	struct net_endpoint endpoint;
	const char *why = NULL;
	char text[128];
	size_t count;

	snprintf(text, sizeof(text), "unix:%s/policy.sock", w->directory);
	CU_ASSERT_FATAL(net_endpoint_parse(text, &endpoint, &why) == 0);
	w->listener = net_listen(&endpoint, 5, 0600, &why);
	CU_ASSERT_FATAL(w->listener != -1);
	section = conf_sections(w->conf, "greylist", &count);
	w->run.filter = &filter_greylist;
	w->run.name = "greylist";
	w->run.instance = filter_greylist.setup(w->conf, section, &why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(w->run.instance);
	w->session.arena = arena_new(0);
	w->session.client_address = "192.0.2.1";
	w->session.client_name = "mx.example.org";
	w->session.helo = "evil\nrecipient=x";
	w->session.esmtp = true;
	w->run.session = &w->session;
	w->mail = mail_new(&w->session, 1000, "/tmp");
	w->mail->trace = trace_new(w->mail->arena);
	w->mail->envelope.sender = "a@example.org";
	w->run.mail = w->mail;
}

static struct verdict
rcpt(struct world *w, const char *address)
{
	struct recipient recipient = { .address = address };

	w->run.findings = NULL;
	return filter_greylist.rcpt(&w->run, &recipient);
}

static void
end(struct world *w)
{
	filter_greylist.release(w->run.instance);
	mail_free(&w->mail);
	arena_free(&w->session.arena);
	for (size_t i = 0; i < 8; i++)
		if (w->clients[i] != NULL)
			shutdown(io_fd(w->clients[i]), SHUT_RDWR);
	close(w->listener);
	buf_release(&w->heard);
}

/* The listener's task has to be cancelled by whoever started it. */
struct job {
	struct world *world;
	void (*test)(struct world *);
};

static void
in_task(void *argument)
{
	struct job *job = argument;
	struct task *service;

	begin(job->world);
	service = task_start("service", serve, job->world);
	job->test(job->world);
	task_reap(&service);
	end(job->world);
}

static void
with_service(void (*test)(struct world *))
{
	struct world w = { .heard = BUF_INIT };
	struct job job = { &w, test };
	struct buf errors = BUF_INIT;
	char text[128];

	strcpy(w.directory, "/tmp/millgate-greylist-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(w.directory));
	snprintf(text, sizeof(text), "run_directory = \"%s\"\n", w.directory);
	w.conf = conf_load(NULL, text, kinds, 2, &errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(w.conf);
	task_init();
	task_detach("test", in_task, &job);
	task_loop();
	task_shutdown();
	conf_free(&w.conf);
	buf_release(&errors);
	snprintf(text, sizeof(text), "%s/policy.sock", w.directory);
	unlink(text);
	CU_ASSERT(rmdir(w.directory) == 0);
}

static void
ask_and_hear(struct world *w)
{
	static const char *const answers[] = { DEFER, "action=DUNNO\n\n",
		"action=554 5.7.9 no\nreason=list-denied\n\n",
		"action=450 wait\n\n", "action=HOLD see\nscore=2\n\n",
		"action=PASS\n\n", "action=DUNNO\nreason=dnsbl\n\n", NULL };
	struct verdict verdict;

	w->answers = answers;
	verdict = rcpt(w, "b@example.net");
	CU_ASSERT(verdict.action == ACTION_TEMPFAIL);
	CU_ASSERT_EQUAL(verdict.code, 451);
	CU_ASSERT_STRING_EQUAL(verdict.enhanced, "4.7.1");
	CU_ASSERT_STRING_EQUAL(verdict.text, "Greylisted, try again in 9 s");
	CU_ASSERT_STRING_EQUAL(verdict.reason, "greylist");
	CU_ASSERT_PTR_NOT_NULL_FATAL(w->run.findings);
	CU_ASSERT_STRING_EQUAL(w->run.findings->method, "x-greylist");
	CU_ASSERT_STRING_EQUAL(w->run.findings->result, "defer");
	CU_ASSERT(!w->run.findings->report);
	CU_ASSERT(strstr(w->heard.data, "request=smtpd_access_policy\n") !=
	    NULL);
	CU_ASSERT(strstr(w->heard.data, "\nprotocol_state=RCPT\n") != NULL);
	CU_ASSERT(strstr(w->heard.data, "\nsender=a@example.org\n") != NULL);
	CU_ASSERT(strstr(w->heard.data, "\nrecipient=b@example.net\n") !=
	    NULL);
	CU_ASSERT(strstr(w->heard.data, "\nrecipient=x") == NULL);
	CU_ASSERT(strstr(w->heard.data, "\nclient_name=mx.example.org\n") !=
	    NULL);

	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_CONTINUE);
	CU_ASSERT_STRING_EQUAL(w->run.findings->result, "none");
	verdict = rcpt(w, "b@example.net");
	CU_ASSERT(verdict.action == ACTION_REJECT);
	CU_ASSERT_EQUAL(verdict.code, 554);
	CU_ASSERT_STRING_EQUAL(verdict.enhanced, "5.7.9");
	CU_ASSERT_STRING_EQUAL(verdict.reason, "list-denied");
	verdict = rcpt(w, "b@example.net");
	CU_ASSERT(verdict.action == ACTION_TEMPFAIL);
	CU_ASSERT_EQUAL(verdict.code, 450);
	CU_ASSERT_STRING_EQUAL(verdict.enhanced, "4.7.1");
	CU_ASSERT_STRING_EQUAL(verdict.text, "wait");
	verdict = rcpt(w, "b@example.net");
	CU_ASSERT(verdict.action == ACTION_CONTINUE);
	CU_ASSERT_STRING_EQUAL(verdict.hold, "see");
	CU_ASSERT_STRING_EQUAL(finding_value(w->run.findings, "policy",
	    "score"), "2");
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_CONTINUE);
	CU_ASSERT_STRING_EQUAL(w->run.findings->result, "pass");
	CU_ASSERT(rcpt(w, "c@example.net").action == ACTION_CONTINUE);
	CU_ASSERT_STRING_EQUAL(w->run.findings->result, "warn");
	CU_ASSERT_EQUAL(w->connections, 1);
}

static void
asks(void)
{
	with_service(ask_and_hear);
}

/* Who is trusted or has logged in is not asked for. */
static void
let_friends_in(struct world *w)
{
	static const char *const answers[] = { DEFER, DEFER, NULL };

	w->answers = answers;
	w->session.trusted = true;
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_CONTINUE);
	w->session.trusted = false;
	w->session.user = "joe";
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_CONTINUE);
	CU_ASSERT_EQUAL(w->connections, 0);
	w->session.user = NULL;
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_TEMPFAIL);
}

static void
friends(void)
{
	with_service(let_friends_in);
}

/* A kept connection that the service closes meanwhile costs nobody anything. */
static void
come_again(struct world *w)
{
	static const char *const answers[] = { DEFER, CLOSE, DEFER, DEFER,
		NULL };

	w->answers = answers;
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_TEMPFAIL);
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_TEMPFAIL);
	CU_ASSERT_EQUAL(w->connections, 2);
	shutdown(io_fd(w->clients[1]), SHUT_RDWR);
	task_yield();
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_TEMPFAIL);
	CU_ASSERT_EQUAL(w->connections, 3);
}

static void
again(void)
{
	with_service(come_again);
}

static const char *const *bad_answers;

/* Trouble: mail passes, and for a second the service is not asked. */
static void
pass_anyway(struct world *w)
{
	const char *trace;
	size_t len;

	w->answers = bad_answers;
	CU_ASSERT(rcpt(w, "b@example.net").action == ACTION_CONTINUE);
	CU_ASSERT_PTR_NULL(w->run.findings);
	trace = trace_text(w->mail->trace, &len);
	CU_ASSERT(strstr(trace, "no answer") != NULL);
	len = w->connections;
	CU_ASSERT(rcpt(w, "c@example.net").action == ACTION_CONTINUE);
	CU_ASSERT_EQUAL(w->connections, len);
}

static void
trouble(void)
{
	static const char *const cases[][2] = {
		{ CLOSE, NULL }, { "450 no\n\n", NULL }, { "\n\n", NULL },
		{ "action=DEFER 4.7.1 x\nmore\n\n", NULL },
		{ "action=DUNNO\n\naction=DUNNO\n\n", NULL }, { NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bad_answers = cases[i];
		with_service(pass_anyway);
	}
}

SUITE(policy_filter,
    { "asks and hears", asks },
    { "friends", friends },
    { "a connection that was closed", again },
    { "trouble", trouble })
