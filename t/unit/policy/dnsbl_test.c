/* DNS lists: sums, tests, silence, errors, from a table in DNS's place. */
#include "policy/dnsbl.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/dns.h"
#include "base/task.h"
#include "policy/dnsbl_list.h"
#include "t/unit/policy/rig.h"
#include "t/unit/unit.h"

#define SIX "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"

/* "!": no answer; else addresses parted by commas. */
#define TEST6 ".0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0."

static const struct entry { const char *name, *value; } zone[] = {
	{ "2.0.0.127.zen.test", "127.0.0.2,127.0.0.4" },
	{ "9.2.0.192.zen.test", "127.0.0.4,127.0.0.10" },
	{ SIX ".zen.test", "127.0.0.3" },
	{ "2" TEST6 "zen.test", "127.0.0.2" },
	{ "2.0.0.127.four.test", "127.0.0.2" },
	{ "9.2.0.192.four.test", "127.0.0.4" },
	{ SIX ".four.test", "127.0.0.3" },
	{ "2.0.0.127.most.test", "127.0.0.2" },
	{ "2" TEST6 "most.test", "127.0.0.2" },
	{ "1" TEST6 "most.test", "127.0.0.2" },
	{ SIX ".most.test", "127.0.0.3" },
	{ "2.0.0.127.white.test", "127.0.10.0" },
	{ "9.2.0.192.white.test", "127.0.5.1" },
	{ "7.2.0.192.white.test", "127.0.5.3" },
	{ "2.0.0.127.all.test", "127.0.0.2" },
	{ "1.0.0.127.all.test", "127.0.0.2" },
	{ "9.2.0.192.all.test", "127.0.0.2" },
	{ "2.0.0.127.parked.test", "192.0.2.80" },
	{ "1.0.0.127.parked.test", "192.0.2.80" },
	{ "2.0.0.127.barred.test", "127.255.255.254" },
	{ "9.2.0.192.empty.test", "127.0.0.2" },
	{ "2.0.0.127.late.test", "127.0.0.2" },
	{ "9.2.0.192.late.test", "127.255.255.255" },
	{ "2.0.0.127.dead.test", "!" }, { "1.0.0.127.dead.test", "!" },
	{ "9.2.0.192.dead.test", "!" },
	{ "test.dbl.test", "127.0.1.2" },
	{ "bad.example.dbl.test", "127.0.1.2" },
	{ "worse.example.dbl.test", "127.0.1.5" },
};

static int asked;

static const struct dns_answer *
from_zone(struct arena *arena, const char *name, enum dns_type type,
    void *argument)
{
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));
	struct dns_record *records = arena_alloc(arena, 4 * sizeof(*records));
	const char *value = NULL;
	char *list, *one, *rest;

	(void)argument;
	asked++;
	answer->records = records;
	for (size_t i = 0; i < sizeof(zone) / sizeof(zone[0]); i++)
		if (strcmp(zone[i].name, name) == 0)
			value = zone[i].value;
	if (value == NULL)
		return NULL;
	if (value[0] == '!') {
		answer->status = DNS_FAILED;
		answer->why = "time-out";
		return answer;
	}
	answer->status = DNS_FOUND;
	if (type == DNS_TXT) {
		records[0].text = "see\r\nhttp://x.test/\xff";
		records[0].text_len = strlen(records[0].text);
		answer->count = 1;
		return answer;
	}
	list = arena_strdup(arena, value);
	for (one = strtok_r(list, ",", &rest); one != NULL;
	    one = strtok_r(NULL, ",", &rest))
		inet_pton(AF_INET, one, &records[answer->count++].a);
	return answer;
}

static struct dnsbl *
open_lists(struct rig *rig, const char *text)
{
	rig->conf = rig_conf(text);
	dns_set_source(from_zone, NULL);
	return dnsbl_open(rig->conf);
}

static void
close_lists(struct rig *rig, struct dnsbl *dnsbl)
{
	dnsbl_close(&dnsbl);
	dns_set_source(NULL, NULL);
	conf_free(&rig->conf);
}

