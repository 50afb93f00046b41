/*
 * The relay: routes what arrives, keeps what is deferred, and leaves the rest
 * to the destinations' workers.
 *
 * A message is read to be routed.  It stays in memory for its delivery if
 * there is room, else it is read again: a slow destination thus costs memory
 * for a job per message, and keeps no other mail waiting.
 */
#include "gateway/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/tls.h"
#include "gateway/relay_private.h"

#define TICK_MS 1000
#define SWEEP_MS 60000
#define ROUTES_PER_TURN 16

/*
 * With memory full the router waits a little for workers to catch up, which
 * saves reading messages twice.  When they don't, for they are slow, it goes on
 * for a good number of messages: others may be quick.
 */
#define ROOM_WAIT_MS 20
#define ROUTES_PER_WAIT 500
#define CLOCK_JUMP_MS 60000

static const struct option_row relay_rows[] = {
	RELAY_OPTIONS(OPTION_ROW, relay_options)
};

const struct section_kind relay_section = {
	.name = "relay",
	.titled = false,
	.doc = "How mail is delivered to the next hops.",
	.rows = relay_rows,
	.row_count = OPTION_COUNT(relay_rows),
	.size = sizeof(struct relay_options),
};

static const struct counter_row counters[] = {
	{ "millgate_delivery_total", COUNTER_TOTAL,
	    "Deliveries by what became of the recipient." },
	{ "millgate_delivery_delay_seconds", COUNTER_HISTOGRAM,
	    "Time from arrival to delivery." },
};
COUNTER_TABLE(counters)

/* --- messages --- */

static void
incoming_push(struct relay *relay, struct message *message)
{
	message->place = PLACE_INCOMING;
	message->next = NULL;
	*relay->incoming_last = message;
	relay->incoming_last = &message->next;
	relay->incoming_count++;
	task_cond_signal(&relay->arrived);
}

static struct message *
incoming_pop(struct relay *relay)
{
	struct message *message = relay->incoming;

	if (message == NULL)
		return NULL;
	if ((relay->incoming = message->next) == NULL)
		relay->incoming_last = &relay->incoming;
	relay->incoming_count--;
	return message;
}

static void
incoming_remove(struct relay *relay, struct message *message)
{
	struct message **m = &relay->incoming;

	while (*m != message)
		m = &(*m)->next;
	if ((*m = message->next) == NULL)
		relay->incoming_last = m;
	relay->incoming_count--;
}

void
message_take_out(struct relay *relay, struct message *message)
{
	if (message->place == PLACE_INCOMING)
		incoming_remove(relay, message);
	else if (message->place == PLACE_DEFERRED)
		relay_heap_remove(relay, message);
	else if (message->place == PLACE_HELD)
		relay->held_count--;
}

void
message_try_now(struct relay *relay, struct message *message)
{
	incoming_push(relay, message);
}

void
relay_found(struct queue_entry *entry, void *argument)
{
	struct relay *relay = argument;
	struct message *message = calloc(1, sizeof(*message));
	int64_t now = clock_wall_ms(), warning;

	if (message == NULL)
		fatal("out of memory");
	message->entry = entry;
	entry->user = message;
	warning = relay->options->delay_warning;
	message->warned = entry->attempts > 0 && warning > 0 &&
	    now - entry->arrived_ms > warning;
	message->announced = entry->attempts > 0;
	if (entry->hold) {
		message->place = PLACE_HELD;
		relay->held_count++;
	} else if (entry->next_try_ms > now) {
		/* Not beyond the longest pause: the clock was ahead then. */
		if (entry->next_try_ms - now >
		    relay->schedule.maximal_backoff * 11 / 10)
			entry->next_try_ms = now +
			    relay->schedule.maximal_backoff;
		relay_heap_push(relay, message);
	} else {
		incoming_push(relay, message);
	}
}

