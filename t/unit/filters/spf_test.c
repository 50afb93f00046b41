#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/task.h"
#include "filters/spf.h"
#include "filters/spf_check.h"
#include "t/unit/filters/zone.h"
#include "t/unit/unit.h"

#define TXT(name, text)	{ name, DNS_TXT, text }
#define A(name, text)	{ name, DNS_A, text }
#define AAAA(name, text) { name, DNS_AAAA, text }
#define MX(name, text)	{ name, DNS_MX, text }
#define PTR(name, text)	{ name, DNS_PTR, text }
#define CLIENT_PTR	"1.2.0.192.in-addr.arpa"

static const struct zone_row rows[] = {
	TXT("pass.test", "v=spf1 ip4:192.0.2.1 -all"),
	TXT("fail.test", "v=spf1 -all"),
	TXT("soft.test", "v=spf1 ~all"),
	TXT("neutral.test", "v=spf1 ?all"),
	TXT("empty.test", "v=spf1"),
	TXT("other.test", "v=spf10 -all"), TXT("other.test", "hello"),
	TXT("two.test", "v=spf1 +all"), TXT("two.test", "V=spf1 -all"),
	TXT("mixed.test", "hello"), TXT("mixed.test", "v=spf1 +all"),
	TXT("broken.test", "!"),
	TXT("bad.test", "v=spf1 +all moo"),
	TXT("net.test", "v=spf1 ip4:192.0.2.0/24 -all"),
	TXT("net23.test", "v=spf1 ip4:192.0.3.0/23 -all"),
	TXT("net25.test", "v=spf1 ip4:192.0.2.128/25 -all"),
	TXT("zero.test", "v=spf1 ip4:10.0.0.0/0 -all"),
	TXT("six.test", "v=spf1 ip6:2001:db8::/32 -all"),
	TXT("six33.test", "v=spf1 ip6:2001:db8:8000::/33 -all"),
	TXT("sixzero.test", "v=spf1 ip6:::/0 -all"),
	TXT("a.test", "v=spf1 a -all"), A("a.test", "192.0.2.1"),
	AAAA("a.test", "2001:db8::1"),
	TXT("a24.test", "v=spf1 a:other-a.test/24//64 -all"),
	A("other-a.test", "192.0.2.77"), AAAA("other-a.test", "2001:db8::77"),
	TXT("a32.test", "v=spf1 a:other-a.test -all"),
	TXT("a0.test", "v=spf1 a:far.test/0 -all"), A("far.test", "10.9.8.7"),
	TXT("a0none.test", "v=spf1 a:none.test/0 -all"),
	TXT("afail.test", "v=spf1 a:broken-a.test -all"),
	A("broken-a.test", "!"),
	TXT("mx.test", "v=spf1 mx -all"), MX("mx.test", "10 m1.test"),
	MX("mx.test", "20 m2.test"), A("m1.test", "192.0.2.9"),
	A("m2.test", "192.0.2.1"), AAAA("m2.test", "2001:db8::1"),
	TXT("mx0.test", "v=spf1 mx:mx.test/0 -all"),
	TXT("nullmx.test", "v=spf1 mx -all"), MX("nullmx.test", "0 "),
	TXT("mxfail.test", "v=spf1 mx -all"),
	MX("mxfail.test", "1 broken-a.test"),
	TXT("mx11.test", "v=spf1 mx ?all"),
	MX("mx11.test", "1 n1.test"), MX("mx11.test", "1 n2.test"),
	MX("mx11.test", "1 n3.test"), MX("mx11.test", "1 n4.test"),
	MX("mx11.test", "1 n5.test"), MX("mx11.test", "1 n6.test"),
	MX("mx11.test", "1 n7.test"), MX("mx11.test", "1 n8.test"),
	MX("mx11.test", "1 n9.test"), MX("mx11.test", "1 n10.test"),
	MX("mx11.test", "1 m2.test"),
	TXT("ptr.test", "v=spf1 ptr -all"), PTR(CLIENT_PTR, "mail.ptr.test"),
	A("mail.ptr.test", "192.0.2.1"),
	TXT("ptrother.test", "v=spf1 ptr:PTR.test -all"),
	TXT("ptrno.test", "v=spf1 ptr -all"),
	PTR("3.2.0.192.in-addr.arpa", "!"),
	PTR("4.2.0.192.in-addr.arpa", "broken-a.test"),
	PTR("4.2.0.192.in-addr.arpa", "four.ptr.test"),
	A("four.ptr.test", "192.0.2.4"),
	PTR("5.2.0.192.in-addr.arpa", "mail.ptr.test"),
	TXT("p.test", "v=spf1 exists:%{p}.known.test -all"),
	A("mail.ptr.test.known.test", "127.0.0.2"),
	TXT("pun.test", "v=spf1 exists:%{p}.unknown.test -all"),
	A("unknown.unknown.test", "127.0.0.2"),
	TXT("exists.test", "v=spf1 exists:%{ir}.%{v}.list.test -all"),
	A("1.2.0.192.in-addr.list.test", "127.0.0.2"),
	TXT("local.test", "v=spf1 exists:%{l1r-}.%{o}.%{h}.u.test -all"),
	A("joe.local.test.helo.test.u.test", "127.0.0.2"),
	TXT("sender.test", "v=spf1 exists:%{S}.s.test -all"),
	A("joe-x%40sender.test.s.test", "127.0.0.2"),
	TXT("sixi.test", "v=spf1 exists:%{i}.i.test -all"),
	A("2.0.0.1.0.d.b.8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1"
	    ".i.test", "127.0.0.2"),
	TXT("xfail.test", "v=spf1 exists:broken-a.test ~all"),
	TXT("inc.test", "v=spf1 include:pass.test -all"),
	TXT("incfail.test", "v=spf1 include:fail.test ~all"),
	TXT("incnone.test", "v=spf1 include:none.test +all"),
	TXT("incbad.test", "v=spf1 include:bad.test +all"),
	TXT("inctemp.test", "v=spf1 include:broken.test +all"),
	TXT("incmacro.test", "v=spf1 include:%{l1r-}.test -all"),
	TXT("joe.test", "v=spf1 include:%{d2}.x.test ?all"),
	TXT("joe.test.x.test", "v=spf1 ip4:192.0.2.1"),
	TXT("incq.test", "v=spf1 ?include:pass.test -all"),
	TXT("loop.test", "v=spf1 include:loop.test -all"),
	TXT("red.test", "v=spf1 redirect=pass.test"),
	TXT("redfirst.test", "v=spf1 redirect=fail.test ip4:192.0.2.1"),
	TXT("redall.test", "v=spf1 redirect=pass.test -all"),
	TXT("rednone.test", "v=spf1 redirect=none.test"),
	TXT("redloop.test", "v=spf1 redirect=redloop.test"),
	TXT("redd.test", "v=spf1 redirect=a2.test"),
	TXT("a2.test", "v=spf1 a -all"), A("a2.test", "192.0.2.1"),
	TXT("ten.test", "v=spf1 a:m1.test a:m1.test a:m1.test a:m1.test"
	    " a:m1.test a:m1.test a:m1.test a:m1.test a:m1.test a:m2.test"),
	TXT("eleven.test", "v=spf1 a:m1.test a:m1.test a:m1.test a:m1.test"
	    " a:m1.test a:m1.test a:m1.test a:m1.test a:m1.test a:m1.test"
	    " a:m2.test"),
	TXT("split.test", "v=spf1 include:five.test include:five.test +all"),
	TXT("five.test", "v=spf1 a:m1.test a:m1.test a:m1.test a:m1.test"
	    " a:m1.test ?all"),
	TXT("void2.test", "v=spf1 a:v1.test mx:v2.test ip4:192.0.2.1"),
	TXT("void3.test", "v=spf1 a:v1.test mx:v2.test exists:v3.test +all"),
	TXT("voidinc.test", "v=spf1 a:v1.test include:void2.test +all"),
	TXT("wide.test", "v=spf1 +all"),
	TXT("expl.test", "v=spf1 -all exp=text.expl.test"),
	TXT("text.expl.test", "not %{l}"),
	TXT("exp.test", "v=spf1 -all exp=none.test"),
	TXT("slash.test", "v=spf1 exists:%{l}.test -all"),
	TXT("case.test", "V=SPF1 IP4:192.0.2.1 -ALL"),
	TXT("under_score.test", "v=spf1 +all"),
	TXT("xn--bcher-kva.test", "v=spf1 +all"),
	TXT("long.test", "v=spf1 exists:%{l}.%{l}.%{l}.long.test -all"),
	{ NULL, DNS_A, NULL }
};

