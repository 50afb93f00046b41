/* Authentication-Results (RFC 8601), written, recognized, removed. */
#include "filters/authres.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "filters/domain.h"
#include "filters/trace.h"

#define LINE_LENGTH 76
#define VALUE_MAX 320		/* an address is not longer (RFC 5321, 4.5.3) */
#define VALUE_TOTAL_MAX 16384
#define CLAIM_MAX 255		/* what is longer is nobody's honest id */

#define AUTHRES_OPTIONS(ROW, o)						\
	ROW(o, id, string, NULL, NULL, NULL,				\
	    "Our authserv-id; not set: our host name.")			\
	ROW(o, remove, strings, "", NULL, NULL,				\
	    "More ids whose Authentication-Results fields are removed.")

struct authres_options { AUTHRES_OPTIONS(OPTION_FIELD, authres_options) };

static const struct option_row authres_rows[] = {
	AUTHRES_OPTIONS(OPTION_ROW, authres_options)
};

static const struct section_kind authres_kind = {
	.name = "authres",
	.doc = "Writes Authentication-Results and removes forged ones.",
	.rows = authres_rows,
	.row_count = OPTION_COUNT(authres_rows),
	.size = sizeof(struct authres_options),
};

/* RFC 2045, 5.1: a token. */
static bool
is_token_char(char c)
{
	return c > 32 && c < 127 && strchr("()<>@,;:\\\"/[]?=", c) == NULL;
}

/* RFC 5322, 3.2.3. */
static bool
is_dot_atom(const char *text, size_t len)
{
	bool dot = true;	/* one may not stand here */

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' && dot)
			return false;
		dot = text[i] == '.';
		if (!dot && !isalnum((unsigned char)text[i]) &&
		    (text[i] == '\0' ||
		    strchr("!#$%&'*+-/=?^_`{|}~", text[i]) == NULL))
			return false;
	}
	return !dot;
}

static bool
is_domain(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '.' &&
		    *p != '_')
			return false;
	return is_dot_atom(text, strlen(text));
}

/* Keyword of RFC 5321, which methods, results and properties are. */
static bool
is_keyword(const char *text)
{
	for (const char *p = text; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_')
			return false;
	return *text != '\0';
}

/* Whether a pvalue may stand without quotes (RFC 8601, 2.2). */
static bool
stands_bare(const char *value)
{
	const char *at = strrchr(value, '@'), *p;

	if (at != NULL)
		return is_domain(at + 1) && (at == value ||
		    is_dot_atom(value, (size_t)(at - value)));
	for (p = value; is_token_char(*p); p++)
		;
	return *p == '\0' && p > value;
}

/* The same text without what ends a quoted string or a comment. */
static void
put_text(struct buf *to, const char *text, const char *special, bool utf8)
{
	size_t len = strnlen(text, VALUE_MAX);

	/* Not in the middle of a UTF-8 letter. */
	while (len > 0 && ((unsigned char)text[len] & 0xc0) == 0x80)
		len--;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if (c < 32 || c == 127 || (c > 127 && !utf8))
			buf_putc(to, c == '\t' ? ' ' : '?');
		else {
			if (strchr(special, c) != NULL)
				buf_putc(to, '\\');
			buf_putc(to, c);
		}
	}
}

static void
put_value(struct buf *to, const char *value, bool utf8)
{
	if (strlen(value) <= VALUE_MAX && stands_bare(value)) {
		buf_puts(to, value);
		return;
	}
	buf_putc(to, '"');
	put_text(to, value, "\\\"", utf8);
	buf_putc(to, '"');
}

/* Appends a word to the line, or begins another with it. */
static void
put_word(struct buf *to, const struct buf *word, size_t *line)
{
	if (*line + 1 + word->len > LINE_LENGTH) {
		buf_puts(to, "\r\n\t");
		*line = 8;
	} else {
		buf_putc(to, ' ');
		(*line)++;
	}
	buf_append(to, word->data, word->len);
	*line += word->len;
}

static void
put_finding(struct buf *to, const struct finding *finding, bool utf8)
{
	struct buf word = BUF_INIT;
	size_t line = 8, start;

	buf_puts(to, ";\r\n\t");
	start = to->len;
	buf_printf(to, "%s=%s", finding->method, finding->result);
	line += to->len - start;
	if (finding->reason != NULL) {
		buf_putc(&word, '(');
		put_text(&word, finding->reason, "\\()", utf8);
		buf_putc(&word, ')');
		put_word(to, &word, &line);
	}
	for (const struct property *p = finding->properties; p != NULL;
	    p = p->next) {
		if (!is_keyword(p->type) || !is_keyword(p->name))
			continue;
		buf_reset(&word);
		buf_printf(&word, "%s.%s=", p->type, p->name);
		put_value(&word, p->value, utf8);
		put_word(to, &word, &line);
	}
	buf_release(&word);
}

