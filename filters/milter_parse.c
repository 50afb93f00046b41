/* Milter packets: what a command of an MTA or a reply of a filter holds. */
#include <string.h>

#include "filters/milter_codec.h"

/* Bytes still to be read; bad once something was missing. */
struct cursor {
	const char *at, *end;
	bool bad;
};

static const char *
take_string(struct cursor *c)
{
	const char *string = c->at;
	const char *nul = memchr(c->at, '\0', (size_t)(c->end - c->at));

	if (nul == NULL) {
		c->bad = true;
		c->at = c->end;
		return NULL;
	}
	c->at = nul + 1;
	return string;
}

static unsigned
take_byte(struct cursor *c)
{
	if (c->at == c->end) {
		c->bad = true;
		return 0;
	}
	return (unsigned char)*c->at++;
}

static unsigned
take_u16(struct cursor *c)
{
	unsigned high = take_byte(c);

	return high << 8 | take_byte(c);
}

static uint32_t
take_u32(struct cursor *c)
{
	uint32_t high = take_u16(c);

	return high << 16 | take_u16(c);
}

static bool
at_end(const struct cursor *c)
{
	return c->at == c->end;
}

static struct cursor
cursor_of(const struct milter_packet *packet)
{
	return (struct cursor){ packet->payload, packet->payload + packet->len,
	    false };
}

/*
 * Some clients (GNU mailfromd's) send a port and bytes of NUL behind what there
 * is to say; libmilter reads no further either.
 */
static void
parse_connect(struct cursor *c, struct milter_command *command)
{
	command->first = take_string(c);
	command->family = (char)take_byte(c);
	if (command->family != 'U' && !c->bad) {
		command->port = take_u16(c);
		command->second = take_string(c);
		if (strchr("L46", command->family) == NULL)
			c->bad = true;
	}
	c->at = c->end;
}

static void
parse_arguments(struct cursor *c, struct milter_command *command)
{
	command->first = take_string(c);
	command->arguments = c->at;
	command->arguments_len = (size_t)(c->end - c->at);
	if (!at_end(c) && c->end[-1] != '\0')
		c->bad = true;
	c->at = c->end;
}

static void
parse_macros(struct cursor *c, struct milter_command *command)
{
	command->macro_for = (char)take_byte(c);
	command->arguments = c->at;
	command->arguments_len = (size_t)(c->end - c->at);
	if (!at_end(c) && c->end[-1] != '\0')
		c->bad = true;
	c->at = c->end;
}

int
milter_command_parse(const struct milter_packet *packet,
    struct milter_command *command, const char **why)
{
	struct cursor c = cursor_of(packet);

	memset(command, 0, sizeof(*command));
	command->code = packet->code;
	switch (packet->code) {
	case MILTER_OPTNEG:
	case MILTER_BODY:
	case MILTER_EOB:
		command->bytes = packet->payload;
		command->len = packet->len;
		return 0;
	case MILTER_CONNECT:
		parse_connect(&c, command);
		break;
	case MILTER_MACRO:
		parse_macros(&c, command);
		break;
	case MILTER_MAIL:
	case MILTER_RCPT:
		parse_arguments(&c, command);
		break;
	case MILTER_HEADER:
		command->first = take_string(&c);
		command->second = take_string(&c);
		break;
	case MILTER_HELO:
	case MILTER_UNKNOWN:
		command->first = take_string(&c);
		break;
	case MILTER_DATA:
	case MILTER_EOH:
	case MILTER_ABORT:
	case MILTER_QUIT:
	case MILTER_QUIT_NC:
		break;
	default:
		*why = "unknown command";
		return -1;
	}
	if (c.bad || !at_end(&c)) {
		*why = "malformed command";
		return -1;
	}
	return 0;
}

const char *
milter_argument_next(const struct milter_command *command, size_t *at)
{
	const char *string;

	if (*at >= command->arguments_len)
		return NULL;
	string = command->arguments + *at;
	*at += strlen(string) + 1;
	return string;
}

int
milter_reply_parse(const struct milter_packet *packet,
    struct milter_reply *reply, const char **why)
{
	struct cursor c = cursor_of(packet);

	memset(reply, 0, sizeof(*reply));
	reply->code = packet->code;
	reply->bytes = packet->payload;
	reply->len = packet->len;
	switch (packet->code) {
	case MILTER_CONTINUE:
	case MILTER_ACCEPT:
	case MILTER_REJECT:
	case MILTER_TEMPFAIL:
	case MILTER_DISCARD:
	case MILTER_SKIP:
	case MILTER_PROGRESS:
	case MILTER_SHUTDOWN:
	case MILTER_CONN_FAIL:
		break;
	case MILTER_REPLYCODE:	/* milter_text_parse() judges it */
	case MILTER_REPLBODY:
	case MILTER_OPTNEG:
		return 0;
	case MILTER_ADDRCPT:
	case MILTER_DELRCPT:
	case MILTER_QUARANTINE:
		reply->first = take_string(&c);
		break;
	case MILTER_ADDRCPT_PAR:
	case MILTER_CHGFROM:
		reply->first = take_string(&c);
		if (!at_end(&c))
			reply->second = take_string(&c);
		break;
	case MILTER_INSHEADER:
	case MILTER_CHGHEADER:
		reply->index = take_u32(&c);
		/* FALLTHROUGH */
	case MILTER_ADDHEADER:
		reply->first = take_string(&c);
		reply->second = take_string(&c);
		break;
	default:
		*why = "unknown reply";
		return -1;
	}
	if (c.bad || !at_end(&c)) {
		*why = "malformed reply";
		return -1;
	}
	return 0;
}
