/*
 * A table in a directory: each look-up is a search (RFC 4511) by a filter that
 * holds the key (RFC 4515).
 *
 * libldap makes and reads the messages; the bytes go through a connection of
 * ours (io.h), so that a task waits for them and no other does.  A look-up has
 * a connection for itself; those that are idle are kept.
 */
#include <errno.h>
#include <ldap.h>
#include <openldap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/io.h"
#include "base/log.h"
#include "base/net.h"
#include "base/option.h"
#include "base/table_impl.h"
#include "base/task.h"
#include "base/tls.h"

#define SERVERS_MAX	8
#define CONNECTIONS_MAX	16
#define TIMEOUT_MS	2000
#define PAUSE_MS	1000	/* after trouble nobody asks so long */
#define ENTRIES_MAX	10	/* of a search: one is enough for a yes */
#define ANSWER_MAX	(256 * 1024)
#define VALUES_MAX	1000000	/* different ones, which are kept */
#define WHY_SIZE	256

struct connection {
	struct io *io;
	LDAP *ldap;
};

struct table_ldap {
	char *text;			/* the strings are in here */
	struct net_endpoint servers[SERVERS_MAX];
	size_t server_count;
	const char *base, *filter, *user, *password, *tls;
	char *attributes[2];		/* the value's, or LDAP_NO_ATTRS */
	int64_t timeout_ms;
	struct tls_context *tls_context;

	struct connection *idle[CONNECTIONS_MAX];
	size_t idle_count, open_count;
	struct task_cond room;		/* a connection was given back */
	int64_t not_before;
	bool away;			/* that was logged */
	char **values;			/* all that were found; see intern() */
	struct table_hash values_by_text;
	char why[WHY_SIZE];
};

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
	struct connection *connection = stream->sbiod_pvt;
	size_t len;

	(void)argument;
	if (option != LBER_SB_OPT_DATA_READY)
		return 0;
	io_input(connection->io, &len);
	return len > 0;
}