static const struct {
	const char *sender, *client;
	enum spf_result want;
} cases[] = {
	{ "joe@pass.test", "192.0.2.1", SPF_PASS },
	{ "joe@pass.test", "192.0.2.2", SPF_FAIL },
	{ "joe@PASS.Test.", "192.0.2.1", SPF_PASS },
	{ "joe@pass.test", "::ffff:192.0.2.1", SPF_PASS },
	{ "joe@pass.test", "127.0.0.1", SPF_FAIL },
	{ "joe@pass.test", "::1", SPF_FAIL },
	{ "joe@fail.test", "192.0.2.1", SPF_FAIL },
	{ "joe@soft.test", "192.0.2.1", SPF_SOFTFAIL },
	{ "joe@neutral.test", "192.0.2.1", SPF_NEUTRAL },
	{ "joe@empty.test", "192.0.2.1", SPF_NEUTRAL },
	{ "joe@none.test", "192.0.2.1", SPF_NONE },
	{ "joe@other.test", "192.0.2.1", SPF_NONE },
	{ "joe@two.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@mixed.test", "192.0.2.1", SPF_PASS },
	{ "joe@broken.test", "192.0.2.1", SPF_TEMPERROR },
	{ "joe@bad.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@localhost", "192.0.2.1", SPF_NONE },
	{ "joe@[192.0.2.1]", "192.0.2.1", SPF_NONE },
	{ "joe@a..test", "192.0.2.1", SPF_NONE },
	{ "joe@evil.test(.pass.test", "192.0.2.1", SPF_NONE },
	{ "joe", "192.0.2.1", SPF_NONE },
	{ "joe@", "192.0.2.1", SPF_NONE },
	{ "joe@net.test", "192.0.2.99", SPF_PASS },
	{ "joe@net.test", "192.0.3.1", SPF_FAIL },
	{ "joe@net23.test", "192.0.2.1", SPF_PASS },
	{ "joe@net25.test", "192.0.2.1", SPF_FAIL },
	{ "joe@net25.test", "192.0.2.129", SPF_PASS },
	{ "joe@zero.test", "203.0.113.9", SPF_PASS },
	{ "joe@zero.test", "2001:db8::1", SPF_FAIL },
	{ "joe@six.test", "2001:db8::1", SPF_PASS },
	{ "joe@six.test", "2001:db9::1", SPF_FAIL },
	{ "joe@six33.test", "2001:db8::1", SPF_FAIL },
	{ "joe@six33.test", "2001:db8:8000::1", SPF_PASS },
	{ "joe@sixzero.test", "2001:db8::1", SPF_PASS },
	{ "joe@sixzero.test", "192.0.2.1", SPF_FAIL },
	{ "joe@a.test", "192.0.2.1", SPF_PASS },
	{ "joe@a.test", "192.0.2.2", SPF_FAIL },
	{ "joe@a.test", "2001:db8::1", SPF_PASS },
	{ "joe@a.test", "2001:db8::2", SPF_FAIL },
	{ "joe@a24.test", "192.0.2.1", SPF_PASS },
	{ "joe@a24.test", "192.0.3.1", SPF_FAIL },
	{ "joe@a24.test", "2001:db8::1", SPF_PASS },
	{ "joe@a24.test", "2001:db8:0:1::1", SPF_FAIL },
	{ "joe@a32.test", "192.0.2.1", SPF_FAIL },
	{ "joe@a0.test", "192.0.2.1", SPF_PASS },
	{ "joe@a0.test", "2001:db8::1", SPF_FAIL },
	{ "joe@a0none.test", "192.0.2.1", SPF_FAIL },
	{ "joe@afail.test", "192.0.2.1", SPF_TEMPERROR },
	{ "joe@mx.test", "192.0.2.1", SPF_PASS },
	{ "joe@mx.test", "192.0.2.9", SPF_PASS },
	{ "joe@mx.test", "192.0.2.2", SPF_FAIL },
	{ "joe@mx.test", "2001:db8::1", SPF_PASS },
	{ "joe@mx0.test", "203.0.113.9", SPF_PASS },
	{ "joe@nullmx.test", "192.0.2.1", SPF_FAIL },
	{ "joe@mxfail.test", "192.0.2.1", SPF_TEMPERROR },
	{ "joe@mx11.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@ptr.test", "192.0.2.1", SPF_PASS },
	{ "joe@ptrother.test", "192.0.2.1", SPF_PASS },
	{ "joe@ptrno.test", "192.0.2.1", SPF_FAIL },
	{ "joe@ptr.test", "192.0.2.2", SPF_FAIL },
	{ "a failing PTR@ptr.test", "192.0.2.3", SPF_FAIL },
	{ "a failing name@ptr.test", "192.0.2.4", SPF_PASS },
	{ "a false name@ptr.test", "192.0.2.5", SPF_FAIL },
	{ "joe@p.test", "192.0.2.1", SPF_PASS },
	{ "joe@pun.test", "192.0.2.5", SPF_PASS },
	{ "joe@pun.test", "192.0.2.1", SPF_FAIL },
	{ "joe@exists.test", "192.0.2.1", SPF_PASS },
	{ "joe@exists.test", "192.0.2.2", SPF_FAIL },
	{ "joe-x@local.test", "192.0.2.1", SPF_PASS },
	{ "ann-x@local.test", "192.0.2.1", SPF_FAIL },
	{ "joe-x@sender.test", "192.0.2.1", SPF_PASS },
	{ "joe@sixi.test", "2001:db8::1", SPF_PASS },
	{ "joe@xfail.test", "192.0.2.1", SPF_TEMPERROR },
	{ "joe@inc.test", "192.0.2.1", SPF_PASS },
	{ "joe@inc.test", "192.0.2.2", SPF_FAIL },
	{ "joe@incfail.test", "192.0.2.1", SPF_SOFTFAIL },
	{ "joe@incnone.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@incbad.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@inctemp.test", "192.0.2.1", SPF_TEMPERROR },
	{ "joe@incmacro.test", "192.0.2.1", SPF_PASS },
	{ "joe@incq.test", "192.0.2.1", SPF_NEUTRAL },
	{ "joe@loop.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@red.test", "192.0.2.1", SPF_PASS },
	{ "joe@red.test", "192.0.2.2", SPF_FAIL },
	{ "joe@redfirst.test", "192.0.2.1", SPF_PASS },
	{ "joe@redfirst.test", "192.0.2.2", SPF_FAIL },
	{ "joe@redall.test", "192.0.2.1", SPF_FAIL },
	{ "joe@rednone.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@redloop.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@redd.test", "192.0.2.1", SPF_PASS },
	{ "joe@ten.test", "192.0.2.1", SPF_PASS },
	{ "joe@eleven.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@split.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@void2.test", "192.0.2.1", SPF_PASS },
	{ "joe@void3.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@voidinc.test", "192.0.2.1", SPF_PERMERROR },
	{ "joe@exp.test", "192.0.2.1", SPF_FAIL },
	{ "joe@case.test", "192.0.2.1", SPF_PASS },
	{ "joe@under_score.test", "192.0.2.1", SPF_PASS },
	{ "joe@b\303\274cher.test", "192.0.2.1", SPF_PASS },
	{ "a/b@slash.test", "192.0.2.1", SPF_FAIL },
	{ "a..b@slash.test", "192.0.2.1", SPF_FAIL },
	{ "\"a b\\\"@x\"@slash.test", "192.0.2.1", SPF_FAIL },
	{ "%{d}%@slash.test", "192.0.2.1", SPF_FAIL },
};

