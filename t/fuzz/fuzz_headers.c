/* A header section: parsed, read, and rebuilt from its values. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was added must be one whole field, whatever the value held. */
static void
add_again(struct arena *arena, const char *name, const char *value, bool lead)
{
	struct headers added = { 0 }, again = { 0 };
	struct header *header = headers_add(&added, arena, NULL, name, value,
	    lead);

	assert(header != NULL || strlen(name) > 400);
	if (header == NULL)
		return;
	assert(headers_parse(&again, arena, header->raw, header->len) ==
	    header->len);
	assert(again.count == 1);
	assert(again.first->raw == header->raw);	/* all lines in CRLF */
	headers_change(&added, arena, header, value, !lead);
	assert(added.bytes == header->len);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	size_t bytes = 0;
	size_t used = headers_parse(&headers, arena, (const char *)data, size);

	assert(used <= size);
	for (struct header *h = headers.first; h != NULL; h = h->next) {
		const char *name = header_name(h, arena);

		bytes += h->len;
		assert(h->len >= 2 &&
		    memcmp(h->raw + h->len - 2, "\r\n", 2) == 0);
		assert(header_is(h, name));
		add_again(arena, name, header_value(h, arena, false), false);
		add_again(arena, name, header_value(h, arena, true), true);
	}
	assert(bytes == headers.bytes);
	/* The input itself as a value: no byte of it may begin a field. */
	add_again(arena, "X", arena_strndup(arena, (const char *)data, size),
	    true);
	while (headers.first != NULL)
		headers_delete(&headers, headers.first);
	assert(headers.count == 0 && headers.bytes == 0);
	arena_free(&arena);
	return 0;
}
