/* The authserv-id of a field, and values that must not leave their place. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/authres.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Semicolons outside of quotes and comments: one for each result. */
static size_t
results(const char *text)
{
	size_t depth = 0, count = 0;
	bool quoted = false;

	for (; *text != '\0'; text++) {
		if ((quoted || depth > 0) && *text == '\\' && text[1] != '\0')
			text++;
		else if (quoted)
			quoted = *text != '"';
		else if (*text == '(')
			depth++;
		else if (*text == ')' && depth > 0)
			depth--;
		else if (depth == 0 && *text == '"')
			quoted = true;
		else if (depth == 0 && *text == ';')
			count++;
	}
	assert(!quoted && depth == 0);
	return count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	const char *text = arena_strndup(arena, (const char *)data, size);
	struct property property = { "smtp", "mailfrom", text, NULL };
	struct finding finding = { .method = "spf", .result = "pass",
	    .reason = text, .properties = &property, .report = true };
	const char *printed = authres_print(arena, "mx.example", &finding,
	    size % 2);

	authres_id(arena, (const char *)data, size);
	assert(results(printed) == 1);
	assert(authres_id_equal(authres_id(arena, printed, strlen(printed)),
	    "mx.example"));
	arena_free(&arena);
	return 0;
}
