/* The configuration's words as values, by the types in the option rows. */
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_impl.h"
#include "base/key_table.h"
#include "base/log.h"
#include "base/table.h"

/* How errors of inline tables begin before they get their true place. */
#define INLINE_NAME "\001"

/* One option of one section at work. */
struct filling {
	struct conf *conf;
	const struct option_row *row;
	const struct conf_setting *setting;
	void *at;			/* where the value goes */
	void *values;			/* the struct around it */
	struct buf *errors;
};

/* Begins an error's line at that word: file:line: option: */
static void
place(const struct filling *f, const struct conf_word *word)
{
	if (word->file == NULL)
		buf_printf(f->errors, "default: %s: ", f->row->name);
	else
		buf_printf(f->errors, "%s:%d: %s: ", word->file, word->line,
		    f->row->name);
}

static int
fill_scalar(const struct filling *f, const struct conf_word *word)
{
	struct buf why = BUF_INIT;
	int64_t value;
	int rc = option_parse(f->row, word->text, &value, &why);

	if (rc == 0) {
		option_store(f->row, f->values, value);
	} else {
		place(f, word);
		buf_printf(f->errors, "\"%s\": %s\n", word->text, why.data);
	}
	buf_release(&why);
	return rc;
}

static int
fill_file(const struct filling *f, const struct conf_word *word)
{
	const char *path, *why;

	if (word->text[0] == '\0')
		return 0;
	path = conf_path(f->conf, word->text);
	*(option_file_t *)f->at = path;
	/* A snapshot lacks what this process may not see. */
	if (!f->conf->from_disk ||
	    conf_bytes_get(f->conf, path, false, &why) != NULL)
		return 0;
	place(f, word);
	buf_printf(f->errors, "%s: %s\n", path, why);
	return -1;
}

/* The table and all files that it names. */
static int
fill_key_table(const struct filling *f, const struct conf_word *word)
{
	const char *path, *why;
	const struct conf_bytes *file;
	const struct key_table *keys;
	int rc = 0;

	if (word->text[0] == '\0')
		return 0;
	path = conf_path(f->conf, word->text);
	if ((file = conf_bytes_get(f->conf, path, false, &why)) == NULL) {
		/* A snapshot lacks what this process may not see. */
		if (!f->conf->from_disk)
			return 0;
		place(f, word);
		buf_printf(f->errors, "%s: %s\n", path, why);
		return -1;
	}
	keys = key_table_parse(f->conf->arena, path, file->bytes, file->len,
	    f->errors);
	*(option_key_table_t *)f->at = keys;
	for (size_t i = 0; keys != NULL && i < keys->file_count; i++)
		if (conf_bytes_get(f->conf, keys->files[i].path, false,
		    &why) == NULL) {
			buf_printf(f->errors, "%s:%d: %s: %s\n", path,
			    keys->files[i].line, keys->files[i].path, why);
			rc = -1;
		}
	return keys == NULL ? -1 : rc;
}

static void
fill_strings(const struct filling *f)
{
	const struct conf_setting *s = f->setting;
	const char **list = arena_alloc(f->conf->arena,
	    (s->count + 1) * sizeof(*list));

	for (size_t i = 0; i < s->count; i++)
		list[i] = s->words[i].text;
	*(option_strings_t *)f->at = list;
}

static int
keep_table(const struct filling *f, struct table *table, const char *path)
{
	struct conf_made_table *made;

	if (table == NULL)
		return -1;
	made = arena_alloc(f->conf->arena, sizeof(*made));
	made->table = table;
	made->path = path;
	made->next = f->conf->tables;
	f->conf->tables = made;
	*(option_table_t *)f->at = table;
	return 0;
}

/* Turns "\001:2: text" into "file:line: option: text" of the second word. */
static void
move_errors(const struct filling *f, const char *errors)
{
	const char *end;
	unsigned long n;
	char *text;

	for (; (end = strchr(errors, '\n')) != NULL; errors = end + 1) {
		n = strtoul(errors + strlen(INLINE_NAME ":"), &text, 10);
		if (n == 0 || n > f->setting->count)
			continue;
		place(f, &f->setting->words[n - 1]);
		text += 2;
		buf_append(f->errors, text, (size_t)(end + 1 - text));
	}
}

static int
fill_inline_table(const struct filling *f)
{
	struct buf text = BUF_INIT, errors = BUF_INIT;
	int rc = 0;

	for (size_t i = 0; i < f->setting->count; i++) {
		const struct conf_word *word = &f->setting->words[i];

		if (strchr(word->text, '\n') != NULL) {
			place(f, word);
			buf_puts(f->errors, "there is a new line in it\n");
			rc = -1;
		}
		buf_printf(&text, "%s\n", word->text);
	}
	if (rc == 0)
		rc = keep_table(f, table_parse("inline", INLINE_NAME,
		    text.data == NULL ? "" : text.data, text.len, &errors),
		    NULL);
	if (errors.len > 0)
		move_errors(f, errors.data);
	buf_release(&errors);
	buf_release(&text);
	return rc;
}

