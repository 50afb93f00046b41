/*
 * A milter's edits.  Field numbers are those that the filter saw: a field that
 * it deletes keeps its number until its turn ends (as Sendmail does it; filters
 * that delete from the last to the first see no difference to Postfix).
 */
#include "filters/milter_edits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/log.h"
#include "filters/mail.h"
#include "filters/milter_envelope.h"
#include "filters/trace.h"

#define EDITS_MAX	20000
#define BYTES_MAX	(16 << 20)	/* of them, but for the body */
#define BLOCK		4096

struct edit {
	struct edit *next;
	char code;
	uint32_t index;
	const char *first, *second;
};

/* A field at its place among those that the filter sees. */
struct place {
	struct header *header;
	const char *name;		/* of a deleted one */
	bool deleted;
};

struct milter_edits {
	struct mail *mail;
	const struct milter_edits_rules *rules;
	struct edit *first, **last;
	size_t count, bytes;
	struct body *body;		/* the new one, or NULL */
	bool body_cr;			/* its last byte was a CR, held back */
	bool body_open;			/* its last line has no end yet */
	struct place *places;
	size_t place_count, place_size;
};

struct milter_edits *
milter_edits_new(struct mail *mail, const struct milter_edits_rules *rules)
{
	struct milter_edits *edits = arena_alloc(mail->arena, sizeof(*edits));

	edits->mail = mail;
	edits->rules = rules;
	edits->last = &edits->first;
	return edits;
}

void
milter_edits_free(struct milter_edits **editsp)
{
	struct milter_edits *edits = *editsp;

	*editsp = NULL;
	if (edits == NULL)
		return;
	body_free(&edits->body);
	free(edits->places);
}

bool
milter_edits_replace_body(const struct milter_edits *edits)
{
	return edits->body != NULL;
}

/* --- collecting --- */

static const struct {
	char code;
	uint32_t right;
	const char *name;
} rights[] = {
	{ MILTER_ADDRCPT, MILTER_MAY_ADDRCPT, "add a recipient" },
	{ MILTER_ADDRCPT_PAR, MILTER_MAY_ADDRCPT | MILTER_MAY_ADDRCPT_PAR,
	    "add a recipient" },
	{ MILTER_DELRCPT, MILTER_MAY_DELRCPT, "delete a recipient" },
	{ MILTER_CHGFROM, MILTER_MAY_CHGFROM, "change the sender" },
	{ MILTER_ADDHEADER, MILTER_MAY_ADDHDRS, "add a field" },
	{ MILTER_INSHEADER, MILTER_MAY_ADDHDRS | MILTER_MAY_CHGHDRS,
	    "insert a field" },
	{ MILTER_CHGHEADER, MILTER_MAY_CHGHDRS, "change a field" },
	{ MILTER_REPLBODY, MILTER_MAY_CHGBODY, "replace the body" },
	{ MILTER_QUARANTINE, MILTER_MAY_QUARANTINE, "quarantine" },
};

static bool
is_allowed(const struct milter_edits *edits, char code)
{
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		if (rights[i].code != code)
			continue;
		if ((edits->rules->allowed & rights[i].right) != 0)
			return true;
		log_warn(&edits->mail->log, "filter=%s: not allowed to %s: "
		    "ignored", edits->rules->filter, rights[i].name);
		trace_add(edits->mail->trace, edits->rules->filter,
		    "not allowed to %s", rights[i].name);
	}
	return false;
}

/* Any line end, even a lone CR or LF, becomes CRLF. */
static int
append_body(struct milter_edits *edits, const char *bytes, size_t len)
{
	char block[BLOCK + 3];
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = bytes[i];
		bool after_cr = edits->body_cr;

		if (n >= BLOCK) {
			if (body_append(edits->body, block, n) == -1)
				return -1;
			n = 0;
		}
		edits->body_cr = c == '\r';
		if (c == '\n' || after_cr) {
			memcpy(block + n, "\r\n", 2);
			n += 2;
			edits->body_open = false;
			if (c == '\n')
				continue;
		}
		if (c == '\r')
			continue;
		block[n++] = c;
		edits->body_open = true;
	}
	return body_append(edits->body, block, n);
}

static int
end_body(struct milter_edits *edits)
{
	if (edits->body_cr || edits->body_open)
		return body_append(edits->body, "\r\n", 2);
	return 0;
}

static int
replace_body(struct milter_edits *edits, const char *bytes, size_t len,
    const char **why)
{
	if (edits->body == NULL)
		edits->body = body_renew(edits->mail->body);
	if (body_size(edits->body) + len > edits->rules->max_body) {
		*why = "the new body is too long";
		return -1;
	}
	if (append_body(edits, bytes, len) == 0)
		return 0;
	*why = strerror(errno);
	return -1;
}

int
milter_edits_add(struct milter_edits *edits, const struct milter_reply *reply,
    const char **why)
{
	struct arena *arena = edits->mail->arena;
	struct edit *edit;

	if (!is_allowed(edits, reply->code))
		return 0;
	if (reply->code == MILTER_REPLBODY)
		return replace_body(edits, reply->bytes, reply->len, why);
	if (++edits->count > EDITS_MAX) {
		*why = "too many edits";
		return -1;
	}
	if ((edits->bytes += reply->len) > BYTES_MAX) {
		*why = "edits are too long";
		return -1;
	}
	edit = arena_alloc(arena, sizeof(*edit));
	edit->code = reply->code;
	edit->index = reply->index;
	edit->first = arena_strdup(arena, reply->first);
	if (reply->second != NULL)
		edit->second = arena_strdup(arena, reply->second);
	*edits->last = edit;
	edits->last = &edit->next;
	return 0;
}

