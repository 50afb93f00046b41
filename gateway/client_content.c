/* The content of a message on its way out: from its slices, dots stuffed. */
#include <errno.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/task.h"
#include "filters/mail.h"
#include "gateway/client_data.h"
#include "gateway/client_private.h"
#include "policy/smtp_reply.h"

#define VECTORS_MAX 256
#define FILE_CHUNK 65536

/* What a peer said before it closed is here, or on its way. */
#define EARLY_REPLY_MS 100

/* Vectors on their way out. */
struct writer {
	struct client *client;
	struct arena *arena;
	struct data_state state;
	struct iovec iov[VECTORS_MAX];
	int count;
	char *scratch;
	enum content_result result;	/* of the conversion's */
};

static enum content_result
writer_flush(struct writer *writer)
{
	struct client *client = writer->client;
	int64_t deadline = task_deadline(client->data_timeout_ms);

	if (writer->count == 0)
		return CONTENT_SENT;
	if (deadline > client->deadline)
		deadline = client->deadline;
	if (io_writev(client->io, writer->iov, writer->count, deadline) == -1) {
		client->why = errno == ETIMEDOUT ? "conversation timed out" :
		    "lost connection";
		return CONTENT_LOST;
	}
	writer->count = 0;
	return CONTENT_SENT;
}

static enum content_result
writer_put(struct writer *writer, const char *bytes, size_t len)
{
	ssize_t used;

	while (len > 0) {
		used = data_stuff(&writer->state, bytes, len, writer->iov,
		    VECTORS_MAX - DATA_IOV_MIN, &writer->count);
		if (used == -1)
			return CONTENT_UNFIT;
		bytes += used;
		len -= (size_t)used;
		if (len > 0 && writer_flush(writer) != CONTENT_SENT)
			return CONTENT_LOST;
	}
	return CONTENT_SENT;
}

static enum content_result
writer_put_file(struct writer *writer, const struct slice *slice)
{
	size_t done = 0;
	enum content_result result;
	ssize_t n;

	if (writer->scratch == NULL)
		writer->scratch = arena_alloc(writer->arena, FILE_CHUNK);
	while (done < slice->len) {
		size_t want = slice->len - done < FILE_CHUNK ?
		    slice->len - done : FILE_CHUNK;

		/* The scratch bytes of before must be out by now. */
		if (writer_flush(writer) != CONTENT_SENT)
			return CONTENT_LOST;
		n = pread(slice->fd, writer->scratch, want,
		    slice->offset + (off_t)done);
		if (n <= 0)
			return CONTENT_UNREADABLE;
		result = writer_put(writer, writer->scratch, (size_t)n);
		if (result != CONTENT_SENT)
			return result;
		done += (size_t)n;
		task_yield();
	}
	return writer_flush(writer);
}

/* A convert_write_f; the bytes are not there any longer. */
static int
writer_put_converted(void *argument, const char *bytes, size_t len)
{
	struct writer *writer = argument;

	writer->result = writer_put(writer, bytes, len);
	if (writer->result == CONTENT_SENT)
		writer->result = writer_flush(writer);
	return writer->result == CONTENT_SENT ? 0 : -1;
}

enum content_result
client_content(struct client *client, const struct client_content *content,
    struct arena *arena)
{
	struct writer writer = { .client = client, .arena = arena,
	    .state = DATA_STATE_INIT };
	enum content_result result;

	for (size_t i = 0; i < content->count; i++) {
		const struct slice *slice = &content->slices[i];

		result = slice->data != NULL ?
		    writer_put(&writer, slice->data, slice->len) :
		    writer_put_file(&writer, slice);
		if (result != CONTENT_SENT)
			return result;
	}
	if (content->conversion != NULL && convert_write(content->conversion,
	    arena, writer_put_converted, &writer) == -1)
		return CONTENT_UNREADABLE;
	if (writer.result != CONTENT_SENT)
		return writer.result;
	if (data_end(&writer.state, writer.iov, &writer.count) == -1)
		return CONTENT_UNFIT;
	return writer_flush(&writer);
}

/* It can be read, though nothing can be written any more. */
bool
client_early_reply(struct client *client, struct reply *reply)
{
	const char *why = client->why;

	/* An LMTP server has an answer for each recipient, or none. */
	if (!client->lmtp && client_reply(client, EARLY_REPLY_MS, reply,
	    NULL) == 0 && reply->code >= 400)
		return true;
	client->why = why;
	return false;
}
