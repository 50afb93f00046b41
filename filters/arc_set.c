/* ARC sets and how they follow each other (RFC 8617, 4.1, 4.2, 5.2). */
#include "filters/arc_set.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "filters/authres.h"
#include "filters/mail.h"

#define FIELDS_MAX (3 * ARC_SETS_MAX)

static const char *const status_names[] = { "none", "pass", "fail" };

const char *
arc_status_name(enum arc_status status)
{
	return status_names[status];
}

/* 4.2.1: one or two digits, from 1 to 50.  0: something else. */
static unsigned
instance_parse(const char *text, size_t len)
{
	unsigned value = 0;

	if (len == 0 || len > 2)
		return 0;
	for (size_t i = 0; i < len; i++) {
		if (!isdigit((unsigned char)text[i]))
			return 0;
		value = value * 10 + (unsigned)(text[i] - '0');
	}
	return value <= ARC_SETS_MAX ? value : 0;
}

/* Reads "i=1;", white space and comments in between; *behind is what follows */
static unsigned
results_instance(const char *value, const char *end, const char **behind)
{
	const char *at = authres_skip_cfws(value, end), *digits;
	unsigned instance;

	if (at == end || *at != 'i')
		return 0;
	at = authres_skip_cfws(at + 1, end);
	if (at == end || *at != '=')
		return 0;
	digits = at = authres_skip_cfws(at + 1, end);
	while (at < end && isdigit((unsigned char)*at))
		at++;
	instance = instance_parse(digits, (size_t)(at - digits));
	at = authres_skip_cfws(at, end);
	if (at == end || *at != ';')
		return 0;
	*behind = at + 1;
	return instance;
}

static const char *
read_results(struct arc_sets *all, const struct header *header,
    const char *value, const char *end)
{
	const char *payload = NULL;
	unsigned instance = results_instance(value, end, &payload);
	struct arc_set *set;

	if (instance == 0)
		return "ARC-Authentication-Results without a valid i=";
	if (instance > all->count)
		all->count = instance;
	set = &all->sets[instance - 1];
	if (set->results != NULL)
		return "a set with two ARC-Authentication-Results";
	set->results = header;
	set->payload = payload;
	set->payload_len = (size_t)(end - payload);
	return NULL;
}

/* The set that a tag list belongs to; NULL: *why. */
static struct arc_set *
set_of(struct arc_sets *all, struct tag_list *tags, const char *value,
    const char *end, const char **why)
{
	const struct tag *i;
	unsigned instance = 0;

	if (tag_list_parse(tags, value, (size_t)(end - value), why) == -1)
		return NULL;
	if ((i = tag_list_find(tags, "i")) != NULL)
		instance = instance_parse(i->value, i->len);
	if (instance == 0) {
		*why = "a set without a valid i=";
		return NULL;
	}
	if (instance > all->count)
		all->count = instance;
	return &all->sets[instance - 1];
}

static const char *
read_message(struct arc_sets *all, const struct header *header,
    const char *value, const char *end)
{
	const char *why;
	struct tag_list tags;
	struct arc_set *set = set_of(all, &tags, value, end, &why);

	if (set == NULL)
		return why;
	if (set->message != NULL)
		return "a set with two ARC-Message-Signatures";
	set->message = header;
	return NULL;
}

static const char *
read_seal(struct arc_sets *all, const struct header *header,
    const char *value, const char *end)
{
	const char *why;
	struct tag_list tags;
	struct arc_set *set = set_of(all, &tags, value, end, &why);
	const struct tag *cv;

	if (set == NULL)
		return why;
	if (set->seal != NULL)
		return "a set with two ARC-Seals";
	set->seal = header;
	if ((cv = tag_list_find(&tags, "cv")) == NULL)
		return "a seal without cv=";
	for (size_t i = 0; i < 3; i++)
		if (cv->len == strlen(status_names[i]) && strncasecmp(
		    cv->value, status_names[i], cv->len) == 0) {
			set->status = (enum arc_status)i;
			return NULL;
		}
	return "a seal with an unknown cv=";
}

static const struct {
	const char *name;
	const char *(*read)(struct arc_sets *, const struct header *,
	    const char *value, const char *end);
} kinds[] = {
	{ "ARC-Authentication-Results", read_results },
	{ "ARC-Message-Signature", read_message },
	{ "ARC-Seal", read_seal },
};

static const char *
value_of(const struct header *header)
{
	return (const char *)memchr(header->raw, ':', header->len) + 1;
}

/* Keeps the first thing that is wrong, but reads on: all are counted. */
static void
read_fields(struct arc_sets *all, const struct headers *headers)
{
	size_t fields = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next) {
		const char *why = NULL;

		for (size_t k = 0; k < 3 && !h->hidden; k++) {
			if (!header_is(h, kinds[k].name))
				continue;
			if (++fields > FIELDS_MAX)
				why = "more fields than 50 sets have";
			else
				why = kinds[k].read(all, h, value_of(h),
				    h->raw + h->len);
		}
		if (all->why == NULL)
			all->why = why;
		if (fields > FIELDS_MAX)
			return;
	}
}

/* 4.2.2 and 5.2, steps 2 and 3. */
static const char *
check_order(const struct arc_sets *all, struct arena *arena)
{
	for (size_t i = 0; i < all->count; i++) {
		const struct arc_set *set = &all->sets[i];

		if (set->results == NULL || set->message == NULL ||
		    set->seal == NULL)
			return arena_printf(arena, "set %zu is not complete",
			    i + 1);
		if (set->status == ARC_FAIL)
			return arena_printf(arena, "set %zu says cv=fail",
			    i + 1);
		if ((set->status == ARC_NONE) != (i == 0))
			return arena_printf(arena, "set %zu says cv=%s", i + 1,
			    arc_status_name(set->status));
	}
	return NULL;
}

static void
read_signature(struct dkim_signature *signature, struct arena *arena,
    const struct dkim_rules *given, enum signature_kind kind,
    const struct header *header, int64_t now)
{
	struct dkim_rules rules = *given;
	const char *value = value_of(header);

	rules.kind = kind;
	dkim_signature_parse(signature, arena, &rules, value,
	    header->len - (size_t)(value - header->raw), now);
}

void
arc_sets_read(struct arc_sets *all, struct arena *arena,
    const struct headers *headers, const struct dkim_rules *rules,
    int64_t now)
{
	const struct arc_set *last;

	memset(all, 0, sizeof(*all));
	read_fields(all, headers);
	last = &all->sets[all->count == 0 ? 0 : all->count - 1];
	all->ended = last->seal != NULL && last->status == ARC_FAIL;
	if (all->ended)
		all->why = "the chain has ended with cv=fail";
	if (all->why == NULL)
		all->why = check_order(all, arena);
	for (size_t i = 0; i < all->count && all->why == NULL; i++) {
		struct arc_set *set = &all->sets[i];

		read_signature(&set->message_signature, arena, rules,
		    SIGNATURE_ARC_MESSAGE, set->message, now);
		read_signature(&set->seal_signature, arena, rules,
		    SIGNATURE_ARC_SEAL, set->seal, now);
	}
}
