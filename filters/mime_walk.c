/* The walk through a MIME body, line by line. */
#include "filters/mime_walk.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/mail.h"

/* A delimiter line may have blanks at its end (RFC 2046, 5.1.1). */
#define DELIMITER_MAX 1000

enum place { IN_HEADER, IN_BODY, IN_GAP };	/* before, behind the parts */

/* A multipart whose parts we are among. */
struct level {
	char boundary[MIME_BOUNDARY_MAX + 1];
	size_t len;
	bool digest;
};

struct part {
	struct mime_entity entity;
	struct headers headers;
	size_t header_start, header_len;
	size_t body_start;
	bool top;			/* its header is not in the body */
	bool blank;			/* a blank line ends the header */
	struct mime_scan header, body;	/* what octets they have */
};

struct mime_walk {
	struct arena *arena, *scratch;	/* scratch: the part's header */
	unsigned want;
	const char *why;		/* it failed */
	struct mime_found found;
	size_t edits_room, parts;
	struct level levels[MIME_DEPTH_MAX];
	size_t depth;
	enum place place;
	struct part part;
	struct buf header;		/* of the part, so far */
	struct mime_utf8 utf8;
	/* The line. */
	size_t start, len;		/* where it began, its octets so far */
	size_t before;			/* octets of the line end before it */
	bool dash;			/* it begins with "-" */
	char last;			/* the octet before the next */
	struct mime_scan scan;
	char head[DELIMITER_MAX];	/* of one with a dash */
};

static void
fail(struct mime_walk *walk, const char *why)
{
	if (walk->why == NULL)
		walk->why = why;
}

static struct mime_edit *
add_edit(struct mime_walk *walk, size_t offset, size_t len)
{
	struct mime_found *found = &walk->found;
	struct mime_edit *old = found->edits;

	if (found->count == walk->edits_room) {
		walk->edits_room = walk->edits_room * 2 + 4;
		found->edits = arena_alloc(walk->arena,
		    walk->edits_room * sizeof(*found->edits));
		if (found->count > 0)
			memcpy(found->edits, old,
			    found->count * sizeof(*old));
	}
	found->edits[found->count] = (struct mime_edit){ .offset = offset,
	    .len = len };
	return &found->edits[found->count++];
}

/* --- a part --- */

bool
mime_is_unwanted(const struct mime_scan *scan, unsigned want)
{
	return (scan->long_line && (want & MIME_WANT_LINES) != 0) ||
	    (scan->eight_bit && (want & MIME_WANT_SEVEN_BIT) != 0);
}

/* The header as it is to be now, in place of the old one. */
static void
edit_header(struct mime_walk *walk, bool encoded)
{
	struct part *part = &walk->part;
	struct mime_edit *edit;
	struct buf text = BUF_INIT;

	for (const struct header *h = part->headers.first; h != NULL;
	    h = h->next)
		buf_append(&text, h->raw, h->len);
	/* What was no field may look like one when it's encoded. */
	if (encoded && !part->blank)
		buf_puts(&text, "\r\n");
	edit = add_edit(walk, part->header_start, part->header_len);
	edit->text = arena_memdup(walk->arena, text.data, text.len);
	edit->text_len = text.len;
	buf_release(&text);
}

/* Gives the part that encoding, and folds its header if that is wanted. */
static void
finish_header(struct mime_walk *walk, enum mime_encoding encoding,
    bool encoded)
{
	struct part *part = &walk->part;
	bool changed = encoding != part->entity.encoding;

	if (part->top) {
		walk->found.encoding = encoding;
		return;
	}
	if (changed)
		mime_set_encoding(&part->headers, walk->scratch, encoding);
	if ((walk->want & MIME_WANT_LINES) != 0 && part->header.long_line)
		changed |= mime_fold(&part->headers, walk->scratch);
	if (changed || (encoded && !part->blank))
		edit_header(walk, encoded);
}

static void
encode_part(struct mime_walk *walk, size_t end)
{
	struct part *part = &walk->part;
	enum mime_encoding encoding = part->entity.encoding;
	enum mime_code code;

	switch (encoding) {
	case MIME_7BIT:
	case MIME_8BIT:
		code = part->entity.kind == MIME_TEXT ?
		    MIME_TO_QUOTED_PRINTABLE : MIME_TO_BASE64;
		encoding = part->entity.kind == MIME_TEXT ?
		    MIME_QUOTED_PRINTABLE : MIME_BASE64;
		break;
	case MIME_QUOTED_PRINTABLE:
		code = MIME_REPAIR_QUOTED_PRINTABLE;
		break;
	case MIME_BASE64:
		code = MIME_REPAIR_BASE64;
		break;
	default:
		fail(walk, "a part's encoding is unknown");
		return;
	}
	finish_header(walk, encoding, true);
	walk->found.parts++;
	add_edit(walk, part->body_start, end - part->body_start)->code = code;
	/* Between parts the line end is the delimiter's. */
	if (part->top && encoding == MIME_BASE64)
		*add_edit(walk, end, 0) = (struct mime_edit){ .offset = end,
		    .text = "\r\n", .text_len = 2 };
}

