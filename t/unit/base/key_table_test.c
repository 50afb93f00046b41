#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/key_table.h"
#include "t/unit/unit.h"

static const struct key_table *
parse(struct arena *arena, const char *text, struct buf *errors)
{
	return key_table_parse(arena, "/etc/keys", text, strlen(text), errors);
}

static void
tells_what_is_wrong(void)
{
	static const struct {
		const char *name, *text, *want;
	} bad[] = {
		{ "empty", "", "/etc/keys:1: there is no key in it\n" },
		{ "comments", "# a b c d\n\n  # x\n",
		    "/etc/keys:1: there is no key in it\n" },
		{ "three words", "\na.org a.org s\n", "/etc/keys:2: \"a.org\": "
		    "pattern, domain, selector and key file are wanted\n" },
		{ "a comment is no word", "a.org a.org s # k\n", "/etc/keys:1: "
		    "\"a.org\": pattern, domain, selector and key file are "
		    "wanted\n" },
		{ "too many", "a.org a.org s k from 2026-01-01 until "
		    "2026-01-02 x\n", "/etc/keys:1: \"x\": too many words\n" },
		{ "pattern", "a_b.org a.org s k\n", "/etc/keys:1: \"a_b.org\": "
		    "no pattern (example.org, .example.org, a@example.org, "
		    "user:name)\n" },
		{ "no local part", "@a.org a.org s k\n", "/etc/keys:1: "
		    "\"@a.org\": no pattern (example.org, .example.org, "
		    "a@example.org, user:name)\n" },
		{ "no user", "user: a.org s k\n", "/etc/keys:1: \"user:\": no "
		    "pattern (example.org, .example.org, a@example.org, "
		    "user:name)\n" },
		{ "domain", "a.org a..org s k\n",
		    "/etc/keys:1: \"a..org\": no domain\n" },
		{ "selector", "a.org a.org s/1 k\n",
		    "/etc/keys:1: \"s/1\": no selector\n" },
		{ "month", "a.org a.org s k from 2026-13-01\n",
		    "/etc/keys:1: \"2026-13-01\": no date (2026-12-31)\n" },
		{ "day", "a.org a.org s k until 2027-02-29\n",
		    "/etc/keys:1: \"2027-02-29\": no date (2026-12-31)\n" },
		{ "short", "a.org a.org s k until 2027-2-9\n",
		    "/etc/keys:1: \"2027-2-9\": no date (2026-12-31)\n" },
		{ "sign", "a.org a.org s k until 2027--2-09\n",
		    "/etc/keys:1: \"2027--2-09\": no date (2026-12-31)\n" },
		{ "no date", "a.org a.org s k from\n",
		    "/etc/keys:1: \"from\": no date (2026-12-31)\n" },
		{ "word", "a.org a.org s k 2026-01-01\n", "/etc/keys:1: "
		    "\"2026-01-01\": from DATE or until DATE is wanted, each "
		    "once\n" },
		{ "twice", "a.org a.org s k from 2026-01-01 from 2026-01-01\n",
		    "/etc/keys:1: \"from\": from DATE or until DATE is "
		    "wanted, each once\n" },
		{ "order", "a.org a.org s k from 2026-01-02 until "
		    "2026-01-01\n", "/etc/keys:1: \"s\": the key ends before "
		    "it begins\n" },
		{ "another key", "a.org a.org s k\nb.org b.org s k\n"
		    ".a.org A.org S l\n", "/etc/keys:3: \"s\": the selector "
		    "has another key in line 1\n" },
		{ "same", "a.org a.org s k\n.a.org a.org s k\n"
		    "A.ORG a.org s ./k\nA.ORG a.org s k\n", "/etc/keys:3: "
		    "\"s\": the selector has another key in line 1\n"
		    "/etc/keys:4: \"s\": the selector has another key in line "
		    "3\n" },
		{ "stands twice", "a.org a.org s k\nA.ORG a.org s /etc/k\n",
		    "/etc/keys:2: \"s\": the same key stands in line 1\n" },
		{ "two errors", "x\na.org a.org s k\ny\n", "/etc/keys:1: "
		    "\"x\": pattern, domain, selector and key file are wanted\n"
		    "/etc/keys:3: \"y\": pattern, domain, selector and key "
		    "file are wanted\n" },
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct arena *arena = arena_new(0);
		struct buf errors = BUF_INIT;

		CASE_ASSERT(bad[i].name,
		    parse(arena, bad[i].text, &errors) == NULL);
		CASE_ASSERT(bad[i].name, errors.data != NULL &&
		    strcmp(errors.data, bad[i].want) == 0);
		buf_release(&errors);
		arena_free(&arena);
	}
}

