/*
 * The listeners of a gateway process: options, set-up, accepting, limits.
 */
#define _GNU_SOURCE		/* accept4 */
#include "gateway/auth_limit.h"
#include "gateway/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/table.h"
#include "base/tls.h"
#include "gateway/screen.h"
#include "gateway/smtp_session.h"

#define SESSION_ARENA 1024		/* names and HELO fit */
#define ACCEPT_PAUSE_MS 100
#define OWN_DESCRIPTORS 32		/* the process's, beside sessions */

static const struct option_row listener_rows[] = {
	LISTENER_OPTIONS(OPTION_ROW, listener_options)
};

const struct section_kind listener_kind = {
	.name = "listener", .titled = true,
	.doc = "An SMTP listener: addresses, its chain of filters, limits.",
	.rows = listener_rows, .row_count = OPTION_COUNT(listener_rows),
	.size = sizeof(struct listener_options)
};

static const struct option_row certificate_rows[] = {
	CERTIFICATE_OPTIONS(OPTION_ROW, certificate_options)
};

const struct section_kind certificate_kind = {
	.name = "certificate", .titled = true,
	.doc = "A further certificate, chosen by the name a client asks for.",
	.rows = certificate_rows, .row_count = OPTION_COUNT(certificate_rows),
	.size = sizeof(struct certificate_options)
};

static const struct counter_row counter_rows[] = {
	{ "millgate_smtp_sessions_total", COUNTER_TOTAL,
	    "SMTP sessions accepted." },
	{ "millgate_smtp_sessions", COUNTER_GAUGE, "SMTP sessions now open." },
	{ "millgate_smtp_sessions_refused_total", COUNTER_TOTAL,
	    "Connections refused by limits." },
	{ "millgate_smtp_received_bytes_total", COUNTER_TOTAL,
	    "Bytes of message content received." },
	{ "millgate_smtp_messages_total", COUNTER_TOTAL,
	    "Messages by what became of them." },
	{ "millgate_smtp_rejects_total", COUNTER_TOTAL,
	    "Refused commands and messages by reason code." },
	{ "millgate_smtp_transaction_seconds", COUNTER_HISTOGRAM,
	    "Time from MAIL to the end of the transaction." }
};
COUNTER_TABLE(counter_rows)

/* A task that accepts from one socket. */
struct accepter {
	struct smtp_listener *listener;
	int fd;
	int reserve_fd;			/* given up to answer when none is left */
};

static bool
load_pem(const struct conf *conf, const char *path, const char **bytes,
    size_t *len, const char **why)
{
	if (path != NULL && conf_file(conf, path, bytes, len))
		return true;
	*why = path != NULL ? "cannot read certificate or key" :
	    "tls needs a certificate and its key";
	return false;
}

static int
add_certificates(const struct conf *conf, struct tls_context *tls,
    const char **why)
{
	const struct conf_section *sections;
	const char *chain, *key;
	size_t count, chain_len, key_len;

	sections = conf_sections(conf, "certificate", &count);
	for (size_t i = 0; i < count; i++) {
		const struct certificate_options *o = sections[i].values;

		if (!load_pem(conf, o->chain, &chain, &chain_len, why) ||
		    !load_pem(conf, o->key, &key, &key_len, why) ||
		    tls_server_add(tls, chain, chain_len, key, key_len,
		    why) != 0)
			return -1;
	}
	return 0;
}

