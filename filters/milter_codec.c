/*
 * Milter packets: framing, negotiation, and what both sides share.  The rules
 * are those that Sendmail's libmilter and Postfix follow; there is no RFC.
 */
#include "filters/milter_codec.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "base/buf.h"

static uint32_t
get_u32(const char *bytes)
{
	const unsigned char *p = (const unsigned char *)bytes;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 |
	    (uint32_t)p[2] << 8 | p[3];
}

static void
set_u32(char *bytes, uint32_t value)
{
	bytes[0] = (char)(value >> 24);
	bytes[1] = (char)(value >> 16);
	bytes[2] = (char)(value >> 8);
	bytes[3] = (char)value;
}

/* "UNKN", "HTTP", "220 " as a length tell which other service answered. */
static void
say_no_milter(const char *bytes, size_t len, char why[MILTER_WHY_SIZE])
{
	char text[25];
	size_t i;

	for (i = 0; i < len && i < sizeof(text) - 1; i++)
		text[i] = bytes[i] >= 0x20 && bytes[i] < 0x7f ? bytes[i] : '?';
	text[i] = '\0';
	snprintf(why, MILTER_WHY_SIZE,
	    "length of %u bytes: not a milter? It says \"%s\"",
	    get_u32(bytes), text);
}

int
milter_packet_parse(const char *bytes, size_t len, size_t max,
    struct milter_packet *packet, char why[MILTER_WHY_SIZE])
{
	uint32_t length;

	memset(packet, 0, sizeof(*packet));
	packet->size = 5;
	if (len < 4)
		return 0;
	length = get_u32(bytes);
	if (length == 0) {
		snprintf(why, MILTER_WHY_SIZE, "packet of length 0");
		return -1;
	}
	if (length - 1 > max) {
		say_no_milter(bytes, len, why);
		return -1;
	}
	packet->size = 4 + (size_t)length;
	if (len < packet->size)
		return 0;
	packet->code = bytes[4];
	packet->payload = bytes + 5;
	packet->len = length - 1;
	return 1;
}

size_t
milter_begin(struct buf *out, char code)
{
	size_t begin = out->len;

	buf_append(out, "\0\0\0\0", 4);
	buf_append(out, &code, 1);
	return begin;
}

void
milter_put_u32(struct buf *out, uint32_t value)
{
	char bytes[4];

	set_u32(bytes, value);
	buf_append(out, bytes, sizeof(bytes));
}

void
milter_put_string(struct buf *out, const char *string)
{
	buf_append(out, string, strlen(string) + 1);
}

void
milter_end(struct buf *out, size_t begin)
{
	set_u32(out->data + begin, (uint32_t)(out->len - begin - 4));
}

void
milter_put(struct buf *out, char code, const void *payload, size_t len)
{
	size_t begin = milter_begin(out, code);

	if (len > 0)
		buf_append(out, payload, len);
	milter_end(out, begin);
}

void
milter_put_head(struct buf *out, char code, size_t len)
{
	milter_put_u32(out, (uint32_t)len + 1);
	buf_append(out, &code, 1);
}

void
milter_put_negotiation(struct buf *out, const struct milter_negotiation *n)
{
	size_t begin = milter_begin(out, MILTER_OPTNEG);

	milter_put_u32(out, n->version);
	milter_put_u32(out, n->actions);
	milter_put_u32(out, n->protocol);
	for (uint32_t stage = 0; stage < MILTER_STAGES; stage++) {
		if (n->macros[stage] == NULL)
			continue;
		milter_put_u32(out, stage);
		milter_put_string(out, n->macros[stage]);
	}
	milter_end(out, begin);
}

int
milter_negotiation_parse(const char *payload, size_t len,
    struct milter_negotiation *n, const char **why)
{
	size_t at = 12;

	memset(n, 0, sizeof(*n));
	if (len < 12) {
		*why = "negotiation packet is too short";
		return -1;
	}
	n->version = get_u32(payload);
	n->actions = get_u32(payload + 4);
	n->protocol = get_u32(payload + 8);

