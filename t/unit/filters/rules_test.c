/* Rules: what conditions see, what points add up to, and what is done. */
#include "filters/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "filters/rules_private.h"
#include "t/unit/unit.h"

#define HEADER								\
	"Received: from a by b; x\r\nReceived: from c by d; y\r\n"	\
	"From: Bob <bob@Bank.example>\r\nSubject: Your\r\n invoice\r\n"	\
	"X-Spam-Score: -100\r\nX-Spam-Flag: NO\r\n\r\n"

static const struct section_kind top = { .name = "" },
    listener = { .name = "listener", .titled = true };

static struct conf *
load(const char *text, struct buf *errors)
{
	static const struct section_kind *kinds[8] = { &top, &listener };
	size_t count = 2;

	kinds[count++] = filter_rules.options;
	for (size_t i = 0; rules_kinds[i] != NULL; i++)
		kinds[count++] = rules_kinds[i];
	return conf_load(NULL, text, kinds, count, errors);
}

/* A message, and the rules at work on it. */
struct world {
	struct conf *conf;
	struct session session;
	struct mail *mail;
	struct filter_run run;
	struct verdict verdict;
};

/* "spf=fail x-reputation=pass:2500": with thousandths behind the colon. */
static void
add_findings(struct world *w, const char *text)
{
	struct filter_run run = { .name = "test", .mail = w->mail };
	char *words = arena_strdup(w->mail->arena, text), *word;

	while ((word = strsep(&words, " ")) != NULL && *word != '\0') {
		char *result = strchr(word, '='), *points;
		struct finding *finding;

		*result++ = '\0';
		if ((points = strchr(result, ':')) != NULL)
			*points++ = '\0';
		finding = finding_add(&run, word, result, NULL);
		if (strcmp(word, "dkim") == 0)
			finding_property(&run, finding, "header", "d",
			    strcmp(result, "pass") == 0 ? "good.example" :
			    "bad.example");
		if (points != NULL)
			finding_property(&run, finding, "policy", "score",
			    points);
	}
	w->mail->findings = run.findings;
}

static void
begin(struct world *w, const char *text, const char *findings)
{
	struct buf errors = BUF_INIT;
	const char *why = "";
	size_t count;

	w->conf = load(text, &errors);
	if (errors.len > 0)
		fprintf(stderr, "\n%s", errors.data);
	CU_ASSERT_FATAL(w->conf != NULL);
	buf_release(&errors);
	w->session = (struct session){ .arena = arena_new(0),
		.client_address = "192.0.2.7", .client_name = "mx.example.org",
		.helo = "mx.example.org", .listener = "smtp",
		.tls_version = "TLSv1.3" };
	w->mail = mail_new(&w->session, 1000, "/tmp");
	w->mail->envelope.sender = "alice@example.org";
	w->mail->received_size = 5000;
	headers_parse(&w->mail->headers, w->mail->arena, HEADER,
	    strlen(HEADER));
	headers_add(&w->mail->headers, w->mail->arena, NULL, "X-Spam-Score",
	    "7.25 / 15", true);
	add_findings(w, findings);
	w->run = (struct filter_run){ .filter = &filter_rules,
		.name = "rules", .session = &w->session, .mail = w->mail };
	w->run.instance = filter_rules.setup(w->conf,
	    conf_sections(w->conf, "scoring", &count), &why);
	CU_ASSERT_FATAL(w->run.instance != NULL);
}

static void
end(struct world *w)
{
	filter_rules.release(w->run.instance);
	mail_free(&w->mail);
	arena_free(&w->session.arena);
	conf_free(&w->conf);
}

static const char *
own_property(const struct world *w, const char *name)
{
	const struct finding *finding = w->run.findings;

	return finding == NULL ? "" : finding_value(finding, "rules", name);
}

#define FINDINGS "spf=fail dkim=fail dkim=pass x-reputation=pass:2500"

