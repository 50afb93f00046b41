/* The policy delegation protocol, both ends of it. */
#include "policy/protocol.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#define POLICY_ATTRIBUTE_NAME(upper, lower) [POLICY_##upper] = #lower,
static const char *const names[POLICY_ATTRIBUTE_COUNT] = {
	POLICY_ATTRIBUTES(POLICY_ATTRIBUTE_NAME)
};

void
policy_request_reset(struct policy_request *request)
{
	buf_reset(&request->text);
	memset(request->at, 0, sizeof(request->at));
	request->size = request->lines = 0;
}

void
policy_request_release(struct policy_request *request)
{
	buf_release(&request->text);
	policy_request_reset(request);
}

static int
attribute_find(const char *name, size_t len)
{
	for (int i = 0; i < POLICY_ATTRIBUTE_COUNT; i++)
		if (strlen(names[i]) == len && memcmp(names[i], name,
		    len) == 0)
			return i;
	return -1;
}

static int
malformed(const char *problem, const char **why)
{
	*why = problem;
	return -1;
}

/* A request that says what it is: others may be added to the protocol. */
static int
finish(const struct policy_request *request, const char **why)
{
	const char *kind = policy_value(request, POLICY_REQUEST);

	if (strcmp(kind, "smtpd_access_policy") != 0 &&
	    strcmp(kind, POLICY_REQUEST_REPORT) != 0 &&
	    strcmp(kind, POLICY_REQUEST_OUTCOME) != 0 &&
	    strcmp(kind, POLICY_REQUEST_COMMAND) != 0)
		return malformed("it is no smtpd_access_policy request", why);
	return 1;
}

int
policy_request_line(struct policy_request *request, const char *line,
    size_t len, const char **why)
{
	const char *equals;
	int attribute;

	request->size += len;
	if (request->size > POLICY_REQUEST_MAX)
		return malformed("the request is too long", why);
	if (len == 0 || line[len - 1] != '\n')
		return malformed("a line without end", why);
	len--;
	if (len == 0)
		return finish(request, why);
	if (++request->lines > POLICY_LINES_MAX)
		return malformed("too many attributes", why);
	if (memchr(line, '\0', len) != NULL)
		return malformed("a NUL", why);
	equals = memchr(line, '=', len);
	if (equals == NULL || equals == line)
		return malformed("a line that is no name=value", why);
	attribute = attribute_find(line, (size_t)(equals - line));
	if (attribute == -1)
		return 0;
	if (request->at[attribute] != 0)
		return malformed("an attribute twice", why);
	request->at[attribute] = (uint32_t)request->text.len + 1;
	equals++;
	buf_append(&request->text, equals, (size_t)(line + len - equals));
	buf_putc(&request->text, '\0');
	return 0;
}

const char *
policy_value(const struct policy_request *request,
    enum policy_attribute attribute)
{
	uint32_t at = request->at[attribute];

	return at != 0 ? request->text.data + at - 1 : "";
}

const char *
policy_known(const struct policy_request *request,
    enum policy_attribute attribute)
{
	const char *value = policy_value(request, attribute);

	return *value == '\0' || strcmp(value, "unknown") == 0 ? NULL : value;
}

void
policy_put(struct buf *buf, enum policy_attribute attribute,
    const char *value)
{
	buf_puts(buf, names[attribute]);
	buf_putc(buf, '=');
	for (; value != NULL && *value != '\0'; value++)
		buf_putc(buf, *value == '\n' || *value == '\r' ? ' ' : *value);
	buf_putc(buf, '\n');
}

void
policy_end(struct buf *buf)
{
	buf_putc(buf, '\n');
}

static void
put_printable(struct buf *buf, const char *text)
{
	for (; *text != '\0'; text++)
		buf_putc(buf, (unsigned char)*text < ' ' || *text == 0x7f ?
		    ' ' : *text);
}

/*
 * DEFER_IF_PERMIT: a later restriction may still refuse for good.  DUNNO, never
 * OK, which would let the client past them.
 */
static void
put_verb(struct buf *buf, const struct policy_action *action, bool ours)
{
	static const char *const words[] = {
		[POLICY_DUNNO] = "DUNNO", [POLICY_PASS] = "PASS",
		[POLICY_DEFER] = "DEFER_IF_PERMIT",
		[POLICY_REJECT] = "REJECT", [POLICY_HOLD] = "HOLD",
		[POLICY_OTHER] = "DUNNO",
	};
	enum policy_verb verb = action->verb;

	if (verb == POLICY_PASS && !ours)
		verb = POLICY_DUNNO;
	if (action->code != 0 &&
	    (verb == POLICY_DEFER || verb == POLICY_REJECT))
		buf_printf(buf, "action=%03d", action->code);
	else
		buf_printf(buf, "action=%s", words[verb]);
}

static bool
has_text(enum policy_verb verb)
{
	return verb == POLICY_DEFER || verb == POLICY_REJECT ||
	    verb == POLICY_HOLD;
}

