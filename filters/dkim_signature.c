/* DKIM-Signature fields and key records, read strictly (RFC 6376). */
#include "filters/dkim_signature.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"

#define VALUE_MAX 16384		/* of a DKIM-Signature field */
#define FIELD_NAMES_MAX 4000	/* of h=; libopendkim cuts it at 4,095 */
#define KEY_MAX 1024		/* what libopendkim takes */
#define NAME_MAX_OCTETS 253

const char DKIM_PARTIAL_BODY[] = "a part of the body is not signed";

static bool
is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void
trim(const char **bytes, size_t *len)
{
	while (*len > 0 && is_space(**bytes)) {
		(*bytes)++;
		(*len)--;
	}
	while (*len > 0 && is_space((*bytes)[*len - 1]))
		(*len)--;
}

/* Tag lists */

static bool
is_tag_name(const char *name, size_t len)
{
	if (len == 0 || !isalpha((unsigned char)name[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && name[i] != '_')
			return false;
	return true;
}

static bool
is_tag_value(const char *value, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((value[i] < 33 || value[i] > 126) && !is_space(value[i]))
			return false;
	return true;
}

static const struct tag *
find(const struct tag_list *list, const char *name, size_t len)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->tags[i].name_len == len &&
		    memcmp(list->tags[i].name, name, len) == 0)
			return &list->tags[i];
	return NULL;
}

const struct tag *
tag_list_find(const struct tag_list *list, const char *name)
{
	return find(list, name, strlen(name));
}

static int
tag_parse(struct tag *tag, const char *bytes, size_t len, const char **why)
{
	const char *equals = memchr(bytes, '=', len);

	if (equals == NULL) {
		*why = "a tag without value";
		return -1;
	}
	tag->name = bytes;
	tag->name_len = (size_t)(equals - bytes);
	tag->value = equals + 1;
	tag->len = len - tag->name_len - 1;
	trim(&tag->name, &tag->name_len);
	trim(&tag->value, &tag->len);
	if (!is_tag_name(tag->name, tag->name_len)) {
		*why = "a malformed tag name";
		return -1;
	}
	if (!is_tag_value(tag->value, tag->len)) {
		*why = "an invalid character";
		return -1;
	}
	return 0;
}

int
tag_list_parse(struct tag_list *list, const char *bytes, size_t len,
    const char **why)
{
	const char *end = bytes + len;

	list->count = 0;
	while (bytes < end) {
		const char *semicolon = memchr(bytes, ';',
		    (size_t)(end - bytes));
		const char *next = semicolon != NULL ? semicolon : end;
		const char *spec = bytes;
		size_t spec_len = (size_t)(next - bytes);
		struct tag tag;

		trim(&spec, &spec_len);
		if (spec_len == 0 && semicolon == NULL)
			break;
		if (tag_parse(&tag, spec, spec_len, why) == -1)
			return -1;
		if (find(list, tag.name, tag.name_len) != NULL) {
			*why = "a tag that stands twice";
			return -1;
		}
		if (list->count == TAG_LIST_MAX) {
			*why = "too many tags";
			return -1;
		}
		list->tags[list->count++] = tag;
		bytes = next + 1;
	}
	return 0;
}

/* Values */

static bool
tag_is(const struct tag *tag, const char *value)
{
	return tag->len == strlen(value) &&
	    strncasecmp(tag->value, value, tag->len) == 0;
}

/* The value without white space; NULL if the tag is missing or empty. */
static char *
compact(struct arena *arena, const struct tag *tag)
{
	char *value, *to;

	if (tag == NULL || tag->len == 0)
		return NULL;
	value = to = arena_alloc(arena, tag->len + 1);
	for (size_t i = 0; i < tag->len; i++)
		if (!is_space(tag->value[i]))
			*to++ = tag->value[i];
	*to = '\0';
	return value;
}

/* Whether one of the words, parted by colons, is this one. */
static bool
has_word(const struct tag *tag, const char *word)
{
	const char *at = tag->value, *end = tag->value + tag->len;

	for (;;) {
		const char *colon = memchr(at, ':', (size_t)(end - at));
		struct tag one = { .value = at };

		one.len = (size_t)((colon != NULL ? colon : end) - at);
		trim(&one.value, &one.len);
		if (tag_is(&one, word))
			return true;
		if (colon == NULL)
			return false;
		at = colon + 1;
	}
}

