/* Look-up tables: reading their text, and the ways to look something up. */
#include "base/table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/net.h"
#include "base/table_impl.h"

#define ERRORS_MAX 20
#define ENTRIES_MAX 50000000u

enum table_type { TABLE_INLINE, TABLE_FILE, TABLE_CIDR, TABLE_PCRE,
	TABLE_LDAP };

static const char *const type_names[] = { "inline", "file", "cidr", "pcre",
	"ldap" };

struct table {
	enum table_type type;
	char *text;			/* keys and values are in here */
	struct table_entry *entries;
	size_t count, size;
	struct table_hash hash;		/* by key; numbers are index + 1 */
	struct table_networks networks;
	struct table_patterns *patterns;
	struct table_ldap *ldap;
};

/* The work of reading a table. */
struct reader {
	struct table *table;
	const char *name;
	unsigned line, error_count;
	struct buf *errors;
};

static void
complain(struct reader *r, const char *key, const char *why)
{
	if (++r->error_count <= ERRORS_MAX)
		buf_printf(r->errors, "%s:%u: %s%.100s%s%s\n", r->name,
		    r->line, key == NULL ? "" : "\"",
		    key == NULL ? "" : key, key == NULL ? "" : "\": ", why);
}

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static char *
skip_blanks(char *p)
{
	while (is_blank(*p))
		p++;
	return p;
}

static void
trim_end(char *p)
{
	size_t len = strlen(p);

	while (len > 0 && is_blank(p[len - 1]))
		p[--len] = '\0';
}

/* ASCII only: that is what case means in domains and addresses. */
static char
lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool
same(const void *holder, uint32_t number, const void *key, size_t len)
{
	const char *mine = ((const struct table *)holder)->
	    entries[number - 1].key;

	return strncmp(mine, key, len) == 0 && mine[len] == '\0';
}

static uint32_t
hash_of(const void *holder, uint32_t number)
{
	const char *key = ((const struct table *)holder)->
	    entries[number - 1].key;

	return table_hash_bytes(key, strlen(key));
}

static const struct table_entry *
find(const struct table *table, const char *key, size_t len)
{
	uint32_t number = table_hash_find(&table->hash,
	    table_hash_bytes(key, len), same, table, key, len);

	return number == 0 ? NULL : &table->entries[number - 1];
}

/* Appends an entry and returns its index. */
static uint32_t
append(struct reader *r, const char *key, const char *value)
{
	struct table *table = r->table;

	if (table->count == table->size) {
		table->size = table->size == 0 ? 16 : table->size * 2;
		table->entries = reallocarray(table->entries, table->size,
		    sizeof(*table->entries));
		if (table->entries == NULL)
			fatal("out of memory");
	}
	table->entries[table->count] = (struct table_entry){ key, value,
	    r->line };
	return (uint32_t)table->count++;
}

static void
add_key(struct reader *r, char *key, char *value)
{
	const struct table_entry *before;
	struct table_network net;
	size_t len = strlen(key);
	const char *why;
	uint32_t index;

	if (len > TABLE_KEY_MAX) {
		complain(r, key, "the key is too long");
		return;
	}
	for (char *p = key; *p != '\0'; p++)
		*p = lower(*p);
	if ((before = find(r->table, key, len)) != NULL) {
		if (strcmp(before->value, value) != 0)
			complain(r, key, "stands here with another value than "
			    "before");
		return;
	}
	index = append(r, key, value);
	table_hash_add(&r->table->hash, table_hash_bytes(key, len), index + 1,
	    hash_of, r->table);
	switch (table_network_parse(key, &net, &why)) {
	case TABLE_TEXT_NETWORK:
		table_networks_add(&r->table->networks, &net, index);
		return;
	case TABLE_TEXT_BROKEN:
		complain(r, key, why);
		return;
	case TABLE_TEXT_OTHER:
		return;
	}
}

static void
add_network(struct reader *r, char *key, char *value)
{
	struct table_network net;
	const char *why;

	if (table_network_parse(key, &net, &why) != TABLE_TEXT_NETWORK) {
		complain(r, key, why);
		return;
	}
	if (!table_networks_add(&r->table->networks, &net,
	    (uint32_t)r->table->count)) {
		complain(r, key, "stands here a second time");
		return;
	}
	append(r, key, value);
}

