#include "policy/redis_wire.h"

#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"

#define REPLY_MAX	(4 << 20)	/* bytes; a map of a cluster in pieces */
#define ELEMENTS_MAX	16384		/* a range for each slot of a cluster */

/* "*100000000" must not make hiredis allocate that many pointers. */
static void *
create_small_array(const redisReadTask *task, int elements)
{
	static const redisReplyObjectFunctions *defaults;

	if (elements > ELEMENTS_MAX)
		return NULL;
	if (defaults == NULL) {
		redisReader *reader = redisReaderCreate();

		if (reader == NULL)
			return NULL;
		defaults = reader->fn;
		redisReaderFree(reader);
	}
	return defaults->createArray(task, elements);
}

struct redisReader *
redis_reader_new(void)
{
	static redisReplyObjectFunctions reply_functions;
	redisReader *reader = redisReaderCreate();

	if (reader == NULL)
		fatal("out of memory (redis)");
	if (reply_functions.createString == NULL) {
		reply_functions = *reader->fn;
		reply_functions.createArray = create_small_array;
	}
	reader->fn = &reply_functions;
	return reader;
}

void
redis_wire_note(struct redis_wire *wire, const char *why)
{
	if (why != wire->why)
		snprintf(wire->why, sizeof(wire->why), "%s", why);
}

void
redis_wire_close(struct redis_wire *wire)
{
	io_free(&wire->io);
	if (wire->reader != NULL)
		redisReaderFree(wire->reader);
	wire->reader = NULL;
}

/* What the certificate must name: the server's address, without the port. */
static const char *
certified(const struct redis_access *access,
    const struct net_endpoint *server, char text[NET_TEXT_SIZE])
{
	return access->tls_name != NULL ? access->tls_name :
	    net_address_print((const struct sockaddr *)&server->address, text);
}

int
redis_wire_connect(struct redis_wire *wire, const struct redis_access *access,
    const struct net_endpoint *server, int64_t deadline)
{
	char name[NET_TEXT_SIZE];
	const char *why = "";

	wire->unfinished = 0;
	wire->io = io_connect((const struct sockaddr *)&server->address,
	    server->len, NULL, 0, deadline, &why);
	if (wire->io == NULL) {
		redis_wire_note(wire, why);
		return -1;
	}
	if (access->tls != NULL && io_tls_connect(wire->io, access->tls,
	    certified(access, server, name), deadline) != 0) {
		redis_wire_note(wire, io_why(wire->io));
		io_free(&wire->io);
		return -1;
	}
	wire->reader = redis_reader_new();
	return 0;
}

void
redis_wire_put(struct redis_wire *wire, int count, const char *const *words,
    const size_t *lengths)
{
	char *bytes = NULL;
	int len;

	len = redisFormatCommandArgv(&bytes, count,
	    (const char **)(uintptr_t)words, lengths);
	if (len < 0)
		fatal("out of memory (redis)");
	io_put(wire->io, bytes, (size_t)len);
	redisFreeCommand(bytes);
}

int
redis_wire_next(struct redis_wire *wire, struct redisReply **reply)
{
	void *object = NULL;

	if (redisReaderGetReply(wire->reader, &object) != REDIS_OK) {
		redis_wire_note(wire, "a reply that is none");
		return -1;
	}
	*reply = object;
	if (object != NULL) {
		wire->unfinished = 0;
		return 1;
	}
	if (wire->unfinished <= REPLY_MAX)
		return 0;
	redis_wire_note(wire, "a reply that is too long");
	return -1;
}

int
redis_wire_read(struct redis_wire *wire, int64_t deadline)
{
	const char *bytes;
	ssize_t n;
	size_t len;

	if ((n = io_fill(wire->io, deadline)) <= 0) {
		redis_wire_note(wire, n == 0 ? "the connection was closed" :
		    io_why(wire->io));
		return -1;
	}
	bytes = io_input(wire->io, &len);
	if (redisReaderFeed(wire->reader, bytes, len) != REDIS_OK) {
		redis_wire_note(wire, "a reply that is none");
		return -1;
	}
	wire->unfinished += len;
	io_consume(wire->io, len);
	return 0;
}

struct redisReply *
redis_wire_ask(struct redis_wire *wire, int count, const char *const *words,
    int64_t deadline)
{
	redisReply *reply = NULL;
	int rc;

	redis_wire_put(wire, count, words, NULL);
	if (io_flush(wire->io, deadline) != 0) {
		redis_wire_note(wire, io_why(wire->io));
		return NULL;
	}
	while ((rc = redis_wire_next(wire, &reply)) == 0)
		if (redis_wire_read(wire, deadline) != 0)
			return NULL;
	return rc == 1 ? reply : NULL;
}

int
redis_wire_auth(const struct redis_access *access, const char *words[3])
{
	int count = 0;

	if (access->password == NULL)
		return 0;
	words[count++] = "AUTH";
	if (access->user != NULL)
		words[count++] = access->user;
	words[count++] = access->password;
	return count;
}

bool
redis_says(const struct redisReply *reply, const char *error)
{
	return reply != NULL && reply->type == REDIS_REPLY_ERROR &&
	    strncmp(reply->str, error, strlen(error)) == 0;
}
