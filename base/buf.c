/* A growable run of bytes: doubles when full, always NUL-ended. */
#include "base/buf.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define SMALLEST 64

void
buf_release(struct buf *buf)
{
	free(buf->data);
	*buf = (struct buf)BUF_INIT;
}

void
buf_reset(struct buf *buf)
{
	buf->len = 0;
	if (buf->data != NULL)
		buf->data[0] = '\0';
}

char *
buf_reserve(struct buf *buf, size_t more)
{
	size_t need, size;
	char *data;

	if (more >= SIZE_MAX / 2 - buf->len)
		fatal("buffer: %zu more bytes asked for", more);
	need = buf->len + more + 1;
	if (need <= buf->size)
		return buf->data + buf->len;
	size = buf->size < SMALLEST ? SMALLEST : buf->size * 2;
	if (size < need)
		size = need;
	if ((data = realloc(buf->data, size)) == NULL)
		fatal("out of memory (%zu bytes)", size);
	buf->data = data;
	buf->size = size;
	buf->data[buf->len] = '\0';
	return buf->data + buf->len;
}

void
buf_append(struct buf *buf, const void *bytes, size_t len)
{
	char *end = buf_reserve(buf, len);

	if (len > 0)
		memcpy(end, bytes, len);
	buf->len += len;
	buf->data[buf->len] = '\0';
}

void
buf_puts(struct buf *buf, const char *string)
{
	buf_append(buf, string, strlen(string));
}

void
buf_putc(struct buf *buf, int byte)
{
	char *end = buf_reserve(buf, 1);

	end[0] = (char)byte;
	end[1] = '\0';
	buf->len++;
}

void
buf_printf(struct buf *buf, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(buf, format, args);
	va_end(args);
}

void
buf_vprintf(struct buf *buf, const char *format, va_list args)
{
	va_list again;
	size_t room;
	char *end;
	int len;

	end = buf_reserve(buf, SMALLEST);
	room = buf->size - buf->len;
	va_copy(again, args);
	len = vsnprintf(end, room, format, args);
	if (len < 0)
		fatal("buffer: cannot format \"%s\"", format);
	if ((size_t)len >= room) {
		end = buf_reserve(buf, (size_t)len);
		vsnprintf(end, (size_t)len + 1, format, again);
	}
	va_end(again);
	buf->len += (size_t)len;
}

void
buf_drain(struct buf *buf, size_t len)
{
	if (len > buf->len)
		fatal("buffer: drain of %zu bytes, %zu there", len, buf->len);
	if (len == 0)
		return;
	buf->len -= len;
	memmove(buf->data, buf->data + len, buf->len);
	buf->data[buf->len] = '\0';
}
