/*
 * The filter "greylist", a client of the policy protocol.
 *
 * A few connections to the policy process are kept, each with one request under
 * way at a time.  One that was idle may have been closed by the other end, as
 * when it was reloaded: then the request is made once more on a new one.
 */
#include "filters/greylist.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "filters/trace.h"
#include "policy/client.h"
#include "policy/greylist.h"
#include "policy/protocol.h"

#define ASK_MS		1000
#define PAUSE_MS	1000		/* after trouble nobody asks so long */
#define CONNECTIONS_MAX	32
#define LINE_MAX_SIZE	1024

struct instance {
	struct net_endpoint service;
	struct io *idle[CONNECTIONS_MAX];
	size_t idle_count, open_count;
	struct task_cond room;		/* a connection was given back */
	int64_t not_before;
	bool away;			/* that was logged */
};

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	struct instance *instance;

	(void)section;
	if ((instance = calloc(1, sizeof(*instance))) == NULL)
		fatal("out of memory (greylist)");
	if (policy_client_address(conf, &instance->service, why) == 0)
		return instance;
	free(instance);
	return NULL;
}

static void
release(void *argument)
{
	struct instance *instance = argument;

	while (instance->idle_count > 0)
		io_free(&instance->idle[--instance->idle_count]);
	free(instance);
}

/* --- connections --- */

static void
hang_up(struct instance *instance, struct io **io)
{
	if (*io == NULL)
		return;
	io_free(io);
	instance->open_count--;
	task_cond_signal(&instance->room);
}

static void
give_back(struct instance *instance, struct io *io)
{
	instance->idle[instance->idle_count++] = io;
	task_cond_signal(&instance->room);
}

/* *fresh: it was made for this request. */
static struct io *
take(struct instance *instance, int64_t deadline, bool *fresh,
    const char **why)
{
	struct io *io;

	*fresh = false;
	while (instance->idle_count == 0 &&
	    instance->open_count == CONNECTIONS_MAX)
		if (task_cond_wait(&instance->room, deadline) != 0) {
			*why = "all connections are busy";
			return NULL;
		}
	while (instance->idle_count > 0) {
		io = instance->idle[--instance->idle_count];
		if (!io_peer_gone(io))
			return io;
		hang_up(instance, &io);
	}
	*fresh = true;
	instance->open_count++;
	io = io_connect((const struct sockaddr *)&instance->service.address,
	    instance->service.len, NULL, 0, deadline, why);
	if (io == NULL) {
		instance->open_count--;
		task_cond_signal(&instance->room);
	}
	return io;
}

/* --- asking --- */

static void
put_request(struct buf *out, const struct filter_run *run,
    const struct recipient *recipient)
{
	const struct session *session = run->session;
	const struct mail *mail = run->mail;

	policy_put(out, POLICY_REQUEST, "smtpd_access_policy");
	policy_put(out, POLICY_PROTOCOL_STATE, "RCPT");
	policy_put(out, POLICY_PROTOCOL_NAME, session->esmtp ? "ESMTP" :
	    "SMTP");
	policy_put(out, POLICY_HELO_NAME, session->helo);
	policy_put(out, POLICY_QUEUE_ID, mail->envelope.id);
	policy_put(out, POLICY_SENDER, mail->envelope.sender);
	policy_put(out, POLICY_RECIPIENT, recipient->address);
	policy_put(out, POLICY_CLIENT_ADDRESS, session->client_address);
	policy_put(out, POLICY_CLIENT_NAME, session->client_name != NULL ?
	    session->client_name : "unknown");
	policy_put(out, POLICY_REVERSE_CLIENT_NAME,
	    session->client_ptr != NULL ? session->client_ptr : "unknown");
	policy_put(out, POLICY_INSTANCE, mail->envelope.id);
	policy_end(out);
}

/* -1: no answer, the connection is of no more use. */
static int
converse(struct io *io, const struct buf *request, int64_t deadline,
    struct policy_action *action, const char **why)
{
	const char *line;
	size_t len, unread;
	int rc;

