/* The milter protocol for the eyes of people. */
#include "filters/milter_print.h"

#include <string.h>

#include "base/buf.h"
#include "filters/milter_codec.h"

#define TEXT_MAX 300			/* of a string; more is cut */

static const struct milter_kind kinds[] = {
	{ MILTER_OPTNEG, "negotiate", 0, 0, true },
	{ MILTER_MACRO, "macros", 0, 0, false },
	{ MILTER_CONNECT, "connect", MILTER_NO_CONNECT, MILTER_NR_CONNECT,
	    true },
	{ MILTER_HELO, "helo", MILTER_NO_HELO, MILTER_NR_HELO, true },
	{ MILTER_MAIL, "mail", MILTER_NO_MAIL, MILTER_NR_MAIL, true },
	{ MILTER_RCPT, "rcpt", MILTER_NO_RCPT, MILTER_NR_RCPT, true },
	{ MILTER_DATA, "data", MILTER_NO_DATA, MILTER_NR_DATA, true },
	{ MILTER_HEADER, "header", MILTER_NO_HEADERS, MILTER_NR_HEADER,
	    true },
	{ MILTER_EOH, "eoh", MILTER_NO_EOH, MILTER_NR_EOH, true },
	{ MILTER_BODY, "body", MILTER_NO_BODY, MILTER_NR_BODY, true },
	{ MILTER_EOB, "eom", 0, 0, true },
	{ MILTER_UNKNOWN, "unknown", MILTER_NO_UNKNOWN, MILTER_NR_UNKNOWN,
	    true },
	{ MILTER_ABORT, "abort", 0, 0, false },
	{ MILTER_QUIT, "quit", 0, 0, false },
	{ MILTER_QUIT_NC, "quit_nc", 0, 0, false },
};

/* Replies, and what stands in them. */
static const struct {
	char code;
	const char *name;
} replies[] = {
	{ MILTER_OPTNEG, "negotiate" }, { MILTER_CONTINUE, "continue" },
	{ MILTER_ACCEPT, "accept" }, { MILTER_REJECT, "reject" },
	{ MILTER_TEMPFAIL, "tempfail" }, { MILTER_DISCARD, "discard" },
	{ MILTER_SKIP, "skip" }, { MILTER_PROGRESS, "progress" },
	{ MILTER_REPLYCODE, "reply" }, { MILTER_SHUTDOWN, "shutdown" },
	{ MILTER_CONN_FAIL, "conn_fail" },
	{ MILTER_ADDRCPT, "add_recipient" },
	{ MILTER_ADDRCPT_PAR, "add_recipient" },
	{ MILTER_DELRCPT, "delete_recipient" },
	{ MILTER_CHGFROM, "change_sender" },
	{ MILTER_ADDHEADER, "add_header" },
	{ MILTER_INSHEADER, "insert_header" },
	{ MILTER_CHGHEADER, "change_header" },
	{ MILTER_REPLBODY, "change_body" },
	{ MILTER_QUARANTINE, "quarantine" },
};

static const char *const action_names[] = { "add_header", "change_body",
    "add_recipient", "delete_recipient", "change_header", "quarantine",
    "change_sender", "add_recipient_par", "macro_lists" };

static const char *const protocol_names[] = { "no_connect", "no_helo",
    "no_mail", "no_rcpt", "no_body", "no_header", "no_eoh",
    "silent_header", "no_unknown", "no_data", "skip", "rejected_rcpt",
    "silent_connect", "silent_helo", "silent_mail", "silent_rcpt",
    "silent_data", "silent_unknown", "silent_eoh", "silent_body",
    "leading_space" };

static const char *const stage_names[MILTER_STAGES] = { "connect", "helo",
    "mail", "rcpt", "data", "eom", "eoh" };

const struct milter_kind *
milter_kind(char code)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (kinds[i].code == code)
			return &kinds[i];
	return NULL;
}

const char *
milter_stage_name(size_t stage)
{
	return stage < MILTER_STAGES ? stage_names[stage] : "?";
}

static void
print_bits(struct buf *out, uint32_t bits, const char *const *names,
    size_t count)
{
	uint32_t nameless = bits;
	const char *gap = "";

	for (size_t i = 0; i < count; i++) {
		if ((bits & UINT32_C(1) << i) == 0)
			continue;
		buf_printf(out, "%s%s", gap, names[i]);
		nameless &= ~(UINT32_C(1) << i);
		gap = " ";
	}
	if (nameless != 0 || bits == 0)
		buf_printf(out, nameless != 0 ? "%s%#x" : "%snone", gap,
		    nameless);
}

void
milter_print_actions(struct buf *out, uint32_t actions)
{
	print_bits(out, actions, action_names,
	    sizeof(action_names) / sizeof(action_names[0]));
}

void
milter_print_protocol(struct buf *out, uint32_t protocol)
{
	print_bits(out, protocol, protocol_names,
	    sizeof(protocol_names) / sizeof(protocol_names[0]));
}

/* --- packets --- */

