/* Clients, commands, and a relay that answers as it is told. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/counter.h"
#include "base/io.h"
#include "base/task.h"
#include "gateway/control_queue.h"
#include "gateway/control_server.h"
#include "gateway/event.h"
#include "gateway/history.h"
#include "gateway/link.h"
#include "t/unit/unit.h"

#define NOW ((int64_t)1795489200123)

struct fixture {
	struct control_server *server;
	struct control_queue *queue;
	struct history *history;
	int link[2];			/* [1]: the relay's */
	const char *answers;		/* of the relay, parted by | */
	char asked[64];			/* of the relay */
	char told[64];			/* the master */
	int master_errno;
	const char *reload_text;
	enum answer reload_answer;
	char path[64];
};

static struct fixture *now;

/* Stays attached to the end, whoever counts then. */
static struct counter_block *block;

static int
tell_master(const char *text)
{
	snprintf(now->told, sizeof(now->told), "%s", text);
	errno = now->master_errno;
	return errno == 0 ? 0 : -1;
}

/* Answers one request with the lines given. */
static void
relay_task(void *argument)
{
	struct fixture *f = argument;
	char text[LINK_MESSAGE_MAX];
	const char *line;
	unsigned long number;
	int passed;

	while (link_receive(f->link[1], text, &passed) <= 0)
		if (task_wait_fd(f->link[1], TASK_READ, DEADLINE_NEVER) != 0)
			return;
	number = strtoul(text, NULL, 10);
	snprintf(f->asked, sizeof(f->asked), "%s", strchr(text, ' ') + 1);
	/* What another asked for is none of ours. */
	link_send(f->link[1], -1, "%lu +not yours\n", number + 1);
	for (line = f->answers; line != NULL && *line != '\0'; ) {
		size_t len = strcspn(line, "|");

		link_send(f->link[1], -1, "%lu %.*s", number, (int)len, line);
		line += len + (line[len] == '|');
	}
}

static void
add(struct history *history, const char *kind, const char *recipients,
    const char *outcome, const char *text)
{
	history_add(history, &(struct event){ .time_ms = NOW, .id = "4bXk2w",
	    .kind = kind, .client = "mail.test[192.0.2.1]",
	    .sender = "a@b.test", .recipients = recipients,
	    .outcome = outcome, .text = text });
}

static enum answer
reload(struct buf *text, int64_t deadline)
{
	CU_ASSERT(deadline > task_now());
	buf_puts(text, now->reload_text);
	return now->reload_answer;
}

static void
set_up(struct fixture *f)
{
	const char *why = NULL;

	now = f;
	task_init();
	snprintf(f->path, sizeof(f->path), "/tmp/control-XXXXXX");
	close(mkstemp(f->path));
	f->history = history_open(&(struct history_settings){
	    .path = f->path, .keep_ms = 86400000, .max_size = 1 << 24 }, &why);
	CU_ASSERT_FATAL(f->history != NULL);
	CU_ASSERT_FATAL(link_pair(f->link) == 0);
	if (block == NULL)
		block = calloc(1, counter_block_size());
	f->queue = control_queue_new(f->link[0]);
	f->server = control_server_new(&(struct control_service){
	    .history = f->history, .keep_ms = 86400000, .queue = f->queue,
	    .blocks = &block, .block_count = 1, .ask_master = tell_master,
	    .reload = reload,
	    .queue_timeout_ms = 50 });
}

static void
tear_down(struct fixture *f)
{
	control_server_drain(f->server, task_deadline(1000));
	control_server_free(&f->server);
	control_queue_free(&f->queue);
	history_close(&f->history);
	close(f->link[0]);
	close(f->link[1]);
	unlink(f->path);
}

/* Sends a request and returns the whole answer. */
static void
ask(struct fixture *f, const char *request, struct buf *answer)
{
	struct io *io;
	size_t len;
	int fds[2];

	CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
	    fds) == 0);
	control_server_serve(f->server, fds[0]);
	io = io_new(fds[1]);
	io_puts(io, request);
	CU_ASSERT(io_flush(io, task_deadline(5000)) == 0);
	while (io_fill(io, task_deadline(5000)) > 0)
		;
	buf_append(answer, io_input(io, &len), 0);
	buf_append(answer, io_input(io, &len), len);
	io_free(&io);
}

struct ask_case {
	const char *name, *request;
	const char *answers;		/* the relay's */
	const char *asked;		/* of it, or NULL */
	const char *want;		/* is in the answer */
	const char *end;		/* ends it */
};

