#include "config.h"

#include "gateway/queue_command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/link.h"
#include "gateway/queue.h"
#include "gateway/relay.h"
#include "gateway/report_send.h"

/* Lines of an answer gather up to this size; a message of the link holds it. */
#define PART_SIZE 3500

/* Messages between which other tasks run. */
#define YIELD_EVERY 64

#define WORD_SIZE 256		/* of an id or a domain */

/* A console that does not read has this long. */
#define ANSWER_MS 5000

#define FULL_MS 20

/* What takes long says so, before the console loses patience. */
#define SIGN_OF_LIFE_MS 2000

struct answer_state {
	int link;
	unsigned long number;
	struct buf part;
	bool broken;
};

struct service {
	int link;
	struct queue *queue;
	struct relay *relay;
	struct report_sender *reports;	/* or NULL */
};

static void
send_text(struct answer_state *answer, const char *text)
{
	int64_t deadline = task_deadline(ANSWER_MS);

	while (!answer->broken &&
	    link_send(answer->link, -1, "%lu %s", answer->number, text) != 0)
		/* Several tasks may: a descriptor is one task's to wait for. */
		if (errno != EAGAIN || task_now() >= deadline ||
		    task_sleep(FULL_MS) != 0)
			answer->broken = true;
}

static void
flush_part(struct answer_state *answer)
{
	if (answer->part.len > 0)
		send_text(answer, answer->part.data);
	buf_reset(&answer->part);
}

/* Adds a line to the answer; the text ends in \n. */
static void
add_line(struct answer_state *answer, const char *text)
{
	if (answer->part.len + strlen(text) > PART_SIZE)
		flush_part(answer);
	if (answer->part.len == 0)
		buf_putc(&answer->part, '+');
	if (strlen(text) <= PART_SIZE)
		buf_puts(&answer->part, text);
}

static void
finish(struct answer_state *answer, const char *why)
{
	char text[600];

	flush_part(answer);
	if (why == NULL)
		snprintf(text, sizeof(text), "=ok");
	else
		snprintf(text, sizeof(text), "=error %s", why);
	send_text(answer, text);
	buf_release(&answer->part);
}

struct id_list {
	char (*ids)[ENVELOPE_ID_SIZE];
	size_t count, room;
};

static void
note_id(struct queue_entry *entry, void *argument)
{
	struct id_list *list = argument;

	if (list->count < list->room)
		memcpy(list->ids[list->count++], entry->id, sizeof(entry->id));
}

static void
print_time(char *text, size_t size, int64_t wall_ms)
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm parts;

	localtime_r(&seconds, &parts);
	strftime(text, size, "%Y-%m-%d %H:%M:%S", &parts);
}

static const char *
state_of(const struct queue_entry *entry)
{
	if (entry->hold)
		return "held";
	if (entry->busy)
		return "active";
	return entry->attempts > 0 ? "deferred" : "incoming";
}

/* "ID size time state sender recipient..." */
static void
list_one(struct service *service, struct answer_state *answer,
    struct queue_entry *entry)
{
	struct arena *arena = arena_new(0);
	struct queue_message *message;
	struct buf line = BUF_INIT;
	const struct recipient *rcpt;
	const char *why, *state = state_of(entry);
	char when[32];

	print_time(when, sizeof(when), entry->arrived_ms);
	message = queue_get(service->queue, entry, arena, &why);
	if (message == NULL) {
		arena_free(&arena);
		return;		/* set aside, and logged */
	}
	buf_printf(&line, "%s %" PRIu32 " %s %s <%s>", entry->id, entry->size,
	    when, state, message->envelope.sender);
	for (rcpt = message->envelope.recipients; rcpt != NULL &&
	    line.len < PART_SIZE / 2; rcpt = rcpt->next)
		buf_printf(&line, " <%s>", rcpt->address);
	if (rcpt != NULL)
		buf_puts(&line, " ...");
	buf_putc(&line, '\n');
	add_line(answer, line.data);
	queue_put(service->queue, &message);
	buf_release(&line);
	arena_free(&arena);
}

static const char *
do_list(struct service *service, struct answer_state *answer, const char *id)
{
	struct id_list list = { .room = queue_count(service->queue) };
	struct queue_entry *entry;

	(void)id;
	if (list.room == 0)
		return NULL;
	if ((list.ids = calloc(list.room, sizeof(*list.ids))) == NULL)
		return "out of memory";
	queue_each(service->queue, note_id, &list);
	for (size_t i = 0; i < list.count && !answer->broken; i++) {
		if (i % YIELD_EVERY == YIELD_EVERY - 1)
			task_yield();
		/* It may have been delivered meanwhile. */
		if ((entry = queue_find(service->queue, list.ids[i])) != NULL)
			list_one(service, answer, entry);
	}
	free(list.ids);
	return NULL;
}

