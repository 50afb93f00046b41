/*
 * The policy process.  Runs as user millgate-policy with the state directory as
 * its root.  May keep the store's file there or connect to Redis, ask DNS, and
 * answer the policy protocol on sockets that it was given: to other MTAs, and to
 * our own gateways.  It sees envelopes, never messages.
 */
#include "config.h"

#include <stdio.h>

#include "base/conf.h"
#include "base/task.h"
#include "gateway/proc.h"
#include "gateway/process.h"
#include "policy/geo.h"
#include "policy/server.h"
#include "policy/store.h"

struct policy_process {
	struct store *store;
	struct policy_server *server;
	int64_t deadline;		/* of the drain */
};

static struct policy_process state;

int
policy_prepare(struct process *process, const char **why)
{
	process->own = &state;
	geo_open(process->conf);
	return process_open_dns(process, why);
}

/* After the sandbox: the store's file is the policy user's, not root's. */
int
policy_start(struct process *process, const char **why)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/policy/store.db",
	    process_state_directory(process));
	state.store = store_open(process->conf, path, why);
	if (state.store == NULL)
		return -1;
	state.server = policy_server_new(process->conf, state.store, why);
	if (state.server == NULL)
		return -1;
	for (size_t i = 0; i < process->listener_count; i++)
		policy_server_listen(state.server, process->listeners[i].fd);
	return 0;
}

static void
finish(void *argument)
{
	(void)argument;
	policy_server_drain(state.server, state.deadline);
	policy_server_free(&state.server);
	store_close(&state.store);
	task_stop();
}

void
policy_drain(struct process *process, int64_t deadline)
{
	(void)process;
	state.deadline = deadline;
	task_detach("drain", finish, NULL);
}
