#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "filters/mail.h"
#include "t/unit/unit.h"

#define SESSION_OF_NOBODY ((struct session){ .hostname = "mx.example" })

static char scratch[BODY_READ_MAX];

/* What stands at an offset of the bodies that these tests make. */
static char
byte_at(size_t offset)
{
	return (char)(offset * 31 + offset / 251);
}

static int
append(struct body *body, size_t len)
{
	size_t start = body_size(body);
	char *bytes = malloc(len + 1);
	int rc;

	for (size_t i = 0; i < len; i++)
		bytes[i] = byte_at(start + i);
	rc = body_append(body, bytes, len);
	free(bytes);
	return rc;
}

/* Reads from there to the end; returns where that is, 0 on a wrong byte. */
static size_t
read_on(const struct body *body, size_t offset)
{
	const char *bytes;
	ssize_t n;

	while ((n = body_read(body, offset, scratch, &bytes)) > 0) {
		if (n > BODY_READ_MAX)
			return 0;
		for (ssize_t i = 0; i < n; i++)
			if (bytes[i] != byte_at(offset + (size_t)i))
				return 0;
		offset += (size_t)n;
	}
	return n == 0 ? offset : 0;
}

static size_t
slices_read(const struct body *body)
{
	struct arena *arena = arena_new(0);
	size_t count, size = 0;
	struct slice *slices = body_slices(body, arena, &count);
	char *bytes = malloc(body_size(body) + 1);

	for (size_t i = 0; i < count; i++) {
		if (slices[i].data != NULL)
			memcpy(bytes + size, slices[i].data, slices[i].len);
		else
			CU_ASSERT_EQUAL(pread(slices[i].fd, bytes + size,
			    slices[i].len, slices[i].offset),
			    (ssize_t)slices[i].len);
		size += slices[i].len;
	}
	for (size_t i = 0; i < size; i++)
		if (bytes[i] != byte_at(i))
			size = 0;
	free(bytes);
	arena_free(&arena);
	return size;
}

static void
bodies_keep_their_bytes(void)
{
	static const struct {
		const char *name;
		size_t limit, piece, times;
	} cases[] = {
		{ "empty", 1000, 0, 1 },
		{ "small", 1 << 20, 5000, 1 },
		{ "one byte at a time", 1 << 20, 1, 20000 },
		{ "over all chunk sizes", 1 << 20, 1000, 400 },
		{ "one piece over all chunk sizes", 1 << 20, 400000, 1 },
		{ "just below the limit", 10000, 5000, 2 },
		{ "over the limit", 10000, 5000, 3 },
		{ "over the limit by one", 9999, 5000, 2 },
		{ "all in the file", 0, 777, 300 },
		{ "large pieces to the file", 100000, 150001, 5 },
		{ "file and tail", 65536, 65536, 3 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct body *body = body_new(cases[i].limit, "/tmp");
		size_t size = cases[i].piece * cases[i].times;

		for (size_t n = 0; n < cases[i].times; n++)
			CASE_ASSERT(cases[i].name,
			    append(body, cases[i].piece) == 0);
		CASE_ASSERT(cases[i].name, body_size(body) == size);
		CASE_ASSERT(cases[i].name, read_on(body, 0) == size);
		CASE_ASSERT(cases[i].name, slices_read(body) == size);
		for (size_t at = 0; at < size; at += size / 7 + 1)
			CASE_ASSERT(cases[i].name,
			    read_on(body, at) == size);
		CASE_ASSERT(cases[i].name, read_on(body, size) == size);
		body_free(&body);
		CU_ASSERT_PTR_NULL(body);
	}
}

static void
a_reader_follows(void)
{
	struct body *body = body_new(200000, "/tmp");
	const char *first;
	size_t at = 0;

	CU_ASSERT_EQUAL(append(body, 100), 0);
	CU_ASSERT_EQUAL(body_read(body, 0, scratch, &first), 100);
	for (size_t piece = 1; piece < 1200; piece += 3) {
		CU_ASSERT_EQUAL(append(body, piece), 0);
		if (piece % 2 == 0)
			continue;
		at = read_on(body, at);
		CU_ASSERT_EQUAL(at, body_size(body));
	}
	CU_ASSERT(at > 200000);
	/* What was read from memory stays where it was. */
	CU_ASSERT_EQUAL(first[99], byte_at(99));
	body_free(&body);
}

static void
a_missing_directory_is_an_error(void)
{
	struct body *body = body_new(100, "/nonexistent/directory");

	CU_ASSERT_EQUAL(append(body, 100), 0);
	errno = 0;
	CU_ASSERT_EQUAL(append(body, 1), -1);
	CU_ASSERT_EQUAL(errno, ENOENT);
	CU_ASSERT_EQUAL(append(body, 1), -1);
	CU_ASSERT_EQUAL(body_size(body), 100);
	body_free(&body);
}

static void
messages_are_whole(void)
{
	static const char text[] = "A: 1\r\nB: 2\r\nC: 3\r\n";
	struct session session = SESSION_OF_NOBODY;
	struct mail *mail = mail_new(&session, 1 << 20, "/tmp");
	struct slice *slices;
	size_t count, size;

	CU_ASSERT_STRING_EQUAL(mail->envelope.sender, "");
	CU_ASSERT_STRING_EQUAL(mail->log.id, mail->envelope.id);
	CU_ASSERT(mail->envelope.arrived_ms > INT64_C(1600000000000));
	headers_parse(&mail->headers, mail->arena, text, sizeof(text) - 1);
	body_append(mail->body, "body\r\n", 6);
	slices = mail_slices(mail, &count, &size);
	CU_ASSERT_EQUAL(count, 3);
	CU_ASSERT_EQUAL(size, sizeof(text) - 1 + 2 + 6);
	CU_ASSERT_EQUAL(slices[0].len, sizeof(text) - 1);
	CU_ASSERT_PTR_EQUAL(slices[0].data, text);

	headers_change(&mail->headers, mail->arena,
	    mail->headers.first->next, "22", true);
	slices = mail_slices(mail, &count, &size);
	CU_ASSERT_EQUAL(count, 5);
	CU_ASSERT_EQUAL(size, sizeof(text) + 2 + 6);
	CU_ASSERT_EQUAL(memcmp(slices[1].data, "B: 22\r\n", 7), 0);
	CU_ASSERT_EQUAL(memcmp(slices[4].data, "body\r\n", 6), 0);
	mail_free(&mail);
	CU_ASSERT_PTR_NULL(mail);
	mail_free(&mail);
}

/* In memory and in a file, whichever owner goes first. */
static void
bodies_have_two_owners(void)
{
	struct body *body = body_new(1000, "/tmp"), *other;

	CU_ASSERT_EQUAL(append(body, 5000), 0);
	other = body_share(body);
	body_free(&body);
	CU_ASSERT_EQUAL(read_on(other, 0), 5000);
	body = body_share(other);
	body_free(&body);
	CU_ASSERT_EQUAL(read_on(other, 0), 5000);
	body_free(&other);
}

SUITE(mail,
    { "bodies have two owners", bodies_have_two_owners },
    { "bodies keep their bytes", bodies_keep_their_bytes },
    { "a reader follows", a_reader_follows },
    { "a missing directory is an error", a_missing_directory_is_an_error },
    { "messages are whole", messages_are_whole })