static const struct ask_case cases[] = {
	{ "empty", "\n", NULL, NULL, "", "=usage the request is empty\n" },
	{ "unknown", "dance\n", NULL, NULL, "=usage queue, dmarc, explain", "\n" },
	{ "queue list", "queue list\n",
	    "+A1 10 2026-11-24 03:45:46 held <a@b> <c@d>\n|"
	    "+B2 10 2026-11-24 03:45:46 held <a@b> <c@d>\n"
	    "C3 10 2026-11-24 03:45:46 held <a@b> <c@d>\n|=ok", "list",
	    "+C3 ", "+-- 3 messages\n=ok\n" },
	{ "one message", "queue list\n",
	    "+A1 10 2026-11-24 03:45:46 held <a@b> <c@d>\n|=ok", "list",
	    "+ID ", "+-- 1 message\n=ok\n" },
	{ "empty queue", "queue list\n", "=ok", "list", "",
	    "+queue is empty\n=ok\n" },
	{ "queue show", "queue show A1\n",
	    "+id: A1\nSubject: \033[2Jx\r\n\tfolded\r\n|=ok", "show A1",
	    "+Subject: \\x1B[2Jx\n+ folded\n", "=ok\n" },
	{ "hold", "queue hold A1\n", "=ok", "hold A1", "", "+A1: held\n=ok\n" },
	{ "flush all", "queue flush\n", "+flushed: 7\n|=ok", "flush", "",
	    "+flushed: 7\n=ok\n" },
	{ "flush one", "queue flush A1\n", "+flushed: 1\n|=ok", "flush A1",
	    "", "+flushed: 1\n=ok\n" },
	{ "the relay refuses", "queue delete A1\n", "=error no such message",
	    "delete A1", "", "=error no such message\n" },
	{ "the relay is silent", "queue list\n", NULL, "list", "",
	    "=error the relay does not answer\n" },
	{ "the relay stops amid", "queue sites\n", "+x waiting=1\n", "sites",
	    "+x waiting=1\n", "=error the relay does not answer\n" },
	{ "no id", "queue show\n", NULL, NULL, "=usage queue list", "\n" },
	{ "an id too many", "queue sites A1\n", NULL, NULL, "=usage", "\n" },
	{ "a bad id", "queue show a/b\n", NULL, NULL, "",
	    "=error that is not an id\n" },
	{ "reports", "dmarc list\n", "+a.test, from x\n|=ok", "dmarc-list ",
	    "+a.test, from x\n", "=ok\n" },
	{ "send a report", "dmarc send a.test\n", "=ok", "dmarc-send a.test",
	    "", "=ok\n" },
	{ "send to no domain", "dmarc send a/b\n", NULL, NULL, "",
	    "=usage dmarc list|send [domain]\n" },
	{ "explain", "explain 4bXk2w\n", NULL, NULL,
	    "  delivery to <c@d.test>: deferred\n"
	    "+    host x said: no\\x07\n", "=ok\n" },
	{ "explain shows the trace", "explain 4bXk2w\n", NULL, NULL,
	    "+    +0.1ms spf: pass\n+    +0.2ms dkim: fail\n", "=ok\n" },
	{ "explain shows the sender", "explain 4bXk2w\n", NULL, NULL,
	    "+  sender      <a@b.test>\n", "=ok\n" },
	{ "not found", "explain none\n", NULL, NULL, "=error no such id",
	    "\n" },
	{ "explain what?", "explain\n", NULL, NULL, "",
	    "=usage explain id\n" },
	{ "history", "history\n", NULL, NULL, " 4bXk2w ", "=ok\n" },
	{ "search", "history search A@B.test -n 1\n", NULL, NULL, "<a@b.test>",
	    "=ok\n" },
	{ "search in vain", "history search nobody\n", NULL, NULL, "",
	    "=ok\n" },
	{ "bad history", "history -n x\n", NULL, NULL, "=usage -n takes",
	    "\n" },
	{ "stats", "stats\n", NULL, NULL, "+smtp\n+  sessions", "=ok\n" },
	{ "status", "status\n", "=ok", "sites", "+  relay       answers\n",
	    "=ok\n" },
};

static void
ask_all(void *argument)
{
	struct fixture *f = argument;

	counter_attach(block);
	counter_add(counter_get("millgate_smtp_sessions_total", NULL), 3);
	add(f->history, "message", "c@d.test", "accepted",
	    "+0.1ms spf: pass\n+0.2ms dkim: fail\n");
	add(f->history, "delivery", "c@d.test", "deferred",
	    "host x said: no\a");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct ask_case *c = &cases[i];
		struct buf answer = BUF_INIT;
		struct task *relay;
		size_t end = strlen(c->end);

		f->answers = c->answers;
		f->asked[0] = '\0';
		relay = task_start("relay", relay_task, f);
		ask(f, c->request, &answer);
		task_reap(&relay);
		CASE_ASSERT(c->name, strstr(answer.data, c->want) != NULL);
		CASE_ASSERT(c->name, answer.len >= end && strcmp(answer.data +
		    answer.len - end, c->end) == 0);
		CASE_ASSERT(c->name, strcmp(f->asked, c->asked != NULL ?
		    c->asked : "") == 0);
		CASE_ASSERT(c->name, strstr(answer.data, "not yours") == NULL);
		buf_release(&answer);
	}
}

