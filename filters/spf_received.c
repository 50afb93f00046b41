#include "filters/spf_received.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"

#define VALUE_MAX 320		/* longer ones are no addresses */

static void
put_safe(struct buf *out, const char *text, const char *escaped)
{
	for (size_t i = 0; i < VALUE_MAX && text[i] != '\0'; i++) {
		if (strchr(escaped, text[i]) != NULL)
			buf_putc(out, '\\');
		buf_putc(out, text[i] >= ' ' && text[i] <= '~' ? text[i] :
		    '?');
	}
}

static void
put_pair(struct buf *out, const char *key, const char *value)
{
	if (value == NULL)
		return;
	buf_printf(out, "\n\t%s=\"", key);
	put_safe(out, value, "\"\\");
	buf_puts(out, "\";");
}

const char *
spf_received_print(struct arena *arena, const struct spf_received *r)
{
	struct buf out = BUF_INIT;
	const char *value;

	buf_printf(&out, "%s (", r->result);
	put_safe(&out, r->receiver, "()\\");
	buf_puts(&out, ": ");
	put_safe(&out, r->why, "()\\");
	buf_puts(&out, ")");
	put_pair(&out, "receiver", r->receiver);
	put_pair(&out, "client-ip", r->client);
	put_pair(&out, "identity", r->identity);
	put_pair(&out, "envelope-from", r->sender);
	put_pair(&out, "helo", r->helo);
	value = arena_strndup(arena, out.data, out.len - 1);
	buf_release(&out);
	return value;
}
