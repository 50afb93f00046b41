/* The sandbox of conditions: what they can say, and what they cannot do. */
#include "filters/lua_box.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "filters/lua_token.h"
#include "t/unit/unit.h"

static int
get_spf(lua_State *L)
{
	lua_pushliteral(L, "fail");
	return 1;
}

static int
get_big(lua_State *L)
{
	static char text[60000];

	memset(text, 'a', sizeof(text));
	lua_pushlstring(L, text, sizeof(text));
	return 1;
}

/* What it evaluates is about. */
static int
get_size(lua_State *L)
{
	lua_pushinteger(L, *(int *)lua_box_subject(L));
	return 1;
}

static const struct lua_name names[] = {
	{ "spf", false, get_spf, NULL },
	{ "big", false, get_big, NULL },
	{ "size", false, get_size, NULL },
	{ "number", true, lua_text_number, NULL },
	{ NULL, false, NULL, NULL }
};

static const struct {
	const char *name, *text;
	enum lua_box_outcome outcome;
	double number;
} cases[] = {
	{ "a comparison", "spf == 'fail'", LUA_BOX_TRUE, 0 },
	{ "another", "spf == 'pass'", LUA_BOX_FALSE, 0 },
	{ "nil", "nil", LUA_BOX_FALSE, 0 },
	{ "text is true", "spf", LUA_BOX_TRUE, 0 },
	{ "the subject", "size > 41 and size < 43", LUA_BOX_TRUE, 0 },
	{ "a number", "size / 4", LUA_BOX_NUMBER, 10.5 },
	{ "an integer", "-size", LUA_BOX_NUMBER, -42 },
	{ "no number", "0/0", LUA_BOX_FAILED, 0 },
	{ "endless", "1/0", LUA_BOX_FAILED, 0 },
	{ "find", "spf:find('^FA') or spf:find('(?i)^FA')", LUA_BOX_TRUE, 0 },
	{ "find without parentheses", "spf:find'ai'", LUA_BOX_TRUE, 0 },
	{ "find is no number", "spf:find('fail')", LUA_BOX_TRUE, 0 },
	{ "find of a literal", "('ab'):find('^ab$')", LUA_BOX_TRUE, 0 },
	{ "match", "spf:match('f(.)') == 'a'", LUA_BOX_TRUE, 0 },
	{ "no match", "spf:match('x(.)') == ''", LUA_BOX_TRUE, 0 },
	{ "has", "spf:has('AIL')", LUA_BOX_TRUE, 0 },
	{ "has not", "spf:has('ael')", LUA_BOX_FALSE, 0 },
	{ "upper, lower", "spf:upper() == 'FAIL' and ('AÄ'):lower() == 'aÄ'",
	    LUA_BOX_TRUE, 0 },
	{ "length", "#spf", LUA_BOX_NUMBER, 4 },
	{ "number", "number('score=-5.25 required')", LUA_BOX_NUMBER, -5.25 },
	{ "not in hexadecimal", "number('0x10')", LUA_BOX_NUMBER, 0 },
	{ "a point", "number('7. ')", LUA_BOX_NUMBER, 7 },
	{ "no number in it", "number('none')", LUA_BOX_NUMBER, 0 },
	{ "but", "number('none', 3)", LUA_BOX_NUMBER, 3 },
	{ "a number too long", "number('1234567890123456789012345678901234')",
	    LUA_BOX_FAILED, 0 },
	{ "comments", "size --[[ of\nthe ]] == 42 -- that's it", LUA_BOX_TRUE,
	    0 },
	{ "several lines", "spf == 'fail'\n and size == 42", LUA_BOX_TRUE, 0 },
	{ "a long string", "spf == [=[fail]=]", LUA_BOX_TRUE, 0 },
	{ "a pattern made of parts", "spf:find('(' .. 'ai)')", LUA_BOX_TRUE,
	    0 },
	{ "a bad one", "spf:find('(' .. 'ai')", LUA_BOX_FAILED, 0 },
	{ "an endless pattern", "(big .. 'b'):find('^(a+)+$')",
	    LUA_BOX_FAILED, 0 },
	{ "types", "spf > size", LUA_BOX_FAILED, 0 },
	{ "no field", "size:find('x')", LUA_BOX_FAILED, 0 },
	{ "no sum of texts", "'1' + 1", LUA_BOX_FAILED, 0 },
	{ "a call of a text", "spf()", LUA_BOX_FAILED, 0 },
	{ "a field with a NUL",
	    "spf['find\\0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa']",
	    LUA_BOX_FAILED, 0 },
	{ "a field that is none", "spf['__index'] or spf['rep']",
	    LUA_BOX_FAILED, 0 },
	{ "a field by a number", "spf[1]", LUA_BOX_FAILED, 0 },
	{ "a function is no value that does harm", "spf.find", LUA_BOX_TRUE,
	    0 },
	{ "a method of another thing", "(spf.find)(size, number)",
	    LUA_BOX_FAILED, 0 },
	{ "a method without arguments", "(spf.match)()", LUA_BOX_FAILED, 0 },
	{ "a function of a function", "number(number)", LUA_BOX_FAILED, 0 },
	{ "what its function was called with", "...", LUA_BOX_FALSE, 0 },
	{ "a field of a function", "spf.find[1]", LUA_BOX_FAILED, 0 },
	{ "a huge shift", "1 << 1 << 62 << 9223372036854775807",
	    LUA_BOX_NUMBER, 0 },
	{ "a division by nothing", "1 // 0", LUA_BOX_FAILED, 0 },
	{ "the least integer by -1", "(-9223372036854775807 - 1) // -1 < 0",
	    LUA_BOX_TRUE, 0 },
	{ "too much memory", "big..big..big..big..big..big..big..big..big"
	    "..big..big..big..big..big..big..big..big..big == ''",
	    LUA_BOX_FAILED, 0 },
};

