/* What an MTA sends to our filter host: frames and commands. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "filters/milter_codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *, size_t);

static volatile size_t sum;

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct milter_packet packet;
	struct milter_command command;
	const char *why, *string;
	char text[MILTER_WHY_SIZE];
	size_t at = 0, argument;

	while (milter_packet_parse((const char *)data + at, size - at, 131072,
	    &packet, text) == 1) {
		at += packet.size;
		if (milter_command_parse(&packet, &command, &why) != 0)
			continue;
		if (command.first != NULL)
			sum += strlen(command.first);
		if (command.second != NULL)
			sum += strlen(command.second);
		argument = 0;
		while ((string = milter_argument_next(&command,
		    &argument)) != NULL)
			sum += strlen(string);
	}
	return 0;
}
