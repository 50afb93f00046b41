#include "config.h"

#include "gateway/event.h"

#include <string.h>
#include <sys/socket.h>

#include "base/counter.h"
#include "base/task.h"

#define FLUSH_MS 100

/* No single text may fill a packet. */
#define TEXT_MAX 20000

#define STRINGS 7

static const struct counter_row counters[] = {
	{ "millgate_events_dropped_total", COUNTER_TOTAL,
	    "Events that the console did not take in time." },
};
COUNTER_TABLE(counters)

static struct buf pending = BUF_INIT;
static size_t pending_count;
static int event_fd = -1;
static struct counter *dropped;

/* The strings of an event in the order in which they are packed. */
static void
list_strings(struct event *event, const char ***strings)
{
	strings[0] = &event->id;
	strings[1] = &event->kind;
	strings[2] = &event->client;
	strings[3] = &event->sender;
	strings[4] = &event->recipients;
	strings[5] = &event->outcome;
	strings[6] = &event->text;
}

void
event_pack(struct buf *packet, const struct event *event)
{
	struct event copy = *event;
	const char **strings[STRINGS];

	list_strings(&copy, strings);
	buf_append(packet, &event->time_ms, sizeof(event->time_ms));
	for (int i = 0; i < STRINGS; i++) {
		uint32_t len = (uint32_t)strnlen(*strings[i], TEXT_MAX);

		buf_append(packet, &len, sizeof(len));
		buf_append(packet, *strings[i], len);
		buf_putc(packet, '\0');
	}
}

bool
event_unpack(const char *packet, size_t len, size_t *offset,
    struct event *event)
{
	const char **strings[STRINGS];
	size_t at = *offset;
	uint32_t size;

	if (len - at < sizeof(event->time_ms))
		return false;
	memcpy(&event->time_ms, packet + at, sizeof(event->time_ms));
	at += sizeof(event->time_ms);
	list_strings(event, strings);
	for (int i = 0; i < STRINGS; i++) {
		if (len - at < sizeof(size))
			return false;
		memcpy(&size, packet + at, sizeof(size));
		at += sizeof(size);
		if (size > TEXT_MAX || len - at < (size_t)size + 1 ||
		    packet[at + size] != '\0')
			return false;
		*strings[i] = packet + at;
		at += (size_t)size + 1;
	}
	*offset = at;
	return true;
}

void
event_flush(void)
{
	if (pending_count == 0 || event_fd == -1)
		return;
	if (send(event_fd, pending.data, pending.len,
	    MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		counter_add(dropped, (int64_t)pending_count);
	buf_reset(&pending);
	pending_count = 0;
}

static void
flush_now_and_then(void *argument)
{
	(void)argument;
	while (task_sleep(FLUSH_MS) == 0)
		event_flush();
}

void
event_open(int fd)
{
	dropped = counter_get("millgate_events_dropped_total", NULL);
	event_fd = fd;
	task_detach("events", flush_now_and_then, NULL);
}

void
event_send(const struct event *event)
{
	size_t before = pending.len;

	if (event_fd == -1)
		return;
	event_pack(&pending, event);
	if (pending.len > EVENT_PACKET_MAX && before > 0) {
		/* It goes into the next packet; those before it are sent. */
		size_t more = pending.len - before;

		if (send(event_fd, pending.data, before,
		    MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			counter_add(dropped, (int64_t)pending_count);
		memmove(pending.data, pending.data + before, more);
		pending.len = more;
		pending_count = 0;
	}
	pending_count++;
	if (pending.len > EVENT_PACKET_MAX) {
		counter_add(dropped, 1);
		buf_reset(&pending);
		pending_count = 0;
	}
}
