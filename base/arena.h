/*
 * Arena: memory that is freed all at once.  Each session and each message owns
 * one; what lives as long as they do is never freed by hand.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

struct arena;

/* A new arena; its first block holds about first_size bytes, 0: a default. */
struct arena *arena_new(size_t first_size);

/* Frees all that was allocated from it, clears the pointer; NULL is fine. */
void arena_free(struct arena **);

/* Empties the arena for reuse; keeps its first block. */
void arena_reset(struct arena *);

/* Zeroed memory, aligned for any type.  Never NULL: out of memory is fatal. */
void *arena_alloc(struct arena *, size_t size);

/* Copies; each result ends in NUL and belongs to the arena. */
char *arena_strdup(struct arena *, const char *string);
char *arena_strndup(struct arena *, const char *bytes, size_t len);
void *arena_memdup(struct arena *, const void *bytes, size_t len);
char *arena_printf(struct arena *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes held from the system, for limits and metrics. */
size_t arena_size(const struct arena *);

#endif
