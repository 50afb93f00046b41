/* What is not waited for any more is cancelled at the auth service. */
#include "gateway/sasl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/task.h"
#include "t/unit/unit.h"

static const struct exchange {
	const char *name;
	const char *says;		/* what the service answers, or NULL */
	bool leaves;			/* the client, while it waits */
	int64_t timeout_ms;
	enum sasl_result want;
	const char *reason;
	const char *hears;		/* what the service is told then */
} exchanges[] = {
	{ "answered", "OK\t1\tuser=alice\n", false, 5000, SASL_OK, NULL, "" },
	{ "refused", "FAIL\t1\tuser=alice\n", false, 5000, SASL_FAILED, NULL,
	    "" },
	{ "the client says no more", "CONT\t1\tYQ==\n", false, 5000,
	    SASL_CHALLENGE, NULL, "CANCEL\t1\n" },
	{ "no answer in time", NULL, false, 10, SASL_UNAVAILABLE,
	    "no answer in time", "CANCEL\t1\n" },
	{ "the client leaves", NULL, true, 60000, SASL_UNAVAILABLE,
	    "the client has left", "CANCEL\t1\n" },
};

struct run {
	const struct exchange *exchange;
	int listener, ends[2];		/* the client's end first */
	char address[NET_TEXT_SIZE + 8];
};

static void
hear(struct io *io, const char *want, const char *name)
{
	const char *line = "";
	size_t len = 0;

	if (io_read_line(io, 1000, &line, &len, task_deadline(5000)) <= 0)
		len = 0;
	CASE_ASSERT(name, *want == '\0' ? len == 0 :
	    len >= strlen(want) && memcmp(line, want, strlen(want)) == 0);
}

static void
serve(void *argument)
{
	struct run *run = argument;
	const struct exchange *exchange = run->exchange;
	struct io *io;

	task_wait_fd(run->listener, TASK_READ, task_deadline(5000));
	io = io_new(accept(run->listener, NULL, NULL));
	hear(io, "VERSION\t1\t", exchange->name);
	hear(io, "CPID\t", exchange->name);
	io_puts(io, "VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t7\n"
	    "CUID\t1\nCOOKIE\t00\nDONE\n");
	io_flush(io, task_deadline(5000));
	hear(io, "AUTH\t1\tPLAIN\tservice=smtp\t", exchange->name);
	if (exchange->says != NULL)
		io_puts(io, exchange->says);
	io_flush(io, task_deadline(5000));
	if (exchange->leaves)
		close(run->ends[0]);
	hear(io, exchange->hears, exchange->name);
	io_free(&io);
}

static void
authenticate(void *argument)
{
	struct run *run = argument;
	const struct exchange *exchange = run->exchange;
	struct sockaddr_storage nobody = { .ss_family = AF_UNIX };
	struct sasl_peer peer = { io_new(run->ends[1]),
	    (struct sockaddr *)&nobody, (struct sockaddr *)&nobody, false,
	    exchange->timeout_ms };
	const char *why = NULL;
	struct sasl *sasl = sasl_new(run->address, &why);
	struct sasl_request *request;
	struct sasl_answer answer;

	CU_ASSERT_PTR_NOT_NULL_FATAL(sasl);
	CU_ASSERT_STRING_EQUAL(sasl_mechanisms(sasl), "PLAIN");
	request = sasl_begin(sasl, &peer, "PLAIN", "AGEAYg==", &answer);
	CASE_ASSERT(exchange->name, answer.result == exchange->want);
	if (exchange->reason != NULL)
		CASE_ASSERT(exchange->name, answer.reason != NULL &&
		    strcmp(answer.reason, exchange->reason) == 0);
	sasl_end(&request);
	sasl_free(&sasl);
	io_free(&peer.io);
	if (!exchange->leaves)
		close(run->ends[0]);
}

static void
requests(void)
{
	log_open(&(struct log_settings){ .program = "test", .role = "smtp",
	    .target = LOG_TO_STDERR, .level = LOG_LEVEL_ERROR });
	for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
		struct run run = { .exchange = &exchanges[i] };
		struct net_endpoint endpoint;
		const char *why;

		task_init();
		CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM |
		    SOCK_NONBLOCK, 0, run.ends) == 0);
		CU_ASSERT_FATAL(net_endpoint_parse("127.0.0.1:0", &endpoint,
		    &why) == 0);
		run.listener = net_listen(&endpoint, 5, 0, &why);
		CU_ASSERT_FATAL(run.listener != -1);
		endpoint.len = sizeof(endpoint.address);
		getsockname(run.listener,
		    (struct sockaddr *)&endpoint.address, &endpoint.len);
		net_endpoint_print((struct sockaddr *)&endpoint.address,
		    run.address);
		task_detach("server", serve, &run);
		task_detach("client", authenticate, &run);
		task_loop();
		close(run.listener);
		task_shutdown();
	}
}

SUITE(sasl, { "requests", requests })