/* /pattern/flags value; a slash in the pattern is written \/. */
static void
add_pattern(struct reader *r, char *line)
{
	char *end = line + 1, *flags, *value;
	const char *why;

	if (*line != '/') {
		complain(r, line, "a line must begin with /pattern/");
		return;
	}
	for (; *end != '/'; end++) {
		if (*end == '\\' && end[1] != '\0')
			end++;
		if (*end == '\0') {
			complain(r, line, "the pattern has no closing /");
			return;
		}
	}
	*end = '\0';
	flags = value = end + 1;
	while (*value != '\0' && !is_blank(*value))
		value++;
	if (*value != '\0') {
		*value = '\0';
		value = skip_blanks(value + 1);
	}
	why = table_patterns_add(&r->table->patterns, line + 1, flags,
	    (uint32_t)r->table->count);
	if (why != NULL)
		complain(r, line + 1, why);
	else
		append(r, line + 1, value);
}

/* Ends the key in NUL and returns its value: behind blanks, or " = ". */
static char *
split(struct reader *r, char *line)
{
	char *p = line;

	if (r->table->type != TABLE_INLINE) {
		while (*p != '\0' && !is_blank(*p))
			p++;
		if (*p == '\0')
			return p;
		*p = '\0';
		return skip_blanks(p + 1);
	}
	for (; *p != '\0'; p++) {
		if (*p != '=' || p == line || !is_blank(p[-1]) ||
		    (p[1] != '\0' && !is_blank(p[1])))
			continue;
		*p = '\0';
		trim_end(line);
		return skip_blanks(p + 1);
	}
	return p;
}

static void
read_line(struct reader *r, char *line)
{
	char *value;

	line = skip_blanks(line);
	trim_end(line);
	if (*line == '\0' || (*line == '#' && r->table->type != TABLE_INLINE))
		return;
	if (r->table->count >= ENTRIES_MAX) {
		complain(r, NULL, "too many entries");
		return;
	}
	if (r->table->type == TABLE_PCRE) {
		add_pattern(r, line);
		return;
	}
	value = split(r, line);
	if (r->table->type == TABLE_CIDR)
		add_network(r, line, value);
	else
		add_key(r, line, value);
}

static struct table *
table_new(const char *type, const char *text, size_t len)
{
	struct table *table = calloc(1, sizeof(*table));

	if (table == NULL || (table->text = malloc(len + 1)) == NULL)
		fatal("out of memory");
	if (len > 0)
		memcpy(table->text, text, len);
	table->text[len] = '\0';
	for (size_t i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++)
		if (strcmp(type, type_names[i]) == 0) {
			table->type = (enum table_type)i;
			return table;
		}
	table_free(&table);
	return NULL;
}

struct table *
table_parse(const char *type, const char *name, const char *text, size_t len,
    struct buf *errors)
{
	struct table *table = table_new(type, text, len);
	struct reader r = { table, name, 0, 0, errors };
	char *p, *end, *next;

	if (table == NULL) {
		buf_printf(errors, "%s:1: no such type of table: %s\n", name,
		    type);
		return NULL;
	}
	if (table->type == TABLE_LDAP) {
		table->ldap = table_ldap_parse(name, text, len, errors);
		if (table->ldap == NULL)
			table_free(&table);
		return table;
	}
	end = table->text + len;
	for (p = table->text; p < end; p = next) {
		r.line++;
		next = memchr(p, '\n', (size_t)(end - p));
		if (next == NULL)
			next = end;
		*next = '\0';
		if (memchr(p, '\0', (size_t)(next - p)) != NULL)
			complain(&r, NULL, "there is a NUL byte in the line");
		else
			read_line(&r, p);
		next++;
	}
	if (r.error_count > 0)
		table_free(&table);
	return table;
}

struct table *
table_unseen(void)
{
	return table_new("ldap", "", 0);
}

void
table_free(struct table **tablep)
{
	struct table *table = *tablep;

	*tablep = NULL;
	if (table == NULL)
		return;
	table_networks_release(&table->networks);
	table_patterns_free(&table->patterns);
	table_ldap_free(&table->ldap);
	free(table->hash.slots);
	free(table->entries);
	free(table->text);
	free(table);
}

static enum answer
found(const struct table_entry *entry, const char **value)
{
	if (entry == NULL)
		return ANSWER_NO;
	if (value != NULL)
		*value = entry->value;
	return ANSWER_YES;
}

