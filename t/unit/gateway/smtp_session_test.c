/* Whole sessions: order of commands, pipelining, what must not survive. */
#include "gateway/smtp_session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "t/unit/gateway/smtp_talk.h"
#include "t/unit/unit.h"

#define STRANGER "192.0.2.1"
#define FRIEND "127.0.0.1"
#define STEPS_MAX 14
#define LINE_64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789" \
	"abcde "
#define LINE_512 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64 LINE_64

#define HELLO { NULL, "220" }, { "EHLO h.example\r\n", "250" }
#define MAIL { "MAIL FROM:<s@other.example>\r\n", "250" }
#define RCPT { "RCPT TO:<r@ours.example>\r\n", "250" }
#define DATA { "DATA\r\n", "354" }
#define TEXT "Subject: x\r\n\r\nbody\r\n"
#define QUIT { "QUIT\r\n", "221 EOF" }

struct dialogue {
	const char *name;
	const char *options;
	struct talk_step steps[STEPS_MAX];
	size_t messages;		/* taken in the end */
	const char *client;		/* NULL: STRANGER */
};

static const struct dialogue *dialogues;
static size_t dialogue_count;

static void
hold_dialogues(void)
{
	for (size_t i = 0; i < dialogue_count; i++) {
		const struct dialogue *d = &dialogues[i];
		struct talk talk;

		talk_begin(&talk, "message_size_limit = 100K",
		    d->options != NULL ? d->options : "");
		talk_connect(&talk, d->client != NULL ? d->client : STRANGER);
		for (size_t k = 0; k < STEPS_MAX && (d->steps[k].send != NULL ||
		    d->steps[k].expect != NULL); k++) {
			bool good = talk_step(&talk, d->name, &d->steps[k]);

			CU_ASSERT(good);
			if (!good)
				break;
		}
		CASE_ASSERT(d->name, talk.message_count == d->messages);
		talk_end(&talk);
	}
}

static void
hold(const struct dialogue *list, size_t count)
{
	log_open(&(struct log_settings){ .program = "test", .role = "smtp",
	    .target = LOG_TO_STDERR, .level = LOG_LEVEL_ERROR });
	dialogues = list;
	dialogue_count = count;
	talk_run(hold_dialogues);
}
#define HOLD(list) hold(list, sizeof(list) / sizeof *(list))

