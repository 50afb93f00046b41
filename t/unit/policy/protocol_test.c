/* The policy protocol: requests of Postfix, and others'. */
#include "policy/protocol.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "policy/memo.h"
#include "policy/service.h"
#include "t/unit/unit.h"

#define TYPE "request=smtpd_access_policy\n"
#define BYTES(text) text, sizeof(text) - 1

static const char postfix[] =
    TYPE "protocol_state=RCPT\nprotocol_name=ESMTP\n"
    "client_address=192.0.2.1\nclient_name=unknown\nclient_port=40000\n"
    "reverse_client_name=mx.example.org\nserver_address=192.0.2.2\n"
    "server_port=25\nhelo_name=some=thing\nsender=a=b@example.org\n"
    "recipient=bob@example.net\nrecipient_count=0\nqueue_id=\n"
    "instance=123.456.7\nsize=12345\netrn_domain=\nstress=\n"
    "sasl_method=\nsasl_username=\nsasl_sender=\nccert_subject=\n"
    "ccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\n"
    "encryption_protocol=TLSv1.3\nencryption_cipher=X\n"
    "encryption_keysize=256\npolicy_context=\ncompatibility_level=3.6\n"
    "mail_version=3.7.11\nsomething_new=yes\n\n";

/* Feeds lines; the state behind the last one that was taken. */
static int
feed(struct policy_request *request, const char *bytes, size_t len,
    const char **why)
{
	const char *end = bytes + len, *lf;
	int rc = 0;

	while (rc == 0 && bytes < end) {
		lf = memchr(bytes, '\n', (size_t)(end - bytes));
		len = lf != NULL ? (size_t)(lf - bytes) + 1 :
		    (size_t)(end - bytes);
		rc = policy_request_line(request, bytes, len, why);
		bytes += len;
	}
	return rc;
}

static void
requests(void)
{
	static const struct {
		const char *name, *bytes;
		size_t len;
		int want;
	} cases[] = {
		{ "of Postfix",	BYTES(postfix), 1 },
		{ "short",	BYTES(TYPE "\n"), 1 },
		{ "not ended",	BYTES(TYPE "sender=x\n"), 0 },
		{ "empty",	BYTES("\n"), -1 },
		{ "other kind",	BYTES("request=junk\n\n"), -1 },
		{ "no kind",	BYTES("sender=x\n\n"), -1 },
		{ "no equals",	BYTES(TYPE "sender\n"), -1 },
		{ "no name",	BYTES(TYPE "=x\n"), -1 },
		{ "twice",	BYTES(TYPE "sender=a\nsender=b\n"), -1 },
		{ "empty twice", BYTES(TYPE "sender=\nsender=b\n"), -1 },
		{ "unknown ones twice", BYTES(TYPE "x=a\nx=b\n\n"), 1 },
		{ "NUL",	BYTES(TYPE "sender=a\0b\n"), -1 },
		{ "NUL in the name", BYTES(TYPE "sen\0der=a\n"), -1 },
		{ "no LF",	BYTES(TYPE "sender=a"), -1 },
		{ "HTTP",	BYTES("GET / HTTP/1.1\r\n"), -1 },
		{ "SMTP",	BYTES("HELO x\r\n"), -1 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_request request = POLICY_REQUEST_INIT;
		const char *why = NULL;

		CASE_ASSERT(cases[i].name, feed(&request, cases[i].bytes,
		    cases[i].len, &why) == cases[i].want);
		CASE_ASSERT(cases[i].name, (why != NULL) ==
		    (cases[i].want == -1));
		policy_request_release(&request);
	}
}

static void
values(void)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	const char *why;

	for (int i = 0; i < 2; i++) {
		CU_ASSERT(feed(&request, postfix, sizeof(postfix) - 1,
		    &why) == 1);
		CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_SENDER),
		    "a=b@example.org");
		CU_ASSERT_STRING_EQUAL(policy_value(&request,
		    POLICY_HELO_NAME), "some=thing");
		CU_ASSERT_STRING_EQUAL(policy_value(&request,
		    POLICY_QUEUE_ID), "");
		CU_ASSERT_PTR_NULL(policy_known(&request,
		    POLICY_CLIENT_NAME));
		CU_ASSERT_PTR_NULL(policy_known(&request,
		    POLICY_SASL_USERNAME));
		CU_ASSERT_STRING_EQUAL(policy_value(&request,
		    POLICY_MAIL_VERSION), "3.7.11");
		policy_request_reset(&request);
		CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_SENDER),
		    "");
	}
	policy_request_release(&request);
}

