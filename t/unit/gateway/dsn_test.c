/* Notifications: whom they go to, what they look like, what they hold. */
#include "gateway/dsn.h"

#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "t/unit/unit.h"

static const char original[] = "From: a\r\nSubject: hello\r\n folded\r\n\r\n"
    "the body\r\n";

struct sample {
	const char *name;
	enum dsn_kind kind;
	const char *sender, *recipient, *orcpt, *envid, *ret, *content;
	int code;
	const char *enhanced, *text, *command;
	bool final;
	const char *has[8], *hasnt[4];
};

static const struct sample samples[] = {
	{ "failure", DSN_FAILURE, "s@x.test", "r@y.test", NULL, NULL, NULL,
	    original, 550, "5.1.1", "550 5.1.1 nobody", "RCPT TO", false,
	    { "To: <s@x.test>\r\n", "Auto-Submitted: auto-replied\r\n",
	    "multipart/report; report-type=delivery-status;\r\n",
	    "Final-Recipient: rfc822; r@y.test\r\nAction: failed\r\n"
	    "Status: 5.1.1\r\nRemote-MTA: dns; mx.test\r\n"
	    "Diagnostic-Code: smtp; 550 5.1.1 nobody\r\n",
	    "Arrival-Date: Thu, 01 Jan 1970 00:00:01 +0000\r\n",
	    "X-Millgate-Queue-ID: ORIGINAL\r\n",
	    "Content-Type: text/rfc822-headers\r\n",
	    "From: a\r\nSubject: hello\r\n folded\r\n\r\n--=_" },
	    { "the body", "Original-", "8bit" } },
	{ "without a reply", DSN_FAILURE, "s@x.test", "r@y.test", NULL, NULL,
	    NULL, original, 0, "4.4.1", "connect to mx: refused", "", false,
	    { "Diagnostic-Code: x-millgate; connect to mx: refused\r\n",
	    "Status: 4.4.1\r\n" }, { "Remote-MTA" } },
	{ "given by the sender", DSN_FAILURE, "s@x.test", "r@y.test",
	    "rfc822;r+2Bx@z", "a+20b", "FULL", original, 550, "5.0.0",
	    "550 no", "DATA", false,
	    { "Original-Envelope-Id: a b\r\n",
	    "Original-Recipient: rfc822;r+x@z\r\n",
	    "Content-Type: message/rfc822\r\n", "\r\nthe body\r\n" },
	    { "rfc822-headers" } },
	{ "hostile bytes", DSN_FAILURE, "s@x.test", "r@y.test",
	    "rfc822;a+0D+0AX:b", NULL, "FULL", "A: b\rc\r\nD: e\n\nx\r.\r\n",
	    550, "5.6.0", "550 no", "DATA", false,
	    { "Original-Recipient: rfc822;a??X:b\r\n", "A: bc\r\nD: e\r\n" },
	    { "\r.", "message/rfc822\r\n" } },
	{ "delay", DSN_DELAY, "s@x.test", "r@y.test", NULL, NULL, "FULL",
	    original, 450, "4.2.1", "450 later", "RCPT TO", false,
	    { "Action: delayed\r\n", "Subject: Delayed Mail",
	    "Will-Retry-Until: " }, { "the body" } },
	{ "relayed", DSN_SUCCESS, "s@x.test", "r@y.test", NULL, NULL, NULL,
	    original, 250, "2.0.0", "250 ok", "end of DATA", false,
	    { "Action: relayed\r\n" }, { "Action: delivered" } },
	{ "delivered", DSN_SUCCESS, "s@x.test", "r@y.test", NULL, NULL, NULL,
	    original, 250, "2.0.0", "250 ok", "end of DATA", true,
	    { "Action: delivered\r\n" }, { "Action: relayed" } },
	{ "internationalized", DSN_FAILURE, "\xc3\xa4@x.test", "r@y.test",
	    NULL, NULL, NULL, "Subject: \xc3\xa4\r\n\r\n", 550, "5.1.1",
	    "550 no", "RCPT TO", false,
	    { "report-type=global-delivery-status", "message/global-headers",
	    "Final-Recipient: utf-8; r@y.test\r\n", "8bit" },
	    { "rfc822;" } },
	{ "8-bit header", DSN_FAILURE, "s@x.test", "r@y.test", NULL, NULL,
	    NULL, "Subject: \xc3\xa4\r\n\r\nx\r\n", 550, "5.1.1", "550 no",
	    "RCPT TO", false,
	    { "Content-Transfer-Encoding: 8bit\r\n\r\nSubject: \xc3\xa4" },
	    { "global" } },
};