bool
message_load(struct relay *relay, struct message *message)
{
	const char *why = "";
	struct log log;

	/* Reading a large one takes turns, and it may have two destinations. */
	while (message->loading)
		task_cond_wait(&relay->loaded, DEADLINE_NEVER);
	if (message->loaded != NULL)
		return true;
	if (message->gone)
		return false;
	message->loading = true;
	message->arena = arena_new(0);
	message->loaded = queue_get(relay->queue, message->entry,
	    message->arena, &why);
	message->loading = false;
	task_cond_broadcast(&relay->loaded);
	if (message->loaded != NULL) {
		relay->loaded_bytes += message->loaded->size;
		return true;
	}
	arena_free(&message->arena);
	message->gone = true;
	snprintf(log.id, sizeof(log.id), "%s", message->entry->id);
	log_error(&log, "cannot be read, set aside: %s", why);
	return false;
}

void
message_unload(struct relay *relay, struct message *message, bool keep)
{
	if (message->loaded == NULL || message->users > 0)
		return;
	if (keep && relay->loaded_bytes <= (size_t)relay->options->memory)
		return;
	relay->loaded_bytes -= message->loaded->size;
	if (relay->loaded_bytes <= (size_t)relay->options->memory / 2)
		task_cond_signal(&relay->roomy);
	queue_put(relay->queue, &message->loaded);
	arena_free(&message->arena);
}

/* All its recipients are done, or it is gone: the queue forgets it. */
static void
message_end(struct relay *relay, struct message *message)
{
	struct queue_entry *entry = message->entry;
	struct log log;

	if (!message->gone) {
		snprintf(log.id, sizeof(log.id), "%s", entry->id);
		log_info(&log, "removed");
		relay_event(relay, message, "", "removed", "");
	}
	free(message);
	entry->user = NULL;
	queue_release(relay->queue, entry);
}

static void
message_defer(struct relay *relay, struct message *message)
{
	struct queue_entry *entry = message->entry;
	int64_t next = clock_wall_ms() + schedule_backoff(&relay->schedule,
	    entry->attempts + 1, (uint32_t)random());

	if (next < message->not_before_ms)
		next = message->not_before_ms + (int64_t)(random() % 1000);
	message->not_before_ms = 0;
	queue_record(relay->queue, entry, NULL, QUEUE_DEFERRED, next);
	queue_release(relay->queue, entry);
	relay_heap_push(relay, message);
}

static void
round_end(struct relay *relay, struct message *message)
{
	message_unload(relay, message, false);
	relay->active_count--;
	if (message->gone || message->entry->pending == 0)
		message_end(relay, message);
	else
		message_defer(relay, message);
}

void
message_job_done(struct relay *relay, struct job *job)
{
	struct message *message = job->message;

	free(job);
	if (--message->jobs == 0)
		round_end(relay, message);
	else
		message_unload(relay, message, true);
}

/* --- the router --- */

static void
push_job(struct message *message, struct destination *destination)
{
	struct job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		fatal("out of memory");
	job->message = message;
	job->destination = destination;
	job->queued_ms = message->started_ms;
	message->jobs++;
	destination_push(destination, &job->link);
}

static struct destination *
find_destination(struct relay *relay, const char *address, struct buf *key)
{
	const struct route *route = routes_find(relay->routes, address);
	struct destination *destination;

	buf_reset(key);
	nexthop_key(route, address, key);
	destination = destination_get(relay->destinations, key->data, route,
	    route->hops[0].kind == ROUTE_MX ? address_domain(address) : NULL);
	destination->owner = relay;
	return destination;
}

/* Those whose destination is suspended are deferred without an attempt. */
struct put_off {
	struct arena *arena;
	struct delivery *results;
	size_t count;
};

static void
put_off_add(struct put_off *off, struct message *message,
    const struct recipient *recipient, const struct destination *destination)
{
	struct delivery *result;
	int64_t end = clock_wall_ms() + destination->suspended_until -
	    task_now();

	if (off->arena == NULL) {
		off->arena = arena_new(0);
		off->results = arena_alloc(off->arena, sizeof(*result) *
		    envelope_count(&message->loaded->envelope));
	}
	result = &off->results[off->count++];
	result->recipient = recipient;
	delivery_set(result, off->arena, DELIVERY_TEMPORARY, "4.4.1",
	    arena_printf(off->arena, "delivery temporarily suspended: %s",
	    destination->reason));
	if (message->not_before_ms < end)
		message->not_before_ms = end;
}

