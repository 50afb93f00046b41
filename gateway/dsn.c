/* Delivery status notifications. */
#include "gateway/dsn.h"

#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "filters/mime.h"
#include "gateway/client_data.h"
#include "policy/smtp_reply.h"

#define FOLD_COLUMN 72
#define FOLD_HARD 900			/* RFC 5322, 2.1.1: 998 */

static const struct {
	const char *subject, *action, *opening;
} kinds[] = {
	[DSN_FAILURE] = { "Undelivered Mail Returned to Sender", "failed",
	    "I'm sorry to have to inform you that your message could not\r\n"
	    "be delivered to one or more recipients.  What is known is\r\n"
	    "below, and behind it what identifies your message.\r\n" },
	[DSN_DELAY] = { "Delayed Mail (still being retried)", "delayed",
	    "This is only a warning: your message could not be delivered\r\n"
	    "yet.  You need not send it again; delivery is tried further.\r\n" },
	[DSN_SUCCESS] = { "Successful Mail Delivery Report", "delivered",
	    "As you asked, this tells you that your message went to these\r\n"
	    "recipients.  If they are said to be relayed, the next server\r\n"
	    "does not tell what becomes of mail that it took.\r\n" },
};

bool
dsn_wanted(const struct envelope *envelope, const struct recipient *recipient,
    enum dsn_kind kind)
{
	static const unsigned bits[] = {
		[DSN_FAILURE] = NOTIFY_FAILURE, [DSN_DELAY] = NOTIFY_DELAY,
		[DSN_SUCCESS] = NOTIFY_SUCCESS,
	};

	if (envelope->sender[0] == '\0')
		return false;
	/* RFC 3461, 4.1: without NOTIFY failures are told, delays may be. */
	if (recipient->notify == 0)
		return kind != DSN_SUCCESS;
	return (recipient->notify & bits[kind]) != 0;
}

static bool
is_ascii(const char *text)
{
	for (; *text != '\0'; text++)
		if ((unsigned char)*text >= 0x80)
			return false;
	return true;
}

static bool
needs_utf8(const struct dsn *dsn)
{
	if (dsn->envelope->smtputf8 || !is_ascii(dsn->envelope->sender))
		return true;
	for (size_t i = 0; i < dsn->count; i++)
		if (!is_ascii(dsn->deliveries[i]->recipient->address) ||
		    !is_ascii(dsn->deliveries[i]->text))
			return true;
	return false;
}

static void
put_date(struct buf *out, const char *name, int64_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	char text[64];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S +0000", &tm);
	buf_printf(out, "%s: %s\r\n", name, text);
}

/* A field folded at blanks, or cut hard where there are none. */
static void
put_folded(struct buf *out, const char *name, const char *value)
{
	size_t column = strlen(name) + 1;

	buf_printf(out, "%s:", name);
	while (*value != '\0') {
		size_t blanks = strspn(value, " ");
		size_t word = strcspn(value + blanks, " ");

		if (word == 0)
			break;
		value += blanks;
		if (column + 1 + word > FOLD_COLUMN && column > 1) {
			buf_puts(out, "\r\n");
			column = 0;
		}
		if (word > FOLD_HARD)
			word = FOLD_HARD;
		buf_putc(out, ' ');
		buf_append(out, value, word);
		column += 1 + word;
		value += word;
	}
	buf_puts(out, "\r\n");
}

/* RFC 3461, 4: xtext as plain text, what it hides made printable. */
static const char *
xtext_print(struct arena *arena, const char *xtext)
{
	size_t len = strlen(xtext), n;
	char *raw = arena_alloc(arena, len + 1);
	char *clean = arena_alloc(arena, 3 * len + 1);

	n = xtext_decode(xtext, len, raw);
	reply_sanitize(clean, 3 * len + 1, raw, n);
	return clean;
}

/* --- the original --- */

/* The header, line ends mended and bytes that no line may hold replaced. */
static void
put_original_header(struct buf *out, const struct dsn *dsn)
{
	char chunk[4096], before = '\n';
	size_t line = 0, total = 0;

	for (size_t i = 0; i < dsn->content_count; i++) {
		const struct slice *slice = &dsn->content[i];
		size_t done = 0, n;
		const char *bytes;

		for (; done < slice->len; done += n) {
			n = slice->len - done;
			if (slice->data != NULL) {
				bytes = slice->data + done;
			} else {
				ssize_t got = pread(slice->fd, chunk, n <
				    sizeof(chunk) ? n : sizeof(chunk),
				    slice->offset + (off_t)done);
				if (got <= 0)
					return;
				n = (size_t)got;
				bytes = chunk;
			}
			for (size_t j = 0; j < n; j++) {
				char byte = bytes[j];

				if (++total > DSN_HEADER_MAX)
					return;
				if (byte == '\n') {
					if (line == 0)
						return;
					buf_puts(out, "\r\n");
					line = 0;
				} else if (byte == '\r') {
					/* Shown by its LF, or not at all. */
				} else {
					buf_putc(out, byte == '\0' ? '?' :
					    byte);
					line++;
				}
				before = byte;
			}
		}
	}
	if (before != '\n')
		buf_puts(out, "\r\n");
}