static void
takes_no_nul(void)
{
	struct arena *arena = arena_new(0);
	struct buf errors = BUF_INIT;

	CU_ASSERT_PTR_NULL(key_table_parse(arena, "t", "a\0b c d e\n", 10,
	    &errors));
	CU_ASSERT_STRING_EQUAL(errors.data, "t:1: \"\": there is a NUL byte\n");
	buf_release(&errors);
	arena_free(&arena);
}

static void
finds_lines(void)
{
	struct arena *arena = arena_new(0);
	struct buf errors = BUF_INIT;
	const struct key_table *table = parse(arena,
	    "# two keys\r\nuser:Ann\tb.org n1 /k/n # hers\r\n"
	    "A.org a.org S2 keys/two from 2027-01-01\n"
	    "a.org A.org e1 one until 2028-02-29 from 2027-01-01\n"
	    ".a.org a.org s2 keys/two\nnews@A.org news.a.org x one",
	    &errors);
	const struct key_line *line;
	size_t count;

	CU_ASSERT_PTR_NOT_NULL_FATAL(table);
	CU_ASSERT_EQUAL(table->count, 5);
	CU_ASSERT_EQUAL(table->file_count, 3);
	line = key_table_find(table, "a.org", &count);
	CU_ASSERT_EQUAL_FATAL(count, 2);
	CU_ASSERT_STRING_EQUAL(line[0].selector, "s2");
	CU_ASSERT_STRING_EQUAL(line[1].selector, "e1");
	CU_ASSERT_STRING_EQUAL(line[1].domain, "a.org");
	CU_ASSERT_EQUAL(line[0].from, 20270101);
	CU_ASSERT(line[0].until > 99991231);
	CU_ASSERT_EQUAL(line[1].from, 20270101);
	CU_ASSERT_EQUAL(line[1].until, 20280229);
	CU_ASSERT_STRING_EQUAL(table->files[line[0].file].path,
	    "/etc/keys/two");
	CU_ASSERT_EQUAL(table->files[line[0].file].line, 3);
	CU_ASSERT_STRING_EQUAL(table->files[line[1].file].path, "/etc/one");
	line = key_table_find(table, "user:ann", &count);
	CU_ASSERT_EQUAL_FATAL(count, 1);
	CU_ASSERT_STRING_EQUAL(table->files[line->file].path, "/k/n");
	CU_ASSERT_PTR_NOT_NULL(key_table_find(table, "news@a.org", &count));
	CU_ASSERT_PTR_NOT_NULL(key_table_find(table, ".a.org", &count));
	CU_ASSERT_PTR_NULL(key_table_find(table, "user:bob", &count));
	CU_ASSERT_EQUAL(count, 0);
	CU_ASSERT_PTR_NULL(key_table_find(table, "z", &count));
	buf_release(&errors);
	arena_free(&arena);
}

static void
knows_days(void)
{
	CU_ASSERT_EQUAL(key_table_day(0), 19700101);
	CU_ASSERT_EQUAL(key_table_day(1798761599), 20261231);
	CU_ASSERT_EQUAL(key_table_day(1798761600), 20270101);
}

static void
is_fast(void)
{
	struct arena *arena = arena_new(0);
	struct buf text = BUF_INIT, errors = BUF_INIT;
	const struct key_table *table;
	int64_t began = clock_us();

	for (int i = 0; i < 5000; i++)
		buf_printf(&text, "d%d.example.org d%d.example.org s k%d\n", i,
		    i, i % 100);
	table = parse(arena, text.data, &errors);
	CU_ASSERT_PTR_NOT_NULL_FATAL(table);
	CU_ASSERT_EQUAL(table->file_count, 100);
	CU_ASSERT(clock_us() - began < 1000000);
	buf_release(&text);
	arena_free(&arena);
}

SUITE(key_table, { "tells what is wrong", tells_what_is_wrong },
    { "takes no NUL", takes_no_nul }, { "finds lines", finds_lines },
    { "knows days", knows_days }, { "is fast", is_fast })
