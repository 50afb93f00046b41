/*
 * The content of a message, decoded (RFC 5321, 4.5.2; RFC 3030).
 */
#include "gateway/smtp_data.h"

#include <string.h>

void
smtp_data_init(struct smtp_data *data, enum smtp_bare policy, bool dots)
{
	memset(data, 0, sizeof *data);
	data->policy = policy;
	data->dots = dots;
	data->position = SMTP_DATA_LINE_START;
}

/* Output that gathers neighbouring bytes of the input into one run. */
struct run {
	smtp_data_out_f *out;
	void *argument;
	const char *from, *to;
};

static void
run_flush(struct run *run)
{
	if (run->to > run->from)
		run->out(run->argument, run->from,
		    (size_t)(run->to - run->from));
	run->from = run->to = NULL;
}

static void
run_add(struct run *run, const char *bytes, size_t len)
{
	if (run->to != bytes) {
		run_flush(run);
		run->from = bytes;
	}
	run->to = bytes + len;
}

/* Bytes that are not of the input: behind what was gathered. */
static void
run_put(struct run *run, const char *bytes, size_t len)
{
	run_flush(run);
	run->out(run->argument, bytes, len);
}

static void
put_bare(struct smtp_data *data, struct run *run, const char *as_given,
    size_t len, const char *normal)
{
	data->bare = true;
	if (data->policy == SMTP_BARE_NORMALIZE)
		run_put(run, normal, strlen(normal));
	else
		run_put(run, as_given, len);
}

/*
 * The text of a line, without CR or LF.  NUL must not reach a next hop: some
 * skip it, so that CRLF NUL "." CRLF is an end to them.
 */
static void
put_text(struct smtp_data *data, struct run *run, const char *bytes, size_t len)
{
	const char *nul;

	while (len > 0 && (nul = memchr(bytes, '\0', len)) != NULL) {
		size_t before = (size_t)(nul - bytes);

		data->nul = true;
		if (data->policy == SMTP_BARE_REJECT)
			break;
		if (before > 0)
			run_add(run, bytes, before);
		run_put(run, " ", 1);
		bytes += before + 1;
		len -= before + 1;
	}
	if (len > 0)
		run_add(run, bytes, len);
}

/*
 * A line that lies wholly within the input, CRLF included; the common case.
 * The search for LF and the one for CR are the library's, which look at 32
 * bytes at a time.  Returns its length, 0: not such a line.
 */
static size_t
whole_line(struct smtp_data *data, struct run *run, const char *bytes,
    size_t len)
{
	const char *lf = memchr(bytes, '\n', len);
	size_t line;

	if (lf == NULL || lf == bytes || lf[-1] != '\r')
		return 0;
	line = (size_t)(lf - bytes) - 1;
	if (line > 0 && memchr(bytes, '\r', line) != NULL)
		return 0;
	put_text(data, run, bytes, line);
	run_add(run, bytes + line, 2);
	data->position = SMTP_DATA_LINE_START;
	return line + 2;
}

/* The byte after a CR.  Returns whether it was used. */
static bool
after_cr(struct smtp_data *data, struct run *run, const char *byte)
{
	if (*byte == '\n') {
		/* The CR may have come with an earlier chunk. */
		if (run->to == byte - 1 && run->to != NULL)
			run_add(run, byte - 1, 2);
		else
			run_put(run, "\r\n", 2);
		data->position = SMTP_DATA_LINE_START;
		return true;
	}
	put_bare(data, run, "\r", 1, " ");
	data->position = SMTP_DATA_LINE;
	return false;
}

/* The byte at the start of a line or after its first dot. */
static bool
after_line_start(struct smtp_data *data, const char *byte)
{
	if (data->position == SMTP_DATA_LINE_START) {
		data->position = SMTP_DATA_LINE;
		if (!data->dots || *byte != '.')
			return false;
		data->position = SMTP_DATA_DOT;
		return true;
	}
	/* After the dot, which is dropped unless a CRLF makes it the end. */
	data->position = SMTP_DATA_LINE;
	if (*byte != '\r')
		return false;
	data->position = SMTP_DATA_DOT_CR;
	return true;
}