/* Whole, if asked for, small, in memory, and fit to travel again. */
static bool
may_return_full(const struct dsn *dsn)
{
	struct data_state state = DATA_STATE_INIT;
	struct iovec iov[64];
	int count = 0;

	if (dsn->kind != DSN_FAILURE || dsn->envelope->ret == NULL ||
	    strcasecmp(dsn->envelope->ret, "FULL") != 0 ||
	    dsn->size > DSN_FULL_MAX)
		return false;
	for (size_t i = 0; i < dsn->content_count; i++) {
		const char *p = dsn->content[i].data;
		size_t left = dsn->content[i].len;

		if (p == NULL)
			return false;
		while (left > 0) {
			ssize_t n = data_stuff(&state, p, left, iov, 64,
			    &count);
			if (n == -1)
				return false;
			p += n;
			left -= (size_t)n;
			count = 0;
		}
	}
	return !state.cr;
}

static bool
content_has_high(const struct dsn *dsn)
{
	for (size_t i = 0; i < dsn->content_count; i++)
		if (dsn->content[i].data == NULL ||
		    mime_has_eight_bit(dsn->content[i].data,
		    dsn->content[i].len))
			return true;
	return false;
}

/* --- the parts --- */

static void
put_header(struct buf *out, const struct dsn *dsn, const char *id, bool utf8)
{
	put_date(out, "Date", dsn->now_ms);
	buf_printf(out, "From: Mail Delivery System <MAILER-DAEMON@%s>\r\n",
	    dsn->hostname);
	buf_printf(out, "To: <%s>\r\n", dsn->envelope->sender);
	buf_printf(out, "Subject: %s\r\n", kinds[dsn->kind].subject);
	buf_printf(out, "Message-ID: <%s@%s>\r\n", id, dsn->hostname);
	buf_puts(out, "Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n");
	buf_printf(out, "Content-Type: multipart/report; "
	    "report-type=%sdelivery-status;\r\n boundary=\"=_%s\"\r\n\r\n",
	    utf8 ? "global-" : "", id);
	buf_puts(out, "This is a MIME-encapsulated message.\r\n");
}

static void
put_explanation(struct buf *out, const struct dsn *dsn)
{
	buf_printf(out, "This is the mail system at host %s.\r\n\r\n%s\r\n",
	    dsn->hostname, kinds[dsn->kind].opening);
	for (size_t i = 0; i < dsn->count; i++) {
		const struct delivery *delivery = dsn->deliveries[i];

		buf_printf(out, "<%s>:\r\n", delivery->recipient->address);
		if (delivery->code != 0 && dsn->remote != NULL)
			buf_printf(out, "    host %s said:\r\n", dsn->remote);
		put_folded(out, "    status", delivery->text);
		if (delivery->code != 0 && delivery->command[0] != '\0')
			buf_printf(out, "    (in reply to %s command)\r\n",
			    delivery->command);
		buf_puts(out, "\r\n");
	}
}

static void
put_message_fields(struct buf *out, const struct dsn *dsn, struct arena *arena,
    bool utf8)
{
	const struct envelope *envelope = dsn->envelope;

	buf_printf(out, "Reporting-MTA: dns; %s\r\n", dsn->hostname);
	if (envelope->envid != NULL)
		put_folded(out, "Original-Envelope-Id",
		    xtext_print(arena, envelope->envid));
	buf_printf(out, "X-Millgate-Queue-ID: %s\r\n", envelope->id);
	buf_printf(out, "X-Millgate-Sender: %s; %s\r\n",
	    utf8 ? "utf-8" : "rfc822", envelope->sender);
	put_date(out, "Arrival-Date", envelope->arrived_ms);
}

/* name[address]:port without the address, for the type dns. */
static void
put_remote(struct buf *out, const char *remote)
{
	size_t len = strcspn(remote, "[");

	buf_printf(out, "Remote-MTA: dns; %.*s\r\n", (int)len, remote);
}