static void
add_field(struct answer_state *answer, const char *name, const char *format,
    ...) __attribute__((format(printf, 3, 4)));

static void
add_field(struct answer_state *answer, const char *name, const char *format,
    ...)
{
	struct buf line = BUF_INIT;
	va_list arguments;

	buf_printf(&line, "%s: ", name);
	va_start(arguments, format);
	buf_vprintf(&line, format, arguments);
	va_end(arguments);
	buf_putc(&line, '\n');
	add_line(answer, line.data);
	buf_release(&line);
}

/* The header section of a message, as far as it fits one part. */
static void
add_header(struct answer_state *answer, const struct queue_message *message)
{
	char text[PART_SIZE];
	size_t len = message->content_count == 0 ? 0 : message->content[0].len;
	char *end;

	if (len == 0)
		return;
	if (len > sizeof(text) - 1)
		len = sizeof(text) - 1;
	if (message->content[0].data != NULL)
		memcpy(text, message->content[0].data, len);
	else if (pread(message->content[0].fd, text, len,
	    message->content[0].offset) != (ssize_t)len)
		return;
	text[len] = '\0';
	if ((end = strstr(text, "\r\n\r\n")) != NULL)
		end[2] = '\0';
	add_line(answer, "\n");
	flush_part(answer);
	add_line(answer, text);
}

static const char *
do_show(struct service *service, struct answer_state *answer, const char *id)
{
	struct queue_entry *entry = queue_find(service->queue, id);
	struct arena *arena;
	struct queue_message *message;
	const struct recipient *rcpt;
	const char *why;
	char when[32];

	if (entry == NULL)
		return "no such message";
	arena = arena_new(0);
	message = queue_get(service->queue, entry, arena, &why);
	if (message == NULL) {
		arena_free(&arena);
		return "it could not be read and was set aside; see the log";
	}
	add_field(answer, "id", "%s", entry->id);
	print_time(when, sizeof(when), entry->arrived_ms);
	add_field(answer, "arrived", "%s", when);
	add_field(answer, "size", "%" PRIu32, entry->size);
	add_field(answer, "state", "%s", state_of(entry));
	if (entry->hold && message->envelope.hold_reason != NULL)
		add_field(answer, "held because", "%s",
		    message->envelope.hold_reason);
	add_field(answer, "attempts", "%" PRIu32, entry->attempts);
	if (entry->next_try_ms > clock_wall_ms()) {
		print_time(when, sizeof(when), entry->next_try_ms);
		add_field(answer, "next try", "%s", when);
	}
	add_field(answer, "client", "%s", message->envelope.client != NULL ?
	    message->envelope.client : "");
	add_field(answer, "from", "<%s>", message->envelope.sender);
	for (rcpt = message->envelope.recipients; rcpt != NULL;
	    rcpt = rcpt->next)
		add_field(answer, "to", "<%s>", rcpt->address);
	add_header(answer, message);
	queue_put(service->queue, &message);
	arena_free(&arena);
	return NULL;
}

static const char *
do_flush(struct service *service, struct answer_state *answer, const char *id)
{
	size_t count = relay_flush(service->relay, *id != '\0' ? id : NULL);

	if (count == 0 && *id != '\0')
		return "no such message, or it is being delivered";
	add_field(answer, "flushed", "%zu", count);
	return NULL;
}

static const char *
do_hold(struct service *service, struct answer_state *answer, const char *id)
{
	const char *why;

	(void)answer;
	return relay_hold(service->relay, id, &why) == 0 ? NULL : why;
}

static const char *
do_release(struct service *service, struct answer_state *answer,
    const char *id)
{
	const char *why;

	(void)answer;
	return relay_release(service->relay, id, &why) == 0 ? NULL : why;
}

static const char *
do_delete(struct service *service, struct answer_state *answer, const char *id)
{
	const char *why;

	(void)answer;
	return relay_delete(service->relay, id, &why) == 0 ? NULL : why;
}

static void
add_lines(struct answer_state *answer, struct buf *text)
{
	char *rest = text->data, *line;

	while (rest != NULL && (line = strsep(&rest, "\n")) != NULL)
		if (*line != '\0') {
			struct buf whole = BUF_INIT;

			buf_printf(&whole, "%s\n", line);
			add_line(answer, whole.data);
			buf_release(&whole);
		}
	buf_release(text);
}

