/*
 * The trace of a message or session: what each filter saw, found and changed,
 * with times, so that an operator can ask why (millgatectl explain).
 */
#ifndef FILTERS_TRACE_H
#define FILTERS_TRACE_H

#include <stddef.h>

struct arena;
struct trace;

/* In the arena; keeps at most about 16 KB, then says that it was cut. */
struct trace *trace_new(struct arena *);

/* Adds a line "+12.3ms who: text"; control characters are escaped.
 * NULL trace: does nothing. */
void trace_add(struct trace *, const char *who, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* All lines so far, each ended by \n. */
const char *trace_text(const struct trace *, size_t *len);

#endif
