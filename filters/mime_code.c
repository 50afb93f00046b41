/* Quoted-printable and base64 (RFC 2045, 6.7 and 6.8), in pieces. */
#include <ctype.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/buf.h"
#include "filters/mime.h"

#define LINE_LENGTH 76
#define PIECE 4096

/* What one octet can lead to: a CR, a blank and itself, each on a new line. */
#define OCTET_MAX 18

/* --- quoted-printable --- */

static void
put(struct mime_coder *coder, const char *token, size_t len)
{
	struct buf *out = coder->out;

	/* Room for the "=" of a soft line break (rule 5). */
	if (coder->column + len > LINE_LENGTH - 1) {
		memcpy(out->data + out->len, "=\r\n", 3);
		out->len += 3;
		coder->column = 0;
	}
	memcpy(out->data + out->len, token, len);
	out->len += len;
	coder->column += len;
}

static void
put_escaped(struct mime_coder *coder, unsigned char c)
{
	static const char digits[] = "0123456789ABCDEF";
	const char token[] = { '=', digits[c >> 4], digits[c & 15] };

	put(coder, token, sizeof(token));
}

/* Decided late, for one that ends a line would get lost (rule 3). */
static void
put_blank(struct mime_coder *coder, bool at_end)
{
	if (coder->blank != 0 && at_end)
		put_escaped(coder, (unsigned char)coder->blank);
	else if (coder->blank != 0)
		put(coder, &coder->blank, 1);
	coder->blank = 0;
}

static void
put_octet(struct mime_coder *coder, char c)
{
	bool begins = coder->column == 0 || coder->column == LINE_LENGTH - 1;
	unsigned char octet = (unsigned char)c;

	if (octet < ' ' || octet >= 0x7f || c == '=' ||
	    (begins && (c == '-' || c == '.')))
		put_escaped(coder, octet);
	else
		put(coder, &c, 1);
}

static void
quote(struct mime_coder *coder, char c)
{
	if (coder->cr && c == '\n') {
		coder->cr = false;
		put_blank(coder, true);
		memcpy(coder->out->data + coder->out->len, "\r\n", 2);
		coder->out->len += 2;
		coder->column = 0;
		return;
	}
	if (coder->cr || c != '\r')
		put_blank(coder, false);
	if (coder->cr)
		put_escaped(coder, '\r');
	coder->cr = c == '\r';
	if (c == ' ' || c == '\t')
		coder->blank = c;
	else if (c != '\r')
		put_octet(coder, c);
}

static void
quote_end(struct mime_coder *coder)
{
	put_blank(coder, !coder->cr);
	if (coder->cr)
		put_escaped(coder, '\r');
	coder->cr = false;
}

/* --- quoted-printable to be made anew --- */

static void
unquote_flush(struct mime_coder *coder)
{
	/* An "=" that escapes nothing stands for itself, as most readers do. */
	for (size_t i = 0; i < coder->escape_count; i++)
		quote(coder, coder->escape[i]);
	for (size_t i = 0; i < coder->blank_count; i++)
		quote(coder, coder->blanks[i]);
	coder->escape_count = coder->blank_count = 0;
}

static int
digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' :
	    toupper((unsigned char)c) - 'A' + 10;
}

static void
unquote_line_end(struct mime_coder *coder)
{
	bool soft = coder->escape_count == 1;

	coder->blank_count = 0;
	if (soft)
		coder->escape_count = 0;
	unquote_flush(coder);
	if (!soft) {
		quote(coder, '\r');
		quote(coder, '\n');
	}
}