static struct spf_answer
check(struct arena *arena, const struct zone_row *zone_rows,
    const char *sender, const char *client, unsigned *asked)
{
	struct zone zone = { zone_rows, 0 };
	struct sockaddr_in four = { .sin_family = AF_INET };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct spf_question question = { .sender = sender,
		.helo = "helo.test", .receiver = "mx.test", .deadline = DEADLINE_NEVER };
	struct spf_answer answer;

	question.client = (struct sockaddr *)&four;
	if (inet_pton(AF_INET, client, &four.sin_addr) != 1) {
		CU_ASSERT(inet_pton(AF_INET6, client, &six.sin6_addr) == 1);
		question.client = (struct sockaddr *)&six;
	}
	spf_check_setup();
	dns_set_source(zone_answer, &zone);
	answer = spf_check(arena, &question);
	dns_set_source(NULL, NULL);
	if (asked != NULL)
		*asked = zone.asked;
	return answer;
}

static void
results(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct spf_answer answer = check(arena, rows, cases[i].sender,
		    cases[i].client, NULL);
		char name[300];

		snprintf(name, sizeof(name), "%s from %s: %s (%s)",
		    cases[i].sender, cases[i].client,
		    spf_result_name(answer.result), answer.why);
		CASE_ASSERT(name, answer.result == cases[i].want);
		CASE_ASSERT(name, answer.why != NULL);
		arena_free(&arena);
	}
}

