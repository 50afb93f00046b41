/*
 * A table in a directory: each look-up is a search (RFC 4511) by a filter that
 * holds the key (RFC 4515).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/table_ldap.h"
#include "base/tls.h"

#define PAUSE_MS	1000	/* after trouble nobody asks so long */
#define ENTRIES_MAX	10	/* of a search: one is enough for a yes */
#define VALUES_MAX	1000000	/* different ones, which are kept */

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
put_values(struct buf *out, struct ldap_link *link,
    LDAPMessage *entry, const char *attribute)
{
	struct berval **values = ldap_get_values_len(link->ldap, entry,
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
understand(struct table_ldap *table, struct ldap_link *link,
    LDAPMessage *result, const char **value, const char **why)
{
	struct buf text = BUF_INIT;
	LDAPMessage *entry;
	size_t count = 0;

	for (entry = ldap_first_entry(link->ldap, result);
	    entry != NULL; entry = ldap_next_entry(link->ldap, entry)) {
		count++;
		if (strcmp(table->attributes[0], LDAP_NO_ATTRS) != 0)
			put_values(&text, link, entry,
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
	return ldap_link_check(table, link, result, "search", why) == 0 ?
	    ANSWER_NO : ANSWER_UNKNOWN;
}

/* -1: the connection is of no more use. */
static int
search(struct table_ldap *table, struct ldap_link *link,
    const char *filter, int64_t deadline, enum answer *answer,
    const char **value, const char **why)
{
	LDAPMessage *result;
	int id, rc;

	rc = ldap_search_ext(link->ldap, table->base,
	    LDAP_SCOPE_SUBTREE, filter, table->attributes, 0, NULL, NULL,
	    NULL, ENTRIES_MAX, &id);
	if (rc != LDAP_SUCCESS) {
		snprintf(table->why, sizeof(table->why), "search: %s",
		    ldap_err2string(rc));
		*why = table->why;
		return -1;
	}
	result = ldap_link_wait(link, id, deadline, why);
	if (result == NULL)
		return -1;
	*answer = understand(table, link, result, value, why);
	return 0;
}

static enum answer
look_up(struct table_ldap *table, const char *filter, const char **value,
    const char **why)
{
	int64_t deadline = task_deadline(table->timeout_ms);
	struct ldap_link *link;
	enum answer answer;
	bool fresh;

	do {
		link = ldap_link_take(table, deadline, &fresh, why);
		if (link == NULL)
			return ANSWER_UNKNOWN;
		if (search(table, link, filter, deadline, &answer,
		    value, why) == 0) {
			ldap_link_give_back(table, link);
			return answer;
		}
		/* It may be stuck; an old connection may only be so. */
		if (fresh)
			table->first_server = (link->server + 1) %
			    table->server_count;
		ldap_link_hang_up(table, &link);
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
	*why = "this process does not know the directory";
	if (table == NULL)
		return ANSWER_UNKNOWN;
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

void
table_ldap_free(struct table_ldap **tablep)
{
	struct table_ldap *table = *tablep;

	*tablep = NULL;
	if (table == NULL)
		return;
	ldap_links_close(table);
	tls_context_free(&table->tls_context);
	for (size_t i = 0; i < table->values_by_text.used; i++)
		free(table->values[i]);
	free(table->values);
	free(table->values_by_text.slots);
	free(table->text);
	free(table);
}
