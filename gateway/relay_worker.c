/*
 * A worker of the relay: one connection to one destination, one message after
 * another.
 */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "filters/envelope.h"
#include "gateway/relay_private.h"

/* RFC 5321, 4.5.3.1.8: every server takes that many recipients. */
#define RECIPIENTS_MAX 100

/* A connection that rested longer is looked at before it is used again. */
#define REST_MS 50

struct worker {
	struct relay *relay;
	struct destination *destination;
	struct client *client;
	const char *peer;		/* for relay=, in the arena */
	int64_t used_ms;		/* task_now() */
	struct arena *arena;		/* of the present job */
	struct delivery_times times;
};

static void
suspend(struct worker *worker, const char *reason)
{
	struct destination *destination = worker->destination;
	struct relay *relay = worker->relay;
	int64_t pause = schedule_backoff(&relay->schedule,
	    destination->suspensions + 1, (uint32_t)random());
	int64_t wall = clock_wall_ms() + pause;
	struct destination_job *next;
	size_t waiting = destination->waiting;

	destination_suspend(destination, task_deadline(pause), reason);
	log_warn(NULL, "destination=%s suspended=%llds waiting=%zu why=\"%s\"",
	    destination->key, (long long)(pause / 1000), waiting, reason);
	for (struct destination_job *link = destination_take(destination);
	    link != NULL; link = next) {
		struct job *job = (struct job *)link;

		next = link->next;
		job->message->not_before_ms = wall;
		message_job_done(relay, job);
	}
}

static void
site_failed(struct worker *worker, const char *reason)
{
	struct destination *destination = worker->destination;

	if (window_failure(&destination->window) &&
	    !destination_suspended(destination))
		suspend(worker, reason);
}

static void
site_worked(struct worker *worker)
{
	struct destination *destination = worker->destination;

	if (destination->suspensions > 0)
		log_info(NULL, "destination=%s works again",
		    destination->key);
	destination->suspensions = 0;
	window_success(&destination->window);
}

static bool
connect_worker(struct worker *worker, struct delivery *results, size_t count)
{
	struct destination *destination = worker->destination;
	const struct relay_options *options = worker->relay->options;
	struct delivery failure = { 0 };

	worker->client = nexthop_connect(&worker->relay->nexthop,
	    destination->route, destination->domain,
	    task_deadline(options->total_timeout), worker->arena, &failure);
	worker->times.connected = clock_wall_ms();
	if (worker->client != NULL)
		return true;
	for (size_t i = 0; i < count; i++) {
		failure.recipient = results[i].recipient;
		results[i] = failure;
	}
	/* A domain that does not exist is no site that is down. */
	if (failure.status == DELIVERY_TEMPORARY)
		site_failed(worker, failure.text);
	return false;
}

static void
deliver_remote(struct worker *worker, const struct queue_message *message,
    struct delivery *results, size_t count)
{
	bool reused, alive;

	worker->peer = "none";
	if (worker->client != NULL && (task_now() - worker->used_ms >
	    REST_MS && !client_alive(worker->client)))
		client_close(&worker->client);
again:
	reused = worker->client != NULL;
	if (!reused && !connect_worker(worker, results, count))
		return;
	alive = client_deliver(worker->client, &message->envelope,
	    message->content, message->content_count, message->size, results,
	    count, worker->arena);
	worker->peer = arena_strdup(worker->arena,
	    client_peer(worker->client));
	worker->used_ms = task_now();
	if (!alive)
		client_close(&worker->client);
	if (!alive && reused && client_was_stale(results, count))
		goto again;
	if (!alive && results[0].status == DELIVERY_TEMPORARY)
		site_failed(worker, results[0].text);
	else
		site_worked(worker);
}

/* The message's recipients that go this way. */
static struct delivery *
select_recipients(struct worker *worker, const struct message *message,
    size_t *count)
{
	const struct envelope *envelope = &message->loaded->envelope;
	struct delivery *results = arena_alloc(worker->arena,
	    envelope_count(envelope) * sizeof(*results));
	struct buf key = BUF_INIT;
	size_t n = 0;

	for (const struct recipient *r = envelope->recipients; r != NULL;
	    r = r->next) {
		if (!message->one_destination) {
			buf_reset(&key);
			nexthop_key(routes_find(worker->relay->routes,
			    r->address), r->address, &key);
			if (strcmp(key.data, worker->destination->key) != 0)
				continue;
		}
		results[n++].recipient = r;
	}
	buf_release(&key);
	*count = n;
	return results;
}

static void
deliver(struct worker *worker, struct message *message)
{
	const struct route *route = worker->destination->route;
	bool local = nexthop_is_local(route);
	bool final = local || route->hops[0].kind == ROUTE_LMTP;
	struct queue_message *loaded = message->loaded;
	struct delivery *results;
	size_t count, part;

	results = select_recipients(worker, message, &count);
	for (; count > 0; results += part, count -= part) {
		part = count < RECIPIENTS_MAX ? count : RECIPIENTS_MAX;
		worker->times.connected = worker->times.taken;
		if (local)
			nexthop_local(route, &loaded->envelope,
			    loaded->content, loaded->content_count, results,
			    part, worker->arena, &worker->peer);
		else
			deliver_remote(worker, loaded, results, part);
		worker->times.done = clock_wall_ms();
		relay_report(worker->relay, message, worker->peer,
		    &worker->times, results, part, final, worker->arena);
	}
}

static void
work_one(struct worker *worker, struct job *job)
{
	struct message *message = job->message;

	worker->times.queued = job->queued_ms;
	worker->times.taken = clock_wall_ms();
	if (message_load(worker->relay, message)) {
		message->users++;
		deliver(worker, message);
		message->users--;
	}
	message_job_done(worker->relay, job);
	arena_reset(worker->arena);
}

void
relay_work(struct destination *destination)
{
	struct worker worker = {
		.relay = destination->owner, .destination = destination,
		.arena = arena_new(0), .peer = "none",
	};
	int64_t idle_ms = worker.relay->options->connection_idle;
	struct destination_job *link;

	for (unsigned turn = 0; (link = destination_next(destination,
	    worker.client != NULL ? idle_ms : 0, turn)) != NULL; turn++)
		work_one(&worker, (struct job *)link);
	client_close(&worker.client);
	arena_free(&worker.arena);
}