static void
evaluates(void)
{
	struct lua_box *box = lua_box_new(names, LUA_BOX_MEMORY, 1000);
	int subject = 42;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *why = NULL;
		double number = 0;
		int expression = lua_box_compile(box, cases[i].text, &why);

		CASE_ASSERT(cases[i].name, expression != -1);
		if (expression == -1) {
			fprintf(stderr, ": %s", why);
			continue;
		}
		/* Again, for what an error may have left. */
		for (int j = 0; j < 3; j++)
			CASE_ASSERT(cases[i].name, lua_box_run(box, expression,
			    &subject, &number, &why) == cases[i].outcome);
		if (cases[i].outcome == LUA_BOX_NUMBER)
			CASE_ASSERT(cases[i].name, number == cases[i].number);
		if (cases[i].outcome == LUA_BOX_FAILED)
			CASE_ASSERT(cases[i].name, why != NULL);
	}
	lua_box_free(&box);
	CU_ASSERT_PTR_NULL(box);
}

/* What does not compile, and a part of why not. */
static const struct {
	const char *text, *why;
} bad[] = {
	{ "", "nothing is asked" },
	{ " -- spf", "nothing is asked" },
	{ "spf ==", "unexpected symbol" },
	{ "spf == 'fail", "unfinished string" },
	{ "spf = 'fail'", "'==' compares" },
	{ "spf != 'fail'", "'~='" },
	{ "spf == 'a' end", "near 'end'" },
	{ "1; os = 1", "'==' compares" },
	{ "1; print(1)", "<eof> expected" },
	{ "spff", "unknown name 'spff'" },
	{ "spf\n and (spff)", "line 2: unknown name 'spff'" },
	{ "os.exit()", "unknown name 'os'" },
	{ "io.open('/etc/passwd')", "unknown name 'io'" },
	{ "debug", "unknown name 'debug'" },
	{ "package", "unknown name 'package'" },
	{ "coroutine", "unknown name 'coroutine'" },
	{ "load('x')", "unknown name 'load'" },
	{ "loadstring('x')", "unknown name 'loadstring'" },
	{ "dofile('x')", "unknown name 'dofile'" },
	{ "require('x')", "unknown name 'require'" },
	{ "print('x')", "unknown name 'print'" },
	{ "pcall(1)", "unknown name 'pcall'" },
	{ "error('x')", "unknown name 'error'" },
	{ "collectgarbage('stop')", "unknown name 'collectgarbage'" },
	{ "getmetatable('').__index", "unknown name 'getmetatable'" },
	{ "setmetatable", "unknown name 'setmetatable'" },
	{ "rawset", "unknown name 'rawset'" },
	{ "string.rep('x', 1 << 30)", "unknown name 'string'" },
	{ "_G", "unknown name '_G'" },
	{ "_ENV", "unknown name '_ENV'" },
	{ "spf:rep(1 << 30)", "a string has no 'rep'" },
	{ "spf:gsub('a', 'b')", "a string has no 'gsub'" },
	{ "spf:format()", "a string has no 'format'" },
	{ "spf.find.x", "a string has no 'x'" },
	{ "('x').__index", "a string has no '__index'" },
	{ "(function() while true do end end)()", "no 'function'" },
	{ "{}", "no table" },
	{ "spf:find('(')", "missing closing parenthesis" },
	{ "spf:match '['", "missing terminating ]" },
	{ "spf:find('a' )  and spf:find([[\n(]])", "line 1: pattern" },
	{ "\033Lua", "unexpected symbol" },
	{ "\x1bLua\x54", "unexpected symbol" },
	{ "spf -- \r, (function() end)", "no 'function'" },
	{ "spf -- \r, os", "unknown name 'os'" },
	{ "spf --[=[ ]] ]=] , os", "unknown name 'os'" },
	{ "spf == 'a\\z \n ' and os", "unknown name 'os'" },
	{ "spf == 'a\\'' and os", "unknown name 'os'" },
	{ "spf == \"\\x41\\u{41}\\065\" and os", "unknown name 'os'" },
	{ "spf == [==[\n]=]]]==] and os", "unknown name 'os'" },
	{ "1 .. os", "unknown name 'os'" },
	{ "0x1p4 == os", "unknown name 'os'" },
	{ "spf goto a", "<eof> expected" },
	{ "1 ::a::", "<eof> expected" },
	{ "1 return 2", "<eof> expected" },
	{ "(function(...) return 1 end)(1)", "no 'function'" },
	{ "#{ 1 }", "no table" },
	{ "spf { }", "no table" },
};

