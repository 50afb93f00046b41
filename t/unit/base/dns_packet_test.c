#include <string.h>

#include "base/arena.h"
#include "base/dns_packet.h"
#include "t/unit/unit.h"

/* The parts of a packet; its header is id 1, a response, counts. */
#define QUESTION(type)	"\1a\4test\0\0" type "\0\1"
#define POINTER		"\xc0\x0c"
#define TTL		"\0\0\0\x3c"

struct packet_case {
	const char *name;
	enum dns_type type;
	const char *packet;
	size_t len;
	enum dns_status want;
	size_t count;
	const char *text;		/* name or text of the first record */
};

#define PACKET(bytes) bytes, sizeof(bytes) - 1

static const struct packet_case cases[] = {
	{ "an address", DNS_A, PACKET("\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\1") POINTER "\0\1\0\1" TTL "\0\4\xc0\0\2\1"),
	    DNS_FOUND, 1, NULL },
	{ "an address of three octets", DNS_A, PACKET(
	    "\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\1") POINTER "\0\1\0\1" TTL "\0\3\xc0\0\2"),
	    DNS_FAILED, 0, NULL },
	{ "no records", DNS_A, PACKET("\0\1\x81\x80\0\1\0\0\0\0\0\0"
	    QUESTION("\1")), DNS_NODATA, 0, NULL },
	{ "records of another type", DNS_AAAA, PACKET(
	    "\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\x1c") POINTER "\0\1\0\1" TTL "\0\4\xc0\0\2\1"),
	    DNS_NODATA, 0, NULL },
	{ "no such name", DNS_A, PACKET("\0\1\x81\x83\0\1\0\0\0\0\0\0"
	    QUESTION("\1")), DNS_NXDOMAIN, 0, NULL },
	{ "server failure", DNS_A, PACKET("\0\1\x81\x82\0\1\0\0\0\0\0\0"
	    QUESTION("\1")), DNS_FAILED, 0, NULL },
	{ "refused", DNS_A, PACKET("\0\1\x81\x85\0\1\0\0\0\0\0\0"
	    QUESTION("\1")), DNS_FAILED, 0, NULL },
	{ "a name, compressed and in capitals", DNS_PTR, PACKET(
	    "\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\xc") POINTER "\0\xc\0\1" TTL "\0\5\2MX\xc0\x0e"),
	    DNS_FOUND, 1, "mx.test" },
	{ "the null MX", DNS_MX, PACKET("\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\xf") POINTER "\0\xf\0\1" TTL "\0\3\0\0\0"),
	    DNS_FOUND, 1, "" },
	{ "a name that points to itself", DNS_PTR, PACKET(
	    "\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\xc") POINTER "\0\xc\0\1" TTL "\0\2\xc0\x24"),
	    DNS_FAILED, 0, NULL },
	{ "text of two strings", DNS_TXT, PACKET(
	    "\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\x10") POINTER "\0\x10\0\1" TTL "\0\6\2ab\2cd"),
	    DNS_FOUND, 1, "abcd" },
	{ "text whose string is too long", DNS_TXT, PACKET(
	    "\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\x10") POINTER "\0\x10\0\1" TTL "\0\3\5ab"),
	    DNS_FAILED, 0, NULL },
	{ "an alias in front", DNS_A, PACKET("\0\1\x81\x80\0\1\0\2\0\0\0\0"
	    QUESTION("\1") POINTER "\0\5\0\1" TTL "\0\4\1b\xc0\x0e"
	    "\1b\4test\0\0\1\0\1" TTL "\0\4\xc0\0\2\1"), DNS_FOUND, 1, NULL },
	{ "cut in a record", DNS_A, PACKET("\0\1\x81\x80\0\1\0\1\0\0\0\0"
	    QUESTION("\1") POINTER "\0\1\0\1"), DNS_FAILED, 0, NULL },
	{ "cut in the header", DNS_A, PACKET("\0\1\x81"), DNS_FAILED, 0,
	    NULL },
	{ "more records than there are", DNS_A, PACKET(
	    "\0\1\x81\x80\0\1\xff\xff\0\0\0\0" QUESTION("\1")
	    POINTER "\0\1\0\1" TTL "\0\4\xc0\0\2\1"), DNS_FAILED, 0, NULL },
	{ "nothing", DNS_A, "", 0, DNS_FAILED, 0, NULL },
};

static void
parses(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct packet_case *c = &cases[i];
		struct arena *arena = arena_new(0);
		const struct dns_answer *answer;
		const struct dns_record *first;

		answer = dns_packet_parse(arena, c->packet, c->len, c->type);
		CASE_ASSERT(c->name, answer->status == c->want);
		CASE_ASSERT(c->name, answer->count == c->count);
		CASE_ASSERT(c->name, (answer->status == DNS_FAILED) ==
		    (answer->why != NULL));
		first = answer->records;
		if (c->text != NULL && first != NULL)
			CASE_ASSERT(c->name, strcmp(c->text,
			    c->type == DNS_TXT ? first->text : first->name) ==
			    0);
		if (answer->count > 0)
			CASE_ASSERT(c->name, answer->ttl == 60);
		arena_free(&arena);
	}
}

/* Every prefix of a packet, and every octet of it changed. */
static void
survives_damage(void)
{
	static const char whole[] = "\0\1\x81\x80\0\1\0\2\0\0\0\0"
	    QUESTION("\x10") POINTER "\0\x10\0\1" TTL "\0\6\2ab\2cd"
	    POINTER "\0\x10\0\1" TTL "\0\3\2ef";
	unsigned char packet[sizeof(whole) - 1];
	struct arena *arena = arena_new(0);
	size_t found = 0;

	for (size_t len = 0; len < sizeof(packet); len++) {
		memcpy(packet, whole, sizeof(packet));
		if (dns_packet_parse(arena, packet, len, DNS_TXT)->status ==
		    DNS_FOUND)
			found++;
	}
	CU_ASSERT(found == 0);
	for (size_t i = 0; i < sizeof(packet); i++)
		for (int value = 0; value < 256; value++) {
			memcpy(packet, whole, sizeof(packet));
			packet[i] = (unsigned char)value;
			if (dns_packet_parse(arena, packet, sizeof(packet),
			    DNS_TXT)->status == DNS_FOUND)
				found++;
		}
	CU_ASSERT(found > 0);
	arena_free(&arena);
}

SUITE(dns_packet, { "parses", parses },
    { "survives damage", survives_damage })
