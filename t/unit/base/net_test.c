#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/net.h"
#include "t/unit/unit.h"

#define TEN "0123456789"
#define PATH_107 "/234567" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN

static void
parses_and_prints(void)
{
	static const struct { const char *text, *printed; } cases[] = {
		{ "127.0.0.1:25",		"127.0.0.1:25" },
		{ "[::1]:25",			"[::1]:25" },
		{ "[2001:db8::1]:65535",	"[2001:db8::1]:65535" },
		{ ":25",			"[::]:25" },
		{ "0.0.0.0:0",			"0.0.0.0:0" },
		{ "unix:/run/x",		"unix:/run/x" },
		{ "unix:relative",		"unix:relative" },
		{ "unix:" PATH_107,		NULL },
		{ "unix:" PATH_107 "8",		NULL },
		{ "unix:",			NULL },
		{ "",				NULL },
		{ "25",				NULL },
		{ "127.0.0.1",			NULL },
		{ "127.0.0.1:",			NULL },
		{ "127.0.0.1:65536",		NULL },
		{ "127.0.0.1:2 5",		NULL },
		{ "127.0.0.1:+25",		NULL },
		{ "127.0.1:25",			NULL },
		{ "::1:25",			NULL },
		{ "[::1]",			NULL },
		{ "[::1:25",			NULL },
		{ "[]:25",			NULL },
		{ "[:25",			NULL },
		{ "[127.0.0.1]:25",		NULL },
		{ "localhost:25",		NULL },
		{ "1111111111111111111111111111111111111111111111:25", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct net_endpoint e;
		char text[NET_TEXT_SIZE];
		const char *why = NULL;
		int rc = net_endpoint_parse(cases[i].text, &e, &why);

		/* The longest path is parsed, and cut when printed. */
		if (strcmp(cases[i].text, "unix:" PATH_107) == 0) {
			CASE_ASSERT(cases[i].text, rc == 0);
			continue;
		}
		CASE_ASSERT(cases[i].text,
		    (rc == 0) == (cases[i].printed != NULL));
		if (rc != 0) {
			CASE_ASSERT(cases[i].text, why != NULL);
			continue;
		}
		net_endpoint_print((struct sockaddr *)&e.address, text);
		CASE_ASSERT(cases[i].text,
		    cases[i].printed && strcmp(text, cases[i].printed) == 0);
	}
}

static void
prints_addresses(void)
{
	static const struct { const char *text, *printed; } cases[] = {
		{ "192.0.2.1:25",	"192.0.2.1" },
		{ "[2001:db8::1]:25",	"2001:db8::1" },
		{ "unix:/run/x",	"/run/x" },
	};
	struct sockaddr other = { .sa_family = AF_UNSPEC };
	char text[NET_TEXT_SIZE];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct net_endpoint e;
		const char *why;

		CU_ASSERT_EQUAL(net_endpoint_parse(cases[i].text, &e, &why), 0);
		net_address_print((struct sockaddr *)&e.address, text);
		CASE_ASSERT(cases[i].text,
		    strcmp(text, cases[i].printed) == 0);
	}
	CU_ASSERT_STRING_EQUAL(net_address_print(&other, text), "unknown");
	CU_ASSERT_STRING_EQUAL(net_endpoint_print(&other, text), "unknown");
}