	/* The last list of a stage counts; unknown stages are passed over. */
	while (len - at >= 5) {
		uint32_t stage = get_u32(payload + at);
		const char *list = payload + at + 4;
		const char *end = memchr(list, '\0', len - at - 4);

		if (end == NULL) {
			n->macros_cut = true;
			break;
		}
		if (stage < MILTER_STAGES)
			n->macros[stage] = list;
		at = (size_t)(end - payload) + 1;
	}
	return 0;
}

/* Family and text must agree, or libmilter closes the connection. */
static void
put_inet(struct buf *out, char family, unsigned port, int af,
    const void *address)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(af, address, text, sizeof(text));
	buf_putc(out, family);
	buf_putc(out, (int)(port >> 8 & 0xff));
	buf_putc(out, (int)(port & 0xff));
	milter_put_string(out, text);
}

static void
put_address(struct buf *out, const struct sockaddr *sa)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)sa;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

	if (sa->sa_family == AF_INET) {
		put_inet(out, '4', ntohs(in->sin_port), AF_INET,
		    &in->sin_addr);
	} else if (sa->sa_family == AF_INET6 &&
	    IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
		put_inet(out, '4', ntohs(in6->sin6_port), AF_INET,
		    &in6->sin6_addr.s6_addr[12]);
	} else if (sa->sa_family == AF_INET6) {
		put_inet(out, '6', ntohs(in6->sin6_port), AF_INET6,
		    &in6->sin6_addr);
	} else if (sa->sa_family == AF_UNIX) {
		const struct sockaddr_un *un = (const struct sockaddr_un *)sa;

		buf_append(out, "L\0\0", 3);
		buf_append(out, un->sun_path,
		    strnlen(un->sun_path, sizeof(un->sun_path)));
		buf_putc(out, '\0');
	} else {
		buf_putc(out, 'U');
	}
}

void
milter_put_connect(struct buf *out, const char *host,
    const struct sockaddr *sa)
{
	size_t begin = milter_begin(out, MILTER_CONNECT);

	milter_put_string(out, host);
	put_address(out, sa);
	milter_end(out, begin);
}

void
milter_put_envelope(struct buf *out, char code, const char *address,
    const char *const *arguments)
{
	size_t begin = milter_begin(out, code);

	buf_putc(out, '<');
	buf_puts(out, address);
	buf_append(out, ">", 2);
	for (; arguments != NULL && *arguments != NULL; arguments++)
		milter_put_string(out, *arguments);
	milter_end(out, begin);
}

int
milter_put_header(struct buf *out, const char *raw, size_t len,
    size_t name_len, bool leading_space)
{
	size_t begin = out->len, at = name_len;

	milter_begin(out, MILTER_HEADER);
	buf_append(out, raw, name_len);
	buf_putc(out, '\0');
	/* RFC 5322, 4.5: old mail may have blanks before the colon. */
	while (at < len && (raw[at] == ' ' || raw[at] == '\t'))
		at++;
	if (at < len && raw[at] == ':')
		at++;
	if (!leading_space && at < len && raw[at] == ' ')
		at++;
	if (len > at && raw[len - 1] == '\n')
		len--;
	if (len > at && raw[len - 1] == '\r')
		len--;
	buf_reserve(out, len - at + 1);
	for (; at < len; at++) {
		if (raw[at] == '\r' && at + 1 < len && raw[at + 1] == '\n')
			continue;
		/* A string cannot hold a NUL; libmilter would cut there. */
		out->data[out->len++] = raw[at] == '\0' ? ' ' : raw[at];
	}
	buf_putc(out, '\0');
	if (out->len - begin - 5 > MILTER_PAYLOAD_MAX) {
		out->len = begin;
		out->data[begin] = '\0';
		return -1;
	}
	milter_end(out, begin);
	return 0;
}

bool
milter_reply_edits(char code)
{
	return code != '\0' && strchr("+2-ehimbq", code) != NULL;
}
