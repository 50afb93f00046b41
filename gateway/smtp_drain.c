/*
 * The end of an SMTP server: who may still finish what, and how long.
 */
#include "base/task.h"
#include "gateway/listener.h"
#include "gateway/smtp_session.h"

#define DRAIN_GRACE_MS 2000

enum whom { SESSIONS_IDLE, SESSIONS_WAITING, SESSIONS_ALL };

static void
cancel_sessions(struct smtp_server *server, enum whom whom)
{
	for (struct smtp_session *s = server->sessions; s != NULL;
	    s = s->next) {
		/* Has had its say; those who kept it open expect this. */
		bool idle = s->waiting && s->messages > 0 &&
		    s->state == SMTP_STATE_GREETED;

		if (s->task != NULL && (whom == SESSIONS_ALL || idle ||
		    (whom == SESSIONS_WAITING && s->waiting)))
			task_cancel(s->task);
	}
}

/* Until no session is left: true.  False at the deadline. */
static bool
wait_for_sessions(struct smtp_server *server, int64_t deadline)
{
	while (server->session_count > 0)
		if (task_cond_wait(&server->gone, deadline) != 0)
			return false;
	return true;
}

/*
 * Who has just connected, or is between MAIL and DATA, gets a moment to go on:
 * a reload is to be noticed by nobody.
 */
void
smtp_server_drain(struct smtp_server *server, int64_t deadline)
{
	int64_t grace = task_deadline(DRAIN_GRACE_MS);

	server->drain_until = grace < deadline ? grace : deadline;
	server->draining = true;
	for (size_t i = 0; i < server->accepter_count; i++)
		task_reap(&server->accepters[i]);
	server->accepter_count = 0;
	cancel_sessions(server, SESSIONS_IDLE);
	if (wait_for_sessions(server, server->drain_until))
		return;
	cancel_sessions(server, SESSIONS_WAITING);
	if (wait_for_sessions(server, deadline))
		return;
	/* Their waits all fail from now on, so they end without a wait. */
	cancel_sessions(server, SESSIONS_ALL);
	wait_for_sessions(server, DEADLINE_NEVER);
}