static enum spf_result
check_record(const char *record, const char *sender, unsigned *asked)
{
	const struct zone_row one[] = { { "x.test", DNS_TXT, record },
		{ NULL, DNS_A, NULL } };
	struct arena *arena = arena_new(0);
	enum spf_result result = check(arena, one, sender, "192.0.2.1",
	    asked).result;

	arena_free(&arena);
	return result;
}

/* The library by itself would lose all behind octet 511 without a word. */
static void
long_records(void)
{
	struct buf buf = BUF_INIT;

	buf_puts(&buf, "v=spf1");
	for (int i = 0; i < 200; i++)
		buf_printf(&buf, " ip4:10.0.%d.1", i);
	buf_puts(&buf, " -all");
	CU_ASSERT(check_record(buf.data, "joe@x.test", NULL) == SPF_FAIL);
	buf.len -= 5;
	buf_puts(&buf, " ip4:192.0.2.1 -all");
	CU_ASSERT(check_record(buf.data, "joe@x.test", NULL) == SPF_PASS);
	buf_reset(&buf);
	buf_puts(&buf, "v=spf1");
	for (int i = 0; i < 100; i++)
		buf_printf(&buf, " ip6:2001:db8::%d", i);
	buf_puts(&buf, " ~all");
	CU_ASSERT(check_record(buf.data, "joe@x.test", NULL) == SPF_SOFTFAIL);
	while (buf.len < 10000)
		buf_puts(&buf, " ip6:2001:db8::1");
	CU_ASSERT(check_record(buf.data, "joe@x.test", NULL) ==
	    SPF_PERMERROR);
	buf_release(&buf);
}