static const struct sum {
	const char *name, *address, *domains[3];
	int64_t score;
	const char *site, *why;
} sums[] = {
	{ "nothing", "192.0.2.1", { NULL }, 0, NULL, "" },
	{ "several sites, each once", "192.0.2.9", { NULL }, 5 - 2 + 1,
	    "zen.test", "192.0.2.9:white.test=127.0.5.1*-2 "
	    "192.0.2.9:zen.test=127.0.0.4*5 192.0.2.9:zen.test=127.0.0.10*1" },
	{ "a good one alone", "192.0.2.7", { NULL }, -2, NULL,
	    "192.0.2.7:white.test=127.0.5.3*-2" },
	{ "IPv6", "2001:db8::1", { NULL }, 5, "zen.test",
	    "2001:db8::1:zen.test=127.0.0.3*5" },
	{ "no address", "unknown", { NULL }, 0, NULL, "" },
	{ "a domain, by two names", NULL, { "BAD.example", "bad.example.",
	    "worse.example" }, 4, "dbl.test",
	    "bad.example:dbl.test=127.0.1.2*4" },
	{ "addresses are no domains", NULL, { "[192.0.2.9]", "192.0.2.9",
	    "localhost" }, 0, NULL, "" },
};

static void
run_sums(struct rig *rig)
{
	struct dnsbl *dnsbl = open_lists(rig, "dnsbl { sites = { "
	    "\"zen.test=127.0.0.[2..9]*5\", \"white.test=127.0.[0..15].[0..3]"
	    "*-2\", \"zen.test=127.0.0.[10;11]\" } domain_sites = "
	    "{ \"dbl.test*4\" } }");
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(sums) / sizeof(sums[0]); i++) {
		struct dnsbl_question question = {
			.address = sums[i].address };
		struct dnsbl_result result;

		for (int j = 0; j < 3; j++)
			dnsbl_add_domain(&question, arena,
			    sums[i].domains[j]);
		dnsbl_ask(dnsbl, arena, &question, &result);
		CASE_ASSERT(sums[i].name, result.score == sums[i].score);
		CASE_ASSERT(sums[i].name, strcmp(result.why, sums[i].why) ==
		    0);
		CASE_ASSERT(sums[i].name, sums[i].site == NULL ?
		    result.site == NULL : result.site != NULL &&
		    strcmp(result.site, sums[i].site) == 0);
	}
	arena_free(&arena);
	close_lists(rig, dnsbl);
}

static void adds_up(void) { rig_alone(run_sums); }

static int64_t
score_of(struct dnsbl *dnsbl, const char *address)
{
	const struct dnsbl_question question = { .address = address };
	struct arena *arena = arena_new(0);
	struct dnsbl_result result;

	dnsbl_ask(dnsbl, arena, &question, &result);
	arena_free(&arena);
	return result.score;
}

static void
run_tests_of_lists(struct rig *rig)
{
	struct dnsbl *dnsbl = open_lists(rig, "dnsbl { sites = { all.test, "
	    "parked.test, barred.test, empty.test, late.test, zen.test } "
	    "domain_sites = { none.test } }");
	struct buf out = BUF_INIT;

	CU_ASSERT_EQUAL(score_of(dnsbl, "192.0.2.9"), 1);
	dnsbl_show(dnsbl, &out);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "all.test addresses off: it lists everything\n"
	    "barred.test addresses off: it answers with the error "
	    "127.255.255.254\n"
	    "empty.test addresses off: it does not have its test entry\n"
	    "late.test addresses off: it answers with the error "
	    "127.255.255.255\n"
	    "parked.test addresses off: it answers 192.0.2.80, which is no "
	    "listing\n"
	    "zen.test addresses on\n"
	    "none.test domains off: it does not have its test entry\n");
	asked = 0;
	CU_ASSERT_EQUAL(score_of(dnsbl, "192.0.2.9"), 1);
	CU_ASSERT_EQUAL(asked, 1);
	CU_ASSERT_EQUAL(rig_log_count(rig, "late.test is switched off: "), 1);
	CU_ASSERT_EQUAL(rig_log_count(rig, "is switched off: "), 6);
	buf_reset(&out);
	dnsbl_show_of(dnsbl, "192.0.2.9", &out);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data,
	    "zen.test 127.0.0.4,127.0.0.10 weight 1\n"));
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "parked.test not listed (off"));
	buf_release(&out);
	close_lists(rig, dnsbl);
}

static void switches_off(void) { rig_alone(run_tests_of_lists); }

