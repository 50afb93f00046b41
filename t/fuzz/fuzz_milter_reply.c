/* What a filter sends: frames, replies, reply texts, negotiation. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/arena.h"
#include "filters/milter_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static volatile size_t sum;

static void
look_at(const struct milter_packet *packet, struct arena *arena)
{
	struct milter_reply reply;
	struct milter_text text;
	struct milter_negotiation n;
	const char *why;

	if (milter_reply_parse(packet, &reply, &why) == 0) {
		if (reply.first != NULL)
			sum += strlen(reply.first);
		if (reply.second != NULL)
			sum += strlen(reply.second);
	}
	if (milter_text_parse(packet->payload, packet->len, arena, &text,
	    &why) == 0)
		sum += strlen(text.text);
	if (milter_negotiation_parse(packet->payload, packet->len, &n,
	    &why) == 0)
		for (size_t i = 0; i < MILTER_STAGES; i++)
			if (n.macros[i] != NULL)
				sum += strlen(n.macros[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct arena *arena = arena_new(0);
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];
	size_t at = 0;

	while (milter_packet_parse((const char *)data + at, size - at, 4096,
	    &packet, why) == 1) {
		look_at(&packet, arena);
		at += packet.size;
	}
	arena_free(&arena);
	return 0;
}
