/* Conversion of messages, and the filter "convert". */
#include "filters/convert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/trace.h"

/* --- reading --- */

ssize_t
slice_read(struct slice_reader *source, size_t max, struct arena *arena,
    const char **bytes)
{
	const struct slice *slice;
	ssize_t n;

	while (source->index < source->count &&
	    source->done == source->slices[source->index].len) {
		source->index++;
		source->done = 0;
	}
	if (source->index == source->count)
		return 0;
	slice = &source->slices[source->index];
	if (max > slice->len - source->done)
		max = slice->len - source->done;
	if (max > SLICE_READ_MAX)
		max = SLICE_READ_MAX;
	if (slice->data != NULL) {
		*bytes = slice->data + source->done;
		source->done += max;
		return (ssize_t)max;
	}
	if (source->scratch == NULL)
		source->scratch = arena_alloc(arena, SLICE_READ_MAX);
	do
		n = pread(slice->fd, source->scratch, max, slice->offset +
		    (off_t)source->done);
	while (n == -1 && errno == EINTR);
	if (n == 0) {		/* shorter than it was */
		errno = EIO;
		n = -1;
	}
	if (n > 0)
		source->done += (size_t)n;
	*bytes = source->scratch;
	return n;
}

int
slices_scan(const struct slice *slices, size_t count, struct arena *arena,
    struct mime_scan *scan)
{
	struct slice_reader source = { .slices = slices, .count = count };
	const char *bytes;
	ssize_t n;

	while ((n = slice_read(&source, SLICE_READ_MAX, arena, &bytes)) > 0) {
		mime_scan(scan, bytes, (size_t)n);
		if (n == SLICE_READ_MAX && task_self() != NULL)
			task_yield();
	}
	return (int)n;
}

/* --- planning --- */

/* Who has signed: what verifies now would not any more. */
static bool
is_signed(const struct headers *headers)
{
	static const char *const fields[] = { "DKIM-Signature", "ARC-Seal",
		"ARC-Message-Signature", "DomainKey-Signature" };

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (headers_find(headers, fields[i], 1) != NULL)
			return true;
	return false;
}

static int
walk_body(struct conversion *conversion, struct arena *arena, unsigned want,
    const char **why)
{
	struct slice_reader source = { .slices = conversion->body,
	    .count = conversion->count };
	struct mime_walk *walk = mime_walk_new(arena, &conversion->entity,
	    want);
	const char *bytes;
	ssize_t n;
	int rc;

	while ((n = slice_read(&source, SLICE_READ_MAX, arena, &bytes)) > 0) {
		mime_walk(walk, bytes, (size_t)n);
		if (task_self() != NULL)
			task_yield();
	}
	rc = mime_walk_end(walk, &conversion->found, why);
	return n == -1 ? -1 : rc == -1;
}

static bool
header_is_ascii(const struct headers *headers)
{
	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (mime_has_eight_bit(h->raw, h->len))
			return false;
	return true;
}

static bool
header_has_long_line(const struct headers *headers)
{
	struct mime_scan scan = { 0 };

	for (const struct header *h = headers->first; h != NULL &&
	    !scan.long_line; h = h->next)
		mime_scan(&scan, h->raw, h->len);
	return scan.long_line;
}

