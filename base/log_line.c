/* Lines of the log: escaping and bounds, as text and as JSON (RFC 8259). */
#include "base/log_line.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* Room kept for "...", a quote, a brace and the LF. */
#define RESERVE 16
#define LIMIT (LOG_LINE_SIZE - RESERVE)
#define CUT "..."

static const char hex[] = "0123456789ABCDEF";

/* Appends all or nothing; at the limit the mark says that something is gone. */
static bool
put_whole(struct log_line *line, const char *bytes, size_t len)
{
	if (line->len > LIMIT)
		return false;
	if (len > LIMIT - line->len) {
		memcpy(line->bytes + line->len, CUT, 3);
		line->len += 3;
		/* Later appends must fail as well, whatever their length. */
		if (line->len <= LIMIT) {
			memset(line->bytes + line->len, '.',
			    LIMIT + 1 - line->len);
			line->len = LIMIT + 1;
		}
		return false;
	}
	memcpy(line->bytes + line->len, bytes, len);
	line->len += len;
	return true;
}

static void
put_reserved(struct log_line *line, char byte)
{
	if (line->len < LOG_LINE_SIZE)
		line->bytes[line->len++] = byte;
}

void
log_line_put(struct log_line *line, const char *bytes, size_t len)
{
	if (line->len > LIMIT)
		return;
	if (len <= LIMIT - line->len) {
		memcpy(line->bytes + line->len, bytes, len);
		line->len += len;
		return;
	}
	memcpy(line->bytes + line->len, bytes, LIMIT - line->len);
	line->len = LIMIT;
	put_whole(line, CUT, 3);
}

void
log_line_puts(struct log_line *line, const char *string)
{
	log_line_put(line, string, strlen(string));
}

void
log_line_number(struct log_line *line, int64_t number)
{
	char digits[24];
	char *p = digits + sizeof(digits);
	uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;

	do {
		*--p = (char)('0' + rest % 10);
	} while ((rest /= 10) != 0);
	if (number < 0)
		*--p = '-';
	log_line_put(line, p, (size_t)(digits + sizeof(digits) - p));
}

/* The length of the UTF-8 sequence at p and its code point; 0 if it's none. */
static size_t
utf8(const unsigned char *p, unsigned *code)
{
	static const unsigned smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len;

	if (p[0] < 0x80) {
		*code = p[0];
		return 1;
	}
	if (p[0] >= 0xc2 && p[0] < 0xe0)
		len = 2;
	else if (p[0] >= 0xe0 && p[0] < 0xf0)
		len = 3;
	else if (p[0] >= 0xf0 && p[0] < 0xf5)
		len = 4;
	else
		return 0;
	*code = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)	/* the NUL, too, ends here */
			return 0;
		*code = *code << 6 | (p[i] & 0x3fu);
	}
	if (*code < smallest[len] || *code > 0x10ffff ||
	    (*code >= 0xd800 && *code < 0xe000))
		return 0;
	return len;
}

/*
 * Characters that move a terminal's cursor, end a line, or turn the order of
 * what follows around (Unicode UAX #9), so that a line would show what isn't
 * there.
 */
