/*
 * The difference between two states of a message.  Fields keep their identity
 * (their struct), so that a comparison of pointers tells what was inserted,
 * and of contents what was changed.
 */
#include "filters/milter_diff.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/log.h"
#include "filters/mail.h"
#include "filters/milter_codec.h"

struct field {
	const struct header *header;
	const char *raw;
	size_t len;
	bool alive;
};

struct milter_snapshot {
	struct field *fields;
	size_t field_count;
	const struct body *body;
	const char *sender;
	const struct recipient **recipients;
	size_t recipient_count;
	bool hold;
};

struct diff {
	struct buf *out;
	struct mail *mail;
	struct milter_snapshot *before;
	uint32_t allowed;
	bool leading_space, complete;
};

struct milter_snapshot *
milter_snapshot_new(const struct mail *mail)
{
	struct milter_snapshot *s = arena_alloc(mail->arena, sizeof(*s));
	size_t count = envelope_count(&mail->envelope);

	s->fields = arena_alloc(mail->arena,
	    (mail->headers.count + 1) * sizeof(s->fields[0]));
	for (const struct header *h = mail->headers.first; h != NULL;
	    h = h->next)
		s->fields[s->field_count++] = (struct field){ h, h->raw,
		    h->len, false };
	s->recipients = arena_alloc(mail->arena,
	    (count + 1) * sizeof(s->recipients[0]));
	for (const struct recipient *r = mail->envelope.recipients; r != NULL;
	    r = r->next)
		s->recipients[s->recipient_count++] = r;
	s->body = mail->body;
	s->sender = mail->envelope.sender;
	s->hold = mail->envelope.hold;
	return s;
}

static bool
may(struct diff *d, uint32_t right)
{
	if ((d->allowed & right) != 0)
		return true;
	d->complete = false;
	return false;
}

/* --- header fields --- */

/* The field's number among those before that shared its name, from 1. */
static uint32_t
instance_of(const struct milter_snapshot *before, size_t at)
{
	const struct field *field = &before->fields[at];
	size_t len = field->header->name_len;
	uint32_t nth = 1;

	for (size_t i = 0; i < at; i++)
		if (before->fields[i].header->name_len == len &&
		    strncasecmp(before->fields[i].raw, field->raw, len) == 0)
			nth++;
	return nth;
}

/* index < 0: none.  value false: an empty one, which deletes. */
static void
put_field(struct diff *d, char code, int64_t index, const char *raw,
    size_t len, size_t name_len, bool value)
{
	struct buf text = BUF_INIT;
	size_t begin;

	if (milter_put_header(&text, raw, len, name_len,
	    d->leading_space) == -1) {
		d->complete = false;
		buf_release(&text);
		return;
	}
	begin = milter_begin(d->out, code);
	if (index >= 0)
		milter_put_u32(d->out, (uint32_t)index);
	if (value) {
		buf_append(d->out, text.data + 5, text.len - 5);
	} else {
		buf_append(d->out, text.data + 5, name_len + 1);
		buf_putc(d->out, '\0');
	}
	milter_end(d->out, begin);
	buf_release(&text);
}

/* Both keep their order, so the search seldom goes beyond one step. */
static size_t
find_field(const struct milter_snapshot *before, size_t from,
    const struct header *header)
{
	while (from < before->field_count &&
	    before->fields[from].header != header)
		from++;
	return from;
}

static void
mark_alive(struct diff *d)
{
	const struct header *h = d->mail->headers.first;
	size_t at = 0, found;

	for (; h != NULL; h = h->next) {
		found = find_field(d->before, at, h);
		if (found == d->before->field_count)
			continue;
		d->before->fields[found].alive = true;
		at = found + 1;
	}
}

/* From the last on: then no MTA counts differently after a deletion. */
static void
change_fields(struct diff *d)
{
	for (size_t i = d->before->field_count; i-- > 0;) {
		const struct field *f = &d->before->fields[i];
		const struct header *h = f->header;

		if (f->alive && h->raw == f->raw && h->len == f->len)
			continue;
		if (!may(d, MILTER_MAY_CHGHDRS))
			return;
		if (f->alive)
			put_field(d, MILTER_CHGHEADER,
			    instance_of(d->before, i), h->raw, h->len,
			    h->name_len, true);
		else
			put_field(d, MILTER_CHGHEADER,
			    instance_of(d->before, i), f->raw, f->len,
			    h->name_len, false);
	}
}