static void
end_part(struct mime_walk *walk, size_t end)
{
	struct part *part = &walk->part;
	const struct mime_entity *entity = &part->entity;
	bool unwanted = mime_is_unwanted(&part->body, walk->want);

	if (entity->kind == MIME_SEALED && (unwanted ||
	    (part->header.long_line && (walk->want & MIME_WANT_LINES) != 0)))
		fail(walk, "it holds what is signed or encrypted");
	else if (entity->kind == MIME_MESSAGE && unwanted)
		fail(walk, "it holds another message");
	else if (entity->kind == MIME_AMBIGUOUS && unwanted)
		fail(walk, "its MIME structure is ambiguous");
	else if (entity->kind == MIME_SEALED)
		return;
	else if (unwanted)
		encode_part(walk, end);
	else if (entity->encoding == MIME_8BIT &&
	    (walk->want & MIME_WANT_SEVEN_BIT) != 0)
		finish_header(walk, MIME_7BIT, false);
	else
		finish_header(walk, entity->encoding, false);
}

/* Its parts follow. */
static void
enter_multipart(struct mime_walk *walk)
{
	const struct mime_entity *entity = &walk->part.entity;
	struct level *level = &walk->levels[walk->depth];
	enum mime_encoding encoding = entity->encoding;

	walk->place = IN_GAP;
	if (encoding == MIME_8BIT && (walk->want & MIME_WANT_SEVEN_BIT) != 0)
		encoding = MIME_7BIT;
	finish_header(walk, encoding, false);
	walk->depth++;
	level->len = strlen(entity->boundary);
	memcpy(level->boundary, entity->boundary, level->len + 1);
	level->digest = entity->digest;
}

/*
 * Whether a delimiter line of that boundary might be one of a multipart around
 * it: readers differ about whose it is.
 */
static bool
is_open(const struct mime_walk *walk, const char *boundary)
{
	size_t len = strlen(boundary);

	for (size_t i = 0; i < walk->depth; i++) {
		const struct level *level = &walk->levels[i];
		size_t shorter = len < level->len ? len : level->len;

		if (memcmp(boundary, level->boundary, shorter) == 0 &&
		    (len == level->len ||
		    strcmp(boundary + shorter, "--") == 0 ||
		    strcmp(level->boundary + shorter, "--") == 0))
			return true;
	}
	return false;
}

/* The entity is known: its parts follow, or its body. */
static void
begin_body(struct mime_walk *walk)
{
	struct mime_entity *entity = &walk->part.entity;

	walk->place = IN_BODY;
	if (entity->kind != MIME_MULTIPART)
		return;
	/* RFC 2045, 6.4: a multipart is not encoded. */
	if (walk->depth < MIME_DEPTH_MAX && !is_open(walk, entity->boundary) &&
	    (entity->encoding == MIME_7BIT || entity->encoding == MIME_8BIT))
		enter_multipart(walk);
	else
		entity->kind = MIME_AMBIGUOUS;
}

/* What was taken for header so far is all of it. */
static void
end_header(struct mime_walk *walk, size_t body_start, bool blank)
{
	struct part *part = &walk->part;
	size_t len = walk->header.len;
	const char *bytes = arena_memdup(walk->scratch, walk->header.data, len);
	bool digest = walk->levels[walk->depth - 1].digest;

	part->header_len = headers_parse(&part->headers, walk->scratch, bytes,
	    len);
	part->blank = blank && part->header_len == len;
	part->body_start = part->blank ? body_start :
	    part->header_start + part->header_len;
	mime_scan(&part->header, bytes, part->header_len);
	if (part->header.eight_bit && (walk->want & MIME_WANT_ASCII) != 0)
		fail(walk, "a part's header has 8-bit text");
	if ((walk->want & MIME_WANT_LINES) != 0 &&
	    !mime_can_fold(&part->headers, walk->scratch))
		fail(walk, "a part's header cannot be folded");
	mime_entity_read(&part->entity, &part->headers, walk->scratch, digest);
	/* Lines that were no header have gone by. */
	if (!part->blank && part->entity.kind == MIME_MULTIPART)
		part->entity.kind = MIME_AMBIGUOUS;
	mime_scan(&part->body, bytes + part->header_len,
	    len - part->header_len);
	begin_body(walk);
}

/* --- lines --- */

/* Which multipart's delimiter the line is, from 1; 0: none's. */
static size_t
find_delimiter(const struct mime_walk *walk, size_t len, bool *closes)
{
	const char *text = walk->head;

	if (!walk->dash || len < 3 || len > DELIMITER_MAX || text[1] != '-')
		return 0;
	while (text[len - 1] == ' ' || text[len - 1] == '\t')
		len--;
	for (size_t i = walk->depth; i > 0; i--) {
		const struct level *level = &walk->levels[i - 1];
		size_t end = 2 + level->len;

		if (len < end || memcmp(text + 2, level->boundary,
		    level->len) != 0)
			continue;
		*closes = len == end + 2 && memcmp(text + end, "--", 2) == 0;
		if (len == end || *closes)
			return i;
	}
	return 0;
}

