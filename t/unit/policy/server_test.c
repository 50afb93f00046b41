/* The policy server over socket pairs: what its clients hear. */
#include "policy/server.h"

#include <string.h>
#include <sys/socket.h>

#include "base/conf.h"
#include "base/io.h"
#include "base/task.h"
#include "policy/store.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define TYPE "request=smtpd_access_policy\n"
#define RCPT TYPE "protocol_state=RCPT\nclient_address=192.0.2.1\n"
#define DEFER "action=DEFER_IF_PERMIT 4.7.1 Greylisted, try again in 300 " \
	"seconds\nreason=greylist\n\n"
#define DUNNO "action=DUNNO\n\n"

static struct policy_server *
begin(struct rig *rig)
{
	const char *why = "";
	struct policy_server *server = policy_server_new(rig->conf,
	    rig->store, &why);

	CU_ASSERT_PTR_NOT_NULL_FATAL(server);
	return server;
}

static struct io *
connect_to(struct policy_server *server)
{
	int fds[2];

	CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
	    fds) == 0);
	policy_server_serve(server, fds[0]);
	return io_new(fds[1]);
}

/* What comes until nothing more does for a moment, or the end. */
static const char *
hear(struct io *io, char text[1024])
{
	const char *bytes;
	size_t len;
	ssize_t n;

	while ((n = io_fill(io, task_deadline(200))) > 0) {
		bytes = io_input(io, &len);
		if (len >= 2 && memcmp(bytes + len - 2, "\n\n", 2) == 0)
			break;
	}
	bytes = io_input(io, &len);
	if (len > 1000)
		len = 1000;
	memcpy(text, bytes, len);
	strcpy(text + len, n == 0 ? "(closed)" : "");
	io_consume(io, len);
	return text;
}

static const char *
ask(struct io *io, const char *request, char text[1024])
{
	io_puts(io, request);
	io_flush(io, task_deadline(1000));
	return hear(io, text);
}

static const struct exchange {
	const char *name, *request, *want;
	int64_t later_ms;
} exchanges[] = {
	{ "a stranger", RCPT "sender=a@x\nrecipient=b@y\n\n", DEFER, 0 },
	{ "unknown attributes", RCPT "sender=a@x\nrecipient=c@y\nnew=1\n\n",
	    DEFER, 0 },
	{ "another state", TYPE "protocol_state=DATA\n"
	    "client_address=192.0.2.1\n\n", DUNNO, 0 },
	{ "VRFY", TYPE "protocol_state=VRFY\n\n", DUNNO, 0 },
	{ "no state", TYPE "\n", DUNNO, 0 },
	{ "no address", TYPE "protocol_state=RCPT\n\n", DUNNO, 0 },
	{ "an instance", RCPT "recipient=i@y\ninstance=1\n\n", DEFER, 0 },
	{ "the same instance hears the same", RCPT
	    "recipient=i@y\ninstance=1\n\n", DEFER, 301000 },
	{ "another instance passes", RCPT "recipient=i@y\ninstance=2\n\n",
	    DUNNO, 0 },
	{ "who comes back passes", RCPT "sender=a@x\nrecipient=b@y\n\n",
	    DUNNO, 0 },
	{ "a user of ours", RCPT
	    "sasl_username=u\nrecipient=d@y\nsender=a@x\n\n", DUNNO, 0 },
	{ "who is trusted", RCPT "trusted=yes\nrecipient=d@y\n\n", DUNNO, 0 },
	{ "one service", RCPT "service=greylist\nrecipient=d@y\n\n", DEFER,
	    0 },
	{ "no such service", RCPT "service=other\nrecipient=e@y\n\n", DUNNO,
	    0 },
	{ "a profile", RCPT "policy_context=lax\nrecipient=e@y\n\n", DUNNO,
	    0 },
	{ "no such profile", RCPT "policy_context=odd\nrecipient=e@y\n\n",
	    DEFER, 0 },
	{ "no such command", "request=millgate_command\ncommand=what now\n\n",
	    "action=USAGE there is no such command\n\n", 0 },
	{ "garbage", "HELO x\r\n", "(closed)", 0 },
	{ "no request", "\n", "(closed)", 0 },
	{ "twice the same", RCPT "sender=\nsender=\n\n", "(closed)", 0 },
	{ "others are served", RCPT "recipient=z@y\n\n", DEFER, 0 },
};

