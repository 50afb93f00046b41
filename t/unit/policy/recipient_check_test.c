/* Recipient validation: tables, and a server that is asked. */
#define _GNU_SOURCE		/* accept4 */
#include "policy/recipient_check.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/net.h"
#include "base/task.h"
#include "policy/recipient_probe.h"
#include "policy/smtp_reply.h"
#include "policy/store.h"
#include "t/unit/policy/ask.h"
#include "t/unit/unit.h"

static void
replies(void)
{
	static const struct { const char *reply; enum answer want; } cases[] = {
		{ "250 2.1.5 Ok", ANSWER_YES },
		{ "251 user not local; will forward", ANSWER_YES },
		{ "252 cannot verify", ANSWER_UNKNOWN },
		{ "550 5.1.1 no such user", ANSWER_NO },
		{ "550 no such user", ANSWER_NO },
		{ "550 5.1.10 not found", ANSWER_NO },
		{ "551 5.1.6 moved", ANSWER_NO },
		{ "553 5.1.3 bad address", ANSWER_NO },
		{ "550 5.2.1 disabled", ANSWER_NO },
		{ "550 5.4.1 access denied", ANSWER_NO },
		{ "552 5.2.2 over quota", ANSWER_UNKNOWN },
		{ "552 full", ANSWER_UNKNOWN },
		{ "550 5.7.1 you are on a list", ANSWER_UNKNOWN },
		{ "554 5.7.1 relay denied", ANSWER_UNKNOWN },
		{ "530 5.7.0 STARTTLS first", ANSWER_UNKNOWN },
		{ "500 5.5.2 what?", ANSWER_UNKNOWN },
		{ "450 4.1.1 later", ANSWER_UNKNOWN },
		{ "421 4.3.0 going down", ANSWER_UNKNOWN },
		{ "354 what?", ANSWER_UNKNOWN },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reply reply;
		const char *why;

		reply_init(&reply);
		CASE_ASSERT(cases[i].reply, reply_line(&reply, cases[i].reply,
		    strlen(cases[i].reply), &why) == REPLY_DONE);
		CASE_ASSERT(cases[i].reply, probe_understand(&reply) ==
		    cases[i].want);
	}
}

/* --- a server --- */

static struct server {
	int fd;
	int connections;
	bool hold;			/* nothing is said to RCPT */
	bool silent;			/* it hangs up at once */
	struct task_cond go_on;
	struct task *task;
	char commands[512];
} server;

static const char *
answer_to(const char *line)
{
	if (strncmp(line, "RCPT", 4) != 0)
		return "250-hello\r\n250 Ok\r\n";
	if (strstr(line, "<no@") != NULL)
		return "550 5.1.1 no such user\r\n";
	if (strstr(line, "<full@") != NULL)
		return "552 5.2.2 mailbox full\r\n";
	return "250 2.1.5 Ok\r\n";
}

static void
talk(void *argument)
{
	struct io *io = argument;
	int64_t deadline = task_deadline(20000);
	const char *line;
	size_t len;

	io_puts(io, "220 there\r\n");
	while (!server.silent && io_flush(io, deadline) == 0 &&
	    io_read_line(io, 512, &line, &len, deadline) == 1) {
		size_t at = strlen(server.commands);

		snprintf(server.commands + at, sizeof(server.commands) - at,
		    "%.*s", (int)len, line);
		while (server.hold && strncmp(line, "RCPT", 4) == 0)
			task_cond_wait(&server.go_on, deadline);
		if (strncmp(line, "QUIT", 4) == 0)
			break;
		io_puts(io, answer_to(line));
	}
	io_free(&io);
}

static void
serve(void *argument)
{
	struct task_fd fd;
	int client;

	(void)argument;
	task_fd_init(&fd, server.fd);
	for (;;) {
		client = accept4(server.fd, NULL, NULL, SOCK_NONBLOCK |
		    SOCK_CLOEXEC);
		if (client >= 0) {
			server.connections++;
			task_detach("server", talk, io_new(client));
		} else if (errno == EAGAIN && task_fd_wait(&fd, TASK_READ,
		    DEADLINE_NEVER) != 0) {
			break;
		}
	}
	task_fd_release(&fd);
}

