/* Expands the macros of SPF (RFC 7208, 7). */
#include "filters/spf_macro.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/domain.h"

struct part {
	const char *at;
	size_t len;
};

static const char *
or_unknown(const char *value)
{
	return value != NULL ? value : "unknown";
}

static const char *
value_of(const struct spf_macros *macros, int letter)
{
	switch (letter | 0x20) {
	case 's':
		return macros->sender;
	case 'l':
		return macros->local;
	case 'o':
		return macros->sender_domain;
	case 'd':
		return macros->domain;
	case 'i':
		return macros->address;
	case 'v':
		return macros->version;
	case 'h':
		return macros->helo;
	case 'p':
		return macros->client_name;
	case 'c':
		return or_unknown(macros->readable_address);
	case 'r':
		return or_unknown(macros->receiver);
	case 't':
		return or_unknown(macros->time);
	default:
		return "unknown";
	}
}

/* RFC 3986, 2.3, for macro letters in upper case. */
static void
put_escaped(struct buf *out, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		    (c >= '0' && c <= '9') || c == '-' || c == '.' ||
		    c == '_' || c == '~')
			buf_putc(out, c);
		else
			buf_printf(out, "%%%02X", c);
	}
}

static void
put_part(struct buf *out, const struct part *part, bool escape)
{
	if (escape)
		put_escaped(out, part->at, part->len);
	else
		buf_append(out, part->at, part->len);
}

/* The parts of a value between delimiters; there is always one. */
static struct part *
split(struct arena *arena, const char *value, const char *delimiters,
    size_t *count)
{
	struct part *parts = arena_alloc(arena,
	    (strlen(value) + 1) * sizeof(*parts));

	*count = 0;
	for (;;) {
		size_t len = strcspn(value, delimiters);

		parts[*count].at = value;
		parts[(*count)++].len = len;
		if (value[len] == '\0')
			return parts;
		value += len + 1;
	}
}

/* at stands behind "%{"; returns what is behind "}". */
static const char *
put_macro(struct arena *arena, struct buf *out, const char *at,
    const struct spf_macros *macros)
{
	const char *value = value_of(macros, *at);
	bool escape = *at >= 'A' && *at <= 'Z', reverse;
	unsigned long keep;
	char *end;
	const char *delimiters;
	struct part *parts;
	size_t count, len;

	keep = strtoul(at + 1, &end, 10);
	reverse = *end == 'r' || *end == 'R';
	if (reverse)
		end++;
	len = strcspn(end, "}");
	delimiters = len == 0 ? "." : arena_strndup(arena, end, len);
	parts = split(arena, value, delimiters, &count);
	if (keep == 0 || keep > count)
		keep = count;
	for (size_t i = count - keep; i < count; i++) {
		if (i > count - keep)
			buf_putc(out, '.');
		put_part(out, &parts[reverse ? count - 1 - i : i], escape);
	}
	return end[len] == '\0' ? end + len : end + len + 1;
}

static const char *
to_name(struct arena *arena, const struct buf *text)
{
	const char *at = text->data == NULL ? "" : text->data, *dot;
	size_t len = text->len;
	char *name;

	if (len > 0 && at[len - 1] == '.')
		len--;
	/* RFC 7208, 7.3: too long a name loses labels from the left. */
	while (len > DOMAIN_MAX && (dot = memchr(at, '.', len)) != NULL) {
		len -= (size_t)(dot + 1 - at);
		at = dot + 1;
	}
	name = arena_strndup(arena, at, len);
	for (char *p = name; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
	return name;
}

static void
put_all(struct arena *arena, struct buf *out, const char *spec,
    const struct spf_macros *macros)
{
	while (*spec != '\0') {
		if (*spec != '%' || spec[1] == '\0') {
			buf_putc(out, *spec++);
			continue;
		}
		switch (spec[1]) {
		case '{':
			spec = put_macro(arena, out, spec + 2, macros);
			continue;
		case '_':
			buf_putc(out, ' ');
			break;
		case '-':
			buf_puts(out, "%20");
			break;
		default:
			buf_putc(out, '%');
			break;
		}
		spec += 2;
	}
}

const char *
spf_macro_expand(struct arena *arena, const char *spec,
    const struct spf_macros *macros)
{
	struct buf out = BUF_INIT;
	const char *name;

	put_all(arena, &out, spec, macros);
	name = to_name(arena, &out);
	buf_release(&out);
	return name;
}

const char *
spf_macro_text(struct arena *arena, const char *explanation,
    const struct spf_macros *macros)
{
	struct buf out = BUF_INIT;
	char *text;

	put_all(arena, &out, explanation, macros);
	text = arena_strndup(arena, out.data != NULL ? out.data : "",
	    out.len < SPF_TEXT_MAX ? out.len : SPF_TEXT_MAX);
	buf_release(&out);
	for (char *p = text; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return text;
}