static void
converse(struct rig *rig)
{
	struct policy_server *server = begin(rig);
	struct io *io = connect_to(server);
	char text[1024];

	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]);
	    i++) {
		store_shift_clock(rig->store, exchanges[i].later_ms);
		CASE_ASSERT(exchanges[i].name, strcmp(ask(io,
		    exchanges[i].request, text), exchanges[i].want) == 0);
		if (strcmp(exchanges[i].want, "(closed)") == 0) {
			io_free(&io);
			io = connect_to(server);
		}
	}
	CU_ASSERT_EQUAL(policy_server_clients(server), 1);
	CU_ASSERT(rig_log_count(rig, "policy: client=unknown[192.0.2.1], "
	    "from=<a@x>, to=<b@y>, state=RCPT, action=defer, by=greylist, reason=greylist") > 0);
	CU_ASSERT_EQUAL(rig_log_count(rig, "policy_context=odd is no"), 1);
	/* The garbage above all came from one client. */
	CU_ASSERT_EQUAL(rig_log_count(rig,
	    "policy: client=local: closed without an answer"), 1);
	policy_server_drain(server, task_deadline(1000));
	CU_ASSERT_STRING_EQUAL(hear(io, text), "(closed)");
	io_free(&io);
	policy_server_free(&server);
}

static void
conversations(void)
{
	rig_each("policy_profile lax { }", converse);
}

#define MANY 50

/* Half requests hold up nobody; a drain ends even them. */
static void
halves(struct rig *rig)
{
	struct policy_server *server = begin(rig);
	struct io *half[MANY], *io;
	char text[1024];
	int64_t begin;

	for (size_t i = 0; i < MANY; i++) {
		half[i] = connect_to(server);
		io_puts(half[i], RCPT "recip");
		io_flush(half[i], task_deadline(1000));
	}
	io = connect_to(server);
	CU_ASSERT_STRING_EQUAL(ask(io, RCPT "recipient=a@y\n\n", text),
	    DEFER);
	CU_ASSERT_EQUAL(policy_server_clients(server), MANY + 1);
	for (size_t i = 0; i < MANY / 2; i++)
		io_free(&half[i]);
	for (const char *c = "ient=b@y\n\n"; *c != '\0'; c++) {
		io_put(half[MANY - 1], c, 1);
		io_flush(half[MANY - 1], task_deadline(1000));
		task_yield();
	}
	CU_ASSERT_STRING_EQUAL(hear(half[MANY - 1], text), DEFER);
	begin = task_now();
	policy_server_drain(server, task_deadline(50));
	CU_ASSERT(task_now() - begin < 2000);
	CU_ASSERT_EQUAL(policy_server_clients(server), 0);
	for (size_t i = MANY / 2; i < MANY; i++)
		io_free(&half[i]);
	io_free(&io);
	policy_server_free(&server);
}

static void
half_requests(void)
{
	rig_each("", halves);
}

static void
crowd(struct rig *rig)
{
	struct policy_server *server = begin(rig);
	struct io *io[5];
	char text[1024];

	for (size_t i = 0; i < 5; i++) {
		io[i] = connect_to(server);
		CU_ASSERT_STRING_EQUAL(ask(io[i], RCPT "recipient=c@y\n\n",
		    text), DEFER);
	}
	CU_ASSERT_EQUAL(policy_server_clients(server), 3);
	CU_ASSERT_STRING_EQUAL(hear(io[0], text), "(closed)");
	CU_ASSERT_STRING_EQUAL(hear(io[1], text), "(closed)");
	CU_ASSERT_STRING_EQUAL(ask(io[2], RCPT "recipient=c@y\n\n", text),
	    DEFER);
	CU_ASSERT_EQUAL(rig_log_count(rig, "max_clients"), 1);
	for (size_t i = 0; i < 5; i++)
		io_free(&io[i]);
	policy_server_drain(server, task_deadline(1000));
	policy_server_free(&server);
}

static void
crowded(void)
{
	rig_each("policy { max_clients = 3 }", crowd);
}

SUITE(policy_server,
    { "conversations", conversations },
    { "half requests", half_requests },
    { "more than max_clients", crowded })
