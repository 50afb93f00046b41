#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "t/unit/unit.h"

static void
zeroes_and_aligns(void)
{
	static const size_t sizes[] = { 1, 3, 16, 100, 1000, 5000, 70000, 1 };
	struct arena *arena = arena_new(0);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char *p = arena_alloc(arena, sizes[i]);

		CU_ASSERT((uintptr_t)p % _Alignof(max_align_t) == 0);
		for (size_t k = 0; k < sizes[i]; k++)
			if (p[k] != 0)
				CU_FAIL("not zeroed");
		memset(p, 0xff, sizes[i]);
	}
	arena_free(&arena);
	CU_ASSERT_PTR_NULL(arena);
	arena_free(&arena);
}

static void
copies(void)
{
	struct arena *arena = arena_new(64);
	char *text;

	CU_ASSERT_STRING_EQUAL(arena_strdup(arena, "abc"), "abc");
	CU_ASSERT_STRING_EQUAL(arena_strndup(arena, "abcdef", 2), "ab");
	CU_ASSERT_STRING_EQUAL(arena_strndup(arena, NULL, 0), "");
	CU_ASSERT(memcmp(arena_memdup(arena, "a\0b", 3), "a\0b", 3) == 0);
	CU_ASSERT_STRING_EQUAL(arena_printf(arena, "%d-%s", 7, "x"), "7-x");
	text = arena_printf(arena, "%0*d", 3000, 1);
	CU_ASSERT_EQUAL(strlen(text), 3000);
	CU_ASSERT_EQUAL(text[2999], '1');
	arena_free(&arena);
}

static void
large_blocks_keep_the_newest(void)
{
	struct arena *arena = arena_new(1024);
	char *before, *after;

	before = arena_alloc(arena, 16);
	(void)arena_alloc(arena, 100000);
	after = arena_alloc(arena, 16);
	CU_ASSERT_PTR_EQUAL(after, before + 16);
	arena_free(&arena);
}

static void
reset_keeps_the_first_block(void)
{
	struct arena *arena = arena_new(1024);
	size_t size = arena_size(arena);
	char *first = arena_alloc(arena, 8);

	CU_ASSERT(size >= 1024 && size < 1200);
	memset(first, 1, 8);
	for (int i = 0; i < 100; i++)
		(void)arena_alloc(arena, 500);
	(void)arena_alloc(arena, 200000);
	CU_ASSERT(arena_size(arena) > 250000);
	arena_reset(arena);
	CU_ASSERT_EQUAL(arena_size(arena), size);
	CU_ASSERT_PTR_EQUAL(arena_alloc(arena, 8), first);
	CU_ASSERT_EQUAL(first[0], 0);
	arena_free(&arena);
}

SUITE(arena,
    { "zeroes and aligns", zeroes_and_aligns },
    { "copies", copies },
    { "large blocks keep the newest", large_blocks_keep_the_newest },
    { "reset keeps the first block", reset_keeps_the_first_block })