static int
setup_tls(struct smtp_listener *listener, const struct conf *conf,
    const char **why)
{
	const struct listener_options *o = listener->options;
	const struct top_options *top = listener->server->top;
	const struct tls_settings settings = { .min_version = "TLSv1.2",
	    .session_scope = listener->title };
	const char *path = o->certificate != NULL ? o->certificate :
	    top->tls_certificate;
	const char *key_path = o->key != NULL ? o->key : top->tls_key;
	const char *chain, *key;
	size_t chain_len, key_len;

	if (o->tls == LISTENER_TLS_NONE ||
	    (o->tls == LISTENER_TLS_AUTO && path == NULL))
		return 0;
	listener->tls_implicit = o->tls == LISTENER_TLS_IMPLICIT;
	listener->tls_required = o->tls == LISTENER_TLS_REQUIRED;
	if (!load_pem(conf, path, &chain, &chain_len, why) ||
	    !load_pem(conf, key_path, &key, &key_len, why))
		return -1;
	listener->tls = tls_server_new(&settings, chain, chain_len, key,
	    key_len, why);
	return listener->tls == NULL ? -1 :
	    add_certificates(conf, listener->tls, why);
}

static int
setup_listener(struct smtp_listener *listener, const struct conf *conf,
    const char *host_directory, const struct conf_section *section,
    const char **why)
{
	listener->title = section->title;
	listener->options = section->values;
	listener->access.relay_domains = listener->server->top->relay_domains;
	listener->access.recipients = listener->options->recipients;
	if (setup_tls(listener, conf, why) != 0 ||
	    smtp_auth_setup(listener, why) != 0)
		return -1;
	if (listener->options->screen && listener->server->screen == NULL &&
	    (listener->server->screen = screen_new(conf, why)) == NULL)
		return -1;
	listener->plan = chain_plan_new(conf, host_directory,
	    listener->options->filters, why);
	return listener->plan != NULL ? 0 : -1;
}

/*
 * As many sessions as leave descriptors for the spool, for files of large
 * messages and for connections to filters: a session that is let in must be
 * able to finish.
 */
static size_t
descriptors_for_sessions(void)
{
	struct rlimit limit;
	size_t all;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0 ||
	    limit.rlim_cur == RLIM_INFINITY)
		return SIZE_MAX;
	all = (size_t)limit.rlim_cur;
	return all - all / 4 > 2 * OWN_DESCRIPTORS ?
	    all - all / 4 - OWN_DESCRIPTORS : all / 4;
}

static void
setup_counters(struct smtp_server *server)
{
	server->counts[SMTP_COUNT_SESSIONS] =
	    counter_get("millgate_smtp_sessions_total", NULL);
	server->counts[SMTP_COUNT_OPEN] =
	    counter_get("millgate_smtp_sessions", NULL);
	server->counts[SMTP_COUNT_REFUSED_SESSIONS] =
	    counter_get("millgate_smtp_sessions_refused_total", NULL);
	server->counts[SMTP_COUNT_BYTES] =
	    counter_get("millgate_smtp_received_bytes_total", NULL);
	server->transaction_time =
	    histogram_get("millgate_smtp_transaction_seconds", NULL);
}

struct smtp_server *
smtp_server_new(const struct conf *conf, const char *host_directory,
    struct spool *spool, const char **why)
{
	struct smtp_server *server = calloc(1, sizeof *server);
	const struct conf_section *sections;

	if (server == NULL)
		fatal("out of memory");
	server->top = conf_get(conf, "");
	server->hostname = server->top->hostname;
	server->temporary = server->top->spool_directory;
	server->spool = spool;
	server->max_sessions = descriptors_for_sessions();
	server->auth_limit = auth_limit_new();
	setup_counters(server);
	sections = conf_sections(conf, "listener", &server->listener_count);
	server->listeners = calloc(server->listener_count + 1,
	    sizeof *server->listeners);
	if (server->listeners == NULL)
		fatal("out of memory");
	for (size_t i = 0; i < server->listener_count; i++) {
		server->listeners[i].server = server;
		if (setup_listener(&server->listeners[i], conf,
		    host_directory, &sections[i], why) != 0) {
			smtp_server_free(&server);
			return NULL;
		}
	}
	return server;
}

