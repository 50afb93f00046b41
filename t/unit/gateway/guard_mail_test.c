/* Mail about what the outbound guard did. */
#include "gateway/guard_mail.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "t/unit/unit.h"

#define END "\t7\t0\nguard\n"

static const struct {
	const char *name, *claim;
	const char *key;		/* NULL: it is none */
	int count;
	const char *holds[3];
} cases[] = {
	{ "held", "!guard\t60000" END "1\talice\thold\tmessages\t130\t60\tNG\n",
	    "!guard 60000 7", 1, {
	    "\r\nSubject: Outbound guard: alice has its mail held\r\n",
	    "alice has its mail held:\r\n    130 messages in an hour, above 60 "
	    "is unusual; from country NG.\r\n" } },
	{ "two", "!guard\t60000" END
	    "1\talice\tslow\tbounces\t31\t30\t\n"
	    "1\tjoe@x.test\tsuspend\tcountries\t9\t1\tUS\n",
	    "!guard 60000 7", 2, {
	    "\r\nSubject: Outbound guard: 2 accounts send unusually\r\n",
	    "alice is slowed down:\r\n    31 bounces in an hour, above 30 is "
	    "unusual.\r\njoe@x.test is suspended:\r\n    9 countries in an "
	    "hour, above 1 is unusual; from country US.\r\n",
	    "To: <p@x.test>,\r\n <q@x.test>\r\n" } },
	{ "worse and worse", "!guard\t60000" END
	    "1\tjoe\thold\tbounces\t61\t30\t\n"
	    "1\talice\tsuspend\tmessages\t5\t1\t\n"
	    "1\talice\tslow\tmessages\t2\t1\t\n"
	    "1\tjoe\thold\tmessages\t4\t1\t\n",
	    "!guard 60000 7", 2, {
	    ".\r\n\r\nalice is suspended:\r\n    5 messages in an hour, above "
	    "1 is unusual.\r\njoe has its mail held:\r\n    4 messages in an "
	    "hour, above 1 is unusual.\r\n\r\n" } },
	{ "odd name", "!guard\t60000" END
	    "1\ta\r\xc3\xa4<b>\thold\tmessages\t3\t1\t\n",
	    "!guard 60000 7", 1, { "\r\na?\?\?<b> has its mail held:" } },
	{ "no sense", "!guard\t60000" END "1\talice\tbite\tmessages\t3\t1\t\n"
	    "1\talice\thold\tcats\t3\t1\t\n1\talice\thold\n\n",
	    "!guard 60000 7", 0, { NULL } },
	{ "no rows", "!guard\t60000" END, "!guard 60000 7", 0, { NULL } },
	{ "a report", "own.test\t60000" END "1\talice", NULL, 0, { NULL } },
	{ "a name like it", "!guards\t60000" END, NULL, 0, { NULL } },
	{ "no id", "!guard\t60000\nguard\n", NULL, 0, { NULL } },
	{ "no head", "!guard\t60000\t7\t0\n", NULL, 0, { NULL } },
	{ "nothing", "", NULL, 0, { NULL } },
};

static void
prints(void)
{
	static const char *const to[] = { "p@x.test", "q@x.test", NULL };
	const struct guard_mail mail = { "mx.test", to, "4B58", 1795000000000 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		char *text = arena_strdup(arena, cases[i].claim), *rows = NULL;
		const char *key = guard_mail_claim(arena, text, &rows);
		struct buf out = BUF_INIT;

		CASE_ASSERT(cases[i].name, (key == NULL) ==
		    (cases[i].key == NULL));
		if (key != NULL) {
			CASE_ASSERT(cases[i].name, strcmp(key,
			    cases[i].key) == 0);
			CASE_ASSERT(cases[i].name, guard_mail_print(&mail,
			    rows, &out) == cases[i].count);
			CASE_ASSERT(cases[i].name, (out.len > 0) ==
			    (cases[i].count > 0));
		}
		for (int n = 0; n < 3 && cases[i].holds[n] != NULL; n++)
			CASE_ASSERT(cases[i].name, out.data != NULL &&
			    strstr(out.data, cases[i].holds[n]) != NULL);
		buf_release(&out);
		arena_free(&arena);
	}
}

SUITE(guard_mail,
    { "prints", prints })