/*
 * The MTA counts its own Received field too, which we don't see: what stands
 * at the very top goes above it.
 */
static void
insert_fields(struct diff *d)
{
	const struct header *h = d->mail->headers.first;
	size_t at = 0, left = 0, position = 0;

	for (size_t i = 0; i < d->before->field_count; i++)
		left += d->before->fields[i].alive;
	for (; h != NULL; h = h->next, position++) {
		size_t found = find_field(d->before, at, h);

		if (found < d->before->field_count) {
			at = found + 1;
			left--;
			continue;
		}
		if (!may(d, MILTER_MAY_ADDHDRS))
			return;
		if (left == 0)
			put_field(d, MILTER_ADDHEADER, -1, h->raw, h->len,
			    h->name_len, true);
		else
			put_field(d, MILTER_INSHEADER, (int64_t)(at == 0 ?
			    position : position + 1), h->raw, h->len,
			    h->name_len, true);
	}
}

/* --- envelope and body --- */

static void
put_address(struct diff *d, char code, const char *address)
{
	size_t begin = milter_begin(d->out, code);

	buf_putc(d->out, '<');
	buf_puts(d->out, address);
	buf_append(d->out, ">", 2);
	milter_end(d->out, begin);
}

static bool
was_there(const struct milter_snapshot *before, const struct recipient *r)
{
	for (size_t i = 0; i < before->recipient_count; i++)
		if (before->recipients[i] == r)
			return true;
	return false;
}

static bool
is_there(const struct envelope *envelope, const struct recipient *wanted)
{
	const struct recipient *r = envelope->recipients;

	while (r != NULL && r != wanted)
		r = r->next;
	return r != NULL;
}

static void
change_envelope(struct diff *d)
{
	const struct envelope *e = &d->mail->envelope;

	if (strcmp(e->sender, d->before->sender) != 0 &&
	    may(d, MILTER_MAY_CHGFROM))
		put_address(d, MILTER_CHGFROM, e->sender);
	for (size_t i = 0; i < d->before->recipient_count; i++)
		if (!is_there(e, d->before->recipients[i]) &&
		    may(d, MILTER_MAY_DELRCPT))
			put_address(d, MILTER_DELRCPT,
			    d->before->recipients[i]->address);
	for (const struct recipient *r = e->recipients; r != NULL;
	    r = r->next)
		if (!was_there(d->before, r) && may(d, MILTER_MAY_ADDRCPT))
			put_address(d, MILTER_ADDRCPT, r->address);
	if (e->hold && !d->before->hold && may(d, MILTER_MAY_QUARANTINE)) {
		size_t begin = milter_begin(d->out, MILTER_QUARANTINE);

		milter_put_string(d->out, e->hold_reason != NULL ?
		    e->hold_reason : "held");
		milter_end(d->out, begin);
	}
}

static void
replace_body(struct diff *d)
{
	char *scratch;
	const char *bytes;
	size_t offset = 0;
	ssize_t n;

	if (d->mail->body == d->before->body || !may(d, MILTER_MAY_CHGBODY))
		return;
	if ((scratch = malloc(BODY_READ_MAX)) == NULL)
		fatal("out of memory (milter host)");
	if (body_size(d->mail->body) == 0)
		milter_put(d->out, MILTER_REPLBODY, NULL, 0);
	while ((n = body_read(d->mail->body, offset, scratch, &bytes)) > 0) {
		if (n > MILTER_PAYLOAD_MAX)
			n = MILTER_PAYLOAD_MAX;
		milter_put(d->out, MILTER_REPLBODY, bytes, (size_t)n);
		offset += (size_t)n;
	}
	if (n < 0)
		d->complete = false;
	free(scratch);
}

bool
milter_diff(struct buf *out, const struct milter_snapshot *before,
    struct mail *mail, uint32_t allowed, bool leading_space)
{
	struct milter_snapshot copy = *before;
	struct diff d = { out, mail, &copy, allowed, leading_space, true };

	mark_alive(&d);
	change_fields(&d);
	insert_fields(&d);
	change_envelope(&d);
	replace_body(&d);
	return d.complete;
}
