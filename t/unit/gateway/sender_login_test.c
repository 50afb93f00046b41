/* Who may send as whom; and what forgers write instead. */
#include "gateway/sender_login.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/table.h"
#include "filters/mail.h"
#include "t/unit/unit.h"

static const char owners[] =
    "ann@x.test = ann\n"
    "sales@x.test = bob, ann carol@x.test\n"
    "@y.test = ann\n"
    "bob@y.test = bob\n"
    "@xn--bcher-kva.test = ann\n";

static struct table *
table_of(const char *type, const char *text)
{
	struct buf errors = BUF_INIT;
	struct table *table = table_parse(type, "test", text, strlen(text),
	    &errors);

	CU_ASSERT_PTR_NOT_NULL_FATAL(table);
	buf_release(&errors);
	return table;
}

static void
senders(void)
{
	static const struct {
		const char *name, *address, *user;
		enum sender_login want;
	} cases[] = {
		{ "own", "ann@x.test", "ann", SENDER_LOGIN_OK },
		{ "other capitals", "Ann@X.Test", "ANN", SENDER_LOGIN_OK },
		{ "an extension", "ann+shop@x.test", "ann", SENDER_LOGIN_OK },
		{ "first of several", "sales@x.test", "bob", SENDER_LOGIN_OK },
		{ "second", "sales@x.test", "ann", SENDER_LOGIN_OK },
		{ "last, an address", "sales@x.test", "carol@x.test",
		    SENDER_LOGIN_OK },
		{ "part of a login", "sales@x.test", "carol",
		    SENDER_LOGIN_DENIED },
		{ "no login", "sales@x.test", "", SENDER_LOGIN_DENIED },
		{ "separators as login", "sales@x.test", ", ",
		    SENDER_LOGIN_DENIED },
		{ "a whole domain", "any@y.test", "ann", SENDER_LOGIN_OK },
		{ "the address before its domain", "bob@y.test", "ann",
		    SENDER_LOGIN_DENIED },
		{ "below the domain", "any@a.y.test", "ann",
		    SENDER_LOGIN_DENIED },
		{ "U-labels", "a@b\303\274cher.test", "ann",
		    SENDER_LOGIN_OK },
		{ "another's", "ann@x.test", "bob", SENDER_LOGIN_DENIED },
		{ "another's extension", "ann+a@x.test", "bob",
		    SENDER_LOGIN_DENIED },
		{ "nobody's", "z@z.test", "ann", SENDER_LOGIN_DENIED },
		{ "a literal", "ann@[192.0.2.1]", "ann",
		    SENDER_LOGIN_DENIED },
		{ "nobody's, no user", "z@z.test", NULL, SENDER_LOGIN_OK },
		{ "no user", "ann@x.test", NULL, SENDER_LOGIN_DENIED },
		{ "no user, quotes", "\"ann\"@x.test", NULL,
		    SENDER_LOGIN_DENIED },
		{ "no user, quoted pair", "\"a\\nn\"@x.test", NULL,
		    SENDER_LOGIN_DENIED },
		{ "no user, capitals", "ANN@X.TEST", NULL,
		    SENDER_LOGIN_DENIED },
		{ "no user, U-labels", "a@B\303\234CHER.test", NULL,
		    SENDER_LOGIN_DENIED },
		{ "no user, a literal", "ann@[192.0.2.1]", NULL,
		    SENDER_LOGIN_OK },
	};
	struct table *table = table_of("inline", owners);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		const char *why = NULL;

		CASE_ASSERT(cases[i].name, sender_login_check(table, arena,
		    cases[i].address, cases[i].user, &why) == cases[i].want);
		arena_free(&arena);
	}
	table_free(&table);
}

static void
authors(void)
{
	static const struct {
		const char *name, *header;
		enum sender_login want;
		const char *address;	/* at fault */
	} cases[] = {
		{ "own", "From: Ann <ann@x.test>\r\n", SENDER_LOGIN_OK, NULL },
		{ "several of hers", "From: ann@x.test, Sales <sales@x.test>,\r"
		    "\n us: a@y.test;\r\n", SENDER_LOGIN_OK, NULL },
		{ "another's", "From: Bob <bob@y.test>\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "one is another's", "From: ann@x.test, bob@y.test\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "another's in quotes", "From: \"bob\"@y.test\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "hers as a name", "From: \"ann@x.test\" <bob@y.test>\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "hers in front", "From: ann@x.test <bob@y.test>\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "hers as a comment", "From: (ann@x.test) bob@y.test\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "another's as a name", "From: \"bob@y.test\" <ann@x.test>"
		    "\r\n", SENDER_LOGIN_OK, NULL },
		{ "a blank before the colon", "From : bob@y.test\r\n",
		    SENDER_LOGIN_DENIED, "bob@y.test" },
		{ "none", "Subject: x\r\n", SENDER_LOGIN_DENIED, NULL },
		{ "two fields", "From: ann@x.test\r\nFROM: ann@x.test\r\n",
		    SENDER_LOGIN_DENIED, NULL },
		{ "empty", "From:\r\n", SENDER_LOGIN_DENIED, NULL },
		{ "an empty group", "From: us:;\r\n", SENDER_LOGIN_DENIED,
		    NULL },
		{ "broken", "From: <ann@x.test> <bob@y.test>\r\n",
		    SENDER_LOGIN_DENIED, NULL },
	};
	struct table *table = table_of("inline", owners);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		const char *address = NULL, *why = NULL;

		headers_parse(&headers, arena, cases[i].header,
		    strlen(cases[i].header));
		CASE_ASSERT(cases[i].name, sender_login_check_from(table,
		    arena, &headers, "ann", &address, &why) == cases[i].want);
		if (cases[i].want == SENDER_LOGIN_DENIED) {
			CASE_ASSERT(cases[i].name, (address == NULL) ==
			    (cases[i].address == NULL));
			CASE_ASSERT(cases[i].name, address == NULL ?
			    why != NULL : cases[i].address != NULL &&
			    strcmp(address, cases[i].address) == 0);
		}
		arena_free(&arena);
	}
	table_free(&table);
}

/* A pattern that takes too long says nothing about the sender. */
static void
no_answer(void)
{
	struct table *table = table_of("pcre", "/^(a+)+$/ ann\n"
	    "/@x\\.test$/i ann\n");
	struct arena *arena = arena_new(0);
	char address[200];
	const char *why = NULL;

	CU_ASSERT(sender_login_check(table, arena, "b@x.test", "ann", &why) ==
	    SENDER_LOGIN_OK);
	memset(address, 'a', sizeof(address));
	snprintf(address + 60, sizeof(address) - 60, "!@z.test");
	CU_ASSERT(sender_login_check(table, arena, address, "ann", &why) ==
	    SENDER_LOGIN_UNKNOWN);
	CU_ASSERT_PTR_NOT_NULL(why);
	arena_free(&arena);
	table_free(&table);
}

SUITE(sender_login, { "senders", senders }, { "authors", authors },
    { "no answer", no_answer })
