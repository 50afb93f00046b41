/* The configuration: building it from its parts, and asking it. */
#include "base/conf.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_impl.h"
#include "base/log.h"
#include "base/table.h"

struct conf *
conf_new(const struct section_kind *const *kinds, size_t kind_count)
{
	struct arena *arena = arena_new(0);
	struct conf *conf = arena_alloc(arena, sizeof(*conf));

	conf->arena = arena;
	conf->kinds = kinds;
	conf->kind_count = kind_count;
	conf->name = "built-in";
	conf->directory = "";
	conf->groups = arena_alloc(arena, kind_count * sizeof(*conf->groups));
	return conf;
}

void
conf_free(struct conf **confp)
{
	struct conf *conf = *confp;
	struct arena *arena;

	*confp = NULL;
	if (conf == NULL)
		return;
	for (struct conf_bytes *f = conf->files; f != NULL; f = f->next) {
		/* It may be a key. */
		if (f->bytes != NULL)
			explicit_bzero(f->bytes, f->len);
		free(f->bytes);
	}
	for (struct conf_made_table *t = conf->tables; t != NULL; t = t->next)
		table_free(&t->table);
	arena = conf->arena;
	arena_free(&arena);
}

static size_t
count_sections(const struct section_kind *kind, const struct conf_raw *raws)
{
	size_t n = 0;

	for (; raws != NULL; raws = raws->next)
		n += raws->kind == kind;
	return n;
}

static int
add_section(struct conf *conf, struct conf_group *group,
    const struct section_kind *kind, const struct conf_raw *raw,
    struct buf *errors)
{
	struct conf_section *section = &group->sections[group->count];
	struct conf_setting *none = NULL;
	void *values = arena_alloc(conf->arena, kind->size);

	section->kind = kind;
	section->values = values;
	section->file = raw == NULL ? "default" : raw->file;
	section->line = raw == NULL ? 0 : raw->line;
	section->title = raw == NULL ? NULL : raw->title;
	if (raw == NULL)
		none = arena_alloc(conf->arena, (kind->row_count + 1) *
		    sizeof(*none));
	group->settings[group->count] = raw == NULL ? none : raw->settings;
	return conf_fill(conf, kind, group->settings[group->count++], values,
	    errors);
}

static int
build_group(struct conf *conf, size_t k, const struct conf_raw *raws,
    struct buf *errors)
{
	const struct section_kind *kind = conf->kinds[k];
	struct conf_group *group = &conf->groups[k];
	size_t room = count_sections(kind, raws) + 1;
	int rc = 0;

	group->sections = arena_alloc(conf->arena,
	    room * sizeof(*group->sections));
	group->settings = arena_alloc(conf->arena,
	    room * sizeof(*group->settings));
	for (const struct conf_raw *raw = raws; raw != NULL; raw = raw->next)
		if (raw->kind == kind &&
		    add_section(conf, group, kind, raw, errors) != 0)
			rc = -1;
	if (!kind->titled && group->count == 0)
		rc |= add_section(conf, group, kind, NULL, errors);
	return rc;
}

int
conf_build(struct conf *conf, struct buf *errors)
{
	struct conf_raw *raws;
	int rc = conf_parse(conf, &raws, errors);

	for (size_t k = 0; k < conf->kind_count; k++)
		if (build_group(conf, k, raws, errors) != 0)
			rc = -1;
	return rc;
}

struct conf *
conf_load(const char *path, const char *embedded,
    const struct section_kind *const *kinds, size_t kind_count,
    struct buf *errors)
{
	struct conf *conf = conf_new(kinds, kind_count);
	int rc = 0;

	conf->from_disk = true;
	if (path == NULL)
		conf_source_add(conf, conf->name, embedded, strlen(embedded),
		    true);
	else
		rc = conf_read_all(conf, path, errors);
	if (rc != 0 || conf_build(conf, errors) != 0)
		conf_free(&conf);
	return conf;
}

bool
conf_knows(const struct conf *conf, const char *kind_name)
{
	for (size_t k = 0; k < conf->kind_count; k++)
		if (strcmp(conf->kinds[k]->name, kind_name) == 0)
			return true;
	return false;
}

const struct conf_group *
conf_group(const struct conf *conf, const char *kind)
{
	for (size_t k = 0; k < conf->kind_count; k++)
		if (strcmp(conf->kinds[k]->name, kind) == 0)
			return &conf->groups[k];
	fatal("there is no kind of section \"%s\"", kind);
}

const void *
conf_get(const struct conf *conf, const char *kind_name)
{
	const struct conf_group *group = conf_group(conf, kind_name);

	if (group->count == 0)
		fatal("there is no section \"%s\"", kind_name);
	return group->sections[0].values;
}

const char *
conf_top_string(const struct conf *conf, const char *name)
{
	const struct conf_group *group = conf_group(conf, "");
	const struct conf_section *top = group->sections;

	for (size_t i = 0; group->count > 0 && i < top->kind->row_count; i++) {
		const struct option_row *row = &top->kind->rows[i];

		if (row->type == OPTION_string && strcmp(row->name, name) == 0)
			return *(const char *const *)(const void *)
			    ((const char *)top->values + row->offset);
	}
	return NULL;
}

const struct conf_section *
conf_sections(const struct conf *conf, const char *kind_name, size_t *count)
{
	const struct conf_group *group = conf_group(conf, kind_name);

	*count = group->count;
	return group->sections;
}

char *
conf_secret(const struct conf *conf, const char *path, const char **why)
{
	const char *bytes;
	char *text;
	size_t len;

	*why = "its file is not available in this process";
	if (!conf_file(conf, path, &bytes, &len))
		return NULL;
	while (len > 0 && (bytes[len - 1] == '\n' || bytes[len - 1] == '\r'))
		len--;
	*why = "its file is empty or holds a NUL";
	if (len == 0 || memchr(bytes, '\0', len) != NULL)
		return NULL;
	if ((text = strndup(bytes, len)) == NULL)
		fatal("out of memory (configuration)");
	return text;
}

bool
conf_file(const struct conf *conf, const char *path, const char **bytes,
    size_t *len)
{
	for (const struct conf_bytes *f = conf->files; f != NULL; f = f->next)
		if (strcmp(f->path, path) == 0 && f->bytes != NULL) {
			*bytes = f->bytes;
			*len = f->len;
			return true;
		}
	return false;
}

/* How that option is given in the section; NULL: there is no such option. */
static const struct conf_setting *
setting_of(const struct conf *conf, const struct conf_section *section,
    const char *option)
{
	const struct conf_group *group = conf_group(conf, section->kind->name);
	size_t index = (size_t)(section - group->sections);

	for (size_t i = 0; i < section->kind->row_count; i++)
		if (strcmp(section->kind->rows[i].name, option) == 0)
			return &group->settings[index][i];
	return NULL;
}

void
conf_error(struct buf *errors, const struct conf *conf,
    const struct conf_section *section, const char *option,
    const char *format, ...)
{
	const struct conf_setting *setting = option == NULL ? NULL :
	    setting_of(conf, section, option);
	va_list ap;

	if (setting != NULL && setting->file != NULL)
		buf_printf(errors, "%s:%d: ", setting->file, setting->line);
	else if (section->line > 0)
		buf_printf(errors, "%s:%d: ", section->file, section->line);
	else
		buf_printf(errors, "%s: ", conf->name);
	if (option != NULL)
		buf_printf(errors, "%s: ", option);
	va_start(ap, format);
	buf_vprintf(errors, format, ap);
	va_end(ap);
	buf_putc(errors, '\n');
}
