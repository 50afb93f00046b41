/* A sandbox for conditions written in Lua. */
#include "filters/lua_box.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/pattern.h"
#include "filters/lua_token.h"

#define EXPRESSION_MAX 8192
#define PATTERNS_MAX 256
#define PATTERN_TEXT_MAX 1024
#define CHUNK "=L"			/* errors begin "L:line: " */

/* Of the clock, so not too close: ordinary expressions take microseconds. */
#define TIME_LIMIT_US 200000

struct kept_pattern {
	char *text;
	struct pattern *pattern;
};

struct lua_box {
	lua_State *state;
	const struct lua_name *names;
	size_t memory, memory_max;
	int steps;
	int64_t until;			/* clock_us() */
	int environment;		/* in the registry */
	void *subject;
	struct kept_pattern patterns[PATTERNS_MAX];
	size_t pattern_count;
	char why[400];
};

struct lua_box *
lua_box_of(lua_State *L)
{
	return *(struct lua_box **)lua_getextraspace(L);
}

void *
lua_box_subject(lua_State *L)
{
	return lua_box_of(L)->subject;
}

static void *
allocate(void *argument, void *old, size_t old_size, size_t size)
{
	struct lua_box *box = argument;
	void *new;

	if (old == NULL)
		old_size = 0;		/* it tells a type then */
	if (size == 0) {
		free(old);
		box->memory -= old_size;
		return NULL;
	}
	if (size > old_size &&
	    size - old_size > box->memory_max - box->memory)
		return NULL;
	if ((new = realloc(old, size)) != NULL)
		box->memory += size - old_size;
	return new;
}

static void
exceeded(lua_State *L, lua_Debug *unused)
{
	(void)unused;
	luaL_error(L, "takes more than %d steps", lua_box_of(L)->steps);
}

/* Calls are all protected: what comes here is a mistake of ours. */
static int
panic(lua_State *L)
{
	fatal("lua: %s", lua_tostring(L, -1));
}

static const struct lua_name *
find_name(const struct lua_name *names, const char *text, size_t len)
{
	for (; names->name != NULL; names++)
		if (strlen(names->name) == len &&
		    memcmp(names->name, text, len) == 0)
			return names;
	return NULL;
}

/*
 * Steps do not count what a function takes.  It is always got by its name, as
 * nothing can be kept.
 */
static void
check_time(lua_State *L)
{
	if (clock_us() > lua_box_of(L)->until)
		luaL_error(L, "takes too long");
}

/* The global names: __index of the environment. */
static int
get_name(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 2, &len);
	const struct lua_name *name = find_name(lua_box_of(L)->names, text,
	    len);

	check_time(L);
	if (name == NULL)
		return luaL_error(L, "unknown name '%s'", text);
	if (!name->function)
		return name->call(L);
	lua_pushcfunction(L, name->call);
	return 1;
}

/* What strings have: __index of their metatable. */
static int
get_method(lua_State *L)
{
	const struct lua_name *method = NULL;
	const char *text;
	size_t len;

	check_time(L);
	if (lua_type(L, 2) == LUA_TSTRING) {
		text = lua_tolstring(L, 2, &len);
		method = find_name(lua_text_methods, text, len);
	}
	if (method == NULL)
		return luaL_error(L, "a string has no such field");
	lua_pushcfunction(L, method->call);
	return 1;
}

static void
push_meta(lua_State *L, lua_CFunction index)
{
	lua_createtable(L, 0, 1);
	lua_pushcfunction(L, index);
	lua_setfield(L, -2, "__index");
}

static int
set_up(lua_State *L)
{
	lua_pushliteral(L, "");
	push_meta(L, get_method);
	lua_setmetatable(L, -2);
	lua_createtable(L, 0, 0);
	push_meta(L, get_name);
	lua_setmetatable(L, -2);
	lua_box_of(L)->environment = luaL_ref(L, LUA_REGISTRYINDEX);
	return 0;
}

struct lua_box *
lua_box_new(const struct lua_name *names, size_t memory, int steps)
{
	struct lua_box *box = calloc(1, sizeof(*box));

	if (box == NULL)
		fatal("out of memory (lua)");
	box->names = names;
	box->memory_max = memory;
	box->steps = steps;
	if ((box->state = lua_newstate(allocate, box)) == NULL)
		fatal("out of memory (lua)");
	*(struct lua_box **)lua_getextraspace(box->state) = box;
	lua_atpanic(box->state, panic);
	lua_pushcfunction(box->state, set_up);
	if (lua_pcall(box->state, 0, 0, 0) != LUA_OK)
		fatal("out of memory (lua)");
	return box;
}

