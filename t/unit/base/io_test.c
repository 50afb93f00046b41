#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/io.h"
#include "base/io_internal.h"
#include "base/net.h"
#include "base/task.h"
#include "t/unit/unit.h"

#define SECOND 1000

/* Two ends of a socket pair, one task each; the left one is the test's. */
struct pair {
	struct io *left, *right;
	task_f *other;
};

static void
pair_body(void *argument)
{
	struct pair *pair = argument;
	struct task *t = task_start("right", pair->other, pair);

	task_join(&t, DEADLINE_NEVER);
	io_free(&pair->right);
}

/* Runs left and right on the ends of a UNIX socket pair. */
static void
run_pair(task_f *left, task_f *right)
{
	struct pair pair = { NULL, NULL, right };
	int s[2];

	CU_ASSERT_EQUAL_FATAL(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	task_init();
	pair.left = io_new(s[0]);
	pair.right = io_new(s[1]);
	task_detach("left", left, &pair);
	task_detach("pair", pair_body, &pair);
	task_loop();
	CU_ASSERT_EQUAL(task_count(), 0);
	io_free(&pair.left);
	CU_ASSERT_PTR_NULL(pair.left);
	io_free(&pair.left);
	task_shutdown();
}

/* --- lines --- */

static void
write_bytes(void *argument)
{
	struct pair *pair = argument;
	const char *text = "EHLO x\r\n\nlast\r\npart";

	for (; *text != '\0'; text++) {
		io_put(pair->right, text, 1);
		CU_ASSERT_EQUAL(io_flush(pair->right, task_deadline(SECOND)),
		    0);
		task_yield();
	}
}

static void
read_lines(void *argument)
{
	static const char *const want[] = { "EHLO x\r\n", "\n", "last\r\n" };
	struct pair *pair = argument;
	const char *line, *rest;
	size_t len;

	for (size_t i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL_FATAL(io_read_line(pair->left, 100, &line,
		    &len, task_deadline(SECOND)), 1);
		CASE_ASSERT(want[i], len == strlen(want[i]) &&
		    memcmp(line, want[i], len) == 0);
	}
	CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len,
	    task_deadline(SECOND)), 0);
	rest = io_input(pair->left, &len);
	CU_ASSERT(len == 4 && memcmp(rest, "part", 4) == 0);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len,
	    task_deadline(SECOND)), 0);
}

static void
reads_lines_byte_by_byte(void)
{
	run_pair(read_lines, write_bytes);
}

static void
write_long_lines(void *argument)
{
	struct pair *pair = argument;

	io_printf(pair->right, "%099d\n", 1);
	io_printf(pair->right, "%0100d\n", 2);
	io_printf(pair->right, "%016383d\n", 3);
	io_printf(pair->right, "%016384d\n", 4);
	CU_ASSERT_EQUAL(io_flush(pair->right, task_deadline(SECOND)), 0);
}

static void
read_long_lines(void *argument)
{
	struct pair *pair = argument;
	const char *line;
	size_t len;
	int64_t deadline = task_deadline(SECOND);

	CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len, deadline),
	    1);
	CU_ASSERT_EQUAL(len, 100);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len, deadline),
	    -1);
	CU_ASSERT_EQUAL(errno, EMSGSIZE);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 50, &line, &len, deadline),
	    -1);
	CU_ASSERT_EQUAL(errno, EMSGSIZE);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 101, &line, &len, deadline),
	    1);
	CU_ASSERT_EQUAL(len, 101);
	CU_ASSERT_EQUAL(line[99], '2');
	CU_ASSERT_EQUAL(io_read_line(pair->left, 16384, &line, &len, deadline),
	    1);
	CU_ASSERT_EQUAL(len, 16384);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 16384, &line, &len, deadline),
	    -1);
	CU_ASSERT_EQUAL(errno, EMSGSIZE);
	io_consume(pair->left, 16384);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 16384, &line, &len, deadline),
	    1);
	CU_ASSERT_EQUAL(len, 1);
}

static void
bounds_lines(void)
{
	run_pair(read_long_lines, write_long_lines);
}

/* --- the end --- */

static void
say_and_close(void *argument)
{
	struct pair *pair = argument;

	io_puts(pair->right, "QUIT\r\n");
	CU_ASSERT_EQUAL(io_flush(pair->right, task_deadline(SECOND)), 0);
	io_free(&pair->right);
}