static void
hostile_records(void)
{
	static const char *const starts[] = { "exists:", "a:", "include:",
		"redirect=", "exp=", "foo=" };
	static const char *const units[] = { "%{d}", "%{d255r}", "%{L}%20",
		"%{S64r+-/,_=.}", "%%", "x" };
	struct buf buf = BUF_INIT;

	for (size_t i = 0; i < 6; i++)
		for (size_t k = 0; k < 6; k++)
			for (int n = 1; n < 2000; n = n * 2 + 1) {
				buf_reset(&buf);
				buf_printf(&buf, "v=spf1 %s", starts[i]);
				for (int j = 0; j < n; j++)
					buf_puts(&buf, units[k]);
				buf_puts(&buf, ".org -all");
				check_record(buf.data, "joe@x.test", NULL);
			}
	buf_reset(&buf);
	buf_puts(&buf, "v=spf1 exists:");
	for (int j = 0; j < 127; j++)
		buf_puts(&buf, "%{d}");
	for (int j = 0; j < 7000; j++)
		buf_putc(&buf, 'A');
	CU_ASSERT(check_record(buf.data, "joe@x.test", NULL) ==
	    SPF_PERMERROR);
	buf_release(&buf);
}

static void
hostile_senders(void)
{
	static const char *const units[] = { "a", "a.", "-", "\"", "%", "\\",
		"\303\274", " " };
	static const char *const records[] = {
		"v=spf1 exists:%{l}.%{L}.%{s}.x.org -all",
		"v=spf1 exists:%{lr-}%{L3}%{Sr}.x.org -all",
		"v=spf1 include:%{l}%{l}%{l}%{l}.org -all" };
	struct buf buf = BUF_INIT;

	for (size_t r = 0; r < 3; r++)
		for (size_t k = 0; k < sizeof(units) / sizeof(units[0]); k++) {
			enum spf_result result;

			buf_reset(&buf);
			while (buf.len < 10240)
				buf_puts(&buf, units[k]);
			buf_puts(&buf, "@x.test");
			result = check_record(records[r], buf.data, NULL);
			CASE_ASSERT(units[k], result == SPF_FAIL ||
			    result == SPF_PERMERROR);
		}
	buf_release(&buf);
}

/* Nine includes, each with nine, and so on: 7,381 questions without limits. */
static void
bounds_questions(void)
{
	unsigned asked;

	CU_ASSERT(check_record("v=spf1 include:x.test include:x.test"
	    " include:x.test include:x.test include:x.test", "joe@x.test",
	    &asked) == SPF_PERMERROR);
	CU_ASSERT(asked <= 11);
}

/*
 * The most that RFC 7208, 4.6.4, lets a record cost: ten terms, each with an MX
 * answer of ten names; beside them the record itself, the client's names for
 * the p macro, and the explanation.
 */
static void
costs_no_more_than_it_may(void)
{
	struct zone_row zone_rows[40] = { TXT("x.test", "v=spf1 mx:%{p}"
	    " mx:%{p} mx:%{p} mx:%{p} mx:%{p} mx:%{p} mx:%{p} mx:%{p} mx:%{p}"
	    " mx:%{p} -all exp=%{p}"), TXT("n.test", "%{p} %{p} %{p}"),
	    A("n.test", "192.0.2.1") };
	struct arena *arena = arena_new(0);
	struct spf_answer answer;
	size_t n = 3;
	unsigned asked;

	zone_rows[n++] = (struct zone_row)PTR(CLIENT_PTR, "n.test");
	for (size_t i = 0; i < 9; i++)
		zone_rows[n++] = (struct zone_row)PTR(CLIENT_PTR,
		    arena_printf(arena, "p%zu.test", i));
	for (size_t i = 0; i < 10; i++)
		zone_rows[n++] = (struct zone_row)MX("n.test",
		    arena_printf(arena, "1 m%zu.test", i));
	for (size_t i = 0; i < 10; i++)
		zone_rows[n++] = (struct zone_row)A(arena_printf(arena,
		    "m%zu.test", i), "192.0.2.9");
	answer = check(arena, zone_rows, "joe@x.test", "192.0.2.1", &asked);
	CU_ASSERT_EQUAL(answer.result, SPF_FAIL);
	CU_ASSERT_STRING_EQUAL(answer.explanation, "n.test n.test n.test");
	CU_ASSERT_EQUAL(asked, 1 + 10 * 11 + 11 + 1);
	arena_free(&arena);
}

