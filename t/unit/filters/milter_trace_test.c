/* Recordings: what is written, what is left out, and what reads it. */
#include "filters/milter_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "filters/milter_codec.h"
#include "t/unit/unit.h"

static char place[] = "/tmp/milter-trace-XXXXXX";

static size_t
read_back(const char *name, char *bytes, size_t size)
{
	char path[100];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", place, name);
	if ((file = fopen(path, "re")) == NULL)
		return 0;
	len = fread(bytes, 1, size, file);
	fclose(file);
	return len;
}

static void
begin(void)
{
	strcpy(place, "/tmp/milter-trace-XXXXXX");
	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(place));
	milter_trace_set_directory(place, "g1");
}

static void
end(void)
{
	static const char *const names[] = { "m_.g1", "m_.g1.old" };
	char path[100];

	for (size_t i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", place, names[i]);
		unlink(path);
	}
	CU_ASSERT_EQUAL(rmdir(place), 0);
	milter_trace_set_directory("", "");
}

static const struct {
	const char *name;
	bool from_filter;
	char code;
	const char *payload;
	size_t len, kept;
} packets[] = {
	{ "sender", false, 'M', "<a@b>\0", 6, 6 },
	{ "unknown command", false, 'U', "FOO bar\0", 8, 0 },
	{ "a password astray", false, 'U', "c2VjcmV0\0", 9, 0 },
	{ "reply", true, 'y', "550 no\0", 7, 7 },
};
#define PACKETS (sizeof(packets) / sizeof(packets[0]))

static void
round_trip(void)
{
	struct milter_trace *trace;
	struct milter_tape *tape;
	struct milter_record *records;
	static char bytes[65536];
	const char *why = NULL;
	size_t len, count;

	begin();
	trace = milter_trace_new("m/", 1 << 20);
	tape = milter_tape_new(trace, "unix:/m");
	for (size_t i = 0; i < PACKETS; i++)
		milter_tape_packet(tape, packets[i].from_filter,
		    packets[i].code, packets[i].payload, packets[i].len);
	milter_tape_free(&tape);
	len = read_back("m_.g1", bytes, sizeof(bytes));
	milter_trace_free(&trace);
	/* Cut off anywhere in its last record, the rest is still good. */
	for (size_t less = 0; less < 27; less += 13) {
		CU_ASSERT_EQUAL_FATAL(milter_records_load(bytes, len - less,
		    &records, &count, &why), 0);
		CU_ASSERT_EQUAL(count, PACKETS + (less == 0 ? 2 : 1));
		if (less == 0)
			CU_ASSERT_EQUAL(records[PACKETS + 1].kind, 'E');
		CU_ASSERT_EQUAL(memcmp(records[0].bytes, "m_\0unix:/m", 11),
		    0);
		for (size_t i = 0; i < PACKETS; i++) {
			const struct milter_record *r = &records[i + 1];

			CASE_ASSERT(packets[i].name, r->bytes[0] ==
			    packets[i].code && r->full == packets[i].len + 1);
			CASE_ASSERT(packets[i].name,
			    r->len == packets[i].kept + 1);
		}
		free(records);
	}
	end();
}

/* The bodies of a message up to a limit, the latest conversations only. */
static void
limits(void)
{
	struct milter_trace *trace;
	static char bytes[1 << 20], body[65000];
	struct milter_record *records;
	const char *why;
	size_t len, count;

	begin();
	memset(body, 'x', sizeof(body));
	trace = milter_trace_new("m/", 400000);
	for (int i = 0; i < 20; i++) {
		struct milter_tape *tape = milter_tape_new(trace, "unix:/m");

		for (int b = 0; b < 4; b++)
			milter_tape_packet(tape, false, MILTER_BODY, body,
			    sizeof(body));
		milter_tape_free(&tape);
	}
	milter_trace_free(&trace);
	len = read_back("m_.g1.old", bytes, sizeof(bytes));
	CU_ASSERT(len >= 200000 && len < 400000);
	CU_ASSERT_EQUAL_FATAL(milter_records_load(bytes, len, &records, &count,
	    &why), 0);
	for (size_t i = 0, left = 65536; i < count; i++) {
		if (records[i].kind == 'B')
			left = 65536;
		if (records[i].kind != '>')
			continue;
		CU_ASSERT_EQUAL(records[i].full, sizeof(body) + 1);
		CU_ASSERT(records[i].len - 1 <= left);
		left -= records[i].len - 1;
	}
	free(records);
	end();
}

#define R(bytes) bytes, sizeof(bytes) - 1
#define HEAD(len) "MT\0\0\0" len
#define NUMBERS "\0\0\0\0\0\0\0\1" "\0\0\0\0\0\0\0\2"

static const struct {
	const char *name, *bytes;
	size_t len;
	bool good;
} damaged[] = {
	{ "end", R(HEAD("\x15") "E" NUMBERS "\0\0\0\0"), true },
	{ "packet", R(HEAD("\x16") ">" NUMBERS "\0\0\0\1" "A"), true },
	{ "packet without a code", R(HEAD("\x15") ">" NUMBERS "\0\0\0\0"),
	    false },
	{ "more kept than there was", R(HEAD("\x17") ">" NUMBERS "\0\0\0\1"
	    "AB"), false },
	{ "too short", R(HEAD("\x14") "E" NUMBERS "\0\0\0"), false },
	{ "too long", R("MT\x7f\0\0\0" "E" NUMBERS "\0\0\0\0"), false },
	{ "another kind", R(HEAD("\x15") "X" NUMBERS "\0\0\0\0"), false },
	{ "no kind", R(HEAD("\x15") "\0" NUMBERS "\0\0\0\0"), false },
	{ "another file", R("From root Tue Nov 24 03:00:00 2026"), false },
	{ "nothing", R(""), false },
	{ "cut off", R(HEAD("\x16") ">" NUMBERS "\0\0\0\1"), false },
};

static void
records(void)
{
	for (size_t i = 0; i < sizeof(damaged) / sizeof(damaged[0]); i++) {
		struct milter_record record;
		const char *why = NULL;

		CASE_ASSERT(damaged[i].name, (milter_record_parse(
		    damaged[i].bytes, damaged[i].len, &record, &why) == 0) ==
		    damaged[i].good);
		CASE_ASSERT(damaged[i].name, damaged[i].good || why != NULL);
		CASE_ASSERT(damaged[i].name, !damaged[i].good ||
		    record.size == damaged[i].len);
	}
}

SUITE(milter_trace,
    { "round trip", round_trip },
    { "limits", limits },
    { "records", records })
