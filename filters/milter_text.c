/*
 * SMTP replies that a filter dictates (SMFIR_REPLYCODE): judged before a client
 * can hear them, as they come from another program.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/milter_codec.h"

#define TEXT_MAX	40000		/* libmilter: 32 lines of 980 */
#define LINE_MAX_OUT	480		/* RFC 5321, 4.5.3.1.5: 512 with code */

/* "5.7.1" at the front: its length, or 0. */
static size_t
enhanced_length(const char *text, size_t len)
{
	size_t at = 0, digits;

	for (int part = 0; part < 3; part++) {
		for (digits = 0; at < len && digits < 4 &&
		    isdigit((unsigned char)text[at]); digits++)
			at++;
		if (digits == 0 || digits > 3)
			return 0;
		if (part < 2 && (at >= len || text[at++] != '.'))
			return 0;
	}
	if (at < len && text[at] != ' ')
		return 0;
	return at;
}

/*
 * Filters write a percent sign twice, as both MTAs once passed the text to
 * printf.  Long lines are broken so that a reply line stays within its limit.
 */
static void
put_line(struct buf *out, const char *text, size_t len)
{
	size_t column = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte == '%' && i + 1 < len && text[i + 1] == '%')
			continue;
		if (byte < 0x20 || byte == 0x7f)
			continue;
		if (++column > LINE_MAX_OUT) {
			buf_putc(out, '\n');
			column = 1;
		}
		buf_putc(out, byte < 0x80 ? byte : '?');
	}
}

static const char *
line_code(const char *line, size_t len, bool last, int *code)
{
	if (len < 4 || (line[0] != '4' && line[0] != '5') ||
	    !isdigit((unsigned char)line[1]) ||
	    !isdigit((unsigned char)line[2]))
		return "no reply code 4xx or 5xx";
	if (line[3] != (last ? ' ' : '-'))
		return "no space or hyphen behind the reply code";
	*code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
	return NULL;
}

static const char *
parse_line(const char *line, size_t len, bool last, struct buf *out,
    struct arena *arena, struct milter_text *text)
{
	const char *why;
	size_t skip;
	int code;

	if ((why = line_code(line, len, last, &code)) != NULL)
		return why;
	if (text->code != 0 && text->code != code)
		return "lines with different reply codes";
	if (memchr(line, '\r', len) != NULL)
		return "carriage return inside a line";
	skip = enhanced_length(line + 4, len - 4);
	if (skip > 0 && line[4] != line[0])
		return "enhanced code of another class than the reply code";
	if (skip > 0 && text->enhanced == NULL && text->code == 0)
		text->enhanced = arena_strndup(arena, line + 4, skip);
	if (text->code != 0)
		buf_putc(out, '\n');
	text->code = code;
	skip += 4;
	if (skip > 4 && skip < len)
		skip++;
	put_line(out, line + skip, len - skip);
	return NULL;
}

int
milter_text_parse(const char *payload, size_t len, struct arena *arena,
    struct milter_text *text, const char **why)
{
	struct buf out = BUF_INIT;
	const char *line = payload, *end;

	memset(text, 0, sizeof(*text));
	*why = NULL;
	if (len == 0 || payload[len - 1] != '\0') {
		*why = "reply text does not end in NUL";
		return -1;
	}
	end = payload + len - 1;
	if (memchr(payload, '\0', len - 1) != NULL || len > TEXT_MAX) {
		*why = "reply text holds a NUL or is too long";
		return -1;
	}
	do {
		const char *lf = memchr(line, '\n', (size_t)(end - line));
		const char *stop = lf != NULL ? lf : end;

		if (lf != NULL && stop > line && stop[-1] == '\r')
			stop--;
		*why = parse_line(line, (size_t)(stop - line), lf == NULL,
		    &out, arena, text);
		line = lf != NULL ? lf + 1 : NULL;
	} while (*why == NULL && line != NULL);
	if (*why == NULL)
		text->text = arena_strndup(arena,
		    out.data != NULL ? out.data : "", out.len);
	buf_release(&out);
	return *why == NULL ? 0 : -1;
}

void
milter_put_text(struct buf *out, int code, const char *enhanced,
    const char *text)
{
	size_t begin = milter_begin(out, MILTER_REPLYCODE);

	for (;;) {
		size_t len = strcspn(text, "\n");

		buf_printf(out, "%03d%c", code, text[len] != '\0' ? '-' : ' ');
		if (enhanced != NULL)
			buf_printf(out, "%s ", enhanced);
		for (size_t i = 0; i < len; i++) {
			if (text[i] == '%')
				buf_putc(out, '%');
			if (text[i] != '\r')
				buf_putc(out, text[i]);
		}
		if (text[len] == '\0')
			break;
		buf_puts(out, "\r\n");
		text += len + 1;
	}
	buf_putc(out, '\0');
	milter_end(out, begin);
}
