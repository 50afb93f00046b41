/*
 * What became of recipients: the log in Postfix's words, the counters, the
 * journal, and what the sender is told.
 */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "gateway/dsn.h"
#include "gateway/notice.h"
#include "gateway/relay_private.h"

static const char *const result_names[] = {
	[RESULT_SENT] = "sent", [RESULT_DEFERRED] = "deferred",
	[RESULT_BOUNCED] = "bounced",
};

/* What was found out of one delivery, on its way into the books. */
struct report {
	struct relay *relay;
	struct message *message;
	const char *relay_name;
	const struct delivery_times *times;
	struct delivery *results;
	enum relay_result *outcomes;
	size_t count;
	bool final;
	int64_t age_ms;
	struct arena *arena;
};

static void
message_log(const struct message *message, struct log *log)
{
	/* cppcheck-suppress ctuuninitvar ; it is set here */
	snprintf(log->id, sizeof(log->id), "%s", message->entry->id);
}

void
relay_event(struct relay *relay, const struct message *message,
    const char *recipient, const char *outcome, const char *text)
{
	if (relay->settings.event != NULL)
		relay->settings.event(message->entry->id, recipient, outcome,
		    text, relay->settings.event_argument);
}

/* "0.05", "12": two digits that count. */
static const char *
seconds(int64_t ms, char text[32])
{
	if (ms < 0)
		ms = 0;
	snprintf(text, 32, ms < 10000 ? "%.2g" : "%.0f", (double)ms / 1000);
	return text;
}

/* What the next hop said, and in reply to what, as Postfix words it. */
static const char *
reason(const struct report *report, const struct delivery *result)
{
	if (result->code == 0)
		return result->text;
	if (result->status == DELIVERY_OK)
		return result->text;
	return arena_printf(report->arena, "host %s said: %s (in reply to %s "
	    "command)", report->relay_name, result->text, result->command);
}

static void
log_result(const struct report *report, size_t i)
{
	const struct delivery *result = &report->results[i];
	const struct delivery_times *times = report->times;
	enum relay_result outcome = report->outcomes[i];
	int64_t arrived = report->message->entry->arrived_ms;
	int64_t delay = times->done - arrived;
	char delays[160], a[32], b[32], c[32], d[32];
	const char *why = reason(report, result);
	struct log log;

	message_log(report->message, &log);
	snprintf(delays, sizeof(delays), "%s/%s/%s/%s",
	    seconds(times->queued - arrived, a),
	    seconds(times->taken - times->queued, b),
	    seconds(times->connected - times->taken, c),
	    seconds(times->done - times->connected, d));
	log_event(&log, LOG_LEVEL_INFO, NULL, (struct log_field[]){
	    LOG_ADDRESS("to", result->recipient->address),
	    LOG_STRING("relay", report->relay_name),
	    LOG_SECONDS("delay", delay > 0 ? delay : 0),
	    LOG_STRING("delays", delays),
	    LOG_STRING("dsn", result->enhanced),
	    LOG_STRING("status", result_names[outcome]),
	    LOG_COMMENT("text", why), LOG_END });
	counter_add(report->relay->results[outcome], 1);
	if (outcome == RESULT_SENT)
		histogram_observe(report->relay->delay,
		    delay > 0 ? delay * 1000 : 0);
	relay_event(report->relay, report->message, result->recipient->address,
	    result_names[outcome], why);
}

/* The sender is to hear of these, which had that outcome. */
static const struct delivery **
choose(const struct report *report, enum relay_result outcome,
    enum dsn_kind kind, size_t *count)
{
	const struct delivery **chosen = arena_alloc(report->arena,
	    report->count * sizeof(*chosen));
	const struct envelope *envelope = &report->message->loaded->envelope;

	*count = 0;
	for (size_t i = 0; i < report->count; i++) {
		const struct delivery *result = &report->results[i];

		if (report->outcomes[i] != outcome ||
		    !dsn_wanted(envelope, result->recipient, kind))
			continue;
		/* RFC 3461, 5.2.2: the next hop will tell. */
		if (kind == DSN_SUCCESS && result->dsn_relayed)
			continue;
		chosen[(*count)++] = result;
	}
	return chosen;
}

/* 0: the sender will hear of it, or nobody is to; -1: it could not be kept. */
static int
notify(const struct report *report, enum relay_result outcome,
    enum dsn_kind kind)
{
	const struct queue_message *loaded = report->message->loaded;
	struct relay *relay = report->relay;
	struct dsn dsn = {
		.kind = kind, .hostname = relay->settings.hostname,
		.remote = strcmp(report->relay_name, "none") == 0 ? NULL :
		    report->relay_name,
		.envelope = &loaded->envelope, .content = loaded->content,
		.content_count = loaded->content_count, .size = loaded->size,
		.now_ms = clock_wall_ms(), .final = report->final,
	};
	struct dsn_message *message;
	const char *why;
	struct log log;

