/* A DNS answer as it came over the wire (RFC 1035, 4), made a struct. */
#ifndef BASE_DNS_PACKET_H
#define BASE_DNS_PACKET_H

#include "base/dns.h"

/* Records of the wanted type beyond these are left out. */
#define DNS_PACKET_RECORDS_MAX 512

/*
 * Parses a packet: its code and those records of the answer section that are
 * of this type, whoever owns them (the resolver has followed the CNAMEs).
 * Never NULL; a packet that does not parse gives DNS_FAILED and why.
 */
const struct dns_answer *dns_packet_parse(struct arena *, const void *packet,
    size_t len, enum dns_type);

/* An answer without records. */
const struct dns_answer *dns_answer_none(struct arena *, enum dns_status,
    const char *why);

#endif