/* Letters of base 64, white space between them, at most two "=" behind. */
static bool
is_base64(const struct tag *tag)
{
	size_t equals = 0;

	for (size_t i = 0; i < tag->len; i++) {
		char c = tag->value[i];

		if (is_space(c))
			continue;
		if (c == '=')
			equals++;
		else if (equals > 0 || (!isalnum((unsigned char)c) &&
		    c != '+' && c != '/'))
			return false;
	}
	return tag->len > 0 && equals <= 2;
}

/* At most 18 digits, RFC 6376 wants 12 to be taken.  -1: no number. */
static int64_t
number(const struct tag *tag)
{
	int64_t value = 0;

	if (tag->len == 0 || tag->len > 18)
		return -1;
	for (size_t i = 0; i < tag->len; i++) {
		if (tag->value[i] < '0' || tag->value[i] > '9')
			return -1;
		value = value * 10 + tag->value[i] - '0';
	}
	return value;
}

/* Labels of letters, digits, hyphens; and underscores, which occur. */
static bool
is_dns_name(const char *name)
{
	size_t label = 0, len = strlen(name);

	if (len == 0 || len > NAME_MAX_OCTETS)
		return false;
	for (size_t i = 0; i <= len; i++) {
		if (name[i] == '.' || name[i] == '\0') {
			if (label == 0 || label > 63)
				return false;
			label = 0;
		} else if (isalnum((unsigned char)name[i]) || name[i] == '_' ||
		    (name[i] == '-' && label > 0))
			label++;
		else
			return false;
	}
	return true;
}

