/* The From field; two of them if there is a NUL. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "filters/from.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	struct from from = { 0 };

	from_add(&from, arena, (const char *)data, size);
	if (from_domain(&from) != NULL && (from.count != 1 ||
	    memchr(data, '\0', size) != NULL))
		abort();
	from_add(&from, arena, (const char *)data, size);
	if (from_domain(&from) != NULL)
		abort();
	arena_free(&arena);
	return 0;
}