/* True of the message above. */
static const char *const conditions[] = {
	"spf == 'fail'", "dkim == 'pass'", "dmarc == 'none'", "arc ~= 'pass'",
	"result('x-reputation') == 'pass'", "result('reputation') == 'pass'",
	"result('nothing') == 'none'", "points('reputation') == 2.5",
	"points('spf') == 0", "points('nothing') == 0",
	"property('dkim', 'header.d') == 'good.example'",
	"property('dkim', 'header.x') == ''",
	"property('nothing', 'header.d') == ''",
	"from == 'bob@bank.example'", "from_domain == 'bank.example'",
	"sender == 'alice@example.org'", "sender_domain == 'example.org'",
	"recipient == 'r@example.net'", "recipient_count == 2",
	"client == '192.0.2.7'", "client_name == 'mx.example.org'",
	"helo == client_name", "listener == 'smtp'", "user == ''", "tls",
	"not trusted", "size == 5000", "score == 2.5",
	"header('subject') == 'Your invoice'", "header('X-None') == ''",
	"header('received', 2):has('from c')", "header('received', 3) == ''",
	"header('received', 0) == ''", "header_count('Received') == 2",
	"number(header('X-Spam-Score')) == -100",
	"number(added('X-Spam-Score')) == 7.25", "added('Subject') == ''",
	"is('sender .example.org')", "is 'client 192.0.2.0/24'",
	"is('recipient board.example')", "not is('size > 1M')",
	"is('spf = fail')", "header('Subject'):find('^Your[ ]inv')",
	/* Backslashes mean something in the file and in '...', too. */
	"header('Subject'):find([[^Your\\\\sinv]])",
	"header('Subject'):find('^Your\\\\\\\\sinv')",
};

static void
see_the_message(void)
{
	for (size_t i = 0; i < sizeof(conditions) / sizeof(conditions[0]);
	    i++) {
		char text[300];
		struct world w;

		snprintf(text, sizeof(text), "rule x { when = \"%s\" "
		    "score = 1 action = reject }", conditions[i]);
		begin(&w, text, FINDINGS);
		envelope_add_recipient(&w.mail->envelope, w.mail->arena,
		    "r@example.net");
		envelope_add_recipient(&w.mail->envelope, w.mail->arena,
		    "b@board.example");
		w.verdict = filter_rules.eom(&w.run);
		CASE_ASSERT(conditions[i],
		    w.verdict.action == ACTION_REJECT);
		end(&w);
	}
}

#define RULE(name, points) "rule " name " { when = true score = " points " }\n"
#define BOARD "scoring { reject = 10 quarantine = 0 add_header = 5 }\n"	\
	"scoring_class board { recipients = { board.example } reject = 4 }\n"