static void
refuses(void)
{
	struct lua_box *box = lua_box_new(names, LUA_BOX_MEMORY, 1000);
	char text[9000];
	const char *why;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int rc;

		why = NULL;
		rc = lua_box_compile(box, bad[i].text, &why);
		CASE_ASSERT(bad[i].text, rc == -1 && why != NULL &&
		    strstr(why, bad[i].why) != NULL);
		if (why != NULL && strstr(why, bad[i].why) == NULL)
			fprintf(stderr, ": %s", why);
	}
	memset(text, ' ', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	CU_ASSERT_EQUAL(lua_box_compile(box, text, &why), -1);
	CU_ASSERT_STRING_EQUAL(why, "too long");
	memset(text, '(', 8000);
	text[8000] = '\0';
	CU_ASSERT_EQUAL(lua_box_compile(box, text, &why), -1);
	lua_box_free(&box);
}

static int
get_slow(lua_State *L)
{
	int64_t until = clock_us() + *(int *)lua_box_subject(L);

	while (clock_us() < until)
		;
	lua_pushinteger(L, 1);
	return 1;
}

/* Steps do not tell what functions take. */
static void
time_ends(void)
{
	static const struct lua_name slow[] = {
		{ "slow", false, get_slow, NULL },
		{ NULL, false, NULL, NULL }
	};
	struct lua_box *box = lua_box_new(slow, LUA_BOX_MEMORY, 1000);
	const char *why;
	int quick = 0, long_time = 210000;
	double number;
	int expression = lua_box_compile(box, "slow + slow + slow", &why);

	CU_ASSERT_EQUAL(lua_box_run(box, expression, &quick, &number, &why),
	    LUA_BOX_NUMBER);
	CU_ASSERT_EQUAL(lua_box_run(box, expression, &long_time, &number, &why),
	    LUA_BOX_FAILED);
	CU_ASSERT_STRING_EQUAL(why, "takes too long");
	CU_ASSERT_EQUAL(lua_box_run(box, expression, &quick, &number, &why),
	    LUA_BOX_NUMBER);
	lua_box_free(&box);
}