/* RFC 7208, 6.2 */
static void
explanations(void)
{
	static const struct zone_row zone_rows[] = {
		TXT("x.test", "v=spf1 -all exp=e.x.test"),
		TXT("e.x.test", "%{i}%_is not of %{d}, %{c} %{r} %{L} 100%%"),
		TXT("in.test", "v=spf1 include:x.test -all"),
		TXT("inexp.test", "v=spf1 include:x.test -all exp=own.test"),
		TXT("own.test", "own"),
		TXT("red.test", "v=spf1 redirect=x.test exp=own.test"),
		TXT("rednone.test", "v=spf1 redirect=bare.test exp=own.test"),
		TXT("bare.test", "v=spf1 -all"),
		TXT("soft.test", "v=spf1 ~all exp=own.test"),
		TXT("two.test", "v=spf1 -all exp=twice.test"),
		TXT("twice.test", "one"), TXT("twice.test", "two"),
		TXT("none.test", "v=spf1 -all exp=nothing.test"),
		TXT("fails.test", "v=spf1 -all exp=broken.test"),
		TXT("broken.test", "!"),
		TXT("bad.test", "v=spf1 -all exp=bad.own.test"),
		TXT("bad.own.test", "%{x}"),
		TXT("crlf.test", "v=spf1 -all exp=crlf.own.test"),
		TXT("crlf.own.test", "a\r\n250 b"),
		TXT("odd.test", "v=spf1 -all exp=odd.own.test"),
		TXT("odd.own.test", "%{l}"),
		{ NULL, DNS_A, NULL }
	};
	static const struct {
		const char *sender, *by, *want;
	} senders[] = {
		{ "j/x@x.test", "x.test", "192.0.2.1 is not of x.test, "
		    "192.0.2.1 mx.test j%2Fx 100%" },
		{ "joe@in.test", NULL, NULL },
		{ "joe@inexp.test", "inexp.test", "own" },
		{ "joe@red.test", "x.test", "192.0.2.1 is not of x.test, "
		    "192.0.2.1 mx.test joe 100%" },
		{ "joe@rednone.test", NULL, NULL },
		{ "joe@soft.test", NULL, NULL },
		{ "joe@two.test", NULL, NULL },
		{ "joe@none.test", NULL, NULL },
		{ "joe@fails.test", NULL, NULL },
		{ "joe@bad.test", NULL, NULL },
		{ "joe@crlf.test", NULL, NULL },
		{ "a\r\nb\303\274@odd.test", "odd.test", "a??b??" },
	};
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(senders) / sizeof(senders[0]); i++) {
		struct spf_answer answer = check(arena, zone_rows,
		    senders[i].sender, "192.0.2.1", NULL);
		const char *got = answer.explanation != NULL ?
		    answer.explanation : "", *by = answer.explainer != NULL ?
		    answer.explainer : "";

		CASE_ASSERT(senders[i].sender, strcmp(got,
		    senders[i].want != NULL ? senders[i].want : "") == 0);
		CASE_ASSERT(senders[i].sender, strcmp(by,
		    senders[i].by != NULL ? senders[i].by : "") == 0);
	}
	arena_free(&arena);
}

static void
keeps_the_right_end_of_names(void)
{
	char sender[200], want[400];
	struct zone_row zone_rows[] = {
		TXT("long.test", "v=spf1 exists:%{l}.%{l}.%{l}.long.test -all"),
		A(want, "127.0.0.2"), { NULL, DNS_A, NULL } };
	struct arena *arena = arena_new(0);
	char label[61];

	/* Four labels of 60 fit beside ".long.test", the others do not. */
	memset(label, 'a', 60);
	label[60] = '\0';
	snprintf(sender, sizeof(sender), "%s.%s@long.test", label, label);
	snprintf(want, sizeof(want), "%s.%s.%s.long.test", label, label,
	    label);
	CU_ASSERT(check(arena, zone_rows, sender, "192.0.2.1", NULL).result ==
	    SPF_FAIL);
	snprintf(want, sizeof(want), "%s.%s.%s.%s.long.test", label, label,
	    label, label);
	CU_ASSERT(strlen(want) == 253);
	CU_ASSERT(check(arena, zone_rows, sender, "192.0.2.1", NULL).result ==
	    SPF_PASS);
	arena_free(&arena);
}

