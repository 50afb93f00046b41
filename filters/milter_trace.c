/* Recordings of conversations with milters. */
#include "filters/milter_trace.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "filters/milter_codec.h"

#define KEPT_MAX	(1 + MILTER_PAYLOAD_MAX)	/* of a packet */
#define BODY_MAX	65536		/* of the bodies of a message */
#define GATHER_MAX	65536		/* before it is written */
#define HEAD_SIZE	27
#define RECORD_MAX	(HEAD_SIZE + KEPT_MAX)

static char directory[1024], suffix[64];

struct milter_trace {
	char *name;
	size_t limit;
	struct buf out;
	uint32_t conversations;
	bool complained;
};

struct milter_tape {
	struct milter_trace *trace;
	uint64_t number;
	size_t body_left;
};

void
milter_trace_set_directory(const char *to, const char *name_suffix)
{
	snprintf(directory, sizeof(directory), "%s", to);
	snprintf(suffix, sizeof(suffix), "%s", name_suffix);
}

struct milter_trace *
milter_trace_new(const char *name, size_t limit)
{
	struct milter_trace *trace = calloc(1, sizeof(*trace));

	if (trace == NULL || (trace->name = strdup(name)) == NULL)
		fatal("out of memory (milter trace)");
	trace->limit = limit;
	/* The name of a file, whatever the section is called. */
	for (char *at = trace->name; *at != '\0'; at++)
		if (!isalnum((unsigned char)*at) && strchr("-_", *at) == NULL)
			*at = '_';
	return trace;
}

/* --- the file --- */

static void
complain(struct milter_trace *trace, const char *path)
{
	if (!trace->complained)
		log_warn(NULL, "cannot record to %s: %s", path,
		    strerror(errno));
	trace->complained = true;
}

static void
write_out(struct milter_trace *trace)
{
	char path[1200], old[1210];
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), "%s/%s.%s", directory, trace->name,
	    suffix);
	fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC |
	    O_NOFOLLOW, 0600);
	if (fd == -1) {
		complain(trace, path);
		return;
	}
	if (write(fd, trace->out.data, trace->out.len) !=
	    (ssize_t)trace->out.len || fstat(fd, &st) == -1) {
		complain(trace, path);
	} else if ((size_t)st.st_size >= trace->limit / 2) {
		snprintf(old, sizeof(old), "%s.old", path);
		if (rename(path, old) == -1)
			complain(trace, path);
	}
	close(fd);
}

static void
flush(struct milter_trace *trace)
{
	if (trace->out.len > 0 && directory[0] != '\0')
		write_out(trace);
	buf_reset(&trace->out);
}

void
milter_trace_free(struct milter_trace **tracep)
{
	struct milter_trace *trace = *tracep;

	*tracep = NULL;
	if (trace == NULL)
		return;
	flush(trace);
	buf_release(&trace->out);
	free(trace->name);
	free(trace);
}

/* --- records --- */

static void
put_number(struct buf *out, uint64_t value, int bytes)
{
	while (bytes-- > 0)
		buf_putc(out, (int)(value >> 8 * bytes & 0xff));
}

/* code 0: the bytes are all. */
static void
put_record(struct milter_tape *tape, char kind, char code, const char *bytes,
    size_t len, size_t full)
{
	struct buf *out = &tape->trace->out;

	buf_append(out, "MT", 2);
	put_number(out, HEAD_SIZE - 6 + (code != 0) + len, 4);
	buf_putc(out, kind);
	put_number(out, tape->number, 8);
	put_number(out, (uint64_t)clock_wall_us(), 8);
	put_number(out, full, 4);
	if (code != 0)
		buf_putc(out, code);
	buf_append(out, bytes, len);
	if (out->len >= GATHER_MAX)
		flush(tape->trace);
}

struct milter_tape *
milter_tape_new(struct milter_trace *trace, const char *endpoint)
{
	struct milter_tape *tape;
	struct buf text = BUF_INIT;

	if (trace == NULL || directory[0] == '\0')
		return NULL;
	if ((tape = calloc(1, sizeof(*tape))) == NULL)
		fatal("out of memory (milter trace)");
	tape->trace = trace;
	/* Other processes append to this file, too. */
	tape->number = (uint64_t)getpid() << 32 | ++trace->conversations;
	tape->body_left = BODY_MAX;
	buf_append(&text, trace->name, strlen(trace->name) + 1);
	buf_append(&text, endpoint, strlen(endpoint) + 1);
	put_record(tape, 'B', 0, text.data, text.len, text.len);
	buf_release(&text);
	return tape;
}

