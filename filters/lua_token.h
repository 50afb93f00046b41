/*
 * The tokens of a Lua expression, as far as a check needs them that runs before
 * any of it does: names, strings, and everything else.
 */
#ifndef FILTERS_LUA_TOKEN_H
#define FILTERS_LUA_TOKEN_H

#include <stddef.h>

enum lua_token_kind { LUA_TOKEN_END, LUA_TOKEN_NAME, LUA_TOKEN_STRING,
	LUA_TOKEN_OTHER };

struct lua_token {
	enum lua_token_kind kind;
	const char *text;		/* of a string: its quotes, too */
	size_t len;
	int line;			/* from 1 */
};

/* Where the next one begins; starts as { text, text + len, 1 }. */
struct lua_tokens {
	const char *at, *end;
	int line;
};

/* Comments are passed over; whatever is wrong is one byte of OTHER. */
struct lua_token lua_token_next(struct lua_tokens *);

#endif
