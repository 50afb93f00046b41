/*
 * Conditions of rules: whatever compiles, and whatever text it is about, ends in
 * time and in its memory.
 */
#include <lua.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "filters/lua_box.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static int
get_text(lua_State *L)
{
	lua_pushstring(L, lua_box_subject(L));
	return 1;
}

static const struct lua_name names[] = {
	{ "t", false, get_text, NULL },
	{ "number", true, lua_text_number, NULL },
	{ NULL, false, NULL, NULL }
};

/* The condition; behind a NUL, the text. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct lua_box *box = lua_box_new(names, 100000, 1000);
	char *input = malloc(size + 2);
	const char *why;
	double number;
	int expression;

	memcpy(input, data, size);
	input[size] = input[size + 1] = '\0';
	expression = lua_box_compile(box, input, &why);
	for (int i = 0; i < 2 && expression != -1; i++)
		lua_box_run(box, expression, input + strlen(input) + 1,
		    &number, &why);
	lua_box_free(&box);
	free(input);
	return 0;
}
