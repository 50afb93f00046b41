/* Paths of MAIL and RCPT (RFC 5321, 4.1.2; RFC 6531, 3.3). */
#include "gateway/smtp_path.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <strings.h>

#define LABEL_MAX 63

static bool
is_atext(unsigned char byte)
{
	return smtp_is_alnum(byte) ||
	    (byte != '\0' && strchr("!#$%&'*+-/=?^_`{|}~", byte) != NULL);
}

bool
smtp_span_is(struct smtp_span span, const char *word)
{
	return strlen(word) == span.len &&
	    strncasecmp(span.data, word, span.len) == 0;
}

struct smtp_span
smtp_span_trim(struct smtp_span span)
{
	while (span.len > 0 && smtp_is_blank(span.data[0])) {
		span.data++;
		span.len--;
	}
	while (span.len > 0 && smtp_is_blank(span.data[span.len - 1]))
		span.len--;
	return span;
}

/*
 * Length of the UTF-8 character at the front, 2 to 4; 0: not UTF-8.  C1
 * controls and the line and paragraph separators are refused: some software
 * takes them for the end of a line.
 */
static size_t
utf8_character(const char *text, size_t len)
{
	const unsigned char *byte = (const unsigned char *)text;
	size_t need = byte[0] >= 0xF0 ? 4 : byte[0] >= 0xE0 ? 3 : 2;
	uint32_t point = byte[0] & (0xFFu >> (need + 1));

	if (byte[0] < 0xC2 || byte[0] > 0xF4 || need > len)
		return 0;
	for (size_t i = 1; i < need; i++) {
		if ((byte[i] & 0xC0) != 0x80)
			return 0;
		point = point << 6 | (byte[i] & 0x3Fu);
	}
	if (point < 0xA0 || (need == 3 && point < 0x800) ||
	    (need == 4 && point < 0x10000) || point > 0x10FFFF)
		return 0;
	if ((point >= 0xD800 && point <= 0xDFFF) || point == 0x2028 ||
	    point == 0x2029)
		return 0;
	return need;
}

bool
smtp_span_has_control(struct smtp_span span)
{
	size_t step;

	for (size_t i = 0; i < span.len; i += step) {
		unsigned char byte = (unsigned char)span.data[i];

		step = 1;
		if (byte < 0x20 || byte == 0x7F)
			return true;
		if (byte < 0x80)
			continue;
		step = utf8_character(span.data + i, span.len - i);
		if (step == 0)
			return true;
	}
	return false;
}

/* An address literal (RFC 5321, 4.1.3): [192.0.2.1] or [IPv6:2001:db8::1]. */
static bool
literal_ok(struct smtp_span domain)
{
	unsigned char address[sizeof(struct in6_addr)];
	char text[INET6_ADDRSTRLEN];
	struct smtp_span inner = { domain.data + 1, domain.len - 2 };
	bool six = inner.len > 5 && strncasecmp(inner.data, "IPv6:", 5) == 0;

	if (six)
		inner = smtp_span_behind(inner, 5);
	if (inner.len == 0 || inner.len >= sizeof text ||
	    memchr(inner.data, '\0', inner.len) != NULL)
		return false;
	memcpy(text, inner.data, inner.len);
	text[inner.len] = '\0';
	return inet_pton(six ? AF_INET6 : AF_INET, text, address) == 1;
}

/*
 * A domain: labels of letters, digits, hyphens, and underscores, which RFC 5321
 * lacks but mail has.  No empty label, so no dot at the end.
 */
static bool
domain_ok(struct smtp_span domain, bool *utf8)
{
	size_t label = 0, step;

	if (domain.len == 0 || domain.len > SMTP_DOMAIN_MAX)
		return false;
	if (domain.data[0] == '[')
		return domain.len > 2 && domain.data[domain.len - 1] == ']' &&
		    literal_ok(domain);
	for (size_t i = 0; i < domain.len; i += step) {
		unsigned char byte = (unsigned char)domain.data[i];
		bool ends = i + 1 == domain.len || domain.data[i + 1] == '.';

		step = 1;
		if (byte == '.') {
			if (label == 0 || i + 1 == domain.len)
				return false;
			label = 0;
			continue;
		}
		if (byte >= 0x80) {
			step = utf8_character(domain.data + i, domain.len - i);
			if (step == 0)
				return false;
			*utf8 = true;
		} else if (byte == '-') {
			if (label == 0 || ends)
				return false;
		} else if (!smtp_is_alnum(byte) && byte != '_')
			return false;
		/* What counts is the A-label; the look-up checks that. */
		label += step;
		if (label > LABEL_MAX * (*utf8 ? 4 : 1))
			return false;
	}
	return true;
}