/* Text up to a CR, LF or the end of the input.  Returns what it used. */
static size_t
in_line(struct smtp_data *data, struct run *run, const char *bytes, size_t len)
{
	size_t text = 0;

	while (text < len && bytes[text] != '\r' && bytes[text] != '\n')
		text++;
	put_text(data, run, bytes, text);
	if (text == len)
		return text;
	if (bytes[text] == '\r') {
		data->position = SMTP_DATA_CR;
		return text + 1;
	}
	/*
	 * A bare LF ends no line as far as dots go: neither is a dot behind it
	 * the end, nor is it dropped.
	 */
	put_bare(data, run, bytes + text, 1, "\r\n");
	return text + 1;
}

/* One step of the automaton.  Returns the bytes used, which may be none. */
static size_t
step(struct smtp_data *data, struct run *run, const char *bytes, size_t len)
{
	size_t used;

	switch (data->position) {
	case SMTP_DATA_LINE_START:
		if ((!data->dots || bytes[0] != '.') &&
		    (used = whole_line(data, run, bytes, len)) > 0)
			return used;
		return after_line_start(data, bytes) ? 1 : 0;
	case SMTP_DATA_DOT:
		return after_line_start(data, bytes) ? 1 : 0;
	case SMTP_DATA_DOT_CR:
		if (bytes[0] == '\n') {
			data->position = SMTP_DATA_DONE;
			return 1;
		}
		/* ".\r" and more: a line with a bare CR. */
		return after_cr(data, run, bytes) ? 1 : 0;
	case SMTP_DATA_CR:
		return after_cr(data, run, bytes) ? 1 : 0;
	case SMTP_DATA_LINE:
	case SMTP_DATA_DONE:
		break;
	}
	return in_line(data, run, bytes, len);
}

size_t
smtp_data_decode(struct smtp_data *data, const char *bytes, size_t len,
    smtp_data_out_f *out, void *argument)
{
	struct run run = { out, argument, NULL, NULL };
	size_t used = 0;

	while (used < len && data->position != SMTP_DATA_DONE)
		used += step(data, &run, bytes + used, len - used);
	run_flush(&run);
	return used;
}

void
smtp_data_finish(struct smtp_data *data, smtp_data_out_f *out, void *argument)
{
	struct run run = { out, argument, NULL, NULL };

	if (data->position == SMTP_DATA_CR)
		put_bare(data, &run, "\r", 1, " ");
	if (data->position != SMTP_DATA_LINE_START)
		run_put(&run, "\r\n", 2);
	data->position = SMTP_DATA_DONE;
}

/* Does a header field begin here (RFC 5322, 2.2; blanks before the colon)? */
static bool
is_field(const char *line, size_t len)
{
	size_t i = 0;

	while (i < len && line[i] > ' ' && line[i] < 0x7F && line[i] != ':')
		i++;
	if (i == 0)
		return false;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	return i < len && line[i] == ':';
}

bool
smtp_header_find_end(const char *bytes, size_t len, size_t *scanned,
    struct smtp_header_end *end)
{
	while (*scanned < len) {
		const char *line = bytes + *scanned;
		const char *lf = memchr(line, '\n', len - *scanned);
		size_t line_len;

		if (lf == NULL)
			return false;
		line_len = (size_t)(lf - line) + 1;
		end->header_len = end->body = *scanned;
		if (line_len == 2 && line[0] == '\r') {
			end->body += 2;
			return true;
		}
		if (!(*scanned > 0 && (line[0] == ' ' || line[0] == '\t')) &&
		    !is_field(line, line_len))
			return true;
		*scanned += line_len;
	}
	return false;
}