void
smtp_server_free(struct smtp_server **serverp)
{
	struct smtp_server *server = *serverp;

	*serverp = NULL;
	if (server == NULL)
		return;
	for (size_t i = 0; i < server->accepter_count; i++)
		task_reap(&server->accepters[i]);
	free(server->accepters);
	for (size_t i = 0; i < server->listener_count; i++) {
		if (server->listeners[i].plan != NULL)
			chain_plan_free(&server->listeners[i].plan);
		tls_context_free(&server->listeners[i].tls);
		smtp_auth_release(&server->listeners[i]);
	}
	free(server->listeners);
	auth_limit_free(&server->auth_limit);
	screen_free(&server->screen);
	buf_release(&server->scratch);
	free(server);
}

void
smtp_server_set_spool(struct smtp_server *server, struct spool *spool)
{
	server->spool = spool;
}

void
smtp_server_set_temporary(struct smtp_server *server, const char *directory)
{
	server->temporary = directory;
}

void
smtp_server_set_trace(struct smtp_server *server, smtp_trace_f *trace,
    void *argument)
{
	server->trace = trace;
	server->trace_argument = argument;
}

void
smtp_server_set_cut_through(struct smtp_server *server,
    smtp_cut_through_f *cut_through, void *argument)
{
	server->cut_through = cut_through;
	server->cut_through_argument = argument;
}

/*
 * The first bytes of an address that make a client and its network: an IPv4
 * address and its /24, an IPv6 /64 and its /48.  Others are all one.
 */
static const unsigned char *
network_bytes(const struct sockaddr_storage *address, size_t *client,
    size_t *network)
{
	*client = *network = 0;
	if (address->ss_family == AF_INET) {
		*client = 4;
		*network = 3;
		return (const unsigned char *)
		    &((const struct sockaddr_in *)address)->sin_addr;
	}
	if (address->ss_family == AF_INET6) {
		*client = 8;
		*network = 6;
		return (const unsigned char *)
		    &((const struct sockaddr_in6 *)address)->sin6_addr;
	}
	return (const unsigned char *)"";
}

static struct smtp_session **
bucket_of(struct smtp_server *server, const struct sockaddr_storage *address)
{
	size_t client, network;
	const unsigned char *bytes = network_bytes(address, &client, &network);
	uint32_t hash = 2166136261u;		/* FNV-1a */

	for (size_t i = 0; i < network; i++)
		hash = (hash ^ bytes[i]) * 16777619u;
	return &server->buckets[(hash ^ hash >> 15) % SMTP_BUCKETS];
}

/* Has this client, or its network, as many sessions as it may? */
static bool
client_is_full(const struct smtp_listener *listener,
    const struct sockaddr_storage *address)
{
	const struct listener_options *o = listener->options;
	const struct smtp_session *s = *bucket_of(listener->server, address);
	int64_t same_client = 0, same_network = 0;
	size_t client, network, other_client, other_network;
	const unsigned char *bytes = network_bytes(address, &client, &network);

	for (; s != NULL; s = s->bucket_next) {
		const unsigned char *other = network_bytes(&s->peer.client,
		    &other_client, &other_network);

		if (other_client != client || s->listener != listener)
			continue;
		same_client += memcmp(bytes, other, client) == 0;
		same_network += memcmp(bytes, other, network) == 0;
	}
	return same_client >= o->max_sessions_per_client ||
	    same_network >= o->max_sessions_per_network;
}

/* Answers without a session; the socket is new, so its buffer has room. */
static void
turn_away(struct smtp_listener *listener, int fd, const char *text,
    const struct sockaddr_storage *client)
{
	char address[NET_TEXT_SIZE];

	if (!listener->tls_implicit)
		(void)send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL);
	close(fd);
	counter_add(listener->server->counts[SMTP_COUNT_REFUSED_SESSIONS], 1);
	log_info(NULL, "NOQUEUE: reject: CONNECT from unknown[%s]: %.*s",
	    net_address_print((const struct sockaddr *)client, address),
	    (int)strcspn(text, "\r"), text);
}

