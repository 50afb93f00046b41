/* A line of Dovecot's auth process: what it gives can't leave its place. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "gateway/sasl_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
check_text(const char *text)
{
	for (; text != NULL && *text != '\0'; text++)
		assert((unsigned char)*text >= ' ' && *text != 0x7f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	struct sasl_line line;
	const char *why = NULL;

	if (sasl_line_parse(arena, (const char *)data, size, &line,
	    &why) == 0) {
		check_text(line.user);
		check_text(line.reason);
		check_text(line.mechanism);
		assert(line.challenge == NULL ||
		    sasl_is_base64(line.challenge, strlen(line.challenge)));
	} else
		assert(why != NULL);
	arena_free(&arena);
	return 0;
}
