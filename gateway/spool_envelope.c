/* Envelopes to bytes and back. */
#include "gateway/spool_envelope.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/spool_record.h"

#define FORMAT_VERSION 1

enum kind {
	KIND_STRING, KIND_LIST,		/* of strings, each ended by NUL */
	KIND_FLAG, KIND_UNSIGNED, KIND_TIME, KIND_ID,
	KIND_RECIPIENT			/* its address; begins a recipient */
};

/* The recipient's fields follow its address. */
static const struct row {
	unsigned char tag;
	enum kind kind;
	size_t offset;			/* in struct envelope */
} envelope_rows[] = {
	{ 1, KIND_ID,		offsetof(struct envelope, id) },
	{ 2, KIND_TIME,		offsetof(struct envelope, arrived_ms) },
	{ 3, KIND_STRING,	offsetof(struct envelope, sender) },
	{ 4, KIND_LIST,		offsetof(struct envelope, arguments) },
	{ 5, KIND_STRING,	offsetof(struct envelope, ret) },
	{ 6, KIND_STRING,	offsetof(struct envelope, envid) },
	{ 7, KIND_FLAG,		offsetof(struct envelope, eight_bit) },
	{ 8, KIND_FLAG,		offsetof(struct envelope, smtputf8) },
	{ 9, KIND_FLAG,		offsetof(struct envelope, hold) },
	{ 10, KIND_STRING,	offsetof(struct envelope, hold_reason) },
	{ 11, KIND_STRING,	offsetof(struct envelope, client) },
	{ 12, KIND_STRING,	offsetof(struct envelope, user) },
	{ 13, KIND_STRING,	offsetof(struct envelope, submitter) },
}, recipient_rows[] = {
	{ 64, KIND_RECIPIENT,	offsetof(struct recipient, address) },
	{ 65, KIND_STRING,	offsetof(struct recipient, orcpt) },
	{ 66, KIND_UNSIGNED,	offsetof(struct recipient, notify) },
	{ 67, KIND_LIST,	offsetof(struct recipient, arguments) },
	{ 68, KIND_FLAG,	offsetof(struct recipient, by_filter) },
};

#define COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

static void
put_field(struct buf *out, unsigned char tag, const void *bytes, size_t len)
{
	char head[5];

	head[0] = (char)tag;
	put_le32(head + 1, (uint32_t)len);
	buf_append(out, head, sizeof(head));
	if (len > 0)
		buf_append(out, bytes, len);
}

static void
put_list(struct buf *out, unsigned char tag, const char *const *list)
{
	size_t at = out->len;

	put_field(out, tag, NULL, 0);
	for (; *list != NULL; list++)
		buf_append(out, *list, strlen(*list) + 1);
	put_le32(out->data + at + 1, (uint32_t)(out->len - at - 5));
}

static void
put_row(struct buf *out, const struct row *row, const void *object)
{
	const char *field = (const char *)object + row->offset;
	const char *string = NULL;
	const char *const *list = NULL;
	unsigned number;
	int64_t time;
	char bytes[8];

	switch (row->kind) {
	case KIND_ID:
		put_field(out, row->tag, field,
		    strnlen(field, ENVELOPE_ID_SIZE - 1));
		return;
	case KIND_STRING:
	case KIND_RECIPIENT:
		memcpy(&string, field, sizeof(string));
		if (string != NULL)
			put_field(out, row->tag, string, strlen(string));
		return;
	case KIND_LIST:
		memcpy(&list, field, sizeof(list));
		if (list != NULL && list[0] != NULL)
			put_list(out, row->tag, list);
		return;
	case KIND_FLAG:
		if (*(const bool *)field)
			put_field(out, row->tag, NULL, 0);
		return;
	case KIND_UNSIGNED:
		memcpy(&number, field, sizeof(number));
		put_le32(bytes, number);
		if (number != 0)
			put_field(out, row->tag, bytes, 4);
		return;
	case KIND_TIME:
		memcpy(&time, field, sizeof(time));
		put_le64(bytes, (uint64_t)time);
		put_field(out, row->tag, bytes, 8);
		return;
	}
}

void
spool_envelope_encode(struct buf *out, const struct envelope *envelope)
{
	const struct recipient *r;

	buf_putc(out, FORMAT_VERSION);
	for (size_t i = 0; i < COUNT(envelope_rows); i++)
		put_row(out, &envelope_rows[i], envelope);
	for (r = envelope->recipients; r != NULL; r = r->next)
		for (size_t i = 0; i < COUNT(recipient_rows); i++)
			put_row(out, &recipient_rows[i], r);
}

/* What is read so far; envelope and recipient are where rows' offsets go. */
struct reader {
	struct arena *arena;		/* NULL: count only */
	struct envelope *envelope;
	struct recipient *recipient, spare, **last;
	size_t recipients;
};

