/*
 * A growable run of bytes.  data is NULL or holds len bytes and then a NUL, so
 * that text can be used as a string.  Out of memory is fatal; whoever fills a
 * buffer from the network bounds its length.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>

struct buf {
	char *data;
	size_t len;
	size_t size;		/* allocated */
};

#define BUF_INIT { NULL, 0, 0 }

/* Frees the bytes; the buffer can be used again. */
void buf_release(struct buf *);

/* Empties the buffer, keeps its memory. */
void buf_reset(struct buf *);

/* Makes room for more bytes behind len and returns where they go. */
char *buf_reserve(struct buf *, size_t more);

void buf_append(struct buf *, const void *bytes, size_t len);
void buf_puts(struct buf *, const char *string);
void buf_putc(struct buf *, int byte);
void buf_printf(struct buf *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *, const char *format, va_list)
    __attribute__((format(printf, 2, 0)));

/* Drops the first len bytes (len <= buf->len). */
void buf_drain(struct buf *, size_t len);

#endif
