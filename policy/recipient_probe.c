/*
 * Call-ahead.  Each question is a task of its own, so that an answer that comes
 * too late for who asked is there for the next.  A server that cannot be
 * reached is left alone for a moment.
 */
#include "policy/recipient_probe.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "policy/smtp_reply.h"

#define PROBE_MS	30000	/* a whole conversation */
#define PROBES_MAX	32	/* at a time; others wait for one to end */
#define PAUSE_MS	2000	/* after trouble nobody connects so long */

struct probe {
	struct prober *prober;
	struct probe *next;
	struct task *task;
	char *recipient;
	size_t askers;
	bool done;
	enum answer answer;
	char text[PROBE_TEXT_SIZE];
};

struct prober {
	struct net_endpoint server;
	bool lmtp;
	const char *hostname;
	prober_answer_f *tell;
	void *argument;
	struct probe *probes;
	size_t running;
	struct task_cond news;		/* a probe is done */
	int64_t not_before;
};

/* --- a conversation --- */

/* Reads a reply; false: text says why there is none. */
static bool
read_reply(struct probe *probe, struct io *io, int64_t deadline,
    struct reply *reply)
{
	enum reply_state state;
	const char *line, *why = "lost connection";
	size_t len;

	reply_init(reply);
	do {
		errno = 0;
		if (io_read_line(io, REPLY_LINE_MAX, &line, &len,
		    deadline) != 1) {
			state = REPLY_BAD;
			if (errno == ETIMEDOUT)
				why = "conversation timed out";
			break;
		}
		state = reply_line(reply, line, len, &why);
	} while (state == REPLY_MORE);
	snprintf(probe->text, sizeof(probe->text), "%.255s",
	    state == REPLY_DONE ? reply->text : why);
	return state == REPLY_DONE;
}

/* False: it did not answer, or not by 250. */
static bool
command(struct probe *probe, struct io *io, int64_t deadline,
    struct reply *reply)
{
	if (io_flush(io, deadline) != 0) {
		snprintf(probe->text, sizeof(probe->text), "%s", io_why(io));
		return false;
	}
	return read_reply(probe, io, deadline, reply) && reply->code == 250;
}

enum answer
probe_understand(const struct reply *reply)
{
	static const char *const noes[] = { "5.1.", "5.2.1", "5.4.1" };

	if (reply->code == 250 || reply->code == 251)
		return ANSWER_YES;
	if (reply->code < 500)
		return ANSWER_UNKNOWN;
	if (!reply->enhanced_given)
		return reply->code == 550 || reply->code == 551 ||
		    reply->code == 553 ? ANSWER_NO : ANSWER_UNKNOWN;
	for (size_t i = 0; i < sizeof(noes) / sizeof(noes[0]); i++)
		if (strncmp(reply->enhanced, noes[i], strlen(noes[i])) == 0)
			return ANSWER_NO;
	return ANSWER_UNKNOWN;
}

static enum answer
talk(struct probe *probe, struct io *io, int64_t deadline)
{
	const struct prober *prober = probe->prober;
	struct reply reply;
	enum answer answer;

	if (!read_reply(probe, io, deadline, &reply) || reply.code != 220)
		return ANSWER_UNKNOWN;
	io_printf(io, "%s %s\r\n", prober->lmtp ? "LHLO" : "EHLO",
	    prober->hostname);
	if (!command(probe, io, deadline, &reply))
		return ANSWER_UNKNOWN;
	io_puts(io, "MAIL FROM:<>\r\n");
	if (!command(probe, io, deadline, &reply))
		return ANSWER_UNKNOWN;
	io_printf(io, "RCPT TO:<%s>\r\n", probe->recipient);
	reply.code = 0;
	if (!command(probe, io, deadline, &reply) && reply.code == 0)
		return ANSWER_UNKNOWN;
	answer = probe_understand(&reply);
	io_puts(io, "QUIT\r\n");
	(void)io_flush(io, deadline);
	return answer;
}

