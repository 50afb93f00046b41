/*
 * A milter's edits.  Field numbers are those that the filter saw: a field that
 * it deletes keeps its number until its turn ends (as Sendmail does it; filters
 * that delete from the last to the first see no difference to Postfix).
 */
#include "filters/milter_edits.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "filters/mail.h"
#include "filters/milter_envelope.h"
#include "filters/trace.h"
#include "filters/view.h"

#define EDITS_MAX	20000
#define BYTES_MAX	(16 << 20)	/* of them, but for the body */
#define BLOCK		4096

struct edit {
	struct edit *next;
	char code;
	uint32_t index;
	const char *first, *second;
};

/* A field at its place among those of the filter's view. */
struct place {
	struct header *header;
	const char *raw;		/* as the filter knows it */
	bool deleted;			/* by this filter */
};

struct milter_edits {
	struct mail *mail;
	const struct milter_edits_rules *rules;
	struct body *seen;		/* to tell whether others replace it */
	struct edit *first, **last;
	size_t count, bytes;
	bool numbered;			/* one of them gives a field's number */
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
	edits->seen = mail->body;
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

int
milter_edits_end(struct milter_edits *edits, const char **why)
{
	if (edits->body == NULL || (!edits->body_cr && !edits->body_open) ||
	    body_append(edits->body, "\r\n", 2) == 0)
		return 0;
	*why = strerror(errno);
	return -1;
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
	edits->numbered |= reply->code == MILTER_INSHEADER ||
	    reply->code == MILTER_CHGHEADER;
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
place_insert(struct milter_edits *edits, size_t at, struct header *header,
    const char *raw)
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
	edits->places[at] = (struct place){ .header = header, .raw = raw };
	edits->place_count++;
}

static void
places_fill(struct milter_edits *edits, const struct view *view)
{
	for (size_t i = 0; i < view->count; i++)
		place_insert(edits, edits->place_count,
		    view->fields[i].header, view->fields[i].raw);
}

/* The field that stands behind a place now. */
static struct header *
live_from(const struct milter_edits *edits, size_t at)
{
	for (; at < edits->place_count; at++)
		if (!edits->places[at].header->deleted)
			return edits->places[at].header;
	return NULL;
}

static void
conflict(const struct milter_edits *edits, const char *what)
{
	log_warn(&edits->mail->log, "filter=%s: changes %s, which another of "
	    "its group has changed: this one counts", edits->rules->filter,
	    what);
	trace_add(edits->mail->trace, edits->rules->filter,
	    "%s: changed by another of the group, too", what);
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
	if (edits->numbered)
		place_insert(edits, edits->place_count, h, h->raw);
}

/*
 * The position counts our own Received field too: 0 is above it, and above
 * whatever others have put there.
 */
static void
insert_field(struct milter_edits *edits, uint32_t position, const char *name,
    const char *value)
{
	struct mail *mail = edits->mail;
	struct header *before, *h;
	size_t at = 0;

	for (uint32_t n = 0; at < edits->place_count; at++)
		if (!edits->places[at].deleted && n++ == position)
			break;
	before = position == 0 ? mail->headers.first : live_from(edits, at);
	h = headers_add(&mail->headers, mail->arena, before, name, value,
	    !edits->rules->leading_space);
	if (h == NULL)
		bad_name(edits, name);
	else
		place_insert(edits, at, h, h->raw);
}

static void
change_place(struct milter_edits *edits, size_t at, const char *value)
{
	struct mail *mail = edits->mail;
	struct place *place = &edits->places[at];
	struct header *h = place->header;

	if (!place->deleted && (h->deleted || h->raw != place->raw))
		conflict(edits, header_name(h, mail->arena));
	if (*value == '\0' && !h->deleted)
		headers_delete(&mail->headers, h);
	else if (*value != '\0' && !h->deleted)
		headers_change(&mail->headers, mail->arena, h, value,
		    !edits->rules->leading_space);
	else if (*value != '\0')
		headers_restore(&mail->headers, mail->arena, h,
		    live_from(edits, at), value, !edits->rules->leading_space);
	place->raw = h->raw;
	place->deleted = h->deleted;
}

static void
change_field(struct milter_edits *edits, uint32_t nth, const char *name,
    const char *value)
{
	uint32_t seen = 0;

	if (nth == 0)
		nth = 1;
	for (size_t at = 0; at < edits->place_count; at++) {
		const struct header *h = edits->places[at].header;

		if (!h->hidden && header_is(h, name) && ++seen == nth) {
			change_place(edits, at, value);
			return;
		}
	}
	if (*value != '\0')
		add_field(edits, name, value);
}

/* --- making them --- */

static void
trace_edit(const struct milter_edits *edits, const char *how,
    const struct edit *edit)
{
	trace_add(edits->mail->trace, edits->rules->filter, "%s%c %u %.200s%s"
	    "%.200s", how, edit->code, edit->index, edit->first,
	    edit->second != NULL ? ": " : "",
	    edit->second != NULL ? edit->second : "");
}

static void
show_kind(const struct milter_edits *edits, size_t row, struct buf *text)
{
	size_t count = rights[row].code == MILTER_REPLBODY &&
	    edits->body != NULL;

	for (const struct edit *e = edits->first; e != NULL; e = e->next)
		count += e->code == rights[row].code;
	if (count > 0)
		buf_printf(text, "%s%s: %zu", text->len > 0 ? ", " : "",
		    rights[row].name, count);
}

bool
milter_edits_show(const struct milter_edits *edits, struct buf *text)
{
	bool quarantines = false;

	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
		show_kind(edits, i, text);
	if (edits->body != NULL)
		trace_add(edits->mail->trace, edits->rules->filter, "would "
		    "replace the body by %zu bytes", body_size(edits->body));
	for (const struct edit *e = edits->first; e != NULL; e = e->next) {
		quarantines |= e->code == MILTER_QUARANTINE;
		trace_edit(edits, "would: ", e);
	}
	return quarantines;
}

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
	trace_edit(edits, "", edit);
}

void
milter_edits_apply(struct milter_edits *edits, const struct view *view)
{
	struct mail *mail = edits->mail;

	/* From the first edit on: what it adds has a number, too. */
	if (edits->numbered)
		places_fill(edits, view);
	if (edits->body != NULL) {
		if (mail->body != edits->seen)
			conflict(edits, "the body");
		body_free(&mail->body);
		mail->body = edits->body;
		edits->body = NULL;
		trace_add(mail->trace, edits->rules->filter,
		    "body replaced by %zu bytes", body_size(mail->body));
	}
	for (const struct edit *e = edits->first; e != NULL; e = e->next)
		apply(edits, e);
}