/* --- header fields --- */

static void
place_insert(struct milter_edits *edits, size_t at, struct header *header)
{
	if (edits->place_count == edits->place_size) {
		edits->place_size = edits->place_size * 2 + 64;
		edits->places = realloc(edits->places,
		    edits->place_size * sizeof(edits->places[0]));
		if (edits->places == NULL)
			fatal("out of memory (milter edits)");
	}
	memmove(&edits->places[at + 1], &edits->places[at],
	    (edits->place_count - at) * sizeof(edits->places[0]));
	edits->places[at] = (struct place){ .header = header };
	edits->place_count++;
}

/* Only when a number has to be understood: few filters change fields. */
static void
places_fill(struct milter_edits *edits)
{
	struct header *h = edits->mail->headers.first;

	if (edits->places != NULL)
		return;
	for (; h != NULL; h = h->next)
		if (!h->hidden)
			place_insert(edits, edits->place_count, h);
}

static bool
place_is(const struct place *place, const char *name)
{
	if (place->deleted)
		return strcasecmp(place->name, name) == 0;
	return header_is(place->header, name);
}

/* The field that stands behind a place now: the next one not deleted. */
static struct header *
live_from(const struct milter_edits *edits, size_t at)
{
	for (; at < edits->place_count; at++)
		if (!edits->places[at].deleted)
			return edits->places[at].header;
	return NULL;
}

static void
bad_name(const struct milter_edits *edits, const char *name)
{
	log_warn(&edits->mail->log, "filter=%s: bad field name \"%s\": "
	    "ignored", edits->rules->filter, name);
}

static void
add_field(struct milter_edits *edits, const char *name, const char *value)
{
	struct mail *mail = edits->mail;
	struct header *h = headers_add(&mail->headers, mail->arena, NULL, name,
	    value, !edits->rules->leading_space);

	if (h == NULL) {
		bad_name(edits, name);
		return;
	}
	if (edits->places != NULL)
		place_insert(edits, edits->place_count, h);
}

/* The position counts our own Received field too: 0 is above it. */
static void
insert_field(struct milter_edits *edits, uint32_t position, const char *name,
    const char *value)
{
	struct mail *mail = edits->mail;
	struct header *before, *h, *visible;
	size_t at = 0;

	places_fill(edits);
	before = headers_at(&mail->headers, position);
	h = headers_add(&mail->headers, mail->arena, before, name, value,
	    !edits->rules->leading_space);
	if (h == NULL) {
		bad_name(edits, name);
		return;
	}
	for (visible = before; visible != NULL && visible->hidden;)
		visible = visible->next;
	while (at < edits->place_count && (edits->places[at].deleted ||
	    edits->places[at].header != visible))
		at++;
	place_insert(edits, at, h);
}

static void
delete_field(struct milter_edits *edits, struct place *place)
{
	struct mail *mail = edits->mail;

	if (place->deleted)
		return;
	place->name = header_name(place->header, mail->arena);
	place->deleted = true;
	headers_delete(&mail->headers, place->header);
}

static void
change_field(struct milter_edits *edits, uint32_t nth, const char *name,
    const char *value)
{
	struct mail *mail = edits->mail;
	bool lead = !edits->rules->leading_space;
	uint32_t seen = 0;
	size_t at;

	places_fill(edits);
	if (nth == 0)
		nth = 1;
	for (at = 0; at < edits->place_count; at++)
		if (place_is(&edits->places[at], name) && ++seen == nth)
			break;
	if (at == edits->place_count) {
		if (*value != '\0')
			add_field(edits, name, value);
		return;
	}
	if (*value == '\0') {
		delete_field(edits, &edits->places[at]);
	} else if (!edits->places[at].deleted) {
		headers_change(&mail->headers, mail->arena,
		    edits->places[at].header, value, lead);
	} else {
		struct header *h = headers_add(&mail->headers, mail->arena,
		    live_from(edits, at), edits->places[at].name, value, lead);

		edits->places[at] = (struct place){ .header = h };
	}
}

/* --- making them --- */

static void
apply(struct milter_edits *edits, const struct edit *edit)
{
	switch (edit->code) {
	case MILTER_ADDHEADER:
		add_field(edits, edit->first, edit->second);
		break;
	case MILTER_INSHEADER:
		insert_field(edits, edit->index, edit->first, edit->second);
		break;
	case MILTER_CHGHEADER:
		change_field(edits, edit->index, edit->first, edit->second);
		break;
	default:
		milter_envelope_edit(edits->mail, edits->rules->filter,
		    edit->code, edit->first, edit->second);
		break;
	}
	trace_add(edits->mail->trace, edits->rules->filter, "%c %u %.200s%s"
	    "%.200s", edit->code, edit->index, edit->first,
	    edit->second != NULL ? ": " : "",
	    edit->second != NULL ? edit->second : "");
}

int
milter_edits_apply(struct milter_edits *edits, const char **why)
{
	struct mail *mail = edits->mail;

	if (edits->body != NULL) {
		if (end_body(edits) == -1) {
			*why = strerror(errno);
			return -1;
		}
		body_free(&mail->body);
		mail->body = edits->body;
		edits->body = NULL;
		trace_add(mail->trace, edits->rules->filter,
		    "body replaced by %zu bytes", body_size(mail->body));
	}
	for (const struct edit *e = edits->first; e != NULL; e = e->next)
		apply(edits, e);
	return 0;
}
