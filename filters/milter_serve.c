/* A filter host's listener: a task for each connection. */
#define _GNU_SOURCE		/* accept4 */
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/task.h"
#include "filters/milter_host.h"

struct guest {
	struct guest *next;
	struct task *task;
	int fd;
	bool ended;
	const struct chain_plan *plan;
	const struct milter_host_settings *settings;
};

static void
serve_guest(void *argument)
{
	struct guest *g = argument;

	milter_host_talk(g->fd, g->plan, g->settings);
	g->ended = true;
}

/* Frees those that have left; with all, sends everybody away first. */
static size_t
clear_guests(struct guest **guests, bool all)
{
	struct guest **at = guests, *g;
	size_t left = 0;

	while ((g = *at) != NULL) {
		if (!all && !g->ended) {
			at = &g->next;
			left++;
			continue;
		}
		*at = g->next;
		task_reap(&g->task);
		free(g);
	}
	return left;
}

void
milter_host_serve(int listen_fd, const struct chain_plan *plan,
    const struct milter_host_settings *settings)
{
	struct guest *guests = NULL, *g;
	int fd;

	for (;;) {
		size_t count = clear_guests(&guests, false);

		if (settings->connections_max > 0 &&
		    count >= settings->connections_max) {
			if (task_sleep(100) == -1)
				break;
			continue;
		}
		fd = accept4(listen_fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd == -1 && errno == EAGAIN) {
			if (task_wait_fd(listen_fd, TASK_READ,
			    task_deadline(60000)) == -1 &&
			    errno == ECANCELED)
				break;
			continue;
		}
		if (fd == -1) {
			/* No descriptors, or the peer is gone already. */
			if (task_sleep(errno == ECONNABORTED ? 0 : 100) == -1)
				break;
			continue;
		}
		if ((g = calloc(1, sizeof(*g))) == NULL)
			fatal("out of memory (milter host)");
		*g = (struct guest){ .next = guests, .fd = fd, .plan = plan,
		    .settings = settings };
		g->task = task_start("milter-host", serve_guest, g);
		guests = g;
	}
	clear_guests(&guests, true);
}