static const char *const *
get_list(struct arena *arena, const char *value, size_t len)
{
	size_t count = 0, i = 0;
	const char **list, *p;

	for (p = value; p < value + len; p += strlen(p) + 1)
		count++;
	list = arena_alloc(arena, (count + 1) * sizeof(*list));
	p = arena_memdup(arena, value, len);
	for (; i < count; i++, p += strlen(p) + 1)
		list[i] = p;
	return list;
}

/* Is the value of the right form for its kind? */
static bool
value_fits(enum kind kind, const char *value, size_t len)
{
	switch (kind) {
	case KIND_ID:
		if (len == 0 || len >= ENVELOPE_ID_SIZE)
			return false;
		/* It becomes a file's name. */
		for (size_t i = 0; i < len; i++)
			if (!((value[i] >= '0' && value[i] <= '9') ||
			    (value[i] >= 'A' && value[i] <= 'Z') ||
			    (value[i] >= 'a' && value[i] <= 'z')))
				return false;
		return true;
	case KIND_STRING:
	case KIND_RECIPIENT:
		return memchr(value, '\0', len) == NULL;
	case KIND_LIST:
		return len > 0 && value[len - 1] == '\0';
	case KIND_FLAG:
		return len == 0;
	case KIND_UNSIGNED:
		return len == 4;
	case KIND_TIME:
		return len == 8;
	}
	return false;
}

static void
recipient_begin(struct reader *reader)
{
	reader->recipients++;
	if (reader->arena == NULL) {
		reader->recipient = &reader->spare;
		return;
	}
	reader->recipient = arena_alloc(reader->arena,
	    sizeof(*reader->recipient));
	*reader->last = reader->recipient;
	reader->last = &reader->recipient->next;
}

static void
value_store(struct reader *reader, const struct row *row, void *object,
    const char *value, size_t len)
{
	char *field = (char *)object + row->offset;
	const void *pointer;
	uint32_t number;
	int64_t time;

	switch (row->kind) {
	case KIND_ID:
		memcpy(field, value, len);
		field[len] = '\0';
		return;
	case KIND_FLAG:
		*(bool *)field = true;
		return;
	case KIND_UNSIGNED:
		number = get_le32(value);
		memcpy(field, &number, sizeof(number));
		return;
	case KIND_TIME:
		time = (int64_t)get_le64(value);
		memcpy(field, &time, sizeof(time));
		return;
	case KIND_STRING:
	case KIND_RECIPIENT:
	case KIND_LIST:
		if (reader->arena == NULL)
			return;
		pointer = row->kind == KIND_LIST ?
		    (const void *)get_list(reader->arena, value, len) :
		    arena_strndup(reader->arena, value, len);
		memcpy(field, &pointer, sizeof(pointer));
		return;
	}
}

static int
read_field(struct reader *reader, unsigned char tag, const char *value,
    size_t len)
{
	const struct row *row = NULL;
	bool of_recipient = false;

	for (size_t i = 0; i < COUNT(envelope_rows) && row == NULL; i++)
		if (envelope_rows[i].tag == tag)
			row = &envelope_rows[i];
	for (size_t i = 0; i < COUNT(recipient_rows) && row == NULL; i++)
		if (recipient_rows[i].tag == tag) {
			row = &recipient_rows[i];
			of_recipient = true;
		}
	if (row == NULL)
		return 0;
	if (!value_fits(row->kind, value, len))
		return -1;
	if (row->kind == KIND_RECIPIENT)
		recipient_begin(reader);
	if (of_recipient && reader->recipient == NULL)
		return -1;
	value_store(reader, row, of_recipient ? (void *)reader->recipient :
	    (void *)reader->envelope, value, len);
	return 0;
}

int
spool_envelope_decode(const void *bytes, size_t len, struct arena *arena,
    struct envelope *envelope, size_t *recipients, const char **why)
{
	const char *p = bytes, *end = p + len;
	struct reader reader = { .arena = arena, .envelope = envelope,
	    .last = &envelope->recipients };

	memset(envelope, 0, sizeof(*envelope));
	if (len < 1 || *p++ != FORMAT_VERSION) {
		*why = "an envelope of another version";
		return -1;
	}
	while (p < end) {
		size_t value_len;

		if (end - p < 5 || (value_len = get_le32(p + 1)) >
		    (size_t)(end - p - 5) ||
		    read_field(&reader, (unsigned char)*p, p + 5,
		    value_len) != 0) {
			*why = "a field of the envelope is malformed";
			return -1;
		}
		p += 5 + value_len;
	}
	*recipients = reader.recipients;
	if (envelope->id[0] == '\0' || reader.recipients == 0) {
		*why = "the envelope lacks an id or a recipient";
		return -1;
	}
	if (arena != NULL && envelope->sender == NULL)
		envelope->sender = "";
	return 0;
}
