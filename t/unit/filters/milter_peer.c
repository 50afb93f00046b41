#include "t/unit/filters/milter_peer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/task.h"
#include "filters/milter_codec.h"

struct peer_log peer_log;
static const struct peer_script *script;

struct peer {
	struct io *io;
	unsigned connection;
	unsigned seen[256];
	struct buf in;
};

static void
log_add(char *log, size_t size, const char *bytes, size_t len)
{
	size_t at = strlen(log);

	for (size_t i = 0; i < len && at + 1 < size; i++)
		log[at++] = bytes[i] == '\0' ? '^' : bytes[i];
	log[at] = '\0';
}

static void
note_macros(const struct milter_packet *packet)
{
	const char *at = packet->payload + 1;
	const char *end = packet->payload + packet->len;
	char text[2048];

	while (at < end) {
		const char *value = at + strlen(at) + 1;

		if (value >= end)
			break;
		snprintf(text, sizeof(text), "%c %s=%s,", packet->payload[0],
		    at, value);
		log_add(peer_log.macros, sizeof(peer_log.macros), text,
		    strlen(text));
		at = value + strlen(value) + 1;
	}
}

static void
note(const struct milter_packet *packet)
{
	log_add(peer_log.commands, sizeof(peer_log.commands), &packet->code,
	    1);
	if (packet->code == MILTER_BODY) {
		if (peer_log.body_len + packet->len <= sizeof(peer_log.body))
			memcpy(peer_log.body + peer_log.body_len,
			    packet->payload, packet->len);
		peer_log.body_len += packet->len;
		return;
	}
	log_add(peer_log.payloads, sizeof(peer_log.payloads), &packet->code,
	    1);
	log_add(peer_log.payloads, sizeof(peer_log.payloads), packet->payload,
	    packet->len);
	log_add(peer_log.payloads, sizeof(peer_log.payloads), ";", 1);
}

static void
put_negotiation(struct buf *out)
{
	size_t begin = milter_begin(out, MILTER_OPTNEG);

	milter_put_u32(out, script->version != 0 ? script->version : 6);
	milter_put_u32(out, script->version != 0 ? script->actions : 0x1ff);
	milter_put_u32(out, script->protocol);
	if (script->lists != NULL)
		buf_append(out, script->lists, script->lists_len);
	milter_end(out, begin);
}

static const struct {
	char code;
	uint32_t silent;
} commands[] = {
	{ 'C', MILTER_NR_CONNECT }, { 'H', MILTER_NR_HELO },
	{ 'M', MILTER_NR_MAIL }, { 'R', MILTER_NR_RCPT },
	{ 'T', MILTER_NR_DATA }, { 'L', MILTER_NR_HEADER },
	{ 'N', MILTER_NR_EOH }, { 'B', MILTER_NR_BODY },
	{ 'U', MILTER_NR_UNKNOWN }, { 'E', 0 },
};

/* Returns the flags of the replies sent. */
static unsigned
reply(struct peer *p, char code, struct buf *out)
{
	unsigned nth = ++p->seen[(unsigned char)code], flags = 0;
	bool scripted = false;

	for (size_t i = 0; i < PEER_REPLIES_MAX; i++) {
		const struct peer_reply *r = &script->replies[i];

		if (r->on != code || (r->nth != 0 && r->nth != nth) ||
		    ((r->flags & PEER_ONCE) && p->connection > 1) ||
		    ((r->flags & PEER_LATER) && p->connection == 1))
			continue;
		scripted = true;
		flags |= r->flags;
		if (r->flags & PEER_RAW)
			buf_append(out, r->payload, r->len);
		else if (!(r->flags & PEER_NOTHING))
			milter_put(out, r->code, r->payload, r->len);
	}
	if (scripted)
		return flags;
	if (code == MILTER_OPTNEG)
		put_negotiation(out);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (commands[i].code == code &&
		    (commands[i].silent & script->protocol) == 0)
			milter_put(out, MILTER_CONTINUE, NULL, 0);
	return 0;
}

static int
send_all(struct peer *p, const struct buf *out)
{
	for (size_t i = 0; peer_log.bytewise && i < out->len; i++) {
		io_put(p->io, out->data + i, 1);
		if (io_flush(p->io, task_deadline(5000)) == -1)
			return -1;
		task_yield();
	}
	if (!peer_log.bytewise && out->len > 0) {
		io_put(p->io, out->data, out->len);
		return io_flush(p->io, task_deadline(5000));
	}
	return 0;
}

static void
serve(void *argument)
{
	struct peer *p = argument;
	struct milter_packet packet;
	char why[MILTER_WHY_SIZE];
	const char *bytes;
	size_t len;

	for (;;) {
		struct buf out = BUF_INIT;
		unsigned flags;
		int rc;

		while ((rc = milter_packet_parse(p->in.data, p->in.len,
		    1 << 20, &packet, why)) == 0) {
			if (io_fill(p->io, task_deadline(20000)) <= 0)
				goto out;
			bytes = io_input(p->io, &len);
			buf_append(&p->in, bytes, len);
			io_consume(p->io, len);
		}
		if (rc == -1)
			break;
		if (packet.code == MILTER_MACRO)
			note_macros(&packet);
		else
			note(&packet);
		if (packet.code == MILTER_QUIT)
			break;
		flags = packet.code != MILTER_MACRO ?
		    reply(p, packet.code, &out) : 0;
		buf_drain(&p->in, packet.size);
		rc = send_all(p, &out);
		buf_release(&out);
		if (rc == -1 || (flags & PEER_CLOSE))
			break;
	}
out:
	io_free(&p->io);
	buf_release(&p->in);
	free(p);
}

static int
connector(const char *path, const char **why, int64_t deadline)
{
	struct peer *p;
	int fds[2];

	(void)path, (void)deadline;
	if (peer_log.refuse > 0) {
		peer_log.refuse--;
		*why = strerror(errno = ECONNREFUSED);
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
	    fds) == -1 || (p = calloc(1, sizeof(*p))) == NULL)
		abort();
	p->io = io_new(fds[1]);
	p->connection = ++peer_log.connections;
	log_add(peer_log.commands, sizeof(peer_log.commands), "|", 1);
	task_detach("peer", serve, p);
	return fds[0];
}

void
peer_begin(const struct peer_script *s)
{
	memset(&peer_log, 0, sizeof(peer_log));
	script = s;
	io_set_unix_connector(connector);
}

void
peer_end(void)
{
	io_set_unix_connector(NULL);
}
