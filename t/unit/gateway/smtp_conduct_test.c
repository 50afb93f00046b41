/*
 * What a session does beside answering commands: content, limits, slow and lost
 * clients, draining, the next hop's answers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/task.h"
#include "t/unit/gateway/smtp_talk.h"
#include "t/unit/unit.h"

/* What arrives is what was sent, below our own field. */
static void
content_runs(void)
{
	static const struct {
		const char *name, *sent, *kept;
	} cases[] = {
		{ "usual", "A: b\r\n\r\nc\r\n", "A: b\r\n\r\nc\r\n" },
		{ "dots", "A: b\r\n\r\n..\r\n..c\r\n",
		    "A: b\r\n\r\n.\r\n.c\r\n" },
		{ "folds", "A: b\r\n\tc\r\n\r\n", "A: b\r\n\tc\r\n\r\n" },
		{ "no header", "\r\nc\r\n", "\r\nc\r\n" },
		{ "no body", "A: b\r\n", "A: b\r\n\r\n" },
		{ "not a field", "hello\r\n", "\r\nhello\r\n" },
		{ "odd blanks", "A :  b  \r\n\r\n  \r\n\r\n",
		    "A :  b  \r\n\r\n  \r\n\r\n" },
	};
	struct talk talk;

	talk_begin(&talk, "", "");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		static const struct talk_step begin[] = { HELLO, MAIL, RCPT,
		    DATA };
		const char *text, *date;

		buf_reset(&talk.taken);
		talk_connect(&talk, STRANGER);
		for (size_t k = 0; k < 5; k++)
			CU_ASSERT(talk_step(&talk, cases[i].name, &begin[k]));
		/* In two pieces, so that the split is within the header. */
		io_put(talk.io, cases[i].sent, 3);
		io_flush(talk.io, task_deadline(1000));
		task_yield();
		io_puts(talk.io, cases[i].sent + 3);
		CU_ASSERT(talk_step(&talk, cases[i].name,
		    &(struct talk_step){ ".\r\n", "250" }));
		text = talk.taken.data;
		CASE_ASSERT(cases[i].name, strncmp(text, "s@other.example>"
		    "r@ours.example:Received: from h.example (unknown "
		    "[192.0.2.1])\r\n\tby mx.ours.example with ESMTP id ",
		    100) == 0);
		date = strstr(text, " +0000\r\n");
		CASE_ASSERT(cases[i].name, date != NULL &&
		    strcmp(date + 8, cases[i].kept) == 0);
	}
	CU_ASSERT(talk.message_count == 7);
	talk_end(&talk);
}

static void
content(void)
{
	talk_run(content_runs);
}

/* A submission lacks nothing when filters see it. */
static void
missing_fields_run(void)
{
	static const struct talk_step steps[] = { HELLO, MAIL, RCPT, DATA,
	    { "Subject: x\r\n\r\n.\r\n", "250" } };
	struct talk talk;

	talk_begin(&talk, "", "");
	talk_connect(&talk, FRIEND);
	for (size_t k = 0; k < sizeof steps / sizeof *steps; k++)
		CU_ASSERT(talk_step(&talk, "missing", &steps[k]));
	CU_ASSERT(strstr(talk.taken.data, "\r\nDate: ") != NULL);
	CU_ASSERT(strstr(talk.taken.data, "\r\nMessage-ID: <") != NULL);
	talk_end(&talk);
}

static void
missing_fields(void)
{
	talk_run(missing_fields_run);
}

