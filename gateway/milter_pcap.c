/*
 * Recorded conversations as a capture file (pcap), for Wireshark and its like:
 * each is a TCP connection from 192.0.2.1 to port 8891 of 192.0.2.2.  A packet
 * that was not recorded whole has the length of what was.
 */
#include <string.h>

#include "base/buf.h"
#include "filters/milter_codec.h"
#include "filters/milter_trace.h"
#include "gateway/milter_command.h"

#define LINKTYPE_RAW	101
#define SEGMENT_MAX	16384
#define HEADERS		40		/* IPv4 and TCP, no options */
#define PORT		8891
#define FIRST_PORT	40000
#define PORTS		20000

enum { FIN = 1, SYN = 2, PSH = 8, ACK = 16 };

struct stream {
	struct buf *out;
	unsigned port;
	uint32_t sequence[2];		/* the MTA's, the filter's */
	uint64_t time_us;
};

/* Numbers of the capture's own headers; little-endian, as its magic says. */
static void
put_little(struct buf *out, uint32_t value, int bytes)
{
	for (; bytes > 0; bytes--, value >>= 8)
		buf_putc(out, (int)(value & 0xff));
}

static void
set_big(char *at, uint32_t value, int bytes)
{
	while (bytes-- > 0) {
		at[bytes] = (char)(value & 0xff);
		value >>= 8;
	}
}

/* RFC 1071. */
static uint32_t
sum(uint32_t before, const char *bytes, size_t len)
{
	const unsigned char *b = (const unsigned char *)bytes;

	for (size_t i = 0; i < len; i++)
		before += (uint32_t)b[i] << (i % 2 == 0 ? 8 : 0);
	return before;
}

static uint32_t
fold(uint32_t value)
{
	while (value >> 16 != 0)
		value = (value & 0xffff) + (value >> 16);
	return ~value & 0xffff;
}

/* Side 0 is the MTA. */
static void
put_segment(struct stream *s, int side, unsigned flags, const char *bytes,
    size_t len)
{
	char head[HEADERS] = { 0x45 };
	size_t size = HEADERS + len;

	set_big(head + 2, (uint32_t)size, 2);
	head[8] = 64;					/* time to live */
	head[9] = 6;					/* TCP */
	set_big(head + 12, 0xc0000201 + (uint32_t)side, 4);
	set_big(head + 16, 0xc0000202 - (uint32_t)side, 4);
	set_big(head + 10, fold(sum(0, head, 20)), 2);
	set_big(head + 20, side == 0 ? s->port : PORT, 2);
	set_big(head + 22, side == 0 ? PORT : s->port, 2);
	set_big(head + 24, s->sequence[side], 4);
	set_big(head + 28, (flags & ACK) != 0 ? s->sequence[1 - side] : 0, 4);
	head[32] = 0x50;				/* five words */
	head[33] = (char)flags;
	set_big(head + 34, 65535, 2);
	set_big(head + 36, fold(sum(sum(6 + 20 + (uint32_t)len, head + 12, 8 +
	    20), bytes, len)), 2);
	put_little(s->out, (uint32_t)(s->time_us / 1000000), 4);
	put_little(s->out, (uint32_t)(s->time_us % 1000000), 4);
	put_little(s->out, (uint32_t)size, 4);
	put_little(s->out, (uint32_t)size, 4);
	buf_append(s->out, head, HEADERS);
	buf_append(s->out, bytes, len);
	s->sequence[side] += (uint32_t)len + ((flags & (SYN | FIN)) != 0);
}

static void
put_bytes(struct stream *s, int side, const char *bytes, size_t len)
{
	for (; len > 0;) {
		size_t n = len < SEGMENT_MAX ? len : SEGMENT_MAX;

		put_segment(s, side, PSH | ACK, bytes, n);
		bytes += n;
		len -= n;
	}
}

static void
put_record(struct stream *s, const struct milter_record *r)
{
	struct buf packet = BUF_INIT;

	s->time_us = r->time_us;
	switch (r->kind) {
	case 'B':
		s->sequence[0] = s->sequence[1] = 1000;
		s->port = FIRST_PORT + (s->port + 1 - FIRST_PORT) % PORTS;
		put_segment(s, 0, SYN, "", 0);
		put_segment(s, 1, SYN | ACK, "", 0);
		put_segment(s, 0, ACK, "", 0);
		break;
	case 'E':
		put_segment(s, 0, FIN | ACK, "", 0);
		put_segment(s, 1, FIN | ACK, "", 0);
		put_segment(s, 0, ACK, "", 0);
		break;
	default:
		milter_put(&packet, r->bytes[0], r->bytes + 1, r->len - 1);
		put_bytes(s, r->kind == '<', packet.data, packet.len);
	}
	buf_release(&packet);
}

void
milter_pcap(struct buf *out, const struct milter_record *records, size_t count)
{
	struct stream s = { .out = out, .port = FIRST_PORT - 1 };

	put_little(out, 0xa1b2c3d4, 4);
	put_little(out, 2, 2);
	put_little(out, 4, 2);
	put_little(out, 0, 4);
	put_little(out, 0, 4);
	put_little(out, 65535, 4);
	put_little(out, LINKTYPE_RAW, 4);
	for (size_t i = 0; i < count; i++)
		put_record(&s, &records[i]);
}