static void
start_server(void)
{
	server.connections = 0;
	server.commands[0] = '\0';
	server.task = task_start("serve", serve, NULL);
}

/* The address is in text until the next call. */
static const char *
listen_somewhere(void)
{
	static char text[NET_TEXT_SIZE];
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	struct net_endpoint endpoint;
	const char *why;

	memset(&server, 0, sizeof(server));
	net_endpoint_parse("127.0.0.1:0", &endpoint, &why);
	((struct sockaddr_in *)&endpoint.address)->sin_port = 0;
	server.fd = net_listen(&endpoint, 8, 0, &why);
	CU_ASSERT_FATAL(server.fd >= 0);
	getsockname(server.fd, (struct sockaddr *)&address, &len);
	net_endpoint_print((struct sockaddr *)&address, text);
	return text;
}

#define ASK(name) ask(&recipient_check_service, check, false,		\
	"recipient=" name)

#define DIALOGUE "LHLO unit.test\r\nMAIL FROM:<>\r\n"			\
	"RCPT TO:<yes@us.test>\r\n"

static void
call(struct rig *rig)
{
	void *check = ask_setup(rig, &recipient_check_service, 0);
	struct policy_decision decision;

	start_server();
	CU_ASSERT_EQUAL(ASK("x@elsewhere.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(ASK("postmaster").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(ASK("table@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(server.connections, 0);
	CU_ASSERT_EQUAL(ASK("yes@us.test").verb, POLICY_DUNNO);
	CU_ASSERT(strncmp(server.commands, DIALOGUE, strlen(DIALOGUE)) == 0);
	decision = ASK("no@us.test");
	CU_ASSERT_EQUAL(decision.verb, POLICY_REJECT);
	CU_ASSERT_EQUAL(decision.code, 550);
	CU_ASSERT_STRING_EQUAL(decision.enhanced, "5.1.1");
	CU_ASSERT_STRING_EQUAL(decision.why, "550 5.1.1 no such user");
	CU_ASSERT_EQUAL(server.connections, 2);
	CU_ASSERT_EQUAL(ASK("YES@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(ASK("No@us.test").verb, POLICY_REJECT);
	CU_ASSERT_EQUAL(server.connections, 2);
	decision = ASK("full@us.test");
	CU_ASSERT_EQUAL(decision.verb, POLICY_DEFER);
	CU_ASSERT_EQUAL(decision.code, 450);
	CU_ASSERT_EQUAL(ASK("full@us.test").verb, POLICY_DEFER);
	CU_ASSERT_EQUAL(server.connections, 4);
	CU_ASSERT_EQUAL(ASK("\xc3\xa9@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(ASK("a\rQUIT\r@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(server.connections, 4);
	store_shift_clock(rig->store, 11 * INT64_C(60000));
	CU_ASSERT_EQUAL(ASK("no@us.test").verb, POLICY_REJECT);
	CU_ASSERT_EQUAL(ASK("yes@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(server.connections, 5);
	server.silent = true;
	CU_ASSERT_EQUAL(ASK("lost@us.test").verb, POLICY_DEFER);
	server.silent = false;
	CU_ASSERT_EQUAL(ASK("lost@us.test").verb, POLICY_DUNNO);
	recipient_check_service.release(check);
	task_reap(&server.task);
}

static void *the_check;
static int passed;

static void
ask_too(void *argument)
{
	(void)argument;
	passed += ask(&recipient_check_service, the_check, false,
	    "recipient=slow@us.test").verb == POLICY_DUNNO;
}

/* Many ask at a time, the server is asked once; a late answer is kept. */
static void
wait_for_it(struct rig *rig)
{
	struct task *askers[8];
	void *check = ask_setup(rig, &recipient_check_service, 0);
	struct policy_decision decision;

	the_check = check;
	passed = 0;
	start_server();
	for (int i = 0; i < 8; i++)
		askers[i] = task_start("asker", ask_too, NULL);
	for (int i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(task_join(&askers[i], task_deadline(20000)),
		    0);
	CU_ASSERT_EQUAL(passed, 8);
	CU_ASSERT_EQUAL(server.connections, 1);
	server.hold = true;
	decision = ASK("late@us.test");
	CU_ASSERT_EQUAL(decision.verb, POLICY_DEFER);
	CU_ASSERT_STRING_EQUAL(decision.reason, "recipient-unverified");
	CU_ASSERT_EQUAL(ASK("late@us.test").verb, POLICY_DEFER);
	CU_ASSERT_EQUAL(server.connections, 2);
	server.hold = false;
	task_cond_broadcast(&server.go_on);
	CU_ASSERT_EQUAL(ASK("late@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(ASK("late@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(server.connections, 2);
	/* One is under way as the service ends. */
	server.hold = true;
	CU_ASSERT_EQUAL(ASK("never@us.test").verb, POLICY_DEFER);
	recipient_check_service.release(check);
	server.hold = false;
	task_cond_broadcast(&server.go_on);
	task_reap(&server.task);
}

static void
with_server(void (*run)(struct rig *))
{
	char text[512];

	snprintf(text, sizeof(text), "hostname = unit.test\n"
	    "recipient_check c { domains = { us.test } "
	    "recipients = { \"table@us.test\" } "
	    "call_ahead = \"lmtp:%s\" call_ahead_timeout = 300ms }",
	    listen_somewhere());
	rig_each(text, run);
	close(server.fd);
}

static void
called(void)
{
	with_server(call);
}

static void
coalesced(void)
{
	with_server(wait_for_it);
}

static void
no_server(struct rig *rig)
{
	void *check = ask_setup(rig, &recipient_check_service, 0);
	struct policy_decision decision = ASK("a@us.test");

	CU_ASSERT_EQUAL(decision.verb, POLICY_DEFER);
	CU_ASSERT_PTR_NOT_NULL(strstr(decision.why, "cannot connect"));
	decision = ASK("b@us.test");
	CU_ASSERT_EQUAL(decision.verb, POLICY_DEFER);
	CU_ASSERT_PTR_NOT_NULL(strstr(decision.why, "a moment ago"));
	recipient_check_service.release(check);
}

static void
unreachable(void)
{
	rig_each("recipient_check c { domains = { us.test } "
	    "call_ahead = \"smtp:127.0.0.1:1\" }", no_server);
}

static void
look_up(struct rig *rig)
{
	void *check = ask_setup(rig, &recipient_check_service, 0);
	struct policy_decision decision = ASK("no@us.test");

	CU_ASSERT_EQUAL(ASK("a+x@us.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(ASK("x@all.test").verb, POLICY_DUNNO);
	CU_ASSERT_EQUAL(decision.verb, POLICY_REJECT);
	CU_ASSERT_STRING_EQUAL(decision.reason, "user-unknown");
	recipient_check_service.release(check);
}

static void
tables(void)
{
	rig_each("recipient_check c { domains = { us.test, all.test } "
	    "recipients = { \"a@us.test\", \"@all.test\" } }", look_up);
}

static void
checks(void)
{
	static const struct rig_check wrong[] = {
		{ "good", "recipient_check c { domains = { x.test } "
		    "call_ahead = \"lmtp:unix:/x\" }", NULL },
		{ "no domains", "recipient_check c { recipients = { } }",
		    "domains: is required" },
		{ "no source", "recipient_check c { domains = { x.test } }",
		    "recipients: this or call_ahead is required" },
		{ "a server", "recipient_check c { domains = { x.test } "
		    "call_ahead = \"127.0.0.1:24\" }",
		    "call_ahead: 127.0.0.1:24: is to begin with" },
		{ "a name", "recipient_check c { domains = { x.test } "
		    "call_ahead = \"lmtp:mail.test:24\" }",
		    "call_ahead: lmtp:mail.test:24: not an" },
	};

	rig_check_options(wrong, sizeof(wrong) / sizeof(wrong[0]));
}

SUITE(recipient_check,
    { "replies", replies },
    { "tables", tables },
    { "a server is asked", called },
    { "once for many, and late", coalesced },
    { "no server", unreachable },
    { "checks of options", checks })