const char *
authres_print(struct arena *arena, const char *id,
    const struct finding *finding, bool utf8)
{
	struct buf text = BUF_INIT;
	const char *value;
	bool none = true;

	put_value(&text, id, utf8);
	for (; finding != NULL && text.len < VALUE_TOTAL_MAX;
	    finding = finding->next) {
		if (!finding->report || !is_keyword(finding->method) ||
		    !is_keyword(finding->result))
			continue;
		put_finding(&text, finding, utf8);
		none = false;
	}
	if (none)
		buf_puts(&text, "; none");
	value = arena_strndup(arena, text.data, text.len);
	buf_release(&text);
	return value;
}

const char *
authres_skip_cfws(const char *at, const char *end)
{
	size_t depth = 0;

	for (; at < end; at++) {
		if (*at == '\\' && depth > 0 && at + 1 < end)
			at++;
		else if (*at == '(')
			depth++;
		else if (*at == ')' && depth > 0)
			depth--;
		else if (depth == 0 && *at != ' ' && *at != '\t' &&
		    *at != '\r' && *at != '\n')
			break;
	}
	return at;
}

/*
 * A token or a quoted string, without its quotes and white space at the ends
 * inside of them, which do not make it another's.  word: room for all of it.
 */
static const char *
read_word(char *word, const char **atp, const char *end)
{
	const char *at = *atp;
	char *to = word;

	if (at < end && *at == '"') {
		for (at++; at < end && *at != '"'; at++) {
			if (*at == '\\' && at + 1 < end)
				at++;
			if (*at != '\r' && *at != '\n' && *at != '\0')
				*to++ = *at;
		}
	} else
		while (at < end && (is_token_char(*at) ||
		    (unsigned char)*at > 127))
			*to++ = *at++;
	*atp = at;
	while (to > word && (to[-1] == ' ' || to[-1] == '\t'))
		to--;
	*to = '\0';
	return word + strspn(word, " \t");
}

const char *
authres_id(struct arena *arena, const char *value, size_t len)
{
	const char *end = value + len;
	const char *at = authres_skip_cfws(value, end);
	const char *id = read_word(arena_alloc(arena, len + 1), &at, end);

	return *id != '\0' ? id : NULL;
}

/* Behind the next semicolon outside of quotes and comments; or the end. */
static const char *
skip_part(const char *at, const char *end)
{
	bool quoted = false;

	while (at < end) {
		if (!quoted && (at = authres_skip_cfws(at, end)) == end)
			break;
		if (*at == '\\' && at + 1 < end)
			at++;
		else if (*at == '"')
			quoted = !quoted;
		else if (*at == ';' && !quoted)
			return at + 1;
		at++;
	}
	return end;
}

static size_t
token_length(const char *at, const char *end)
{
	const char *start = at;

	while (at < end && is_token_char(*at))
		at++;
	return (size_t)(at - start);
}

const char *
authres_result(struct arena *arena, const char *value, size_t len,
    const char *method)
{
	const char *end = value + len, *at, *found = NULL;
	size_t n;

	for (at = skip_part(value, end); at < end; at = skip_part(at, end)) {
		at = authres_skip_cfws(at, end);
		n = token_length(at, end);
		if (n != strlen(method) || strncasecmp(at, method, n) != 0)
			continue;
		at = authres_skip_cfws(at + n, end);
		if (at == end || *at != '=')
			continue;
		if (found != NULL)
			return "";
		at = authres_skip_cfws(at + 1, end);
		n = token_length(at, end);
		found = arena_strndup(arena, at, n);
	}
	return found;
}

static size_t
length_without_dot(const char *id)
{
	size_t len = strlen(id);

	return len > 0 && id[len - 1] == '.' ? len - 1 : len;
}

static bool
is_ascii(const char *text)
{
	while (*text > 0)
		text++;
	return *text == '\0';
}

/* U-labels and A-labels are the same name. */
static bool
same_domain(const char *a, const char *b)
{
	struct arena *arena = arena_new(0);
	const char *one = domain_normalize(arena, a, strlen(a));
	const char *other = domain_normalize(arena, b, strlen(b));
	bool same = one != NULL && other != NULL && strcmp(one, other) == 0;

	arena_free(&arena);
	return same;
}

bool
authres_id_equal(const char *a, const char *b)
{
	size_t len = length_without_dot(a);

	if (len == length_without_dot(b) && strncasecmp(a, b, len) == 0)
		return true;
	return (!is_ascii(a) || !is_ascii(b)) && same_domain(a, b);
}

