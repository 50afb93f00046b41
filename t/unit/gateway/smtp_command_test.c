/* Command lines: verbs, paths, parameters, and what must be refused. */
#include "gateway/smtp_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "filters/envelope.h"
#include "t/unit/unit.h"

#define X8(s) s s s s s s s s
#define X64(s) X8(X8(s))
#define LOCAL_64 X64("l")
#define LABEL_60 X8("abcdefg") "abcd"
#define UTF8_E "\xC3\xA9"
#define A7 "+61+61+61+61+61+61+61"
#define A8 A7 "+61"
/* A mailbox of 167 characters, as long as its xtext may be. */
#define AUTH_500 X64("+61") "@" A8 A8 A8 A8 A8 A8 A8 A7 "." A8 A8 A8 A8 A7

/* Each text is parsed from memory of its own, so that a step beyond shows. */
static char *
exact(const char *text, size_t len)
{
	char *copy = malloc(len > 0 ? len : 1);

	memcpy(copy, text, len);
	return copy;
}

static bool
equals(struct smtp_span span, const char *want)
{
	return span.len == strlen(want) &&
	    (span.len == 0 || memcmp(span.data, want, span.len) == 0);
}

static void
verbs(void)
{
	static const struct {
		const char *name, *line;
		enum smtp_verb verb;
		const char *argument;
	} cases[] = {
		{ "upper case", "NOOP\r\n", SMTP_NOOP, "" },
		{ "lower case", "mail from:<>\r\n", SMTP_MAIL, "from:<>" },
		{ "mixed case", "eHlO x\r\n", SMTP_EHLO, "x" },
		{ "blanks around", "HELO  \t x  \r\n", SMTP_HELO, "x" },
		{ "bare LF", "QUIT\n", SMTP_QUIT, "" },
		{ "no line end", "RSET", SMTP_RSET, "" },
		{ "empty", "", SMTP_UNKNOWN, "" },
		{ "empty line", "\r\n", SMTP_UNKNOWN, "" },
		{ "a blank first", " NOOP\r\n", SMTP_UNKNOWN, "NOOP" },
		{ "a longer word", "NOOPS\r\n", SMTP_UNKNOWN, "" },
		{ "a CR inside", "NOOP\rx\r\n", SMTP_UNKNOWN, "" },
		{ "a browser", "GET / HTTP/1.1\r\n", SMTP_FOREIGN,
		    "/ HTTP/1.1" },
		{ "a header", "Host: x\r\n", SMTP_FOREIGN, "x" },
		{ "our own name of it", "FOREIGN\r\n", SMTP_UNKNOWN, "" },
		{ "STARTTLS", "STARTTLS\r\n", SMTP_STARTTLS, "" },
		{ "BDAT", "BDAT 1 LAST\r\n", SMTP_BDAT, "1 LAST" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct smtp_command command;
		size_t len = strlen(cases[i].line);
		char *line = exact(cases[i].line, len);

		smtp_command_parse(line, len, &command);
		CASE_ASSERT(cases[i].name, command.verb == cases[i].verb);
		CASE_ASSERT(cases[i].name, equals(command.argument,
		    cases[i].argument));
		free(line);
	}
}

static void
helo(void)
{
	static const struct { const char *name, *helo; int code; } cases[] = {
		{ "a host", "mx.example.org", 0 },
		{ "a literal", "[192.0.2.1]", 0 },
		{ "an IPv6 literal", "[IPv6:2001:db8::1]", 0 },
		{ "an underscore", "my_pc", 0 },
		{ "nothing", "", 501 },
		{ "two words", "a b", 501 },
		{ "a comment", "a(b", 501 },
		{ "a semicolon", "a;b", 501 },
		{ "a quote", "a\"b", 501 },
		{ "CR inside", "a\rb", 501 },
		{ "LF inside", "a\nb", 501 },
		{ "U+0085", "a\xC2\x85" "b", 501 },
		{ "Latin 1", "a\xE9", 501 },
		{ "255 octets", LOCAL_64 LOCAL_64 LOCAL_64 LABEL_60 "abc", 0 },
		{ "256 octets", LOCAL_64 LOCAL_64 LOCAL_64 LOCAL_64, 501 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		const struct smtp_error *error = smtp_parse_helo(
		    (struct smtp_span){ cases[i].helo,
		    strlen(cases[i].helo) });

		CASE_ASSERT(cases[i].name,
		    (error != NULL ? error->code : 0) == cases[i].code);
	}
}

static const struct smtp_error *
parse_mail(const char *text, size_t len, struct smtp_mail *mail, char **line)
{
	*line = exact(text, len);
	return smtp_parse_mail((struct smtp_span){ *line, len }, mail);
}

static void
senders(void)
{
	static const struct {
		const char *name, *text, *address;
		int code;
	} cases[] = {
		{ "plain", "FROM:<a@example.org>", "a@example.org", 0 },
		{ "lower case", "from:<a@example.org>", "a@example.org", 0 },
		{ "a blank", "FROM: <a@example.org>", "a@example.org", 0 },
		{ "null", "FROM:<>", "", 0 },
		{ "dots", "FROM:<a.b.c@example.org>", "a.b.c@example.org", 0 },
		{ "a route", "FROM:<@x.org,@y.org:a@example.org>",
		    "a@example.org", 0 },
		{ "quoted", "FROM:<\"a b>\\\"\"@example.org>",
		    "\"a b>\\\"\"@example.org", 0 },
		{ "a literal", "FROM:<a@[192.0.2.1]>", "a@[192.0.2.1]", 0 },
		{ "IPv6", "FROM:<a@[IPv6:2001:db8::1]>",
		    "a@[IPv6:2001:db8::1]", 0 },
		{ "one label", "FROM:<a@localhost>", "a@localhost", 0 },
		{ "an underscore", "FROM:<a@my_host.org>", "a@my_host.org",
		    0 },
		{ "shell (CVE-2020-7247)",
		    "FROM:<;for i in 0 1;do :;done;exit 0>", NULL, 553 },
		{ "Exim's (CVE-2019-10149)", "FROM:<${run{x}}@local>",
		    "${run{x}}@local", 0 },
		{ "64 octets", "FROM:<" LOCAL_64 "@b.org>",
		    LOCAL_64 "@b.org", 0 },
		{ "VERP, beyond 64 octets", "FROM:<" LOCAL_64 "-b@b.org>",
		    LOCAL_64 "-b@b.org", 0 },
		{ "local part of 256", "FROM:<" LOCAL_64 LOCAL_64 LOCAL_64
		    LOCAL_64 "@b.org>", NULL, 553 },
		{ "label of 60", "FROM:<a@" LABEL_60 ".org>",
		    "a@" LABEL_60 ".org", 0 },
		{ "label of 64", "FROM:<a@" LOCAL_64 ".org>", NULL, 553 },
		{ "domain of 256", "FROM:<a@" LABEL_60 "." LABEL_60 "."
		    LABEL_60 "." LABEL_60 ".abcdefghijkl>", NULL, 553 },
		{ "no brackets", "FROM:a@example.org", NULL, 501 },
		{ "no end", "FROM:<a@example.org", NULL, 501 },
		{ "no colon", "FROM <a@example.org>", NULL, 501 },
		{ "nothing", "", NULL, 501 },
		{ "text behind", "FROM:<a@example.org>x", NULL, 501 },
		{ "no domain", "FROM:<a>", NULL, 553 },
		{ "postmaster", "FROM:<postmaster>", NULL, 553 },
		{ "empty domain", "FROM:<a@>", NULL, 553 },
		{ "empty local", "FROM:<@example.org>", NULL, 553 },
		{ "a dot first", "FROM:<.a@example.org>", NULL, 553 },
		{ "a dot last", "FROM:<a.@example.org>", NULL, 553 },
		{ "two dots", "FROM:<a..b@example.org>", NULL, 553 },
		{ "a trailing dot", "FROM:<a@example.org.>", NULL, 553 },
		{ "empty label", "FROM:<a@example..org>", NULL, 553 },
		{ "hyphen first", "FROM:<a@-example.org>", NULL, 553 },
		{ "hyphen last", "FROM:<a@example-.org>", NULL, 553 },
		{ "double @", "FROM:<a@b@example.org>", NULL, 553 },
		{ "a blank inside", "FROM:<a b@example.org>", NULL, 553 },
		{ "a list", "FROM:<a@b.org,c@d.org>", NULL, 553 },
		{ "brackets twice", "FROM:<<a@b.org>>", NULL, 501 },
		{ "a comment", "FROM:<a(x)@b.org>", NULL, 553 },
		{ "bad literal", "FROM:<a@[300.0.0.1]>", NULL, 553 },
		{ "open literal", "FROM:<a@[192.0.2.1>", NULL, 553 },
		{ "unended quote", "FROM:<\"a@b.org>", NULL, 501 },
		{ "CR inside", "FROM:<a\r@b.org>", NULL, 501 },
		{ "LF inside", "FROM:<a\n@b.org>", NULL, 501 },
		{ "CR quoted", "FROM:<\"a\\\r\"@b.org>", NULL, 501 },
		{ "DEL", "FROM:<a\x7F@b.org>", NULL, 501 },
		{ "U+0085", "FROM:<a\xC2\x85@b.org> SMTPUTF8", NULL, 501 },
		{ "U+2028", "FROM:<a\xE2\x80\xA8@b.org> SMTPUTF8", NULL, 501 },
		{ "bad UTF-8", "FROM:<a\xC3@b.org> SMTPUTF8", NULL, 501 },
		{ "overlong UTF-8", "FROM:<a\xC0\xAE@b.org> SMTPUTF8", NULL,
		    501 },
		{ "UTF-8", "FROM:<" UTF8_E "@b.org> SMTPUTF8",
		    UTF8_E "@b.org", 0 },
		{ "UTF-8 domain", "FROM:<a@" UTF8_E ".org> SMTPUTF8",
		    "a@" UTF8_E ".org", 0 },
		{ "UTF-8 without SMTPUTF8", "FROM:<" UTF8_E "@b.org>", NULL,
		    553 },
		{ "domain without it", "FROM:<a@" UTF8_E ".org>", NULL, 553 },
		{ "a route of nothing", "FROM:<@:a@b.org>", NULL, 553 },
		{ "a route alone", "FROM:<@x.org:>", NULL, 553 },
		{ "a route without colon", "FROM:<@x.org,a@b.org>", NULL,
		    553 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct smtp_mail mail;
		char *line;
		const struct smtp_error *error = parse_mail(cases[i].text,
		    strlen(cases[i].text), &mail, &line);

		CASE_ASSERT(cases[i].name,
		    (error != NULL ? error->code : 0) == cases[i].code);
		if (error == NULL && cases[i].address != NULL)
			CASE_ASSERT(cases[i].name, equals(mail.sender.address,
			    cases[i].address));
		free(line);
	}
}

static void
sender_with_nul(void)
{
	static const char text[] = "FROM:<a\0b@example.org>";
	struct smtp_mail mail;
	char *line;
	const struct smtp_error *error = parse_mail(text, sizeof text - 1,
	    &mail, &line);

	CU_ASSERT(error != NULL && error->code == 501);
	free(line);
}

static void
mail_parameters(void)
{
	static const struct { const char *name, *text; int code; } cases[] = {
		{ "all", "SIZE=1000 BODY=8BITMIME RET=HDRS ENVID=x+2By "
		    "SMTPUTF8 AUTH=<>", 0 },
		{ "lower case", "size=0 body=7bit ret=full", 0 },
		{ "two blanks", "  SIZE=1  BODY=7BIT ", 0 },
		{ "empty value", "SIZE=", 501 },
		{ "no value", "SIZE", 501 },
		{ "SIZE negative", "SIZE=-1", 501 },
		{ "SIZE plus", "SIZE=+1", 501 },
		{ "SIZE hex", "SIZE=0x10", 501 },
		{ "SIZE of 20 digits", "SIZE=99999999999999999999", 552 },
		{ "SIZE of 21 digits", "SIZE=000000000000000000001", 501 },
		{ "SIZE twice", "SIZE=1 SIZE=2", 501 },
		{ "BINARYMIME", "BODY=BINARYMIME", 501 },
		{ "RET wrong", "RET=SOME", 501 },
		{ "ENVID bare plus", "ENVID=a+", 501 },
		{ "ENVID small hex", "ENVID=a+2b", 501 },
		{ "ENVID hides CRLF", "ENVID=a+0D+0A", 501 },
		{ "ENVID hides NUL", "ENVID=a+00", 501 },
		{ "ENVID of 101", "ENVID=" LOCAL_64 "abcdefghijabcdefghijabcdef"
		    "ghijabcdefg", 501 },
		{ "AUTH hides LF", "AUTH=a+0Ab", 501 },
		{ "AUTH with CR", "AUTH=a\rb", 501 },
		{ "AUTH", "AUTH=a@b.org", 0 },
		{ "AUTH in xtext", "AUTH=a+2Bb+3Dc@b.org", 0 },
		{ "AUTH quoted", "AUTH=\"a+20b\"@b.org", 0 },
		{ "AUTH no mailbox", "AUTH=alice", 501 },
		{ "AUTH of nobody", "AUTH=@b.org", 501 },
		{ "AUTH in brackets", "AUTH=<a@b.org>", 501 },
		{ "AUTH with a route", "AUTH=@x.org:a@b.org", 501 },
		{ "AUTH hides <>", "AUTH=+3C+3E", 501 },
		{ "AUTH hides a blank", "AUTH=a+20b@b.org", 501 },
		{ "AUTH bare plus", "AUTH=a@b.org+", 501 },
		{ "AUTH empty", "AUTH=", 501 },
		{ "AUTH of 500", "AUTH=" AUTH_500, 0 },
		{ "AUTH beyond 500", "AUTH=+61" AUTH_500, 501 },
		{ "AUTH twice", "AUTH=<> AUTH=<>", 501 },
		{ "AUTH UTF-8", "SMTPUTF8 AUTH=+C3+A9@b.org", 0 },
		{ "AUTH UTF-8 behind it", "AUTH=+C3+A9@b.org SMTPUTF8", 0 },
		{ "AUTH UTF-8 alone", "AUTH=+C3+A9@b.org", 501 },
		{ "AUTH half a character", "SMTPUTF8 AUTH=+C3@b.org", 501 },
		{ "SMTPUTF8 with value", "SMTPUTF8=yes", 501 },
		{ "unknown", "FOO=bar", 555 },
		{ "NOTIFY on MAIL", "NOTIFY=NEVER", 555 },
		{ "a stray sign", "=x", 501 },
		{ "no keyword", "-A=x", 501 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		char text[600], *line;
		struct smtp_mail mail;
		const struct smtp_error *error;

		snprintf(text, sizeof text, "FROM:<a@b.org> %s",
		    cases[i].text);
		error = parse_mail(text, strlen(text), &mail, &line);
		CASE_ASSERT(cases[i].name,
		    (error != NULL ? error->code : 0) == cases[i].code);
		free(line);
	}
}

static void
mail_values(void)
{
	static const char text[] = "FROM:<a@b.org> SIZE=1234 BODY=8BITMIME "
	    "RET=hdrs ENVID=q SMTPUTF8";
	struct smtp_mail mail;
	char *line;

	CU_ASSERT(parse_mail(text, strlen(text), &mail, &line) == NULL);
	CU_ASSERT(mail.size == 1234);
	CU_ASSERT(mail.eight_bit && mail.smtputf8);
	CU_ASSERT_STRING_EQUAL(mail.ret, "HDRS");
	CU_ASSERT(equals(mail.envid, "q"));
	CU_ASSERT(mail.argument_count == 5);
	CU_ASSERT(equals(mail.arguments[0], "SIZE=1234"));
	CU_ASSERT(equals(mail.sender.local, "a"));
	CU_ASSERT(equals(mail.sender.domain, "b.org"));
	free(line);
}

static void
recipients(void)
{
	static const struct {
		const char *name, *text;
		bool utf8;
		int code;
	} cases[] = {
		{ "plain", "TO:<a@b.org>", false, 0 },
		{ "postmaster", "TO:<postmaster>", false, 0 },
		{ "Postmaster", "TO:<PostMaster>", false, 0 },
		{ "quoted postmaster", "TO:<\"postmaster\">", false, 553 },
		{ "null", "TO:<>", false, 553 },
		{ "no domain", "TO:<a>", false, 553 },
		{ "a route", "TO:<@x.org:a@b.org>", false, 0 },
		{ "UTF-8", "TO:<" UTF8_E "@b.org>", true, 0 },
		{ "UTF-8 without", "TO:<" UTF8_E "@b.org>", false, 553 },
		{ "NOTIFY", "TO:<a@b.org> NOTIFY=SUCCESS,FAILURE,DELAY",
		    false, 0 },
		{ "NEVER", "TO:<a@b.org> NOTIFY=never", false, 0 },
		{ "NEVER and more", "TO:<a@b.org> NOTIFY=NEVER,DELAY", false,
		    501 },
		{ "NOTIFY twice", "TO:<a@b.org> NOTIFY=DELAY,DELAY", false,
		    501 },
		{ "NOTIFY comma", "TO:<a@b.org> NOTIFY=DELAY,", false, 501 },
		{ "NOTIFY wrong", "TO:<a@b.org> NOTIFY=ALWAYS", false, 501 },
		{ "ORCPT", "TO:<a@b.org> ORCPT=rfc822;a+2Bb@b.org", false, 0 },
		{ "ORCPT no type", "TO:<a@b.org> ORCPT=a@b.org", false, 501 },
		{ "ORCPT empty", "TO:<a@b.org> ORCPT=rfc822;", false, 501 },
		{ "ORCPT hides CRLF", "TO:<a@b.org> ORCPT=rfc822;a+0D+0Ab",
		    false, 501 },
		{ "ORCPT with CR", "TO:<a@b.org> ORCPT=rfc822;a\rb", false,
		    501 },
		{ "ORCPT utf-8", "TO:<a@b.org> ORCPT=utf-8;" UTF8_E "@b.org",
		    true, 0 },
		{ "ORCPT raw UTF-8", "TO:<a@b.org> ORCPT=rfc822;" UTF8_E,
		    false, 501 },
		{ "SIZE on RCPT", "TO:<a@b.org> SIZE=1", false, 555 },
		{ "FROM on RCPT", "FROM:<a@b.org>", false, 501 },
		{ "CR in RCPT", "TO:<a@b.org\r>", false, 501 },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t len = strlen(cases[i].text);
		char *line = exact(cases[i].text, len);
		struct smtp_rcpt rcpt;
		const struct smtp_error *error = smtp_parse_rcpt(
		    (struct smtp_span){ line, len }, cases[i].utf8, &rcpt);

		CASE_ASSERT(cases[i].name,
		    (error != NULL ? error->code : 0) == cases[i].code);
		free(line);
	}
}

static void
notify_value(void)
{
	static const char text[] = "TO:<a@b.org> NOTIFY=SUCCESS,DELAY "
	    "ORCPT=rfc822;x";
	struct smtp_rcpt rcpt;

	CU_ASSERT(smtp_parse_rcpt((struct smtp_span){ text, strlen(text) },
	    false, &rcpt) == NULL);
	CU_ASSERT(rcpt.notify == (NOTIFY_SUCCESS | NOTIFY_DELAY));
	CU_ASSERT(equals(rcpt.orcpt, "rfc822;x"));
	CU_ASSERT(rcpt.argument_count == 2);
}

static void
too_many_parameters(void)
{
	char text[2048] = "FROM:<a@b.org>";
	struct smtp_mail mail;
	const struct smtp_error *error;

	for (int i = 0; i < 100; i++)
		strcat(text, " X=1");
	error = smtp_parse_mail((struct smtp_span){ text, strlen(text) },
	    &mail);
	CU_ASSERT(error != NULL && error->code == 555);
}

static void
chunks(void)
{
	static const struct {
		const char *name, *text;
		int code;
		uint64_t size;
		bool last;
	} cases[] = {
		{ "plain", "86", 0, 86, false },
		{ "last", "0 LAST", 0, 0, true },
		{ "lower case", "1 last", 0, 1, true },
		{ "negative", "-1", 501, 0, false },
		{ "plus", "+10", 501, 0, false },
		{ "hex", "0x10", 501, 0, false },
		{ "20 digits", "99999999999999999999", 501, 0, false },
		{ "nothing", "", 501, 0, false },
		{ "a word", "LAST", 501, 0, false },
		{ "another word", "1 FIRST", 501, 0, false },
		{ "text behind", "1 LAST x", 501, 0, false },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t len = strlen(cases[i].text);
		char *line = exact(cases[i].text, len);
		struct smtp_bdat bdat;
		const struct smtp_error *error = smtp_parse_bdat(
		    (struct smtp_span){ line, len }, &bdat);

		CASE_ASSERT(cases[i].name,
		    (error != NULL ? error->code : 0) == cases[i].code);
		if (error == NULL) {
			CASE_ASSERT(cases[i].name,
			    bdat.size == cases[i].size);
			CASE_ASSERT(cases[i].name,
			    bdat.last == cases[i].last);
		}
		free(line);
	}
}

SUITE(smtp_command,
	{ "verbs", verbs },
	{ "HELO", helo },
	{ "senders", senders },
	{ "a sender with NUL", sender_with_nul },
	{ "parameters of MAIL", mail_parameters },
	{ "values of MAIL's parameters", mail_values },
	{ "recipients", recipients },
	{ "values of RCPT's parameters", notify_value },
	{ "too many parameters", too_many_parameters },
	{ "BDAT", chunks })
