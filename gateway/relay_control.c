/* What operators ask of the relay: flush, hold, release, delete, list. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "gateway/relay_private.h"

static struct message *
find(struct relay *relay, const char *id, const char **why)
{
	struct queue_entry *entry = queue_find(relay->queue, id);
	struct message *message = entry != NULL ? entry->user : NULL;

	if (message == NULL) {
		*why = "no such message in the queue";
		return NULL;
	}
	if (message->users > 0 || message->loading) {
		*why = "the message is being delivered just now";
		return NULL;
	}
	return message;
}

static bool
is_of(const struct destination_job *link, const void *message)
{
	return ((const struct job *)link)->message == message;
}

static void
forget_jobs(struct destination *destination, void *argument)
{
	struct message *message = argument;
	struct destination_job *next;

	for (struct destination_job *link = destination_pick(destination,
	    is_of, message); link != NULL; link = next) {
		next = link->next;
		free(link);
		message->jobs--;
	}
}

/*
 * Takes it from where it waits, be it for a connection.  Nobody works on it, so
 * all its jobs are in queues.
 */
static void
withdraw(struct relay *relay, struct message *message)
{
	if (message->place != PLACE_ACTIVE) {
		message_take_out(relay, message);
		return;
	}
	destinations_each(relay->destinations, forget_jobs, message);
	assert(message->jobs == 0);
	message_unload(relay, message, false);
	relay->active_count--;
	message->not_before_ms = 0;
	queue_release(relay->queue, message->entry);
}

static void
flush_destination(struct destination *destination, void *argument)
{
	(void)argument;
	if (destination->suspended_until != 0)
		destination_resume(destination);
}

size_t
relay_flush(struct relay *relay, const char *id)
{
	struct message *message;
	const char *why;
	size_t count = 0;

	destinations_each(relay->destinations, flush_destination, NULL);
	if (id != NULL) {
		message = find(relay, id, &why);
		if (message == NULL || message->place != PLACE_DEFERRED)
			return 0;
		message_take_out(relay, message);
		message_try_now(relay, message);
		return 1;
	}
	for (; relay->heap_count > 0; count++) {
		message = relay->heap[0];
		message_take_out(relay, message);
		message_try_now(relay, message);
	}
	return count;
}

static void
log_operator(const struct message *message, const char *what)
{
	struct log log;

	snprintf(log.id, sizeof(log.id), "%s", message->entry->id);
	log_info(&log, "%s by the operator", what);
}

int
relay_hold(struct relay *relay, const char *id, const char **why)
{
	struct message *message = find(relay, id, why);

	if (message == NULL)
		return -1;
	if (message->place == PLACE_HELD)
		return 0;
	withdraw(relay, message);
	message->place = PLACE_HELD;
	relay->held_count++;
	queue_record(relay->queue, message->entry, NULL, QUEUE_HELD, 0);
	log_operator(message, "held");
	relay_event(relay, message, "", "held", "by the operator");
	return 0;
}

int
relay_release(struct relay *relay, const char *id, const char **why)
{
	struct message *message = find(relay, id, why);

	if (message == NULL)
		return -1;
	if (message->place != PLACE_HELD) {
		*why = "the message is not held";
		return -1;
	}
	message_take_out(relay, message);
	queue_record(relay->queue, message->entry, NULL, QUEUE_RELEASED, 0);
	log_operator(message, "released");
	relay_event(relay, message, "", "released", "by the operator");
	message_try_now(relay, message);
	return 0;
}

int
relay_delete(struct relay *relay, const char *id, const char **why)
{
	struct message *message = find(relay, id, why);
	struct queue_entry *entry;

	if (message == NULL)
		return -1;
	entry = message->entry;
	withdraw(relay, message);
	log_operator(message, "removed");
	relay_event(relay, message, "", "removed", "by the operator");
	free(message);
	entry->user = NULL;
	/* The record may free an entry that nobody holds. */
	entry->busy = true;
	queue_record(relay->queue, entry, NULL, QUEUE_DELETED, 0);
	queue_release(relay->queue, entry);
	return 0;
}

void
relay_statistics(const struct relay *relay,
    struct relay_statistics *statistics)
{
	statistics->incoming = relay->incoming_count;
	statistics->active = relay->active_count;
	statistics->deferred = relay->heap_count;
	statistics->held = relay->held_count;
	statistics->destinations = destinations_count(relay->destinations);
	statistics->connections = destinations_workers(relay->destinations);
}

static void
print_destination(struct destination *destination, void *argument)
{
	int64_t left = destination->suspended_until - task_now();

	buf_printf(argument, "%s waiting=%zu connections=%u limit=%u",
	    destination->key, destination->waiting, destination->workers,
	    destination->window.limit);
	if (destination->suspended_until != 0 && left > 0)
		buf_printf(argument, " suspended=%llds (%s)",
		    (long long)(left / 1000), destination->reason);
	buf_putc(argument, '\n');
}

void
relay_print(const struct relay *relay, struct buf *out)
{
	destinations_each(relay->destinations, print_destination, out);
}