/*
 * Ends the part that we are in.  Where there is nothing between the header and
 * the delimiter, the line end before that one is the header's.
 */
static void
leave_part(struct mime_walk *walk, size_t end)
{
	if (walk->place == IN_HEADER)
		end_header(walk, end, false);
	if (walk->place == IN_BODY)
		end_part(walk, end < walk->part.body_start ?
		    walk->part.body_start : end);
}

static void
pass_delimiter(struct mime_walk *walk, size_t level, bool closes)
{
	if (walk->place == IN_HEADER)
		walk->header.len -= walk->len;
	leave_part(walk, walk->start - walk->before);
	walk->depth = closes ? level - 1 : level;
	walk->place = closes ? IN_GAP : IN_HEADER;
	walk->part = (struct part){
	    .header_start = walk->start + walk->len };
	buf_reset(&walk->header);
	arena_reset(walk->scratch);
	if (!closes && ++walk->parts > MIME_PARTS_MAX)
		fail(walk, "it has too many parts");
}

/* The line is complete. */
static void
end_line(struct mime_walk *walk, size_t line_end)
{
	size_t text = walk->len - line_end, level;
	bool closes;

	if ((level = find_delimiter(walk, text, &closes)) > 0) {
		pass_delimiter(walk, level, closes);
	} else if (walk->place == IN_HEADER && text == 0) {
		walk->header.len -= walk->len;
		end_header(walk, walk->start + walk->len, true);
	} else if (walk->place == IN_GAP &&
	    mime_is_unwanted(&walk->scan, walk->want)) {
		fail(walk, "it has text outside of its parts");
	} else if (walk->place == IN_BODY) {
		walk->part.body.eight_bit |= walk->scan.eight_bit;
		walk->part.body.long_line |= walk->scan.long_line;
	}
	walk->found.eight_bit |= walk->scan.eight_bit;
	walk->start += walk->len;
	walk->len = 0;
	walk->before = line_end;
	walk->scan = (struct mime_scan){ 0 };
}

/* Octets of one line, with its LF if they have it. */
static void
add_to_line(struct mime_walk *walk, const char *bytes, size_t len)
{
	size_t room = DELIMITER_MAX - (walk->len < DELIMITER_MAX ? walk->len :
	    DELIMITER_MAX);

	if (walk->len == 0)
		walk->dash = walk->depth > 0 && *bytes == '-';
	if (walk->dash)
		memcpy(walk->head + (DELIMITER_MAX - room), bytes,
		    len < room ? len : room);
	if (walk->place == IN_HEADER) {
		if (walk->header.len + len > MIME_HEADER_MAX)
			fail(walk, "the header of a part is too long");
		else
			buf_append(&walk->header, bytes, len);
	}
	mime_scan(&walk->scan, bytes, len);
	walk->len += len;
}

void
mime_walk(struct mime_walk *walk, const char *bytes, size_t len)
{
	if (walk->part.top && !walk->part.entity.typed)
		mime_utf8(&walk->utf8, bytes, len);
	while (len > 0 && walk->why == NULL) {
		const char *lf = memchr(bytes, '\n', len);
		size_t n = lf != NULL ? (size_t)(lf - bytes) + 1 : len;

		add_to_line(walk, bytes, n);
		if (lf != NULL && walk->why == NULL)
			end_line(walk, n > 1 ? 1 + (lf[-1] == '\r') :
			    1 + (walk->last == '\r'));
		walk->last = bytes[n - 1];
		bytes += n;
		len -= n;
	}
}

int
mime_walk_end(struct mime_walk *walk, struct mime_found *found,
    const char **why)
{
	if (walk->why == NULL && walk->len > 0)
		end_line(walk, 0);
	/* Where a multipart is cut off, the last line end is the message's. */
	if (walk->why == NULL)
		leave_part(walk, walk->start -
		    (walk->part.top ? 0 : walk->before));
	buf_release(&walk->header);
	arena_free(&walk->scratch);
	walk->found.utf8 = mime_utf8_end(&walk->utf8);
	*found = walk->found;
	*why = walk->why;
	return walk->why == NULL ? 0 : -1;
}

struct mime_walk *
mime_walk_new(struct arena *arena, const struct mime_entity *entity,
    unsigned want)
{
	struct mime_walk *walk = arena_alloc(arena, sizeof(*walk));

	walk->arena = arena;
	walk->scratch = arena_new(0);
	walk->want = want;
	walk->found.encoding = entity->encoding;
	walk->part.top = true;
	walk->part.entity = *entity;
	walk->part.blank = true;
	begin_body(walk);
	return walk;
}