static const char *
do_sites(struct service *service, struct answer_state *answer, const char *id)
{
	struct buf text = BUF_INIT;

	(void)id;
	relay_print(service->relay, &text);
	add_lines(answer, &text);
	return NULL;
}

/* Not a reason: the answer is another task's. */
static const char answers_later[] = "later";

static const char no_reports[] =
    "no reports are made: dmarc_report has no email";

static const char *
do_dmarc_list(struct service *service, struct answer_state *answer,
    const char *domain)
{
	struct buf text = BUF_INIT;
	const char *why;

	(void)domain;
	if (!report_sender_reports(service->reports))
		return no_reports;
	why = report_sender_list(service->reports, &text);
	add_lines(answer, &text);
	return why;
}

/* Reports that are sent for somebody who waits for the answer. */
struct sending {
	struct answer_state answer;
	struct report_sender *reports;
	char domain[WORD_SIZE];
	struct buf lines;		/* not yet told */
	const char *why;
};

static void
send_reports(void *argument)
{
	struct sending *sending = argument;

	sending->why = report_sender_force(sending->reports, sending->domain,
	    &sending->lines);
}

/* Tells what is said meanwhile; at times that it goes on. */
static void
tell_reports(void *argument)
{
	struct sending *sending = argument;
	struct task *task = task_start("dmarc-send", send_reports, sending);
	struct buf lines;

	while (task_join(&task, task_deadline(SIGN_OF_LIFE_MS)) == -1 &&
	    errno == ETIMEDOUT) {
		lines = sending->lines;
		sending->lines = (struct buf)BUF_INIT;
		add_lines(&sending->answer, &lines);
		flush_part(&sending->answer);
		send_text(&sending->answer, "+");
	}
	task_reap(&task);
	add_lines(&sending->answer, &sending->lines);
	finish(&sending->answer, sending->why);
	free(sending);
}

/* In a task of its own, as others ask meanwhile. */
static const char *
do_dmarc_send(struct service *service, struct answer_state *answer,
    const char *domain)
{
	struct sending *sending;

	if (!report_sender_reports(service->reports))
		return no_reports;
	if ((sending = calloc(1, sizeof(*sending))) == NULL)
		fatal("out of memory");
	sending->answer = *answer;
	sending->reports = service->reports;
	snprintf(sending->domain, sizeof(sending->domain), "%s", domain);
	task_detach("dmarc-send", tell_reports, sending);
	return answers_later;
}

/* Returns NULL, or why it can't be done. */
static const struct {
	const char *word;
	bool changes;			/* something: it is logged */
	const char *(*act)(struct service *, struct answer_state *,
	    const char *id);
} commands[] = {
	{ "list",	false,	do_list },
	{ "show",	false,	do_show },
	{ "flush",	true,	do_flush },
	{ "hold",	true,	do_hold },
	{ "release",	true,	do_release },
	{ "delete",	true,	do_delete },
	{ "sites",	false,	do_sites },
	{ "dmarc-list",	false,	do_dmarc_list },
	{ "dmarc-send",	true,	do_dmarc_send },
};

static void
serve_one(struct service *service, const char *text)
{
	struct answer_state answer = { .link = service->link };
	char word[16] = "", id[WORD_SIZE] = "";
	const char *why;

	if (sscanf(text, "%lu %15s %255s", &answer.number, word, id) < 2) {
		log_warn(NULL, "the console sent a request that makes no "
		    "sense");
		return;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(commands[i].word, word) == 0) {
			if (commands[i].changes)
				log_info(NULL, "operator: queue %s %s", word,
				    id);
			why = commands[i].act(service, &answer, id);
			if (why != answers_later)
				finish(&answer, why);
			return;
		}
	finish(&answer, "no such command");
}

static void
serve(void *argument)
{
	struct service *service = argument;
	struct task_fd fd;
	char text[LINK_MESSAGE_MAX];
	ssize_t len;
	int passed;

	task_fd_init(&fd, service->link);
	for (;;) {
		len = link_receive(service->link, text, &passed);
		if (passed != -1)
			close(passed);
		if (len > 0)
			serve_one(service, text);
		else if (len == 0 || (errno != EAGAIN && errno != EINTR) ||
		    task_fd_wait(&fd, TASK_READ, DEADLINE_NEVER) != 0)
			break;
	}
	task_fd_release(&fd);
	free(service);
}

void
queue_command_serve(int link, struct queue *queue, struct relay *relay,
    struct report_sender *reports)
{
	struct service *service = calloc(1, sizeof(*service));

	if (service == NULL)
		fatal("out of memory");
	*service = (struct service){ link, queue, relay, reports };
	task_detach("queue commands", serve, service);
}