static void
ask_the_master(void *argument)
{
	struct fixture *f = argument;
	struct buf answer = BUF_INIT;

	f->reload_text = "configuration 2 is in use";
	f->reload_answer = ANSWER_YES;
	ask(f, "reload\n", &answer);
	CU_ASSERT_STRING_EQUAL(answer.data,
	    "+configuration 2 is in use\n=ok\n");
	buf_reset(&answer);
	f->reload_text = "a.conf:1: no\na.conf:2: nor this\n";
	f->reload_answer = ANSWER_NO;
	ask(f, "reload\n", &answer);
	CU_ASSERT_STRING_EQUAL(answer.data, "+a.conf:1: no\n"
	    "+a.conf:2: nor this\n=error the reload failed; the "
	    "configuration before it is in use\n");
	buf_reset(&answer);
	f->reload_text = "";
	f->reload_answer = ANSWER_UNKNOWN;
	ask(f, "reload\n", &answer);
	CU_ASSERT(strstr(answer.data, "=ok\n") != NULL);
	buf_reset(&answer);
	ask(f, "stop\n", &answer);
	CU_ASSERT_STRING_EQUAL(f->told, "stop");
	buf_reset(&answer);
	f->master_errno = EPIPE;
	ask(f, "stop\n", &answer);
	CU_ASSERT_STRING_EQUAL(answer.data, "=error Broken pipe\n");
	buf_release(&answer);
}

/* Neither who says nothing nor who does not read is in another's way. */
static void
ask_beside_others(void *argument)
{
	struct fixture *f = argument;
	struct buf answer = BUF_INIT;
	static char text[15000];
	int silent[2], slow[2];

	memset(text, 'x', sizeof(text) - 1);
	for (int i = 0; i < 100; i++)
		add(f->history, "delivery", "c@d.test", "deferred", text);
	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, silent) == 0);
	control_server_serve(f->server, silent[0]);
	CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, slow) == 0);
	control_server_serve(f->server, slow[0]);
	CU_ASSERT(write(slow[1], "explain 4bXk2w\n", 15) == 15);
	for (int i = 0; i < 10; i++)
		task_yield();
	ask(f, "history\n", &answer);
	CU_ASSERT(strstr(answer.data, "4bXk2w") != NULL);
	buf_release(&answer);
	/* The drain cuts them off. */
	control_server_drain(f->server, task_deadline(10));
	CU_ASSERT(recv(silent[1], text, 1, 0) == 0);
	close(silent[1]);
	close(slow[1]);
}

static void
ask_too_much(void *argument)
{
	struct fixture *f = argument;
	struct buf answer = BUF_INIT;
	char request[2000];
	int fds[40][2];

	memset(request, 'x', sizeof(request) - 1);
	request[sizeof(request) - 1] = '\0';
	ask(f, request, &answer);
	CU_ASSERT(strstr(answer.data, "=usage the request is too long\n") !=
	    NULL);
	buf_reset(&answer);
	for (int i = 0; i < 40; i++) {
		CU_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]) == 0);
		control_server_serve(f->server, fds[i][0]);
	}
	CU_ASSERT(recv(fds[39][1], request, sizeof(request), 0) == 24);
	CU_ASSERT(memcmp(request, "=error too many clients\n", 24) == 0);
	for (int i = 0; i < 40; i++)
		close(fds[i][1]);
	buf_release(&answer);
}

struct run {
	struct fixture *fixture;
	task_f *test;
};

static void
run_task(void *argument)
{
	struct run *run = argument;

	run->test(run->fixture);
	tear_down(run->fixture);
	task_stop();
}

static void
run(task_f *test)
{
	struct fixture f = { .answers = NULL };
	struct run task = { &f, test };

	set_up(&f);
	task_detach("test", run_task, &task);
	task_loop();
	task_shutdown();
}

static void commands(void) { run(ask_all); }
static void master(void) { run(ask_the_master); }
static void several_clients(void) { run(ask_beside_others); }
static void limits(void) { run(ask_too_much); }

SUITE(control_server,
	{ "commands", commands },
	{ "master", master },
	{ "several clients", several_clients },
	{ "limits", limits })