static struct smtp_session *
session_new(struct smtp_listener *listener, int fd,
    const struct sockaddr_storage *client, enum answer trusted)
{
	struct smtp_server *server = listener->server;
	struct smtp_session *s = calloc(1, sizeof *s), **bucket;
	struct session *peer;
	char address[NET_TEXT_SIZE];
	socklen_t len = sizeof peer->local;

	if (s == NULL)
		fatal("out of memory");
	peer = &s->peer;
	s->listener = listener;
	s->server = server;
	s->io = io_new(fd);
	s->trusted = trusted;
	s->state = SMTP_STATE_CONNECTED;
	s->deadline = task_deadline(listener->options->session_timeout);
	peer->arena = arena_new(SESSION_ARENA);
	envelope_id_make(peer->log.id);
	peer->hostname = server->hostname;
	peer->listener = listener->title;
	peer->client = *client;
	(void)getsockname(fd, (struct sockaddr *)&peer->local, &len);
	net_unmap(&peer->local);
	peer->client_address = arena_strdup(peer->arena, net_address_print(
	    (const struct sockaddr *)&peer->client, address));
	peer->trusted = trusted == ANSWER_YES;
	s->client = arena_printf(peer->arena, "unknown[%s]",
	    peer->client_address);

	s->next = server->sessions;
	s->previous = &server->sessions;
	if (s->next != NULL)
		s->next->previous = &s->next;
	server->sessions = s;
	bucket = bucket_of(server, &peer->client);
	s->bucket_next = *bucket;
	s->bucket_previous = bucket;
	if (s->bucket_next != NULL)
		s->bucket_next->bucket_previous = &s->bucket_next;
	*bucket = s;
	return s;
}

static enum answer
client_trusted(const struct smtp_server *server,
    const struct sockaddr_storage *client)
{
	const char *value, *why = NULL;
	enum answer answer;

	if (client->ss_family != AF_INET && client->ss_family != AF_INET6)
		return ANSWER_NO;
	if (server->top->trusted_networks == NULL)
		return ANSWER_NO;
	answer = table_find_network(server->top->trusted_networks,
	    (const struct sockaddr *)client, &value, &why);
	if (answer == ANSWER_UNKNOWN)
		log_warn(NULL, "trusted_networks: %s",
		    why != NULL ? why : "no answer");
	return answer;
}

static int
serve(struct smtp_listener *listener, int fd,
    const struct sockaddr_storage *address)
{
	struct smtp_server *server = listener->server;
	struct sockaddr_storage client = *address;
	const char *banned;
	enum answer trusted;

	net_unmap(&client);
	if (server->draining) {
		turn_away(listener, fd, "421 4.3.2 Service shutting down\r\n",
		    &client);
		return -1;
	}
	if (listener->sessions >= (size_t)listener->options->max_sessions ||
	    server->session_count >= server->max_sessions) {
		turn_away(listener, fd, "421 4.3.2 Too many connections "
		    "[connection-limit]\r\n", &client);
		return -1;
	}
	trusted = client_trusted(server, &client);
	if (trusted != ANSWER_YES && listener->options->screen &&
	    (banned = screen_banned(server->screen, &client)) != NULL) {
		turn_away(listener, fd, banned, &client);
		return -1;
	}
	if (trusted != ANSWER_YES && client_is_full(listener, &client)) {
		turn_away(listener, fd,
		    "421 4.7.0 Too many connections from you "
		    "[connection-limit]\r\n", &client);
		return -1;
	}
	listener->sessions++;
	server->session_count++;
	counter_add(server->counts[SMTP_COUNT_SESSIONS], 1);
	counter_add(server->counts[SMTP_COUNT_OPEN], 1);
	task_detach("smtp", smtp_session_run, session_new(listener, fd,
	    &client, trusted));
	return 0;
}