static void
run_tests6(struct rig *rig)
{
	struct dnsbl *dnsbl = open_lists(rig, "dnsbl { sites = { four.test, "
	    "most.test, zen.test } }");
	struct buf out = BUF_INIT;

	CU_ASSERT_EQUAL(score_of(dnsbl, "192.0.2.9"), 2);
	CU_ASSERT_EQUAL(score_of(dnsbl, "2001:db8::1"), 1);
	dnsbl_show(dnsbl, &out);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "four.test addresses on, but for IPv6: it does not have its test "
	    "entry\n"
	    "most.test addresses on, but for IPv6: it lists everything\n"
	    "zen.test addresses on\n");
	asked = 0;
	CU_ASSERT_EQUAL(score_of(dnsbl, "2001:db8::1"), 1);
	CU_ASSERT_EQUAL(asked, 1);
	buf_reset(&out);
	dnsbl_show_of(dnsbl, "2001:db8::1", &out);
	CU_ASSERT_PTR_NOT_NULL(strstr(out.data, "four.test 127.0.0.3 weight 1 "
	    "(off for IPv6: it does not have its test entry)\n"));
	buf_release(&out);
	close_lists(rig, dnsbl);
}

static void switches_off6(void) { rig_alone(run_tests6); }

static void
run_silence(struct rig *rig)
{
	struct dnsbl *dnsbl = open_lists(rig,
	    "dnsbl { sites = { dead.test } test_interval = 1s }");
	struct buf out = BUF_INIT;

	for (int i = 0; i < 4; i++)
		task_yield();		/* to its test */
	for (int i = 0; i < 10; i++)
		CU_ASSERT_EQUAL(score_of(dnsbl, "192.0.2.9"), 0);
	CU_ASSERT_EQUAL(rig_log_count(rig, "dead.test does not answer"), 1);
	CU_ASSERT_EQUAL(asked, 4 + 5);
	dnsbl_show(dnsbl, &out);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "dead.test addresses does not answer\n");
	buf_release(&out);
	close_lists(rig, dnsbl);
}

static void
falls_silent(void)
{
	asked = 0;
	rig_alone(run_silence);
}

static void
run_reply(struct rig *rig)
{
	struct dnsbl *dnsbl = open_lists(rig, "dnsbl { sites = { zen.test } "
	    "names = { \"zen.test = public.test\" } }");
	const struct dnsbl_question question = { .address = "192.0.2.9" };
	struct arena *arena = arena_new(0);
	struct dnsbl_result result;

	dnsbl_ask(dnsbl, arena, &question, &result);
	CU_ASSERT_STRING_EQUAL(dnsbl_reply(arena, &result),
	    "Service unavailable; Client host [192.0.2.9] blocked using "
	    "public.test; see??http://x.test/?");
	arena_free(&arena);
	close_lists(rig, dnsbl);
}

static void replies(void) { rig_alone(run_reply); }

/* Answers for the entry that must be, and for the one that must not be. */
static const struct { const char *name, *listed, *unlisted; enum answer want; }
    tests[] = {
	{ "passes", "127.0.0.2", NULL, ANSWER_YES },
	{ "empty", NULL, NULL, ANSWER_NO },
	{ "has everything", "127.0.0.2", "127.0.0.2", ANSWER_NO },
	{ "parked", "192.0.2.1", NULL, ANSWER_NO },
	{ "an error", "127.255.255.252", NULL, ANSWER_NO },
	{ "localhost", "127.0.0.1", NULL, ANSWER_NO },
	{ "silent", "!", "!", ANSWER_UNKNOWN },
	{ "half silent", "127.0.0.2", "!", ANSWER_UNKNOWN },
	{ "silent about what must be", "!", NULL, ANSWER_UNKNOWN },
	{ "silent, but has everything", "!", "127.0.0.2", ANSWER_NO },
	{ "silent, but empty", NULL, "!", ANSWER_NO },
};

static void
judges(void)
{
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		struct dns_record records[2] = { { .name = NULL } };
		struct dns_answer answers[2];
		const char *why;

		for (int j = 0; j < 2; j++) {
			const char *value = j == 0 ? tests[i].listed :
			    tests[i].unlisted;

			answers[j] = (struct dns_answer){
				.status = value == NULL ? DNS_NXDOMAIN :
				    *value == '!' ? DNS_FAILED : DNS_FOUND,
				.records = &records[j] };
			if (value != NULL && *value != '!')
				answers[j].count = (size_t)inet_pton(AF_INET,
				    value, &records[j].a);
		}
		CASE_ASSERT(tests[i].name, dnsbl_list_judge(arena,
		    &answers[0], &answers[1], &why) == tests[i].want);
		CASE_ASSERT(tests[i].name, tests[i].want == ANSWER_YES ||
		    why != NULL);
	}
	arena_free(&arena);
}

SUITE(dnsbl, { "sums", adds_up }, { "tests of lists", switches_off },
    { "tests of lists for IPv6", switches_off6 },
    { "lists that do not answer", falls_silent }, { "replies", replies },
    { "judgement of a test", judges })
