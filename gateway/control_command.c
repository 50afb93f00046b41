/* What millgatectl can ask. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/io.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/control_format.h"
#include "gateway/control_private.h"
#include "gateway/control_queue.h"
#include "gateway/event.h"
#include "gateway/history.h"
#include "policy/profile.h"

#define QUEUE_TIMEOUT_MS 10000

/* A question to see whether the relay is there. */
#define RELAY_PING_MS 2000

/* How long the children of a new configuration may take to be ready. */
#define RELOAD_MS 7000

/* A search gives up after that time, and says how far it came. */
#define SEARCH_MS 30000

static void
put_lines(struct control_client *client, const char *text)
{
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		control_put(client, "%.*s", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

/* --- queue --- */

static int
ask_queue(struct control_client *client, const char *request,
    control_line_f *f, void *argument, char why[CONTROL_WHY_SIZE])
{
	const struct control_service *service = client->service;

	return control_queue_ask(service->queue, request,
	    service->queue_timeout_ms > 0 ? service->queue_timeout_ms :
	    QUEUE_TIMEOUT_MS, f, argument, why);
}

struct queue_list {
	struct control_client *client;
	size_t count;
};

static int
list_line(const char *line, void *argument)
{
	struct queue_list *list = argument;
	struct buf text = BUF_INIT;

	if (list->count++ == 0) {
		control_format_queue_head(&text);
		control_put(list->client, "%s", text.data);
		buf_reset(&text);
	}
	control_format_queue_line(&text, line);
	control_put(list->client, "%s", text.data);
	buf_release(&text);
	return control_flow(list->client);
}

static void
queue_list(struct control_client *client)
{
	struct queue_list list = { client, 0 };
	char why[CONTROL_WHY_SIZE];

	if (ask_queue(client, "list", list_line, &list, why) != 0) {
		control_end(client, "error", why);
		return;
	}
	if (list.count == 0)
		control_put(client, "queue is empty");
	else
		control_put(client, "-- %zu message%s", list.count,
		    list.count == 1 ? "" : "s");
	control_end(client, "ok", NULL);
}

static int
pass_line(const char *line, void *argument)
{
	struct control_client *client = argument;

	control_put(client, "%s", line);
	return control_flow(client);
}

/* done: what to say when the relay says nothing, or NULL. */
static void
queue_pass(struct control_client *client, const char *word, const char *id,
    const char *done)
{
	char why[CONTROL_WHY_SIZE], request[64];

	snprintf(request, sizeof(request), "%s%s%s", word,
	    id != NULL ? " " : "", id != NULL ? id : "");
	if (ask_queue(client, request, pass_line, client, why) != 0) {
		control_end(client, "error", why);
		return;
	}
	if (done != NULL)
		control_put(client, "%s: %s", id, done);
	control_end(client, "ok", NULL);
}

enum id_use { ID_NONE, ID_MAY, ID_MUST };

static const struct {
	const char *word;
	enum id_use id;
	const char *done;
} queue_words[] = {
	{ "list",	ID_NONE,	NULL },
	{ "show",	ID_MUST,	NULL },
	{ "flush",	ID_MAY,		NULL },
	{ "hold",	ID_MUST,	"held" },
	{ "release",	ID_MUST,	"released" },
	{ "delete",	ID_MUST,	"deleted" },
	{ "sites",	ID_NONE,	NULL },
};

static void
do_queue(struct control_client *client, const struct control_request *request)
{
	const char *word = request->count > 1 ? request->words[1] : "";
	const char *id = request->count > 2 ? request->words[2] : NULL;
	size_t i, count = sizeof(queue_words) / sizeof(queue_words[0]);

	for (i = 0; i < count; i++)
		if (strcmp(queue_words[i].word, word) == 0)
			break;
	if (i == count || request->count > 3 ||
	    (id == NULL && queue_words[i].id == ID_MUST) ||
	    (id != NULL && queue_words[i].id == ID_NONE)) {
		control_end(client, "usage", "queue list|sites|flush [id] or "
		    "queue show|hold|release|delete id");
		return;
	}
	if (id != NULL && !control_is_id(id))
		control_end(client, "error", "that is not an id");
	else if (strcmp(word, "list") == 0)
		queue_list(client);
	else
		queue_pass(client, word, id, queue_words[i].done);
}

/* --- reports --- */

static bool
is_domain(const char *text)
{
	return strlen(text) <= 253 && text[strspn(text,
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	    "0123456789.-_")] == '\0';
}

static void
do_dmarc(struct control_client *client, const struct control_request *request)
{
	const char *word = request->words[1];
	const char *domain = request->count > 2 ? request->words[2] : "";
	char why[CONTROL_WHY_SIZE], line[300];

	if (!(strcmp(word, "list") == 0 && request->count == 2) &&
	    !(strcmp(word, "send") == 0 && is_domain(domain))) {
		control_end(client, "usage", "dmarc list|send [domain]");
		return;
	}
	snprintf(line, sizeof(line), "dmarc-%s %s", word, domain);
	if (ask_queue(client, line, pass_line, client, why) != 0)
		control_end(client, "error", why);
	else
		control_end(client, "ok", NULL);
}

/* --- policy --- */

static void
do_policy(struct control_client *client,
    const struct control_request *request)
{
	struct buf command = BUF_INIT, text = BUF_INIT;
	const char *why = "there is no policy process";
	int rc = -1;

	for (size_t i = 0; i < request->count; i++)
		buf_printf(&command, "%s%s", i > 0 ? " " : "",
		    request->words[i]);
	if (client->service->policy != NULL)
		rc = client->service->policy(command.data, &text, &why);
	if (text.data != NULL)
		put_lines(client, text.data);
	control_end(client, rc == 0 ? "ok" : rc == -2 ? "usage" : "error",
	    rc == 0 ? NULL : why);
	buf_release(&command);
	buf_release(&text);
}

/* --- explain --- */

struct explanation {
	struct control_client *client;
	int64_t number;
};

static void
put_field(struct control_client *client, const char *name, const char *text)
{
	if (text[0] != '\0')
		control_put(client, "  %-11s %s", name, text);
}

static void
explain_message(const struct history_message *message, void *argument)
{
	struct explanation *explanation = argument;
	struct control_client *client = explanation->client;
	struct buf sender = BUF_INIT;
	char when[CONTROL_TIME_SIZE];

	explanation->number = message->number;
	control_put(client, "%s", message->id);
	put_field(client, "first seen",
	    control_format_time(message->time_ms, when));
	put_field(client, "client", message->client);
	/* Of a session that ended before MAIL nothing is known. */
	if (message->sender[0] != '\0' || message->recipients[0] != '\0') {
		buf_printf(&sender, "<%s>", message->sender);
		put_field(client, "sender", sender.data);
	}
	put_field(client, "recipients", message->recipients);
	put_field(client, "outcome", message->outcome);
	buf_release(&sender);
}

/* One event: when and what, then its text, indented. */
static void
explain_event(const struct event *event, void *argument)
{
	struct explanation *explanation = argument;
	struct control_client *client = explanation->client;
	bool delivery = strcmp(event->kind, "delivery") == 0;
	const char *text = event->text;
	char when[CONTROL_TIME_SIZE];

	control_put(client, "%s", "");
	control_format_time(event->time_ms, when);
	if (delivery && event->recipients[0] != '\0')
		control_put(client, "%s  delivery to <%s>: %s", when,
		    event->recipients, event->outcome);
	else
		control_put(client, "%s  %s: %s", when,
		    delivery ? "queue" : event->kind, event->outcome);
	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		control_put(client, "    %.*s", (int)len, text);
		text += len + (text[len] == '\n');
	}
}

static void
explain_not_found(struct control_client *client)
{
	char why[200], span[CONTROL_SPAN_SIZE];

	snprintf(why, sizeof(why), "no such id in the history, which goes "
	    "back %s; ids stand in log lines and at the end of replies "
	    "([reason id])", control_format_span(client->service->keep_ms,
	    span));
	control_end(client, "error", why);
}

static void
do_explain(struct control_client *client,
    const struct control_request *request)
{
	struct history *history = client->service->history;
	struct explanation explanation = { client, 0 };
	int64_t next = 0;
	bool more = true;

	if (!control_is_id(request->words[1])) {
		explain_not_found(client);
		return;
	}
	switch (history_find(history, request->words[1], explain_message,
	    &explanation)) {
	case ANSWER_NO:
		explain_not_found(client);
		return;
	case ANSWER_UNKNOWN:
		control_end(client, "error",
		    "the history can't be read; see the log");
		return;
	case ANSWER_YES:
		break;
	}
	while (more && control_flow(client) == 0) {
		more = history_events(history, explanation.number, &next,
		    explain_event, &explanation);
		task_yield();
	}
	control_end(client, "ok", NULL);
}

/* --- history --- */

static void
history_line(const struct history_message *message, void *argument)
{
	struct control_client *client = argument;
	char when[CONTROL_TIME_SIZE];

	control_format_time(message->time_ms, when);
	control_put(client, "%.19s  %-16s %-9s %s <%s> %s", when, message->id,
	    message->outcome, message->client[0] != '\0' ? message->client :
	    "-", message->sender, message->recipients);
}

static void
do_history(struct control_client *client,
    const struct control_request *request)
{
	int64_t before = INT64_MAX, deadline = task_deadline(SEARCH_MS);
	char text[CONTROL_LINE_MAX];
	const char *why;
	size_t limit;

	if (control_parse_history(request, text, &limit, &why) != 0) {
		control_end(client, "usage", why);
		return;
	}
	while (history_search(client->service->history,
	    text[0] != '\0' ? text : NULL, &before, &limit, history_line,
	    client)) {
		task_yield();
		if (control_flow(client) != 0)
			return;
		if (task_now() > deadline) {
			control_end(client, "error", "the search took too "
			    "long; older messages were not looked at");
			return;
		}
	}
	control_end(client, "ok", NULL);
}

/* --- the gateway as a whole --- */

static void
do_stats(struct control_client *client, const struct control_request *request)
{
	const struct control_service *service = client->service;
	struct buf counters = BUF_INIT, text = BUF_INIT;

	(void)request;
	counter_print(&counters, service->blocks, service->block_count);
	if (counters.data != NULL)
		control_format_counters(&text, counters.data);
	if (text.data != NULL)
		put_lines(client, text.data);
	else
		control_put(client, "nothing was counted yet");
	control_end(client, "ok", NULL);
	buf_release(&counters);
	buf_release(&text);
}

static int
ignore_line(const char *line, void *argument)
{
	(void)line;
	(void)argument;
	return 0;
}

static void
do_status(struct control_client *client,
    const struct control_request *request)
{
	const struct control_service *service = client->service;
	struct history_statistics history;
	char why[CONTROL_WHY_SIZE], size[CONTROL_BYTES_SIZE];
	char span[CONTROL_SPAN_SIZE];

	(void)request;
	control_put(client, "Millgate %s is running", PACKAGE_VERSION);
	control_put(client, "  %-11s process %d", "console", (int)getpid());
	if (control_queue_ask(service->queue, "sites", RELAY_PING_MS,
	    ignore_line, NULL, why) == 0)
		put_field(client, "relay", "answers");
	else
		put_field(client, "relay", why);
	history_statistics(service->history, &history);
	control_put(client, "  %-11s %" PRId64 " messages, %s", "history",
	    history.messages, control_format_bytes(history.size, size));
	if (history.oldest_ms > 0)
		control_put(client, "  %-11s the last %s", "",
		    control_format_span(clock_wall_ms() - history.oldest_ms,
		    span));
	if (history.lost > 0)
		control_put(client, "  %-11s %" PRIu64 " events could not be "
		    "recorded", "", history.lost);
	control_end(client, "ok", NULL);
}

static void
do_reload(struct control_client *client,
    const struct control_request *request)
{
	struct buf text = BUF_INIT;
	enum answer taken;

	(void)request;
	log_info(NULL, "operator: reload");
	taken = client->service->reload(&text, task_deadline(RELOAD_MS));
	if (text.data != NULL)
		put_lines(client, text.data);
	buf_release(&text);
	if (taken == ANSWER_NO) {
		control_end(client, "error", "the reload failed; the "
		    "configuration before it is in use");
		return;
	}
	if (taken == ANSWER_UNKNOWN)
		control_put(client, "reloading; the log will say how it ends");
	control_end(client, "ok", NULL);
}

static void
do_stop(struct control_client *client, const struct control_request *request)
{
	(void)request;
	log_info(NULL, "operator: stop");
	if (client->service->ask_master("stop") != 0) {
		control_end(client, "error", strerror(errno));
		return;
	}
	control_put(client, "stopping");
	control_end(client, "ok", NULL);
}

static const struct {
	const char *word;
	size_t min, max;		/* words, this one included */
	void (*act)(struct control_client *, const struct control_request *);
	const char *usage;
} commands[] = {
	{ "queue",	1, 32,	do_queue,	NULL },
	{ "dmarc",	2, 3,	do_dmarc,	"dmarc list|send [domain]" },
	{ "explain",	2, 2,	do_explain,	"explain id" },
	{ "history",	1, 32,	do_history,	NULL },
	{ "stats",	1, 1,	do_stats,	"stats" },
	{ "status",	1, 1,	do_status,	"status" },
	{ "reload",	1, 1,	do_reload,	"reload" },
	{ "stop",	1, 1,	do_stop,	"stop" },
};

void
control_command(struct control_client *client,
    const struct control_request *request)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(commands[i].word, request->words[0]) != 0)
			continue;
		if (request->count < commands[i].min ||
		    request->count > commands[i].max)
			control_end(client, "usage", commands[i].usage);
		else
			commands[i].act(client, request);
		return;
	}
	if (profiles_command_known(request->words[0])) {
		do_policy(client, request);
		return;
	}
	control_end(client, "usage", "queue, dmarc, explain, history, stats, "
	    "status, reload, stop, or a command of policy's");
}
