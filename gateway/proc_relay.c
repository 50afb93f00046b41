/*
 * The relay process, one of them.  Runs as user millgate-relay with the spool
 * as its root directory.  May read the spool, connect to next hops, write its
 * journal and segments of its own (bounces and reports, which the filter hosts
 * sign).  It listens on no port; it answers to the console's requests about the
 * queue and reports.
 */
#include "config.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/policy_link.h"
#include "gateway/event.h"
#include "gateway/notice.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "gateway/queue.h"
#include "gateway/queue_command.h"
#include "gateway/relay.h"
#include "gateway/report_send.h"
#include "gateway/settings.h"
#include "gateway/spool.h"
#include "policy/service.h"

#define LARGE_MESSAGE (1 << 20)
#define SEGMENT_SIZE (16 << 20)

struct relay_process {
	struct relay *relay;
	struct queue *queue;
	struct spool *spool;
	struct report_sender *reports;	/* NULL: none are made */
	struct notices *notices;	/* mail of our own */
	struct policy_link *policy;
	int64_t deadline;		/* of the drain */
};

static struct relay_process state;

/* What became of a recipient goes to the history. */
static void
tell_history(const char *id, const char *recipient, const char *outcome,
    const char *text, void *argument)
{
	(void)argument;
	event_send(&(struct event){
	    .time_ms = clock_wall_ms(), .id = id, .kind = "delivery",
	    .client = "", .sender = "", .recipients = recipient,
	    .outcome = outcome, .text = text != NULL ? text : "",
	});
}

/* Services of policy learn that the sender has a bad list of addresses. */
static void
tell_policy(const struct envelope *envelope, const char *recipient,
    void *argument)
{
	const char *open = envelope->client == NULL ? NULL :
	    strrchr(envelope->client, '[');
	struct buf request = BUF_INIT;
	char address[64] = "";

	(void)argument;
	if (open != NULL)
		snprintf(address, sizeof(address), "%.*s",
		    (int)strcspn(open + 1, "]"), open + 1);
	policy_put(&request, POLICY_REQUEST, POLICY_REQUEST_OUTCOME);
	policy_put(&request, POLICY_OUTCOME,
	    policy_outcome_name(OUTCOME_BOUNCED));
	policy_put(&request, POLICY_EVENT, envelope->id);
	policy_put(&request, POLICY_CLIENT_ADDRESS, address);
	policy_put(&request, POLICY_SASL_USERNAME, envelope->user);
	policy_put(&request, POLICY_SENDER, envelope->sender);
	policy_put(&request, POLICY_RECIPIENT, recipient);
	policy_end(&request);
	policy_link_tell(state.policy, &request);
	buf_release(&request);
}

int
relay_prepare(struct process *process, const char **why)
{
	const struct top_options *top = conf_get(process->conf, "");

	if (process_open_dns(process, why) != 0)
		return -1;
	state.notices = notices_new(&(struct notices_settings){
	    .conf = process->conf,
	    .hostname = top->hostname,
	    .host_directory = top->run_directory,
	}, why);
	if (state.notices == NULL)
		return -1;
	state.reports = report_sender_new(process->conf, top->hostname,
	    state.notices);
	state.policy = policy_link_new(process->conf, "relay", why);
	if (state.policy == NULL)
		return -1;
	state.relay = relay_new(&(struct relay_settings){
	    .conf = process->conf,
	    .hostname = top->hostname,
	    .notices = state.notices,
	    .event = tell_history,
	    .bounced = tell_policy,
	}, why);
	return state.relay == NULL ? -1 : 0;
}

/* The gateways ring when they have committed messages. */
static void
hear_doorbell(void *argument)
{
	struct task_fd doorbell;
	uint64_t rings;

	(void)argument;
	task_fd_init(&doorbell, PROCESS_FD_DOORBELL);
	for (;;) {
		if (read(PROCESS_FD_DOORBELL, &rings, sizeof(rings)) ==
		    sizeof(rings))
			queue_poll(state.queue);
		else if (errno != EAGAIN || task_fd_wait(&doorbell, TASK_READ,
		    DEADLINE_NEVER) != 0)
			break;
	}
	task_fd_release(&doorbell);
}

static int
open_queue(struct process *process, const char **why)
{
	const struct top_options *top = conf_get(process->conf, "");
	const char *directory = process_spool_directory(process);
	char writer[16];

	snprintf(writer, sizeof(writer), "r%u", process->slot);
	state.spool = spool_open(&(struct spool_settings){
	    .directory = directory,
	    .writer = writer,
	    .segment_size = SEGMENT_SIZE,
	    .large_size = LARGE_MESSAGE,
	    .minimum_free = top->minimum_free / 2,
	    .tail = &process->tails[process->slot],
	    .doorbell_fd = PROCESS_FD_DOORBELL,
	}, why);
	if (state.spool == NULL)
		return -1;
	notices_set_spool(state.notices, state.spool);
	state.queue = queue_open(&(struct queue_settings){
	    .directory = directory,
	    .tails = process->tails,
	    .tail_count = PROCESS_SLOTS,
	    .compaction = state.spool,
	}, relay_found, state.relay, why);
	return state.queue == NULL ? -1 : 0;
}

int
relay_start_process(struct process *process, const char **why)
{
	event_open(PROCESS_FD_EVENTS);
	if (open_queue(process, why) != 0)
		return -1;
	if (queue_count(state.queue) > 0)
		log_info(NULL, "queue: %zu messages",
		    queue_count(state.queue));
	relay_start(state.relay, state.queue);
	task_detach("doorbell", hear_doorbell, NULL);
	if (state.reports != NULL)
		report_sender_start(state.reports, state.queue,
		    process_spool_directory(process));
	queue_command_serve(PROCESS_FD_QUEUE, state.queue, state.relay,
	    state.reports);
	return 0;
}

/*
 * A delivery that does not end in time is cut off; it stays in the queue and
 * is made again after the next start.
 */
static void
finish(void *argument)
{
	(void)argument;
	report_sender_stop(state.reports);
	if (relay_drain(state.relay, state.deadline) != 0)
		log_warn(NULL, "deliveries did not end in time; they will be "
		    "made again");
	queue_maintain(state.queue);
	spool_close(&state.spool);
	event_flush();
	_exit(0);
}

void
relay_drain_process(struct process *process, int64_t deadline)
{
	(void)process;
	state.deadline = deadline;
	task_detach("drain", finish, NULL);
}

/* "rescan": a writer died; what it committed last may not have been told. */
void
relay_message(struct process *process, const char *text)
{
	(void)process;
	if (strcmp(text, "rescan") != 0)
		fatal("the master sent \"%s\"", text);
	queue_poll(state.queue);
}
