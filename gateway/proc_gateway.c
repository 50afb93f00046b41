/*
 * The gateway process, one a processor.  Runs as user millgate with the spool
 * as its root directory.  May talk SMTP on sockets that it was given, run
 * filters, ask DNS, append to segments of its own.  It sees no DKIM key, can't
 * change what is queued, and answers to nobody but the master.
 */
#include "config.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/milter_shadow.h"
#include "filters/milter_trace.h"
#include "filters/trace.h"
#include "gateway/answer_through.h"
#include "gateway/cutthrough.h"
#include "gateway/event.h"
#include "gateway/listener.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "gateway/settings.h"
#include "gateway/spool.h"

/* A message larger than this gets a file of its own in the spool. */
#define LARGE_MESSAGE (1 << 20)
#define SEGMENT_SIZE (64 << 20)

struct gateway {
	struct smtp_server *server;
	struct cutthrough *cutthrough;
	struct spool *spool;
	int64_t deadline;		/* of the drain */
};

static struct gateway gateway;

int
gateway_prepare(struct process *process, const char **why)
{
	const struct top_options *top = conf_get(process->conf, "");

	process->own = &gateway;
	if (process_open_dns(process, why) != 0)
		return -1;
	gateway.cutthrough = cutthrough_new(process->conf, top->hostname, why);
	if (gateway.cutthrough == NULL)
		return -1;
	gateway.server = smtp_server_new(process->conf, top->run_directory,
	    NULL, why);
	return gateway.server == NULL ? -1 : 0;
}

static int
open_spool(const struct process *process, const char **why)
{
	const struct top_options *top = conf_get(process->conf, "");
	char writer[16];

	/* The slot, not the instance: an old one may still drain beside us. */
	snprintf(writer, sizeof(writer), "g%u", process->slot);
	gateway.spool = spool_open(&(struct spool_settings){
	    .directory = process_spool_directory(process),
	    .writer = writer,
	    .segment_size = SEGMENT_SIZE,
	    .large_size = LARGE_MESSAGE,
	    .minimum_free = top->minimum_free,
	    .tail = &process->tails[process->slot],
	    .doorbell_fd = PROCESS_FD_DOORBELL,
	}, why);
	return gateway.spool == NULL ? -1 : 0;
}

/* Those accepted, then those refused, as far as there is room. */
static void
list_recipients(const struct mail *mail, const char *refused, char *text,
    size_t size)
{
	const struct recipient *rcpt;
	size_t len = 0;

	for (rcpt = mail->envelope.recipients; rcpt != NULL && len < size;
	    rcpt = rcpt->next)
		len += (size_t)snprintf(text + len, size - len, "%s%s",
		    len > 0 ? " " : "", rcpt->address);
	if (refused[0] != '\0' && len < size)
		snprintf(text + len, size - len, "%s%s", len > 0 ? " " : "",
		    refused);
}

/* Each end of a message goes to the history. */
static void
tell_history(const char *id, const struct mail *mail, const char *refused,
    const char *verdict, const char *text, size_t len, void *argument)
{
	char recipients[2048] = "";
	struct event event = {
		.time_ms = clock_wall_ms(),
		.id = id, .kind = "message", .client = "", .sender = "",
		.recipients = recipients, .outcome = verdict, .text = text,
	};

	(void)argument;
	(void)len;
	if (mail != NULL) {
		event.client = mail->envelope.client != NULL ?
		    mail->envelope.client : "";
		event.sender = mail->envelope.sender != NULL ?
		    mail->envelope.sender : "";
		list_recipients(mail, refused, recipients, sizeof(recipients));
	} else {
		event.kind = "session";
	}
	event_send(&event);
}

/* What a milter in the shadow said of it goes there, too. */
static void
tell_shadow(const char *id, const char *outcome, const char *text)
{
	event_send(&(const struct event){
	    .time_ms = clock_wall_ms(), .id = id, .kind = "shadow",
	    .client = "", .sender = "", .recipients = "",
	    .outcome = outcome, .text = text });
}

static int
listen_all(struct process *process, const char **why)
{
	for (size_t i = 0; i < process->listener_count; i++)
		if (smtp_server_listen(gateway.server,
		    process->listeners[i].name + strlen("listener:"),
		    process->listeners[i].fd, why) != 0)
			return -1;
	return 0;
}

int
gateway_start(struct process *process, const char **why)
{
	static char incoming[4096];
	char traces[4096], slot[16];

	if (open_spool(process, why) != 0)
		return -1;
	snprintf(traces, sizeof(traces), "%s/trace",
	    process_spool_directory(process));
	snprintf(slot, sizeof(slot), "g%u", process->slot);
	milter_trace_set_directory(traces, slot);
	event_open(PROCESS_FD_EVENTS);
	snprintf(incoming, sizeof(incoming), "%s/incoming",
	    process_spool_directory(process));
	smtp_server_set_spool(gateway.server, gateway.spool);
	smtp_server_set_temporary(gateway.server, incoming);
	smtp_server_set_trace(gateway.server, tell_history, NULL);
	milter_shadow_set_tell(tell_shadow);
	smtp_server_set_cut_through(gateway.server, answer_through,
	    gateway.cutthrough);
	return listen_all(process, why);
}

static void
finish(void *argument)
{
	(void)argument;
	smtp_server_drain(gateway.server, gateway.deadline);
	milter_shadow_end();
	spool_close(&gateway.spool);
	event_flush();
	task_stop();
}

void
gateway_drain(struct process *process, int64_t deadline)
{
	(void)process;
	gateway.deadline = deadline;
	task_detach("drain", finish, NULL);
}
