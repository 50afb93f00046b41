/* The From field (RFC 5322). */
#include "filters/from.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/domain.h"
#include "filters/mail.h"

#define DEPTH_MAX	16		/* of comments in comments */

struct parser {
	struct from *from;
	struct arena *arena;
	const char *at, *end;
	const char *domain;		/* the last one read */
};

static void
malformed(struct parser *p, const char *why)
{
	if (p->from->why == NULL)
		p->from->why = why;
}

/* Against the grammar, not only against DMARC's wishes. */
static bool
fail(struct parser *p, const char *why)
{
	malformed(p, why);
	p->from->broken = true;
	return false;
}

static void
add_domain(struct from *from, const char *domain)
{
	for (size_t i = 0; i < from->count; i++)
		if (strcmp(from->domains[i], domain) == 0)
			return;
	if (from->count == FROM_DOMAINS_MAX)
		from->too_many = true;
	else
		from->domains[from->count++] = domain;
}

/* The next character, or -1 at the end. */
static int
peek(const struct parser *p)
{
	return p->at < p->end ? (unsigned char)*p->at : -1;
}

/* RFC 5322, 3.2.3, and RFC 6532, 3.2 */
static bool
is_atext(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
	    (c >= '0' && c <= '9') || c > 0x7f ||
	    (c > 0 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* at stands on "("; comments nest. */
static bool
skip_comment(struct parser *p)
{
	int depth = 0;

	for (; p->at < p->end; p->at++) {
		if (*p->at == '\\' && p->at + 1 < p->end)
			p->at++;
		else if (*p->at == '(') {
			if (++depth > DEPTH_MAX)
				return fail(p, "comments nest too deep");
		} else if (*p->at == ')' && --depth == 0) {
			p->at++;
			return true;
		}
	}
	return fail(p, "comment without end");
}

/* White space, folds and comments (RFC 5322, 3.2.2). */
static bool
skip_cfws(struct parser *p)
{
	for (;;) {
		int c = peek(p);

		if (c == '(') {
			if (!skip_comment(p))
				return false;
		} else if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
			p->at++;
		else
			return true;
	}
}

/* at stands on the opening quote. */
static bool
skip_quoted(struct parser *p)
{
	for (p->at++; p->at < p->end; p->at++) {
		if (*p->at == '\\' && p->at + 1 < p->end)
			p->at++;
		else if (*p->at == '"') {
			p->at++;
			return true;
		}
	}
	return fail(p, "quotation without end");
}

static void
skip_atom(struct parser *p)
{
	while (p->at < p->end && is_atext(peek(p)))
		p->at++;
}

/* What stands in front of "@", "<", ":" and the like. */
struct words {
	unsigned count;			/* atoms and quoted strings */
	bool is_local;			/* word *("." word) */
};

static bool
read_words(struct parser *p, struct words *words)
{
	bool after_dot = true;

	*words = (struct words){ 0, true };
	for (;;) {
		int c;

		if (!skip_cfws(p))
			return false;
		c = peek(p);
		if (c == '.') {
			if (after_dot)
				words->is_local = false;
			after_dot = true;
			p->at++;
			continue;
		}
		if (c != '"' && !is_atext(c) && c != '[' && c != ']')
			break;
		if (!after_dot)
			words->is_local = false;
		after_dot = false;
		words->count++;
		if (c == '[' || c == ']') {
			/* In names only, but there they are in use. */
			words->is_local = false;
			p->at++;
		} else if (c != '"')
			skip_atom(p);
		else if (!skip_quoted(p))
			return false;
	}
	if (after_dot)
		words->is_local = false;
	return true;
}

/*
 * at stands behind "@".  RFC 5322, 4.4, lets white space and comments stand
 * around the dots.  An address literal names no domain.
 */
static bool
read_domain(struct parser *p)
{
	char name[DOMAIN_MAX * 4];
	size_t len = 0;
	const char *domain;

	for (;;) {
		const char *start;

		if (!skip_cfws(p))
			return false;
		start = p->at;
		skip_atom(p);
		if (p->at == start)
			return fail(p, peek(p) == '[' ?
			    "address literal" : "domain missing");
		if (len + (size_t)(p->at - start) + 1 >= sizeof(name))
			return fail(p, "domain too long");
		memcpy(name + len, start, (size_t)(p->at - start));
		len += (size_t)(p->at - start);
		if (!skip_cfws(p))
			return false;
		if (peek(p) != '.')
			break;
		name[len++] = '.';
		p->at++;
	}
	domain = domain_normalize(p->arena, name, len);
	if (domain == NULL)
		return fail(p, "bad domain");
	add_domain(p->from, domain);
	p->domain = domain;
	return true;
}

static bool
is_dot_atom(const char *text, size_t len)
{
	bool dot = true;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '.' ? dot : !is_atext((unsigned char)text[i]))
			return false;
		dot = text[i] == '.';
	}
	return !dot;
}

/* What these words of a local part mean: "\"a\" . b" is "a.b". */
static void
put_meaning(struct parser *words, struct buf *to)
{
	while (skip_cfws(words) && words->at < words->end) {
		if (*words->at != '"') {
			buf_putc(to, *words->at++);
			continue;
		}
		for (words->at++; *words->at != '"'; words->at++) {
			if (*words->at == '\\')
				words->at++;
			if (*words->at != '\r' && *words->at != '\n')
				buf_putc(to, *words->at);
		}
		words->at++;
	}
}

/*
 * Adds the address whose local part, found good, stands from start to end and
 * whose domain was read last.
 */
