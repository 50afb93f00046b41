/* What conditions can do with strings.  Bytes are bytes; letters are ASCII's. */
#include "config.h"

#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "base/pattern.h"
#include "filters/lua_box.h"

/* Does the text match the pattern?  An error if that cannot be told. */
static bool
find_pattern(lua_State *L, struct pattern_match *match)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len), *why;
	const struct pattern *pattern = lua_box_pattern(lua_box_of(L),
	    luaL_checkstring(L, 2), &why);
	enum answer found = ANSWER_UNKNOWN;

	if (pattern != NULL)
		found = pattern_find(pattern, text, len, match, &why);
	if (found == ANSWER_UNKNOWN)
		luaL_error(L, "%s", why);
	return found == ANSWER_YES;
}

static int
text_find(lua_State *L)
{
	lua_pushboolean(L, find_pattern(L, NULL));
	return 1;
}

static int
text_match(lua_State *L)
{
	struct pattern_match match;

	if (find_pattern(L, &match))
		lua_pushlstring(L, lua_tostring(L, 1) + match.offset,
		    match.len);
	else
		lua_pushliteral(L, "");
	return 1;
}

static int
text_has(lua_State *L)
{
	lua_pushboolean(L, strcasestr(luaL_checkstring(L, 1),
	    luaL_checkstring(L, 2)) != NULL);
	return 1;
}

static int
convert(lua_State *L, int (*letter)(int))
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	luaL_Buffer buffer;
	char *to = luaL_buffinitsize(L, &buffer, len);

	for (size_t i = 0; i < len; i++)
		to[i] = (char)letter((unsigned char)text[i]);
	luaL_pushresultsize(&buffer, len);
	return 1;
}

static int
text_lower(lua_State *L)
{
	return convert(L, tolower);
}

static int
text_upper(lua_State *L)
{
	return convert(L, toupper);
}

static const char *
check_pattern(struct lua_box *box, const char *text)
{
	const char *why;

	return lua_box_pattern(box, text, &why) == NULL ? why : NULL;
}

const struct lua_name lua_text_methods[] = {
	{ "find", true, text_find, check_pattern },
	{ "match", true, text_match, check_pattern },
	{ "has", true, text_has, NULL },
	{ "lower", true, text_lower, NULL },
	{ "upper", true, text_upper, NULL },
	{ NULL, false, NULL, NULL }
};

/* number(text[, otherwise]): the first decimal in it; otherwise is 0. */
int
lua_text_number(lua_State *L)
{
	const char *text = luaL_checkstring(L, 1), *digits;
	char copy[32];
	size_t len;

	digits = text + strcspn(text, "0123456789");
	if (*digits == '\0') {
		lua_pushnumber(L, luaL_optnumber(L, 2, 0));
		return 1;
	}
	len = strspn(digits, "0123456789");
	if (digits[len] == '.')
		len += 1 + strspn(digits + len + 1, "0123456789");
	if (digits > text && digits[-1] == '-') {
		digits--;
		len++;
	}
	if (len >= sizeof(copy))
		return luaL_error(L, "a number of %d digits", (int)len);
	memcpy(copy, digits, len);
	copy[len] = '\0';
	lua_pushnumber(L, strtod(copy, NULL));
	return 1;
}