void
lua_box_free(struct lua_box **boxp)
{
	struct lua_box *box = *boxp;

	*boxp = NULL;
	if (box == NULL)
		return;
	lua_close(box->state);
	for (size_t i = 0; i < box->pattern_count; i++) {
		free(box->patterns[i].text);
		pattern_free(&box->patterns[i].pattern);
	}
	free(box);
}

/*
 * Patterns are mostly written out in the expressions, so that all are soon
 * kept; the last place is for those that are not.
 */
const struct pattern *
lua_box_pattern(struct lua_box *box, const char *text, const char **why)
{
	struct kept_pattern *kept;
	struct pattern *pattern;

	for (size_t i = 0; i < box->pattern_count; i++)
		if (strcmp(box->patterns[i].text, text) == 0)
			return box->patterns[i].pattern;
	if (strlen(text) > PATTERN_TEXT_MAX) {
		*why = "pattern too long";
		return NULL;
	}
	if ((pattern = pattern_new(text, "", why)) == NULL)
		return NULL;
	if (box->pattern_count == PATTERNS_MAX) {
		kept = &box->patterns[PATTERNS_MAX - 1];
		free(kept->text);
		pattern_free(&kept->pattern);
	} else {
		kept = &box->patterns[box->pattern_count++];
	}
	if ((kept->text = strdup(text)) == NULL)
		fatal("out of memory (lua)");
	kept->pattern = pattern;
	return pattern;
}

/* --- compiling --- */

/* Of one that did not end well; the line counts where there are several. */
static const char *
take_error(struct lua_box *box, bool several)
{
	const char *text = lua_tostring(box->state, -1), *colon;

	if (text == NULL)
		text = "failed";
	colon = strncmp(text, "L:", 2) == 0 ? strchr(text + 2, ':') : NULL;
	if (colon == NULL)
		snprintf(box->why, sizeof(box->why), "%s", text);
	else if (!several)
		snprintf(box->why, sizeof(box->why), "%s", colon + 2);
	else
		snprintf(box->why, sizeof(box->why), "line %.*s: %s",
		    (int)(colon - text - 2), text + 2, colon + 2);
	lua_settop(box->state, 0);
	return box->why;
}

static bool
token_is(const struct lua_token *token, const char *text)
{
	return token->len == strlen(text) &&
	    memcmp(token->text, text, token->len) == 0;
}

static bool
is_among(const struct lua_token *token, const char *const *words)
{
	while (*words != NULL && !token_is(token, *words))
		words++;
	return *words != NULL;
}

/* Calls check with what a written string stands for. */
static int
check_argument(lua_State *L, const struct lua_name *name,
    const struct lua_token *token)
{
	const char *why;

	lua_pushliteral(L, "return ");
	lua_pushlstring(L, token->text, token->len);
	lua_concat(L, 2);
	if (luaL_loadstring(L, lua_tostring(L, -1)) != LUA_OK)
		return lua_error(L);
	lua_call(L, 0, 1);
	why = name->check(lua_box_of(L), lua_tostring(L, -1));
	if (why != NULL)
		return luaL_error(L, "L:%d: %s", token->line, why);
	lua_pop(L, 2);
	return 0;
}

/*
 * A name as it is used: Lua's own word (NULL), one of ours, or an error.
 * before: the token in front of it.
 */
static const struct lua_name *
check_name(lua_State *L, const struct lua_token *before,
    const struct lua_token *token)
{
	static const char *const words[] = { "and", "or", "not", "true",
		"false", "nil", NULL };
	static const char *const forbidden[] = { "function", "end", "return",
		"local", "while", "for", "repeat", "if", "goto", "do", NULL };
	const struct lua_name *name;
	bool field = token_is(before, ".") || token_is(before, ":");

	if (is_among(token, words))
		return NULL;
	lua_pushlstring(L, token->text, token->len);
	if (is_among(token, forbidden))
		luaL_error(L, "L:%d: no '%s' in a condition", token->line,
		    lua_tostring(L, -1));
	name = find_name(field ? lua_text_methods : lua_box_of(L)->names,
	    token->text, token->len);
	if (name == NULL)
		luaL_error(L, field ? "L:%d: a string has no '%s'" :
		    "L:%d: unknown name '%s'", token->line,
		    lua_tostring(L, -1));
	lua_pop(L, 1);
	return name;
}

/* What goes on with ".." is no whole argument. */
static bool
is_joined(struct lua_tokens tokens)
{
	struct lua_token next = lua_token_next(&tokens);

	return token_is(&next, "..");
}