/* Tables that look at a key as a whole; true if this is one. */
static bool
find_whole(const struct table *table, const char *key, const char **value,
    const char **why, enum answer *answer)
{
	const char *unused;
	uint32_t index = UINT32_MAX;

	*answer = ANSWER_NO;
	if (table == NULL)
		return true;
	if (table->type == TABLE_PCRE)
		*answer = table_patterns_find(table->patterns, key, &index,
		    why == NULL ? &unused : why);
	else if (table->type == TABLE_LDAP)
		*answer = table_ldap_find(table->ldap, key, value, why);
	else if (table->type == TABLE_CIDR)
		index = table_networks_find_text(&table->networks, key);
	else
		return false;
	if (index != UINT32_MAX)
		*answer = found(&table->entries[index], value);
	return true;
}

/* Copies in lower case; false if it is too long to be in a table. */
static bool
lowered(char copy[TABLE_KEY_MAX + 1], const char *key)
{
	size_t i = 0;

	for (; key[i] != '\0'; i++) {
		if (i == TABLE_KEY_MAX)
			return false;
		copy[i] = lower(key[i]);
	}
	copy[i] = '\0';
	return true;
}

enum answer
table_find(const struct table *table, const char *key, const char **value,
    const char **why)
{
	char copy[TABLE_KEY_MAX + 1];
	enum answer answer;

	if (find_whole(table, key, value, why, &answer))
		return answer;
	if (!lowered(copy, key))
		return ANSWER_NO;
	return found(find(table, copy, strlen(copy)), value);
}

/*
 * domain is in lower case, in a buffer that has a byte before it.  at: with a
 * leading "@", which goes where the byte is.
 */
static const struct table_entry *
find_domain(const struct table *table, char *domain, bool at)
{
	const struct table_entry *entry;
	char *p = domain;
	char saved;

	if (at)
		*--p = '@';
	if ((entry = find(table, p, strlen(p))) != NULL)
		return entry;
	for (char *dot = strchr(domain, '.'); dot != NULL;
	    dot = strchr(dot + 1, '.')) {
		saved = dot[-1];
		if (at)
			dot[-1] = '@';
		p = at ? dot - 1 : dot;
		entry = find(table, p, strlen(p));
		dot[-1] = saved;
		if (entry != NULL)
			return entry;
	}
	return find(table, at ? "@*" : "*", at ? 2 : 1);
}

static void
drop_last_dot(char *domain)
{
	size_t len = strlen(domain);

	if (len > 1 && domain[len - 1] == '.')
		domain[len - 1] = '\0';
}

enum answer
table_find_domain(const struct table *table, const char *domain,
    const char **value, const char **why)
{
	char copy[TABLE_KEY_MAX + 2];
	enum answer answer;

	if (find_whole(table, domain, value, why, &answer))
		return answer;
	copy[0] = '\0';
	if (!lowered(copy + 1, domain))
		return ANSWER_NO;
	drop_last_dot(copy + 1);
	return found(find_domain(table, copy + 1, false), value);
}

enum answer
table_find_address(const struct table *table, const char *address,
    const char **value, const char **why)
{
	char copy[TABLE_KEY_MAX + 1], bare[TABLE_KEY_MAX + 1];
	const struct table_entry *entry;
	enum answer answer;
	char *at, *plus;

	if (find_whole(table, address, value, why, &answer))
		return answer;
	if (!lowered(copy, address))
		return ANSWER_NO;
	drop_last_dot(copy);
	if ((entry = find(table, copy, strlen(copy))) != NULL)
		return found(entry, value);
	if ((at = strrchr(copy, '@')) == NULL)
		return ANSWER_NO;
	plus = memchr(copy, '+', (size_t)(at - copy));
	if (plus != NULL && plus > copy) {
		memcpy(bare, copy, (size_t)(plus - copy));
		strcpy(bare + (plus - copy), at);
		if ((entry = find(table, bare, strlen(bare))) != NULL)
			return found(entry, value);
	}
	if ((entry = find_domain(table, at + 1, true)) == NULL)
		entry = find_domain(table, at + 1, false);
	return found(entry, value);
}

enum answer
table_find_network(const struct table *table, const struct sockaddr *address,
    const char **value, const char **why)
{
	char text[NET_TEXT_SIZE];
	uint32_t index;

	if (table == NULL)
		return ANSWER_NO;
	if (table->type == TABLE_LDAP)
		return table_ldap_find(table->ldap, net_address_print(address,
		    text), value, why);
	index = table_networks_find(&table->networks, address);
	return found(index == UINT32_MAX ? NULL : &table->entries[index],
	    value);
}

size_t
table_count(const struct table *table)
{
	return table == NULL ? 0 : table->count;
}

void
table_each(const struct table *table,
    void (*f)(const char *key, const char *value, void *), void *argument)
{
	for (size_t i = 0; i < table_count(table); i++)
		f(table->entries[i].key, table->entries[i].value, argument);
}
