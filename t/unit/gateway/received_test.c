/* The Received field and the count of hops. */
#include "gateway/received.h"

#include <netinet/in.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "t/unit/unit.h"

static void
dates(void)
{
	static const struct { const char *name; int64_t ms; const char *want; }
	cases[] = {
		{ "epoch", 0, "Thu, 1 Jan 1970 00:00:00 +0000" },
		{ "leap day", INT64_C(1709210096789),
		    "Thu, 29 Feb 2024 12:34:56 +0000" },
		{ "last second", INT64_C(1798761599999),
		    "Thu, 31 Dec 2026 23:59:59 +0000" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct buf out = BUF_INIT;

		received_print_date(&out, cases[i].ms);
		CASE_ASSERT(cases[i].name,
		    strcmp(out.data, cases[i].want) == 0);
		buf_release(&out);
	}
}

static void
protocols(void)
{
	static const struct {
		const char *want;
		struct session session;
		bool utf8;
	} cases[] = {
		{ "SMTP", { .esmtp = false }, false },
		{ "ESMTP", { .esmtp = true }, false },
		{ "ESMTPS", { .esmtp = true, .tls_version = "x" }, false },
		{ "ESMTPSA", { .esmtp = true, .tls_version = "x",
		    .user = "u" }, false },
		{ "UTF8SMTP", { .esmtp = true }, true },
		{ "UTF8SMTPA", { .esmtp = true, .user = "u" }, true },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		CASE_ASSERT(cases[i].want, strcmp(received_protocol(
		    &cases[i].session, cases[i].utf8), cases[i].want) == 0);
}

static void
field(void)
{
	struct recipient second = { .address = "c@d.org" };
	struct recipient first = { .address = "a@b.org" };
	struct session session = { .hostname = "mx.b.org", .esmtp = true,
	    .helo = "h.example", .client_address = "2001:db8::1",
	    .client_name = "host.example", .tls_version = "TLSv1.3",
	    .tls_cipher = "TLS_AES_256_GCM_SHA384", .tls_bits = 256 };
	struct mail mail = { .session = &session,
	    .envelope = { .id = "4X", .recipients = &first } };
	struct buf out = BUF_INIT;

	session.client.ss_family = AF_INET6;
	received_print(&out, &mail, 0);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "from h.example (host.example [IPv6:2001:db8::1])\r\n"
	    "\tby mx.b.org with ESMTPS id 4X\r\n"
	    "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256 bits))"
	    "\r\n\tfor <a@b.org>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000");
	buf_reset(&out);
	/* Two recipients: neither is named. */
	first.next = &second;
	session.tls_version = NULL;
	session.client_name = NULL;
	session.client.ss_family = AF_INET;
	session.client_address = "192.0.2.1";
	received_print(&out, &mail, 0);
	CU_ASSERT_STRING_EQUAL(out.data,
	    "from h.example (unknown [192.0.2.1])\r\n"
	    "\tby mx.b.org with ESMTP id 4X;\r\n"
	    "\tThu, 1 Jan 1970 00:00:00 +0000");
	buf_release(&out);
}

static void
count(void)
{
	static const char text[] = "Received: a\r\nX-Received: b\r\n"
	    "RECEIVED: c\r\n d\r\nReceived-SPF: e\r\n";
	struct headers headers = { 0 };
	struct arena *arena = arena_new(0);

	headers_parse(&headers, arena, text, strlen(text));
	CU_ASSERT(received_count(&headers) == 2);
	arena_free(&arena);
}

SUITE(received,
	{ "dates", dates },
	{ "protocols", protocols },
	{ "the field", field },
	{ "the count", count })
