#include "config.h"

#include "gateway/control_queue.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/task.h"
#include "gateway/link.h"

/*
 * The relay answers one request at a time, so its answers are read at once,
 * however slowly our client takes them; but not without end.
 */
#define BACKLOG_MAX (64u << 20)

struct request {
	unsigned long number;
	struct buf lines;		/* not taken by the client yet */
	bool done, failed, too_much;
	char why[CONTROL_WHY_SIZE];
	struct task_cond news;
	struct request *next;
};

struct control_queue {
	int link;
	unsigned long last;		/* number given */
	struct request *requests;
	struct task *reader;
};

static struct request *
find(struct control_queue *queue, unsigned long number)
{
	struct request *request;

	for (request = queue->requests; request != NULL;
	    request = request->next)
		if (request->number == number)
			break;
	return request;
}

/* "NUMBER +LINES", "NUMBER =ok", "NUMBER =error TEXT" */
static void
take_answer(struct control_queue *queue, const char *text)
{
	char *rest;
	unsigned long number = strtoul(text, &rest, 10);
	struct request *request = find(queue, number);

	/* Who asked may have given up, or was a console before us. */
	if (request == NULL || request->done || *rest != ' ')
		return;
	rest++;
	if (*rest == '+') {
		if (request->lines.len > BACKLOG_MAX)
			request->too_much = true;
		else
			buf_puts(&request->lines, rest + 1);
	} else {
		request->done = true;
		request->failed = strcmp(rest, "=ok") != 0;
		if (strncmp(rest, "=error ", 7) == 0)
			rest += 7;
		snprintf(request->why, sizeof(request->why), "%s", rest);
	}
	task_cond_broadcast(&request->news);
}

static void
read_answers(void *argument)
{
	struct control_queue *queue = argument;
	char text[LINK_MESSAGE_MAX];
	struct task_fd fd;
	ssize_t len;
	int passed;

	task_fd_init(&fd, queue->link);
	for (;;) {
		len = link_receive(queue->link, text, &passed);
		if (passed != -1)
			close(passed);
		if (len > 0)
			take_answer(queue, text);
		else if (len == 0 || (errno != EAGAIN && errno != EINTR) ||
		    task_fd_wait(&fd, TASK_READ, DEADLINE_NEVER) != 0)
			break;
	}
	task_fd_release(&fd);
}

struct control_queue *
control_queue_new(int link)
{
	struct control_queue *queue = calloc(1, sizeof(*queue));

	if (queue == NULL)
		fatal("out of memory");
	queue->link = link;
	/* The answer to a predecessor's request must not be taken for ours. */
	queue->last = (unsigned long)clock_wall_ms();
	queue->reader = task_start("queue answers", read_answers, queue);
	return queue;
}

void
control_queue_free(struct control_queue **queuep)
{
	struct control_queue *queue = *queuep;

	if (queue == NULL)
		return;
	task_reap(&queue->reader);
	free(queue);
	*queuep = NULL;
}

/* Hands over the lines that came; -1: the client takes no more. */
static int
hand_over(struct request *request, control_line_f *f, void *argument)
{
	struct buf lines = request->lines;
	char *rest = lines.data, *line;
	int rc = 0;

	request->lines = (struct buf)BUF_INIT;
	while (rc == 0 && rest != NULL && *rest != '\0' &&
	    (line = strsep(&rest, "\n")) != NULL)
		rc = f(line, argument);
	buf_release(&lines);
	return rc;
}

/* 0, or -1 and request->why. */
static int
follow(struct request *request, int timeout_ms, control_line_f *f,
    void *argument)
{
	for (;;) {
		if (hand_over(request, f, argument) != 0) {
			snprintf(request->why, sizeof(request->why),
			    "the client does not read");
			return -1;
		}
		if (request->lines.len > 0)
			continue;
		if (request->too_much) {
			snprintf(request->why, sizeof(request->why),
			    "the answer is longer than you can read");
			return -1;
		}
		if (request->done)
			return request->failed ? -1 : 0;
		if (task_cond_wait(&request->news,
		    task_deadline(timeout_ms)) != 0) {
			snprintf(request->why, sizeof(request->why),
			    "the relay does not answer");
			return -1;
		}
	}
}

int
control_queue_ask(struct control_queue *queue, const char *text,
    int timeout_ms, control_line_f *f, void *argument,
    char why[CONTROL_WHY_SIZE])
{
	struct request request = { .number = ++queue->last };
	struct request **link;
	int rc;

	if (link_send(queue->link, -1, "%lu %s", request.number, text) != 0) {
		snprintf(why, CONTROL_WHY_SIZE, "the relay does not answer: "
		    "%s", strerror(errno));
		return -1;
	}
	request.next = queue->requests;
	queue->requests = &request;
	rc = follow(&request, timeout_ms, f, argument);
	for (link = &queue->requests; *link != &request; )
		link = &(*link)->next;
	*link = request.next;
	buf_release(&request.lines);
	memcpy(why, request.why, sizeof(request.why));
	return rc;
}