static void
order(void)
{
	static const struct dialogue list[] = {
		{ "a message", NULL, { HELLO, MAIL, RCPT, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 1, NULL },
		{ "two messages", NULL, { HELLO, MAIL, RCPT, DATA,
		    { TEXT ".\r\n", "250" }, MAIL, RCPT, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 2, NULL },
		{ "HELO", NULL, { { NULL, "220" },
		    { "HELO h\r\n", "250" }, MAIL, RCPT, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 1, NULL },
		{ "an empty message", NULL, { HELLO, MAIL, RCPT, DATA,
		    { ".\r\n", "250" }, QUIT }, 1, NULL },
		{ "MAIL before EHLO", NULL, { { NULL, "220" },
		    { "MAIL FROM:<>\r\n", "503" }, QUIT }, 0, NULL },
		{ "RCPT before MAIL", NULL, { HELLO,
		    { "RCPT TO:<r@ours.example>\r\n", "503" }, QUIT }, 0,
		    NULL },
		{ "DATA before RCPT", NULL, { HELLO, MAIL,
		    { "DATA\r\n", "503" }, QUIT }, 0, NULL },
		{ "DATA with argument", NULL, { HELLO, MAIL, RCPT,
		    { "DATA x\r\n", "501" }, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 1, NULL },
		{ "MAIL twice", NULL, { HELLO, MAIL,
		    { "MAIL FROM:<>\r\n", "503" }, RCPT, QUIT }, 0, NULL },
		{ "the small ones", NULL, { HELLO, { "NOOP x\r\n", "250" },
		    { "VRFY a\r\n", "252" }, { "VRFY\r\n", "501" },
		    { "HELP\r\n", "214" }, { "RSET\r\n", "250" },
		    { "RSET x\r\n", "501" }, { "EXPN a\r\n", "500" },
		    { "\r\n", "500" }, { "STARTTLS\r\n", "502" },
		    { "QUIT\r\n", "221 EOF" } }, 0, NULL },
		{ "bad HELO", NULL, { { NULL, "220" },
		    { "EHLO\r\n", "501" }, { "EHLO a b\r\n", "501" },
		    { "HELO a\xC2\x85\r\n", "501" }, { "HELO a\r\n", "250" },
		    QUIT }, 0, NULL },
		{ "a browser", NULL, { { NULL, "220" },
		    { "GET / HTTP/1.0\r\nHost: x\r\n\r\n", "421 EOF" } }, 0,
		    NULL },
		{ "bare LF in a command", NULL, { { NULL, "220" },
		    { "EHLO x\n", "500" }, { "EHLO x\r\n", "250" }, QUIT }, 0,
		    NULL },
		{ "bare LF, normalize", "bare_newline = normalize",
		    { { NULL, "220" }, { "EHLO x\n", "250" },
		    { "QUIT\n", "221 EOF" } }, 0, NULL },
	};

	HOLD(list);
}

static void
pipelining(void)
{
	static const struct dialogue list[] = {
		{ "an envelope", NULL, { HELLO,
		    { "MAIL FROM:<a@b.org>\r\nRCPT TO:<r@ours.example>\r\n"
		    "DATA\r\n", "250 250 354" }, { TEXT ".\r\n", "250" },
		    QUIT }, 1, NULL },
		{ "QUIT behind the dot", NULL, { HELLO, MAIL, RCPT, DATA,
		    { TEXT ".\r\nQUIT\r\n", "250 221 EOF" } }, 1, NULL },
		{ "the next message behind the dot", NULL, { HELLO, MAIL, RCPT,
		    DATA, { TEXT ".\r\nMAIL FROM:<>\r\n"
		    "RCPT TO:<q@ours.example>\r\nDATA\r\n",
		    "250 250 250 354" }, { TEXT ".\r\n", "250" }, QUIT }, 2,
		    NULL },
		{ "a body before 354", NULL, { HELLO, MAIL, RCPT,
		    { "DATA\r\nSubject: x\r\n\r\nMAIL FROM:<>\r\n.\r\n",
		    "554 EOF" } }, 0, NULL },
		{ "no recipient, DATA and body", NULL, { HELLO, MAIL,
		    { "RCPT TO:<r@other.example>\r\nDATA\r\n", "550 503" },
		    { "RSET\r\n", "250" }, QUIT }, 0, NULL },
	};

	HOLD(list);
}

static void
must_not_survive(void)
{
	static const struct dialogue list[] = {
		{ "bad BDAT, then DATA", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT x\r\n", "501" }, { "DATA\r\n", "503" }, QUIT }, 0,
		    NULL },
		{ "refused at the end, then RCPT and DATA", NULL, { HELLO,
		    MAIL, RCPT, DATA, { "a\nb\r\n.\r\n", "550" },
		    { "RCPT TO:<r@ours.example>\r\n", "503" },
		    { "DATA\r\n", "503" }, QUIT }, 0, NULL },
		{ "accepted, then RCPT and DATA", NULL, { HELLO,
		    MAIL, RCPT, DATA, { TEXT ".\r\n", "250" },
		    { "RCPT TO:<r@ours.example>\r\n", "503" },
		    { "DATA\r\n", "503" }, QUIT }, 1, NULL },
		{ "VRFY of UTF-8", NULL, { HELLO, MAIL, RCPT,
		    { "VRFY \xC3\xA9\r\n", "252" }, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 1, NULL },
		{ "EHLO between", NULL, { HELLO, MAIL, RCPT,
		    { "EHLO h\r\n", "250" }, { "DATA\r\n", "503" }, QUIT }, 0,
		    NULL },
		{ "HELO between", NULL, { HELLO, MAIL,
		    { "HELO h\r\n", "250" },
		    { "RCPT TO:<r@ours.example>\r\n", "503" }, QUIT }, 0,
		    NULL },
		{ "a bad EHLO between", NULL, { HELLO, MAIL, RCPT,
		    { "EHLO\r\n", "501" }, DATA, { TEXT ".\r\n", "250" },
		    QUIT }, 1, NULL },
		{ "RSET between", NULL, { HELLO, MAIL, RCPT,
		    { "RSET\r\n", "250" }, { "DATA\r\n", "503" }, QUIT }, 0,
		    NULL },
		{ "RSET between chunks", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 4\r\nabcd", "250" }, { "RSET\r\n", "250" },
		    { "BDAT 3 LAST\r\nx\r\n", "503" },
		    { "DATA\r\n", "503" }, QUIT }, 0, NULL },
		{ "RSET, a new message in full", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 4\r\nabcd", "250" }, { "RSET\r\n", "250" }, MAIL,
		    RCPT, DATA, { TEXT ".\r\n", "250" }, QUIT }, 1, NULL },
		{ "MAIL refused, the rest pipelined", NULL, { HELLO,
		    { "MAIL FROM:<a>\r\nRCPT TO:<r@ours.example>\r\n"
		    "DATA\r\n", "553 503 503" }, QUIT }, 0, NULL },
		{ "SMTPUTF8 of the last message", NULL, { HELLO,
		    { "MAIL FROM:<> SMTPUTF8\r\n", "250" },
		    { "RCPT TO:<\xC3\xA9@ours.example>\r\n", "250" },
		    { "RSET\r\n", "250" }, MAIL,
		    { "RCPT TO:<\xC3\xA9@ours.example>\r\n", "553" }, QUIT },
		    0, NULL },
	};

	HOLD(list);
}

static void
chunking(void)
{
	static const struct dialogue list[] = {
		{ "one chunk", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 20 LAST\r\nSubject: x\r\n\r\nbody\r\n", "250" },
		    QUIT }, 1, NULL },
		{ "commands within", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 35\r\nMAIL FROM:<a>\r\nRCPT TO:<b>\r\n.\r\n\r\n\r\n"
		    , "250" }, { "BDAT 0 LAST\r\n", "250" }, QUIT }, 1, NULL },
		{ "all pipelined", NULL, { HELLO,
		    { "MAIL FROM:<>\r\nRCPT TO:<r@ours.example>\r\nBDAT 6\r\n"
		    "A: b\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n",
		    "250 250 250 250 221 EOF" } }, 1, NULL },
		{ "DATA behind BDAT", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 2\r\nab", "250" }, { "DATA\r\n", "503" },
		    { "BDAT 2 LAST\r\n\r\n", "250" }, QUIT }, 1, NULL },
		{ "RCPT and MAIL behind BDAT", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 2\r\nab", "250" },
		    { "RCPT TO:<q@ours.example>\r\n", "503" },
		    { "MAIL FROM:<>\r\n", "503" },
		    { "BDAT 2 LAST\r\n\r\n", "250" }, QUIT }, 1, NULL },
		{ "without a recipient", NULL, { HELLO, MAIL,
		    { "BDAT 6\r\nQUIT\r\nNOOP\r\n", "503 250" }, QUIT }, 0,
		    NULL },
		{ "negative", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT -1\r\n", "501" }, { "BDAT +1\r\n", "501" },
		    { "NOOP\r\n", "250" }, QUIT }, 0, NULL },
		{ "absurd", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 9000000000000000000\r\n", "552 EOF" } }, 0, NULL },
		{ "20 digits", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 99999999999999999999\r\n", "501" }, QUIT }, 0,
		    NULL },
		{ "a bare LF", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 6 LAST\r\na\nb\r\n\n", "550" },
		    { "RCPT TO:<r@ours.example>\r\n", "503" }, QUIT }, 0,
		    NULL },
		{ "no line end", NULL, { HELLO, MAIL, RCPT,
		    { "BDAT 3 LAST\r\nabc", "250" }, QUIT }, 1, NULL },
	};

	HOLD(list);
}