/* Too large: the rest is read, dropped, and the session goes on. */
static void
too_large_run(void)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	struct talk talk;

	talk_begin(&talk, "message_size_limit = 100K", "max_header = 4K");
	talk_connect(&talk, STRANGER);
	for (size_t k = 0; k < 5; k++)
		CU_ASSERT(talk_step(&talk, "large", &begin[k]));
	io_puts(talk.io, "A: b\r\n\r\n");
	for (int i = 0; i < 300; i++)
		io_puts(talk.io, LINE_512 "\r\n");
	CU_ASSERT(talk_step(&talk, "large",
	    &(struct talk_step){ ".\r\nNOOP\r\n", "552 250" }));
	/* The header alone. */
	for (size_t k = 2; k < 5; k++)
		CU_ASSERT(talk_step(&talk, "header", &begin[k]));
	for (int i = 0; i < 20; i++)
		io_puts(talk.io, "A: " LINE_512 "\r\n");
	CU_ASSERT(talk_step(&talk, "header",
	    &(struct talk_step){ "\r\n.\r\n", "552" }));
	/* BDAT: its chunk too is read and dropped. */
	for (size_t k = 2; k < 4; k++)
		CU_ASSERT(talk_step(&talk, "chunk", &begin[k]));
	io_puts(talk.io, "BDAT 154200 LAST\r\n");
	for (int i = 0; i < 300; i++)
		io_puts(talk.io, LINE_512 "\r\n");
	CU_ASSERT(talk_step(&talk, "chunk",
	    &(struct talk_step){ "NOOP\r\n", "552 250" }));
	CU_ASSERT(talk.message_count == 0);
	CU_ASSERT_STRING_EQUAL(talk.traces.data,
	    "rejected,rejected,rejected,");
	talk_end(&talk);
}

static void
too_large(void)
{
	talk_run(too_large_run);
}

/* The client hangs up at each point: nothing is taken. */
static void
hang_up_run(void)
{
	static const struct { const char *name, *last; } cases[] = {
		{ "in the header", "Subject: x\r\n" },
		{ "in the body", TEXT },
		{ "in the end", TEXT ".\r" },
		{ "in a chunk", NULL }
	};
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT };
	struct talk talk;

	talk_begin(&talk, "", "");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		talk_connect(&talk, STRANGER);
		for (size_t k = 0; k < 4; k++)
			CU_ASSERT(talk_step(&talk, cases[i].name, &begin[k]));
		if (cases[i].last != NULL) {
			CU_ASSERT(talk_step(&talk, cases[i].name,
			    &(struct talk_step)DATA));
			io_puts(talk.io, cases[i].last);
		} else
			io_puts(talk.io, "BDAT 100 LAST\r\nabc");
		io_flush(talk.io, task_deadline(1000));
		talk_hang_up(&talk);
		while (smtp_server_sessions(talk.server) > 0)
			task_yield();
	}
	CU_ASSERT(talk.message_count == 0);
	CU_ASSERT_STRING_EQUAL(talk.traces.data, "lost,lost,lost,lost,");
	talk_end(&talk);
}

static void
hang_up(void)
{
	talk_run(hang_up_run);
}

/* What the next hop says is what the client hears. */
static void
next_hop_run(void)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	static const struct {
		const char *name;
		struct verdict answer;
		const char *code, *text;
	} cases[] = {
		{ "over quota", { .action = ACTION_REJECT, .code = 552,
		    .enhanced = "5.2.2", .text = "Quota exceeded" }, "552",
		    "552 5.2.2 Quota exceeded [next-hop " },
		{ "several lines", { .action = ACTION_REJECT, .code = 550,
		    .enhanced = "5.7.1", .text = "one\ntwo\x1B\n" }, "550",
		    "550-5.7.1 one\r\n550 5.7.1 two? [next-hop " },
		{ "later", { .action = ACTION_TEMPFAIL }, "451",
		    "451 4.4.0 " },
		{ "done", { .action = ACTION_ACCEPT }, "250", "250 2.0.0 Ok" },
	};
	struct talk talk;

	talk_begin(&talk, "", "");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		talk.answer = cases[i].answer;
		talk_connect(&talk, STRANGER);
		for (size_t k = 0; k < 5; k++)
			CU_ASSERT(talk_step(&talk, cases[i].name, &begin[k]));
		buf_reset(&talk.replies);
		CU_ASSERT(talk_step(&talk, cases[i].name,
		    &(struct talk_step){ TEXT ".\r\n", cases[i].code }));
		CASE_ASSERT(cases[i].name, strncmp(talk.replies.data,
		    cases[i].text, strlen(cases[i].text)) == 0);
	}
	talk_end(&talk);
}