static struct smtp_listener *
find_listener(struct smtp_server *server, const char *title)
{
	for (size_t i = 0; i < server->listener_count; i++)
		if (strcmp(server->listeners[i].title, title) == 0)
			return &server->listeners[i];
	return NULL;
}

int
smtp_server_serve(struct smtp_server *server, const char *title, int fd,
    const struct sockaddr_storage *client)
{
	struct smtp_listener *listener = find_listener(server, title);

	if (listener != NULL)
		return serve(listener, fd, client);
	close(fd);
	return -1;
}

/*
 * No descriptor is left: the reserve makes room to tell one client so, which
 * is better than to let it wait, and than to spin.  accept() says EMFILE also
 * when nobody waits.  0: go on; -1: wait for the next.
 */
static int
accept_without_descriptors(struct accepter *a)
{
	struct sockaddr_storage client = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof client;
	int fd = -1, error = EMFILE;

	if (a->reserve_fd >= 0) {
		close(a->reserve_fd);
		fd = accept4(a->fd, (struct sockaddr *)&client, &len,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
		error = errno;
		if (fd >= 0)
			turn_away(a->listener, fd,
			    "421 4.3.2 Too many connections "
			    "[connection-limit]\r\n", &client);
	}
	a->reserve_fd = fcntl(a->fd, F_DUPFD_CLOEXEC, 0);
	if (a->reserve_fd < 0)
		task_sleep(ACCEPT_PAUSE_MS);
	return fd < 0 && error == EAGAIN ? -1 : 0;
}

/* One connection.  0: go on; -1: wait for the next. */
static int
accept_one(struct accepter *a)
{
	struct sockaddr_storage client = { .ss_family = AF_UNSPEC };
	socklen_t len = sizeof client;
	int fd = accept4(a->fd, (struct sockaddr *)&client, &len,
	    SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		(void)serve(a->listener, fd, &client);
		return 0;
	}
	switch (errno) {
	case EAGAIN:
		return -1;
	case EMFILE:
	case ENFILE:
		return accept_without_descriptors(a);
	case ENOBUFS:
	case ENOMEM:
		task_sleep(ACCEPT_PAUSE_MS);
		return 0;
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
		log_error(NULL, "accept: %s", strerror(errno));
		task_sleep(ACCEPT_PAUSE_MS);
		return 0;
	}
	/* The connection was gone before we took it (ECONNABORTED ...). */
	return 0;
}

/*
 * Takes one connection at a turn of the loop, so that processes that share the
 * socket share the load.
 */
static void
accept_task(void *argument)
{
	struct accepter *a = argument;
	struct smtp_server *server = a->listener->server;
	struct task_fd ready;

	task_fd_init(&ready, a->fd);
	while (!server->draining) {
		if (accept_one(a) == 0)
			task_yield();
		else if (task_fd_wait(&ready, TASK_READ, DEADLINE_NEVER) != 0)
			break;
	}
	task_fd_release(&ready);
	if (a->reserve_fd >= 0)
		close(a->reserve_fd);
	free(a);
}

int
smtp_server_listen(struct smtp_server *server, const char *title, int fd,
    const char **why)
{
	struct smtp_listener *listener = find_listener(server, title);
	struct accepter *accepter;
	const int on = 1;

	if (listener == NULL) {
		*why = "no such listener";
		return -1;
	}
	if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) {
		*why = strerror(errno);
		return -1;
	}
	/* Connections inherit it; replies are small and await an answer. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	accepter = calloc(1, sizeof *accepter);
	server->accepters = realloc(server->accepters,
	    (server->accepter_count + 1) * sizeof *server->accepters);
	if (accepter == NULL || server->accepters == NULL)
		fatal("out of memory");
	accepter->listener = listener;
	accepter->fd = fd;
	accepter->reserve_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	server->accepters[server->accepter_count++] = task_start("accept",
	    accept_task, accepter);
	return 0;
}

size_t
smtp_server_sessions(const struct smtp_server *server)
{
	return server->session_count;
}
