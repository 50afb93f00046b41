/*
 * An arena is a list of blocks; memory is cut from the newest.  What is larger
 * than a block gets one of its own, behind the newest, so that the rest of the
 * newest is not lost.  The arena itself lies at the head of its first block:
 * one malloc serves a small session.
 */
#include "base/arena.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/sanitize.h"

#define ALIGNMENT	_Alignof(max_align_t)
#define FIRST_SIZE	2048
#define LAST_SIZE	65536		/* blocks double up to this */

struct block {
	struct block *next;		/* older */
	size_t size;			/* of data */
	size_t used;
	max_align_t data[];
};

struct arena {
	struct block *newest;
	size_t size;			/* of all blocks */
	size_t next_size;
	struct block first;
};

static size_t
align_up(size_t size)
{
	return (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
}

static void
block_init(struct block *block, size_t size)
{
	block->next = NULL;
	block->size = size;
	block->used = 0;
	ASAN_POISON_MEMORY_REGION(block->data, size);
}

static void
block_free(struct block *block)
{
	ASAN_UNPOISON_MEMORY_REGION(block->data, block->size);
	free(block);
}

static struct block *
block_new(struct arena *arena, size_t size)
{
	struct block *block;

	size = align_up(size);
	if ((block = malloc(sizeof(*block) + size)) == NULL)
		fatal("out of memory (%zu bytes)", size);
	block_init(block, size);
	arena->size += sizeof(*block) + size;
	return block;
}

/* A block that has room for size bytes, which may not be the newest. */
static struct block *
block_with_room(struct arena *arena, size_t size)
{
	struct block *block, *newest = arena->newest;

	if (newest->size - newest->used >= size)
		return newest;
	if (size > arena->next_size / 2) {
		block = block_new(arena, size);
		block->next = newest->next;
		newest->next = block;
		return block;
	}
	block = block_new(arena, arena->next_size);
	block->next = newest;
	arena->newest = block;
	if (arena->next_size < LAST_SIZE)
		arena->next_size *= 2;
	return block;
}

/* Memory that isn't zeroed, for those who fill it. */
static void *
cut(struct arena *arena, size_t size)
{
	struct block *block;
	char *start;

	if (size > SIZE_MAX / 2)
		fatal("arena: %zu bytes asked for", size);
	block = block_with_room(arena, align_up(size));
	start = (char *)block->data + block->used;
	block->used += align_up(size);
	ASAN_UNPOISON_MEMORY_REGION(start, size);
	return start;
}

struct arena *
arena_new(size_t first_size)
{
	struct arena *arena;
	size_t size;

	size = align_up(first_size == 0 ? FIRST_SIZE : first_size);
	if ((arena = malloc(sizeof(*arena) + size)) == NULL)
		fatal("out of memory (%zu bytes)", size);
	block_init(&arena->first, size);
	arena->newest = &arena->first;
	arena->size = sizeof(*arena) + size;
	arena->next_size = size < FIRST_SIZE ? FIRST_SIZE : size;
	if (arena->next_size > LAST_SIZE)
		arena->next_size = LAST_SIZE;
	return arena;
}

/*
 * Frees all blocks but the first.  A large block stands behind the newest, so
 * the first one may be followed by others.
 */
static void
free_blocks(struct arena *arena)
{
	struct block *block, *next;

	for (block = arena->newest; block != NULL; block = next) {
		next = block->next;
		if (block == &arena->first)
			continue;
		arena->size -= sizeof(*block) + block->size;
		block_free(block);
	}
}

void
arena_free(struct arena **arenap)
{
	struct arena *arena = *arenap;

	if (arena == NULL)
		return;
	free_blocks(arena);
	ASAN_UNPOISON_MEMORY_REGION(arena->first.data, arena->first.size);
	free(arena);
	*arenap = NULL;
}

void
arena_reset(struct arena *arena)
{
	free_blocks(arena);
	block_init(&arena->first, arena->first.size);
	arena->newest = &arena->first;
}

void *
arena_alloc(struct arena *arena, size_t size)
{
	return memset(cut(arena, size), 0, size);
}

char *
arena_strdup(struct arena *arena, const char *string)
{
	return arena_memdup(arena, string, strlen(string) + 1);
}

char *
arena_strndup(struct arena *arena, const char *bytes, size_t len)
{
	char *copy = cut(arena, len + 1);

	if (len > 0)
		memcpy(copy, bytes, len);
	copy[len] = '\0';
	return copy;
}

void *
arena_memdup(struct arena *arena, const void *bytes, size_t len)
{
	char *copy = cut(arena, len);

	if (len > 0)
		memcpy(copy, bytes, len);
	return copy;
}

char *
arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args;
	char small[256], *text;
	int len;

	va_start(args, format);
	len = vsnprintf(small, sizeof(small), format, args);
	va_end(args);
	if (len < 0)
		fatal("arena: cannot format \"%s\"", format);
	if ((size_t)len < sizeof(small))
		return arena_memdup(arena, small, (size_t)len + 1);
	text = cut(arena, (size_t)len + 1);
	va_start(args, format);
	vsnprintf(text, (size_t)len + 1, format, args);
	va_end(args);
	return text;
}

size_t
arena_size(const struct arena *arena)
{
	return arena->size;
}
