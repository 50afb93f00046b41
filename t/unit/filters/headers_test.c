#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/mail.h"
#include "t/unit/unit.h"

/* All fields as one string. */
static const char *
all(const struct headers *headers, struct arena *arena)
{
	struct buf text = BUF_INIT;
	const char *copy;
	size_t count = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		buf_append(&text, h->raw, h->len);
		count++;
		CU_ASSERT(h->next == NULL || h->next->previous == h);
	}
	CU_ASSERT_EQUAL(count, headers->count);
	CU_ASSERT_EQUAL(text.len, headers->bytes);
	copy = arena_strndup(arena, text.data == NULL ? "" : text.data,
	    text.len);
	buf_release(&text);
	return copy;
}

static void
sections_are_parsed(void)
{
	static const struct {
		const char *name, *bytes;
		size_t count, used;
		const char *want;	/* NULL: as the bytes used */
	} cases[] = {
		{ "nothing", "", 0, 0, NULL },
		{ "a blank line only", "\r\n", 0, 0, NULL },
		{ "two fields", "A: b\r\nC: d\r\n\r\nbody", 2, 12, NULL },
		{ "folds", "A: b\r\n c\r\n\td\r\nE:\r\n f\r\n", 2, 22, NULL },
		{ "a fold of white space", "A: b\r\n \r\nC: d\r\n\r\n", 2, 15,
		    NULL },
		{ "a space before the colon", "A \t: b\r\n", 1, 8, NULL },
		{ "no value", "A:\r\nB:\r\n", 2, 8, NULL },
		{ "no name", ": b\r\n", 0, 0, NULL },
		{ "a fold first", " b\r\nA: b\r\n", 0, 0, NULL },
		{ "neither field nor fold", "A: b\r\nnot one\r\nC: d\r\n", 1,
		    6, NULL },
		{ "an mbox line", "From a@b Mon\r\nA: b\r\n", 0, 0, NULL },
		{ "no end of line", "A: b\r\nC: d", 2, 10,
		    "A: b\r\nC: d\r\n" },
		{ "bare LF", "A: b\n c\nC: d\r\n\r\n", 2, 14,
		    "A: b\r\n c\r\nC: d\r\n" },
		{ "an end in CR", "A: b\r", 1, 5, "A: b\r\n" },
		{ "8-bit name", "\xc3\xa4: b\r\n", 0, 0, NULL },
		{ "8-bit value", "A: \xc3\xa4\r\n", 1, 7, NULL },
		{ "a space in the name", "A B: c\r\n", 0, 0, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		const char *want = cases[i].want;
		size_t len = strlen(cases[i].bytes);
		char *bytes = malloc(len + 1);	/* exact, for the sanitizer */

		memcpy(bytes, cases[i].bytes, len);
		bytes = realloc(bytes, len > 0 ? len : 1);
		CASE_ASSERT(cases[i].name, headers_parse(&headers, arena,
		    bytes, len) == cases[i].used);
		CASE_ASSERT(cases[i].name, headers.count == cases[i].count);
		if (want == NULL)
			want = arena_strndup(arena, cases[i].bytes,
			    cases[i].used);
		CASE_ASSERT(cases[i].name,
		    strcmp(all(&headers, arena), want) == 0);
		arena_free(&arena);
		free(bytes);
	}
}

static void
values_are_read(void)
{
	static const char text[] =
	    "Subject : one\r\n two\r\nTO:\r\n\tx  \r\nE:\r\nsubject:x\r\n";
	static const char nul[] = "A: b\0c\r\n";
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct header *h;

	headers_parse(&headers, arena, text, sizeof(text) - 1);
	h = headers.first;
	CU_ASSERT(header_is(h, "SUBJECT") && !header_is(h, "Subj") &&
	    !header_is(h, "Subjects"));
	CU_ASSERT_STRING_EQUAL(header_name(h, arena), "Subject");
	CU_ASSERT_STRING_EQUAL(header_value(h, arena, false),
	    " one\r\n two");
	CU_ASSERT_STRING_EQUAL(header_value(h, arena, true), "one two");
	CU_ASSERT_STRING_EQUAL(header_value(h->next, arena, true), "x");
	CU_ASSERT_STRING_EQUAL(header_value(h->next, arena, false),
	    "\r\n\tx  ");
	CU_ASSERT_STRING_EQUAL(header_value(h->next->next, arena, true), "");
	CU_ASSERT_PTR_EQUAL(headers_find(&headers, "subject", 1), h);
	CU_ASSERT_PTR_EQUAL(headers_find(&headers, "subject", 0), h);
	CU_ASSERT_PTR_EQUAL(headers_find(&headers, "subject", 2),
	    headers.last);
	CU_ASSERT_PTR_NULL(headers_find(&headers, "subject", 3));
	h->hidden = true;
	CU_ASSERT_PTR_EQUAL(headers_find(&headers, "subject", 1),
	    headers.last);
	CU_ASSERT_PTR_EQUAL(headers_at(&headers, 0), h);
	CU_ASSERT_PTR_EQUAL(headers_at(&headers, 3), headers.last);
	CU_ASSERT_PTR_NULL(headers_at(&headers, 4));

	memset(&headers, 0, sizeof(headers));
	headers_parse(&headers, arena, nul, sizeof(nul) - 1);
	CU_ASSERT_STRING_EQUAL(header_value(headers.first, arena, true),
	    "b c");
	arena_free(&arena);
}

static void
added_values_are_safe(void)
{
	static const struct {
		const char *name, *field, *value;
		bool lead;
		const char *want;	/* NULL: refused */
	} cases[] = {
		{ "plain", "A", "b", true, "A: b\r\n" },
		{ "a value with its space", "A", " b", false, "A: b\r\n" },
		{ "a second space", "A", " b", true, "A:  b\r\n" },
		{ "empty", "A", "", true, "A: \r\n" },
		{ "empty, raw", "A", "", false, "A:\r\n" },
		{ "LF fold", "A", "b\n c", true, "A: b\r\n c\r\n" },
		{ "CRLF fold", "A", "b\r\n\tc", true, "A: b\r\n\tc\r\n" },
		{ "fold at once", "A", "\n b", false, "A:\r\n b\r\n" },
		{ "LF without white space", "A", "b\nBcc: x", true,
		    "A: b\r\n\tBcc: x\r\n" },
		{ "CRLF without white space", "A", "b\r\nBcc: x", true,
		    "A: b\r\n\tBcc: x\r\n" },
		{ "a body", "A", "b\r\n\r\nbody", true,
		    "A: b\r\n\tbody\r\n" },
		{ "a body behind white space", "A", "b\n \n\t\nbody", true,
		    "A: b\r\n\tbody\r\n" },
		{ "bare CR", "A", "b\rBcc: x", true, "A: b Bcc: x\r\n" },
		{ "CRCRLF", "A", "b\r\r\nc", true, "A: b \r\n\tc\r\n" },
		{ "a fold of CR", "A", "b\n\r\r\nc", true,
		    "A: b\r\n\tc\r\n" },
		{ "LF at the end", "A", "b\n", true, "A: b\r\n" },
		{ "CRLF at the end", "A", "b\r\n\r\n", true, "A: b\r\n" },
		{ "CR at the end", "A", "b\r", true, "A: b\r\n" },
		{ "a dot", "A", "b\r\n.\r\nMAIL", true,
		    "A: b\r\n\t.\r\n\tMAIL\r\n" },
		{ "empty name", "", "b", true, NULL },
		{ "a colon in the name", "A: b\nC", "b", true, NULL },
		{ "a space in the name", "A ", "b", true, NULL },
		{ "a line end in the name", "A\r\nB", "b", true, NULL },
		{ "8-bit name", "\xc3\xa4", "b", true, NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 }, again = { 0 };
		struct header *h = headers_add(&headers, arena, NULL,
		    cases[i].field, cases[i].value, cases[i].lead);
		const char *want = cases[i].want != NULL ? cases[i].want : "";

		CASE_ASSERT(cases[i].name, (h == NULL) ==
		    (cases[i].want == NULL));
		CASE_ASSERT(cases[i].name,
		    strcmp(all(&headers, arena), want) == 0);
		if (h != NULL) {
			CASE_ASSERT(cases[i].name, headers_parse(&again,
			    arena, h->raw, h->len) == h->len);
			CASE_ASSERT(cases[i].name, again.count == 1);
		}
		arena_free(&arena);
	}
}

/* The longest line of a field, without its CRLF. */
static size_t
longest_line(const struct header *h)
{
	size_t longest = 0, at = 0;

	while (at < h->len) {
		const char *lf = memchr(h->raw + at, '\n', h->len - at);
		size_t line = (size_t)(lf - h->raw) - at - 1;

		if (line > longest)
			longest = line;
		at += line + 2;
	}
	return longest;
}

static void
long_lines_are_folded(void)
{
	static const struct {
		const char *name, *unit;
		size_t times;
		bool folds;
	} cases[] = {
		{ "fits", "x", 995, false },
		{ "one too many", "x", 996, true },
		{ "words", "word ", 2000, true },
		{ "no white space", "x", 5000, true },
		{ "letters of two octets", "\xc3\xa4", 3000, true },
		{ "no letters", "\x80", 3000, true },
		{ "white space", " ", 3000, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		struct buf value = BUF_INIT;
		struct header *h;

		for (size_t n = 0; n < cases[i].times; n++)
			buf_puts(&value, cases[i].unit);
		h = headers_add(&headers, arena, NULL, "A", value.data, true);
		CASE_ASSERT(cases[i].name, longest_line(h) <= 998);
		CASE_ASSERT(cases[i].name, (memchr(h->raw, '\n',
		    h->len - 1) != NULL) == cases[i].folds);
		CASE_ASSERT(cases[i].name, h->len >= 900);
		if (strcmp(cases[i].name, "words") == 0)
			CU_ASSERT_STRING_EQUAL(header_value(h, arena, true),
			    arena_strndup(arena, value.data, value.len - 1));
		buf_release(&value);
		arena_free(&arena);
	}
}

/* Such a name comes from outside; the value gets lines of its own. */
static void
names_fill_a_line(void)
{
	for (size_t len = 985; len < 1005; len++) {
		struct arena *arena = arena_new(0);
		struct headers headers = { 0 };
		struct buf text = BUF_INIT;

		for (size_t i = 0; i < len; i++)
			buf_putc(&text, 'n');
		buf_puts(&text, ": 1\r\n");
		headers_parse(&headers, arena, text.data, text.len);
		CU_ASSERT_PTR_NOT_NULL_FATAL(headers.first);
		headers_change(&headers, arena, headers.first, "a b", true);
		CU_ASSERT_EQUAL(headers.first->name_len, len);
		CU_ASSERT_STRING_EQUAL(strpbrk(header_value(headers.first,
		    arena, true), "b"), "b");
		CU_ASSERT_EQUAL(headers.first->len, headers.bytes);
		buf_release(&text);
		arena_free(&arena);
	}
}

static void
fields_are_changed(void)
{
	static const char text[] = "A: 1\r\nB: 2\r\na: 3\r\nAB: 4\r\n";
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };

	headers_parse(&headers, arena, text, sizeof(text) - 1);
	headers_change(&headers, arena, headers_find(&headers, "A", 2),
	    "x\nEvil: y", true);
	CU_ASSERT_STRING_EQUAL(all(&headers, arena),
	    "A: 1\r\nB: 2\r\na: x\r\n\tEvil: y\r\nAB: 4\r\n");
	headers_change(&headers, arena, headers_find(&headers, "A", 2), "z",
	    true);
	headers_add(&headers, arena, headers_find(&headers, "B", 1), "C", "5",
	    true);
	headers_add(&headers, arena, headers.first, "D", "6", true);
	headers_add(&headers, arena, NULL, "E", "7", true);
	CU_ASSERT_STRING_EQUAL(all(&headers, arena), "D: 6\r\nA: 1\r\n"
	    "C: 5\r\nB: 2\r\na: z\r\nAB: 4\r\nE: 7\r\n");
	headers_delete(&headers, headers_find(&headers, "a", 2));
	headers_delete(&headers, headers_find(&headers, "a", 1));
	headers_delete(&headers, headers.first);
	headers_delete(&headers, headers.last);
	CU_ASSERT_STRING_EQUAL(all(&headers, arena),
	    "C: 5\r\nB: 2\r\nAB: 4\r\n");
	while (headers.first != NULL)
		headers_delete(&headers, headers.first);
	CU_ASSERT_PTR_NULL(headers.last);
	CU_ASSERT_STRING_EQUAL(all(&headers, arena), "");
	headers_add(&headers, arena, headers.first, "A", "b", true);
	CU_ASSERT_STRING_EQUAL(all(&headers, arena), "A: b\r\n");
	arena_free(&arena);
}

static void
large_sections_are_parsed(void)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct buf text = BUF_INIT;

	for (int i = 0; i < 10000; i++)
		buf_puts(&text, "X: a\r\n b\r\n");
	CU_ASSERT_EQUAL(headers_parse(&headers, arena, text.data, text.len),
	    text.len);
	CU_ASSERT_EQUAL(headers.count, 10000);
	memset(&headers, 0, sizeof(headers));
	buf_reset(&text);
	buf_puts(&text, "X:");
	for (int i = 0; i < 80000; i++)
		buf_puts(&text, "\r\n ");
	buf_puts(&text, "x\r\n");
	CU_ASSERT_EQUAL(headers_parse(&headers, arena, text.data, text.len),
	    text.len);
	CU_ASSERT_EQUAL(headers.count, 1);
	CU_ASSERT_EQUAL(headers.bytes, text.len);
	buf_release(&text);
	arena_free(&arena);
}

SUITE(headers,
    { "sections are parsed", sections_are_parsed },
    { "values are read", values_are_read },
    { "added values are safe", added_values_are_safe },
    { "long lines are folded", long_lines_are_folded },
    { "names fill a line", names_fill_a_line },
    { "fields are changed", fields_are_changed },
    { "large sections are parsed", large_sections_are_parsed })
