/*
 * The trace of a message: lines in one run of bytes that doubles inside the
 * arena, which wastes at most as much as the trace itself holds.
 */
#include "filters/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"

#define TRACE_FIRST	1024
#define TRACE_MAX	16384
#define TRACE_LINE_MAX	1024
#define TRACE_CUT	"(the trace was cut here)\n"

struct trace {
	struct arena *arena;
	int64_t begin_us;
	char *text;
	size_t len, size;
	int cut;
};

static void
grow(struct trace *trace, size_t need)
{
	size_t size = trace->size != 0 ? trace->size : TRACE_FIRST;
	char *text;

	while (size < need)
		size *= 2;
	if (size == trace->size)
		return;
	text = arena_alloc(trace->arena, size);
	if (trace->len > 0)
		memcpy(text, trace->text, trace->len);
	trace->text = text;
	trace->size = size;
}

static void
append(struct trace *trace, const char *bytes, size_t len)
{
	grow(trace, trace->len + len + 1);
	memcpy(trace->text + trace->len, bytes, len);
	trace->len += len;
	trace->text[trace->len] = '\0';
}

/* A line never holds control characters: one event stays one line. */
static size_t
escape(char *to, size_t size, const char *from)
{
	static const char hex[] = "0123456789abcdef";
	size_t len = 0;

	for (; *from != '\0' && len + 5 < size; from++) {
		unsigned char byte = (unsigned char)*from;

		if (byte >= 0x20 && byte != 0x7f) {
			to[len++] = *from;
			continue;
		}
		to[len++] = '\\';
		to[len++] = 'x';
		to[len++] = hex[byte >> 4];
		to[len++] = hex[byte & 15];
	}
	return len;
}

static double
elapsed_ms(const struct trace *trace)
{
	return (double)(clock_us() - trace->begin_us) / 1000;
}

struct trace *
trace_new(struct arena *arena)
{
	struct trace *trace = arena_alloc(arena, sizeof(*trace));

	trace->arena = arena;
	trace->begin_us = clock_us();
	return trace;
}

void
trace_add(struct trace *trace, const char *who, const char *format, ...)
{
	char text[TRACE_LINE_MAX], line[TRACE_LINE_MAX + 64];
	size_t len;
	va_list ap;

	if (trace == NULL || trace->cut)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);

	len = (size_t)snprintf(line, 32, "+%.1fms ", elapsed_ms(trace));
	if (len > 31)
		len = 31;
	len += escape(line + len, 64, who);
	line[len++] = ':';
	line[len++] = ' ';
	len += escape(line + len, sizeof(line) - len - 1, text);
	line[len++] = '\n';

	if (trace->len + len + sizeof(TRACE_CUT) > TRACE_MAX) {
		trace->cut = 1;
		append(trace, TRACE_CUT, sizeof(TRACE_CUT) - 1);
		return;
	}
	append(trace, line, len);
}

const char *
trace_text(const struct trace *trace, size_t *len)
{
	*len = trace != NULL ? trace->len : 0;
	return *len > 0 ? trace->text : "";
}