enum convert_result
convert_plan(struct conversion *conversion, const struct headers *headers,
    struct arena *arena, const struct slice *body, size_t count,
    unsigned want, const char **why)
{
	struct mime_scan scan = { 0 };
	int rc = 0;

	*conversion = (struct conversion){ .body = body, .count = count,
	    .fold = (want & MIME_WANT_LINES) != 0 &&
	    header_has_long_line(headers) };
	if (slices_scan(body, count, arena, &scan) == -1)
		return CONVERT_UNREADABLE;
	if ((want & MIME_WANT_ASCII) != 0 && !header_is_ascii(headers)) {
		*why = "its header has 8-bit text";
		return CONVERT_IMPOSSIBLE;
	}
	if (!conversion->fold && !mime_is_unwanted(&scan, want))
		return CONVERT_NOT_NEEDED;
	if (is_signed(headers)) {
		*why = "it is signed";
		return CONVERT_IMPOSSIBLE;
	}
	if (conversion->fold && !mime_can_fold(headers, arena)) {
		*why = "its header cannot be folded";
		return CONVERT_IMPOSSIBLE;
	}
	mime_entity_read(&conversion->entity, headers, arena, false);
	conversion->found.encoding = conversion->entity.encoding;
	if (conversion->entity.kind == MIME_SEALED) {
		*why = "it is signed or encrypted";
		return CONVERT_IMPOSSIBLE;
	}
	if (mime_is_unwanted(&scan, want))
		rc = walk_body(conversion, arena, want, why);
	if (rc != 0)
		return rc == -1 ? CONVERT_UNREADABLE : CONVERT_IMPOSSIBLE;
	/* What there is may stand in the header of a part. */
	return conversion->fold || conversion->found.count > 0 ?
	    CONVERT_PLANNED : CONVERT_NOT_NEEDED;
}

void
convert_header(const struct conversion *conversion, struct headers *headers,
    struct arena *arena)
{
	const struct mime_found *found = &conversion->found;

	if (conversion->fold)
		mime_fold(headers, arena);
	if (found->encoding == conversion->entity.encoding)
		return;
	if (headers_find(headers, "MIME-Version", 1) == NULL)
		headers_add(headers, arena, NULL, "MIME-Version", "1.0", true);
	if (!conversion->entity.typed)
		headers_add(headers, arena, NULL, "Content-Type",
		    !found->eight_bit ? "text/plain; charset=us-ascii" :
		    found->utf8 ? "text/plain; charset=utf-8" :
		    "text/plain; charset=unknown-8bit", true);
	mime_set_encoding(headers, arena, found->encoding);
}

/* --- writing --- */

struct writing {
	struct slice_reader source;
	struct arena *arena;
	convert_write_f *write;
	void *argument;
};

/* Copies octets, or encodes them.  1: the writer ended it; -1: errno. */
static int
pass(struct writing *w, size_t len, struct mime_coder *coder)
{
	const char *bytes;
	ssize_t n;

	for (; len > 0; len -= (size_t)n) {
		n = slice_read(&w->source, len, w->arena, &bytes);
		if (n <= 0)
			return -1;
		if (coder != NULL) {
			mime_code(coder, bytes, (size_t)n);
			bytes = coder->out->data;
		}
		if (w->write(w->argument, bytes, coder != NULL ?
		    coder->out->len : (size_t)n) != 0)
			return 1;
		if (coder != NULL)
			buf_reset(coder->out);
		if (n == SLICE_READ_MAX && task_self() != NULL)
			task_yield();
	}
	return 0;
}

/* Takes octets of the old body away. */
static int
skip(struct writing *w, size_t len)
{
	const char *bytes;
	ssize_t n;

	for (; len > 0; len -= (size_t)n)
		if ((n = slice_read(&w->source, len, w->arena, &bytes)) <= 0)
			return -1;
	return 0;
}

static int
encode(struct writing *w, const struct mime_edit *edit)
{
	struct buf out = BUF_INIT;
	struct mime_coder coder = { .code = edit->code, .out = &out };
	int rc = pass(w, edit->len, &coder);

	if (rc == 0) {
		mime_code_end(&coder);
		rc = w->write(w->argument, out.data, out.len) != 0;
	}
	buf_release(&out);
	return rc;
}

static int
make_edit(struct writing *w, const struct mime_edit *edit)
{
	if (edit->text == NULL)
		return encode(w, edit);
	if (skip(w, edit->len) == -1)
		return -1;
	return w->write(w->argument, edit->text, edit->text_len) != 0;
}

