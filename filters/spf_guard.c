/* The grammar of SPF records (RFC 7208). */
#include "filters/spf_guard.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"

#define LABELS_MAX 127			/* RFC 7208, 7.3 */

struct text {
	const char *at, *end;
};

struct parser {
	struct arena *arena;
	struct spf_term *terms;
	struct spf_record *record;
	bool all, exp;			/* seen */
	const char *why;
};

static bool
is_alpha(int c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool
is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static bool
is_alnum(int c)
{
	return is_alpha(c) || is_digit(c);
}

static bool
fail(struct parser *p, const char *why)
{
	p->why = why;
	return false;
}

static bool
text_is(struct text text, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(text.end - text.at) == len &&
	    strncasecmp(text.at, word, len) == 0;
}

/* --- macro-string and domain-spec (RFC 7208, 7.1) --- */

struct macros {
	bool in_exp;			/* c, r and t may stand (7.2) */
	bool uses_p;
	unsigned count;
	char *to;			/* the copy, or NULL: only checked */
};

static void
emit(struct macros *m, const char *from, const char *to)
{
	if (m->to == NULL)
		return;
	memcpy(m->to, from, (size_t)(to - from));
	m->to += to - from;
}

/*
 * "%{" letter [digits] ["r"] *delimiter "}".  A count beyond what any name has
 * is the same as none, and is left out of the copy: the library's would wrap.
 */
static bool
macro_expand(struct text *text, struct macros *m)
{
	const char *at = text->at + 2, *start = text->at, *digits;
	unsigned long value = 0;
	int letter;

	if (at >= text->end)
		return false;
	letter = *at | 0x20;
	if (!is_alpha(*at) || strchr("slodiphcrtv", letter) == NULL ||
	    (strchr("crt", letter) != NULL && !m->in_exp))
		return false;
	if (letter == 'p')
		m->uses_p = true;
	digits = ++at;
	while (at < text->end && is_digit(*at)) {
		if (value <= LABELS_MAX)
			value = value * 10 + (unsigned long)(*at - '0');
		at++;
	}
	if (at > digits && value == 0)
		return false;
	emit(m, start, digits);
	if (at > digits && value <= LABELS_MAX)
		emit(m, digits, at);
	start = at;
	if (at < text->end && (*at == 'r' || *at == 'R'))
		at++;
	while (at < text->end && *at != '\0' && strchr(".-+,/_=", *at) != NULL)
		at++;
	if (at >= text->end || *at != '}')
		return false;
	emit(m, start, ++at);
	text->at = at;
	return true;
}

/* Moves *last_literal to where the text behind the last macro begins. */
static bool
macro_string(struct text text, struct macros *m, const char **last_literal)
{
	*last_literal = text.at;
	while (text.at < text.end) {
		unsigned char c = (unsigned char)*text.at;

		if (c < 0x21 || c > 0x7e)
			return false;
		if (c != '%') {
			emit(m, text.at, text.at + 1);
			text.at++;
			continue;
		}
		if (++m->count > SPF_MACROS_MAX || text.end - text.at < 2)
			return false;
		if (strchr("%_-", text.at[1]) != NULL && text.at[1] != '\0') {
			emit(m, text.at, text.at + 2);
			text.at += 2;
		} else if (text.at[1] != '{' || !macro_expand(&text, m))
			return false;
		*last_literal = text.at;
	}
	return true;
}

/*
 * toplabel = letters, digits, hyphens; not all digits, no hyphen at its ends.
 */
static bool
is_toplabel(const char *at, const char *end)
{
	bool other = false;

	if (at == end || at[0] == '-' || end[-1] == '-')
		return false;
	for (; at < end; at++) {
		if (!is_alnum(*at) && *at != '-')
			return false;
		if (!is_digit(*at))
			other = true;
	}
	return other;
}

/* domain-end = "." toplabel [ "." ], or a macro. */
static bool
domain_end(struct text literal)
{
	const char *dot, *end = literal.end;

	if (literal.at == literal.end)
		return true;
	if (end[-1] == '.')
		end--;
	for (dot = end; dot > literal.at && dot[-1] != '.'; dot--)
		;
	return dot > literal.at && is_toplabel(dot, end);
}

static bool
domain_spec(struct parser *p, struct text text, const char **domain,
    bool *uses_p)
{
	struct macros m = { .in_exp = false };
	struct text literal = { .end = text.end };
	char *copy;

	if (text.at == text.end)
		return fail(p, "a domain is missing");
	copy = m.to = arena_alloc(p->arena,
	    (size_t)(text.end - text.at) + 1);
	if (!macro_string(text, &m, &literal.at))
		return fail(p, "bad macro or character in a domain");
	if (!domain_end(literal))
		return fail(p, "bad domain");
	*domain = copy;
	*uses_p = m.uses_p;
	return true;
}

/* --- CIDR lengths (RFC 7208, 5.6 and 12) --- */

/* "0", or digits without a zero in front, up to max. */
static bool
prefix_parse(const char *at, const char *end, int max, int *prefix)
{
	int value = 0;

	if (at == end || end - at > 3 || (*at == '0' && end - at > 1))
		return false;
	for (; at < end; at++) {
		if (!is_digit(*at))
			return false;
		value = value * 10 + *at - '0';
	}
	*prefix = value;
	return value <= max;
}

/* Where the digits at the end begin. */
static const char *
digits_before(const char *start, const char *end)
{
	while (end > start && is_digit(end[-1]))
		end--;
	return end;
}

/*
 * Takes [ "/" length ] [ "//" length ] off the end.  A "/" may also stand
 * inside a domain, so it is only a length if nothing else follows.
 */
static bool
dual_cidr(struct parser *p, struct text *text, struct spf_term *term)
{
	const char *digits = digits_before(text->at, text->end);

	if (digits - text->at >= 2 && digits[-1] == '/' && digits[-2] == '/') {
		if (!prefix_parse(digits, text->end, 128, &term->prefix6))
			return fail(p, "bad CIDR length");
		text->end = digits - 2;
		digits = digits_before(text->at, text->end);
		if (digits == text->end)
			return true;
	}
	if (digits > text->at && digits[-1] == '/') {
		if (!prefix_parse(digits, text->end, 32, &term->prefix4))
			return fail(p, "bad CIDR length");
		text->end = digits - 1;
	}
	return true;
}

/* --- mechanisms (RFC 7208, 5) --- */

static bool
network(struct parser *p, struct text text, struct spf_term *term)
{
	bool four = term->mechanism == SPF_IP4;
	char address[INET6_ADDRSTRLEN];
	const char *slash = memchr(text.at, '/', (size_t)(text.end - text.at));
	size_t len;

	if (slash != NULL && !prefix_parse(slash + 1, text.end, four ? 32 : 128,
	    four ? &term->prefix4 : &term->prefix6))
		return fail(p, "bad CIDR length");
	len = (size_t)((slash == NULL ? text.end : slash) - text.at);
	if (len == 0 || len >= sizeof(address))
		return fail(p, "bad network address");
	memcpy(address, text.at, len);
	address[len] = '\0';
	/* inet_pton() is as strict as qnum: no zeros in front, four parts. */
	if (memchr(address, '\0', len) != NULL || inet_pton(
	    four ? AF_INET : AF_INET6, address,
	    four ? (void *)&term->ip4 : (void *)&term->ip6) != 1)
		return fail(p, "bad network address");
	return true;
}

enum argument { ARGUMENT_NONE, ARGUMENT_DOMAIN, ARGUMENT_MAYBE_DOMAIN,
	ARGUMENT_MAYBE_DOMAIN_CIDR, ARGUMENT_NETWORK };

static const struct {
	const char *name;
	enum spf_mechanism mechanism;
	enum argument argument;
} mechanisms[] = {
	{ "all",	SPF_ALL,	ARGUMENT_NONE },
	{ "include",	SPF_INCLUDE,	ARGUMENT_DOMAIN },
	{ "a",		SPF_A,		ARGUMENT_MAYBE_DOMAIN_CIDR },
	{ "mx",		SPF_MX,		ARGUMENT_MAYBE_DOMAIN_CIDR },
	{ "ptr",	SPF_PTR,	ARGUMENT_MAYBE_DOMAIN },
	{ "ip4",	SPF_IP4,	ARGUMENT_NETWORK },
	{ "ip6",	SPF_IP6,	ARGUMENT_NETWORK },
	{ "exists",	SPF_EXISTS,	ARGUMENT_DOMAIN },
};

/* text begins at the ":" or "/" behind the name, or is empty. */
static bool
mechanism_argument(struct parser *p, struct text text, enum argument argument,
    struct spf_term *term)
{
	bool colon;

	if (argument == ARGUMENT_MAYBE_DOMAIN_CIDR &&
	    !dual_cidr(p, &text, term))
		return false;
	colon = text.at < text.end && *text.at == ':';
	if (colon)
		text.at++;
	else if (text.at < text.end)
		return fail(p, "bad argument of a mechanism");
	if (argument == ARGUMENT_NONE)
		return !colon || fail(p, "\"all\" has no argument");
	if (!colon)
		return argument == ARGUMENT_MAYBE_DOMAIN ||
		    argument == ARGUMENT_MAYBE_DOMAIN_CIDR ||
		    fail(p, "a mechanism lacks its argument");
	if (argument == ARGUMENT_NETWORK)
		return network(p, text, term);
	return domain_spec(p, text, &term->domain, &term->uses_p);
}

static bool
directive(struct parser *p, struct text text)
{
	struct spf_term term = { .qualifier = '+', .prefix4 = 32,
		.prefix6 = 128 };
	struct text name;

	if (strchr("+-~?", *text.at) != NULL)
		term.qualifier = *text.at++;
	name = text;
	while (text.at < text.end && *text.at != ':' && *text.at != '/')
		text.at++;
	name.end = text.at;
	for (size_t i = 0; i < sizeof(mechanisms) / sizeof(mechanisms[0]);
	    i++) {
		if (!text_is(name, mechanisms[i].name))
			continue;
		term.mechanism = mechanisms[i].mechanism;
		if (!mechanism_argument(p, text, mechanisms[i].argument, &term))
			return false;
		/* RFC 7208, 5.1: what follows "all" is never tested. */
		if (!p->all)
			p->terms[p->record->count++] = term;
		if (term.mechanism == SPF_ALL)
			p->all = true;
		return true;
	}
	return fail(p, "unknown mechanism");
}

/* --- modifiers (RFC 7208, 6) --- */

static bool
modifier(struct parser *p, struct text name, struct text value)
{
	struct macros m = { .in_exp = true };
	const char *ignored;

	if (text_is(name, "redirect")) {
		if (p->record->redirect != NULL)
			return fail(p, "redirect= twice");
		return domain_spec(p, value, &p->record->redirect,
		    &p->record->redirect_uses_p);
	}
	if (text_is(name, "exp")) {
		if (p->exp)
			return fail(p, "exp= twice");
		p->exp = true;
		return domain_spec(p, value, &p->record->exp,
		    &p->record->exp_uses_p);
	}
	return macro_string(value, &m, &ignored) ||
	    fail(p, "bad macro in a modifier");
}

/* name = ALPHA *( ALPHA / DIGIT / "-" / "_" / "." ), then "=" */
static const char *
modifier_name_end(struct text text)
{
	const char *at = text.at;

	if (!is_alpha(*at))
		return NULL;
	while (at < text.end && (is_alnum(*at) || *at == '-' || *at == '_' ||
	    *at == '.'))
		at++;
	return at < text.end && *at == '=' ? at : NULL;
}

static bool
term_parse(struct parser *p, struct text text)
{
	const char *equals;

	if (text.end - text.at > SPF_TERM_MAX)
		return fail(p, "a term is too long");
	/* A NUL would end the library's view of the term, so none may come. */
	for (const char *at = text.at; at < text.end; at++)
		if (*at < 0x21 || *at > 0x7e)
			return fail(p, "bad character");
	equals = modifier_name_end(text);
	if (equals == NULL)
		return directive(p, text);
	return modifier(p, (struct text){ text.at, equals },
	    (struct text){ equals + 1, text.end });
}

bool
spf_is_record(const char *bytes, size_t len)
{
	static const char version[] = "v=spf1";
	size_t n = sizeof(version) - 1;

	return len >= n && strncasecmp(bytes, version, n) == 0 &&
	    (len == n || bytes[n] == ' ');
}

const struct spf_record *
spf_record_parse(struct arena *arena, const char *bytes, size_t len,
    const char **why)
{
	struct parser p = { .arena = arena };
	struct text text = { bytes, bytes + len }, term;
	size_t room = 0;

	*why = NULL;
	if (!spf_is_record(bytes, len)) {
		*why = "not an SPF record";
		return NULL;
	}
	if (len > SPF_RECORD_MAX) {
		*why = "the record is too long";
		return NULL;
	}
	for (size_t i = 0; i < len; i++)
		room += bytes[i] == ' ' && i + 1 < len && bytes[i + 1] != ' ';
	p.record = arena_alloc(arena, sizeof(*p.record));
	p.terms = arena_alloc(arena, room * sizeof(*p.terms) + 1);
	p.record->terms = p.terms;
	text.at += 6;
	while (text.at < text.end) {
		if (*text.at == ' ') {
			text.at++;
			continue;
		}
		term.at = text.at;
		while (text.at < text.end && *text.at != ' ')
			text.at++;
		term.end = text.at;
		if (!term_parse(&p, term)) {
			*why = p.why;
			return NULL;
		}
	}
	/* RFC 7208, 6.1: "all" anywhere makes redirect meaningless. */
	if (p.all)
		p.record->redirect = NULL;
	return p.record;
}

/* explain-string = *( macro-string / SP ) */
bool
spf_is_explanation(const char *bytes, size_t len, bool *uses_p)
{
	struct macros m = { .in_exp = true };
	const char *end = bytes + len, *ignored;
	bool good = len <= SPF_EXPLANATION_MAX;

	while (good && bytes < end) {
		const char *space = memchr(bytes, ' ', (size_t)(end - bytes));

		if (space == NULL)
			space = end;
		good = macro_string((struct text){ bytes, space }, &m,
		    &ignored);
		bytes = space < end ? space + 1 : end;
	}
	*uses_p = m.uses_p;
	return good;
}
