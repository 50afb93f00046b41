/* DNS answers off the wire (RFC 1035), by the C library's bounded parser. */
#include "base/dns_packet.h"

#include <arpa/nameser.h>
#include <resolv.h>
#include <string.h>

#include "base/arena.h"

static const char *
lower_name(struct arena *arena, const char *name)
{
	size_t len = strlen(name);
	char *copy;

	if (len > 0 && name[len - 1] == '.')
		len--;
	copy = arena_strndup(arena, name, len);
	for (char *p = copy; *p != '\0'; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p += 'a' - 'A';
	return copy;
}

/* A name in the record's data, perhaps compressed; NULL: it does not parse. */
static const char *
name_at(struct arena *arena, const ns_msg *message, const unsigned char *at)
{
	char name[NS_MAXDNAME];

	if (ns_name_uncompress(ns_msg_base(*message), ns_msg_end(*message), at,
	    name, sizeof(name)) < 0)
		return NULL;
	return lower_name(arena, name);
}

/* RFC 1035, 3.3.14: character-strings, each with its length in front. */
static int
text_join(struct arena *arena, struct dns_record *record,
    const unsigned char *data, size_t len)
{
	char *text = arena_alloc(arena, len + 1);
	size_t used = 0;

	while (len > 0) {
		size_t piece = data[0];

		if (piece + 1 > len)
			return -1;
		memcpy(text + used, data + 1, piece);
		used += piece;
		data += piece + 1;
		len -= piece + 1;
	}
	record->text = text;
	record->text_len = used;
	return 0;
}

static int
record_parse(struct arena *arena, const ns_msg *message, const ns_rr *rr,
    enum dns_type type, struct dns_record *record)
{
	const unsigned char *data = ns_rr_rdata(*rr);
	size_t len = ns_rr_rdlen(*rr);

	switch (type) {
	case DNS_A:
		if (len != sizeof(record->a))
			return -1;
		memcpy(&record->a, data, len);
		return 0;
	case DNS_AAAA:
		if (len != sizeof(record->aaaa))
			return -1;
		memcpy(&record->aaaa, data, len);
		return 0;
	case DNS_MX:
		if (len < 3)
			return -1;
		record->preference = ns_get16(data);
		record->name = name_at(arena, message, data + 2);
		return record->name == NULL ? -1 : 0;
	case DNS_NS:
	case DNS_CNAME:
	case DNS_PTR:
		record->name = name_at(arena, message, data);
		return record->name == NULL ? -1 : 0;
	case DNS_TXT:
		return text_join(arena, record, data, len);
	case DNS_TLSA:
		record->text = arena_memdup(arena, data, len);
		record->text_len = len;
		return 0;
	}
	return -1;
}

const struct dns_answer *
dns_answer_none(struct arena *arena, enum dns_status status, const char *why)
{
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));

	answer->status = status;
	answer->why = why;
	return answer;
}

static const struct dns_answer *
broken(struct arena *arena)
{
	return dns_answer_none(arena, DNS_FAILED, "malformed answer");
}

static const struct dns_answer *
answer_parse(struct arena *arena, ns_msg *message, enum dns_type type)
{
	struct dns_answer *answer = arena_alloc(arena, sizeof(*answer));
	int total = ns_msg_count(*message, ns_s_an);
	struct dns_record *records;
	size_t room = 0;
	ns_rr rr;

	for (int i = 0; i < total; i++) {
		if (ns_parserr(message, ns_s_an, i, &rr) != 0)
			return broken(arena);
		if ((int)ns_rr_type(rr) == (int)type)
			room++;
	}
	if (room > DNS_PACKET_RECORDS_MAX)
		room = DNS_PACKET_RECORDS_MAX;
	answer->status = room == 0 ? DNS_NODATA : DNS_FOUND;
	if (room == 0)
		return answer;
	records = arena_alloc(arena, room * sizeof(*records));
	answer->ttl = UINT32_MAX;
	for (int i = 0; i < total && answer->count < room; i++) {
		if (ns_parserr(message, ns_s_an, i, &rr) != 0)
			return broken(arena);
		if ((int)ns_rr_type(rr) != (int)type)
			continue;
		if (ns_rr_ttl(rr) < answer->ttl)
			answer->ttl = ns_rr_ttl(rr);
		if (record_parse(arena, message, &rr, type,
		    &records[answer->count++]) != 0)
			return broken(arena);
	}
	answer->records = records;
	return answer;
}

const struct dns_answer *
dns_packet_parse(struct arena *arena, const void *packet, size_t len,
    enum dns_type type)
{
	ns_msg message;

	if (len > UINT16_MAX || ns_initparse(packet, (int)len, &message) != 0)
		return broken(arena);
	switch (ns_msg_getflag(message, ns_f_rcode)) {
	case ns_r_noerror:
		return answer_parse(arena, &message, type);
	case ns_r_nxdomain:
		return dns_answer_none(arena, DNS_NXDOMAIN, NULL);
	case ns_r_servfail:
		return dns_answer_none(arena, DNS_FAILED, "SERVFAIL");
	case ns_r_refused:
		return dns_answer_none(arena, DNS_FAILED, "REFUSED");
	default:
		return dns_answer_none(arena, DNS_FAILED,
		    "error from the name server");
	}
}
