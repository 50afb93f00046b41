#include <stdio.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/buf.h"
#include "gateway/report.h"
#include "t/unit/unit.h"

static const char *const one[] = { "rua@bank.test" };
static const char *const two[] = { "rua@bank.test", "b+x=1@report.test" };

static const struct report_facts facts = {
	.organization = "Example Mail", .email = "dmarc@mx.test",
	.report_id = "1780012800x7", .domain = "bank.test", .p = "reject",
	.begin = 1780012800, .end = 1780099200,
};

static const struct report_mail mail = {
	.submitter = "mx.test", .to = two, .to_count = 2,
	.now_ms = 1780102861000,
};

static const char want[] =
    "Date: Sat, 30 May 2026 01:01:01 +0000\r\n"
    "From: <dmarc@mx.test>\r\n"
    "To: <rua@bank.test>,\r\n"
    " <b+x=1@report.test>\r\n"
    "Subject: Report Domain: bank.test\r\n"
    " Submitter: mx.test\r\n"
    " Report-ID: <1780012800x7>\r\n"
    "Message-ID:\r\n"
    " <1780012800x7.bank.test@mx.test>\r\n"
    "Auto-Submitted: auto-generated\r\n"
    "MIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=\"=_1780012800x7\"\r\n"
    "\r\n"
    "--=_1780012800x7\r\n"
    "Content-Type: text/plain; charset=us-ascii\r\n"
    "\r\n"
    "This is a DMARC aggregate report (RFC 9990) about\r\n"
    "bank.test\r\n"
    "from\r\n"
    "mx.test\r\n"
    "for the time from\r\n"
    "Fri, 29 May 2026 00:00:00 +0000 to\r\n"
    "Sat, 30 May 2026 00:00:00 +0000.\r\n"
    "The DMARC record of that domain asks for it (rua).\r\n"
    "If something is wrong with it, please write to\r\n"
    "dmarc@mx.test\r\n"
    "\r\n"
    "--=_1780012800x7\r\n"
    "Content-Type: application/gzip\r\n"
    "Content-Transfer-Encoding: base64\r\n"
    "Content-Disposition: attachment;\r\n"
    " filename=\"mx.test!bank.test!1780012800!1780099200!1780012800x7"
    ".xml.gz\"\r\n"
    "\r\n"
    "YWJjZA==\r\n"
    "--=_1780012800x7--\r\n";

static void
whole(void)
{
	struct buf out = BUF_INIT;
	const char *why;

	CU_ASSERT_FATAL(report_mail_print(&facts, &mail, "abcd", 4, &out,
	    &why) == 0);
	CU_ASSERT_STRING_EQUAL(out.data, want);
	buf_release(&out);
}

/* What stands between the last empty line and the end, decoded. */
static size_t
decode(char *text, unsigned char *to)
{
	size_t used = 0;
	char *line = strstr(text, ".xml.gz\"\r\n\r\n") + 12, *end;

	for (; strncmp(line, "--", 2) != 0; line = end + 2) {
		int len, padding = 0;

		end = strstr(line, "\r\n");
		CU_ASSERT_FATAL(end != NULL && end - line <= 76);
		for (const char *p = end; p > line && p[-1] == '='; p--)
			padding++;
		len = EVP_DecodeBlock(to + used, (unsigned char *)line,
		    (int)(end - line));
		CU_ASSERT_FATAL(len > 0);
		used += (size_t)(len - padding);
	}
	return used;
}

static void
lengths(void)
{
	static const size_t sizes[] = { 0, 1, 56, 57, 58, 59, 114, 5000 };
	unsigned char bytes[5000], got[5200];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 7 + i / 256);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct buf out = BUF_INIT;
		const char *why;
		char name[32];

		snprintf(name, sizeof(name), "%zu bytes", sizes[i]);
		CU_ASSERT_FATAL(report_mail_print(&facts, &mail, bytes,
		    sizes[i], &out, &why) == 0);
		CASE_ASSERT(name, decode(out.data, got) == sizes[i] &&
		    memcmp(got, bytes, sizes[i]) == 0);
		buf_release(&out);
	}
}