/*
 * Whether some program could read this id in front of the results.  Besides
 * the grammar's one id and version: of several ids any, words that comments,
 * folds or odd characters part, and what stands behind an empty part.  What is
 * too long to be looked at counts as well.
 */
static bool
claims_id(struct arena *arena, const char *value, size_t len, const char *id)
{
	const char *at = value, *end = value + len, *word;
	char *room = arena_alloc(arena, len + 1);
	struct buf all = BUF_INIT;
	bool claimed = false;

	while (!claimed && (at = authres_skip_cfws(at, end)) < end) {
		if (*at == ';' && all.len > 0)
			break;
		word = read_word(room, &at, end);
		/* Over a quote, or what is in no word. */
		if (at < end && !is_token_char(*at) && *at != '(' &&
		    (*at != ';' || all.len + strlen(word) == 0))
			at++;
		if (*word == '\0')
			continue;
		buf_puts(&all, word);
		claimed = authres_id_equal(word, id) ||
		    authres_id_equal(all.data, id) || all.len > CLAIM_MAX;
	}
	buf_release(&all);
	return claimed;
}

size_t
authres_remove(struct headers *headers, struct arena *arena, const char *id)
{
	struct header *header = headers->last;
	size_t removed = 0;

	while (header != NULL) {
		struct header *previous = header->previous;
		const char *value;

		if (!header->hidden &&
		    header_is(header, "Authentication-Results")) {
			value = (const char *)memchr(header->raw, ':',
			    header->len) + 1;
			if (claims_id(arena, value, header->len -
			    (size_t)(value - header->raw), id)) {
				headers_delete(headers, header);
				removed++;
			}
		}
		header = previous;
	}
	return removed;
}

/* The filter */

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct authres_options **instance = malloc(sizeof(*instance));

	(void)conf;
	(void)why;
	if (instance == NULL)
		fatal("authres: out of memory");
	*instance = section->values;
	return instance;
}

static const struct authres_options *
options_of(const struct filter_run *run)
{
	return *(const struct authres_options **)run->instance;
}

static const char *
our_id(const struct filter_run *run)
{
	const struct authres_options *options = options_of(run);

	return options->id != NULL ? options->id : run->session->hostname;
}

/*
 * RFC 8601, 5.  Before milters get the message, for some believe such fields
 * (opendmarc does); and not later, for some write them under our id.
 */
static void
clean(struct filter_run *run)
{
	const struct authres_options *options = options_of(run);
	struct mail *mail = run->mail;
	size_t removed = authres_remove(&mail->headers, mail->arena,
	    our_id(run));

	for (size_t i = 0; options->remove[i] != NULL; i++)
		removed += authres_remove(&mail->headers, mail->arena,
		    options->remove[i]);
	if (removed > 0)
		trace_add(mail->trace, run->name,
		    "removed %zu fields that claimed our id", removed);
}

/* A result with one property, in front of the findings. */
static const struct finding *
put_before(struct arena *arena, const struct finding *rest,
    const char *method, const char *result, struct property property)
{
	struct finding *finding = arena_alloc(arena, sizeof(*finding));

	property.next = NULL;
	*finding = (struct finding){ .method = method, .result = result,
	    .properties = arena_memdup(arena, &property, sizeof(property)),
	    .report = true, .next = (struct finding *)rest };
	return finding;
}

/* RFC 8601, 2.7.3. */
static const char *
iprev_result(const struct session *session)
{
	if (session->client_name != NULL)
		return "pass";
	if (session->client_name_unknown)
		return "temperror";
	return session->client_ptr != NULL ? "fail" : "permerror";
}

/* What is found, and before it what the session tells of the client. */
static const struct finding *
all_findings(const struct filter_run *run)
{
	const struct session *session = run->session;
	const struct finding *findings = run->mail->findings;
	struct arena *arena = run->mail->arena;

	if (session->user != NULL)
		findings = put_before(arena, findings, "auth", "pass",
		    (struct property){ "smtp", "auth", session->user, NULL });
	if (session->client_name_asked)
		findings = put_before(arena, findings, "iprev",
		    iprev_result(session), (struct property){ "policy",
		    "iprev", session->client_address, NULL });
	return findings;
}

static struct verdict
eom(struct filter_run *run)
{
	struct mail *mail = run->mail;
	struct header *top;

	for (top = mail->headers.first; top != NULL && top->hidden; )
		top = top->next;
	headers_add(&mail->headers, mail->arena, top,
	    "Authentication-Results", authres_print(mail->arena,
	    our_id(run), all_findings(run), mail->envelope.smtputf8), true);
	return VERDICT_CONTINUE;
}

const struct filter filter_authres = {
	.name = "authres",
	.options = &authres_kind,
	.setup = setup,
	.release = free,
	.clean = clean,
	.eom = eom,
};