void
milter_tape_free(struct milter_tape **tapep)
{
	struct milter_tape *tape = *tapep;

	*tapep = NULL;
	if (tape == NULL)
		return;
	put_record(tape, 'E', 0, "", 0, 0);
	flush(tape->trace);
	free(tape);
}

void
milter_tape_flush(struct milter_tape *tape)
{
	if (tape != NULL)
		flush(tape->trace);
}

void
milter_tape_packet(struct milter_tape *tape, bool from_filter, char code,
    const char *payload, size_t len)
{
	size_t kept = len;

	if (tape == NULL)
		return;
	if (!from_filter && code == MILTER_MAIL)
		tape->body_left = BODY_MAX;
	if (!from_filter && code == MILTER_UNKNOWN)
		kept = 0;
	if (from_filter ? code == MILTER_REPLBODY :
	    code == MILTER_BODY || code == MILTER_EOB) {
		if (kept > tape->body_left)
			kept = tape->body_left;
		tape->body_left -= kept;
	}
	if (kept > MILTER_PAYLOAD_MAX)
		kept = MILTER_PAYLOAD_MAX;
	put_record(tape, from_filter ? '<' : '>', code, payload, kept,
	    len + 1);
}

void
milter_tape_body(struct milter_tape *tape, const struct iovec *parts,
    int count)
{
	struct buf piece = BUF_INIT;

	if (tape == NULL)
		return;
	for (int i = 0; i < count; i++)
		buf_append(&piece, parts[i].iov_base, parts[i].iov_len);
	milter_tape_packet(tape, false, MILTER_BODY, piece.data, piece.len);
	buf_release(&piece);
}

void
milter_tape_bytes(struct milter_tape *tape, const char *bytes, size_t len)
{
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];

	/* A head whose payload is sent from elsewhere is none of these. */
	for (; tape != NULL && len > 0 && milter_packet_parse(bytes, len,
	    MILTER_PAYLOAD_MAX, &packet, why) == 1; bytes += packet.size,
	    len -= packet.size)
		milter_tape_packet(tape, false, packet.code, packet.payload,
		    packet.len);
}

/* --- reading --- */

static uint64_t
get_number(const char *at, int bytes)
{
	uint64_t value = 0;

	while (bytes-- > 0)
		value = value << 8 | (unsigned char)*at++;
	return value;
}

int
milter_record_parse(const char *bytes, size_t len,
    struct milter_record *record, const char **why)
{
	uint64_t rest;

	*record = (struct milter_record){ .kind = 0 };
	if (len < HEAD_SIZE) {
		*why = "a record is cut off";
		return -1;
	}
	rest = get_number(bytes + 2, 4);
	if (memcmp(bytes, "MT", 2) != 0 || rest < HEAD_SIZE - 6 ||
	    rest + 6 > RECORD_MAX || strchr("BE<>", bytes[6]) == NULL ||
	    bytes[6] == '\0') {
		*why = "no recording of a milter, or damaged";
		return -1;
	}
	if (rest + 6 > len) {
		*why = "a record is cut off";
		return -1;
	}
	record->kind = bytes[6];
	record->conversation = get_number(bytes + 7, 8);
	record->time_us = get_number(bytes + 15, 8);
	record->full = (size_t)get_number(bytes + 23, 4);
	record->bytes = bytes + HEAD_SIZE;
	record->size = (size_t)rest + 6;
	record->len = record->size - HEAD_SIZE;
	if (record->full < record->len || (record->len == 0 &&
	    strchr("<>", record->kind) != NULL)) {
		*why = "a record is damaged";
		return -1;
	}
	return 0;
}

static int
compare(const void *a, const void *b)
{
	const struct milter_record *x = a, *y = b;

	if (x->conversation != y->conversation)
		return x->conversation < y->conversation ? -1 : 1;
	return x->number < y->number ? -1 : x->number > y->number;
}

int
milter_records_load(const char *bytes, size_t len,
    struct milter_record **records, size_t *count, const char **why)
{
	size_t size = 0, at = 0;

	*records = NULL;
	for (*count = 0; at < len; at += (*records)[(*count)++].size) {
		if (*count == size) {
			size = size * 2 + 256;
			*records = realloc(*records,
			    size * sizeof(**records));
			if (*records == NULL)
				fatal("out of memory (milter trace)");
		}
		if (milter_record_parse(bytes + at, len - at,
		    &(*records)[*count], why) == 0) {
			(*records)[*count].number = *count;
			continue;
		}
		if (*count > 0 && len - at < RECORD_MAX &&
		    memcmp(bytes + at, "MT", len - at < 2 ? len - at : 2) == 0)
			break;
		free(*records);
		*records = NULL;
		return -1;
	}
	if (*count > 1)
		qsort(*records, *count, sizeof(**records), compare);
	return 0;
}