static void
limits(void)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	char *line = malloc(16384);
	const char *why;
	int rc = 0, lines = 0;

	CU_ASSERT_PTR_NOT_NULL_FATAL(line);
	memset(line, 'x', 16384);
	memcpy(line, "junk=", 5);
	line[16383] = '\n';
	for (lines = 0; rc == 0 && lines < 100; lines++)
		rc = policy_request_line(&request, line, 16384, &why);
	CU_ASSERT_EQUAL(rc, -1);
	CU_ASSERT_EQUAL(lines, 5);
	CU_ASSERT_EQUAL(request.text.len, 0);
	free(line);

	policy_request_reset(&request);
	for (rc = lines = 0; rc == 0 && lines < 1000; lines++)
		rc = policy_request_line(&request, "x=y\n", 4, &why);
	CU_ASSERT_EQUAL(lines, POLICY_LINES_MAX + 1);
	policy_request_release(&request);
}

static void
written(void)
{
	struct policy_request request = POLICY_REQUEST_INIT;
	struct buf out = BUF_INIT;
	const char *why;

	policy_put(&out, POLICY_REQUEST, "smtpd_access_policy");
	policy_put(&out, POLICY_SENDER, "a\n\nrecipient=evil");
	policy_put(&out, POLICY_RECIPIENT, "b@example.org");
	policy_put(&out, POLICY_CLIENT_NAME, NULL);
	policy_end(&out);
	CU_ASSERT(feed(&request, out.data, out.len, &why) == 1);
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_SENDER),
	    "a  recipient=evil");
	CU_ASSERT_STRING_EQUAL(policy_value(&request, POLICY_RECIPIENT),
	    "b@example.org");
	policy_request_release(&request);
	buf_release(&out);
}

static void
answers(void)
{
	static const struct {
		const char *name, *line;
		int want;
		enum policy_verb verb;
		const char *enhanced, *text;
	} cases[] = {
		{ "dunno", "action=DUNNO\n", 0, POLICY_DUNNO, "", "" },
		{ "deferral", "action=DEFER_IF_PERMIT 4.7.1 Greylisted, x\n",
		    0, POLICY_DEFER, "4.7.1", "Greylisted, x" },
		{ "without code", "action=defer_if_permit come back\n", 0,
		    POLICY_DEFER, "", "come back" },
		{ "bare", "action=DEFER_IF_PERMIT", 0, POLICY_DEFER, "", "" },
		{ "a reply code", "action=450 4.2.0 x\n", 0, POLICY_DEFER,
		    "4.2.0", "x" },
		{ "another class", "action=DEFER 5.7.1 x\n", 0, POLICY_DEFER,
		    "", "5.7.1 x" },
		{ "controls", "action=DEFER 4.7.1 a\rb\n", 0, POLICY_DEFER,
		    "4.7.1", "a?b" },
		{ "no code at all", "action=DEFER 4.7 x\n", 0, POLICY_DEFER,
		    "", "4.7 x" },
		{ "refusal", "action=REJECT 5.7.1 no\n", 0, POLICY_REJECT,
		    "5.7.1", "no" },
		{ "a code for good", "action=554 no\n", 0, POLICY_REJECT, "",
		    "no" },
		{ "hold", "action=HOLD me\n", 0, POLICY_HOLD, "", "me" },
		{ "other", "action=PREPEND X: y\n", 0, POLICY_OTHER, "", "" },
		{ "nothing", "action=\n", -1, POLICY_DUNNO, "", "" },
		{ "empty", "\n", -1, POLICY_DUNNO, "", "" },
		{ "garbage", "450 no\n", -1, POLICY_DUNNO, "", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct policy_action action;
		const char *why;

		CASE_ASSERT(cases[i].name, policy_answer_parse(cases[i].line,
		    strlen(cases[i].line), &action, &why) == cases[i].want);
		CASE_ASSERT(cases[i].name, action.verb == cases[i].verb);
		CASE_ASSERT(cases[i].name, strcmp(action.enhanced,
		    cases[i].enhanced) == 0);
		CASE_ASSERT(cases[i].name, strcmp(action.text,
		    cases[i].text) == 0);
	}
}

static void
answers_written(void)
{
	struct buf out = BUF_INIT;

	policy_answer_put(&out, &(struct policy_action){ .verb =
	    POLICY_DEFER, .enhanced = "4.7.1", .text = "a\nb",
	    .reason = "greylist" }, false);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "action=DEFER_IF_PERMIT 4.7.1 a b\n\n");
	buf_reset(&out);
	policy_answer_put(&out, &(struct policy_action){ .verb =
	    POLICY_PASS }, false);
	CU_ASSERT_STRING_EQUAL(out.data, "action=DUNNO\n\n");
	buf_reset(&out);
	policy_answer_put(&out, &(struct policy_action){ .verb =
	    POLICY_REJECT, .code = 554, .enhanced = "5.7.1", .text = "no",
	    .reason = "dnsbl", .score = "1.5" }, true);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "action=554 5.7.1 no\nreason=dnsbl\nscore=1.5\n\n");
	buf_release(&out);
}