static void
unmaps(void)
{
	static const struct { const char *text, *printed; } cases[] = {
		{ "[::ffff:192.0.2.1]:25",	"192.0.2.1:25" },
		{ "[2001:db8::1]:25",		"[2001:db8::1]:25" },
		{ "192.0.2.1:25",		"192.0.2.1:25" },
		{ "[::192.0.2.1]:25",		"[::192.0.2.1]:25" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct net_endpoint e;
		char text[NET_TEXT_SIZE];
		const char *why;

		CU_ASSERT_EQUAL(net_endpoint_parse(cases[i].text, &e, &why), 0);
		net_unmap(&e.address);
		net_endpoint_print((struct sockaddr *)&e.address, text);
		CASE_ASSERT(cases[i].text,
		    strcmp(text, cases[i].printed) == 0);
	}
}

static void
host_names(void)
{
#define LABEL_63 "abcdefghijklmnopqrstuvwxyz0123456789-" \
	"abcdefghijklmnopqrstuvwxyz"
	static const struct { const char *name; bool want; } cases[] = {
		{ "mx.example.org",	true },
		{ "localhost",		true },
		{ "1and1.example",	true },
		{ "a-b.c",		true },
		{ "MX.Example.ORG",	true },
		{ LABEL_63 ".org",	true },
		{ LABEL_63 "x.org",	false },
		{ LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63, true },
		{ LABEL_63 "." LABEL_63 "." LABEL_63 "." LABEL_63 ".a", false },
		{ "",			false },
		{ ".",			false },
		{ "a..b",		false },
		{ ".a",			false },
		{ "a.",			false },
		{ "-a.b",		false },
		{ "a-.b",		false },
		{ "a.b-",		false },
		{ "a_b.c",		false },
		{ "[192.0.2.1]",	false },
		{ "a b",		false },
		{ "b\303\274cher.example", false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CASE_ASSERT(cases[i].name,
		    net_is_host_name(cases[i].name) == cases[i].want);
}

static void
listens_on_tcp(void)
{
	struct net_endpoint e;
	socklen_t len = sizeof(e.address);
	const char *why = NULL;
	int fd, second;

	CU_ASSERT_EQUAL(net_endpoint_parse("127.0.0.1:0", &e, &why), 0);
	fd = net_listen(&e, 5, 0, &why);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
	CU_ASSERT((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	CU_ASSERT_EQUAL(getsockname(fd, (struct sockaddr *)&e.address, &len),
	    0);
	second = net_listen(&e, 5, 0, &why);
	CU_ASSERT_EQUAL(second, -1);
	CU_ASSERT_STRING_EQUAL(why, "address in use");
	close(fd);
}

/* ":port" takes IPv4 clients too, with or without IPv6 in the kernel. */
static void
listens_on_all(void)
{
	struct net_endpoint e, client;
	struct sockaddr_storage bound;
	socklen_t len = sizeof(bound);
	const char *why = NULL;
	char text[32];
	int fd, c;

	CU_ASSERT_EQUAL(net_endpoint_parse(":0", &e, &why), 0);
	fd = net_listen(&e, 5, 0, &why);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT_EQUAL(getsockname(fd, (struct sockaddr *)&bound, &len), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%u",
	    ntohs(((struct sockaddr_in *)&bound)->sin_port));
	CU_ASSERT_EQUAL(net_endpoint_parse(text, &client, &why), 0);
	c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CU_ASSERT_EQUAL(connect(c, (struct sockaddr *)&client.address,
	    client.len), 0);
	close(c);
	close(fd);
}

static void
listens_on_unix(void)
{
	char dir[] = "/tmp/net_test.XXXXXX", text[64];
	struct net_endpoint e;
	const char *path = text + strlen("unix:"), *why = NULL;
	struct stat st;
	int fd, second;

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(text, sizeof(text), "unix:%s/s", dir);
	CU_ASSERT_EQUAL(net_endpoint_parse(text, &e, &why), 0);
	fd = net_listen(&e, 5, 0640, &why);
	CU_ASSERT_FATAL(fd >= 0);
	CU_ASSERT(stat(path, &st) == 0 && (st.st_mode & 0777) == 0640);

	second = net_listen(&e, 5, 0640, &why);
	CU_ASSERT_EQUAL(second, -1);
	CU_ASSERT_STRING_EQUAL(why, "address in use");

	/* Its owner is gone, the file is still there. */
	close(fd);
	fd = net_listen(&e, 5, 0600, &why);
	CU_ASSERT(fd >= 0);
	close(fd);
	unlink(path);

	/* A file that isn't a socket is never removed. */
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	CU_ASSERT_EQUAL(net_listen(&e, 5, 0600, &why), -1);
	CU_ASSERT_EQUAL(access(path, F_OK), 0);
	unlink(path);
	rmdir(dir);
}

SUITE(net,
    { "parses and prints", parses_and_prints },
    { "prints addresses", prints_addresses },
    { "unmaps", unmaps },
    { "host names", host_names },
    { "listens on TCP", listens_on_tcp },
    { "listens on all addresses", listens_on_all },
    { "listens on UNIX sockets", listens_on_unix })