static void
tells_of_open_records(void)
{
	struct arena *arena = arena_new(0);

	CU_ASSERT_STRING_EQUAL(check(arena, rows, "joe@wide.test",
	    "192.0.2.1", NULL).why,
	    "+all in the record of wide.test matches every client");
	CU_ASSERT_STRING_EQUAL(check(arena, rows, "joe@bad.test",
	    "192.0.2.1", NULL).why,
	    "record of bad.test: unknown mechanism");
	arena_free(&arena);
}

/* --- the filter --- */

struct spf_filter_case {
	const char *name, *sender, *helo;
	bool trusted;
	/* "result type.name=value report" of each finding */
	const char *want[2];
};

static const struct spf_filter_case filter_cases[] = {
	{ "both", "joe@pass.test", "pass.test", false, {
	    "pass mailfrom=joe@pass.test 1", "pass helo=pass.test 1" } },
	{ "HELO says nothing", "joe@soft.test", "none.test", false, {
	    "softfail mailfrom=joe@soft.test 1", "none helo=none.test 0" } },
	{ "null sender", "", "fail.test", false, {
	    "fail helo=fail.test 1", NULL } },
	{ "null sender, literal", "", "[192.0.2.1]", false, {
	    "none helo=[192.0.2.1] 1", NULL } },
	{ "no HELO", "joe@pass.test", NULL, false, {
	    "pass mailfrom=joe@pass.test 1", NULL } },
	{ "trusted", "joe@fail.test", "fail.test", true, { NULL, NULL } },
};

/* A message through the filter, in a task. */
struct passage {
	const struct spf_filter_case *c;
	int64_t refuse;			/* value of fail, permerror, temperror */
	bool received, abort;
	struct mail *mail;
	struct filter_run run;
	struct verdict verdict;		/* at DATA */
};

static void
fill(char *values, const struct passage *passage)
{
	const struct section_kind *kind = filter_spf.options;

	CU_ASSERT_FATAL(kind->size <= 256);
	for (size_t i = 0; i < kind->row_count; i++) {
		const char *name = kind->rows[i].name;
		char *value = values + kind->rows[i].offset;

		if (strcmp(name, "check_helo") == 0)
			*value = 1;
		else if (strcmp(name, "received_spf") == 0)
			*value = passage->received;
		else if (strcmp(name, "timeout") == 0)
			*(int64_t *)(void *)value = 20000;
		else if (kind->rows[i].type == OPTION_choice)
			*(int *)(void *)value = (int)passage->refuse;
	}
}

static void
go(void *argument)
{
	struct passage *passage = argument;
	struct filter_run *run = &passage->run;
	struct conf_section section = { .kind = filter_spf.options };
	_Alignas(8) char values[256] = { 0 };
	const char *why = NULL;

	fill(values, passage);
	section.values = values;
	run->instance = filter_spf.setup(NULL, &section, &why);
	CU_ASSERT_FATAL(run->instance != NULL);
	CU_ASSERT(filter_spf.mail(run).action == ACTION_CONTINUE);
	passage->verdict = filter_spf.data(run);
	if (passage->abort || passage->verdict.action != ACTION_CONTINUE)
		filter_spf.abort(run);
	else
		filter_spf.eom(run);
	CU_ASSERT_PTR_NULL(run->mail_state);
	filter_spf.abort(run);		/* twice is fine */
	task_stop();
}

static void
pass_through(struct passage *passage, struct session *session)
{
	struct sockaddr_in *client = (void *)&session->client;
	struct task *task;

	client->sin_family = AF_INET;
	inet_pton(AF_INET, "192.0.2.1", &client->sin_addr);
	session->hostname = "mx.test";
	session->client_address = "192.0.2.1";
	session->helo = passage->c->helo;
	session->trusted = passage->c->trusted;
	passage->mail = mail_new(session, 1 << 20, "/tmp");
	passage->mail->envelope.sender = passage->c->sender;
	passage->run = (struct filter_run){ .filter = &filter_spf,
	    .name = "spf", .session = session, .mail = passage->mail };
	task = task_start("test", go, passage);
	task_loop();
	CU_ASSERT_EQUAL(task_join(&task, 0), 0);
}

static void
filter_findings(void)
{
	struct zone zone = { rows, 0 };

	task_init();
	dns_set_source(zone_answer, &zone);
	for (size_t i = 0; i < sizeof(filter_cases) / sizeof(filter_cases[0]);
	    i++) {
		const struct spf_filter_case *c = &filter_cases[i];
		struct session session = { .arena = NULL };
		struct passage passage = { .c = c };
		const struct finding *finding;
		char text[200];

		pass_through(&passage, &session);
		CASE_ASSERT(c->name, passage.verdict.action ==
		    ACTION_CONTINUE);
		finding = passage.run.findings;
		for (size_t k = 0; k < 2 && c->want[k] != NULL; k++) {
			CU_ASSERT_FATAL(finding != NULL);
			snprintf(text, sizeof(text), "%s %s=%s %d",
			    finding->result, finding->properties->name,
			    finding->properties->value, finding->report);
			CASE_ASSERT(c->name, strcmp(text, c->want[k]) == 0);
			finding = finding->next;
		}
		CASE_ASSERT(c->name, finding == NULL);
		CASE_ASSERT(c->name, passage.mail->headers.count == 0);
		mail_free(&passage.mail);
	}
	dns_set_source(NULL, NULL);
	task_shutdown();
}

