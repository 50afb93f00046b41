/* A client of our own policy process. */
#include "policy/client.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"

#define LINE_MAX_SIZE	16384
#define ANSWER_MAX	(64u << 20)

struct policy_client {
	struct net_endpoint service;
	struct io *io;			/* or NULL */
};

int
policy_client_address(const struct conf *conf, struct net_endpoint *service,
    const char **why)
{
	const char *directory = conf_top_string(conf, "run_directory");
	char address[NET_TEXT_SIZE];

	*why = "there is no run_directory";
	if (directory == NULL)
		return -1;
	*why = "run_directory is too long for a socket";
	if ((size_t)snprintf(address, sizeof(address), "unix:%s/policy.sock",
	    directory) >= sizeof(address))
		return -1;
	return net_endpoint_parse(address, service, why);
}

struct policy_client *
policy_client_new(const struct conf *conf, const char **why)
{
	struct policy_client *client = calloc(1, sizeof(*client));

	if (client == NULL)
		fatal("out of memory (policy)");
	if (policy_client_address(conf, &client->service, why) != 0)
		policy_client_free(&client);
	return client;
}

void
policy_client_free(struct policy_client **clientp)
{
	struct policy_client *client = *clientp;

	*clientp = NULL;
	if (client == NULL)
		return;
	io_free(&client->io);
	free(client);
}

int
policy_client_send(struct policy_client *client, const struct buf *requests,
    int64_t deadline, const char **why)
{
	if (client->io != NULL && io_peer_gone(client->io))
		io_free(&client->io);
	if (client->io == NULL)
		client->io = io_connect((const struct sockaddr *)
		    &client->service.address, client->service.len, NULL, 0,
		    deadline, why);
	if (client->io == NULL)
		return -1;
	io_put(client->io, requests->data, requests->len);
	if (io_flush(client->io, deadline) == 0)
		return 0;
	*why = strerror(errno);
	io_free(&client->io);
	return -1;
}

int
policy_client_receive(struct policy_client *client, struct buf *answer,
    int64_t deadline, const char **why)
{
	const char *line;
	size_t len;
	int rc = 0;

	*why = "there is no connection";
	while (client->io != NULL && answer->len < ANSWER_MAX && (rc =
	    io_read_line(client->io, LINE_MAX_SIZE, &line, &len,
	    deadline)) == 1) {
		if (len == 1)
			return 0;
		buf_append(answer, line, len);
	}
	if (client->io != NULL)
		*why = rc == 0 ? "it closed the connection" : strerror(errno);
	io_free(&client->io);
	return -1;
}
