/* The description of a table in a directory (table.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/option.h"
#include "base/table_ldap.h"
#include "base/tls.h"

#define TIMEOUT_MS	2000

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

	if (table->server_count == LDAP_SERVERS_MAX)
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