static void
filter_verdicts(void)
{
	static const struct {
		struct spf_filter_case c;
		int code;
		const char *enhanced, *text;	/* text: a part of it */
	} verdicts[] = {
		{ { "fail", "joe@fail.test", "pass.test", false, { NULL } },
		    550, "5.7.23", "may not use the sender's domain" },
		{ { "explained", "joe@expl.test", "pass.test", false,
		    { NULL } }, 550, "5.7.23",
		    ", explained by expl.test: not joe" },
		{ { "HELO fails", "joe@pass.test", "fail.test", false,
		    { NULL } }, 550, "5.7.23", "" },
		{ { "softfail", "joe@soft.test", "soft.test", false,
		    { NULL } }, 0, NULL, NULL },
		{ { "none", "joe@none.test", "none.test", false, { NULL } },
		    0, NULL, NULL },
		{ { "permerror", "joe@bad.test", "pass.test", false,
		    { NULL } }, 550, "5.7.24", "" },
		{ { "temperror", "joe@broken.test", "pass.test", false,
		    { NULL } }, 451, "4.7.24", "" },
		{ { "HELO's is not the sender's", "joe@pass.test", "bad.test",
		    false, { NULL } }, 0, NULL, NULL },
		{ { "HELO's, null sender", "", "bad.test", false, { NULL } },
		    550, "5.7.24", "" },
		{ { "trusted", "joe@fail.test", "fail.test", true, { NULL } },
		    0, NULL, NULL },
	};
	struct zone zone = { rows, 0 };

	task_init();
	dns_set_source(zone_answer, &zone);
	for (size_t i = 0; i < sizeof(verdicts) / sizeof(verdicts[0]); i++) {
		const char *name = verdicts[i].c.name;
		struct session session = { .arena = NULL };
		struct passage passage = { .c = &verdicts[i].c, .refuse = 1 };

		pass_through(&passage, &session);
		CASE_ASSERT(name, passage.verdict.code == verdicts[i].code);
		if (verdicts[i].code != 0 && passage.verdict.code != 0) {
			CASE_ASSERT(name, strcmp(passage.verdict.enhanced,
			    verdicts[i].enhanced) == 0);
			CASE_ASSERT(name, strstr(passage.verdict.text,
			    verdicts[i].text) != NULL);
		}
		mail_free(&passage.mail);
	}
	dns_set_source(NULL, NULL);
	task_shutdown();
}

static void
adds_received_spf(void)
{
	struct zone zone = { rows, 0 };
	struct session session = { .arena = NULL };
	struct passage passage = { .c = &filter_cases[0], .received = true };
	const struct headers *headers;

	task_init();
	dns_set_source(zone_answer, &zone);
	pass_through(&passage, &session);
	headers = &passage.mail->headers;
	CU_ASSERT_EQUAL_FATAL(headers->count, 2);
	CU_ASSERT_STRING_EQUAL(header_value(headers->first,
	    passage.mail->arena, true), "pass (mx.test: +ip4 in the record of "
	    "pass.test matches)\treceiver=\"mx.test\";\t"
	    "client-ip=\"192.0.2.1\";\tidentity=\"mailfrom\";\t"
	    "envelope-from=\"joe@pass.test\";\thelo=\"pass.test\"");
	CU_ASSERT_PTR_NOT_NULL(strstr(header_value(headers->last,
	    passage.mail->arena, true), "identity=\"helo\""));
	mail_free(&passage.mail);

	passage.abort = true;
	pass_through(&passage, &session);
	CU_ASSERT_PTR_NULL(passage.run.findings);
	mail_free(&passage.mail);
	dns_set_source(NULL, NULL);
	task_shutdown();
}

SUITE(spf, { "results", results }, { "long records", long_records },
    { "hostile records", hostile_records },
    { "hostile senders", hostile_senders },
    { "bounds questions", bounds_questions },
    { "keeps the right end of names", keeps_the_right_end_of_names },
    { "tells of open records", tells_of_open_records },
    { "costs no more than it may", costs_no_more_than_it_may },
    { "explanations", explanations },
    { "filter findings", filter_findings },
    { "filter verdicts", filter_verdicts },
    { "adds Received-SPF", adds_received_spf })
