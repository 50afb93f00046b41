/* The deferred messages: a heap, the earliest next try first. */
#include <stdlib.h>

#include "base/log.h"
#include "gateway/relay_private.h"

int64_t
relay_heap_time(const struct relay *relay, size_t i)
{
	return relay->heap[i]->entry->next_try_ms;
}

static void
heap_set(struct relay *relay, size_t i, struct message *message)
{
	relay->heap[i] = message;
	message->heap_index = i;
}

static void
heap_sift(struct relay *relay, size_t i)
{
	struct message *message = relay->heap[i];
	int64_t time = message->entry->next_try_ms;
	size_t child;

	for (; i > 0 && relay_heap_time(relay, (i - 1) / 2) > time; i = (i - 1) / 2)
		heap_set(relay, i, relay->heap[(i - 1) / 2]);
	for (; (child = 2 * i + 1) < relay->heap_count; i = child) {
		if (child + 1 < relay->heap_count &&
		    relay_heap_time(relay, child + 1) < relay_heap_time(relay, child))
			child++;
		if (relay_heap_time(relay, child) >= time)
			break;
		heap_set(relay, i, relay->heap[child]);
	}
	heap_set(relay, i, message);
}

void
relay_heap_push(struct relay *relay, struct message *message)
{
	if (relay->heap_count == relay->heap_size) {
		relay->heap_size = relay->heap_size ? 2 * relay->heap_size :
		    1024;
		relay->heap = realloc(relay->heap, relay->heap_size *
		    sizeof(*relay->heap));
		if (relay->heap == NULL)
			fatal("out of memory");
	}
	message->place = PLACE_DEFERRED;
	heap_set(relay, relay->heap_count++, message);
	heap_sift(relay, message->heap_index);
	if (message->heap_index == 0)
		task_cond_signal(&relay->due);
}

void
relay_heap_remove(struct relay *relay, struct message *message)
{
	size_t i = message->heap_index;
	struct message *last = relay->heap[--relay->heap_count];

	if (last == message)
		return;
	heap_set(relay, i, last);
	heap_sift(relay, i);
}
