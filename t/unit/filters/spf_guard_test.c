#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/spf_guard.h"
#include "t/unit/unit.h"

static const struct {
	const char *record;
	bool valid;
} cases[] = {
	{ "v=spf1", true },
	{ "V=SPF1 -ALL", true },
	{ "v=spf1   ip4:192.0.2.1   -all  ", true },
	{ "v=spf1 a mx ptr a:x.org mx:x.org ptr:x.org exists:x.org", true },
	{ "v=spf1 a/24 mx/24//64 a//64 a:x.org/24 a:%{d}//64", true },
	{ "v=spf1 a/0 mx//0 ip4:0.0.0.0/0 ip6:::/0", true },
	{ "v=spf1 ip6:::1 ip6:2001:db8::/32 ip6:::ffff:192.0.2.1", true },
	{ "v=spf1 include:%{l1r+-}._spf.%{d2}", true },
	{ "v=spf1 exists:%{ir}.%{v}._spf.%{d} redirect=%{o}", true },
	{ "v=spf1 exp=why.%{d} foo=%{c}%{r}%{t}x a.b-c_d=1", true },
	{ "v=spf1 redirect=x.org all", true },
	{ "v=spf1 a=b", true },
	{ "v=spf1 exists:a%%b%_c%-d.org", true },
	{ "v=spf1 a:x.org.", true },
	{ "v=spf1 a:a/b.x.org", true },
	{ "v=spf1 exists:%{d255}", true },
	{ "v=spf1 a:1.x-1", true },
	{ "v=spf1 =b", false },
	{ "v=spf1 -", false },
	{ "v=spf1 -a=b", false },
	{ "v=spf1 moo", false },
	{ "v=spf1 all:x.org", false },
	{ "v=spf1 all/8", false },
	{ "v=spf1 a:", false },
	{ "v=spf1 a:/24", false },
	{ "v=spf1 mx:", false },
	{ "v=spf1 ptr:", false },
	{ "v=spf1 ptr/24", false },
	{ "v=spf1 include", false },
	{ "v=spf1 include:", false },
	{ "v=spf1 include:x.org/24", false },
	{ "v=spf1 exists:x.org/24", false },
	{ "v=spf1 ip4", false },
	{ "v=spf1 ip4:", false },
	{ "v=spf1 ip4:192.0.2", false },
	{ "v=spf1 ip4:192.0.2.256", false },
	{ "v=spf1 ip4:192.0.2.01", false },
	{ "v=spf1 ip4:192.0.2.1/", false },
	{ "v=spf1 ip4:192.0.2.1/33", false },
	{ "v=spf1 ip4:192.0.2.1/024", false },
	{ "v=spf1 ip4:192.0.2.1//24", false },
	{ "v=spf1 ip4:2001:db8::1", false },
	{ "v=spf1 ip6:192.0.2.1", false },
	{ "v=spf1 ip6:::1/129", false },
	{ "v=spf1 ip6:::1//64", false },
	{ "v=spf1 ip6::g::", false },
	{ "v=spf1 a/33", false },
	{ "v=spf1 a/08", false },
	{ "v=spf1 a/00", false },
	{ "v=spf1 a//129", false },
	{ "v=spf1 a/", false },
	{ "v=spf1 a//", false },
	{ "v=spf1 a///64", false },
	{ "v=spf1 a:x.org//", false },
	{ "v=spf1 a:localhost", false },
	{ "v=spf1 a:x.123", false },
	{ "v=spf1 a:x.-org", false },
	{ "v=spf1 a:x.org-", false },
	{ "v=spf1 a:x..", false },
	{ "v=spf1 a:%{d}x", false },
	{ "v=spf1 a:%{d}-.", false },
	{ "v=spf1 exists:%{d", false },
	{ "v=spf1 exists:%{}", false },
	{ "v=spf1 exists:%{z}", false },
	{ "v=spf1 exists:%{d0}", false },
	{ "v=spf1 exists:%{dr2}", false },
	{ "v=spf1 exists:%{d;}", false },
	{ "v=spf1 exists:%{d.r}", false },
	{ "v=spf1 exists:%{c}", false },
	{ "v=spf1 exists:%{r}.x.org", false },
	{ "v=spf1 exists:%{t}", false },
	{ "v=spf1 exists:%x.org", false },
	{ "v=spf1 exists:x.org%", false },
	{ "v=spf1 redirect=", false },
	{ "v=spf1 redirect=x", false },
	{ "v=spf1 redirect:x.org", false },
	{ "v=spf1 redirect=x.org redirect=x.org", false },
	{ "v=spf1 exp=", false },
	{ "v=spf1 exp=x.org exp=y.org", false },
	{ "v=spf1 exp:x.org", false },
	{ "v=spf1 foo=%{z}", false },
	{ "v=spf1 1foo=x", false },
	{ "v=spf1 \tall", false },
	{ "v=spf1 a:x\303\244.org", false },
	{ "v=spf1 foo=\001", false },
	{ "v=spf1 -all moo", false },
	{ "v=spf1 ++all", false },
	{ "v=spf1 ?mx:x.org", true },
};

