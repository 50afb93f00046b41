/* What Dovecot's auth process says, parsed. */
#include "gateway/sasl_line.h"

#include <string.h>

#include "base/arena.h"

#define USER_MAX 255
#define REASON_MAX 200

/* A word of a line, still escaped. */
struct word {
	const char *data;
	size_t len;
};

static bool
is_alnum(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    (c >= '0' && c <= '9');
}

bool
sasl_is_base64(const char *text, size_t len)
{
	size_t padding = 0;

	if (len % 4 != 0)
		return false;
	while (padding < 2 && padding < len && text[len - 1 - padding] == '=')
		padding++;
	for (size_t i = 0; i < len - padding; i++)
		if (!is_alnum(text[i]) && text[i] != '+' && text[i] != '/')
			return false;
	return true;
}

/* The next word off the front; false: there is none. */
static bool
next_word(const char **at, const char *end, struct word *word)
{
	const char *tab;

	if (*at == NULL)
		return false;
	tab = memchr(*at, '\t', (size_t)(end - *at));
	*word = (struct word){ *at,
	    (size_t)((tab != NULL ? tab : end) - *at) };
	*at = tab != NULL ? tab + 1 : NULL;
	return true;
}

static bool
is(const struct word *word, const char *text)
{
	return word->len == strlen(text) &&
	    memcmp(word->data, text, word->len) == 0;
}

/* Whether the word begins so ("user="); then *value is the rest. */
static bool
takes(const struct word *word, const char *name, struct word *value)
{
	size_t len = strlen(name);

	if (word->len < len || memcmp(word->data, name, len) != 0)
		return false;
	*value = (struct word){ word->data + len, word->len - len };
	return true;
}

static bool
number(const struct word *word, uint32_t *value)
{
	uint32_t n = 0;

	for (size_t i = 0; i < word->len; i++)
		if (word->data[i] < '0' || word->data[i] > '9' ||
		    __builtin_mul_overflow(n, 10u, &n) ||
		    __builtin_add_overflow(n, (uint32_t)(word->data[i] - '0'),
		    &n))
			return false;
	*value = n;
	return word->len > 0;
}

/*
 * Text that goes into logs, macros and fields.  NULL: it is empty, too long,
 * or holds a control character, which Dovecot writes as an escape (001 and a
 * letter) if the character has a meaning in its protocol.
 */
static const char *
text(struct arena *arena, const struct word *word, size_t max)
{
	char *copy = arena_alloc(arena, word->len + 1);
	size_t len = 0;

	for (size_t i = 0; i < word->len; i++) {
		unsigned char c = (unsigned char)word->data[i];

		if (c < ' ' || c == 0x7f || len == max)
			return NULL;
		copy[len++] = (char)c;
	}
	return len > 0 ? copy : NULL;
}

/* MECH name [property ...] */
static int
parse_mechanism(struct arena *arena, const char *at, const char *end,
    struct sasl_line *line, const char **why)
{
	struct word word = { NULL, 0 };
	char *name;

	next_word(&at, end, &word);
	if (word.len == 0 || word.len > SASL_MECHANISM_MAX) {
		*why = "a mechanism without a name";
		return -1;
	}
	name = arena_strndup(arena, word.data, word.len);
	for (char *p = name; *p != '\0'; p++) {
		if (!is_alnum(*p) && *p != '-' && *p != '_') {
			*why = "a mechanism's name that is none";
			return -1;
		}
		if (*p >= 'a' && *p <= 'z')
			*p -= 'a' - 'A';
	}
	line->mechanism = name;
	while (next_word(&at, end, &word))
		if (is(&word, "private") || is(&word, "anonymous"))
			line->mechanism = NULL;
	return 0;
}

static int
parse_answer(struct arena *arena, const char *at, const char *end,
    struct sasl_line *line, const char **why)
{
	struct word word = { NULL, 0 }, value;

	if (!next_word(&at, end, &word) || !number(&word, &line->id)) {
		*why = "an answer without a number";
		return -1;
	}
	if (line->verb == SASL_LINE_CONT) {
		if (!next_word(&at, end, &word))
			word = (struct word){ "", 0 };
		*why = "a challenge that is not base64";
		line->challenge = arena_strndup(arena, word.data, word.len);
		return sasl_is_base64(word.data, word.len) ? 0 : -1;
	}
	while (next_word(&at, end, &word)) {
		if (takes(&word, "user=", &value))
			line->user = text(arena, &value, USER_MAX);
		else if (takes(&word, "reason=", &value))
			line->reason = text(arena, &value, REASON_MAX);
		else if (is(&word, "temp") || is(&word, "code=temp_fail"))
			line->temporary = true;
	}
	return 0;
}

int
sasl_line_parse(struct arena *arena, const char *bytes, size_t len,
    struct sasl_line *line, const char **why)
{
	static const struct { const char *word; enum sasl_verb verb; } verbs[] = {
		{ "VERSION", SASL_LINE_VERSION }, { "MECH", SASL_LINE_MECH },
		{ "DONE", SASL_LINE_DONE }, { "OK", SASL_LINE_OK },
		{ "FAIL", SASL_LINE_FAIL }, { "CONT", SASL_LINE_CONT }
	};
	const char *at = bytes, *end;
	struct word word = { "", 0 };

	memset(line, 0, sizeof(*line));
	if (len > 0 && bytes[len - 1] == '\n')
		len--;
	end = bytes + len;
	next_word(&at, end, &word);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (is(&word, verbs[i].word))
			line->verb = verbs[i].verb;
	switch (line->verb) {
	case SASL_LINE_VERSION:
		*why = "a version that is no number";
		return next_word(&at, end, &word) &&
		    number(&word, &line->version) ? 0 : -1;
	case SASL_LINE_MECH:
		return parse_mechanism(arena, at, end, line, why);
	case SASL_LINE_OK:
	case SASL_LINE_FAIL:
	case SASL_LINE_CONT:
		return parse_answer(arena, at, end, line, why);
	case SASL_LINE_DONE:
	case SASL_LINE_OTHER:
		break;
	}
	return 0;
}