static char *
dns_name(struct arena *arena, const struct tag *tag)
{
	char *name = compact(arena, tag);

	if (name == NULL || !is_dns_name(name))
		return NULL;
	for (char *p = name; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	return name;
}

static void
decide(struct dkim_signature *signature, const char *result,
    const char *reason)
{
	signature->result = result;
	signature->reason = reason;
}

/* The part of i= behind the '@' must be d= or below it (RFC 6376, 3.5). */
static bool
identity_fits(const char *identity, const char *domain)
{
	const char *at = strrchr(identity, '@');
	size_t len, domain_len = strlen(domain);

	if (at == NULL || !is_dns_name(at + 1))
		return false;
	len = strlen(at + 1);
	if (len < domain_len ||
	    strcasecmp(at + 1 + len - domain_len, domain) != 0)
		return false;
	return len == domain_len || at[len - domain_len] == '.';
}

/* Who signed; NULL, or why that cannot be said. */
static const char *
parse_names(struct dkim_signature *signature, struct arena *arena,
    enum signature_kind kind, const struct tag_list *tags)
{
	const struct tag *i = kind == SIGNATURE_DKIM ?
	    tag_list_find(tags, "i") : NULL;
	const struct tag *b = tag_list_find(tags, "b");
	const char *text = compact(arena, b);

	if (text != NULL)
		strncpy(signature->b, text, sizeof(signature->b) - 1);
	signature->signature = text;
	signature->body_hash = compact(arena, tag_list_find(tags, "bh"));
	signature->algorithm = compact(arena, tag_list_find(tags, "a"));
	signature->domain = dns_name(arena, tag_list_find(tags, "d"));
	signature->selector = dns_name(arena, tag_list_find(tags, "s"));
	if (signature->domain == NULL)
		return "d= is no domain";
	if (signature->selector == NULL)
		return "s= is no selector";
	if (strlen(signature->domain) + strlen(signature->selector) +
	    strlen("._domainkey.") > NAME_MAX_OCTETS)
		return "the key's name is too long";
	signature->identity = i == NULL ?
	    arena_printf(arena, "@%s", signature->domain) : compact(arena, i);
	if (signature->identity != NULL && identity_fits(signature->identity,
	    signature->domain))
		return NULL;
	signature->identity = NULL;
	return "i= is not within d=";
}

static const char *
parse_fields(struct dkim_signature *signature, struct arena *arena,
    const struct tag_list *tags)
{
	const struct tag *h = tag_list_find(tags, "h");

	signature->signed_fields = compact(arena, h);
	if (signature->signed_fields == NULL)
		return "no h=";
	if (strlen(signature->signed_fields) > FIELD_NAMES_MAX)
		return "h= is too long";
	if (dkim_signature_covers(signature, "From") == 0)
		return "From is not signed";
	return NULL;
}

/* RFC 6376, 3.5: what c= leaves out is simple. */
static const char *
parse_canonicalization(struct dkim_signature *signature, struct arena *arena,
    const struct tag_list *tags)
{
	const char *c = compact(arena, tag_list_find(tags, "c"));
	const char *slash = c == NULL ? NULL : strchr(c, '/');
	size_t len = slash != NULL ? (size_t)(slash - c) :
	    c != NULL ? strlen(c) : 0;
	struct tag header = { .value = c, .len = len };

	if (c == NULL)
		return NULL;
	signature->relaxed_header = tag_is(&header, "relaxed");
	signature->relaxed_body = slash != NULL &&
	    strcasecmp(slash + 1, "relaxed") == 0;
	if ((!signature->relaxed_header && !tag_is(&header, "simple")) ||
	    (slash != NULL && !signature->relaxed_body &&
	    strcasecmp(slash + 1, "simple") != 0))
		return "unknown canonicalization";
	return NULL;
}

static const char *
parse_times(const struct dkim_rules *rules, const struct tag_list *tags,
    int64_t now)
{
	const struct tag *t = tag_list_find(tags, "t");
	const struct tag *x = tag_list_find(tags, "x");
	int64_t signed_at = t != NULL ? number(t) : 0;
	int64_t expires = x != NULL ? number(x) : INT64_MAX;

	if (signed_at == -1)
		return "t= is no time";
	if (expires == -1)
		return "x= is no time";
	if (expires <= signed_at)
		return "x= is not after t=";
	if (signed_at > now + rules->clock_skew)
		return "signed in the future";
	return NULL;
}

/* What the other tags demand; NULL, or why they cannot be met. */
static const char *
parse_methods(struct dkim_signature *signature, enum signature_kind kind,
    const struct tag_list *tags)
{
	const struct tag *v = tag_list_find(tags, "v");
	const struct tag *q = tag_list_find(tags, "q");
	const struct tag *l = tag_list_find(tags, "l");
	const struct tag *b = tag_list_find(tags, "b");
	const struct tag *bh = tag_list_find(tags, "bh");
	int64_t length;

	if (kind == SIGNATURE_DKIM && (v == NULL || !tag_is(v, "1")))
		return "v= is not 1";
	if (signature->algorithm == NULL ||
	    (strcmp(signature->algorithm, "rsa-sha256") != 0 &&
	    strcmp(signature->algorithm, "ed25519-sha256") != 0 &&
	    strcmp(signature->algorithm, "rsa-sha1") != 0))
		return "unknown algorithm";
	if (q != NULL && !has_word(q, "dns/txt"))
		return "q= is not dns/txt";
	if (kind != SIGNATURE_ARC_SEAL && (bh == NULL || !is_base64(bh)))
		return "bh= is no hash";
	if (b == NULL || !is_base64(b))
		return "b= is no signature";
	if (l == NULL)
		return NULL;
	if ((length = number(l)) == -1)
		return "l= is no length";
	signature->has_length = true;
	signature->length = (uint64_t)length;
	return NULL;
}

/* Where b= stands, with the white space around its value. */
static void
find_b(struct dkim_signature *signature, const struct tag_list *tags,
    const char *end)
{
	const struct tag *b = tag_list_find(tags, "b");
	const char *semicolon;

	if (b == NULL)
		return;
	signature->b_value = b->value;
	while (signature->b_value[-1] != '=')
		signature->b_value--;
	semicolon = memchr(b->value, ';', (size_t)(end - b->value));
	signature->b_len = (size_t)((semicolon != NULL ? semicolon : end) -
	    signature->b_value);
}

/* What RFC 8617 asks for beyond RFC 6376, or in its place. */
static const char *
parse_arc(struct dkim_signature *signature, const struct dkim_rules *rules,
    const struct tag_list *tags)
{
	if (rules->kind == SIGNATURE_ARC_SEAL)
		return tag_list_find(tags, "h") != NULL ?
		    "h= in a seal" : NULL;
	/* 4.1.2: a set is sealed as a whole, so nothing can sign its seal. */
	if (dkim_signature_covers(signature, "ARC-Seal") > 0)
		return "ARC-Seal in h=";
	/* Anybody could put more behind a body that was signed in part. */
	return signature->has_length ? "l= in ARC" : NULL;
}

void
dkim_signature_parse(struct dkim_signature *signature, struct arena *arena,
    const struct dkim_rules *rules, const char *value, size_t len, int64_t now)
{
	const char *why = NULL, *malformed, *names;
	struct tag_list tags;
	const struct tag *x;

	*signature = (struct dkim_signature){ 0 };
	if (len > VALUE_MAX) {
		decide(signature, "permerror", "the signature is too long");
		return;
	}
	if (tag_list_parse(&tags, value, len, &why) == -1) {
		decide(signature, "permerror", why);
		return;
	}
	names = parse_names(signature, arena, rules->kind, &tags);
	malformed = parse_methods(signature, rules->kind, &tags);
	find_b(signature, &tags, value + len);
	if (names != NULL)
		malformed = names;
	if (malformed == NULL && rules->kind != SIGNATURE_ARC_SEAL)
		malformed = parse_fields(signature, arena, &tags);
	if (malformed == NULL && rules->kind != SIGNATURE_ARC_SEAL)
		malformed = parse_canonicalization(signature, arena, &tags);
	if (malformed == NULL && rules->kind != SIGNATURE_DKIM)
		malformed = parse_arc(signature, rules, &tags);
	if (malformed == NULL)
		malformed = parse_times(rules, &tags, now);
	if (malformed != NULL) {
		decide(signature, "permerror", malformed);
		return;
	}
	x = tag_list_find(&tags, "x");
	if (x != NULL && number(x) < now - rules->clock_skew)
		decide(signature, "fail", "signature expired");
	else if (!rules->sha1 && strcmp(signature->algorithm, "rsa-sha1") == 0)
		decide(signature, "policy", "weak algorithm");
}

/* RFC 6376, 6.1.2, in its order; NULL, or why the key will not do. */
static const char *
key_misfit(struct dkim_signature *signature, const struct tag_list *tags)
{
	const struct tag *v = tag_list_find(tags, "v");
	const struct tag *k = tag_list_find(tags, "k");
	const struct tag *h = tag_list_find(tags, "h");
	const struct tag *s = tag_list_find(tags, "s");
	const struct tag *t = tag_list_find(tags, "t");
	const struct tag *p = tag_list_find(tags, "p");
	bool ed25519 = strcmp(signature->algorithm, "ed25519-sha256") == 0;
	bool sha1 = strcmp(signature->algorithm, "rsa-sha1") == 0;

	/* 3.6.1 wants v= to be first; some keys in use have it elsewhere. */
	if (v != NULL && !tag_is(v, "DKIM1"))
		return "unknown key version";
	if (s != NULL && !has_word(s, "email") && !has_word(s, "*"))
		return "not a key for mail";
	if (p == NULL)
		return "the key record has no key";
	if (p->len == 0)
		return "key revoked";
	if (!is_base64(p))
		return "malformed key";
	if (k != NULL && !tag_is(k, "rsa") && !tag_is(k, "ed25519"))
		return "unknown key type";
	if ((k != NULL && tag_is(k, "ed25519")) != ed25519)
		return "the key is of another algorithm";
	if (h != NULL && !has_word(h, sha1 ? "sha1" : "sha256"))
		return "not a key for this hash";
	signature->test = t != NULL && has_word(t, "y");
	if (t != NULL && has_word(t, "s") && strcasecmp(signature->domain,
	    strrchr(signature->identity, '@') + 1) != 0)
		return "not a key for subdomains";
	return NULL;
}

void
dkim_signature_check_key(struct dkim_signature *signature, const char *record,
    size_t len)
{
	const char *why = NULL;
	struct tag_list tags;

	if (len > KEY_MAX)
		why = "the key record is too long";
	else if (tag_list_parse(&tags, record, len, &why) == -1)
		why = "malformed key record";
	else
		why = key_misfit(signature, &tags);
	if (why != NULL)
		decide(signature, "permerror", why);
}

bool
dkim_signature_is_sha1(const struct dkim_signature *signature)
{
	return signature->algorithm != NULL &&
	    strcmp(signature->algorithm, "rsa-sha1") == 0;
}

size_t
dkim_signature_covers(const struct dkim_signature *signature,
    const char *field_name)
{
	size_t len = strlen(field_name), count = 0;

	for (const char *at = signature->signed_fields;; at++) {
		size_t word = strcspn(at, ":");

		if (word == len && strncasecmp(at, field_name, len) == 0)
			count++;
		at += word;
		if (*at == '\0')
			return count;
	}
}
