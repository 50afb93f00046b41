/* DNS answers off the wire; the first octet says which type was asked for. */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/dns_packet.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum dns_type types[] = { DNS_A, DNS_NS, DNS_CNAME,
		DNS_PTR, DNS_MX, DNS_TXT, DNS_AAAA, DNS_TLSA };
	struct arena *arena;

	if (size == 0)
		return 0;
	arena = arena_new(0);
	dns_packet_parse(arena, data + 1, size - 1, types[data[0] % 8]);
	arena_free(&arena);
	return 0;
}
