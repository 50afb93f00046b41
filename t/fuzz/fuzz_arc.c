/*
 * A header with ARC sets and a body: reading and checking them with a key that
 * fits some.  Input: a message.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/arc_check.h"
#include "filters/arc_set.h"
#include "filters/authres.h"
#include "filters/dkim_key.h"
#include "filters/mail.h"
#include "t/unit/filters/dkim_vectors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct dkim_rules rules = { .clock_skew = 300 };

/* Every chain gets a verdict. */
static void
check(struct arena *arena, struct arc_sets *sets,
    const struct headers *headers, const char *body, size_t len)
{
	static struct dkim_key_cache *cache;
	const char *key = arena_printf(arena, "p=%s", rsa_public);
	struct arc_check *check;
	struct dkim_signature *signature;
	struct arc_verdict verdict;

	if (cache == NULL)
		cache = dkim_key_cache_new();
	check = arc_check_new(arena, sets, headers, cache, 1024);
	for (size_t n = 0; (signature = arc_check_signature(check,
	    n)) != NULL; n++)
		if (signature->result == NULL)
			arc_check_key(check, signature, key, strlen(key));
	arc_check_body(check, body, len / 2);
	arc_check_body(check, body + len / 2, len - len / 2);
	while (arc_check_step(check))
		;
	verdict = arc_check_verdict(check);
	assert((strcmp(verdict.result, "none") == 0) == (sets->count == 0 &&
	    sets->why == NULL));
	assert(strcmp(verdict.result, "temperror") != 0);
	assert(strcmp(verdict.result, "fail") != 0 || verdict.why != NULL);
	arc_check_free(&check);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	struct headers headers = { 0 };
	struct arc_sets *sets = arena_alloc(arena, sizeof(*sets));
	const char *bytes = (const char *)data;
	size_t used = headers_parse(&headers, arena, bytes, size);

	arc_sets_read(sets, arena, &headers, &rules, 1795495819);
	assert(sets->count <= ARC_SETS_MAX);
	for (size_t i = 0; i < sets->count && sets->why == NULL; i++)
		authres_result(arena, sets->sets[i].payload,
		    sets->sets[i].payload_len, "dmarc");
	check(arena, sets, &headers, bytes + used, size - used);
	arena_free(&arena);
	return 0;
}