/*
 * What Lua itself would only find when it runs, or not at all.  Without
 * functions all names are global ones, or fields.
 */
static void
check_tokens(lua_State *L, const char *text)
{
	struct lua_tokens tokens = { text, text + strlen(text), 1 };
	struct lua_token before = { .text = "" }, token;
	const struct lua_name *called = NULL;

	while ((token = lua_token_next(&tokens)).kind != LUA_TOKEN_END) {
		if (token.kind == LUA_TOKEN_NAME)
			called = check_name(L, &before, &token);
		else if (token_is(&token, "{"))
			luaL_error(L, "L:%d: no table in a condition",
			    token.line);
		else if (token.kind == LUA_TOKEN_STRING && called != NULL &&
		    called->check != NULL && !is_joined(tokens))
			check_argument(L, called, &token);
		/* find"x" and find("x") */
		if (token.kind != LUA_TOKEN_NAME && !token_is(&token, "("))
			called = NULL;
		before = token;
	}
	if (before.len == 0)
		luaL_error(L, "nothing is asked");
}

/* What those write who know other languages better. */
static void
check_operators(lua_State *L, const char *text)
{
	struct lua_tokens tokens = { text, text + strlen(text), 1 };
	struct lua_token token;

	while ((token = lua_token_next(&tokens)).kind != LUA_TOKEN_END) {
		if (token_is(&token, "!") && token.text[1] == '=')
			luaL_error(L, "L:%d: '~=' says what is not equal",
			    token.line);
		if (token_is(&token, "=") && token.text[1] != '=' &&
		    (token.text == text ||
		    strchr("=~<>", token.text[-1]) == NULL))
			luaL_error(L, "L:%d: '==' compares", token.line);
	}
}

/* From text (light) to a number in the registry. */
static int
compile(lua_State *L)
{
	const char *text = lua_touserdata(L, 1);
	struct lua_box *box = lua_box_of(L);

	check_operators(L, text);
	lua_pushliteral(L, "return ");
	lua_pushstring(L, text);
	lua_concat(L, 2);
	if (luaL_loadbufferx(L, lua_tostring(L, -1), lua_rawlen(L, -1), CHUNK,
	    "t") != LUA_OK)
		return lua_error(L);
	check_tokens(L, text);
	lua_rawgeti(L, LUA_REGISTRYINDEX, box->environment);
	lua_setupvalue(L, -2, 1);	/* _ENV is a chunk's first */
	lua_pushinteger(L, luaL_ref(L, LUA_REGISTRYINDEX));
	return 1;
}

int
lua_box_compile(struct lua_box *box, const char *text, const char **why)
{
	int expression;

	if (strlen(text) > EXPRESSION_MAX) {
		*why = "too long";
		return -1;
	}
	lua_sethook(box->state, NULL, 0, 0);
	lua_pushcfunction(box->state, compile);
	lua_pushlightuserdata(box->state, (void *)(uintptr_t)text);
	if (lua_pcall(box->state, 1, 1, 0) != LUA_OK) {
		*why = take_error(box, strchr(text, '\n') != NULL);
		return -1;
	}
	expression = (int)lua_tointeger(box->state, -1);
	lua_settop(box->state, 0);
	return expression;
}

/* --- evaluating --- */

enum lua_box_outcome
lua_box_run(struct lua_box *box, int expression, void *subject, double *number,
    const char **why)
{
	lua_State *L = box->state;
	enum lua_box_outcome outcome = LUA_BOX_FALSE;
	int rc;

	box->subject = subject;
	box->until = clock_us() + TIME_LIMIT_US;
	lua_sethook(L, exceeded, LUA_MASKCOUNT, box->steps);
	lua_rawgeti(L, LUA_REGISTRYINDEX, expression);
	rc = lua_pcall(L, 0, 1, 0);
	box->subject = NULL;
	if (rc != LUA_OK) {
		*why = take_error(box, false);
		if (rc == LUA_ERRMEM)
			lua_gc(L, LUA_GCCOLLECT);
		return LUA_BOX_FAILED;
	}
	if (lua_type(L, -1) == LUA_TNUMBER) {
		*number = lua_tonumber(L, -1);
		*why = "its value is no number that counts";
		outcome = isfinite(*number) ? LUA_BOX_NUMBER : LUA_BOX_FAILED;
	} else if (lua_toboolean(L, -1)) {
		outcome = LUA_BOX_TRUE;
	}
	lua_settop(L, 0);
	return outcome;
}