/* Length of the local part at the front; 0: it is not one. */
static size_t
local_length(struct smtp_span text, bool *utf8)
{
	bool quoted = text.len > 0 && text.data[0] == '"';
	size_t i = quoted ? 1 : 0, step;

	for (; i < text.len; i += step) {
		unsigned char byte = (unsigned char)text.data[i];

		step = 1;
		if (byte >= 0x80) {
			step = utf8_character(text.data + i, text.len - i);
			if (step == 0)
				return 0;
			*utf8 = true;
		} else if (byte < 0x20 || byte == 0x7F) {
			return 0;
		} else if (quoted && byte == '"') {
			return i + 1;
		} else if (quoted && byte == '\\') {
			step = 2;
			if (i + 1 >= text.len || text.data[i + 1] < 0x20 ||
			    text.data[i + 1] == 0x7F)
				return 0;
		} else if (!quoted && byte == '.') {
			if (i == 0 || text.data[i - 1] == '.')
				return 0;
		} else if (!quoted && !is_atext(byte))
			break;
	}
	if (quoted || i == 0 || text.data[i - 1] == '.')
		return 0;
	return i;
}

/* Skips a source route, "@a,@b:", which RFC 5321, C, says to ignore. */
static bool
skip_route(struct smtp_span *text)
{
	bool utf8 = false;

	while (text->len > 0 && text->data[0] == '@') {
		size_t len = 1;

		while (len < text->len && text->data[len] != ',' &&
		    text->data[len] != ':')
			len++;
		if (len == text->len || !domain_ok((struct smtp_span){
		    text->data + 1, len - 1 }, &utf8) || utf8)
			return false;
		if (text->data[len] == ':') {
			*text = smtp_span_behind(*text, len + 1);
			return text->len > 0 && text->data[0] != '@';
		}
		*text = smtp_span_behind(*text, len + 1);
		if (text->len == 0 || text->data[0] != '@')
			return false;
	}
	return true;
}

bool
smtp_path_parse(struct smtp_span text, struct smtp_path *path)
{
	size_t local;

	if (!skip_route(&text))
		return false;
	local = local_length(text, &path->utf8);
	if (local == 0 || local > SMTP_LOCAL_MAX)
		return false;
	path->address = text;
	path->local = (struct smtp_span){ text.data, local };
	path->domain = (struct smtp_span){ text.data + text.len, 0 };
	if (local == text.len)
		return smtp_span_is(text, "postmaster");
	if (text.data[local] != '@')
		return false;
	path->domain = smtp_span_behind(text, local + 1);
	return domain_ok(path->domain, &path->utf8);
}

/* Where the path's closing bracket is; a quoted one does not count. */
static size_t
bracket_end(struct smtp_span text)
{
	bool quoted = false;

	for (size_t i = 1; i < text.len; i++) {
		if (quoted && text.data[i] == '\\')
			i++;
		else if (text.data[i] == '"')
			quoted = !quoted;
		else if (!quoted && text.data[i] == '>')
			return i;
	}
	return 0;
}

bool
smtp_path_take(struct smtp_span *text, const char *word,
    struct smtp_span *inner)
{
	size_t len = strlen(word), end;

	if (text->len < len || strncasecmp(text->data, word, len) != 0)
		return false;
	*text = smtp_span_trim(smtp_span_behind(*text, len));
	if (text->len == 0 || text->data[0] != '<')
		return false;
	end = bracket_end(*text);
	if (end == 0)
		return false;
	*inner = (struct smtp_span){ text->data + 1, end - 1 };
	*text = smtp_span_behind(*text, end + 1);
	return text->len == 0 || smtp_is_blank(text->data[0]);
}
