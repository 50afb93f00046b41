/* What an entity's header says of its body (RFC 2045, 5 and 6; RFC 2046). */
#include "filters/mime.h"

#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "filters/mail.h"

/* What stands next in a field's value. */
struct reader {
	const char *at;
};

/* White space and comments (RFC 5322, 3.2.2). */
static void
skip_comments(struct reader *reader)
{
	const char *p = reader->at;
	size_t depth = 0;

	for (; *p != '\0'; p++) {
		if (depth > 0 && *p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '(')
			depth++;
		else if (depth > 0 && *p == ')')
			depth--;
		else if (depth == 0 && strchr(" \t\r\n", *p) == NULL)
			break;
	}
	reader->at = p;
}

static bool
is_token_char(char c)
{
	return c > ' ' && c < 0x7f && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

/* A token (RFC 2045, 5.1) and what may stand behind it; 0: there is none. */
static size_t
take_token(struct reader *reader, const char **token)
{
	size_t len = 0;

	skip_comments(reader);
	*token = reader->at;
	while (is_token_char((*token)[len]))
		len++;
	reader->at += len;
	skip_comments(reader);
	return len;
}

static bool
take_char(struct reader *reader, char c)
{
	if (*reader->at != c)
		return false;
	reader->at++;
	skip_comments(reader);
	return true;
}

static bool
token_is(const char *token, size_t len, const char *word)
{
	return strlen(word) == len && strncasecmp(token, word, len) == 0;
}

/* What many write without the quotes that it needs: boundary=----=_Part_1. */
static bool
is_value_char(char c)
{
	return is_token_char(c) || (c != '\0' && strchr("=/:?@[]<>", c) != NULL);
}

/* A parameter's value, quoted or not; false: there is none, or it's too long. */
static bool
take_value(struct reader *reader, char *value, size_t size)
{
	const char *p;
	size_t n = 0;

	if (*reader->at != '"') {
		for (p = reader->at; is_value_char(p[n]); n++)
			;
		if (n == 0 || n >= size)
			return false;
		memcpy(value, p, n);
		value[n] = '\0';
		reader->at += n;
		skip_comments(reader);
		return true;
	}
	for (p = reader->at + 1; *p != '\0' && *p != '"'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		if (n + 1 >= size)
			return false;
		value[n++] = *p;
	}
	if (*p == '\0')
		return false;
	reader->at = p + 1;
	skip_comments(reader);
	value[n] = '\0';
	return true;
}

/*
 * The boundary among the parameters.  False: there is none, or readers may see
 * different ones: two of them, pieces of one (RFC 2231), a line that cannot be
 * read.
 */
static bool
read_boundary(struct reader *reader, char *boundary)
{
	char value[1024];
	const char *name;
	bool found = false;
	size_t len;

	while (take_char(reader, ';')) {
		if ((len = take_token(reader, &name)) == 0)
			continue;
		if (!take_char(reader, '=') ||
		    !take_value(reader, value, sizeof(value)))
			return false;
		if (len < strlen("boundary") ||
		    strncasecmp(name, "boundary", strlen("boundary")) != 0)
			continue;
		if (found || len > strlen("boundary") ||
		    strlen(value) > MIME_BOUNDARY_MAX)
			return false;
		strcpy(boundary, value);
		found = true;
	}
	/* RFC 2046, 5.1.1: no blank ends it. */
	len = found ? strlen(boundary) : 0;
	while (len > 0 && (boundary[len - 1] == ' ' ||
	    boundary[len - 1] == '\t'))
		boundary[--len] = '\0';
	return len > 0 && *reader->at == '\0';
}

static enum mime_kind
read_multipart(struct mime_entity *entity, struct reader *reader,
    const char *subtype, size_t len)
{
	if (token_is(subtype, len, "signed") ||
	    token_is(subtype, len, "encrypted"))
		return MIME_SEALED;
	entity->digest = token_is(subtype, len, "digest");
	return read_boundary(reader, entity->boundary) ? MIME_MULTIPART :
	    MIME_AMBIGUOUS;
}

static enum mime_kind
read_type(struct mime_entity *entity, const char *value)
{
	struct reader reader = { value };
	const char *type, *subtype;
	size_t len = take_token(&reader, &type), sublen = 0;

	if (take_char(&reader, '/'))
		sublen = take_token(&reader, &subtype);
	/* RFC 2045, 5.2: what cannot be read is plain text, but some guess. */
	if (len == 0 || sublen == 0)
		return strncasecmp(type, "multi", 5) == 0 ||
		    strncasecmp(type, "message", 7) == 0 ? MIME_AMBIGUOUS :
		    MIME_TEXT;
	if (token_is(type, len, "text"))
		return MIME_TEXT;
	if (token_is(type, len, "message"))
		return MIME_MESSAGE;
	if (token_is(type, len, "multipart"))
		return read_multipart(entity, &reader, subtype, sublen);
	if (token_is(type, len, "application") &&
	    (token_is(subtype, sublen, "pkcs7-mime") ||
	    token_is(subtype, sublen, "x-pkcs7-mime")))
		return MIME_SEALED;
	return MIME_OTHER;
}

static enum mime_encoding
read_encoding(const char *value)
{
	static const struct { const char *name; enum mime_encoding encoding; }
	names[] = {
		{ "7bit", MIME_7BIT }, { "8bit", MIME_8BIT },
		{ "binary", MIME_8BIT }, { "base64", MIME_BASE64 },
		{ "quoted-printable", MIME_QUOTED_PRINTABLE },
	};
	struct reader reader = { value };
	const char *token;
	size_t len = take_token(&reader, &token);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (token_is(token, len, names[i].name) && *reader.at == '\0')
			return names[i].encoding;
	return MIME_UNKNOWN_ENCODING;
}

void
mime_entity_read(struct mime_entity *entity, const struct headers *headers,
    struct arena *arena, bool digest)
{
	const struct header *type = headers_find(headers, "Content-Type", 1);
	const struct header *encoding = headers_find(headers,
	    "Content-Transfer-Encoding", 1);

	*entity = (struct mime_entity){ .kind = digest ? MIME_MESSAGE :
	    MIME_TEXT, .encoding = MIME_7BIT, .typed = type != NULL };
	if (type != NULL)
		entity->kind = read_type(entity, header_value(type, arena,
		    true));
	if (encoding != NULL)
		entity->encoding = read_encoding(header_value(encoding, arena,
		    true));
	if (headers_find(headers, "Content-Type", 2) != NULL ||
	    headers_find(headers, "Content-Transfer-Encoding", 2) != NULL)
		entity->kind = MIME_AMBIGUOUS;
}

void
mime_set_encoding(struct headers *headers, struct arena *arena,
    enum mime_encoding encoding)
{
	static const char field[] = "Content-Transfer-Encoding";
	static const char *const names[] = {
		[MIME_7BIT] = "7bit", [MIME_8BIT] = "8bit",
		[MIME_BASE64] = "base64",
		[MIME_QUOTED_PRINTABLE] = "quoted-printable",
	};
	struct header *header = headers_find(headers, field, 1);

	if (header != NULL)
		headers_change(headers, arena, header, names[encoding], true);
	else
		headers_add(headers, arena, NULL, field, names[encoding],
		    true);
}

static bool
is_too_long(const struct header *header)
{
	struct mime_scan scan = { 0 };

	mime_scan(&scan, header->raw, header->len);
	return scan.long_line;
}

/* Where a word has to be parted, the field says something else. */
static bool
folds_well(const struct header *header, struct arena *arena)
{
	struct headers headers = { 0 };
	const struct header *folded = headers_add(&headers, arena, NULL,
	    header_name(header, arena), header_value(header, arena, false),
	    false);

	return folded != NULL && strcmp(header_value(header, arena, true),
	    header_value(folded, arena, true)) == 0;
}

bool
mime_can_fold(const struct headers *headers, struct arena *arena)
{
	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (is_too_long(h) && (h->name_len > MIME_LINE_MAX / 2 ||
		    (strncasecmp(h->raw, "Content-", 8) == 0 &&
		    !folds_well(h, arena))))
			return false;
	return true;
}

bool
mime_fold(struct headers *headers, struct arena *arena)
{
	bool folded = false;

	for (struct header *h = headers->first; h != NULL; h = h->next) {
		if (!is_too_long(h))
			continue;
		headers_change(headers, arena, h, header_value(h, arena,
		    false), false);
		folded = true;
	}
	return folded;
}