static const struct rules_case {
	const char *name, *conf, *findings, *recipients;
	enum action action;
	const char *reason;		/* NULL: none */
	bool hold;
	const char *flag;		/* X-Spam-Flag; NULL: gone */
	const char *score, *own, *opinion;
} cases[] = {
	{ "nothing", "", "", "r@example.net", ACTION_CONTINUE, NULL, false,
	    NULL, "0", "0", "ham" },
	{ "a sum below all", RULE("a", "2.5") RULE("b", "1.25"), "",
	    "r@example.net", ACTION_CONTINUE, NULL, false, NULL, "3.75",
	    "3.75", "ham" },
	{ "marked", RULE("a", "6"), "", "r@example.net", ACTION_CONTINUE, NULL,
	    false, "YES", "6", "6", "unsure" },
	{ "refused", RULE("a", "7.5") RULE("b", "7.5"), "", "r@example.net",
	    ACTION_REJECT, "score", false, "YES", "15", "15", "spam" },
	{ "not quite", RULE("a", "14.999"), "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, "YES", "14.999", "14.999",
	    "unsure" },
	{ "held", RULE("a", "9") "scoring { quarantine = 8 }", "",
	    "r@example.net", ACTION_CONTINUE, NULL, true, "YES", "9", "9",
	    "spam" },
	{ "deferred", RULE("a", "7") "scoring { quarantine = 8 defer = 4 }",
	    "", "r@example.net", ACTION_TEMPFAIL, "score", false, "YES", "7",
	    "7", "unsure" },
	{ "held rather than deferred", RULE("a", "8")
	    "scoring { quarantine = 8 defer = 4 }", "", "r@example.net",
	    ACTION_CONTINUE, NULL, true, "YES", "8", "8", "spam" },
	{ "less", RULE("a", "-3") RULE("b", "5"), "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "2", "2", "ham" },
	{ "no thresholds", RULE("a", "100")
	    "scoring { reject = 0 add_header = 0 }", "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "100", "100", "unsure" },
	{ "the policy's points", RULE("a", "1"), "x-reputation=pass:15000",
	    "r@example.net", ACTION_REJECT, "score", false, "YES", "16", "1",
	    "ham" },
	{ "of each recipient, the worst",
	    "", "x-r=pass:2000 x-r=pass:3000 x-r=pass:3000 x-r=pass "
	    "x-s=pass:-1000",
	    "r@example.net", ACTION_CONTINUE, NULL, false, NULL, "2", "0",
	    "ham" },
	{ "points that are none", "", "x-r=pass:much", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "0", "0", "ham" },
	{ "a rule that reads the policy's", "rule a { when = "
	    "\"points('r') > 1\" score = 2 }" RULE("b", "3"), "x-r=pass:1500",
	    "r@example.net", ACTION_CONTINUE, NULL, false, "YES", "6.5", "3",
	    "ham" },
	{ "a rule that reads such a sum", "rule a { when = \"score > 1\" "
	    "score = 2 }", "x-r=pass:1500", "r@example.net", ACTION_CONTINUE,
	    NULL, false, NULL, "3.5", "0", "ham" },
	{ "a scanner's score", "rule a { when = "
	    "\"number(added('X-Spam-Score'))\" score = 2 }", "",
	    "r@example.net", ACTION_CONTINUE, NULL, false, "YES", "14.5",
	    "14.5", "unsure" },
	{ "a number too large", "rule a { when = \"1e300\" score = 2 }", "",
	    "r@example.net", ACTION_REJECT, "score", false, "YES", "1000000",
	    "1000000", "spam" },
	{ "zero is not true", "rule a { when = \"size - 5000\" score = 2 "
	    "action = reject }", "", "r@example.net", ACTION_CONTINUE, NULL,
	    false, NULL, "0", "0", "ham" },
	{ "a rule refuses", "rule a { when = true action = reject }"
	    RULE("b", "3"), "", "r@example.net", ACTION_REJECT, "rule", false,
	    NULL, "0", "0", "ham" },
	{ "a rule defers", "rule a { when = true action = defer }", "",
	    "r@example.net", ACTION_TEMPFAIL, "rule", false, NULL, "0", "0",
	    "ham" },
	{ "a rule holds", "rule a { when = true action = quarantine }", "",
	    "r@example.net", ACTION_CONTINUE, NULL, true, NULL, "0", "0",
	    "ham" },
	{ "a rule accepts", RULE("b", "30")
	    "rule a { when = true action = accept }"
	    "rule c { when = true action = reject }", "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "30", "30", "spam" },
	{ "the first action", "rule a { when = true action = defer }"
	    "rule c { when = true action = reject }", "", "r@example.net",
	    ACTION_TEMPFAIL, "rule", false, NULL, "0", "0", "ham" },
	{ "a condition that fails", "rule a { when = "
	    "\"spf:find(size > 1 and '(' or 'x')\" "
	    "action = reject }" RULE("b", "1"), "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "1", "1", "ham" },
	{ "a class", BOARD RULE("a", "4"), "", "b@board.example",
	    ACTION_REJECT, "score", false, NULL, "4", "4", "ham" },
	{ "not of the class", BOARD RULE("a", "4"), "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "4", "4", "ham" },
	{ "both", BOARD RULE("a", "4"), "", "r@example.net b@board.example",
	    ACTION_CONTINUE, NULL, true, NULL, "4", "4", "ham" },
	{ "both the other way", BOARD RULE("a", "4"), "",
	    "b@board.example r@example.net", ACTION_CONTINUE, NULL, true,
	    NULL, "4", "4", "ham" },
	{ "both refuse", BOARD RULE("a", "10"), "",
	    "r@example.net b@board.example", ACTION_REJECT, "score", false,
	    "YES", "10", "10", "spam" },
	{ "of another listener", "scoring_class x { listeners = { other } "
	    "reject = 1 }" RULE("a", "1"), "", "r@example.net",
	    ACTION_CONTINUE, NULL, false, NULL, "1", "1", "ham" },
	{ "of this listener", "scoring_class x { listeners = { other, smtp } "
	    "reject = 1 }" RULE("a", "1"), "", "r@example.net", ACTION_REJECT,
	    "score", false, NULL, "1", "1", "ham" },
	{ "a class that is never refused", "scoring_class x { reject = 0 }"
	    RULE("a", "20"), "", "r@example.net", ACTION_CONTINUE, NULL,
	    false, "YES", "20", "20", "spam" },
};

static void
run_case(const struct rules_case *c)
{
	struct world w;
	const struct header *flag;
	char *recipients, *one;

	begin(&w, c->conf, c->findings);
	recipients = arena_strdup(w.mail->arena, c->recipients);
	while ((one = strsep(&recipients, " ")) != NULL)
		envelope_add_recipient(&w.mail->envelope, w.mail->arena, one);
	w.verdict = filter_rules.eom(&w.run);
	CASE_ASSERT(c->name, w.verdict.action == c->action);
	CASE_ASSERT(c->name, (w.verdict.reason == NULL) ==
	    (c->reason == NULL) && (c->reason == NULL ||
	    strcmp(w.verdict.reason, c->reason) == 0));
	CASE_ASSERT(c->name, w.mail->envelope.hold == c->hold);
	CASE_ASSERT(c->name, !c->hold ||
	    w.mail->envelope.hold_reason != NULL);
	flag = headers_find(&w.mail->headers, "X-Spam-Flag", 1);
	CASE_ASSERT(c->name, (flag == NULL) == (c->flag == NULL) &&
	    (flag == NULL || strcmp(header_value(flag, w.mail->arena, true),
	    c->flag) == 0));
	CASE_ASSERT(c->name, headers_find(&w.mail->headers, "X-Spam-Flag",
	    2) == NULL);
	CASE_ASSERT(c->name, strcmp(own_property(&w, "score"), c->score) == 0);
	CASE_ASSERT(c->name, strcmp(own_property(&w, "own"), c->own) == 0);
	CASE_ASSERT(c->name, w.run.findings != NULL &&
	    strcmp(w.run.findings->result, c->opinion) == 0);
	end(&w);
}

static void
decide(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		run_case(&cases[i]);
}

static void
text_is_told(void)
{
	struct world w;

	begin(&w, "rule a { when = true action = reject text = \"No.\" }", "");
	w.verdict = filter_rules.eom(&w.run);
	CU_ASSERT_STRING_EQUAL(w.verdict.text, "No.");
	CU_ASSERT_EQUAL(w.verdict.code, 550);
	end(&w);
}

/* Of strangers: what a trusted client wrote is not forged. */
static void
fields_of_others(void)
{
	struct world w;

	begin(&w, "", "");
	w.session.trusted = true;
	filter_rules.eom(&w.run);
	CU_ASSERT_PTR_NOT_NULL(headers_find(&w.mail->headers, "X-Spam-Flag",
	    1));
	CU_ASSERT_PTR_NOT_NULL(headers_find(&w.mail->headers, "X-Spam-Score",
	    2));
	end(&w);
	begin(&w, "", "");
	filter_rules.eom(&w.run);
	/* The scanner's stays. */
	CU_ASSERT_PTR_NOT_NULL(headers_find(&w.mail->headers, "X-Spam-Score",
	    1));
	CU_ASSERT_PTR_NULL(headers_find(&w.mail->headers, "X-Spam-Score", 2));
	end(&w);
}

static void
classes_apart(void)
{
	struct recipient board = { .address = "b@board.example" },
	    other = { .address = "r@example.net" },
	    more = { .address = "s@example.net" };
	struct world w;

	begin(&w, "scoring { mixed = apart }\nscoring_class board { "
	    "recipients = { board.example } reject = 4 }", "");
	CU_ASSERT_EQUAL(filter_rules.rcpt(&w.run, &board).action,
	    ACTION_CONTINUE);
	w.mail->envelope.recipients = &other;
	w.verdict = filter_rules.rcpt(&w.run, &board);
	CU_ASSERT_EQUAL(w.verdict.action, ACTION_TEMPFAIL);
	CU_ASSERT_EQUAL(w.verdict.code, 452);
	CU_ASSERT_EQUAL(filter_rules.rcpt(&w.run, &more).action,
	    ACTION_CONTINUE);
	w.mail->envelope.recipients = NULL;
	end(&w);
}

/* What -n says. */
static void
errors_have_places(void)
{
	static const struct {
		const char *name, *text, *error;
	} bad[] = {
		{ "an unknown name", "rule a {\n when = \"spff == 'x'\"\n}",
		    "2: when: unknown name 'spff'" },
		{ "types", "rule a { when = \"size > spf\" }",
		    "1: when: attempt to compare string with number" },
		{ "no condition", "\nrule a { score = 1 }",
		    "when: is required" },
		{ "a listener that is none", "scoring_class a {\n"
		    "listeners = { smpt } }",
		    "2: listeners: there is no listener smpt" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct buf errors = BUF_INIT;
		struct conf *conf = load(bad[i].text, &errors);

		CASE_ASSERT(bad[i].name, conf != NULL);
		if (conf == NULL)
			continue;
		rules_check(conf, &errors);
		CASE_ASSERT(bad[i].name, errors.len > 0 &&
		    strstr(errors.data, bad[i].error) != NULL);
		if (errors.len > 0 && strstr(errors.data, bad[i].error) == NULL)
			fprintf(stderr, ": %s", errors.data);
		buf_release(&errors);
		conf_free(&conf);
	}
}

static void
fates_join(void)
{
	static const struct {
		enum rules_fate a, b, want;
	} joins[] = {
		{ RULES_PASS, RULES_PASS, RULES_PASS },
		{ RULES_PASS, RULES_MARK, RULES_MARK },
		{ RULES_MARK, RULES_HOLD, RULES_HOLD },
		{ RULES_HOLD, RULES_REJECT, RULES_HOLD },
		{ RULES_PASS, RULES_REJECT, RULES_HOLD },
		{ RULES_PASS, RULES_DEFER, RULES_HOLD },
		{ RULES_DEFER, RULES_REJECT, RULES_DEFER },
		{ RULES_REJECT, RULES_REJECT, RULES_REJECT },
	};

	for (size_t i = 0; i < sizeof(joins) / sizeof(joins[0]); i++) {
		CU_ASSERT_EQUAL(rules_fate_join(joins[i].a, joins[i].b),
		    joins[i].want);
		CU_ASSERT_EQUAL(rules_fate_join(joins[i].b, joins[i].a),
		    joins[i].want);
	}
}

SUITE(rules, { "see the message", see_the_message }, { "decide", decide },
    { "the text is told", text_is_told },
    { "fields of others", fields_of_others },
    { "classes apart", classes_apart },
    { "errors have places", errors_have_places },
    { "fates join", fates_join })
