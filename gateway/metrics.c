#include "config.h"

#include "gateway/metrics.h"

#include <fcntl.h>
#include <stdlib.h>

#include <event2/buffer.h>
#include <event2/http.h>

#include "base/buf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"

/* A scrape is one short request. */
#define HEADERS_MAX 8192
#define BODY_MAX 1024
#define TIMEOUT_S 10

struct metrics {
	struct evhttp *http;
	struct counter_block *const *blocks;
	size_t count;
};

static void
answer(struct evhttp_request *request, const char *type, const char *text,
    size_t len)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
	struct evbuffer *body = evbuffer_new();

	if (body == NULL || evbuffer_add(body, text, len) != 0)
		fatal("out of memory");
	evhttp_add_header(headers, "Content-Type", type);
	evhttp_add_header(headers, "Cache-Control", "no-store");
	evhttp_send_reply(request, HTTP_OK, "OK", body);
	evbuffer_free(body);
}

static void
answer_metrics(struct evhttp_request *request, void *argument)
{
	const struct metrics *metrics = argument;
	struct buf text = BUF_INIT;

	counter_print(&text, metrics->blocks, metrics->count);
	answer(request, "text/plain; version=0.0.4; charset=utf-8",
	    text.data != NULL ? text.data : "", text.len);
	buf_release(&text);
}

static void
answer_health(struct evhttp_request *request, void *argument)
{
	(void)argument;
	answer(request, "text/plain; charset=utf-8", "ok\n", 3);
}

static void
answer_other(struct evhttp_request *request, void *argument)
{
	(void)argument;
	evhttp_send_error(request, HTTP_NOTFOUND, "Not Found");
}

struct metrics *
metrics_new(struct counter_block *const *blocks, size_t count)
{
	struct metrics *metrics = calloc(1, sizeof(*metrics));

	if (metrics == NULL || (metrics->http = evhttp_new(task_base())) ==
	    NULL)
		fatal("out of memory");
	metrics->blocks = blocks;
	metrics->count = count;
	evhttp_set_max_headers_size(metrics->http, HEADERS_MAX);
	evhttp_set_max_body_size(metrics->http, BODY_MAX);
	evhttp_set_timeout(metrics->http, TIMEOUT_S);
	evhttp_set_allowed_methods(metrics->http, EVHTTP_REQ_GET);
	evhttp_set_cb(metrics->http, "/metrics", answer_metrics, metrics);
	evhttp_set_cb(metrics->http, "/healthz", answer_health, metrics);
	evhttp_set_gencb(metrics->http, answer_other, metrics);
	return metrics;
}

int
metrics_listen(struct metrics *metrics, int fd, const char **why)
{
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0 ||
	    evhttp_accept_socket(metrics->http, fd) != 0) {
		*why = "cannot accept metrics clients";
		return -1;
	}
	return 0;
}

void
metrics_free(struct metrics **metricsp)
{
	struct metrics *metrics = *metricsp;

	if (metrics == NULL)
		return;
	evhttp_free(metrics->http);
	free(metrics);
	*metricsp = NULL;
}
