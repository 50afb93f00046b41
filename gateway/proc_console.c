/*
 * The console process, one of them.  Runs as user millgate-console with the
 * state directory as its root.  May write the history, read the counters of
 * all processes, accept control and metrics clients, ask the relay about the
 * queue and the master for a reload or a stop, the policy process to do a command.  It
 * connects to nothing by itself and sees neither spool nor keys.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/console.h"
#include "gateway/control_queue.h"
#include "gateway/control_server.h"
#include "gateway/event.h"
#include "gateway/feedback.h"
#include "gateway/history.h"
#include "gateway/link.h"
#include "gateway/metrics.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "policy/client.h"
#include "policy/protocol.h"

#define KEEP_HOUSE_MS 1000

/* How long a command of policy's may take. */
#define POLICY_MS 30000

/*
 * Clients may finish what they asked, but nobody waits long for them; who asked
 * for the reload that ends us hears its outcome within this time.
 */
#define CLIENTS_DRAIN_MS 8000

static const struct counter_row counters[] = {
	{ "millgate_history_events_total", COUNTER_TOTAL,
	    "Events written to the history." },
	{ "millgate_history_lost_total", COUNTER_TOTAL,
	    "Events that could not be written to the history." },
	{ "millgate_history_messages", COUNTER_GAUGE,
	    "Messages and sessions in the history." },
	{ "millgate_history_bytes", COUNTER_GAUGE,
	    "Room that the history takes." },
};
COUNTER_TABLE(counters)

struct console {
	const struct conf *conf;
	struct history *history;
	struct control_queue *queue;
	struct control_server *control;
	struct metrics *metrics;
	struct feedback *feedback;	/* or NULL */
	struct counter_block *blocks[PROCESS_SLOTS];
	struct task *reader, *housekeeper;
	struct history_statistics told;	/* as the counters have it */
	bool malformed;			/* said so in the log */
	int64_t deadline;		/* of the drain */
	unsigned reloads;		/* that we were told the outcome of */
	enum answer taken;		/* that of the last, */
	char reload_text[LINK_MESSAGE_MAX];	/* and what was said */
	struct task_cond reloaded;
};

static struct console console;

static enum answer
ask_reload(struct buf *text, int64_t deadline)
{
	unsigned before = console.reloads;

	if (process_ask_master("reload") != 0)
		return ANSWER_UNKNOWN;
	while (console.reloads == before)
		if (task_cond_wait(&console.reloaded, deadline) != 0)
			return ANSWER_UNKNOWN;
	buf_puts(text, console.reload_text);
	return console.taken;
}

/* "reloaded ok TEXT", "reloaded error TEXT": of the reload we asked for. */
void
console_message(struct process *process, const char *text)
{
	static const char ok[] = "reloaded ok ", error[] = "reloaded error ";

	(void)process;
	console.taken = strncmp(text, ok, strlen(ok)) == 0 ? ANSWER_YES :
	    ANSWER_NO;
	if (console.taken == ANSWER_NO &&
	    strncmp(text, error, strlen(error)) != 0)
		fatal("the master sent \"%s\"", text);
	text += console.taken == ANSWER_YES ? strlen(ok) : strlen(error);
	snprintf(console.reload_text, sizeof(console.reload_text), "%s", text);
	console.reloads++;
	task_cond_broadcast(&console.reloaded);
}

/* The first line of its answer says what came of it (policy/server.c). */
static int
understand(const struct buf *answer, struct buf *text, const char **why)
{
	static char problem[512];
	const char *end = answer->len == 0 ? NULL :
	    memchr(answer->data, '\n', answer->len);
	const char *word = "";
	int rc = -1;

	*why = "the policy process sent nonsense";
	if (end == NULL || strncmp(answer->data, "action=", 7) != 0)
		return -1;
	word = answer->data + 7;
	if (strncmp(word, "OK ", 3) == 0) {
		buf_append(text, end + 1, answer->len -
		    (size_t)(end + 1 - answer->data));
		return 0;
	}
	if (strncmp(word, "USAGE ", 6) == 0)
		rc = -2;
	else if (strncmp(word, "ERROR ", 6) != 0)
		return -1;
	snprintf(problem, sizeof(problem), "%.*s", (int)(end - word - 6),
	    word + 6);
	*why = problem;
	return rc;
}

static int
ask_policy(const char *command, struct buf *text, const char **why)
{
	struct policy_client *client = policy_client_new(console.conf, why);
	int64_t deadline = task_deadline(POLICY_MS);
	struct buf request = BUF_INIT, answer = BUF_INIT;
	int rc = -1;

	if (client == NULL)
		return -1;
	policy_put(&request, POLICY_REQUEST, POLICY_REQUEST_COMMAND);
	policy_put(&request, POLICY_COMMAND, command);
	policy_end(&request);
	if (policy_client_send(client, &request, deadline, why) == 0 &&
	    policy_client_receive(client, &answer, deadline, why) == 0)
		rc = understand(&answer, text, why);
	policy_client_free(&client);
	buf_release(&request);
	buf_release(&answer);
	return rc;
}