static void
put_recipient_fields(struct buf *out, const struct dsn *dsn,
    const struct delivery *delivery, struct arena *arena, bool utf8)
{
	const struct recipient *recipient = delivery->recipient;
	const char *action = kinds[dsn->kind].action;

	if (dsn->kind == DSN_SUCCESS && !dsn->final)
		action = "relayed";
	if (recipient->orcpt != NULL)
		put_folded(out, "Original-Recipient",
		    xtext_print(arena, recipient->orcpt));
	buf_printf(out, "Final-Recipient: %s; %s\r\n",
	    utf8 ? "utf-8" : "rfc822", recipient->address);
	buf_printf(out, "Action: %s\r\nStatus: %s\r\n", action,
	    delivery->enhanced);
	if (delivery->code != 0 && dsn->remote != NULL)
		put_remote(out, dsn->remote);
	put_folded(out, "Diagnostic-Code", arena_printf(arena, "%s; %s",
	    delivery->code != 0 ? "smtp" : "x-millgate", delivery->text));
	put_date(out, "Last-Attempt-Date", dsn->now_ms);
	if (dsn->kind == DSN_DELAY && dsn->give_up_ms > 0)
		put_date(out, "Will-Retry-Until", dsn->give_up_ms);
}

static void
put_part(struct buf *out, const char *id, const char *type,
    const char *description, const char *encoding)
{
	buf_printf(out, "\r\n--=_%s\r\nContent-Type: %s\r\n"
	    "Content-Description: %s\r\nContent-Transfer-Encoding: %s\r\n\r\n",
	    id, type, description, encoding);
}

static void
envelope_make(struct envelope *envelope, const struct dsn *dsn,
    struct arena *arena, bool utf8, bool high)
{
	struct recipient *to;

	envelope_id_make(envelope->id);
	envelope->arrived_ms = dsn->now_ms;
	envelope->sender = "";
	envelope->eight_bit = high;
	envelope->smtputf8 = utf8;
	envelope->client = "internal";
	to = envelope_add_recipient(envelope, arena, dsn->envelope->sender);
	to->notify = NOTIFY_NEVER;
}

struct dsn_message *
dsn_make(const struct dsn *dsn, struct arena *arena)
{
	struct dsn_message *message = arena_alloc(arena, sizeof(*message));
	struct buf out = BUF_INIT, header = BUF_INIT;
	bool utf8 = needs_utf8(dsn), full = may_return_full(dsn), high;
	struct slice *slices;
	const char *id = message->envelope.id, *type;
	size_t n = 0, count = full ? dsn->content_count : 0;

	put_original_header(&header, dsn);
	high = full ? content_has_high(dsn) : header.len > 0 &&
	    mime_has_eight_bit(header.data, header.len);
	envelope_make(&message->envelope, dsn, arena, utf8, high || utf8);
	put_header(&out, dsn, id, utf8);
	put_part(&out, id, utf8 ? "text/plain; charset=utf-8" :
	    "text/plain; charset=us-ascii", "Notification",
	    utf8 ? "8bit" : "7bit");
	put_explanation(&out, dsn);
	put_part(&out, id, utf8 ? "message/global-delivery-status" :
	    "message/delivery-status", "Delivery report",
	    utf8 ? "8bit" : "7bit");
	put_message_fields(&out, dsn, arena, utf8);
	for (size_t i = 0; i < dsn->count; i++) {
		buf_puts(&out, "\r\n");
		put_recipient_fields(&out, dsn, dsn->deliveries[i], arena,
		    utf8);
	}
	if (full)
		type = utf8 ? "message/global" : "message/rfc822";
	else
		type = utf8 ? "message/global-headers" : "text/rfc822-headers";
	put_part(&out, id, type, full ? "Undelivered Message" :
	    "Message Headers", high ? "8bit" : "7bit");
	if (!full && header.len > 0)
		buf_append(&out, header.data, header.len);

	slices = arena_alloc(arena, (count + 2) * sizeof(*slices));
	slices[n++] = (struct slice){ arena_memdup(arena, out.data, out.len),
	    -1, 0, out.len };
	for (size_t i = 0; i < count; i++)
		slices[n++] = dsn->content[i];
	buf_reset(&out);
	buf_printf(&out, "\r\n--=_%s--\r\n", id);
	slices[n++] = (struct slice){ arena_memdup(arena, out.data, out.len),
	    -1, 0, out.len };
	for (size_t i = 0; i < n; i++)
		message->size += slices[i].len;
	message->content = slices;
	message->content_count = n;
	buf_release(&out);
	buf_release(&header);
	return message;
}