static bool
is_treacherous(unsigned code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) ||
	    code == 0x061c || (code >= 0x200b && code <= 0x200f) ||
	    (code >= 0x2028 && code <= 0x202e) ||
	    (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

/* Where an ASCII character may stand as it is. */
enum { IN_TEXT = 1, IN_ADDRESS = 2, IN_JSON = 4, EVERYWHERE = 7 };

static const unsigned char plain[256] = {
	[' '] = EVERYWHERE, ['!'] = EVERYWHERE, ['"'] = IN_TEXT | IN_ADDRESS,
	['#' ... ';'] = EVERYWHERE, ['<'] = IN_TEXT | IN_JSON,
	['='] = EVERYWHERE, ['>'] = IN_TEXT | IN_JSON,
	['?' ... '['] = EVERYWHERE, ['\\'] = IN_TEXT | IN_ADDRESS,
	[']' ... '~'] = EVERYWHERE,
};

/* How many bytes from p on may stand as they are. */
static size_t
plain_run(const unsigned char *p, unsigned where)
{
	size_t n = 0;

	while (plain[p[n]] & where)
		n++;
	return n;
}

static void
put_escaped(struct log_line *line, const unsigned char *p, size_t len)
{
	char escaped[16];

	for (size_t i = 0; i < len; i++) {
		escaped[4 * i] = '\\';
		escaped[4 * i + 1] = 'x';
		escaped[4 * i + 2] = hex[p[i] >> 4];
		escaped[4 * i + 3] = hex[p[i] & 15];
	}
	put_whole(line, escaped, 4 * len);
}

static void
put_text(struct log_line *line, const char *string, unsigned where)
{
	const unsigned char *p = (const unsigned char *)string;
	unsigned code;
	size_t len, n;

	while (*p != '\0' && line->len <= LIMIT) {
		if ((n = plain_run(p, where)) > 0) {
			log_line_put(line, (const char *)p, n);
			p += n;
			continue;
		}
		len = utf8(p, &code);
		if (len > 1 && !is_treacherous(code))
			put_whole(line, (const char *)p, len);
		else
			put_escaped(line, p, len == 0 ? 1 : len);
		p += len == 0 ? 1 : len;
	}
}

void
log_line_text(struct log_line *line, const char *string)
{
	put_text(line, string, IN_TEXT);
}

void
log_line_address(struct log_line *line, const char *string)
{
	put_text(line, string, IN_ADDRESS);
}

/* What stands for the character at p in a JSON string, in unit; its length. */
static size_t
json_unit(const unsigned char *p, size_t *used, char unit[8])
{
	unsigned code;

	*used = utf8(p, &code);
	if (*used == 0) {
		*used = 1;
		memcpy(unit, "\xef\xbf\xbd", 3);	/* U+FFFD */
		return 3;
	}
	if (code == '"' || code == '\\') {
		unit[0] = '\\';
		unit[1] = (char)code;
		return 2;
	}
	if (is_treacherous(code)) {		/* all are below U+10000 */
		unit[0] = '\\';
		unit[1] = 'u';
		for (int i = 0; i < 4; i++)
			unit[2 + i] = hex[code >> (12 - 4 * i) & 15];
		return 6;
	}
	memcpy(unit, p, *used);
	return *used;
}

static void
json_quoted(struct log_line *line, const char *value)
{
	const unsigned char *p = (const unsigned char *)value;
	char unit[8];
	size_t len, n, used;

	put_reserved(line, '"');
	while (*p != '\0') {
		n = plain_run(p, IN_JSON);
		if (line->len < LIMIT && n > LIMIT - line->len)
			n = LIMIT - line->len;
		if (n > 0 && line->len < LIMIT) {
			log_line_put(line, (const char *)p, n);
			p += n;
			continue;
		}
		len = json_unit(p, &used, unit);
		if (!put_whole(line, unit, len))
			break;
		p += used;
	}
	put_reserved(line, '"');
}

/* Begins a member; false if there is no room for it. */
static bool
json_name(struct log_line *line, const char *name)
{
	size_t len = strlen(name);

	/* Comma, quotes, colon, and a number or an empty string. */
	if (line->len > LIMIT || LIMIT - line->len < len + 32)
		return false;
	if (line->bytes[line->len - 1] != '{')
		log_line_put(line, ",", 1);
	log_line_put(line, "\"", 1);
	log_line_put(line, name, len);
	log_line_put(line, "\":", 2);
	return true;
}

void
log_line_json_open(struct log_line *line)
{
	log_line_put(line, "{", 1);
}

void
log_line_json_string(struct log_line *line, const char *name,
    const char *value)
{
	if (json_name(line, name))
		json_quoted(line, value);
}

void
log_line_json_number(struct log_line *line, const char *name, int64_t number)
{
	if (json_name(line, name))
		log_line_number(line, number);
}

void
log_line_json_seconds(struct log_line *line, const char *name, int64_t ms)
{
	char text[32];
	uint64_t whole = ms < 0 ? 0 - (uint64_t)ms : (uint64_t)ms;

	if (!json_name(line, name))
		return;
	snprintf(text, sizeof(text), "%s%llu.%03u", ms < 0 ? "-" : "",
	    (unsigned long long)(whole / 1000), (unsigned)(whole % 1000));
	log_line_puts(line, text);
}

void
log_line_json_close(struct log_line *line)
{
	put_reserved(line, '}');
}

void
log_line_end(struct log_line *line)
{
	if (line->len == LOG_LINE_SIZE)
		line->len--;
	line->bytes[line->len++] = '\n';
}