static void
limits(void)
{
	static const struct dialogue list[] = {
		{ "SIZE", NULL, { HELLO,
		    { "MAIL FROM:<> SIZE=102401\r\n", "552" },
		    { "MAIL FROM:<> SIZE=102400\r\n", "250" }, QUIT }, 0,
		    NULL },
		{ "errors", "max_errors = 3", { HELLO,
		    { "x\r\nx\r\nx\r\n", "500 500 500" },
		    { "x\r\n", "500 421 EOF" } }, 0, NULL },
		{ "commands", "max_commands = 10", { { NULL, "220" },
		    { "NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n",
		    "250 250 250 250 250" },
		    { "NOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\nNOOP\r\n",
		    "250 250 250 250 250" }, { "RSET\r\n", "421 EOF" } }, 0,
		    NULL },
		{ "messages", "max_messages = 1", { HELLO, MAIL,
		    { "RSET\r\n", "250" },
		    { "MAIL FROM:<>\r\n", "421 EOF" } }, 0, NULL },
		{ "a long line", "line_limit = 512", { HELLO,
		    { "NOOP " LINE_512 "\r\n", "500" },
		    { "NOOP\r\n", "250" }, QUIT }, 0, NULL },
		{ "sessions", "max_sessions_per_client = 1", { HELLO, QUIT },
		    0, NULL },
		{ "TLS required, no TLS", NULL, { HELLO,
		    { "STARTTLS\r\n", "502" }, QUIT }, 0, NULL },
		{ "a loop", "max_received = 2", { HELLO, MAIL, RCPT, DATA,
		    { "Received: a\r\nReceived: b\r\nReceived: c\r\n\r\n.\r\n",
		    "554" }, QUIT }, 0, NULL },
		{ "no loop yet", "max_received = 2", { HELLO, MAIL, RCPT, DATA,
		    { "Received: a\r\nReceived: b\r\n\r\n.\r\n", "250" },
		    QUIT }, 1, NULL },
		{ "NUL by BDAT is none of a string's", NULL, { HELLO, MAIL,
		    RCPT, { "BDAT 3 LAST\r\na\r\n", "250" }, QUIT }, 1, NULL },
	};

	HOLD(list);
}