static void
steps_end(void)
{
	struct lua_box *box = lua_box_new(names, LUA_BOX_MEMORY, 20);
	const char *why;
	int subject = 1, few, many;
	double number;

	few = lua_box_compile(box, "size + size + size", &why);
	many = lua_box_compile(box, "size + size + size + size + size + size "
	    "+ size + size + size + size + size + size", &why);
	CU_ASSERT_EQUAL(lua_box_run(box, few, &subject, &number, &why),
	    LUA_BOX_NUMBER);
	CU_ASSERT_EQUAL(lua_box_run(box, many, &subject, &number, &why),
	    LUA_BOX_FAILED);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "more than 20 steps"));
	CU_ASSERT_EQUAL(lua_box_run(box, few, &subject, &number, &why),
	    LUA_BOX_NUMBER);
	lua_box_free(&box);
}

/* Patterns that texts choose take the place of each other. */
static void
patterns_are_bounded(void)
{
	struct lua_box *box = lua_box_new(names, LUA_BOX_MEMORY, 1000);
	const struct pattern *first;
	char text[1100];
	const char *why;

	first = lua_box_pattern(box, "x0", &why);
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "x%d", i);
		CU_ASSERT_PTR_NOT_NULL(lua_box_pattern(box, text, &why));
	}
	CU_ASSERT_PTR_EQUAL(lua_box_pattern(box, "x0", &why), first);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	CU_ASSERT_PTR_NULL(lua_box_pattern(box, text, &why));
	CU_ASSERT_STRING_EQUAL(why, "pattern too long");
	lua_box_free(&box);
}

/* Kinds: n name, s string, o other; a digit: the line it is in, if not 1. */
static void
tokens(void)
{
	static const struct {
		const char *text, *kinds;
	} texts[] = {
		{ "", "" },
		{ "a.b:c('d')", "nononoso" },
		{ "a..b...c", "nonon" },
		{ "0x1F + 1e5 .5 1..2", "ooooo" },
		{ "'a\\'b' \"c\"", "ss" },
		{ "'a", "s" },
		{ "'a\\", "s" },
		{ "[[a]] [==[b]]c]==] [=", "ssoo" },
		{ "[[a", "s" },
		{ "[=[a]=", "s" },
		{ "a -- b\nc", "nn2" },
		{ "a -- b\rc", "nn" },
		{ "a --[[ b\n\n]] c", "nn3" },
		{ "--", "" },
		{ "-", "o" },
		{ "'a\nb' c", "sn2" },
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		const char *text = texts[i].text;
		struct lua_tokens at = { text, text + strlen(text), 1 };
		struct lua_token token;
		char kinds[64] = "";
		size_t n = 0;

		while ((token = lua_token_next(&at)).kind != LUA_TOKEN_END) {
			kinds[n++] = "?nso"[token.kind];
			if (token.line != 1)
				kinds[n++] = (char)('0' + token.line);
		}
		CASE_ASSERT(text, strcmp(kinds, texts[i].kinds) == 0);
	}
}

SUITE(lua_box, { "evaluates", evaluates }, { "refuses", refuses },
    { "steps end", steps_end }, { "time ends", time_ends },
    { "patterns are bounded", patterns_are_bounded }, { "tokens", tokens })