/* The type before the colon if it is one of a table outside, else NULL. */
static const char *
outside_type(const char *text)
{
	/* Those not built in are named so that they're no keys by mistake. */
	static const char *const types[] = { "file", "cidr", "pcre", "regexp",
		"cdb", "hash", "sqlite", "redis", "ldap" };

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		size_t len = strlen(types[i]);

		if (strncmp(text, types[i], len) == 0 && text[len] == ':')
			return types[i];
	}
	return NULL;
}

static int
fill_outside_table(const struct filling *f, const struct conf_word *word,
    const char *type)
{
	const char *path = conf_path(f->conf, word->text + strlen(type) + 1);
	struct conf_bytes *file;
	bool secret = strcmp(type, "ldap") == 0;
	const char *why;

	if (strcmp(type, "file") != 0 && strcmp(type, "cidr") != 0 &&
	    strcmp(type, "pcre") != 0 && !secret) {
		place(f, word);
		buf_printf(f->errors, "\"%s\": no such type of table (file, "
		    "cidr, pcre, ldap)\n", word->text);
		return -1;
	}
	file = conf_bytes_get(f->conf, path, true, &why);
	if (file == NULL && secret && !f->conf->from_disk)
		return keep_table(f, table_unseen(), path);
	if (file == NULL) {
		place(f, word);
		buf_printf(f->errors, "%s: %s\n", path, why);
		return -1;
	}
	file->secret |= secret;
	return keep_table(f, table_parse(type, path, file->bytes, file->len,
	    f->errors), path);
}

static int
fill_table(const struct filling *f)
{
	const struct conf_setting *s = f->setting;
	const char *type = NULL;

	for (size_t i = 0; i < s->count && type == NULL; i++)
		type = outside_type(s->words[i].text);
	if (type == NULL)
		return fill_inline_table(f);
	if (s->count == 1)
		return fill_outside_table(f, s->words, type);
	place(f, s->words);
	buf_printf(f->errors, "\"%s:\" must stand alone\n", type);
	return -1;
}

static int
fill_row(const struct filling *f)
{
	const struct conf_setting *s = f->setting;
	struct conf_word here = { "", s->file, s->line };

	if (f->row->type == OPTION_strings) {
		fill_strings(f);
		return 0;
	}
	/* No default is no table; an empty list is an empty table. */
	if (s->file == NULL && s->count == 0)
		return 0;
	if (f->row->type == OPTION_table)
		return fill_table(f);
	if (s->count != 1 || s->braces) {
		place(f, &here);
		buf_puts(f->errors, "one value wanted, not a list\n");
		return -1;
	}
	if (f->row->type == OPTION_file)
		return fill_file(f, s->words);
	if (f->row->type == OPTION_key_table)
		return fill_key_table(f, s->words);
	if (f->row->type == OPTION_path) {
		if (s->words[0].text[0] != '\0')
			*(option_path_t *)f->at = conf_path(f->conf,
			    s->words[0].text);
		return 0;
	}
	if (f->row->type == OPTION_string) {
		*(option_string_t *)f->at = s->words[0].text;
		return 0;
	}
	return fill_scalar(f, s->words);
}

void
conf_default_words(struct arena *arena, const struct option_row *row,
    struct conf_setting *setting)
{
	const char *p = row->fallback;
	bool list = row->type == OPTION_strings || row->type == OPTION_table;
	size_t room = 1, len;

	memset(setting, 0, sizeof(*setting));
	if (p == NULL)
		return;
	for (const char *c = p; *c != '\0'; c++)
		room += *c == ',';
	setting->words = arena_alloc(arena, room * sizeof(*setting->words));
	for (;; p += len + 1) {
		p += list ? strspn(p, " ") : 0;
		len = list ? strcspn(p, ",") : strlen(p);
		if (len > 0 || !list)
			setting->words[setting->count++].text =
			    arena_strndup(arena, p, len);
		if (p[len] == '\0')
			return;
	}
}

int
conf_fill(struct conf *conf, const struct section_kind *kind,
    const struct conf_setting *settings, void *values, struct buf *errors)
{
	struct conf_setting fallback;
	int rc = 0;

	for (size_t i = 0; i < kind->row_count; i++) {
		struct filling f = { .conf = conf, .row = &kind->rows[i],
		    .setting = &settings[i],
		    .at = (char *)values + kind->rows[i].offset,
		    .values = values, .errors = errors };

		if (settings[i].file == NULL) {
			conf_default_words(conf->arena, f.row, &fallback);
			f.setting = &fallback;
		}
		if (fill_row(&f) != 0)
			rc = -1;
	}
	return rc;
}
