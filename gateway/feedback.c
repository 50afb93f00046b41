/* Reports by HTTP. */
#include "config.h"

#include "gateway/feedback.h"

#include <event2/buffer.h>
#include <event2/http.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/feedback.h"

#define HEADERS_MAX 8192
#define BODY_MAX 1024
#define TIMEOUT_S 40		/* the policy process has 30 */
#define JOBS_MAX 100

struct feedback {
	struct evhttp *http;
	char *token;
	feedback_command_f *command;
	size_t jobs;
};

/* A request that waits for the policy process. */
struct job {
	struct feedback *feedback;
	struct evhttp_request *request;	/* NULL: the client has gone */
	struct buf command;
};

static void
answer(struct evhttp_request *request, int code, const char *status,
    const char *why)
{
	struct evbuffer *body = evbuffer_new();
	json_t *json = why == NULL ? json_pack("{s:b}", "ok", 1) :
	    json_pack("{s:s}", "error", why);
	char *text = json == NULL ? NULL : json_dumps(json, 0);

	if (body == NULL || text == NULL ||
	    evbuffer_add_printf(body, "%s\n", text) < 0)
		fatal("out of memory (feedback)");
	evhttp_add_header(evhttp_request_get_output_headers(request),
	    "Content-Type", "application/json");
	evhttp_send_reply(request, code, status, body);
	evbuffer_free(body);
	json_decref(json);
	free(text);
}

/* --- a request --- */

static bool
is_authorized(const struct feedback *feedback, struct evhttp_request *request)
{
	static const char scheme[] = "Bearer ";
	const char *given = evhttp_find_header(
	    evhttp_request_get_input_headers(request), "Authorization");
	size_t len = strlen(feedback->token);

	if (given == NULL || strncmp(given, scheme, strlen(scheme)) != 0)
		return false;
	given += strlen(scheme);
	return strlen(given) == len &&
	    CRYPTO_memcmp(given, feedback->token, len) == 0;
}

/* Letters and digits: it becomes a word of a command. */
static bool
is_id(const char *id)
{
	size_t len = id == NULL ? 0 : strlen(id);

	return len > 0 && len <= 64 && strspn(id, "0123456789"
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == len;
}

static bool
read_body(struct evhttp_request *request, struct buf *command)
{
	struct evbuffer *body = evhttp_request_get_input_buffer(request);
	size_t len = evbuffer_get_length(body);
	const char *id = NULL, *outcome = NULL;
	json_t *json;
	int undo = 0;
	bool good;

	json = json_loadb((const char *)evbuffer_pullup(body, -1), len, 0,
	    NULL);
	good = json != NULL && json_unpack(json, "{s:s, s:s, s?b !}", "id",
	    &id, "outcome", &outcome, "undo", &undo) == 0 && is_id(id) &&
	    feedback_find(outcome) != -1;
	if (good)
		buf_printf(command, "report %s %s%s", id, outcome,
		    undo != 0 ? " undo" : "");
	json_decref(json);
	return good;
}

static void
run_job(void *argument)
{
	struct job *job = argument;
	struct buf text = BUF_INIT;
	const char *why = "";
	int rc;

	rc = job->feedback->command(job->command.data, &text, &why);
	if (job->request != NULL) {
		evhttp_connection_set_closecb(
		    evhttp_request_get_connection(job->request), NULL, NULL);
		if (rc == 0)
			answer(job->request, HTTP_OK, "OK", NULL);
		else
			answer(job->request, strncmp(why, "no message", 10) ==
			    0 ? HTTP_NOTFOUND : HTTP_SERVUNAVAIL,
			    "Not done", why);
	}
	job->feedback->jobs--;
	buf_release(&text);
	buf_release(&job->command);
	free(job);
}

static void
client_gone(struct evhttp_connection *connection, void *argument)
{
	struct job *job = argument;

	(void)connection;
	job->request = NULL;
}

static void
on_report(struct evhttp_request *request, void *argument)
{
	struct feedback *feedback = argument;
	struct job *job;

	if (!is_authorized(feedback, request)) {
		evhttp_add_header(evhttp_request_get_output_headers(request),
		    "WWW-Authenticate", "Bearer");
		answer(request, 401, "Unauthorized", "no such token");
		return;
	}
	if (feedback->jobs >= JOBS_MAX) {
		answer(request, HTTP_SERVUNAVAIL, "Busy",
		    "too many reports at a time");
		return;
	}
	if ((job = calloc(1, sizeof(*job))) == NULL)
		fatal("out of memory (feedback)");
	if (!read_body(request, &job->command)) {
		free(job);
		answer(request, HTTP_BADREQUEST, "Bad Request", "wanted: "
		    "{\"id\": ID, \"outcome\": \"" FEEDBACK_WORDS "\"}");
		return;
	}
	job->feedback = feedback;
	job->request = request;
	feedback->jobs++;
	evhttp_connection_set_closecb(evhttp_request_get_connection(request),
	    client_gone, job);
	task_detach("report", run_job, job);
}

static void
on_other(struct evhttp_request *request, void *argument)
{
	(void)argument;
	answer(request, HTTP_NOTFOUND, "Not Found", "POST /report");
}

/* --- for others --- */

struct feedback *
feedback_new(const char *token, feedback_command_f *command)
{
	struct feedback *feedback = calloc(1, sizeof(*feedback));

	if (feedback == NULL ||
	    (feedback->http = evhttp_new(task_base())) == NULL ||
	    (feedback->token = strdup(token)) == NULL)
		fatal("out of memory (feedback)");
	feedback->command = command;
	evhttp_set_max_headers_size(feedback->http, HEADERS_MAX);
	evhttp_set_max_body_size(feedback->http, BODY_MAX);
	evhttp_set_timeout(feedback->http, TIMEOUT_S);
	evhttp_set_allowed_methods(feedback->http, EVHTTP_REQ_POST);
	evhttp_set_cb(feedback->http, "/report", on_report, feedback);
	evhttp_set_gencb(feedback->http, on_other, feedback);
	return feedback;
}

int
feedback_listen(struct feedback *feedback, int fd, const char **why)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 ||
	    evhttp_accept_socket(feedback->http, fd) != 0) {
		*why = "cannot accept those who report";
		return -1;
	}
	return 0;
}

void
feedback_free(struct feedback **feedbackp)
{
	struct feedback *feedback = *feedbackp;

	if (feedback == NULL)
		return;
	*feedbackp = NULL;
	evhttp_free(feedback->http);
	/* Their clients were told to be gone; each ends within its time. */
	while (feedback->jobs > 0)
		task_yield();
	free(feedback->token);
	free(feedback);
}
