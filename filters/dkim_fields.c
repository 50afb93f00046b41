/* Fields of a header by their names (RFC 6376, 5.4.2). */
#include "filters/dkim_fields.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/dkim_canon.h"
#include "filters/dkim_signature.h"
#include "filters/mail.h"

struct field {
	const char *name;
	size_t name_len, position;
	const struct header *header;
	/* In the first of each name: how many this signature has taken. */
	unsigned signature;
	size_t taken;
};

struct dkim_fields {
	struct field *fields;		/* by name, the lowest first */
	size_t count;
	unsigned signature;
};

static int
compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len != b_len)
		return a_len < b_len ? -1 : 1;
	return strncasecmp(a, b, a_len);
}

static int
compare(const void *a, const void *b)
{
	const struct field *one = a, *other = b;
	int names = compare_names(one->name, one->name_len, other->name,
	    other->name_len);

	if (names != 0)
		return names;
	return one->position > other->position ? -1 : 1;
}

struct dkim_fields *
dkim_fields_new(struct arena *arena, const struct headers *headers)
{
	struct dkim_fields *all = arena_alloc(arena, sizeof(*all));

	all->fields = arena_alloc(arena, (headers->count + 1) *
	    sizeof(*all->fields));
	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		if (h->hidden)
			continue;
		all->fields[all->count] = (struct field){ .name = h->raw,
		    .name_len = h->name_len, .position = all->count,
		    .header = h };
		all->count++;
	}
	qsort(all->fields, all->count, sizeof(*all->fields), compare);
	return all;
}

static const struct header *
take(struct dkim_fields *all, const char *name, size_t len)
{
	size_t from = 0, to = all->count, at;
	struct field *first, *field;

	while (from < to) {
		at = from + (to - from) / 2;
		if (compare_names(all->fields[at].name,
		    all->fields[at].name_len, name, len) < 0)
			from = at + 1;
		else
			to = at;
	}
	if (from == all->count)
		return NULL;
	first = &all->fields[from];
	if (first->signature != all->signature) {
		first->signature = all->signature;
		first->taken = 0;
	}
	if (first->taken >= all->count - from)
		return NULL;
	field = first + first->taken;
	if (compare_names(field->name, field->name_len, name, len) != 0)
		return NULL;
	first->taken++;
	return field->header;
}

void
dkim_fields_hash(struct dkim_fields *all, EVP_MD_CTX *hash,
    const struct dkim_signature *signature)
{
	const char *at = signature->signed_fields;

	all->signature++;
	for (;; at++) {
		size_t len = strcspn(at, ":");
		const struct header *header = take(all, at, len);

		if (header != NULL)
			dkim_field_hash(hash, signature->relaxed_header,
			    header);
		at += len;
		if (*at == '\0')
			return;
	}
}

void
dkim_field_hash(EVP_MD_CTX *hash, bool relaxed, const struct header *header)
{
	struct buf canonical = BUF_INIT;

	dkim_canon_field(&canonical, relaxed, header->raw, header->len,
	    header->name_len);
	EVP_DigestUpdate(hash, canonical.data, canonical.len);
	buf_release(&canonical);
}

void
dkim_field_hash_own(EVP_MD_CTX *hash, bool relaxed,
    const struct header *header, const struct dkim_signature *signature)
{
	struct buf field = BUF_INIT, canonical = BUF_INIT;
	const char *end = header->raw + header->len;
	const char *behind = signature->b_value + signature->b_len;

	buf_append(&field, header->raw,
	    (size_t)(signature->b_value - header->raw));
	buf_append(&field, behind, (size_t)(end - behind));
	/* If b= is the last tag, its white space went up to the end. */
	if (behind == end)
		buf_append(&field, "\r\n", 2);
	dkim_canon_field(&canonical, relaxed, field.data, field.len,
	    header->name_len);
	EVP_DigestUpdate(hash, canonical.data, canonical.len - 2);
	buf_release(&field);
	buf_release(&canonical);
}