static void
unquote(struct mime_coder *coder, char c)
{
	if (coder->old_cr) {
		coder->old_cr = false;
		if (c == '\n') {
			unquote_line_end(coder);
			return;
		}
		unquote_flush(coder);
		quote(coder, '\r');
	}
	if (c == '\r') {
		coder->old_cr = true;
	} else if (coder->escape_count > 0 && coder->blank_count == 0 &&
	    isxdigit((unsigned char)c)) {
		if (coder->escape_count == 2) {
			coder->escape_count = 0;
			quote(coder, (char)(digit(coder->escape[1]) * 16 +
			    digit(c)));
			return;
		}
		coder->escape[coder->escape_count++] = c;
	} else if ((c == ' ' || c == '\t') &&
	    coder->blank_count < sizeof(coder->blanks)) {
		coder->blanks[coder->blank_count++] = c;
	} else {
		unquote_flush(coder);
		if (c == '=')
			coder->escape[coder->escape_count++] = c;
		else
			quote(coder, c);
	}
}

static void
unquote_end(struct mime_coder *coder)
{
	if (coder->old_cr) {
		unquote_flush(coder);
		quote(coder, '\r');
	} else if (coder->escape_count == 1) {
		coder->escape_count = 0;
	}
	coder->blank_count = 0;
	unquote_flush(coder);
	quote_end(coder);
}

/* --- base64 --- */

static void
put_line(struct mime_coder *coder)
{
	struct buf *out = coder->out;
	unsigned char line[LINE_LENGTH + 1];
	int len;

	if (coder->held_count == 0)
		return;
	len = EVP_EncodeBlock(line, coder->held, (int)coder->held_count);
	if (coder->column > 0)
		buf_append(out, "\r\n", 2);
	buf_append(out, line, (size_t)len);
	coder->column = (size_t)len;
	coder->held_count = 0;
}

static void
encode(struct mime_coder *coder, const char *bytes, size_t len)
{
	while (len > 0) {
		size_t room = sizeof(coder->held) - coder->held_count;
		size_t n = len < room ? len : room;

		memcpy(coder->held + coder->held_count, bytes, n);
		coder->held_count += n;
		bytes += n;
		len -= n;
		if (n == room)
			put_line(coder);
	}
}

/* RFC 2045, 6.8: readers pass over all that is not of the alphabet. */
static void
rewrap(struct mime_coder *coder, char c)
{
	struct buf *out = coder->out;

	if (!isalnum((unsigned char)c) && c != '+' && c != '/' && c != '=')
		return;
	if (coder->column == LINE_LENGTH) {
		memcpy(out->data + out->len, "\r\n", 2);
		out->len += 2;
		coder->column = 0;
	}
	out->data[out->len++] = c;
	coder->column++;
}

/* --- all of them --- */

static void
piece(struct mime_coder *coder, const char *bytes, size_t len)
{
	static void (*const each[])(struct mime_coder *, char) = {
		[MIME_TO_QUOTED_PRINTABLE] = quote,
		[MIME_REPAIR_QUOTED_PRINTABLE] = unquote,
		[MIME_REPAIR_BASE64] = rewrap,
	};

	/* What unquote held back comes on top. */
	buf_reserve(coder->out, (len + sizeof(coder->blanks) + 8) * OCTET_MAX);
	for (size_t i = 0; i < len; i++)
		each[coder->code](coder, bytes[i]);
	coder->out->data[coder->out->len] = '\0';
}

void
mime_code(struct mime_coder *coder, const char *bytes, size_t len)
{
	if (coder->code == MIME_TO_BASE64) {
		encode(coder, bytes, len);
		return;
	}
	for (size_t n; len > 0; bytes += n, len -= n) {
		n = len < PIECE ? len : PIECE;
		piece(coder, bytes, n);
	}
}

void
mime_code_end(struct mime_coder *coder)
{
	if (coder->code == MIME_TO_BASE64)
		put_line(coder);
	buf_reserve(coder->out, (sizeof(coder->blanks) + 8) * OCTET_MAX);
	if (coder->code == MIME_TO_QUOTED_PRINTABLE)
		quote_end(coder);
	else if (coder->code == MIME_REPAIR_QUOTED_PRINTABLE)
		unquote_end(coder);
	coder->out->data[coder->out->len] = '\0';
}