static void
grammar(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		const char *why;
		bool valid = spf_record_parse(arena, cases[i].record,
		    strlen(cases[i].record), &why) != NULL;

		CASE_ASSERT(cases[i].record, valid == cases[i].valid);
		CASE_ASSERT(cases[i].record, valid == (why == NULL));
		arena_free(&arena);
	}
}

static void
versions(void)
{
	CU_ASSERT(spf_is_record("v=spf1", 6));
	CU_ASSERT(spf_is_record("v=spf1 ", 7));
	CU_ASSERT(!spf_is_record("v=spf10", 7));
	CU_ASSERT(!spf_is_record("v=spf1\t-all", 11));
	CU_ASSERT(!spf_is_record(" v=spf1", 7));
	CU_ASSERT(!spf_is_record("v=spf", 5));
	CU_ASSERT(!spf_is_record("", 0));
}

static bool
accepted(const struct buf *buf)
{
	struct arena *arena = arena_new(0);
	const char *why;
	bool valid = spf_record_parse(arena, buf->data, buf->len, &why) !=
	    NULL;

	arena_free(&arena);
	return valid;
}

/* The shapes that make libspf2 write beyond its buffers, and NULs. */
static void
limits(void)
{
	static const char *const starts[] = { "v=spf1 exists:",
		"v=spf1 redirect=", "v=spf1 exp=", "v=spf1 foo=",
		"v=spf1 a:", "v=spf1 include:" };
	struct buf buf = BUF_INIT;

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
		buf_reset(&buf);
		buf_puts(&buf, starts[i]);
		for (int k = 0; k < 127; k++)
			buf_puts(&buf, "%{d}");
		CASE_ASSERT(starts[i], !accepted(&buf));
		for (int k = 0; k < 7400; k++)
			buf_putc(&buf, 'A');
		CASE_ASSERT(starts[i], !accepted(&buf));
		buf_reset(&buf);
		buf_puts(&buf, starts[i]);
		for (int k = 0; k < 61; k++)
			buf_puts(&buf, "%{d}");
		CASE_ASSERT(starts[i], !accepted(&buf));
		buf.len -= 4;
		buf.data[buf.len] = '\0';
		CASE_ASSERT(starts[i], accepted(&buf));
	}
	buf_reset(&buf);
	buf_append(&buf, "v=spf1 a:x.org\0x -all", 21);
	CU_ASSERT(!accepted(&buf));
	buf_reset(&buf);
	buf_puts(&buf, "v=spf1");
	while (buf.len <= SPF_RECORD_MAX - 15)
		buf_puts(&buf, " ip4:192.0.2.1");
	CU_ASSERT(accepted(&buf));
	buf_puts(&buf, " ip4:192.0.2.1 ip4:192.0.2.1");
	CU_ASSERT(!accepted(&buf));
	buf_release(&buf);
}

static void
fields(void)
{
	static const char text[] = "v=spf1 ~a:%{D200R}/20//0 -ip4:192.0.2.0/24"
	    " ?exists:%{p}.x.org all mx redirect=x.org";
	struct arena *arena = arena_new(0);
	const struct spf_record *record;
	const char *why;

	record = spf_record_parse(arena, text, strlen(text), &why);
	CU_ASSERT_FATAL(record != NULL);
	CU_ASSERT_FATAL(record->count == 4);
	CU_ASSERT(record->redirect == NULL);
	CU_ASSERT(record->terms[0].qualifier == '~');
	CU_ASSERT_STRING_EQUAL(record->terms[0].domain, "%{DR}");
	CU_ASSERT(record->terms[0].prefix4 == 20);
	CU_ASSERT(record->terms[0].prefix6 == 0);
	CU_ASSERT(!record->terms[0].uses_p);
	CU_ASSERT(record->terms[1].mechanism == SPF_IP4);
	CU_ASSERT(record->terms[1].prefix4 == 24);
	CU_ASSERT(record->terms[2].uses_p);
	CU_ASSERT(record->terms[3].mechanism == SPF_ALL);
	arena_free(&arena);
}

SUITE(spf_guard, { "grammar", grammar }, { "versions", versions },
    { "limits", limits }, { "fields", fields })