static void
put_extra(struct buf *buf, const char *name, const char *value)
{
	if (*value == '\0')
		return;
	buf_printf(buf, "%s=", name);
	put_printable(buf, value);
	buf_putc(buf, '\n');
}

void
policy_answer_put(struct buf *buf, const struct policy_action *action,
    bool ours)
{
	put_verb(buf, action, ours);
	if (has_text(action->verb)) {
		if (action->enhanced[0] != '\0' &&
		    action->verb != POLICY_HOLD) {
			buf_putc(buf, ' ');
			put_printable(buf, action->enhanced);
		}
		if (action->text[0] != '\0') {
			buf_putc(buf, ' ');
			put_printable(buf, action->text);
		}
	}
	buf_putc(buf, '\n');
	if (ours) {
		put_extra(buf, "reason", action->reason);
		put_extra(buf, "score", action->score);
	}
	policy_end(buf);
}

/* The length of the word, and what is behind it and its blanks. */
static size_t
word(const char *text, size_t len, size_t *next)
{
	size_t n = 0;

	while (n < len && text[n] != ' ' && text[n] != '\t')
		n++;
	for (*next = n; *next < len &&
	    (text[*next] == ' ' || text[*next] == '\t'); (*next)++)
		;
	return n;
}

static bool
word_is(const char *text, size_t len, const char *want)
{
	return strlen(want) == len && strncasecmp(text, want, len) == 0;
}

static bool
is_code(const char *text, size_t len, char class)
{
	return len == 3 && text[0] == class &&
	    isdigit((unsigned char)text[1]) && isdigit((unsigned char)text[2]);
}

static enum policy_verb
verb_of(const char *text, size_t len, int *code)
{
	*code = 0;
	if (is_code(text, len, '4') || is_code(text, len, '5')) {
		*code = (text[0] - '0') * 100 + (text[1] - '0') * 10 +
		    (text[2] - '0');
		return text[0] == '4' ? POLICY_DEFER : POLICY_REJECT;
	}
	if (word_is(text, len, "dunno"))
		return POLICY_DUNNO;
	if (word_is(text, len, "pass"))
		return POLICY_PASS;
	if (word_is(text, len, "defer") ||
	    word_is(text, len, "defer_if_permit"))
		return POLICY_DEFER;
	if (word_is(text, len, "reject"))
		return POLICY_REJECT;
	return word_is(text, len, "hold") ? POLICY_HOLD : POLICY_OTHER;
}

/* RFC 3463, 2: class "." subject "." detail, of up to three digits. */
static bool
is_enhanced(const char *text, size_t len, char class)
{
	size_t dots = 0, digits = 0;

	if (len < 5 || len > 9 || text[0] != class || text[1] != '.')
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.') {
			if (digits == 0)
				return false;
			dots++;
			digits = 0;
		} else if (!isdigit((unsigned char)text[i]) ||
		    ++digits > 3) {
			return false;
		}
	}
	return dots == 2 && digits > 0;
}

static void
copy_text(char *to, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 1 < size; i++) {
		unsigned char c = (unsigned char)text[i];

		to[n++] = c < ' ' || c > '~' ? '?' : (char)c;
	}
	to[n] = '\0';
}

int
policy_answer_parse(const char *line, size_t len, struct policy_action *action,
    const char **why)
{
	size_t n, next;

	memset(action, 0, sizeof(*action));
	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len < 7 || memcmp(line, "action=", 7) != 0)
		return malformed("an answer without action", why);
	line += 7;
	len -= 7;
	n = word(line, len, &next);
	if (n == 0)
		return malformed("an answer without action", why);
	action->verb = verb_of(line, n, &action->code);
	if (!has_text(action->verb))
		return 0;
	line += next;
	len -= next;
	n = word(line, len, &next);
	if (action->verb != POLICY_HOLD && is_enhanced(line, n,
	    action->verb == POLICY_DEFER ? '4' : '5')) {
		copy_text(action->enhanced, sizeof(action->enhanced), line, n);
		line += next;
		len -= next;
	}
	copy_text(action->text, sizeof(action->text), line, len);
	return 0;
}

int
policy_answer_more(const char *line, size_t len, struct policy_action *action,
    const char **why)
{
	static const char reason[] = "reason=", score[] = "score=";

	if (len > 0 && line[len - 1] == '\n')
		len--;
	if (len >= strlen(reason) &&
	    memcmp(line, reason, strlen(reason)) == 0)
		copy_text(action->reason, sizeof(action->reason),
		    line + strlen(reason), len - strlen(reason));
	else if (len >= strlen(score) &&
	    memcmp(line, score, strlen(score)) == 0)
		copy_text(action->score, sizeof(action->score),
		    line + strlen(score), len - strlen(score));
	else
		return malformed("a line that no answer has", why);
	return 0;
}
