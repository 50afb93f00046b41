#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "gateway/spool_envelope.h"
#include "t/unit/unit.h"

static const char *const mail_arguments[] = { "SIZE=5", "BODY=8BITMIME",
	NULL };
static const char *const rcpt_arguments[] = { "NOTIFY=NEVER", NULL };

static struct recipient second = { .address = "c@example.net" };
static struct recipient first = { .address = "b@example.org",
	.orcpt = "rfc822;b@example.org",
	.notify = NOTIFY_FAILURE | NOTIFY_DELAY, .arguments = rcpt_arguments,
	.by_filter = true, .next = &second };
static const struct envelope full = { .id = "4bXk2w", .arrived_ms = 1234567,
	.sender = "a@example.com", .arguments = mail_arguments, .ret = "HDRS",
	.envid = "x+2By", .eight_bit = true, .smtputf8 = true, .hold = true,
	.hold_reason = "rule", .client = "mx.example.com[192.0.2.1]",
	.user = "alice", .submitter = "a@example.com", .recipients = &first };

static void
check_full(const struct envelope *got)
{
	const struct recipient *r = got->recipients;

	CU_ASSERT(strcmp(got->id, "4bXk2w") == 0);
	CU_ASSERT(got->arrived_ms == 1234567);
	CU_ASSERT_STRING_EQUAL(got->sender, "a@example.com");
	CU_ASSERT_STRING_EQUAL(got->arguments[0], "SIZE=5");
	CU_ASSERT_STRING_EQUAL(got->arguments[1], "BODY=8BITMIME");
	CU_ASSERT_PTR_NULL(got->arguments[2]);
	CU_ASSERT_STRING_EQUAL(got->ret, "HDRS");
	CU_ASSERT_STRING_EQUAL(got->envid, "x+2By");
	CU_ASSERT(got->eight_bit && got->smtputf8 && got->hold);
	CU_ASSERT_STRING_EQUAL(got->hold_reason, "rule");
	CU_ASSERT_STRING_EQUAL(got->client, "mx.example.com[192.0.2.1]");
	CU_ASSERT_STRING_EQUAL(got->user, "alice");
	CU_ASSERT_STRING_EQUAL(got->submitter, "a@example.com");
	CU_ASSERT_STRING_EQUAL(r->address, "b@example.org");
	CU_ASSERT_STRING_EQUAL(r->orcpt, "rfc822;b@example.org");
	CU_ASSERT(r->notify == (NOTIFY_FAILURE | NOTIFY_DELAY));
	CU_ASSERT_STRING_EQUAL(r->arguments[0], "NOTIFY=NEVER");
	CU_ASSERT(r->by_filter);
	CU_ASSERT_STRING_EQUAL(r->next->address, "c@example.net");
	CU_ASSERT(!r->next->by_filter && r->next->orcpt == NULL);
	CU_ASSERT_PTR_NULL(r->next->next);
}

static void
round_trip(void)
{
	struct arena *arena = arena_new(0);
	struct buf bytes = BUF_INIT;
	struct envelope got;
	const char *why;
	size_t count;

	spool_envelope_encode(&bytes, &full);
	CU_ASSERT_FATAL(spool_envelope_decode(bytes.data, bytes.len, arena,
	    &got, &count, &why) == 0);
	CU_ASSERT(count == 2);
	check_full(&got);
	CU_ASSERT_FATAL(spool_envelope_decode(bytes.data, bytes.len, NULL,
	    &got, &count, &why) == 0);
	CU_ASSERT(count == 2 && got.hold && got.arrived_ms == 1234567);
	buf_release(&bytes);
	arena_free(&arena);
}

static void
null_sender(void)
{
	struct envelope bare = { .id = "x", .sender = "",
		.recipients = &second };
	struct arena *arena = arena_new(0);
	struct buf bytes = BUF_INIT;
	struct envelope got;
	const char *why;
	size_t count;

	spool_envelope_encode(&bytes, &bare);
	CU_ASSERT_FATAL(spool_envelope_decode(bytes.data, bytes.len, arena,
	    &got, &count, &why) == 0);
	CU_ASSERT_STRING_EQUAL(got.sender, "");
	CU_ASSERT(got.user == NULL && got.arguments == NULL);
	buf_release(&bytes);
	arena_free(&arena);
}

/* A later version's fields are skipped. */
static void
unknown_field(void)
{
	struct arena *arena = arena_new(0);
	struct buf bytes = BUF_INIT;
	struct envelope got;
	const char *why;
	size_t count;

	spool_envelope_encode(&bytes, &full);
	buf_append(&bytes, "\xf0\3\0\0\0new", 8);
	CU_ASSERT_FATAL(spool_envelope_decode(bytes.data, bytes.len, arena,
	    &got, &count, &why) == 0);
	check_full(&got);
	buf_release(&bytes);
	arena_free(&arena);
}

static void
malformed(void)
{
#define ID "\1\2\0\0\0xy"
#define TO "\100\1\0\0\0r"
#define CASE(name, bytes) { name, bytes, sizeof(bytes) - 1 }
	static const struct {
		const char *name, *bytes;
		size_t len;
	} cases[] = {
		CASE("empty", ""),
		CASE("another version", "\2" ID TO),
		CASE("no id", "\1" TO),
		CASE("no recipient", "\1" ID),
		CASE("an id that is a path", "\1\1\2\0\0\0./" TO),
		CASE("an id too long", "\1\1\30\0\0\0aaaaaaaaaaaaaaaaaaaaaaaa"
		    TO),
		CASE("a recipient's field first", "\1" ID "\104\0\0\0\0" TO),
		CASE("a length behind the end", "\1" ID TO "\3\5\0\0\0ab"),
		CASE("half a field", "\1" ID TO "\3\5"),
		CASE("NUL in an address", "\1" ID "\100\3\0\0\0a\0b"),
		CASE("a list without its end", "\1" ID TO "\4\1\0\0\0a"),
		CASE("a time of four bytes", "\1" ID TO "\2\4\0\0\0aaaa"),
	};
	struct arena *arena = arena_new(0);
	struct envelope got;
	const char *why;
	size_t count;

	CU_ASSERT(spool_envelope_decode("\1" ID TO, 14, arena, &got, &count,
	    &why) == 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* Of its own size, so that reading on is noticed. */
		char *copy = malloc(cases[i].len + 1);

		memcpy(copy, cases[i].bytes, cases[i].len);
		copy = realloc(copy, cases[i].len > 0 ? cases[i].len : 1);
		CASE_ASSERT(cases[i].name, spool_envelope_decode(copy,
		    cases[i].len, arena, &got, &count, &why) == -1);
		free(copy);
	}
	arena_free(&arena);
}

SUITE(spool_envelope, { "round trip", round_trip },
    { "null sender", null_sender }, { "unknown field", unknown_field },
    { "malformed", malformed })
