/*
 * Connections to a directory, which each look-up has for itself; those that are
 * idle are kept.  libldap makes and reads the messages; the bytes go through a
 * connection of ours (io.h), so that a task waits for them and no other does.
 */
#include "base/table_ldap.h"

#include <errno.h>
#include <openldap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "base/log.h"
#include "base/tls.h"

#define ANSWER_MAX	(256 * 1024)

/* --- what libldap reads from and writes to --- */

static int
stream_setup(Sockbuf_IO_Desc *stream, void *argument)
{
	stream->sbiod_pvt = argument;
	return 0;
}

static int
stream_close(Sockbuf_IO_Desc *stream)
{
	(void)stream;
	return 0;
}

static int
stream_control(Sockbuf_IO_Desc *stream, int option, void *argument)
{
	struct ldap_link *link = stream->sbiod_pvt;
	size_t len;

	(void)argument;
	if (option != LBER_SB_OPT_DATA_READY)
		return 0;
	io_input(link->io, &len);
	return len > 0;
}

static ber_slen_t
stream_read(Sockbuf_IO_Desc *stream, void *bytes, ber_len_t size)
{
	struct ldap_link *link = stream->sbiod_pvt;
	const char *input;
	size_t len;

	input = io_input(link->io, &len);
	if (len == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (len > size)
		len = size;
	memcpy(bytes, input, len);
	io_consume(link->io, len);
	return (ber_slen_t)len;
}

static ber_slen_t
stream_write(Sockbuf_IO_Desc *stream, void *bytes, ber_len_t len)
{
	struct ldap_link *link = stream->sbiod_pvt;

	io_put(link->io, bytes, len);
	return (ber_slen_t)len;
}

static Sockbuf_IO stream_functions = {
	.sbi_setup = stream_setup,
	.sbi_remove = stream_close,
	.sbi_ctrl = stream_control,
	.sbi_read = stream_read,
	.sbi_write = stream_write,
	.sbi_close = stream_close,
};

/* --- a connection --- */

static void
link_free(struct ldap_link **linkp)
{
	struct ldap_link *link = *linkp;

	*linkp = NULL;
	if (link == NULL)
		return;
	if (link->ldap != NULL)
		ldap_unbind_ext(link->ldap, NULL, NULL);
	io_free(&link->io);
	free(link);
}

static struct ldap_link *
link_new(struct io *io)
{
	struct ldap_link *link = calloc(1, sizeof(*link));
	ber_len_t max = ANSWER_MAX;
	const int version = LDAP_VERSION3;
	Sockbuf *sockbuf;

	if (link == NULL)
		fatal("out of memory (LDAP)");
	link->io = io;
	if (ldap_init_fd(io_fd(io), LDAP_PROTO_EXT, NULL,
	    &link->ldap) != LDAP_SUCCESS ||
	    ldap_get_option(link->ldap, LDAP_OPT_SOCKBUF,
	    &sockbuf) != LDAP_OPT_SUCCESS ||
	    ber_sockbuf_add_io(sockbuf, &stream_functions, LBER_SBIOD_LEVEL_PROVIDER,
	    link) != 0)
		fatal("LDAP: the library cannot be used");
	ber_sockbuf_ctrl(sockbuf, LBER_SB_OPT_SET_MAX_INCOMING, &max);
	ldap_set_option(link->ldap, LDAP_OPT_PROTOCOL_VERSION, &version);
	ldap_set_option(link->ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
	return link;
}

LDAPMessage *
ldap_link_wait(struct ldap_link *link, int id, int64_t deadline,
    const char **why)
{
	struct timeval now = { 0, 0 };
	LDAPMessage *result = NULL;
	size_t before, left;
	ssize_t n;
	int rc;

	if (io_flush(link->io, deadline) != 0) {
		*why = io_why(link->io);
		return NULL;
	}
	for (;;) {
		io_input(link->io, &before);
		rc = ldap_result(link->ldap, id, LDAP_MSG_ALL, &now,
		    &result);
		if (rc > 0)
			return result;
		ldap_msgfree(result);
		result = NULL;
		if (rc < 0) {
			*why = "the server's answer makes no sense";
			return NULL;
		}
		/* It takes a message at a time; there may be more. */
		io_input(link->io, &left);
		if (left > 0 && left < before)
			continue;
		if ((n = io_fill(link->io, deadline)) <= 0) {
			*why = n == 0 ? "the server closed the connection" :
			    io_why(link->io);
			return NULL;
		}
	}
}

int
ldap_link_check(struct table_ldap *table, struct ldap_link *link,
    LDAPMessage *result, const char *what, const char **why)
{
	int code = LDAP_OTHER;

	if (ldap_parse_result(link->ldap, result, &code, NULL, NULL,
	    NULL, NULL, 1) == LDAP_SUCCESS && code == LDAP_SUCCESS)
		return 0;
	snprintf(table->why, sizeof(table->why), "%s: %s", what,
	    ldap_err2string(code));
	*why = table->why;
	return -1;
}

static int
log_in(struct table_ldap *table, struct ldap_link *link,
    int64_t deadline, const char **why)
{
	const char *password = table->password != NULL ? table->password : "";
	struct berval secret = { .bv_len = strlen(password) };
	LDAPMessage *result;
	int id;

	if (table->user == NULL)
		return 0;
	if ((secret.bv_val = strdup(password)) == NULL)
		fatal("out of memory (LDAP)");
	if (ldap_sasl_bind(link->ldap, table->user, LDAP_SASL_SIMPLE,
	    &secret, NULL, NULL, &id) != LDAP_SUCCESS) {
		*why = "cannot log in";
		id = -1;
	}
	free(secret.bv_val);
	if (id == -1 ||
	    (result = ldap_link_wait(link, id, deadline, why)) == NULL)
		return -1;
	return ldap_link_check(table, link, result, "log in", why);
}

static struct ldap_link *
connect_one(struct table_ldap *table, const struct net_endpoint *server,
    int64_t deadline, const char **why)
{
	struct ldap_link *link;
	struct io *io;

	io = io_connect((const struct sockaddr *)&server->address,
	    server->len, NULL, 0, deadline, why);
	if (io == NULL)
		return NULL;
	if (table->tls_context != NULL && io_tls_connect(io,
	    table->tls_context, table->tls, deadline) != 0) {
		snprintf(table->why, sizeof(table->why), "TLS: %s",
		    io_why(io));
		*why = table->why;
		io_free(&io);
		return NULL;
	}
	link = link_new(io);
	if (log_in(table, link, deadline, why) == 0)
		return link;
	link_free(&link);
	return NULL;
}

/*
 * Begins with the one that answered last, and leaves time for the others: one
 * that is silent must not hide them.
 */
static struct ldap_link *
connect_any(struct table_ldap *table, int64_t deadline, const char **why)
{
	size_t first = table->first_server, count = table->server_count;
	struct ldap_link *link = NULL;

	for (size_t i = 0; i < count && link == NULL; i++) {
		size_t at = (first + i) % count;
		int64_t now = task_now();

		link = connect_one(table, &table->servers[at], now +
		    (deadline - now) / (int64_t)(count - i), why);
		if (link != NULL)
			table->first_server = link->server = at;
	}
	return link;
}

/* --- those that are kept --- */

void
ldap_link_hang_up(struct table_ldap *table, struct ldap_link **link)
{
	link_free(link);
	table->open_count--;
	task_cond_signal(&table->room);
}

struct ldap_link *
ldap_link_take(struct table_ldap *table, int64_t deadline, bool *fresh,
    const char **why)
{
	struct ldap_link *link = NULL;

	*fresh = false;
	while (table->idle_count == 0 &&
	    table->open_count == LDAP_CONNECTIONS_MAX)
		if (task_cond_wait(&table->room, deadline) != 0) {
			*why = "all connections are busy";
			return NULL;
		}
	while (table->idle_count > 0) {
		link = table->idle[--table->idle_count];
		if (!io_peer_gone(link->io))
			return link;
		ldap_link_hang_up(table, &link);
	}
	*fresh = true;
	table->open_count++;
	if ((link = connect_any(table, deadline, why)) == NULL)
		ldap_link_hang_up(table, &link);
	return link;
}

void
ldap_link_give_back(struct table_ldap *table, struct ldap_link *link)
{
	table->idle[table->idle_count++] = link;
	task_cond_signal(&table->room);
}

void
ldap_links_close(struct table_ldap *table)
{
	while (table->idle_count > 0)
		link_free(&table->idle[--table->idle_count]);
}
