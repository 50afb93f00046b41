/*
 * The Received field (RFC 5321, 4.4; RFC 3848 and 6531 for "with").
 */
#include "gateway/received.h"

#include <string.h>
#include <time.h>

#include "base/buf.h"

void
received_print_date(struct buf *out, int64_t wall_clock_ms)
{
	/* Not by strftime: names must not follow the locale. */
	static const char days[] = "SunMonTueWedThuFriSat";
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	time_t seconds = (time_t)(wall_clock_ms / 1000);
	struct tm tm;

	gmtime_r(&seconds, &tm);
	buf_printf(out, "%.3s, %d %.3s %d %02d:%02d:%02d +0000",
	    days + 3 * tm.tm_wday, tm.tm_mday, months + 3 * tm.tm_mon,
	    tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

const char *
received_protocol(const struct session *session, bool smtputf8)
{
	static const char *const names[2][4] = {
		{ "ESMTP", "ESMTPS", "ESMTPA", "ESMTPSA" },
		{ "UTF8SMTP", "UTF8SMTPS", "UTF8SMTPA", "UTF8SMTPSA" }
	};

	if (!session->esmtp)
		return "SMTP";
	return names[smtputf8][(session->tls_version != NULL ? 1 : 0) +
	    (session->user != NULL ? 2 : 0)];
}

static void
print_client(struct buf *out, const struct session *session)
{
	const char *name = session->client_name;

	if (name == NULL)
		name = "unknown";
	buf_printf(out, "from %s (%s [%s%s])",
	    session->helo != NULL ? session->helo : "unknown", name,
	    session->client.ss_family == AF_INET6 ? "IPv6:" : "",
	    session->client_address);
}

void
received_print(struct buf *out, const struct mail *mail, int64_t now_ms)
{
	const struct session *session = mail->session;
	const struct recipient *only = mail->envelope.recipients;

	print_client(out, session);
	buf_printf(out, "\r\n\tby %s with %s id %s", session->hostname,
	    received_protocol(session, mail->envelope.smtputf8),
	    mail->envelope.id);
	if (session->tls_version != NULL)
		buf_printf(out, "\r\n\t(using %s with cipher %s (%d bits))",
		    session->tls_version, session->tls_cipher,
		    session->tls_bits);
	/* With more than one it would tell blind copies (RFC 5321, 7.2). */
	if (only != NULL && only->next == NULL)
		buf_printf(out, "\r\n\tfor <%s>", only->address);
	buf_puts(out, ";\r\n\t");
	received_print_date(out, now_ms);
}

size_t
received_count(const struct headers *headers)
{
	size_t count = 0;

	for (const struct header *h = headers->first; h != NULL; h = h->next)
		if (header_is(h, "Received"))
			count++;
	return count;
}