static struct dsn_message *
make(const struct sample *sample, struct arena *arena, struct buf *out)
{
	struct slice content = { sample->content, -1, 0,
	    strlen(sample->content) };
	struct envelope envelope = { .id = "ORIGINAL", .arrived_ms = 1000,
	    .sender = sample->sender, .ret = sample->ret,
	    .envid = sample->envid };
	struct delivery delivery = { .code = sample->code,
	    .enhanced = sample->enhanced, .text = sample->text,
	    .command = sample->command };
	const struct delivery *deliveries[] = { &delivery };
	struct dsn dsn = { .kind = sample->kind, .hostname = "me.test",
	    .remote = "mx.test[192.0.2.1]:25", .envelope = &envelope,
	    .content = &content, .content_count = 1, .size = content.len,
	    .deliveries = deliveries, .count = 1, .now_ms = 5000,
	    .give_up_ms = 90000, .final = sample->final };
	struct recipient *recipient = envelope_add_recipient(&envelope, arena,
	    sample->recipient);
	struct dsn_message *message;

	recipient->orcpt = sample->orcpt;
	delivery.recipient = recipient;
	message = dsn_make(&dsn, arena);
	for (size_t i = 0; i < message->content_count; i++)
		buf_append(out, message->content[i].data,
		    message->content[i].len);
	return message;
}

/* No line is too long, none ends but by CRLF. */
static void
check_lines(const char *name, const struct buf *text)
{
	size_t column = 0;

	for (size_t i = 0; i < text->len; i++) {
		if (text->data[i] == '\n') {
			CASE_ASSERT(name, text->data[i - 1] == '\r');
			column = 0;
		} else {
			CASE_ASSERT(name, text->data[i] != '\r' ||
			    text->data[i + 1] == '\n');
			CASE_ASSERT(name, ++column <= 998);
		}
	}
	CASE_ASSERT(name, text->len > 2 && column == 0);
}

static void
shapes(void)
{
	for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
		const struct sample *sample = &samples[i];
		struct arena *arena = arena_new(0);
		struct buf out = BUF_INIT;
		struct dsn_message *message = make(sample, arena, &out);
		const struct envelope *envelope = &message->envelope;

		CASE_ASSERT(sample->name, envelope->sender[0] == '\0');
		CASE_ASSERT(sample->name, envelope_count(envelope) == 1);
		CASE_ASSERT(sample->name, strcmp(envelope->recipients->address,
		    sample->sender) == 0);
		CASE_ASSERT(sample->name, message->size == out.len);
		check_lines(sample->name, &out);
		for (size_t j = 0; j < 8 && sample->has[j] != NULL; j++)
			CASE_ASSERT(sample->has[j],
			    strstr(out.data, sample->has[j]) != NULL);
		for (size_t j = 0; j < 4 && sample->hasnt[j] != NULL; j++)
			CASE_ASSERT(sample->hasnt[j],
			    strstr(out.data, sample->hasnt[j]) == NULL);
		buf_release(&out);
		arena_free(&arena);
	}
}

/* Three parts between four boundaries, the last one closing. */
static void
boundaries(void)
{
	struct arena *arena = arena_new(0);
	struct buf out = BUF_INIT;
	struct dsn_message *message = make(&samples[0], arena, &out);
	const char *mark = arena_printf(arena, "\r\n--=_%s",
	    message->envelope.id);
	const char *end = arena_printf(arena, "%s--\r\n", mark);
	size_t count = 0;

	for (const char *p = out.data; (p = strstr(p, mark)) != NULL; p++)
		count++;
	CU_ASSERT(count == 4);
	CU_ASSERT_STRING_EQUAL(out.data + out.len - strlen(end), end);
	buf_release(&out);
	arena_free(&arena);
}

static void
long_reply(void)
{
	static char text[1000];
	struct sample sample = samples[0];
	struct arena *arena = arena_new(0);
	struct buf out = BUF_INIT;

	memset(text, 'x', sizeof(text) - 1);
	sample.text = text;
	make(&sample, arena, &out);
	check_lines("long reply", &out);
	buf_release(&out);
	arena_free(&arena);
}

static const struct {
	const char *name, *sender;
	unsigned notify;
	bool failure, delay, success;
} wishes[] = {
	{ "nothing said", "s@x", 0, true, true, false },
	{ "null sender", "", 0, false, false, false },
	{ "null sender that asks", "", NOTIFY_FAILURE | NOTIFY_SUCCESS, false,
	    false, false },
	{ "never", "s@x", NOTIFY_NEVER, false, false, false },
	{ "failure", "s@x", NOTIFY_FAILURE, true, false, false },
	{ "success", "s@x", NOTIFY_SUCCESS, false, false, true },
	{ "all", "s@x", NOTIFY_SUCCESS | NOTIFY_FAILURE | NOTIFY_DELAY, true,
	    true, true },
};

static void
wanted(void)
{
	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++) {
		struct envelope envelope = { .sender = wishes[i].sender };
		struct recipient recipient = { .notify = wishes[i].notify };

		CASE_ASSERT(wishes[i].name, dsn_wanted(&envelope, &recipient,
		    DSN_FAILURE) == wishes[i].failure);
		CASE_ASSERT(wishes[i].name, dsn_wanted(&envelope, &recipient,
		    DSN_DELAY) == wishes[i].delay);
		CASE_ASSERT(wishes[i].name, dsn_wanted(&envelope, &recipient,
		    DSN_SUCCESS) == wishes[i].success);
	}
}

SUITE(dsn, { "shapes", shapes }, { "boundaries", boundaries },
    { "long reply", long_reply }, { "wanted", wanted })