static void
run(void *argument)
{
	struct probe *probe = argument;
	struct prober *prober = probe->prober;
	int64_t deadline = task_deadline(PROBE_MS);
	const char *why;
	struct io *io;

	io = io_connect((const struct sockaddr *)&prober->server.address,
	    prober->server.len, NULL, 0, deadline, &why);
	if (io != NULL) {
		probe->answer = talk(probe, io, deadline);
		io_free(&io);
	} else {
		snprintf(probe->text, sizeof(probe->text), "cannot connect: "
		    "%s", why);
		prober->not_before = task_deadline(PAUSE_MS);
	}
	if (probe->answer != ANSWER_UNKNOWN)
		prober->tell(prober->argument, probe->recipient,
		    probe->answer, probe->text);
	probe->done = true;
	prober->running--;
	task_cond_broadcast(&prober->news);
}

/* --- those under way --- */

static void
probe_free(struct probe *probe)
{
	task_reap(&probe->task);
	free(probe->recipient);
	free(probe);
}

/* Those that are done and nobody waits for. */
static void
sweep(struct prober *prober)
{
	struct probe **at = &prober->probes, *probe;

	while ((probe = *at) != NULL) {
		if (!probe->done || probe->askers > 0) {
			at = &probe->next;
			continue;
		}
		*at = probe->next;
		probe_free(probe);
	}
}

static struct probe *
find(struct prober *prober, const char *recipient)
{
	struct probe *probe = prober->probes;

	while (probe != NULL && (probe->done ||
	    strcasecmp(probe->recipient, recipient) != 0))
		probe = probe->next;
	return probe;
}

/* NULL: text says why there is none. */
static struct probe *
begin(struct prober *prober, const char *recipient, int64_t deadline,
    char text[PROBE_TEXT_SIZE])
{
	struct probe *probe;

	while ((probe = find(prober, recipient)) == NULL &&
	    prober->running == PROBES_MAX)
		if (task_cond_wait(&prober->news, deadline) != 0) {
			strcpy(text, "too many questions are under way");
			return NULL;
		}
	if (probe != NULL)
		return probe;
	if (task_now() < prober->not_before) {
		strcpy(text, "it could not be reached a moment ago");
		return NULL;
	}
	if ((probe = calloc(1, sizeof(*probe))) == NULL ||
	    (probe->recipient = strdup(recipient)) == NULL)
		fatal("out of memory (call-ahead)");
	probe->prober = prober;
	probe->answer = ANSWER_UNKNOWN;
	strcpy(probe->text, "it has not answered yet");
	probe->next = prober->probes;
	prober->probes = probe;
	prober->running++;
	probe->task = task_start("call-ahead", run, probe);
	return probe;
}

enum answer
prober_ask(struct prober *prober, const char *recipient, int64_t deadline,
    char text[PROBE_TEXT_SIZE])
{
	struct probe *probe = begin(prober, recipient, deadline, text);
	enum answer answer;

	if (probe == NULL)
		return ANSWER_UNKNOWN;
	probe->askers++;
	while (!probe->done && task_cond_wait(&prober->news, deadline) == 0)
		;
	probe->askers--;
	answer = probe->done ? probe->answer : ANSWER_UNKNOWN;
	memcpy(text, probe->text, PROBE_TEXT_SIZE);
	sweep(prober);
	return answer;
}

struct prober *
prober_new(const char *server, const char *hostname, prober_answer_f *tell,
    void *argument, const char **why)
{
	struct net_endpoint endpoint;
	struct prober *prober;
	bool lmtp = strncmp(server, "lmtp:", 5) == 0;

	if (!lmtp && strncmp(server, "smtp:", 5) != 0) {
		*why = "is to begin with lmtp: or smtp:";
		return NULL;
	}
	if (net_endpoint_parse(server + 5, &endpoint, why) != 0)
		return NULL;
	if ((prober = calloc(1, sizeof(*prober))) == NULL)
		fatal("out of memory (call-ahead)");
	prober->server = endpoint;
	prober->lmtp = lmtp;
	prober->hostname = hostname;
	prober->tell = tell;
	prober->argument = argument;
	return prober;
}

void
prober_free(struct prober **proberp)
{
	struct prober *prober = *proberp;
	struct probe *probe;

	*proberp = NULL;
	if (prober == NULL)
		return;
	while ((probe = prober->probes) != NULL) {
		prober->probes = probe->next;
		probe_free(probe);
	}
	free(prober);
}
