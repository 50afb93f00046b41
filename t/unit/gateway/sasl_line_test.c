/* Lines of Dovecot's auth process. */
#include "gateway/sasl_line.h"

#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "gateway/smtp_command.h"
#include "t/unit/unit.h"

static void
lines(void)
{
	static const struct {
		const char *name, *line;
		int rc;
		enum sasl_verb verb;
		uint32_t id;
		/* mechanism, challenge, or user */
		const char *text;
		bool temporary;
	} cases[] = {
		{ "version", "VERSION\t1\t2\n", 0, SASL_LINE_VERSION, 0, NULL,
		    false },
		{ "no version", "VERSION\tx\n", -1, SASL_LINE_VERSION, 0, NULL,
		    false },
		{ "mechanism", "MECH\tscram-sha-256\tmutual-auth\n", 0,
		    SASL_LINE_MECH, 0, "SCRAM-SHA-256", false },
		{ "private", "MECH\tX\tprivate\n", 0, SASL_LINE_MECH, 0, NULL,
		    false },
		{ "bad mechanism", "MECH\tA\r\n", -1, SASL_LINE_MECH, 0, NULL,
		    false },
		{ "done", "DONE\n", 0, SASL_LINE_DONE, 0, NULL, false },
		{ "unknown", "COOKIE\tabc\n", 0, SASL_LINE_OTHER, 0, NULL,
		    false },
		{ "empty", "", 0, SASL_LINE_OTHER, 0, NULL, false },
		{ "ok", "OK\t7\tuser=alice\tx=y\n", 0, SASL_LINE_OK, 7,
		    "alice", false },
		{ "ok without user", "OK\t7\n", 0, SASL_LINE_OK, 7, NULL,
		    false },
		{ "escaped user", "OK\t7\tuser=a\001nb\n", 0, SASL_LINE_OK, 7,
		    NULL, false },
		{ "fail", "FAIL\t8\tuser=bob\n", 0, SASL_LINE_FAIL, 8, "bob",
		    false },
		{ "temporary", "FAIL\t8\tuser=bob\ttemp\n", 0, SASL_LINE_FAIL,
		    8, "bob", true },
		{ "temporary by code", "FAIL\t8\tcode=temp_fail\n", 0,
		    SASL_LINE_FAIL, 8, NULL, true },
		{ "no number", "OK\tuser=alice\n", -1, SASL_LINE_OK, 0, NULL,
		    false },
		{ "huge number", "OK\t4294967296\n", -1, SASL_LINE_OK, 0,
		    NULL, false },
		{ "challenge", "CONT\t9\tVXNlcm5hbWU6\n", 0, SASL_LINE_CONT, 9,
		    "VXNlcm5hbWU6", false },
		{ "empty challenge", "CONT\t9\t\n", 0, SASL_LINE_CONT, 9, "",
		    false },
		{ "not base64", "CONT\t9\ta\rb=\n", -1, SASL_LINE_CONT, 9,
		    NULL, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct sasl_line line;
		const char *why = NULL, *text;
		int rc = sasl_line_parse(arena, cases[i].line,
		    strlen(cases[i].line), &line, &why);

		CASE_ASSERT(cases[i].name, rc == cases[i].rc);
		CASE_ASSERT(cases[i].name, line.verb == cases[i].verb);
		CASE_ASSERT(cases[i].name, rc == 0 || why != NULL);
		text = line.mechanism != NULL ? line.mechanism :
		    line.challenge != NULL ? line.challenge : line.user;
		if (rc == 0) {
			CASE_ASSERT(cases[i].name, line.id == cases[i].id &&
			    line.temporary == cases[i].temporary);
			CASE_ASSERT(cases[i].name, cases[i].text == NULL ?
			    text == NULL : text != NULL &&
			    strcmp(text, cases[i].text) == 0);
		}
		arena_free(&arena);
	}
}

static void
auth_commands(void)
{
	static const struct {
		const char *name, *argument;
		int code;
		const char *mechanism, *initial;
	} cases[] = {
		{ "no mechanism", "", 501, NULL, NULL },
		{ "mechanism alone", "login", 0, "LOGIN", NULL },
		{ "a response", "PLAIN AGEAYg==", 0, "PLAIN", "AGEAYg==" },
		{ "an empty response", "EXTERNAL =", 0, "EXTERNAL", "" },
		{ "not base64", "PLAIN AGEAYg=", 501, NULL, NULL },
		{ "padding inside", "PLAIN AG==AYg=", 501, NULL, NULL },
		{ "two responses", "PLAIN AGEA YWJj", 501, NULL, NULL },
		{ "no name", "PL;AIN", 504, NULL, NULL },
		{ "a long name", "ABCDEFGHIJKLMNOPQRSTU", 504, NULL, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct smtp_auth auth;
		const struct smtp_error *error = smtp_parse_auth(
		    (struct smtp_span){ cases[i].argument,
		    strlen(cases[i].argument) }, &auth);

		CASE_ASSERT(cases[i].name, (error != NULL ? error->code : 0) ==
		    cases[i].code);
		if (error != NULL)
			continue;
		CASE_ASSERT(cases[i].name, strcmp(auth.mechanism,
		    cases[i].mechanism) == 0);
		CASE_ASSERT(cases[i].name, (auth.initial.data == NULL) ==
		    (cases[i].initial == NULL));
		CASE_ASSERT(cases[i].name, cases[i].initial == NULL ||
		    (auth.initial.len == strlen(cases[i].initial) &&
		    strncmp(auth.initial.data, cases[i].initial,
		    auth.initial.len) == 0));
	}
}

SUITE(sasl_line,
    { "lines", lines },
    { "AUTH commands", auth_commands })