	io_put(io, request->data, request->len);
	if (io_flush(io, deadline) != 0) {
		*why = io_why(io);
		return -1;
	}
	for (int i = 0; i < 2; i++) {
		errno = 0;
		rc = io_read_line(io, LINE_MAX_SIZE, &line, &len, deadline);
		if (rc != 1) {
			*why = rc == 0 ? "it closed the connection" :
			    strerror(errno);
			return -1;
		}
		if (i == 0 && policy_answer_parse(line, len, action,
		    why) != 0)
			return -1;
	}
	io_input(io, &unread);
	*why = "an answer of more than one line";
	return len == 1 && unread == 0 ? 0 : -1;
}

static int
ask(struct instance *instance, const struct buf *request, int64_t deadline,
    struct policy_action *action, const char **why)
{
	struct io *io;
	bool fresh;
	int error;

	do {
		if ((io = take(instance, deadline, &fresh, why)) == NULL)
			return -1;
		if (converse(io, request, deadline, action, why) == 0) {
			give_back(instance, io);
			return 0;
		}
		error = errno;
		hang_up(instance, &io);
		errno = error;
	} while (!fresh && errno != ECANCELED && task_now() < deadline);
	return -1;
}

static void
note_trouble(struct instance *instance, const char *why)
{
	instance->not_before = task_deadline(PAUSE_MS);
	if (!instance->away)
		log_warn(NULL, "filter=greylist: the policy service does not "
		    "answer, mail passes without it: %s", why);
	instance->away = true;
}

static void
note_success(struct instance *instance)
{
	if (instance->away)
		log_info(NULL, "filter=greylist: the policy service answers "
		    "again");
	instance->away = false;
}

static int
ask_for(struct filter_run *run, const struct recipient *recipient,
    struct policy_action *action)
{
	struct instance *instance = run->instance;
	int64_t deadline = task_deadline(ASK_MS);
	struct buf request = BUF_INIT;
	const char *why = "it did not answer a moment ago";
	int rc = -1;

	if (run->mail->deadline < deadline)
		deadline = run->mail->deadline;
	if (task_now() >= instance->not_before) {
		errno = 0;
		put_request(&request, run, recipient);
		rc = ask(instance, &request, deadline, action, &why);
		buf_release(&request);
		if (rc == 0)
			note_success(instance);
		else if (errno != ECANCELED)
			note_trouble(instance, why);
	}
	if (rc != 0)
		trace_add(run->mail->trace, run->name, "<%s>: no answer: %s",
		    recipient->address, why);
	return rc;
}

static struct verdict
rcpt(struct filter_run *run, struct recipient *recipient)
{
	struct policy_action action;
	struct finding *finding;

	if (run->session->trusted || run->session->user != NULL)
		return VERDICT_CONTINUE;
	if (ask_for(run, recipient, &action) != 0)
		return VERDICT_CONTINUE;
	trace_add(run->mail->trace, run->name, "<%s>: %s %s",
	    recipient->address, action.verb == POLICY_DEFER ? "defer" :
	    "pass", action.text);
	finding = finding_add(run, "x-greylist", action.verb == POLICY_DEFER ?
	    "defer" : "pass", action.text[0] != '\0' ? action.text : NULL);
	finding_property(run, finding, "smtp", "rcptto", recipient->address);
	finding->report = false;
	if (action.verb != POLICY_DEFER)
		return VERDICT_CONTINUE;
	return (struct verdict){
		.action = ACTION_TEMPFAIL,
		.code = 451,
		.enhanced = action.enhanced[0] != '\0' ?
		    arena_strdup(run->mail->arena, action.enhanced) : "4.7.1",
		.text = arena_strdup(run->mail->arena, action.text),
		.reason = "greylist",
	};
}

const struct filter filter_greylist = {
	.name = "greylist",
	.options = &greylist_section,
	.setup = setup,
	.release = release,
	.rcpt = rcpt,
};
