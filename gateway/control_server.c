#include "config.h"

#include "gateway/control_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/counter.h"
#include "base/io.h"
#include "base/log.h"
#include "base/log_line.h"
#include "base/task.h"
#include "gateway/control_private.h"

#define CLIENTS_MAX 32

/* A client sends its request at once, and reads what it asked for. */
#define REQUEST_MS 10000
#define FLUSH_MS 10000
#define PENDING_MAX 32768

#define ACCEPT_PAUSE_MS 100

static const struct counter_row counters[] = {
	{ "millgate_control_requests_total", COUNTER_TOTAL,
	    "Requests of millgatectl." },
};
COUNTER_TABLE(counters)

struct control_server {
	struct control_service service;
	struct control_client *clients;
	size_t client_count;
	bool draining;			/* cuts off what runs */
	struct task_cond gone;
	int listen_fd;
	struct task *accepter;
	struct counter *requests;
};

void
control_put(struct control_client *client, const char *format, ...)
{
	struct buf text = BUF_INIT;
	struct log_line line;
	va_list arguments;

	if (client->broken)
		return;
	buf_puts(&text, "");
	va_start(arguments, format);
	buf_vprintf(&text, format, arguments);
	va_end(arguments);
	/* A header's lines end in CRLF and may be folded with a tab. */
	if (text.len > 0 && text.data[text.len - 1] == '\r')
		text.data[--text.len] = '\0';
	for (size_t i = 0; i < text.len; i++)
		if (text.data[i] == '\t')
			text.data[i] = ' ';
	line.len = 0;
	log_line_puts(&line, "+");
	log_line_text(&line, text.data);
	log_line_end(&line);
	io_put(client->io, line.bytes, line.len);
	buf_release(&text);
}

static int
flush(struct control_client *client)
{
	if (!client->broken &&
	    io_flush(client->io, task_deadline(FLUSH_MS)) != 0)
		client->broken = true;
	return client->broken ? -1 : 0;
}

int
control_flow(struct control_client *client)
{
	if (io_pending(client->io) >= PENDING_MAX)
		return flush(client);
	return client->broken ? -1 : 0;
}

void
control_end(struct control_client *client, const char *status,
    const char *text)
{
	struct log_line line;

	line.len = 0;
	log_line_puts(&line, "=");
	log_line_puts(&line, status);
	if (text != NULL) {
		log_line_puts(&line, " ");
		log_line_text(&line, text);
	}
	log_line_end(&line);
	if (!client->broken)
		io_put(client->io, line.bytes, line.len);
	flush(client);
}

/* The socket's mode keeps others out as well, where the system heeds it. */
static bool
is_trusted(struct io *io)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(io_fd(io), SOL_SOCKET, SO_PEERCRED, &peer, &len) != 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static void
serve(struct control_client *client)
{
	struct control_request request;
	const char *line, *why;
	size_t len;
	int rc;

	if (!is_trusted(client->io)) {
		control_end(client, "error", "only root, and the user that "
		    "runs the console, may do this");
		return;
	}
	rc = io_read_line(client->io, CONTROL_LINE_MAX, &line, &len,
	    task_deadline(REQUEST_MS));
	if (rc < 0 && errno == EMSGSIZE)
		control_end(client, "usage", "the request is too long");
	if (rc <= 0)
		return;
	counter_add(client->server->requests, 1);
	if (control_parse(line, len, &request, &why) != 0)
		control_end(client, "usage", why);
	else
		control_command(client, &request);
}

static void
client_task(void *argument)
{
	struct control_client *client = argument, **link;
	struct control_server *server = client->server;

	client->task = task_self();
	if (!server->draining)
		serve(client);
	for (link = &server->clients; *link != client; )
		link = &(*link)->next;
	*link = client->next;
	server->client_count--;
	io_free(&client->io);
	free(client);
	task_cond_broadcast(&server->gone);
}

void
control_server_serve(struct control_server *server, int fd)
{
	struct control_client *client;

	if (server->client_count >= CLIENTS_MAX) {
		static const char busy[] = "=error too many clients\n";

		(void)send(fd, busy, sizeof(busy) - 1,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	if ((client = calloc(1, sizeof(*client))) == NULL)
		fatal("out of memory");
	client->server = server;
	client->service = &server->service;
	client->io = io_new(fd);
	client->next = server->clients;
	server->clients = client;
	server->client_count++;
	task_detach("control client", client_task, client);
}

static void
accept_clients(void *argument)
{
	struct control_server *server = argument;
	struct task_fd ready;
	int fd;

	task_fd_init(&ready, server->listen_fd);
	for (;;) {
		fd = accept4(server->listen_fd, NULL, NULL,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0)
			control_server_serve(server, fd);
		else if (errno == EAGAIN) {
			if (task_fd_wait(&ready, TASK_READ,
			    DEADLINE_NEVER) != 0)
				break;
		} else if (errno != EINTR && errno != ECONNABORTED &&
		    task_sleep(ACCEPT_PAUSE_MS) != 0)
			break;
	}
	task_fd_release(&ready);
}

struct control_server *
control_server_new(const struct control_service *service)
{
	struct control_server *server = calloc(1, sizeof(*server));

	if (server == NULL)
		fatal("out of memory");
	server->requests = counter_get("millgate_control_requests_total",
	    NULL);
	server->service = *service;
	return server;
}

void
control_server_listen(struct control_server *server, int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	server->listen_fd = fd;
	server->accepter = task_start("control", accept_clients, server);
}

void
control_server_drain(struct control_server *server, int64_t deadline)
{
	struct control_client *client;

	task_reap(&server->accepter);
	while (server->client_count > 0)
		if (task_cond_wait(&server->gone, deadline) != 0)
			break;
	server->draining = true;
	for (client = server->clients; client != NULL; client = client->next)
		if (client->task != NULL)
			task_cancel(client->task);
	while (server->client_count > 0)
		if (task_cond_wait(&server->gone, DEADLINE_NEVER) != 0)
			return;
}

void
control_server_free(struct control_server **serverp)
{
	free(*serverp);
	*serverp = NULL;
}