static void
add_address(struct parser *p, const char *start, const char *end)
{
	struct parser words = { .from = p->from, .at = start, .end = end };
	struct buf local = BUF_INIT, address = BUF_INIT;

	if (p->from->address_count == FROM_ADDRESSES_MAX) {
		p->from->broken = true;
		return;
	}
	put_meaning(&words, &local);
	if (local.len > 0 && is_dot_atom(local.data, local.len))
		buf_append(&address, local.data, local.len);
	else {
		buf_putc(&address, '"');
		for (size_t i = 0; i < local.len; i++) {
			if (local.data[i] == '"' || local.data[i] == '\\')
				buf_putc(&address, '\\');
			buf_putc(&address, local.data[i]);
		}
		buf_putc(&address, '"');
	}
	buf_printf(&address, "@%s", p->domain);
	p->from->addresses[p->from->address_count++] =
	    arena_strndup(p->arena, address.data, address.len);
	buf_release(&local);
	buf_release(&address);
}

/* at stands behind "<".  Routes (RFC 5322, 4.4) are too odd to be honest. */
static bool
read_angle(struct parser *p)
{
	const char *start = p->at, *end;
	struct words words;

	if (!read_words(p, &words))
		return false;
	if (words.count == 0 || !words.is_local)
		return fail(p, "bad address in <>");
	if (peek(p) != '@')
		return fail(p, "no domain in <>");
	end = p->at++;
	if (!read_domain(p))
		return false;
	add_address(p, start, end);
	if (peek(p) != '>')
		return fail(p, "text behind the address in <>");
	p->at++;
	return skip_cfws(p);
}

/* One mailbox, a group's head, or nothing (RFC 5322, 4.4, lets lists gape). */
static bool
read_member(struct parser *p, bool *in_group)
{
	const char *start = p->at, *end;
	struct words words;

	if (!read_words(p, &words))
		return false;
	switch (peek(p)) {
	case '@':
		if (words.count == 0 || !words.is_local)
			return fail(p, "bad local part");
		end = p->at++;
		/* Many put the address in front of the address, too. */
		if (!read_domain(p))
			return false;
		add_address(p, start, end);
		if (peek(p) != '<')
			return true;
		p->at++;
		return read_angle(p);
	case '<':
		p->at++;
		return read_angle(p);
	case ':':
		if (*in_group || words.count == 0)
			return fail(p, "misplaced colon");
		*in_group = true;
		p->at++;
		return read_member(p, in_group);
	default:
		return words.count == 0 || fail(p, "text without address");
	}
}

static bool
read_list(struct parser *p)
{
	bool in_group = false;

	for (;;) {
		if (!read_member(p, &in_group))
			return false;
		if (peek(p) == ';' && in_group) {
			in_group = false;
			p->at++;
			if (!skip_cfws(p))
				return false;
		}
		switch (peek(p)) {
		case -1:
			return !in_group || fail(p, "group without end");
		case ',':
			p->at++;
			break;
		default:
			return fail(p, "unexpected character");
		}
	}
}

/* Whatever follows an "@" might be taken for the author's domain. */
static void
list_candidates(struct parser *p, const char *bytes)
{
	for (const char *at = bytes; at < p->end; at++) {
		const char *start, *domain;

		if (*at != '@')
			continue;
		for (start = at + 1; start < p->end && (*start == ' ' ||
		    *start == '\t' || *start == '\r' || *start == '\n');
		    start++)
			;
		for (at = start; at < p->end && (*at == '.' || *at == '-' ||
		    *at == '_' || (is_atext((unsigned char)*at) &&
		    strchr("!#$%&'*+/=?^`{|}~", *at) == NULL)); at++)
			;
		domain = domain_normalize(p->arena, start,
		    (size_t)(at - start));
		if (domain != NULL)
			add_domain(p->from, domain);
		at--;
	}
}

static bool
has_control(const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];

		if (c == 0x7f || (c < 0x20 && c != '\t' && c != '\r' &&
		    c != '\n'))
			return true;
	}
	return false;
}

void
from_add(struct from *from, struct arena *arena, const char *bytes, size_t len)
{
	struct parser p = { .from = from, .arena = arena, .at = bytes,
	    .end = bytes + len };
	bool good;

	if (++from->fields > 1)
		(void)fail(&p, "several From fields");
	if (len > FROM_LENGTH_MAX) {
		(void)fail(&p, "From too long");
		from->too_many = true;
		return;
	}
	good = read_list(&p);
	if (has_control(bytes, len))
		good = fail(&p, "control character in From");
	if (!good || from->fields > 1)
		list_candidates(&p, bytes);
	else if (from->count == 0)
		malformed(&p, "no address in From");
	else if (from->count > 1)
		malformed(&p, "several domains in From");
}

void
from_add_all(struct from *from, struct arena *arena,
    const struct headers *headers)
{
	for (const struct header *header = headers->first; header != NULL;
	    header = header->next) {
		const char *end = header->raw + header->len, *colon;

		if (header->hidden || !header_is(header, "From"))
			continue;
		colon = memchr(header->raw, ':', header->len);
		if (colon != NULL)
			from_add(from, arena, colon + 1,
			    (size_t)(end - colon - 1));
	}
}

const char *
from_normalize_address(struct arena *arena, const char *address)
{
	struct from from = { 0 };

	from_add(&from, arena, address, strlen(address));
	return !from.broken && from.address_count == 1 ? from.addresses[0] :
	    NULL;
}

const char *
from_domain(const struct from *from)
{
	return from->why == NULL && from->count == 1 ? from->domains[0] : NULL;
}