/* Bytes that are none of text: as \xNN, but \r, \n and \t by their letters. */
static void
print_text(struct buf *out, const char *text, size_t len)
{
	for (size_t i = 0; i < len && i < TEXT_MAX; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (byte == '\r' || byte == '\n' || byte == '\t')
			buf_printf(out, "\\%c", byte == '\r' ? 'r' :
			    byte == '\n' ? 'n' : 't');
		else if (byte == '\\')
			buf_puts(out, "\\\\");
		else if (byte < 0x20 || byte >= 0x7f)
			buf_printf(out, "\\x%02x", byte);
		else
			buf_putc(out, byte);
	}
	if (len > TEXT_MAX)
		buf_puts(out, "...");
}

/* Strings that end with NUL (but perhaps the last), each behind a blank. */
static void
print_strings(struct buf *out, const char *bytes, size_t len)
{
	const char *end = bytes + len, *nul;

	for (; bytes < end; bytes = nul < end ? nul + 1 : end) {
		nul = memchr(bytes, '\0', (size_t)(end - bytes));
		if (nul == NULL)
			nul = end;
		buf_putc(out, ' ');
		print_text(out, bytes, (size_t)(nul - bytes));
	}
}

/* Name and value of a field. */
static void
print_field(struct buf *out, const char *bytes, size_t len)
{
	const char *nul = memchr(bytes, '\0', len);
	size_t name = nul != NULL ? (size_t)(nul - bytes) : len;

	buf_putc(out, ' ');
	print_text(out, bytes, name);
	if (nul == NULL)
		return;
	buf_puts(out, ": ");
	len -= name + 1;
	print_text(out, nul + 1, len > 0 && nul[len] == '\0' ? len - 1 : len);
}

static uint32_t
u32_at(const char *bytes)
{
	const unsigned char *b = (const unsigned char *)bytes;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 |
	    (uint32_t)b[2] << 8 | b[3];
}

static void
print_negotiation(struct buf *out, const char *payload, size_t len)
{
	struct milter_negotiation n;
	const char *why;

	if (milter_negotiation_parse(payload, len, &n, &why) == -1) {
		buf_printf(out, " (%s)", why);
		return;
	}
	buf_printf(out, " version %u, actions ", n.version);
	milter_print_actions(out, n.actions);
	buf_puts(out, ", protocol ");
	milter_print_protocol(out, n.protocol);
	for (size_t i = 0; i < MILTER_STAGES; i++) {
		if (n.macros[i] == NULL)
			continue;
		buf_printf(out, ", macros at %s:", stage_names[i]);
		print_strings(out, n.macros[i], strlen(n.macros[i]));
	}
}

static void
print_macros(struct buf *out, const char *payload, size_t len)
{
	const struct milter_kind *kind = len > 0 ? milter_kind(payload[0]) :
	    NULL;

	buf_printf(out, " for %s:", kind != NULL ? kind->name : "?");
	if (len > 1)
		print_strings(out, payload + 1, len - 1);
}

static void
print_payload(struct buf *out, const struct milter_packet *packet, size_t full)
{
	const char *payload = packet->payload;
	size_t len = packet->len;

	switch (packet->code) {
	case MILTER_OPTNEG:
		print_negotiation(out, payload, len);
		break;
	case MILTER_MACRO:
		print_macros(out, payload, len);
		break;
	case MILTER_INSHEADER:
	case MILTER_CHGHEADER:
		if (len < 4)
			break;
		buf_printf(out, " %u", u32_at(payload));
		print_field(out, payload + 4, len - 4);
		break;
	case MILTER_HEADER:
	case MILTER_ADDHEADER:
		print_field(out, payload, len);
		break;
	case MILTER_BODY:
	case MILTER_REPLBODY:
		buf_printf(out, " %zu bytes \"", full);
		print_text(out, payload, len);
		buf_putc(out, '"');
		break;
	default:
		print_strings(out, payload, len);
	}
	if (full > len && packet->code != MILTER_BODY &&
	    packet->code != MILTER_REPLBODY)
		buf_printf(out, " (%zu bytes in all)", full);
}

/* Family, port and address, which are no strings. */
static void
print_connect(struct buf *out, const struct milter_packet *packet)
{
	struct milter_command command;
	const char *why;

	if (milter_command_parse(packet, &command, &why) == -1) {
		buf_printf(out, " (%s)", why);
		return;
	}
	buf_putc(out, ' ');
	print_text(out, command.first, strlen(command.first));
	if (command.second == NULL)
		return;
	buf_putc(out, ' ');
	print_text(out, command.second, strlen(command.second));
	buf_printf(out, " port %u", command.port);
}

void
milter_print_packet(struct buf *out, bool from_filter,
    const struct milter_packet *packet, size_t full)
{
	const struct milter_kind *kind = milter_kind(packet->code);
	const char *name = NULL;

	if (!from_filter && kind != NULL)
		name = kind->name;
	for (size_t i = 0; from_filter && name == NULL &&
	    i < sizeof(replies) / sizeof(replies[0]); i++)
		if (replies[i].code == packet->code)
			name = replies[i].name;
	if (name == NULL)
		buf_printf(out, "unknown code 0x%02x",
		    (unsigned char)packet->code);
	else
		buf_puts(out, name);
	if (!from_filter && packet->code == MILTER_CONNECT)
		print_connect(out, packet);
	else
		print_payload(out, packet, full);
}
