/* P15, P71, P72: end points in their spellings, and names that are looked up. */
#include "filters/milter_place.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/dns.h"
#include "base/io.h"
#include "base/task.h"
#include "t/unit/unit.h"

static const struct {
	const char *name, *text;
	const char *net;		/* NULL: an error, or a name */
	const char *host;
	unsigned port;
} cases[] = {
	{ "socket", "unix:/run/m", "unix:/run/m", NULL, 0 },
	{ "Sendmail's socket", "local:/run/m", "unix:/run/m", NULL, 0 },
	{ "address", "127.0.0.1:8891", "127.0.0.1:8891", NULL, 0 },
	{ "Sendmail's address", "inet:8891@127.0.0.1", "127.0.0.1:8891", NULL,
	    0 },
	{ "Sendmail's IPv6", "inet6:8891@::1", "[::1]:8891", NULL, 0 },
	{ "localhost", "localhost:8891", "127.0.0.1:8891", NULL, 0 },
	{ "Sendmail's localhost", "inet:8891@localhost", "127.0.0.1:8891",
	    NULL, 0 },
	{ "name", "m.example.org:8891", NULL, "m.example.org", 8891 },
	{ "name of one label", "rspamd:11332", NULL, "rspamd", 11332 },
	{ "Sendmail's name", "inet:1@m.example.org", NULL, "m.example.org",
	    1 },
	{ "no port", "m.example.org", NULL, NULL, 0 },
	{ "empty port", "m.example.org:", NULL, NULL, 0 },
	{ "port 0", "m.example.org:0", NULL, NULL, 0 },
	{ "port too large", "m.example.org:65536", NULL, NULL, 0 },
	{ "text behind the port", "m.example.org:25x", NULL, NULL, 0 },
	{ "bad address", "127.0.0.256:8891", NULL, NULL, 0 },
	{ "bad name", "m_x:8891", NULL, NULL, 0 },
	{ "TLS to an address", "tls:127.0.0.1:8891", "127.0.0.1:8891", NULL,
	    0 },
	{ "TLS to a name", "tls:m.example.org:8891", NULL, "m.example.org",
	    8891 },
	{ "TLS to nothing", "tls:", NULL, NULL, 0 },
	{ "no host", "inet:8891", NULL, NULL, 0 },
};

static void
spellings(void)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct milter_place place;
		char text[NET_TEXT_SIZE];
		const char *why = NULL;
		bool good = milter_place_parse(cases[i].text, &place,
		    &why) == 0;

		CASE_ASSERT(cases[i].name, good ==
		    (cases[i].net != NULL || cases[i].host != NULL));
		CASE_ASSERT(cases[i].name, good || why != NULL);
		if (cases[i].net != NULL && good)
			CASE_ASSERT(cases[i].name, strcmp(net_endpoint_print(
			    (struct sockaddr *)&place.net.address, text),
			    cases[i].net) == 0);
		CASE_ASSERT(cases[i].name, !good || (place.name != NULL) ==
		    (cases[i].host != NULL));
		if (cases[i].host != NULL && good)
			CASE_ASSERT(cases[i].name, strcmp(place.name,
			    cases[i].host) == 0 && place.port ==
			    cases[i].port);
		CASE_ASSERT(cases[i].name, !good || place.tls ==
		    (strncmp(cases[i].text, "tls:", 4) == 0));
		CASE_ASSERT(cases[i].name, !good || !place.tls ||
		    strcmp(place.certified, cases[i].host != NULL ?
		    cases[i].host : "127.0.0.1") == 0);
		milter_place_release(&place);
	}
}

/* A name with two addresses, of which the second is ours; one that fails. */
static const struct dns_answer *
zone(struct arena *arena, const char *name, enum dns_type type, void *argument)
{
	static struct dns_record records[2];
	static const struct dns_answer found = { .status = DNS_FOUND,
	    .count = 2, .records = records };
	static const struct dns_answer failed = { .status = DNS_FAILED };

	(void)arena, (void)argument;
	records[0].a.s_addr = htonl(0x7f010101);	/* 127.1.1.1 */
	records[1].a.s_addr = htonl(INADDR_LOOPBACK);
	if (strcmp(name, "ill.example") == 0)
		return &failed;
	return strcmp(name, "two.example") == 0 && type == DNS_A ? &found :
	    NULL;
}

static void
run_names(void *argument)
{
	static const char *const none[] = { "ill.example", "no.example" };
	struct sockaddr_in in = { .sin_family = AF_INET,
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct milter_place place = { .name = NULL };
	socklen_t len = sizeof(in);
	const char *why = NULL;
	struct io *io;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)argument;
	CU_ASSERT_EQUAL_FATAL(bind(fd, (struct sockaddr *)&in, len), 0);
	CU_ASSERT_EQUAL_FATAL(listen(fd, 1), 0);
	getsockname(fd, (struct sockaddr *)&in, &len);
	dns_set_source(zone, NULL);
	place.port = ntohs(in.sin_port);
	place.name = (char *)(uintptr_t)"two.example";
	io = milter_place_connect(&place, NULL, NULL, task_deadline(2000), &why);
	CU_ASSERT_PTR_NOT_NULL(io);
	io_free(&io);
	for (size_t i = 0; i < 2; i++) {
		place.name = (char *)(uintptr_t)none[i];
		why = NULL;
		CU_ASSERT_PTR_NULL(milter_place_connect(&place,
		    NULL, NULL, task_deadline(2000), &why));
		CASE_ASSERT(none[i], why != NULL && strstr(why, "name"));
	}
	dns_set_source(NULL, NULL);
	close(fd);
}

/* P71: a queue that is full for a while, and one that stays so. */
static int full;

static int
busy(const char *path, const char **why, int64_t deadline)
{
	int fds[2];

	(void)path, (void)deadline;
	if (full-- > 0) {
		*why = strerror(errno = EAGAIN);
		return -1;
	}
	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC |
	    SOCK_NONBLOCK, 0, fds), 0);
	close(fds[1]);
	return fds[0];
}

static void
run_busy(void *argument)
{
	struct milter_place place;
	const char *why = NULL;
	struct io *io;

	(void)argument;
	io_set_unix_connector(busy);
	CU_ASSERT_EQUAL_FATAL(milter_place_parse("unix:/m", &place, &why), 0);
	full = 2;
	io = milter_place_connect(&place, NULL, NULL, task_deadline(5000),
	    &why);
	CU_ASSERT_PTR_NOT_NULL(io);
	CU_ASSERT(full < 0);
	io_free(&io);
	full = INT_MAX;
	CU_ASSERT_PTR_NULL(milter_place_connect(&place, NULL, NULL,
	    task_deadline(100), &why));
	CU_ASSERT(full < INT_MAX - 1);
	milter_place_release(&place);
	io_set_unix_connector(NULL);
}

static void
busy_queue(void)
{
	task_init();
	task_detach("test", run_busy, NULL);
	task_loop();
	task_shutdown();
}

static void
names(void)
{
	task_init();
	task_detach("test", run_names, NULL);
	task_loop();
	task_shutdown();
}

SUITE(milter_place,
    { "spellings", spellings },
    { "names", names },
    { "full queue", busy_queue })