static void
announce(const struct message *message)
{
	const struct envelope *envelope = &message->loaded->envelope;
	struct log log;

	snprintf(log.id, sizeof(log.id), "%s", message->entry->id);
	log_event(&log, LOG_LEVEL_INFO, NULL, (struct log_field[]){
	    LOG_ADDRESS("from", envelope->sender),
	    LOG_NUMBER("size", (int64_t)message->loaded->size),
	    LOG_NUMBER("nrcpt", (int64_t)envelope_count(envelope)),
	    LOG_COMMENT("state", "queue active"), LOG_END });
}

static void
route_recipients(struct relay *relay, struct message *message,
    struct put_off *off)
{
	struct buf key = BUF_INIT;
	uint64_t round = ++relay->round;

	for (const struct recipient *r = message->loaded->envelope.recipients;
	    r != NULL; r = r->next) {
		struct destination *destination = find_destination(relay,
		    r->address, &key);

		if (destination_suspended(destination)) {
			put_off_add(off, message, r, destination);
		} else if (destination->mark != round) {
			destination->mark = round;
			push_job(message, destination);
		}
	}
	buf_release(&key);
}

static void
route(struct relay *relay, struct message *message)
{
	struct put_off off = { 0 };

	message->started_ms = clock_wall_ms();
	message->place = PLACE_ACTIVE;
	message->entry->busy = true;
	relay->active_count++;
	message->jobs = 1;		/* ours; what follows may wait */
	if (message_load(relay, message)) {
		message->users++;
		if (!message->announced)
			announce(message);
		message->announced = true;
		route_recipients(relay, message, &off);
		message->one_destination = message->jobs == 2 &&
		    off.count == 0;
		if (off.count > 0) {
			struct delivery_times times = { message->started_ms,
			    message->started_ms, message->started_ms,
			    message->started_ms };

			relay_report(relay, message, "none", &times,
			    off.results, off.count, false, off.arena);
			arena_free(&off.arena);
		}
		message->users--;
	}
	if (--message->jobs == 0)
		round_end(relay, message);
	else
		message_unload(relay, message, true);
}

static void
router_run(void *argument)
{
	struct relay *relay = argument;
	struct message *message;
	unsigned turn = 0, rush = 0;

	while (!relay->draining) {
		if (relay->incoming == NULL) {
			task_cond_wait(&relay->arrived, DEADLINE_NEVER);
			continue;
		}
		if (rush > 0)
			rush--;
		else if (relay->loaded_bytes > (size_t)relay->options->memory)
			if (task_cond_wait(&relay->roomy, task_deadline(
			    ROOM_WAIT_MS)) == -1)
				rush = ROUTES_PER_WAIT;
		/* An operator may have taken it meanwhile. */
		if ((message = incoming_pop(relay)) == NULL)
			continue;
		route(relay, message);
		if (++turn % ROUTES_PER_TURN == 0)
			task_yield();
	}
}

/* --- time --- */

/*
 * Tries are planned by the wall clock, for it alone is the same after a start.
 * When it jumps the plans jump with it, so that a pause stays as long as it
 * was meant to be.
 */
static void
follow_clock(struct relay *relay)
{
	int64_t offset = clock_wall_ms() - task_now();
	int64_t jump = offset - relay->clock_offset;

	relay->clock_offset = offset;
	if (jump < CLOCK_JUMP_MS && jump > -CLOCK_JUMP_MS)
		return;
	log_warn(NULL, "clock=jumped seconds=%lld deferred=%zu",
	    (long long)(jump / 1000), relay->heap_count);
	for (size_t i = 0; i < relay->heap_count; i++)
		relay->heap[i]->entry->next_try_ms += jump;
}

static void
wake_due(struct relay *relay)
{
	int64_t now = clock_wall_ms();
	struct message *message;

	while (relay->heap_count > 0 && relay_heap_time(relay, 0) <= now) {
		message = relay->heap[0];
		relay_heap_remove(relay, message);
		incoming_push(relay, message);
	}
}