static void
next_hop(void)
{
	talk_run(next_hop_run);
}

/* A reply's lines are short and hold nothing but text. */
static void
long_replies_run(void)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	struct talk talk;
	const char *line;
	size_t longest = 0;

	talk_begin(&talk, "", "");
	talk.answer = (struct verdict){ .action = ACTION_REJECT,
	    .text = LINE_512 LINE_512 LINE_512 };
	talk_connect(&talk, STRANGER);
	for (size_t k = 0; k < 5; k++)
		CU_ASSERT(talk_step(&talk, "long", &begin[k]));
	buf_reset(&talk.replies);
	CU_ASSERT(talk_step(&talk, "long",
	    &(struct talk_step){ TEXT ".\r\n", "550" }));
	for (line = talk.replies.data; *line != '\0';) {
		size_t len = strcspn(line, "\n") + 1;

		longest = len > longest ? len : longest;
		line += len;
	}
	CU_ASSERT(longest == 512);
	talk_end(&talk);
}

static void
long_replies(void)
{
	talk_run(long_replies_run);
}

/*
 * A session idle behind a message ends with 421; one in DATA is let finish, and
 * one before its first message may send that.
 */
static void
drain_server(void *argument)
{
	struct talk *talk = argument;

	smtp_server_drain(talk->server, task_deadline(5000));
}

static struct io *
drain_begin(struct talk *talk, const char *name, size_t steps)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	struct io *io;

	talk_connect(talk, STRANGER);
	for (size_t k = 0; k < steps; k++)
		CU_ASSERT(talk_step(talk, name, &begin[k]));
	io = talk->io;
	talk->io = NULL;
	return io;
}

static void
drain_go_on(struct talk *talk, struct io *io, const char *name,
    const char *send, const char *want)
{
	talk->io = io;
	CU_ASSERT(talk_step(talk, name, &(struct talk_step){ send, want }));
	if (strstr(want, "EOF") != NULL)
		talk_hang_up(talk);
	talk->io = NULL;
}

static void
drain_run(void)
{
	struct talk talk;
	struct task *task;
	struct io *busy, *idle, *fresh;

	talk_begin(&talk, "", "");
	busy = drain_begin(&talk, "busy", 5);
	idle = drain_begin(&talk, "idle", 5);
	fresh = drain_begin(&talk, "fresh", 3);
	drain_go_on(&talk, idle, "idle", TEXT ".\r\n", "250");
	CU_ASSERT(smtp_server_sessions(talk.server) == 3);
	task = task_start("drain", drain_server, &talk);
	drain_go_on(&talk, idle, "idle", NULL, "421 EOF");
	drain_go_on(&talk, busy, "busy", TEXT ".\r\nQUIT\r\n",
	    "250 221 EOF");
	drain_go_on(&talk, fresh, "fresh", "RCPT TO:<q@ours.example>\r\n",
	    "250");
	drain_go_on(&talk, fresh, "fresh", "QUIT\r\n", "221 EOF");
	CU_ASSERT(talk.message_count == 2);
	CU_ASSERT(task_join(&task, DEADLINE_NEVER) == 0);
	talk_end(&talk);
}

static void
drain(void)
{
	talk_run(drain_run);
}

/* At the deadline those that do not end are cut off. */
static void
drain_cuts_run(void)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	struct talk talk;

	talk_begin(&talk, "", "");
	talk_connect(&talk, STRANGER);
	for (size_t k = 0; k < 5; k++)
		CU_ASSERT(talk_step(&talk, "cut", &begin[k]));
	smtp_server_drain(talk.server, task_deadline(20));
	CU_ASSERT(smtp_server_sessions(talk.server) == 0);
	CU_ASSERT(talk_step(&talk, "cut",
	    &(struct talk_step){ NULL, "421 EOF" }));
	CU_ASSERT_STRING_EQUAL(talk.traces.data, "lost,");
	talk_end(&talk);
}

