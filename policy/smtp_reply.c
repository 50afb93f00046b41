/* Replies of a next hop (RFC 5321, 4.2; enhanced codes: RFC 2034, RFC 3463). */
#include "policy/smtp_reply.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Length of the UTF-8 sequence at the front, or 0 if it is not one. */
static size_t
utf8_length(const unsigned char *p, size_t len)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	uint32_t value;
	size_t want;

	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		want = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		want = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		want = 4;
	else
		return 0;
	if (len < want)
		return 0;
	value = p[0] & (0xff >> (want + 1));
	for (size_t i = 1; i < want; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		value = value << 6 | (p[i] & 0x3f);
	}
	if (value < least[want] || value > 0x10ffff)
		return 0;
	if (value >= 0xd800 && value <= 0xdfff)
		return 0;
	/* C1 controls, line and paragraph separators, bidi overrides. */
	if (value < 0xa0 || (value >= 0x2028 && value <= 0x202e) ||
	    (value >= 0x2066 && value <= 0x2069))
		return 0;
	return want;
}

size_t
reply_sanitize(char *to, size_t size, const char *bytes, size_t len)
{
	const unsigned char *p = (const unsigned char *)bytes;
	size_t used = 0, step;

	if (size == 0)
		return 0;
	for (size_t i = 0; i < len; i += step) {
		step = 1;
		if (p[i] >= 0x80 && (step = utf8_length(p + i, len - i)) > 1) {
			if (used + step >= size)
				break;
			memcpy(to + used, p + i, step);
			used += step;
			continue;
		}
		step = 1;
		if (used + 1 >= size)
			break;
		if (p[i] == '\t')
			to[used++] = ' ';
		else
			to[used++] = p[i] < ' ' || p[i] >= 0x7f ? '?' :
			    (char)p[i];
	}
	to[used] = '\0';
	return used;
}

/* One to three digits; returns how many. */
static size_t
digits(const char *text, size_t len)
{
	size_t n = 0;

	while (n < len && n < 4 && text[n] >= '0' && text[n] <= '9')
		n++;
	return n <= 3 ? n : 0;
}

size_t
reply_enhanced_parse(const char *text, size_t len,
    char enhanced[REPLY_ENHANCED_SIZE])
{
	size_t used, n;

	if (len < 5 || text[1] != '.' ||
	    (text[0] != '2' && text[0] != '4' && text[0] != '5'))
		return 0;
	used = 2;
	if ((n = digits(text + used, len - used)) == 0)
		return 0;
	used += n;
	if (used >= len || text[used++] != '.')
		return 0;
	if ((n = digits(text + used, len - used)) == 0)
		return 0;
	used += n;
	if (used < len && text[used] != ' ' && text[used] != '\t')
		return 0;
	memcpy(enhanced, text, used);
	enhanced[used] = '\0';
	return used;
}

void
reply_init(struct reply *reply)
{
	reply->code = 0;
	reply->enhanced[0] = '\0';
	reply->enhanced_given = false;
	reply->lines = 0;
	reply->text_len = 0;
	reply->text[0] = '\0';
}

static void
text_add(struct reply *reply, const char *text, size_t len)
{
	size_t room = sizeof(reply->text) - reply->text_len;

	if (len == 0 || room < 3)
		return;
	reply->text[reply->text_len++] = ' ';
	reply->text_len += reply_sanitize(reply->text + reply->text_len,
	    room - 1, text, len);
}

/* The first line says the code, and the enhanced code if there is one. */
static void
first_line(struct reply *reply, int code, const char *text, size_t len)
{
	reply->code = code;
	reply->text_len = (size_t)snprintf(reply->text, sizeof(reply->text),
	    "%d", code);
	/* A class that disagrees with the code says nothing. */
	if (reply_enhanced_parse(text, len, reply->enhanced) > 0 &&
	    reply->enhanced[0] == '0' + code / 100) {
		reply->enhanced_given = true;
		return;
	}
	snprintf(reply->enhanced, sizeof(reply->enhanced), "%d.0.0",
	    code / 100 == 3 ? 2 : code / 100);
}

enum reply_state
reply_line(struct reply *reply, const char *line, size_t len, const char **why)
{
	char enhanced[REPLY_ENHANCED_SIZE];
	size_t skip;
	int code;

	if (len > REPLY_LINE_MAX) {
		*why = "reply line too long";
		return REPLY_BAD;
	}
	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	if (len < 3 || line[0] < '2' || line[0] > '5' || line[1] < '0' ||
	    line[1] > '9' || line[2] < '0' || line[2] > '9' ||
	    (len > 3 && line[3] != ' ' && line[3] != '-')) {
		*why = "malformed reply";
		return REPLY_BAD;
	}
	code = (line[0] - '0') * 100 + (line[1] - '0') * 10 + line[2] - '0';
	if (++reply->lines > REPLY_LINES_MAX) {
		*why = "reply with too many lines";
		return REPLY_BAD;
	}
	skip = len > 3 ? 4 : 3;
	if (reply->lines == 1) {
		first_line(reply, code, line + skip, len - skip);
		text_add(reply, line + skip, len - skip);
	} else if (code != reply->code) {
		*why = "reply with differing codes";
		return REPLY_BAD;
	} else {
		/* RFC 2034, 4: the enhanced code stands on every line. */
		size_t again = reply_enhanced_parse(line + skip, len - skip,
		    enhanced);

		if (again > 0 && strcmp(enhanced, reply->enhanced) == 0)
			skip += again < len - skip ? again + 1 : again;
		text_add(reply, line + skip, len - skip);
	}
	return len > 3 && line[3] == '-' ? REPLY_MORE : REPLY_DONE;
}

const char *
reply_line_text(const char *line, size_t *len)
{
	size_t n = *len;

	if (n > 0 && line[n - 1] == '\n')
		n--;
	if (n > 0 && line[n - 1] == '\r')
		n--;
	if (n <= 4) {
		*len = 0;
		return line + n;
	}
	*len = n - 4;
	return line + 4;
}