static void
timer_run(void *argument)
{
	struct relay *relay = argument;
	int64_t tick = 0, swept = task_now(), wait;

	while (!relay->draining) {
		if (task_now() >= tick) {
			tick = task_now() + TICK_MS;
			follow_clock(relay);
			queue_poll(relay->queue);
			queue_maintain(relay->queue);
		}
		if (task_now() - swept > SWEEP_MS) {
			swept = task_now();
			destinations_sweep(relay->destinations, SWEEP_MS);
		}
		wake_due(relay);
		wait = tick - task_now();
		if (relay->heap_count > 0 &&
		    relay_heap_time(relay, 0) - clock_wall_ms() < wait)
			wait = relay_heap_time(relay, 0) - clock_wall_ms();
		task_cond_wait(&relay->due, task_deadline(wait > 1 ? wait :
		    1));
	}
}

/* --- beginning and end --- */

void
relay_nexthop(const struct relay_options *options, const char *hostname,
    struct nexthop_settings *nexthop)
{
	nexthop->hostname = hostname;
	nexthop->connect_timeout_ms = options->connect_timeout;
	nexthop->greeting_timeout_ms = options->greeting_timeout;
	nexthop->command_timeout_ms = options->command_timeout;
	nexthop->data_timeout_ms = options->data_timeout;
	nexthop->total_timeout_ms = options->total_timeout;
}

static void
schedule_set(struct schedule *schedule, const struct relay_options *options)
{
	schedule->minimal_backoff = options->minimal_backoff;
	schedule->maximal_backoff = options->maximal_backoff;
	schedule->expire = options->expire;
	schedule->bounce_expire = options->bounce_expire;
}

struct relay *
relay_new(const struct relay_settings *settings, const char **why)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		fatal("out of memory");
	relay->settings = *settings;
	relay->options = conf_get(settings->conf, "relay");
	relay->incoming_last = &relay->incoming;
	relay_nexthop(relay->options, settings->hostname, &relay->nexthop);
	schedule_set(&relay->schedule, relay->options);
	if ((relay->routes = routes_new(settings->conf, why)) == NULL ||
	    nexthop_tls(&relay->nexthop, relay->routes, why) == -1) {
		relay_free(&relay);
		return NULL;
	}
	relay->destinations = destinations_new(
	    (uint32_t)relay->options->connections, relay_work);
	relay->results[RESULT_SENT] = counter_get("millgate_delivery_total",
	    "status=\"sent\"");
	relay->results[RESULT_DEFERRED] = counter_get(
	    "millgate_delivery_total", "status=\"deferred\"");
	relay->results[RESULT_BOUNCED] = counter_get(
	    "millgate_delivery_total", "status=\"bounced\"");
	relay->delay = histogram_get("millgate_delivery_delay_seconds", NULL);
	return relay;
}

void
relay_start(struct relay *relay, struct queue *queue)
{
	relay->queue = queue;
	relay->clock_offset = clock_wall_ms() - task_now();
	relay->router = task_start("router", router_run, relay);
	relay->timer = task_start("relay timer", timer_run, relay);
}

int
relay_drain(struct relay *relay, int64_t deadline)
{
	relay->draining = true;
	task_cond_broadcast(&relay->arrived);
	task_cond_broadcast(&relay->due);
	task_cond_broadcast(&relay->roomy);
	destinations_drain(relay->destinations);
	if (task_join(&relay->router, deadline) == -1 ||
	    task_join(&relay->timer, deadline) == -1)
		return -1;
	return destinations_wait(relay->destinations, deadline);
}

static void
free_jobs(struct destination *destination, void *argument)
{
	struct destination_job *next;

	(void)argument;
	for (struct destination_job *job = destination_take(destination);
	    job != NULL; job = next) {
		next = job->next;
		free(job);
	}
}

static void
free_message(struct queue_entry *entry, void *argument)
{
	struct message *message = entry->user;

	if (message == NULL)
		return;
	message_unload(argument, message, false);
	free(message);
	entry->user = NULL;
}

void
relay_free(struct relay **relayp)
{
	struct relay *relay = *relayp;

	if (relay == NULL)
		return;
	*relayp = NULL;
	if (relay->destinations != NULL)
		destinations_each(relay->destinations, free_jobs, NULL);
	if (relay->queue != NULL)
		queue_each(relay->queue, free_message, relay);
	destinations_free(&relay->destinations);
	routes_free(&relay->routes);
	tls_context_free(&relay->nexthop.tls_any);
	tls_context_free(&relay->nexthop.tls_verify);
	free(relay->heap);
	free(relay);
}