static void
drain_cuts(void)
{
	talk_run(drain_cuts_run);
}

/* Deadlines are for the whole: a byte now and then does not help. */
static void
slow_client_run(void)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	struct talk talk;
	int64_t started = task_now();

	talk_begin(&talk, "", "command_timeout = 100ms\ndata_timeout = 100ms");
	talk_connect(&talk, STRANGER);
	CU_ASSERT(talk_step(&talk, "slow", &begin[0]));
	while (smtp_server_sessions(talk.server) > 0 &&
	    task_now() - started < 4000) {
		io_puts(talk.io, "N");
		(void)io_flush(talk.io, task_deadline(1000));
		task_sleep(5);
	}
	CU_ASSERT(smtp_server_sessions(talk.server) == 0);
	CU_ASSERT(talk_step(&talk, "slow",
	    &(struct talk_step){ NULL, "421 EOF" }));
	started = task_now();
	talk_connect(&talk, STRANGER);
	for (size_t k = 0; k < 5; k++)
		CU_ASSERT(talk_step(&talk, "slow data", &begin[k]));
	while (smtp_server_sessions(talk.server) > 0 &&
	    task_now() - started < 4000) {
		io_puts(talk.io, "a\r\n");
		(void)io_flush(talk.io, task_deadline(1000));
		task_sleep(5);
	}
	CU_ASSERT(smtp_server_sessions(talk.server) == 0);
	CU_ASSERT(talk.message_count == 0);
	talk_end(&talk);
}

static void
slow_client(void)
{
	talk_run(slow_client_run);
}

static void
early_talkers_run(void)
{
	static const struct {
		const char *name, *options, *expect;
	} cases[] = {
		{ "refused", "", "554 EOF" },
		{ "refused in the delay", "greet_delay = 100ms", "554 EOF" },
		{ "logged", "early_talker = log", "220 250" },
		{ "let be", "early_talker = off", "220 250" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct talk talk;

		talk_begin(&talk, "", cases[i].options);
		/* The session's task first runs when this one waits. */
		talk_connect(&talk, STRANGER);
		CU_ASSERT(talk_step(&talk, cases[i].name,
		    &(struct talk_step){ "EHLO x\r\n", cases[i].expect }));
		talk_end(&talk);
	}
}

static void
early_talkers(void)
{
	talk_run(early_talkers_run);
}

static void
session_limits_run(void)
{
	struct io *first;
	struct talk talk;

	talk_begin(&talk, "", "max_sessions_per_client = 1\n"
	    "max_sessions_per_network = 2\nmax_sessions = 4");
	talk_connect(&talk, STRANGER);
	CU_ASSERT(talk_step(&talk, "first", &(struct talk_step){ NULL,
	    "220" }));
	first = talk.io;
	talk.io = NULL;
	talk_connect(&talk, STRANGER);
	CU_ASSERT(talk_step(&talk, "same client", &(struct talk_step){ NULL,
	    "421 EOF" }));
	talk_connect(&talk, "192.0.2.2");
	CU_ASSERT(talk_step(&talk, "neighbour", &(struct talk_step){ NULL,
	    "220" }));
	talk_connect(&talk, FRIEND);
	CU_ASSERT(talk_step(&talk, "friend", &(struct talk_step){ NULL,
	    "220" }));
	io_free(&first);
	talk_end(&talk);
}

static void
session_limits(void)
{
	talk_run(session_limits_run);
}

SUITE(smtp_conduct,
	{ "content", content },
	{ "missing fields", missing_fields },
	{ "too large", too_large },
	{ "hanging up", hang_up },
	{ "the next hop's answer", next_hop },
	{ "long replies", long_replies },
	{ "draining", drain },
	{ "draining cuts off", drain_cuts },
	{ "slow clients", slow_client },
	{ "early talkers", early_talkers },
	{ "limits of sessions", session_limits })
