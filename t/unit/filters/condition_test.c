/* Conditions: what each clause says, and from when on it can say it. */
#include "filters/condition.h"

#include <string.h>

#include "filters/filter.h"
#include "t/unit/unit.h"

#define LIST_MAX 4

/* Answers at session, mail, data and end: y, n or ?. */
static const struct {
	const char *name;
	const char *only[LIST_MAX], *skip[LIST_MAX];
	const char *answers;
} cases[] = {
	{ "nothing", { 0 }, { 0 }, "yyyy" },
	{ "trusted", { "trusted" }, { 0 }, "nnnn" },
	{ "not trusted", { 0 }, { "trusted" }, "yyyy" },
	{ "authenticated", { "authenticated" }, { 0 }, "?yyy" },
	{ "tls", { "tls" }, { 0 }, "?nnn" },
	{ "listener", { "listener smtp" }, { 0 }, "yyyy" },
	{ "another listener", { "listener submission" }, { 0 }, "nnnn" },
	{ "network", { "client 192.0.2.0/24" }, { 0 }, "yyyy" },
	{ "odd network", { "client 192.0.2.4/30" }, { 0 }, "yyyy" },
	{ "the next", { "client 192.0.2.8/30" }, { 0 }, "nnnn" },
	{ "all", { "client 0.0.0.0/0" }, { 0 }, "yyyy" },
	{ "address", { "client 192.0.2.7" }, { 0 }, "yyyy" },
	{ "of another kind", { "client 2001:db8::/32" }, { 0 }, "nnnn" },
	{ "sender's domain", { "sender Example.org" }, { 0 }, "?yyy" },
	{ "and below", { "sender .org" }, { 0 }, "?yyy" },
	{ "itself", { "sender .example.org" }, { 0 }, "?yyy" },
	{ "its end only", { "sender .ample.org" }, { 0 }, "?nnn" },
	{ "sender", { "sender a@EXAMPLE.org" }, { 0 }, "?yyy" },
	{ "another sender", { "sender b@example.org" }, { 0 }, "?nnn" },
	{ "null sender", { "sender <>" }, { 0 }, "?nnn" },
	{ "recipient", { "recipient example.net" }, { 0 }, "?yyy" },
	{ "another recipient", { "recipient example.com" }, { 0 }, "??nn" },
	{ "larger", { "size > 1K" }, { 0 }, "???y" },
	{ "not larger", { "size > 10K" }, { 0 }, "???n" },
	{ "smaller", { "size < 1M" }, { 0 }, "???y" },
	{ "finding", { "spf = pass" }, { 0 }, "???y" },
	{ "the second of a method", { "dkim = pass" }, { 0 }, "???y" },
	{ "no such", { "dkim = policy" }, { 0 }, "???n" },
	{ "no such method", { "arc = pass" }, { 0 }, "???n" },
	{ "all must hold", { "trusted", "spf = pass" }, { 0 }, "nnnn" },
	{ "the latest decides", { "authenticated", "spf = pass" }, { 0 },
	    "???y" },
	{ "one is enough to skip", { "spf = pass" },
	    { "size > 1G", "sender example.org" }, "?nnn" },
	{ "  blanks\t", { " sender \t example.org  " }, { 0 }, "?yyy" },
};

static const char *const bad[] = { "", " ", "trusted yes", "sendr x", "sender",
    "sender a b", "listener", "client", "client x", "client 192.0.2.0/33",
    "client 192.0.2.0/", "client 192.0.2.0/-1", "client 192.0.2.0/24x",
    "client 192.0.2.0/99999999999999999999", "client 2001:db8::/129",
    "client 1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb", "size",
    "size > x", "size = 10M", "size >10M", "size >> 1", "spf == pass",
    "spf=pass", "a b c d" };

static void
clauses(void)
{
	static struct session session = { .listener = "smtp",
		.client_address = "192.0.2.7", .user = NULL };
	struct recipient recipients[2] = {
		{ .address = "x@example.edu", .next = &recipients[1] },
		{ .address = "b@example.net" } };
	struct finding findings[3] = {
		{ .method = "spf", .result = "pass", .next = &findings[1] },
		{ .method = "dkim", .result = "fail", .next = &findings[2] },
		{ .method = "dkim", .result = "pass" } };
	struct mail mail = { .envelope = { .sender = "a@example.org",
		.recipients = recipients } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct condition *condition;
		const char *why = NULL;
		char answers[5] = "";

		CASE_ASSERT(cases[i].name, condition_new(cases[i].only,
		    cases[i].skip, &condition, &why) == 0);
		for (int point = 0; point < 4; point++) {
			session.user = point == 0 ? NULL : "user";
			mail.received_size = point == 3 ? 2000 : 0;
			mail.findings = point == 3 ? findings : NULL;
			answers[point] = "ny?"[condition_ask(condition,
			    &session, point == 0 ? NULL : &mail,
			    (enum condition_point)point)];
		}
		CASE_ASSERT(cases[i].name, strcmp(answers,
		    cases[i].answers) == 0);
		condition_free(&condition);
	}
}

static void
errors(void)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *list[] = { "trusted", bad[i], NULL };
		struct condition *condition;
		const char *why = NULL;

		CASE_ASSERT(bad[i], condition_new(list, NULL, &condition,
		    &why) == -1);
		CASE_ASSERT(bad[i], condition == NULL && why != NULL &&
		    strstr(why, bad[i]) != NULL);
		CASE_ASSERT(bad[i], condition_new(NULL, list, &condition,
		    &why) == -1);
	}
}

SUITE(condition,
    { "clauses", clauses },
    { "errors", errors })
