/* What octets a text holds, at the speed of memory: every message is asked. */
#define _GNU_SOURCE		/* memrchr */
#include "filters/mime.h"

#include <stdint.h>
#include <string.h>

#define BLOCK 64

bool
mime_has_eight_bit(const char *bytes, size_t len)
{
	static const uint64_t high = UINT64_C(0x8080808080808080);
	uint64_t words[BLOCK / sizeof(uint64_t)], any = 0;

	for (; len >= BLOCK; bytes += BLOCK, len -= BLOCK) {
		memcpy(words, bytes, BLOCK);
		for (size_t i = 0; i < BLOCK / sizeof(uint64_t); i++)
			any |= words[i];
		if ((any & high) != 0)
			return true;
	}
	for (size_t i = 0; i < len; i++)
		any |= (unsigned char)bytes[i];
	return (any & high) != 0;
}

/*
 * No line is too long if each window of that length has a line end; the next
 * window begins behind its last one, so most lines are never looked at.
 */
static bool
has_long_line(struct mime_scan *scan, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t window = MIME_LINE_MAX + 2 - scan->column;
		size_t n = len < window ? len : window;
		const char *lf = memrchr(bytes, '\n', n);

		if (lf == NULL && n == window)
			return true;
		if (lf != NULL)
			n = (size_t)(lf - bytes) + 1;
		scan->column = lf != NULL ? 0 : scan->column + n;
		bytes += n;
		len -= n;
	}
	/* A last line without an end has no CR. */
	return scan->column > MIME_LINE_MAX + 1;
}

void
mime_scan(struct mime_scan *scan, const char *bytes, size_t len)
{
	if (!scan->eight_bit)
		scan->eight_bit = mime_has_eight_bit(bytes, len);
	if (!scan->long_line)
		scan->long_line = has_long_line(scan, bytes, len);
}

/* RFC 3629, 4: what octets may follow. */
static void
utf8_begin(struct mime_utf8 *utf8, unsigned char c)
{
	utf8->least = 0x80;
	utf8->most = 0xbf;
	if (c < 0x80)
		return;
	if (c >= 0xc2 && c <= 0xdf) {
		utf8->left = 1;
	} else if (c >= 0xe0 && c <= 0xef) {
		utf8->left = 2;
		if (c == 0xe0)
			utf8->least = 0xa0;
		if (c == 0xed)		/* surrogates */
			utf8->most = 0x9f;
	} else if (c >= 0xf0 && c <= 0xf4) {
		utf8->left = 3;
		if (c == 0xf0)
			utf8->least = 0x90;
		if (c == 0xf4)
			utf8->most = 0x8f;
	} else {
		utf8->bad = true;
	}
}

void
mime_utf8(struct mime_utf8 *utf8, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && !utf8->bad; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (utf8->left == 0) {
			utf8_begin(utf8, c);
			continue;
		}
		utf8->bad = c < utf8->least || c > utf8->most;
		utf8->left--;
		utf8->least = 0x80;
		utf8->most = 0xbf;
	}
}

bool
mime_utf8_end(const struct mime_utf8 *utf8)
{
	return !utf8->bad && utf8->left == 0;
}
