/* Scrapes over loopback. */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/counter.h"
#include "base/io.h"
#include "base/net.h"
#include "base/task.h"
#include "gateway/metrics.h"
#include "t/unit/unit.h"

struct scrape {
	struct sockaddr_storage address;
	socklen_t len;
	struct metrics *metrics;
};

/* The whole answer to a request, until the server closes. */
static void
get(struct scrape *scrape, const char *request, struct buf *answer)
{
	const char *why = NULL;
	struct io *io;
	size_t len;

	io = io_connect((struct sockaddr *)&scrape->address, scrape->len,
	    NULL, 0, task_deadline(5000), &why);
	CU_ASSERT_FATAL(io != NULL);
	io_printf(io, "%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
	    request);
	CU_ASSERT(io_flush(io, task_deadline(5000)) == 0);
	buf_reset(answer);
	buf_puts(answer, "");
	while (io_fill(io, task_deadline(5000)) > 0) {
		const char *input = io_input(io, &len);

		buf_append(answer, input, len);
		io_consume(io, len);
	}
	io_free(&io);
}

static void
scrape_task(void *argument)
{
	static const struct { const char *name, *request, *status, *want; }
	cases[] = {
		{ "metrics", "GET /metrics", "200 OK",
		    "# TYPE millgate_delivery_total counter\n"
		    "millgate_delivery_total{result=\"sent\"} 5\n" },
		{ "their kind", "GET /metrics", "200 OK",
		    "Content-Type: text/plain; version=0.0.4" },
		{ "their meaning", "GET /metrics", "200 OK",
		    "# HELP millgate_delivery_total " },
		{ "with a query", "GET /metrics?x=y", "200 OK",
		    "millgate_delivery_total{" },
		{ "health", "GET /healthz", "200 OK", "\r\n\r\nok\n" },
		{ "another page", "GET /", "404 ", "" },
		{ "a prefix", "GET /metricsx", "404 ", "" },
		{ "POST", "POST /metrics", "501 ", "" },
		{ "DELETE", "DELETE /metrics", "501 ", "" },
		{ "no HTTP", "\001\002\003", "400 ", "" },
	};
	struct scrape *scrape = argument;
	struct buf answer = BUF_INIT;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		get(scrape, cases[i].request, &answer);
		CASE_ASSERT(cases[i].name, answer.len > 13 &&
		    strncmp(answer.data + 9, cases[i].status,
		    strlen(cases[i].status)) == 0);
		CASE_ASSERT(cases[i].name,
		    strstr(answer.data, cases[i].want) != NULL);
	}
	buf_release(&answer);
	metrics_free(&scrape->metrics);
	task_stop();
}

static void
scrapes(void)
{
	struct net_endpoint endpoint;
	struct scrape scrape = { .len = sizeof(scrape.address) };
	/* The last stays attached, whoever counts then. */
	static struct counter_block *blocks[3];
	const char *why = NULL;
	int fd;

	task_init();
	/* The one in the middle was never used. */
	for (int i = 0; i < 3; i++)
		blocks[i] = calloc(1, counter_block_size());
	for (int i = 0; i < 3; i += 2) {
		counter_attach(blocks[i]);
		counter_add(counter_get("millgate_delivery_total",
		    "result=\"sent\""), i == 0 ? 2 : 3);
	}
	CU_ASSERT_FATAL(net_endpoint_parse("127.0.0.1:0", &endpoint,
	    &why) == 0);
	CU_ASSERT_FATAL((fd = net_listen(&endpoint, 16, 0, &why)) != -1);
	CU_ASSERT(getsockname(fd, (struct sockaddr *)&scrape.address,
	    &scrape.len) == 0);
	scrape.metrics = metrics_new(blocks, 3);
	CU_ASSERT(metrics_listen(scrape.metrics, fd, &why) == 0);
	task_detach("scrape", scrape_task, &scrape);
	task_loop();
	task_shutdown();
}

SUITE(metrics, { "scrapes", scrapes })