	dsn.give_up_ms = loaded->envelope.arrived_ms +
	    relay->schedule.expire;
	dsn.deliveries = choose(report, outcome, kind, &dsn.count);
	if (dsn.count == 0)
		return 0;
	message_log(report->message, &log);
	message = dsn_make(&dsn, report->arena);
	if (notices_send(relay->settings.notices, &message->envelope,
	    message->content, message->content_count, &why) == -1) {
		log_error(&log, "cannot store the sender's notification: %s",
		    why);
		return -1;
	}
	log_info(&log, "sender %s notification: %s", kind == DSN_FAILURE ?
	    "non-delivery" : kind == DSN_DELAY ? "delay" : "delivery status",
	    message->envelope.id);
	if (relay->queue != NULL)
		queue_poll(relay->queue);
	return 0;
}

static enum relay_result
judge(const struct report *report, const struct delivery *result)
{
	const struct message *message = report->message;
	bool null_sender = message->loaded->envelope.sender[0] == '\0';

	if (result->status == DELIVERY_OK)
		return RESULT_SENT;
	if (result->status == DELIVERY_PERMANENT)
		return RESULT_BOUNCED;
	/* This attempt counts too. */
	return schedule_expired(&report->relay->schedule, report->age_ms,
	    message->entry->attempts + 1, null_sender) ? RESULT_BOUNCED :
	    RESULT_DEFERRED;
}

/* Failures are final only once the notification is on stable storage. */
static void
bounce(struct report *report)
{
	const struct envelope *envelope = &report->message->loaded->envelope;
	bool any = false;
	struct log log;

	for (size_t i = 0; i < report->count; i++)
		any |= report->outcomes[i] == RESULT_BOUNCED;
	if (!any)
		return;
	if (envelope->sender[0] == '\0') {
		message_log(report->message, &log);
		log_info(&log, "undeliverable notification dropped: "
		    "the sender is null");
		return;
	}
	if (notify(report, RESULT_BOUNCED, DSN_FAILURE) == 0)
		return;
	for (size_t i = 0; i < report->count; i++)
		if (report->outcomes[i] == RESULT_BOUNCED)
			report->outcomes[i] = RESULT_DEFERRED;
}

static void
warn_of_delay(struct report *report)
{
	int64_t limit = report->relay->options->delay_warning;

	if (limit == 0 || report->message->warned || report->age_ms < limit)
		return;
	for (size_t i = 0; i < report->count; i++) {
		if (report->outcomes[i] != RESULT_DEFERRED)
			continue;
		if (notify(report, RESULT_DEFERRED, DSN_DELAY) == 0)
			report->message->warned = true;
		return;
	}
}

static void
tell_bounced(const struct report *report, size_t i)
{
	const struct relay_settings *settings = &report->relay->settings;

	if (settings->bounced != NULL &&
	    report->results[i].status == DELIVERY_PERMANENT)
		settings->bounced(&report->message->loaded->envelope,
		    report->results[i].recipient->address,
		    settings->bounced_argument);
}

/* Log and journal; what was sent goes first, before any wait for the disk. */
static void
record(const struct report *report, size_t i)
{
	log_result(report, i);
	if (report->outcomes[i] == RESULT_DEFERRED)
		return;
	tell_bounced(report, i);
	queue_record(report->relay->queue, report->message->entry,
	    report->results[i].recipient->address,
	    report->outcomes[i] == RESULT_SENT ? QUEUE_DELIVERED :
	    QUEUE_BOUNCED, 0);
}

static bool
wants_success(const struct report *report)
{
	for (size_t i = 0; i < report->count; i++)
		if (report->outcomes[i] == RESULT_SENT &&
		    (report->results[i].recipient->notify & NOTIFY_SUCCESS))
			return true;
	return false;
}

void
relay_report(struct relay *relay, struct message *message,
    const char *relay_name, const struct delivery_times *times,
    struct delivery *results, size_t count, bool final, struct arena *arena)
{
	struct report report = {
		.relay = relay, .message = message, .relay_name = relay_name,
		.times = times, .results = results, .count = count,
		.final = final, .arena = arena,
		.age_ms = clock_wall_ms() - message->entry->arrived_ms,
		.outcomes = arena_alloc(arena, count *
		    sizeof(enum relay_result)),
	};

	for (size_t i = 0; i < count; i++) {
		report.outcomes[i] = judge(&report, &results[i]);
		if (report.outcomes[i] == RESULT_SENT)
			record(&report, i);
	}
	if (wants_success(&report))
		notify(&report, RESULT_SENT, DSN_SUCCESS);
	bounce(&report);
	warn_of_delay(&report);
	for (size_t i = 0; i < count; i++)
		if (report.outcomes[i] != RESULT_SENT)
			record(&report, i);
}