static ber_slen_t
stream_read(Sockbuf_IO_Desc *stream, void *bytes, ber_len_t size)
{
	struct connection *connection = stream->sbiod_pvt;
	const char *input;
	size_t len;

	input = io_input(connection->io, &len);
	if (len == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (len > size)
		len = size;
	memcpy(bytes, input, len);
	io_consume(connection->io, len);
	return (ber_slen_t)len;
}

static ber_slen_t
stream_write(Sockbuf_IO_Desc *stream, void *bytes, ber_len_t len)
{
	struct connection *connection = stream->sbiod_pvt;

	io_put(connection->io, bytes, len);
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
connection_free(struct connection **connectionp)
{
	struct connection *connection = *connectionp;

	*connectionp = NULL;
	if (connection == NULL)
		return;
	if (connection->ldap != NULL)
		ldap_unbind_ext(connection->ldap, NULL, NULL);
	io_free(&connection->io);
	free(connection);
}

static struct connection *
connection_new(struct io *io)
{
	struct connection *connection = calloc(1, sizeof(*connection));
	ber_len_t max = ANSWER_MAX;
	const int version = LDAP_VERSION3;
	Sockbuf *sockbuf;

	if (connection == NULL)
		fatal("out of memory (LDAP)");
	connection->io = io;
	if (ldap_init_fd(io_fd(io), LDAP_PROTO_EXT, NULL,
	    &connection->ldap) != LDAP_SUCCESS ||
	    ldap_get_option(connection->ldap, LDAP_OPT_SOCKBUF,
	    &sockbuf) != LDAP_OPT_SUCCESS ||
	    ber_sockbuf_add_io(sockbuf, &stream_functions, LBER_SBIOD_LEVEL_PROVIDER,
	    connection) != 0)
		fatal("LDAP: the library cannot be used");
	ber_sockbuf_ctrl(sockbuf, LBER_SB_OPT_SET_MAX_INCOMING, &max);
	ldap_set_option(connection->ldap, LDAP_OPT_PROTOCOL_VERSION, &version);
	ldap_set_option(connection->ldap, LDAP_OPT_REFERRALS, LDAP_OPT_OFF);
	return connection;
}

/* The result of a request that was made; NULL: *why. */
static LDAPMessage *
wait_result(struct connection *connection, int id, int64_t deadline,
    const char **why)
{
	struct timeval now = { 0, 0 };
	LDAPMessage *result = NULL;
	size_t before, left;
	ssize_t n;
	int rc;

	if (io_flush(connection->io, deadline) != 0) {
		*why = io_why(connection->io);
		return NULL;
	}
	for (;;) {
		io_input(connection->io, &before);
		rc = ldap_result(connection->ldap, id, LDAP_MSG_ALL, &now,
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
		io_input(connection->io, &left);
		if (left > 0 && left < before)
			continue;
		if ((n = io_fill(connection->io, deadline)) <= 0) {
			*why = n == 0 ? "the server closed the connection" :
			    io_why(connection->io);
			return NULL;
		}
	}
}

/* 0, or -1: *why.  Frees the result. */
static int
check_result(struct table_ldap *table, struct connection *connection,
    LDAPMessage *result, const char *what, const char **why)
{
	int code = LDAP_OTHER;

	if (ldap_parse_result(connection->ldap, result, &code, NULL, NULL,
	    NULL, NULL, 1) == LDAP_SUCCESS && code == LDAP_SUCCESS)
		return 0;
	snprintf(table->why, sizeof(table->why), "%s: %s", what,
	    ldap_err2string(code));
	*why = table->why;
	return -1;
}

static int
log_in(struct table_ldap *table, struct connection *connection,
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
	if (ldap_sasl_bind(connection->ldap, table->user, LDAP_SASL_SIMPLE,
	    &secret, NULL, NULL, &id) != LDAP_SUCCESS) {
		*why = "cannot log in";
		id = -1;
	}
	free(secret.bv_val);
	if (id == -1 ||
	    (result = wait_result(connection, id, deadline, why)) == NULL)
		return -1;
	return check_result(table, connection, result, "log in", why);
}

static struct connection *
connect_one(struct table_ldap *table, const struct net_endpoint *server,
    int64_t deadline, const char **why)
{
	struct connection *connection;
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
	connection = connection_new(io);
	if (log_in(table, connection, deadline, why) == 0)
		return connection;
	connection_free(&connection);
	return NULL;
}

/* --- those that are kept --- */

static void
hang_up(struct table_ldap *table, struct connection **connection)
{
	connection_free(connection);
	table->open_count--;
	task_cond_signal(&table->room);
}

/* *fresh: it was made for this look-up. */
static struct connection *
take(struct table_ldap *table, int64_t deadline, bool *fresh,
    const char **why)
{
	struct connection *connection = NULL;

	*fresh = false;
	while (table->idle_count == 0 &&
	    table->open_count == CONNECTIONS_MAX)
		if (task_cond_wait(&table->room, deadline) != 0) {
			*why = "all connections are busy";
			return NULL;
		}
	while (table->idle_count > 0) {
		connection = table->idle[--table->idle_count];
		if (!io_peer_gone(connection->io))
			return connection;
		hang_up(table, &connection);
	}
	*fresh = true;
	table->open_count++;
	for (size_t i = 0; i < table->server_count && connection == NULL; i++)
		connection = connect_one(table, &table->servers[i], deadline,
		    why);
	if (connection == NULL)
		hang_up(table, &connection);
	return connection;
}

static void
give_back(struct table_ldap *table, struct connection *connection)
{
	table->idle[table->idle_count++] = connection;
	task_cond_signal(&table->room);
}

/* --- a search --- */

/* %s: the key; %u, %d: what is before and behind its last @. */
static void
put_filter(struct buf *out, const char *filter, const char *key)
{
	const char *at = strrchr(key, '@');
	struct berval part, escaped;

	for (; *filter != '\0'; filter++) {
		if (*filter != '%') {
			buf_putc(out, *filter);
			continue;
		}
		part.bv_val = (char *)(uintptr_t)key;
		part.bv_len = strlen(key);
		filter++;
		if (*filter == 'u' && at != NULL)
			part.bv_len = (size_t)(at - key);
		if (*filter == 'd' && at != NULL) {
			part.bv_val = (char *)(uintptr_t)at + 1;
			part.bv_len = strlen(at + 1);
		}
		if (*filter == '%') {
			buf_putc(out, '%');
		} else if (ldap_bv2escaped_filter_value(&part,
		    &escaped) == 0) {
			buf_append(out, escaped.bv_val, escaped.bv_len);
			ldap_memfree(escaped.bv_val);
		}
	}
}

static bool
same_value(const void *holder, uint32_t number, const void *key, size_t len)
{
	const char *mine = ((const struct table_ldap *)holder)->
	    values[number - 1];

	return strncmp(mine, key, len) == 0 && mine[len] == '\0';
}

static uint32_t
hash_of_value(const void *holder, uint32_t number)
{
	const char *mine = ((const struct table_ldap *)holder)->
	    values[number - 1];

	return table_hash_bytes(mine, strlen(mine));
}

/*
 * Values belong to the table as long as it is there: each text is kept once,
 * like those of a table in a file.
 */
static const char *
intern(struct table_ldap *table, const char *text)
{
	size_t len = strlen(text), count = table->values_by_text.used;
	uint32_t at = table_hash_bytes(text, len), number;

	number = table_hash_find(&table->values_by_text, at, same_value,
	    table, text, len);
	if (number != 0)
		return table->values[number - 1];
	if (count == VALUES_MAX)
		return NULL;
	if ((count & (count - 1)) == 0) {
		table->values = reallocarray(table->values,
		    count == 0 ? 1 : 2 * count, sizeof(*table->values));
		if (table->values == NULL)
			fatal("out of memory (LDAP)");
	}
	if ((table->values[count] = strdup(text)) == NULL)
		fatal("out of memory (LDAP)");
	table_hash_add(&table->values_by_text, at, (uint32_t)count + 1,
	    hash_of_value, table);
	return table->values[count];
}

/* All values of an entry's attribute, parted by ", ". */
static void
put_values(struct buf *out, struct connection *connection,
    LDAPMessage *entry, const char *attribute)
{
	struct berval **values = ldap_get_values_len(connection->ldap, entry,
	    attribute);

	for (size_t i = 0; values != NULL && values[i] != NULL; i++) {
		if (out->len > 0)
			buf_puts(out, ", ");
		for (ber_len_t j = 0; j < values[i]->bv_len; j++)
			if (values[i]->bv_val[j] != '\0')
				buf_putc(out, values[i]->bv_val[j]);
	}
	ldap_value_free_len(values);
}

/* Frees the result. */
static enum answer
understand(struct table_ldap *table, struct connection *connection,
    LDAPMessage *result, const char **value, const char **why)
{
	struct buf text = BUF_INIT;
	LDAPMessage *entry;
	size_t count = 0;

	for (entry = ldap_first_entry(connection->ldap, result);
	    entry != NULL; entry = ldap_next_entry(connection->ldap, entry)) {
		count++;
		if (strcmp(table->attributes[0], LDAP_NO_ATTRS) != 0)
			put_values(&text, connection, entry,
			    table->attributes[0]);
	}
	if (count > 0) {
		ldap_msgfree(result);
		if (value != NULL)
			*value = intern(table, text.len > 0 ? text.data : "");
		buf_release(&text);
		*why = "there are too many values";
		return value != NULL && *value == NULL ? ANSWER_UNKNOWN :
		    ANSWER_YES;
	}
	return check_result(table, connection, result, "search", why) == 0 ?
	    ANSWER_NO : ANSWER_UNKNOWN;
}

/* -1: the connection is of no more use. */
static int
search(struct table_ldap *table, struct connection *connection,
    const char *filter, int64_t deadline, enum answer *answer,
    const char **value, const char **why)
{
	LDAPMessage *result;
	int id, rc;

	rc = ldap_search_ext(connection->ldap, table->base,
	    LDAP_SCOPE_SUBTREE, filter, table->attributes, 0, NULL, NULL,
	    NULL, ENTRIES_MAX, &id);
	if (rc != LDAP_SUCCESS) {
		snprintf(table->why, sizeof(table->why), "search: %s",
		    ldap_err2string(rc));
		*why = table->why;
		return -1;
	}
	result = wait_result(connection, id, deadline, why);
	if (result == NULL)
		return -1;
	*answer = understand(table, connection, result, value, why);
	return 0;
}

static enum answer
look_up(struct table_ldap *table, const char *filter, const char **value,
    const char **why)
{
	int64_t deadline = task_deadline(table->timeout_ms);
	struct connection *connection;
	enum answer answer;
	bool fresh;

	do {
		connection = take(table, deadline, &fresh, why);
		if (connection == NULL)
			return ANSWER_UNKNOWN;
		if (search(table, connection, filter, deadline, &answer,
		    value, why) == 0) {
			give_back(table, connection);
			return answer;
		}
		hang_up(table, &connection);
	} while (!fresh && task_now() < deadline);
	return ANSWER_UNKNOWN;
}

enum answer
table_ldap_find(struct table_ldap *table, const char *key,
    const char **value, const char **why)
{
	struct buf filter = BUF_INIT;
	const char *unused;
	enum answer answer;

	if (why == NULL)
		why = &unused;
	*why = "the directory did not answer a moment ago";
	if (task_self() == NULL || task_now() < table->not_before)
		return ANSWER_UNKNOWN;
	put_filter(&filter, table->filter, key);
	errno = 0;
	answer = look_up(table, filter.data, value, why);
	buf_release(&filter);
	if (answer == ANSWER_UNKNOWN && errno != ECANCELED) {
		if (!table->away)
			log_warn(NULL, "LDAP: base=%s: no answer: %s",
			    table->base, *why);
		table->away = true;
		table->not_before = task_deadline(PAUSE_MS);
	} else if (answer != ANSWER_UNKNOWN && table->away) {
		log_info(NULL, "LDAP: base=%s: answers again", table->base);
		table->away = false;
	}
	return answer;
}

/* --- reading its description --- */

struct reader {
	struct table_ldap *table;
	const char *name;
	unsigned line, error_count;
	struct buf *errors;
};

static void
complain(struct reader *r, const char *what, const char *why)
{
	r->error_count++;
	buf_printf(r->errors, "%s:%u: %s: %s\n", r->name, r->line, what, why);
}

static void
add_server(struct reader *r, const char *value)
{
	struct table_ldap *table = r->table;
	struct net_endpoint *server = &table->servers[table->server_count];
	const char *why;

	if (table->server_count == SERVERS_MAX)
		complain(r, value, "too many servers");
	else if (net_endpoint_parse(value, server, &why) != 0)
		complain(r, value, why);
	/* It is not one of those that a locked in process may reach. */
	else if (server->address.ss_family == AF_UNIX)
		complain(r, value, "not an address and port");
	else
		table->server_count++;
}

static void
set_timeout(struct reader *r, const char *value)
{
	static const struct option_row row = { "timeout", OPTION_duration, 0,
	    "2s", "10ms", "1m", "" };
	struct buf why = BUF_INIT;

	if (option_parse(&row, value, &r->table->timeout_ms, &why) != 0)
		complain(r, value, why.data);
	buf_release(&why);
}

static void
take_word(struct reader *r, const char *word, char *value)
{
	struct table_ldap *table = r->table;
	const struct { const char *word; const char **to; } texts[] = {
		{ "base", &table->base }, { "filter", &table->filter },
		{ "user", &table->user }, { "password", &table->password },
		{ "tls", &table->tls },
	};

	if (*value == '\0') {
		complain(r, word, "has no value");
		return;
	}
	if (strcmp(word, "server") == 0) {
		add_server(r, value);
		return;
	}
	if (strcmp(word, "timeout") == 0) {
		set_timeout(r, value);
		return;
	}
	if (strcmp(word, "value") == 0) {
		table->attributes[0] = value;
		return;
	}
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		if (strcmp(word, texts[i].word) == 0) {
			*texts[i].to = value;
			return;
		}
	complain(r, word, "not one of server, base, filter, value, user, "
	    "password, tls, timeout");
}

static void
read_line(struct reader *r, char *line)
{
	char *end = line + strlen(line), *value;

	while (end > line && strchr(" \t\r", end[-1]) != NULL)
		*--end = '\0';
	line += strspn(line, " \t");
	if (*line == '\0' || *line == '#')
		return;
	value = line + strcspn(line, " \t");
	if (*value != '\0')
		*value++ = '\0';
	take_word(r, line, value + strspn(value, " \t"));
}

/* Whether its parentheses fit and it looks for the key. */
static bool
is_filter(const char *filter)
{
	bool has_key = false;
	int depth = 0;

	for (const char *p = filter; *p != '\0'; p++) {
		if (*p == '%') {
			p++;
			if (*p == '\0' || strchr("sud%", *p) == NULL)
				return false;
			has_key = has_key || *p != '%';
		}
		depth += (*p == '(') - (*p == ')');
		if (depth < 0 || (depth == 0 && *p != ')'))
			return false;
	}
	return depth == 0 && has_key;
}

static void
check_whole(struct reader *r)
{
	struct table_ldap *table = r->table;

	if (table->server_count == 0)
		complain(r, "server", "is required (192.0.2.1:389)");
	if (table->base == NULL)
		complain(r, "base", "is required (ou=people,dc=example)");
	if (table->filter == NULL)
		complain(r, "filter", "is required ((mail=%s))");
	else if (!is_filter(table->filter))
		complain(r, table->filter, "not a filter with %s, %u or %d");
	if (table->password != NULL && table->user == NULL)
		complain(r, "password", "needs a user, too");
}

static void
set_tls(struct reader *r)
{
	static const struct tls_settings settings = { "TLSv1.2", NULL, NULL };
	const char *why;

	if (r->table->tls == NULL)
		return;
	r->table->tls_context = tls_client_new(&settings, TLS_VERIFY_NAME,
	    NULL, 0, &why);
	if (r->table->tls_context == NULL)
		complain(r, "tls", why);
}

/* It reads its own files and asks for our name, which later it could not. */
static void
start_library(void)
{
	int version;

	setenv("LDAPNOINIT", "1", 1);
	ldap_get_option(NULL, LDAP_OPT_PROTOCOL_VERSION, &version);
}

struct table_ldap *
table_ldap_parse(const char *name, const char *text, size_t len,
    struct buf *errors)
{
	struct table_ldap *table = calloc(1, sizeof(*table));
	struct reader r = { table, name, 0, 0, errors };
	char *p, *end;

	if (table == NULL || (table->text = strndup(text, len)) == NULL)
		fatal("out of memory (LDAP)");
	table->attributes[0] = (char *)(uintptr_t)LDAP_NO_ATTRS;
	table->timeout_ms = TIMEOUT_MS;
	if (strlen(table->text) < len)
		complain(&r, "NUL", "there is one in the file");
	for (p = table->text; p != NULL; p = end) {
		if ((end = strchr(p, '\n')) != NULL)
			*end++ = '\0';
		r.line++;
		read_line(&r, p);
	}
	check_whole(&r);
	if (r.error_count == 0)
		set_tls(&r);
	start_library();
	if (r.error_count > 0)
		table_ldap_free(&table);
	return table;
}

void
table_ldap_free(struct table_ldap **tablep)
{
	struct table_ldap *table = *tablep;

	*tablep = NULL;
	if (table == NULL)
		return;
	while (table->idle_count > 0)
		connection_free(&table->idle[--table->idle_count]);
	tls_context_free(&table->tls_context);
	for (size_t i = 0; i < table->values_by_text.used; i++)
		free(table->values[i]);
	free(table->values);
	free(table->values_by_text.slots);
	free(table->text);
	free(table);
}
