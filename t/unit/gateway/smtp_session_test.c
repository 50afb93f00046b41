/* Whole sessions: order of commands, pipelining, what must not survive. */
#include "t/unit/gateway/smtp_talk.h"
#include "t/unit/unit.h"

#define STEPS_MAX 14

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

SUITE(smtp_session,
	{ "order of commands", order },
	{ "pipelining", pipelining },
	{ "what must not survive", must_not_survive },
	{ "chunking", chunking },
	{ "limits", limits },
	{ "relaying", relaying })
