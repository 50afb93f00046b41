/* SPF records and explanations: the guard, and macros of what passes it. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "filters/spf_guard.h"
#include "filters/spf_macro.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct spf_macros macros = { "a.b-c@x.test", "a.b-c",
		"x.test", "x.test", "192.0.2.1", "in-addr", "h.test",
		"p.test", "192.0.2.1", "mx.test", "1700000000" };
	struct arena *arena = arena_new(0);
	const struct spf_record *record;
	const char *why, *text = arena_strndup(arena, (const char *)data,
	    size);
	bool uses_p;

	if (spf_is_explanation((const char *)data, size, &uses_p)) {
		text = spf_macro_text(arena, text, &macros);
		if (strlen(text) > SPF_TEXT_MAX)
			abort();
		for (; *text != '\0'; text++)
			if (*text < ' ' || *text > '~')
				abort();
	}
	record = spf_record_parse(arena, (const char *)data, size, &why);
	for (size_t i = 0; record != NULL && i < record->count; i++)
		if (record->terms[i].domain != NULL &&
		    strlen(spf_macro_expand(arena, record->terms[i].domain,
		    &macros)) > SPF_TERM_MAX * 60)
			abort();
	arena_free(&arena);
	return 0;
}