/* --- answers that are kept --- */

static void
keep(struct policy_request *request, const char *text)
{
	const char *why;

	policy_request_reset(request);
	CU_ASSERT(feed(request, text, strlen(text), &why) == 1);
}

static bool
recall(const struct memo *memo, const struct policy_request *request,
    int64_t now_ms, struct policy_decision *decision)
{
	struct memo_key key = memo_key(request);

	return memo_get(memo, &key, now_ms, decision);
}

static void
note(struct memo *memo, const struct policy_request *request,
    int64_t now_ms, const struct policy_decision *decision)
{
	struct memo_key key = memo_key(request);

	memo_put(memo, &key, now_ms, decision);
}

static void
kept(void)
{
	struct policy_decision later = { .verb = POLICY_DEFER,
		.text = "later", .wait_ms = 5000 };
	struct policy_decision nothing = { .verb = POLICY_DUNNO }, d;
	struct policy_request request = POLICY_REQUEST_INIT;
	struct memo *memo = memo_new();

	keep(&request, TYPE "instance=1.2\nrecipient=a\n\n");
	CU_ASSERT(!recall(memo, &request, 1000, &d));
	note(memo, &request, 1000, &later);
	CU_ASSERT(recall(memo, &request, 5999, &d));
	CU_ASSERT(d.verb == POLICY_DEFER && strcmp(d.text, "later") == 0);
	CU_ASSERT(!recall(memo, &request, 6000, &d));
	note(memo, &request, 6000, &nothing);
	CU_ASSERT(recall(memo, &request, 65999, &d));
	CU_ASSERT(d.verb == POLICY_DUNNO && *d.text == '\0');
	CU_ASSERT(!recall(memo, &request, 66000, &d));

	keep(&request, TYPE "instance=1.2\nrecipient=b\n\n");
	CU_ASSERT(!recall(memo, &request, 6000, &d));
	keep(&request, TYPE "instance=1.2\nrecipient=a\n"
	    "policy_context=x\n\n");
	CU_ASSERT(!recall(memo, &request, 6000, &d));
	keep(&request, TYPE "recipient=a\n\n");
	note(memo, &request, 6000, &nothing);
	CU_ASSERT(!recall(memo, &request, 6000, &d));
	policy_request_release(&request);
	memo_free(&memo);
}

SUITE(protocol,
    { "requests", requests },
    { "values", values },
    { "limits", limits },
    { "requests of ours", written },
    { "answers", answers },
    { "answers of ours", answers_written },
    { "answers kept", kept })
