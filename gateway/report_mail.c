/* Aggregate reports as mail (RFC 9990, 3.5.2). */
#include "gateway/report.h"

#include <inttypes.h>
#include <string.h>

#include <openssl/evp.h>

#include "base/buf.h"
#include "filters/domain.h"
#include "gateway/received.h"

#define ADDRESS_MAX	320
#define LINE_BYTES	57		/* 76 characters (RFC 2045, 6.8) */

static bool
is_alphanumeric(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	    (c >= 'a' && c <= 'z');
}

/* Letters, digits, and those others; not empty. */
static bool
is_word(const char *text, size_t most, const char *others)
{
	size_t len = strlen(text);

	if (len == 0 || len > most)
		return false;
	for (; *text != '\0'; text++)
		if (!is_alphanumeric((unsigned char)*text) &&
		    strchr(others, *text) == NULL)
			return false;
	return true;
}

static bool
is_domain(const char *text)
{
	return is_word(text, DOMAIN_MAX, "-_.") && text[0] != '.' &&
	    text[strlen(text) - 1] != '.' && strstr(text, "..") == NULL;
}

/* dot-atom@domain (RFC 5322, 3.4.1): nothing that needs quotes. */
static bool
is_address(const char *text)
{
	const char *at = strrchr(text, '@');
	char local[ADDRESS_MAX + 1];

	if (at == NULL || !is_domain(at + 1) ||
	    (size_t)(at - text) >= sizeof(local))
		return false;
	memcpy(local, text, (size_t)(at - text));
	local[at - text] = '\0';
	return is_word(local, sizeof(local), "!#$%&'*+-/=?^_`{|}~.");
}

static const char *
check(const struct report_facts *facts, const struct report_mail *mail)
{
	if (!is_domain(facts->domain))
		return "the domain of the report is none";
	if (!is_domain(mail->submitter))
		return "the submitter is no domain";
	if (!is_word(facts->report_id, REPORT_ID_MAX, ""))
		return "the report's id is not letters and digits";
	if (!is_address(facts->email))
		return "the sender is no address";
	if (mail->to_count == 0)
		return "nobody to send to";
	for (size_t i = 0; i < mail->to_count; i++)
		if (!is_address(mail->to[i]))
			return "a recipient is no address";
	return NULL;
}

static void
put_header(struct buf *out, const struct report_facts *facts,
    const struct report_mail *mail)
{
	buf_puts(out, "Date: ");
	received_print_date(out, mail->now_ms);
	buf_printf(out, "\r\nFrom: <%s>\r\n", facts->email);
	for (size_t i = 0; i < mail->to_count; i++)
		buf_printf(out, "%s <%s>", i == 0 ? "To:" : ",\r\n",
		    mail->to[i]);
	buf_printf(out, "\r\nSubject: Report Domain: %s\r\n Submitter: %s\r\n"
	    " Report-ID: <%s>\r\n", facts->domain, mail->submitter,
	    facts->report_id);
	/* A report that is sent again is the same message: see Report-ID. */
	buf_printf(out, "Message-ID:\r\n <%s.%s@%s>\r\n", facts->report_id,
	    facts->domain, mail->submitter);
	buf_printf(out, "Auto-Submitted: auto-generated\r\n"
	    "MIME-Version: 1.0\r\n"
	    "Content-Type: multipart/mixed; boundary=\"=_%s\"\r\n\r\n",
	    facts->report_id);
}

static void
put_text(struct buf *out, const struct report_facts *facts,
    const struct report_mail *mail)
{
	buf_printf(out, "--=_%s\r\nContent-Type: text/plain; "
	    "charset=us-ascii\r\n\r\n", facts->report_id);
	buf_printf(out, "This is a DMARC aggregate report (RFC 9990) about\r\n"
	    "%s\r\nfrom\r\n%s\r\n", facts->domain, mail->submitter);
	buf_puts(out, "for the time from\r\n");
	received_print_date(out, facts->begin * 1000);
	buf_puts(out, " to\r\n");
	received_print_date(out, facts->end * 1000);
	buf_printf(out, ".\r\nThe DMARC record of that domain asks for it "
	    "(rua).\r\nIf something is wrong with it, please write to\r\n"
	    "%s\r\n\r\n", facts->email);
}

static void
put_base64(struct buf *out, const unsigned char *bytes, size_t len)
{
	unsigned char line[4 * ((LINE_BYTES + 2) / 3) + 1];

	for (size_t n; len > 0; bytes += n, len -= n) {
		n = len < LINE_BYTES ? len : LINE_BYTES;
		buf_append(out, line, (size_t)EVP_EncodeBlock(line, bytes,
		    (int)n));
		buf_puts(out, "\r\n");
	}
}

static void
put_attachment(struct buf *out, const struct report_facts *facts,
    const struct report_mail *mail, const void *gzip, size_t len)
{
	buf_printf(out, "--=_%s\r\nContent-Type: application/gzip\r\n"
	    "Content-Transfer-Encoding: base64\r\n"
	    "Content-Disposition: attachment;\r\n filename=\"%s!%s!%" PRId64
	    "!%" PRId64 "!%s.xml.gz\"\r\n\r\n", facts->report_id,
	    mail->submitter, facts->domain, facts->begin, facts->end,
	    facts->report_id);
	put_base64(out, gzip, len);
	buf_printf(out, "--=_%s--\r\n", facts->report_id);
}

int
report_mail_print(const struct report_facts *facts,
    const struct report_mail *mail, const void *gzip, size_t len,
    struct buf *out, const char **why)
{
	if ((*why = check(facts, mail)) != NULL)
		return -1;
	put_header(out, facts, mail);
	put_text(out, facts, mail);
	put_attachment(out, facts, mail, gzip, len);
	return 0;
}