int
convert_write(const struct conversion *conversion, struct arena *arena,
    convert_write_f *write, void *argument)
{
	struct writing w = { .source = { .slices = conversion->body,
	    .count = conversion->count }, .arena = arena, .write = write,
	    .argument = argument };
	const struct mime_found *found = &conversion->found;
	size_t at = 0, end = 0;
	int rc = 0;

	for (size_t i = 0; i < conversion->count; i++)
		end += conversion->body[i].len;
	for (size_t i = 0; rc == 0 && i < found->count; i++) {
		const struct mime_edit *edit = &found->edits[i];

		rc = pass(&w, edit->offset - at, NULL);
		if (rc == 0)
			rc = make_edit(&w, edit);
		at = edit->offset + edit->len;
	}
	if (rc == 0)
		rc = pass(&w, end - at, NULL);
	return rc == -1 ? -1 : 0;
}

/* --- the filter --- */

static int
append(void *body, const char *bytes, size_t len)
{
	return body_append(body, bytes, len);
}

/* -1: it stays as it is (errno). */
static int
replace_body(struct mail *mail, const struct conversion *conversion)
{
	struct body *body = body_renew(mail->body);

	/* An append that failed is remembered. */
	if (convert_write(conversion, mail->arena, append, body) == -1 ||
	    body_append(body, "", 0) == -1) {
		int error = errno;

		body_free(&body);
		errno = error;
		return -1;
	}
	body_free(&mail->body);
	mail->body = body;
	return 0;
}

void
convert_mail(struct filter_run *run, unsigned want)
{
	struct mail *mail = run->mail;
	size_t count, before = body_size(mail->body);
	const struct slice *body = body_slices(mail->body, mail->arena,
	    &count);
	struct conversion conversion;
	const char *why = NULL;
	enum convert_result result = convert_plan(&conversion, &mail->headers,
	    mail->arena, body, count, want, &why);

	if (result == CONVERT_NOT_NEEDED)
		return;
	if (result == CONVERT_UNREADABLE || (result == CONVERT_PLANNED &&
	    conversion.found.count > 0 && replace_body(mail, &conversion) ==
	    -1))
		why = strerror(errno);
	if (why != NULL) {
		trace_add(mail->trace, run->name, "not converted: %s", why);
		log_info(&mail->log, "filter=%s not converted: %s", run->name,
		    why);
		return;
	}
	convert_header(&conversion, &mail->headers, mail->arena);
	trace_add(mail->trace, run->name, "converted: %zu parts, from %zu to "
	    "%zu octets", conversion.found.parts, before,
	    body_size(mail->body));
}

#define CONVERT_OPTIONS(ROW, o)						\
	ROW(o, what, choice, "all", CONVERT_CHOICES, NULL,		\
	    "8-bit text and lines of more than 998 octets, or such lines " \
	    "alone.")

struct convert_options { CONVERT_OPTIONS(OPTION_FIELD, convert_options) };

static const struct option_row convert_rows[] = {
	CONVERT_OPTIONS(OPTION_ROW, convert_options)
};

static const struct section_kind convert_kind = {
	.name = "convert",
	.doc = "Encodes 8-bit text and long lines, lest a later server does "
	    "it and breaks a signature. Goes before a milter that signs; "
	    "dkim_sign does it by itself.",
	.rows = convert_rows,
	.row_count = OPTION_COUNT(convert_rows),
	.size = sizeof(struct convert_options),
};

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const struct convert_options *options = conf_get(conf, "convert");
	unsigned *want = malloc(sizeof(*want));

	(void)section;
	(void)why;
	if (want == NULL)
		fatal("convert: out of memory");
	*want = CONVERT_WANT(options->what);
	return want;
}

static struct verdict
eom(struct filter_run *run)
{
	convert_mail(run, *(const unsigned *)run->instance);
	return VERDICT_CONTINUE;
}

const struct filter filter_convert = {
	.name = "convert",
	.options = &convert_kind,
	.setup = setup,
	.release = free,
	.eom = eom,
};