/* Data and hang-up come as one event; the end is seen without a delay. */
static void
read_to_end(void *argument)
{
	struct pair *pair = argument;
	int64_t start = task_now();
	const char *line;
	size_t len;

	CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len,
	    task_deadline(10 * SECOND)), 1);
	CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len,
	    task_deadline(10 * SECOND)), 0);
	CU_ASSERT_TRUE(io_peer_gone(pair->left));
	CU_ASSERT(task_now() - start < SECOND);
	io_puts(pair->left, "too late");
	CU_ASSERT_EQUAL(io_flush(pair->left, task_deadline(SECOND)), -1);
	CU_ASSERT_EQUAL(errno, EPIPE);
	CU_ASSERT_STRING_EQUAL(io_why(pair->left), strerror(EPIPE));
}

static void
sees_the_end(void)
{
	run_pair(read_to_end, say_and_close);
}

static void
stay_silent(void *argument)
{
	(void)argument;
	task_sleep(5);
}

static void
wait_in_vain(void *argument)
{
	struct pair *pair = argument;

	CU_ASSERT_FALSE(io_peer_gone(pair->left));
	CU_ASSERT_EQUAL(io_fill(pair->left, task_deadline(2)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	CU_ASSERT_STRING_EQUAL(io_why(pair->left), strerror(ETIMEDOUT));
}

static void
keeps_deadlines(void)
{
	run_pair(wait_in_vain, stay_silent);
}

/* --- large amounts --- */

#define LARGE 1000000

static void
write_large(void *argument)
{
	struct pair *pair = argument;
	char *bytes = malloc(LARGE);
	struct iovec iov[100];

	for (size_t i = 0; i < LARGE; i++)
		bytes[i] = (char)(i * 7 + i / 251);
	for (size_t i = 0; i < 100; i++)
		iov[i] = (struct iovec){ bytes + i * 10000, 10000 };
	iov[99].iov_len = 0;
	iov[50].iov_len = 0;
	iov[49].iov_len = 20000;
	io_puts(pair->left, "size\n");
	CU_ASSERT_EQUAL(io_pending(pair->left), 5);
	CU_ASSERT_EQUAL(io_writev(pair->left, iov, 100,
	    task_deadline(10 * SECOND)), 0);
	CU_ASSERT_EQUAL(io_pending(pair->left), 0);
	io_put(pair->left, bytes + 990000, 10000);
	CU_ASSERT_EQUAL(io_flush(pair->left, task_deadline(SECOND)), 0);
	free(bytes);
}

static void
read_slowly(void *argument)
{
	struct pair *pair = argument;
	const char *line, *bytes;
	size_t len, total = 0, wrong = 0;

	CU_ASSERT_EQUAL(io_read_line(pair->right, 10, &line, &len,
	    task_deadline(SECOND)), 1);
	while (total < LARGE) {
		bytes = io_input(pair->right, &len);
		for (size_t i = 0; i < len; i++, total++)
			if (bytes[i] != (char)(total * 7 + total / 251))
				wrong++;
		io_consume(pair->right, len);
		if (total < LARGE && io_fill(pair->right,
		    task_deadline(SECOND)) <= 0)
			break;
		task_yield();
	}
	CU_ASSERT_EQUAL(total, LARGE);
	CU_ASSERT_EQUAL(wrong, 0);
}

static void
writes_to_a_slow_reader(void)
{
	run_pair(write_large, read_slowly);
}

static void
read_in_full(void *argument)
{
	struct pair *pair = argument;
	char *bytes = malloc(LARGE), head[5];
	size_t wrong = 0;
	int64_t deadline = task_deadline(10 * SECOND);

	CU_ASSERT_EQUAL(io_read_full(pair->right, head, 5, deadline), 1);
	CU_ASSERT(memcmp(head, "size\n", 5) == 0);
	CU_ASSERT_EQUAL(io_read_full(pair->right, bytes, 10, deadline), 1);
	CU_ASSERT_EQUAL(io_read_full(pair->right, bytes + 10, LARGE - 20,
	    deadline), 1);
	CU_ASSERT_EQUAL(io_read_full(pair->right, bytes + LARGE - 10, 10,
	    deadline), 1);
	for (size_t i = 0; i < LARGE; i++)
		if (bytes[i] != (char)(i * 7 + i / 251))
			wrong++;
	CU_ASSERT_EQUAL(wrong, 0);
	free(bytes);
}

static void
reads_in_full(void)
{
	run_pair(write_large, read_in_full);
}

static void
read_short(void *argument)
{
	struct pair *pair = argument;
	char bytes[10];

	CU_ASSERT_EQUAL(io_read_full(pair->left, bytes, 6,
	    task_deadline(SECOND)), 1);
	CU_ASSERT_EQUAL(io_read_full(pair->left, bytes, 6,
	    task_deadline(SECOND)), 0);
}

static void
read_cut(void *argument)
{
	struct pair *pair = argument;
	char bytes[10];

	CU_ASSERT_EQUAL(io_read_full(pair->left, bytes, 7,
	    task_deadline(SECOND)), -1);
	CU_ASSERT_EQUAL(errno, ECONNRESET);
	CU_ASSERT_STRING_EQUAL(io_why(pair->left),
	    "the peer closed within a packet");
}

static void
tells_a_cut_packet(void)
{
	run_pair(read_short, say_and_close);
	run_pair(read_cut, say_and_close);
}

static void
fill_up(void *argument)
{
	struct pair *pair = argument;
	char *bytes = calloc(1, LARGE);

	io_put(pair->left, bytes, LARGE);
	CU_ASSERT(io_pending(pair->left) < LARGE);
	CU_ASSERT_EQUAL(io_flush(pair->left, task_deadline(2)), -1);
	CU_ASSERT_EQUAL(errno, ETIMEDOUT);
	CU_ASSERT(io_pending(pair->left) > 0);
	free(bytes);
}

static void
writes_by_a_deadline(void)
{
	run_pair(fill_up, stay_silent);
}

/* --- two tasks on one connection --- */

static void
send_all(void *argument)
{
	struct io *io = argument;
	char line[100];

	for (int i = 0; i < 3000; i++) {
		snprintf(line, sizeof(line), "%090d\n", i);
		io_puts(io, line);
		if (i % 100 == 99)
			CU_ASSERT_EQUAL(io_flush(io, task_deadline(SECOND)),
			    0);
	}
	io_puts(io, "end\n");
	CU_ASSERT_EQUAL(io_flush(io, task_deadline(SECOND)), 0);
}

static void
send_and_receive(struct io *io)
{
	struct task *sender = task_start("sender", send_all, io);
	const char *line;
	size_t len;
	int lines = 0;

	while (io_read_line(io, 1000, &line, &len, task_deadline(SECOND)) == 1
	    && memcmp(line, "end\n", 4) != 0)
		lines++;
	CU_ASSERT_EQUAL(lines, 3000);
	CU_ASSERT_EQUAL(task_join(&sender, DEADLINE_NEVER), 0);
}

static void
left_duplex(void *argument)
{
	send_and_receive(((struct pair *)argument)->left);
}

static void
right_duplex(void *argument)
{
	send_and_receive(((struct pair *)argument)->right);
}

static void
is_full_duplex(void)
{
	run_pair(left_duplex, right_duplex);
}

/* --- idle connections --- */

static void
echo_twice(void *argument)
{
	struct pair *pair = argument;

	for (int i = 0; i < 2; i++) {
		task_sleep(2);
		CU_ASSERT_PTR_NULL(pair->left->input);
		CU_ASSERT_PTR_NULL(pair->left->output.data);
		io_puts(pair->right, "line\n");
		io_flush(pair->right, task_deadline(SECOND));
	}
	task_sleep(1);
}

static void
hold_nothing(void *argument)
{
	struct pair *pair = argument;
	const char *line;
	size_t len;

	for (int i = 0; i < 2; i++) {
		CU_ASSERT_EQUAL(io_read_line(pair->left, 100, &line, &len,
		    task_deadline(SECOND)), 1);
		CU_ASSERT_PTR_NOT_NULL(pair->left->input);
	}
}

static void
holds_nothing_when_idle(void)
{
	run_pair(hold_nothing, echo_twice);
}

/* --- connecting --- */

static struct net_endpoint endpoint;

static void
listen_on(const char *text, int *fd)
{
	const char *why = NULL;
	socklen_t len = sizeof(endpoint.address);

	CU_ASSERT_EQUAL_FATAL(net_endpoint_parse(text, &endpoint, &why), 0);
	*fd = net_listen(&endpoint, 5, 0600, &why);
	CU_ASSERT_FATAL(*fd >= 0);
	getsockname(*fd, (struct sockaddr *)&endpoint.address, &len);
}

static struct io *
connect_there(const char **why)
{
	return io_connect((struct sockaddr *)&endpoint.address, endpoint.len,
	    NULL, 0, task_deadline(SECOND), why);
}

static void
connect_body(void *argument)
{
	int listener = *(int *)argument, fd;
	const char *why = NULL, *line;
	struct io *client, *server;
	size_t len;

	client = connect_there(&why);
	CU_ASSERT_PTR_NOT_NULL_FATAL(client);
	fd = accept(listener, NULL, NULL);
	CU_ASSERT_FATAL(fd >= 0);
	server = io_new(fd);
	io_quickack(server);
	io_puts(client, "hello\n");
	CU_ASSERT_EQUAL(io_flush(client, task_deadline(SECOND)), 0);
	CU_ASSERT_EQUAL(io_read_line(server, 100, &line, &len,
	    task_deadline(SECOND)), 1);
	CU_ASSERT_FALSE(io_peer_gone(server));
	CU_ASSERT(io_fd(server) == fd);
	io_free(&client);
	CU_ASSERT_EQUAL(io_fill(server, task_deadline(SECOND)), 0);
	CU_ASSERT_TRUE(io_peer_gone(server));
	io_free(&server);
	/* Nobody listens any more. */
	close(listener);
	CU_ASSERT_PTR_NULL(connect_there(&why));
	CU_ASSERT_EQUAL(errno, ECONNREFUSED);
	CU_ASSERT_STRING_EQUAL(why, strerror(ECONNREFUSED));
}

static void
run_connect(const char *text)
{
	int fd;

	listen_on(text, &fd);
	task_init();
	task_detach("connect", connect_body, &fd);
	task_loop();
	task_shutdown();
}

static void
connects_by_tcp(void)
{
	run_connect("127.0.0.1:0");
}

static void
connects_by_unix_socket(void)
{
	char dir[] = "/tmp/io_test.XXXXXX", text[64];

	CU_ASSERT_PTR_NOT_NULL_FATAL(mkdtemp(dir));
	snprintf(text, sizeof(text), "unix:%s/s", dir);
	run_connect(text);
	unlink(text + strlen("unix:"));
	rmdir(dir);
}

static int
connect_by_hook(const char *path, const char **why, int64_t deadline)
{
	(void)deadline;
	CU_ASSERT_STRING_EQUAL(path, "/elsewhere");
	*why = "hooked";
	errno = EACCES;
	return -1;
}

static void
hook_body(void *argument)
{
	const char *why = NULL;

	(void)argument;
	CU_ASSERT_EQUAL(net_endpoint_parse("unix:/elsewhere", &endpoint, &why),
	    0);
	io_set_unix_connector(connect_by_hook);
	CU_ASSERT_PTR_NULL(connect_there(&why));
	CU_ASSERT_STRING_EQUAL(why, "hooked");
	io_set_unix_connector(NULL);
	CU_ASSERT_PTR_NULL(connect_there(&why));
	CU_ASSERT_EQUAL(errno, ENOENT);
}

static void
connects_by_a_hook(void)
{
	task_init();
	task_detach("hook", hook_body, NULL);
	task_loop();
	task_shutdown();
}

SUITE(io,
    { "reads lines byte by byte", reads_lines_byte_by_byte },
    { "bounds lines", bounds_lines },
    { "sees the end", sees_the_end },
    { "keeps deadlines", keeps_deadlines },
    { "writes to a slow reader", writes_to_a_slow_reader },
    { "reads in full", reads_in_full },
    { "tells a cut packet", tells_a_cut_packet },
    { "writes by a deadline", writes_by_a_deadline },
    { "is full duplex", is_full_duplex },
    { "holds nothing when idle", holds_nothing_when_idle },
    { "connects by TCP", connects_by_tcp },
    { "connects by UNIX socket", connects_by_unix_socket },
    { "connects by a hook", connects_by_a_hook })