/* One packet of events.  0: it was read; else as recv(2). */
static int
read_packet(void)
{
	static char packet[EVENT_PACKET_MAX];
	struct event event;
	size_t offset = 0;
	ssize_t len;

	len = recv(PROCESS_FD_EVENTS, packet, sizeof(packet),
	    MSG_DONTWAIT | MSG_TRUNC);
	if (len < 0)
		return -1;
	if ((size_t)len > sizeof(packet))
		len = 0;	/* none of ours is so long */
	while (offset < (size_t)len && event_unpack(packet, (size_t)len,
	    &offset, &event))
		history_add(console.history, &event);
	if (offset == (size_t)len && len > 0)
		return 0;
	if (!console.malformed)
		log_warn(NULL, "a packet of events makes no sense");
	console.malformed = true;
	return 0;
}

static void
read_events(void *argument)
{
	struct task_fd ready;

	(void)argument;
	task_fd_init(&ready, PROCESS_FD_EVENTS);
	for (;;) {
		if (read_packet() == 0 && !ready.hangup)
			task_yield();
		else if ((errno != EAGAIN && errno != EINTR) || ready.hangup ||
		    task_fd_wait(&ready, TASK_READ, DEADLINE_NEVER) != 0)
			break;
	}
	task_fd_release(&ready);
}

static void
set_gauge(const char *name, int64_t value, int64_t *told)
{
	counter_add(counter_get(name, NULL), value - *told);
	*told = value;
}

static void
count_history(void)
{
	struct history_statistics now, *told = &console.told;

	history_statistics(console.history, &now);
	counter_add(counter_get("millgate_history_events_total", NULL),
	    (int64_t)(now.events - told->events));
	counter_add(counter_get("millgate_history_lost_total", NULL),
	    (int64_t)(now.lost - told->lost));
	told->events = now.events;
	told->lost = now.lost;
	set_gauge("millgate_history_messages", now.messages, &told->messages);
	set_gauge("millgate_history_bytes", now.size, &told->size);
}

static void
keep_house(void *argument)
{
	(void)argument;
	while (task_sleep(KEEP_HOUSE_MS) == 0) {
		history_commit(console.history);
		while (history_trim(console.history, clock_wall_ms()))
			task_yield();
		history_commit(console.history);
		count_history();
	}
}

int
console_prepare(struct process *process, const char **why)
{
	(void)why;
	process->own = &console;
	for (unsigned i = 0; i < PROCESS_SLOTS; i++)
		console.blocks[i] = process_counters(process, i);
	return 0;
}

static int
open_history(const struct process *process,
    const struct console_options *options, const char **why)
{
	char directory[4096], path[4096 + 16];

	snprintf(directory, sizeof(directory), "%s/console",
	    process_state_directory(process));
	if (mkdir(directory, 0700) != 0 && errno != EEXIST) {
		*why = "cannot make the history's directory";
		return -1;
	}
	snprintf(path, sizeof(path), "%s/history.db", directory);
	console.history = history_open(&(struct history_settings){
	    .path = path, .keep_ms = options->history,
	    .max_size = options->history_size }, why);
	return console.history == NULL ? -1 : 0;
}

static int
open_feedback(const struct process *process,
    const struct console_options *options, const char **why)
{
	char *token;

	if (options->feedback[0] == NULL)
		return 0;
	token = conf_secret(process->conf, options->feedback_token, why);
	if (token == NULL)
		return -1;
	console.feedback = feedback_new(token, ask_policy);
	free(token);
	return 0;
}

static int
listen_all(const struct process *process, const char **why)
{
	for (size_t i = 0; i < process->listener_count; i++) {
		const struct process_listener *l = &process->listeners[i];

		if (strcmp(l->name, "control") == 0)
			control_server_listen(console.control, l->fd);
		else if (strcmp(l->name, "metrics") == 0 &&
		    metrics_listen(console.metrics, l->fd, why) != 0)
			return -1;
		else if (strcmp(l->name, "feedback") == 0 &&
		    feedback_listen(console.feedback, l->fd, why) != 0)
			return -1;
	}
	return 0;
}

int
console_start(struct process *process, const char **why)
{
	const struct console_options *options = conf_get(process->conf,
	    "console");

	if (open_history(process, options, why) != 0)
		return -1;
	console.conf = process->conf;
	console.queue = control_queue_new(PROCESS_FD_QUEUE);
	console.control = control_server_new(&(struct control_service){
	    .history = console.history, .keep_ms = options->history,
	    .queue = console.queue, .blocks = console.blocks,
	    .block_count = PROCESS_SLOTS, .ask_master = process_ask_master,
	    .reload = ask_reload, .policy = ask_policy,
	});
	console.metrics = metrics_new(console.blocks, PROCESS_SLOTS);
	if (open_feedback(process, options, why) != 0)
		return -1;
	console.reader = task_start("events", read_events, NULL);
	console.housekeeper = task_start("history", keep_house, NULL);
	return listen_all(process, why);
}

/* What the others told before they ended is still in the socket. */
static void
finish(void *argument)
{
	int64_t deadline = task_deadline(CLIENTS_DRAIN_MS);

	(void)argument;
	control_server_drain(console.control, deadline < console.deadline ?
	    deadline : console.deadline);
	control_server_free(&console.control);
	metrics_free(&console.metrics);
	feedback_free(&console.feedback);
	control_queue_free(&console.queue);
	task_reap(&console.housekeeper);
	task_reap(&console.reader);
	while (task_now() < console.deadline && read_packet() == 0)
		task_yield();
	history_close(&console.history);
	task_stop();
}

void
console_drain(struct process *process, int64_t deadline)
{
	(void)process;
	console.deadline = deadline;
	task_detach("drain", finish, NULL);
}