static void
relaying(void)
{
	static const struct dialogue list[] = {
		{ "a stranger", NULL, { HELLO, MAIL,
		    { "RCPT TO:<a@other.example>\r\n", "550" },
		    { "RCPT TO:<a%x@ours.example>\r\n", "550" },
		    { "RCPT TO:<@ours.example:a@other.example>\r\n", "550" },
		    { "RCPT TO:<postmaster>\r\n", "250" }, QUIT }, 0, NULL },
		{ "a friend", NULL, { HELLO, MAIL,
		    { "RCPT TO:<a@other.example>\r\n", "250" }, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 1, FRIEND },
		{ "who exists", "recipients = { \"r@ours.example\" }", { HELLO,
		    MAIL, RCPT,
		    { "RCPT TO:<nobody@ours.example>\r\n", "550" }, QUIT }, 0,
		    NULL },
		{ "the same twice", NULL, { HELLO, MAIL, RCPT, RCPT, DATA,
		    { TEXT ".\r\n", "250" }, QUIT }, 1, NULL },
	};

	HOLD(list);
}

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

/* Idle sessions end with 421; one in DATA is let finish. */
static void
drain_server(void *argument)
{
	struct talk *talk = argument;

	smtp_server_drain(talk->server, task_deadline(5000));
}

static void
drain_run(void)
{
	static const struct talk_step begin[] = { HELLO, MAIL, RCPT, DATA };
	struct talk busy, *idle = &busy;
	struct task *task;
	struct io *busy_io;

	talk_begin(&busy, "", "");
	talk_connect(&busy, STRANGER);
	for (size_t k = 0; k < 5; k++)
		CU_ASSERT(talk_step(&busy, "busy", &begin[k]));
	busy_io = busy.io;
	busy.io = NULL;
	talk_connect(idle, FRIEND);
	CU_ASSERT(talk_step(idle, "idle", &begin[0]));
	CU_ASSERT(smtp_server_sessions(busy.server) == 2);
	task = task_start("drain", drain_server, &busy);
	CU_ASSERT(talk_step(idle, "idle",
	    &(struct talk_step){ NULL, "421 EOF" }));
	talk_hang_up(idle);
	busy.io = busy_io;
	CU_ASSERT(talk_step(&busy, "busy",
	    &(struct talk_step){ TEXT ".\r\n", "250 421 EOF" }));
	CU_ASSERT(busy.message_count == 1);
	CU_ASSERT(task_join(&task, DEADLINE_NEVER) == 0);
	talk_end(&busy);
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

SUITE(smtp_session,
	{ "order of commands", order },
	{ "pipelining", pipelining },
	{ "what must not survive", must_not_survive },
	{ "chunking", chunking },
	{ "limits", limits },
	{ "relaying", relaying },
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
