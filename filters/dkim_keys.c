/* Key tables of DKIM: the keys themselves, and which of them sign a message. */
#include "filters/dkim_keys.h"

#include <ctype.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/key_table.h"
#include "base/log.h"
#include "filters/dkim_engine.h"
#include "filters/dkim_key.h"

struct dkim_keys {
	const struct key_table *table;
	EVP_PKEY **keys;		/* one for each of its files */
};

struct dkim_keys *
dkim_keys_new(const struct conf *conf, const struct key_table *table,
    const char **why)
{
	static char problem[1024];
	struct dkim_keys *keys = calloc(1, sizeof(*keys));

	if (keys == NULL || (keys->keys = calloc(table->file_count,
	    sizeof(EVP_PKEY *))) == NULL)
		fatal("dkim: out of memory");
	keys->table = table;
	for (size_t i = 0; i < table->file_count; i++) {
		const struct key_file *file = &table->files[i];
		const char *pem;
		size_t len;

		*why = "key not available in this process";
		if (conf_file(conf, file->path, &pem, &len))
			keys->keys[i] = dkim_key_private(pem, len, why);
		if (keys->keys[i] != NULL)
			continue;
		snprintf(problem, sizeof(problem), "%s:%d: %s: %s",
		    table->name, file->line, file->path, *why);
		*why = problem;
		dkim_keys_free(&keys);
		return NULL;
	}
	return keys;
}

void
dkim_keys_free(struct dkim_keys **keysp)
{
	struct dkim_keys *keys = *keysp;

	*keysp = NULL;
	if (keys == NULL)
		return;
	for (size_t i = 0; i < keys->table->file_count; i++)
		EVP_PKEY_free(keys->keys[i]);
	free(keys->keys);
	free(keys);
}

/* The pattern's keys of that day. */
static const struct dkim_signing_key *
find_pattern(const struct dkim_keys *keys, struct arena *arena,
    const char *pattern, int day, size_t *count)
{
	size_t lines;
	const struct key_line *line = key_table_find(keys->table, pattern,
	    &lines);
	struct dkim_signing_key *found;

	*count = 0;
	if (line == NULL)
		return NULL;
	found = arena_alloc(arena, lines * sizeof(*found));
	for (; lines > 0; line++, lines--)
		if (line->from <= day && day <= line->until)
			found[(*count)++] = (struct dkim_signing_key){
			    line->domain, line->selector,
			    keys->keys[line->file] };
	return *count == 0 ? NULL : found;
}

/* As patterns are, in the arena. */
static char *
lowered(struct arena *arena, const char *text)
{
	char *copy = arena_strdup(arena, text);

	for (char *c = copy; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	return copy;
}

/* Letters' case does not matter, as it does not to sender_login. */
static const struct dkim_signing_key *
find_user(const struct dkim_keys *keys, struct arena *arena,
    const char *user, int day, size_t *count)
{
	return find_pattern(keys, arena, arena_printf(arena, "user:%s",
	    lowered(arena, user)), day, count);
}

/* The address, its domain, ".parent" and so on. */
static const struct dkim_signing_key *
find_address(const struct dkim_keys *keys, struct arena *arena,
    const char *address, int day, size_t *count)
{
	const struct dkim_signing_key *found = NULL;
	char *pattern;

	if (address == NULL || strchr(address, '@') == NULL)
		return NULL;
	pattern = lowered(arena, address);
	/* Nobody becomes a user by such an address. */
	if (strncmp(pattern, "user:", 5) != 0)
		found = find_pattern(keys, arena, pattern, day, count);
	if (found != NULL)
		return found;
	for (pattern = strrchr(pattern, '@') + 1; pattern != NULL;
	    pattern = strchr(pattern + 1, '.'))
		if ((found = find_pattern(keys, arena, pattern, day,
		    count)) != NULL)
			return found;
	return NULL;
}

const struct dkim_signing_key *
dkim_keys_find(const struct dkim_keys *keys, struct arena *arena,
    const struct dkim_keys_from *from, size_t *count)
{
	const struct dkim_signing_key *found = NULL;

	*count = 0;
	if (from->user != NULL)
		found = find_user(keys, arena, from->user, from->day, count);
	if (found == NULL)
		found = find_address(keys, arena, from->author, from->day,
		    count);
	if (found == NULL)
		found = find_address(keys, arena, from->sender, from->day,
		    count);
	return found;
}
