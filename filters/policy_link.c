/*
 * Connections to the policy process.
 *
 * A few are kept, each with one request under way at a time.  One that was idle
 * may have been closed by the other end, as when it was reloaded: then the
 * request is made once more on a new one.  What is told and not asked goes out
 * together, by a task that lives while there is something.
 */
#include "filters/policy_link.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/counter.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "policy/client.h"
#include "policy/protocol.h"

#define TELL_MS		5000
#define PAUSE_MS	1000		/* after trouble nobody asks so long */
#define CONNECTIONS_MAX	32
#define LINE_MAX_SIZE	1024
#define LINES_MAX	8		/* of an answer */
#define TOLD_MAX	(256u << 10)	/* bytes that wait to be told */

struct policy_link {
	const char *name;		/* of the filter, for the log */
	struct net_endpoint service;
	struct io *idle[CONNECTIONS_MAX];
	size_t idle_count, open_count;
	struct task_cond room;		/* a connection was given back */
	int64_t not_before;
	bool away;			/* that was logged */
	struct buf told;		/* waits to be sent */
	struct task *teller;		/* or NULL */
	struct counter *lost;
};

static const struct counter_row counters[] = {
	{ "millgate_outcomes_lost_total", COUNTER_TOTAL,
	    "Outcomes of messages that the policy process was not told." },
};
COUNTER_TABLE(counters)

struct policy_link *
policy_link_new(const struct conf *conf, const char *name, const char **why)
{
	struct policy_link *link;

	if ((link = calloc(1, sizeof(*link))) == NULL)
		fatal("out of memory (policy link)");
	link->name = name;
	link->lost = counter_get("millgate_outcomes_lost_total", NULL);
	if (policy_client_address(conf, &link->service, why) == 0)
		return link;
	free(link);
	return NULL;
}

void
policy_link_free(struct policy_link **linkp)
{
	struct policy_link *link = *linkp;

	*linkp = NULL;
	if (link == NULL)
		return;
	if (link->teller != NULL)
		task_reap(&link->teller);
	while (link->idle_count > 0)
		io_free(&link->idle[--link->idle_count]);
	buf_release(&link->told);
	free(link);
}

/* --- connections --- */

static void
hang_up(struct policy_link *link, struct io **io)
{
	if (*io == NULL)
		return;
	io_free(io);
	link->open_count--;
	task_cond_signal(&link->room);
}

static void
give_back(struct policy_link *link, struct io *io)
{
	link->idle[link->idle_count++] = io;
	task_cond_signal(&link->room);
}

/* *fresh: it was made for this request. */
static struct io *
take(struct policy_link *link, int64_t deadline, bool *fresh,
    const char **why)
{
	struct io *io;

	*fresh = false;
	while (link->idle_count == 0 &&
	    link->open_count == CONNECTIONS_MAX)
		if (task_cond_wait(&link->room, deadline) != 0) {
			*why = "all connections are busy";
			return NULL;
		}
	while (link->idle_count > 0) {
		io = link->idle[--link->idle_count];
		if (!io_peer_gone(io))
			return io;
		hang_up(link, &io);
	}
	*fresh = true;
	link->open_count++;
	io = io_connect((const struct sockaddr *)&link->service.address,
	    link->service.len, NULL, 0, deadline, why);
	if (io == NULL) {
		link->open_count--;
		task_cond_signal(&link->room);
	}
	return io;
}

/* --- asking --- */

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
	for (size_t lines = 0; lines < LINES_MAX; lines++) {
		errno = 0;
		rc = io_read_line(io, LINE_MAX_SIZE, &line, &len, deadline);
		if (rc != 1) {
			*why = rc == 0 ? "it closed the connection" :
			    strerror(errno);
			return -1;
		}
		if (lines > 0 && len == 1) {
			io_input(io, &unread);
			*why = "more than one answer";
			return unread == 0 ? 0 : -1;
		}
		if ((lines == 0 ? policy_answer_parse(line, len, action, why) :
		    policy_answer_more(line, len, action, why)) != 0)
			return -1;
	}
	*why = "an answer without end";
	return -1;
}

static int
try(struct policy_link *link, const struct buf *request, int64_t deadline,
    struct policy_action *action, const char **why)
{
	struct io *io;
	bool fresh;
	int error;

	do {
		if ((io = take(link, deadline, &fresh, why)) == NULL)
			return -1;
		if (converse(io, request, deadline, action, why) == 0) {
			give_back(link, io);
			return 0;
		}
		error = errno;
		hang_up(link, &io);
		errno = error;
	} while (!fresh && errno != ECANCELED && task_now() < deadline);
	return -1;
}

static void
note_trouble(struct policy_link *link, const char *why)
{
	link->not_before = task_deadline(PAUSE_MS);
	if (!link->away)
		log_warn(NULL, "filter=%s: the policy service does not "
		    "answer, mail passes without it: %s", link->name, why);
	link->away = true;
}

static void
note_success(struct policy_link *link)
{
	if (link->away)
		log_info(NULL, "filter=%s: the policy service answers "
		    "again", link->name);
	link->away = false;
}

int
policy_link_ask(struct policy_link *link, const struct buf *request,
    int64_t deadline, struct policy_action *action, const char **why)
{
	int rc;

	*why = "it did not answer a moment ago";
	if (task_now() < link->not_before)
		return -1;
	errno = 0;
	rc = try(link, request, deadline, action, why);
	if (rc == 0)
		note_success(link);
	else if (errno != ECANCELED)
		note_trouble(link, *why);
	return rc;
}

/* --- telling --- */

static void
send_told(void *argument)
{
	struct policy_link *link = argument;
	struct buf out = BUF_INIT;
	const char *why = "";
	struct io *io;
	bool fresh;

	while (link->told.len > 0) {
		struct buf empty = out;

		out = link->told;
		link->told = empty;
		io = take(link, task_deadline(TELL_MS), &fresh, &why);
		if (io != NULL) {
			io_put(io, out.data, out.len);
			if (io_flush(io, task_deadline(TELL_MS)) == 0)
				give_back(link, io);
			else
				hang_up(link, &io);
		}
		if (io == NULL)
			counter_add(link->lost, 1);
		buf_reset(&out);
	}
	buf_release(&out);
	link->teller = NULL;
}

void
policy_link_tell(struct policy_link *link, const struct buf *request)
{
	if (link->told.len + request->len > TOLD_MAX) {
		counter_add(link->lost, 1);
		return;
	}
	buf_append(&link->told, request->data, request->len);
	if (link->teller == NULL)
		link->teller = task_start("policy-teller", send_told, link);
}
