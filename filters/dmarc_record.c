/* DMARC policy records: tag=value; … (RFC 9989, 4.7 and 4.8). */
#include "filters/dmarc_record.h"

#include <string.h>
#include <strings.h>

#define TAGS_MAX 32

struct text {
	const char *at;
	size_t len;
};

struct tag {
	struct text name, value;
};

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct text
trim(const char *at, const char *end)
{
	while (at < end && is_blank(*at))
		at++;
	while (end > at && is_blank(end[-1]))
		end--;
	return (struct text){ at, (size_t)(end - at) };
}

static bool
text_is(struct text text, const char *word)
{
	return text.len == strlen(word) &&
	    strncasecmp(text.at, word, text.len) == 0;
}

/* "v" *WSP "=" *WSP "DMARC1", the latter in capitals, then ";" or the end. */
bool
dmarc_is_record(const char *bytes, size_t len)
{
	const char *end = memchr(bytes, ';', len), *equals;
	struct text value;

	if (end == NULL)
		end = bytes + len;
	equals = memchr(bytes, '=', (size_t)(end - bytes));
	if (equals == NULL || *bytes != 'v' ||
	    trim(bytes, equals).len != 1)
		return false;
	value = trim(equals + 1, end);
	return value.len == 6 && memcmp(value.at, "DMARC1", 6) == 0;
}

static enum dmarc_action
action_parse(struct text value)
{
	static const char *const names[] = { [DMARC_NONE] = "none",
		[DMARC_QUARANTINE] = "quarantine", [DMARC_REJECT] = "reject" };

	for (size_t i = DMARC_NONE; i <= DMARC_REJECT; i++)
		if (text_is(value, names[i]))
			return (enum dmarc_action)i;
	return DMARC_UNSET;
}

/*
 * Splits at ";" into tags; empty ones are passed over.  DKIM's tag lists, whose
 * syntax this is (RFC 6376, 3.2), may not have a tag twice.  -1: *why.
 */
static int
split(const char *bytes, size_t len, struct tag *tags, size_t *count,
    const char **why)
{
	const char *end = bytes + len, *semicolon, *equals;

	for (*count = 0; bytes < end; bytes = semicolon + 1) {
		struct tag *tag = &tags[*count];

		semicolon = memchr(bytes, ';', (size_t)(end - bytes));
		if (semicolon == NULL)
			semicolon = end;
		equals = memchr(bytes, '=', (size_t)(semicolon - bytes));
		if (equals == NULL)
			continue;
		if (*count == TAGS_MAX) {
			*why = "too many tags";
			return -1;
		}
		tag->name = trim(bytes, equals);
		tag->value = trim(equals + 1, semicolon);
		for (size_t i = 0; i < *count; i++)
			if (tags[i].name.len == tag->name.len &&
			    strncasecmp(tags[i].name.at, tag->name.at,
			    tag->name.len) == 0) {
				*why = "a tag stands twice";
				return -1;
			}
		++*count;
	}
	return 0;
}

static struct text
find(const struct tag *tags, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (text_is(tags[i].name, name))
			return tags[i].value;
	return (struct text){ NULL, 0 };
}

/* One URI at least that reports could go to: mailto:local@domain. */
static bool
has_report_address(struct text rua)
{
	static const char scheme[] = "mailto:";
	const char *end, *comma;

	if (rua.at == NULL)
		return false;
	end = rua.at + rua.len;
	for (const char *at = rua.at; at < end; at = comma + 1) {
		struct text uri;
		const char *sign;

		comma = memchr(at, ',', (size_t)(end - at));
		if (comma == NULL)
			comma = end;
		uri = trim(at, comma);
		if (uri.len <= strlen(scheme) ||
		    strncasecmp(uri.at, scheme, strlen(scheme)) != 0)
			continue;
		sign = memchr(uri.at, '@', uri.len);
		if (sign != NULL && sign > uri.at + strlen(scheme) &&
		    sign + 1 < uri.at + uri.len)
			return true;
	}
	return false;
}

/* Sets p, sp and np; whether those that are there have known values. */
static bool
set_actions(const struct tag *tags, size_t count, struct dmarc_record *record)
{
	struct { const char *name; enum dmarc_action *action; } wanted[] = {
		{ "p", &record->p }, { "sp", &record->sp },
		{ "np", &record->np } };
	bool good = true;

	for (size_t i = 0; i < 3; i++) {
		struct text value = find(tags, count, wanted[i].name);

		*wanted[i].action = DMARC_UNSET;
		if (value.at == NULL)
			continue;
		*wanted[i].action = action_parse(value);
		if (*wanted[i].action == DMARC_UNSET)
			good = false;
	}
	/* RFC 9989, 4.7: without p it is p=none. */
	if (record->p == DMARC_UNSET)
		record->p = DMARC_NONE;
	return good;
}

int
dmarc_record_parse(const char *bytes, size_t len, struct dmarc_record *record,
    const char **why)
{
	struct tag tags[TAGS_MAX];
	struct text psd, text;
	size_t count;

	memset(record, 0, sizeof(*record));
	if (!dmarc_is_record(bytes, len)) {
		*why = "not a DMARC record";
		return -1;
	}
	if (len > DMARC_RECORD_MAX) {
		*why = "record too long";
		return -1;
	}
	if (split(bytes, len, tags, &count, why) != 0)
		return -1;
	if (!set_actions(tags, count, record)) {
		if (!has_report_address(find(tags, count, "rua"))) {
			*why = "bad policy";
			return -1;
		}
		/* RFC 9989, 4.10.1 */
		record->p = DMARC_NONE;
		record->sp = record->np = DMARC_UNSET;
	}
	text = find(tags, count, "rua");
	record->rua = text.at;
	record->rua_len = text.len;
	text = find(tags, count, "fo");
	record->fo = text.at;
	record->fo_len = text.len;
	psd = find(tags, count, "psd");
	record->psd = text_is(psd, "y") ? 'y' : text_is(psd, "n") ? 'n' : 'u';
	record->testing = text_is(find(tags, count, "t"), "y");
	record->strict_dkim = text_is(find(tags, count, "adkim"), "s");
	record->strict_spf = text_is(find(tags, count, "aspf"), "s");
	return 0;
}

const char *
dmarc_action_name(enum dmarc_action action)
{
	static const char *const names[] = { [DMARC_UNSET] = "none",
		[DMARC_NONE] = "none", [DMARC_QUARANTINE] = "quarantine",
		[DMARC_REJECT] = "reject" };

	return names[action];
}
