/* Replies of a next hop: what is taken, what is refused, what is shown. */
#include "policy/smtp_reply.h"

#include <stdio.h>
#include <string.h>

#include "t/unit/unit.h"

static const struct {
	const char *name, *lines[4];
	enum reply_state want;
	int code;
	const char *enhanced, *text;
} cases[] = {
	{ "plain", { "250 Ok\r\n" }, REPLY_DONE, 250, "2.0.0", "250 Ok" },
	{ "code only", { "250\r\n" }, REPLY_DONE, 250, "2.0.0", "250" },
	{ "code and blank", { "354 \r\n" }, REPLY_DONE, 354, "2.0.0", "354" },
	{ "bare LF", { "250 Ok\n" }, REPLY_DONE, 250, "2.0.0", "250 Ok" },
	{ "enhanced", { "550 5.1.1 no such user\r\n" }, REPLY_DONE, 550,
	    "5.1.1", "550 5.1.1 no such user" },
	{ "enhanced of another class", { "550 2.1.5 Ok\r\n" }, REPLY_DONE, 550,
	    "5.0.0", "550 2.1.5 Ok" },
	{ "an address is no enhanced code", { "450 4.2.0.1 later\r\n" },
	    REPLY_DONE, 450, "4.0.0", "450 4.2.0.1 later" },
	{ "several lines", { "550-5.7.1 one\r\n", "550 5.7.1 two\r\n" },
	    REPLY_DONE, 550, "5.7.1", "550 5.7.1 one two" },
	{ "no end yet", { "250-one\r\n", "250-two\r\n" }, REPLY_MORE, 250,
	    "2.0.0", "250 one two" },
	{ "differing codes", { "250-one\r\n", "550 two\r\n" }, REPLY_BAD, 0,
	    NULL, NULL },
	{ "no code", { "hello\r\n" }, REPLY_BAD, 0, NULL, NULL },
	{ "two digits", { "25 x\r\n" }, REPLY_BAD, 0, NULL, NULL },
	{ "four digits", { "2500 x\r\n" }, REPLY_BAD, 0, NULL, NULL },
	{ "class 1", { "150 x\r\n" }, REPLY_BAD, 0, NULL, NULL },
	{ "class 6", { "650 x\r\n" }, REPLY_BAD, 0, NULL, NULL },
	{ "empty", { "\r\n" }, REPLY_BAD, 0, NULL, NULL },
	{ "control characters", { "550 a\rb\x1b[2Jc\x7f\r\n" }, REPLY_DONE,
	    550, "5.0.0", "550 a?b?[2Jc?" },
	{ "UTF-8 stays", { "550 Postf\xc3\xa4""cher\r\n" }, REPLY_DONE, 550,
	    "5.0.0", "550 Postf\xc3\xa4""cher" },
	{ "bidi override", { "550 a\xe2\x80\xae""b\r\n" }, REPLY_DONE, 550,
	    "5.0.0", "550 a???b" },
	{ "C1 control", { "550 a\xc2\x85""b\r\n" }, REPLY_DONE, 550, "5.0.0",
	    "550 a??b" },
	{ "overlong UTF-8", { "550 \xc0\x8a\xe0\x80\x8a\r\n" }, REPLY_DONE,
	    550, "5.0.0", "550 ?????" },
	{ "cut UTF-8", { "550 \xe2\x82\r\n" }, REPLY_DONE, 550, "5.0.0",
	    "550 ??" },
};

static void
table(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum reply_state state = REPLY_BAD;
		struct reply reply;
		const char *why = NULL;

		reply_init(&reply);
		for (size_t j = 0; cases[i].lines[j] != NULL; j++)
			state = reply_line(&reply, cases[i].lines[j],
			    strlen(cases[i].lines[j]), &why);
		CASE_ASSERT(cases[i].name, state == cases[i].want);
		CASE_ASSERT(cases[i].name,
		    (state == REPLY_BAD) == (why != NULL));
		if (state == REPLY_BAD || cases[i].want == REPLY_BAD)
			continue;
		CASE_ASSERT(cases[i].name, reply.code == cases[i].code);
		CASE_ASSERT(cases[i].name,
		    strcmp(reply.enhanced, cases[i].enhanced) == 0);
		CASE_ASSERT(cases[i].name,
		    strcmp(reply.text, cases[i].text) == 0);
	}
}

static void
limits(void)
{
	static char line[REPLY_LINE_MAX + 2];
	enum reply_state state = REPLY_MORE;
	struct reply reply;
	const char *why;
	int lines;

	memset(line, 'x', sizeof(line));
	memcpy(line, "250-", 4);
	reply_init(&reply);
	CU_ASSERT(reply_line(&reply, line, REPLY_LINE_MAX + 1, &why) ==
	    REPLY_BAD);
	reply_init(&reply);
	for (lines = 0; lines < 1000 && state == REPLY_MORE; lines++)
		state = reply_line(&reply, line, REPLY_LINE_MAX, &why);
	CU_ASSERT(state == REPLY_BAD);
	CU_ASSERT(lines == REPLY_LINES_MAX + 1);
	CU_ASSERT(reply.text_len <= REPLY_TEXT_MAX);
	CU_ASSERT(strlen(reply.text) == reply.text_len);
}

static void
keywords(void)
{
	size_t len = 10;
	const char *text = reply_line_text("250-SIZE\r\n", &len);

	CU_ASSERT(len == 4 && memcmp(text, "SIZE", 4) == 0);
	len = 5;
	reply_line_text("250\r\n", &len);
	CU_ASSERT(len == 0);
}

SUITE(smtp_reply, { "table", table }, { "limits", limits },
    { "keywords", keywords })
