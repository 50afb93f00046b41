/* The tokens of a Lua expression (Lua 5.4 manual, 3.1). */
#include "filters/lua_token.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

static bool
is_name(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

static char
peek(const struct lua_tokens *t, size_t ahead)
{
	return (size_t)(t->end - t->at) > ahead ? t->at[ahead] : '\0';
}

static void
advance(struct lua_tokens *t, size_t len)
{
	for (; len > 0 && t->at < t->end; len--)
		if (*t->at++ == '\n')
			t->line++;
}

/* Signs between the brackets of [==[, or -1: it is no long bracket. */
static int
long_bracket(const struct lua_tokens *t, size_t from)
{
	int level = 0;

	if (peek(t, from) != '[')
		return -1;
	while (peek(t, from + 1 + (size_t)level) == '=')
		level++;
	return peek(t, from + 1 + (size_t)level) == '[' ? level : -1;
}

/* Up to and with the bracket that closes. */
static void
pass_long(struct lua_tokens *t, int level)
{
	advance(t, (size_t)level + 2);
	while (t->at < t->end) {
		int signs = 0;

		if (*t->at == ']') {
			while (peek(t, 1 + (size_t)signs) == '=')
				signs++;
			if (signs == level && peek(t, 1 + (size_t)signs) == ']')
				break;
		}
		advance(t, 1);
	}
	advance(t, (size_t)level + 2);
}

static void
pass_string(struct lua_tokens *t)
{
	char quote = *t->at;

	advance(t, 1);
	while (t->at < t->end && *t->at != quote)
		advance(t, *t->at == '\\' ? 2 : 1);
	advance(t, 1);
}

static void
pass_blank(struct lua_tokens *t)
{
	int level;

	for (;;) {
		while (t->at < t->end && isspace((unsigned char)*t->at))
			advance(t, 1);
		if (peek(t, 0) != '-' || peek(t, 1) != '-')
			return;
		if ((level = long_bracket(t, 2)) >= 0) {
			advance(t, 2);
			pass_long(t, level);
			continue;
		}
		/* Either ends a line in Lua. */
		while (t->at < t->end && *t->at != '\n' && *t->at != '\r')
			advance(t, 1);
	}
}

/* 0x1p4, 1e-5; signs are tokens of their own, which does no harm here. */
static bool
begins_number(const struct lua_tokens *t)
{
	return isdigit((unsigned char)peek(t, 0)) ||
	    (peek(t, 0) == '.' && isdigit((unsigned char)peek(t, 1)));
}

static void
pass_number(struct lua_tokens *t)
{
	while (t->at < t->end && (is_name(*t->at) || *t->at == '.'))
		advance(t, 1);
}

struct lua_token
lua_token_next(struct lua_tokens *t)
{
	struct lua_token token = { .kind = LUA_TOKEN_OTHER };
	int level;

	pass_blank(t);
	token.text = t->at;
	token.line = t->line;
	if (t->at >= t->end) {
		token.kind = LUA_TOKEN_END;
	} else if (begins_number(t)) {
		pass_number(t);
	} else if (is_name(*t->at)) {
		token.kind = LUA_TOKEN_NAME;
		while (t->at < t->end && is_name(*t->at))
			advance(t, 1);
	} else if (*t->at == '"' || *t->at == '\'') {
		token.kind = LUA_TOKEN_STRING;
		pass_string(t);
	} else if ((level = long_bracket(t, 0)) >= 0) {
		token.kind = LUA_TOKEN_STRING;
		pass_long(t, level);
	} else if (*t->at == '.') {
		/* Two join strings: no field's name follows. */
		while (peek(t, 0) == '.')
			advance(t, 1);
	} else {
		advance(t, 1);
	}
	token.len = (size_t)(t->at - token.text);
	return token;
}