static const struct {
	const char *name, *domain, *submitter, *id, *from, *to, *why;
} cases[] = {
	{ "fine", "a_b.bank.test", "mx.test", "1x2", "d@mx.test",
	    "r@bank.test", NULL },
	{ "a field more", "bank.test\r\nBcc: x", "mx.test", "1", "d@mx.test",
	    "r@bank.test", "the domain of the report is none" },
	{ "no domain", "", "mx.test", "1", "d@mx.test", "r@bank.test",
	    "the domain of the report is none" },
	{ "an empty label", "bank..test", "mx.test", "1", "d@mx.test",
	    "r@bank.test", "the domain of the report is none" },
	{ "a path", "../bank.test", "mx.test", "1", "d@mx.test",
	    "r@bank.test", "the domain of the report is none" },
	{ "mark in the submitter", "bank.test", "mx!test", "1", "d@mx.test",
	    "r@bank.test", "the submitter is no domain" },
	{ "blank in the id", "bank.test", "mx.test", "1 2", "d@mx.test",
	    "r@bank.test", "the report's id is not letters and digits" },
	{ "no id", "bank.test", "mx.test", "", "d@mx.test", "r@bank.test",
	    "the report's id is not letters and digits" },
	{ "a long id", "bank.test", "mx.test", "0123456789012345678901234567"
	    "89012345678901234567890123456789abcde", "d@mx.test",
	    "r@bank.test", "the report's id is not letters and digits" },
	{ "sender", "bank.test", "mx.test", "1", "D <d@mx.test>",
	    "r@bank.test", "the sender is no address" },
	{ "null sender", "bank.test", "mx.test", "1", "", "r@bank.test",
	    "the sender is no address" },
	{ "no local part", "bank.test", "mx.test", "1", "d@mx.test",
	    "@bank.test", "a recipient is no address" },
	{ "two recipients in one", "bank.test", "mx.test", "1", "d@mx.test",
	    "a@b.test>,<r@bank.test", "a recipient is no address" },
	{ "line break", "bank.test", "mx.test", "1", "d@mx.test",
	    "r\n@bank.test", "a recipient is no address" },
	{ "not ASCII", "bank.test", "mx.test", "1", "d@mx.test",
	    "r\xc3\xbc@bank.test", "a recipient is no address" },
};

static void
refusals(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct report_facts f = facts;
		struct report_mail m = mail;
		struct buf out = BUF_INIT;
		const char *why = NULL;
		int rc;

		f.domain = cases[i].domain;
		f.report_id = cases[i].id;
		f.email = cases[i].from;
		m.submitter = cases[i].submitter;
		m.to = &cases[i].to;
		m.to_count = 1;
		rc = report_mail_print(&f, &m, "x", 1, &out, &why);
		CASE_ASSERT(cases[i].name, (rc == 0) ==
		    (cases[i].why == NULL));
		CASE_ASSERT(cases[i].name, cases[i].why == NULL ||
		    (why != NULL && strcmp(why, cases[i].why) == 0 &&
		    out.len == 0));
		buf_release(&out);
	}
}

static void
nobody(void)
{
	struct report_mail m = mail;
	struct buf out = BUF_INIT;
	const char *why;

	m.to = one;
	m.to_count = 0;
	CU_ASSERT(report_mail_print(&facts, &m, "x", 1, &out, &why) == -1);
	CU_ASSERT_STRING_EQUAL(why, "nobody to send to");
	buf_release(&out);
}

SUITE(report_mail,
	{ "the whole message", whole },
	{ "attachments of all lengths", lengths },
	{ "values that are refused", refusals },
	{ "no recipients", nobody })
