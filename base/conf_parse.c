/*
 * The configuration's text, by libconfuse, into sections of words.
 *
 * libconfuse gets every option as a list of strings and calls us for each
 * value; we note the value with its place.  Its own store is not used: it
 * knows neither places nor what is given twice.  What it doesn't tell is found
 * out:
 *
 * - where a section begins: each has a hidden option with a default, which
 *   libconfuse parses when it makes the section;
 * - more than one unknown option: it stops at the first, so we make that one
 *   known, to be passed over, and parse again;
 * - a section without end, which it takes: each text gets a mark at its end,
 *   which must be read as an option of the section that the text began in.
 */
#include <confuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_impl.h"
#include "base/log.h"

#define INCLUDE_DEPTH 10
#define UNKNOWN_MAX 20
#define BEGIN "\001begin"
#define END "\001end"

struct unknown {
	const struct section_kind *kind;
	const char *name;
};

struct parser {
	struct conf *conf;
	struct conf_raw *first, **last;
	struct buf errors;		/* of this run */
	struct buf unknown_errors;	/* of all runs */
	struct unknown unknown[UNKNOWN_MAX];
	size_t unknown_count;
	bool again;			/* a new unknown option: one more run */
	const cfg_t *source_section;	/* where the present source began */
	int depth;
};

/* libconfuse's callbacks have no argument of ours. */
static _Thread_local struct parser *now;

static void complain(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void
complain(const char *file, int line, const char *format, ...)
{
	va_list ap;

	buf_printf(&now->errors, "%s:%d: ", file == NULL ? now->conf->name :
	    file, line);
	va_start(ap, format);
	buf_vprintf(&now->errors, format, ap);
	va_end(ap);
	buf_putc(&now->errors, '\n');
}

/* The name that lives as long as the configuration. */
static const char *
source_name(const char *name)
{
	const struct conf_source *source = name == NULL ? NULL :
	    conf_source_find(now->conf, name);

	return source == NULL ? now->conf->name : source->name;
}

static const struct section_kind *
kind_find(const char *name)
{
	for (size_t i = 0; i < now->conf->kind_count; i++)
		if (strcmp(now->conf->kinds[i]->name, name) == 0)
			return now->conf->kinds[i];
	return NULL;
}

/* The newest with that address: libconfuse frees those that stand twice. */
static struct conf_raw *
raw_find(const cfg_t *cfg)
{
	struct conf_raw *found = NULL;

	for (struct conf_raw *raw = now->first; raw != NULL; raw = raw->next)
		if (raw->cfg == cfg)
			found = raw;
	return found;
}

static struct conf_raw *
raw_add(const cfg_t *cfg, const struct section_kind *kind, const char *title,
    const char *file, int line)
{
	struct arena *arena = now->conf->arena;
	struct conf_raw *raw = arena_alloc(arena, sizeof(*raw));

	raw->cfg = cfg;
	raw->kind = kind;
	raw->title = title == NULL ? NULL : arena_strdup(arena, title);
	raw->file = file;
	raw->line = line;
	raw->settings = arena_alloc(arena, (kind->row_count + 1) *
	    sizeof(*raw->settings));
	*now->last = raw;
	now->last = &raw->next;
	return raw;
}

static void
begin_section(const cfg_t *cfg)
{
	const struct section_kind *kind = kind_find(cfg->name);

	for (const struct conf_raw *raw = now->first; raw != NULL;
	    raw = raw->next) {
		if (raw->kind != kind || (cfg->title != NULL &&
		    strcmp(cfg->title, raw->title) != 0))
			continue;
		complain(cfg->filename, cfg->line, "%s%s%s: stands here a "
		    "second time; first at %s:%d", cfg->name,
		    cfg->title == NULL ? "" : " ",
		    cfg->title == NULL ? "" : cfg->title, raw->file,
		    raw->line);
		break;
	}
	raw_add(cfg, kind, cfg->title, source_name(cfg->filename), cfg->line);
}

/* --- what stands where it isn't known --- */

static size_t
least(size_t a, size_t b, size_t c)
{
	size_t m = a < b ? a : b;

	return m < c ? m : c;
}

/* How many letters must be changed, added or removed (Levenshtein). */
static size_t
edit_distance(const char *a, const char *b)
{
	size_t row[64], len = strlen(b), corner, above;

	if (len >= 64 || strlen(a) >= 64)
		return 64;
	for (size_t j = 0; j <= len; j++)
		row[j] = j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		corner = row[0];
		row[0] = i + 1;
		for (size_t j = 0; j < len; j++) {
			above = row[j + 1];
			row[j + 1] = least(above + 1, row[j] + 1,
			    corner + (a[i] != b[j]));
			corner = above;
		}
	}
	return row[len];
}

static void
consider(const char *name, const char *candidate, const char **best,
    size_t *distance)
{
	size_t d = edit_distance(name, candidate);

	if (d < *distance) {
		*distance = d;
		*best = candidate;
	}
}

static const char *
nearest(const struct section_kind *kind, const char *name)
{
	size_t distance = strlen(name) / 3 < 2 ? 3 : strlen(name) / 3 + 1;
	const char *best = NULL;

	for (size_t i = 0; i < kind->row_count; i++)
		consider(name, kind->rows[i].name, &best, &distance);
	for (size_t i = 0; kind->name[0] == '\0' && i < now->conf->kind_count;
	    i++)
		if (now->conf->kinds[i]->name[0] != '\0')
			consider(name, now->conf->kinds[i]->name, &best,
			    &distance);
	return best;
}

/* Another kind of section that has such an option, or NULL. */
static const struct section_kind *
owner(const char *name)
{
	for (size_t k = 0; k < now->conf->kind_count; k++)
		for (size_t i = 0; i < now->conf->kinds[k]->row_count; i++)
			if (strcmp(now->conf->kinds[k]->rows[i].name, name) ==
			    0)
				return now->conf->kinds[k];
	return NULL;
}

static bool
is_unknown(const struct section_kind *kind, const char *name)
{
	for (size_t i = 0; i < now->unknown_count; i++)
		if (now->unknown[i].kind == kind &&
		    strcmp(now->unknown[i].name, name) == 0)
			return true;
	return false;
}

static void
unknown_option(const cfg_t *cfg, const struct section_kind *kind,
    const char *name)
{
	const struct section_kind *other;
	const char *best;
	struct buf *out = &now->unknown_errors;

	buf_printf(out, "%s:%d: %s: unknown option", cfg->filename, cfg->line,
	    name);
	if ((best = nearest(kind, name)) != NULL)
		buf_printf(out, " (did you mean %s?)", best);
	else if (kind_find(name) != NULL)
		buf_puts(out, " here (the section stands at the top level)");
	else if ((other = owner(name)) != NULL && other->name[0] == '\0')
		buf_puts(out, " here (it stands at the top level)");
	else if (other != NULL)
		buf_printf(out, " here (it stands in a section %s)",
		    other->name);
	buf_putc(out, '\n');
	/* A name with a bar leads libconfuse elsewhere: no second run. */
	if (now->unknown_count == UNKNOWN_MAX || strchr(name, '|') != NULL ||
	    name[0] == '\0')
		return;
	now->unknown[now->unknown_count].kind = kind;
	now->unknown[now->unknown_count++].name = arena_strdup(
	    now->conf->arena, name);
	now->again = true;
}

/* The text between the quotes of 'name' behind the given beginning. */
static bool
quoted_name(const char *text, const char *beginning, char name[512])
{
	size_t len = strlen(beginning);

	if (strncmp(text, beginning, len) != 0)
		return false;
	strcpy(name, text + len);
	len = strlen(name);
	if (len > 0 && name[len - 1] == '\'')
		name[len - 1] = '\0';
	return true;
}

static void
on_error(cfg_t *cfg, const char *format, va_list ap)
{
	const struct conf_raw *raw = raw_find(cfg);
	char text[512], name[512];

	vsnprintf(text, sizeof(text), format, ap);
	if (strstr(text, END) != NULL)
		strcpy(text, "premature end of file");
	if (raw != NULL && quoted_name(text, "no such option '", name)) {
		unknown_option(cfg, raw->kind, name);
		return;
	}
	/* An unknown section was taken for an option; it was reported. */
	if (raw != NULL && quoted_name(text, "missing equal sign after "
	    "option '", name) && is_unknown(raw->kind, name))
		return;
	complain(cfg->filename, cfg->line, "%s", text);
}

/* --- values --- */

static void
add_word(struct conf_setting *setting, const char *text, const char *file,
    int line)
{
	struct arena *arena = now->conf->arena;
	struct conf_word *grown;

	if (setting->count == setting->size) {
		setting->size = setting->size == 0 ? 2 : setting->size * 2;
		grown = arena_alloc(arena, setting->size * sizeof(*grown));
		if (setting->count > 0)
			memcpy(grown, setting->words,
			    setting->count * sizeof(*grown));
		setting->words = grown;
	}
	setting->words[setting->count++] = (struct conf_word){
	    arena_strdup(arena, text), file, line };
}

static struct conf_setting *
setting_find(const struct conf_raw *raw, const char *name)
{
	for (size_t i = 0; raw != NULL && i < raw->kind->row_count; i++)
		if (strcmp(raw->kind->rows[i].name, name) == 0)
			return &raw->settings[i];
	return NULL;
}

/* The end of a source was read; is it where it should be? */
static void
on_end(const cfg_t *cfg, const struct conf_raw *raw)
{
	if (cfg != now->source_section && raw != NULL)
		complain(raw->file, raw->line, "section %s has no closing "
		    "brace", raw->kind->name);
}

/* A value was read. */
static int
on_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
	struct conf_raw *raw = raw_find(cfg);
	struct conf_setting *setting;
	const char *file = source_name(cfg->filename);

	*(const char **)result = value;
	/* Whoever writes that name in a file is told of a second section. */
	if (strcmp(opt->name, BEGIN) == 0) {
		begin_section(cfg);
		return 0;
	}
	if (strcmp(opt->name, END) == 0) {
		on_end(cfg, raw);
		return 0;
	}
	if (strcmp(value, END) == 0) {
		complain(file, cfg->line, "premature end of file");
		return -1;
	}
	if ((setting = setting_find(raw, opt->name)) == NULL) {
		if (raw == NULL || !is_unknown(raw->kind, opt->name))
			complain(file, cfg->line, "%s: unknown option",
			    opt->name);
		return 0;
	}
	if (opt->nvalues == 1) {	/* the first behind "=" */
		if (setting->file != NULL)
			complain(file, cfg->line, "%s: given a second time; "
			    "first at %s:%d", opt->name, setting->file,
			    setting->line);
		setting->file = file;
		setting->line = cfg->line;
		setting->count = setting->seen = 0;
	}
	add_word(setting, value, file, cfg->line);
	return 0;
}

/* Called behind each value, and once more behind a list's closing brace. */
static int
on_valid(cfg_t *cfg, cfg_opt_t *opt)
{
	struct conf_setting *setting = setting_find(raw_find(cfg), opt->name);

	if (setting != NULL && ++setting->seen > setting->count)
		setting->braces = true;
	return 0;
}

static int
parse_source(cfg_t *cfg, const struct conf_source *source)
{
	bool open_line = source->len > 0 &&
	    source->bytes[source->len - 1] != '\n';
	char *text = arena_printf(now->conf->arena, "%s%s%s = x\n",
	    source->bytes, open_line ? "\n" : "", END);
	const cfg_t *outer = now->source_section;
	const char *wrong;
	FILE *fp;
	int rc, line;

	if ((wrong = conf_blank_comments(text, &line)) != NULL) {
		complain(source->name, line, "%s", wrong);
		return CFG_PARSE_ERROR;
	}
	if ((fp = fmemopen(text, strlen(text), "r")) == NULL)
		fatal("out of memory");
	now->source_section = cfg;
	rc = cfg_parse_fp(cfg, fp);
	fclose(fp);
	now->source_section = outer;
	return rc;
}

static int
on_include(cfg_t *cfg, cfg_opt_t *opt, int argc, const char **argv)
{
	const struct conf_source *source;
	char *file = cfg->filename;
	int line = cfg->line, rc;
	const char *why, *path;

	(void)opt;
	if (argc != 1) {
		complain(file, line, "include: one file name wanted");
		return -1;
	}
	path = conf_path(now->conf, argv[0]);
	if (now->depth == INCLUDE_DEPTH) {
		complain(file, line, "include: %s: included too deeply", path);
		return -1;
	}
	if ((source = conf_source_get(now->conf, path, false, &why)) == NULL) {
		complain(file, line, "include: %s: %s", path, why);
		return -1;
	}
	if ((cfg->filename = strdup(path)) == NULL)
		fatal("out of memory");
	now->depth++;
	rc = parse_source(cfg, source);
	now->depth--;
	free(cfg->filename);
	cfg->filename = file;
	cfg->line = line;
	return rc;
}

/* --- libconfuse's tables --- */

static cfg_opt_t
list_option(const char *name)
{
	cfg_opt_t option = CFG_STR_LIST_CB(name, NULL, CFGF_NONE, on_value);

	option.validcb = on_valid;
	return option;
}

static cfg_opt_t *
make_options(const struct section_kind *kind)
{
	size_t room = kind->row_count + now->unknown_count +
	    now->conf->kind_count + 4, n = 0;
	cfg_opt_t *options = arena_alloc(now->conf->arena,
	    room * sizeof(*options));
	cfg_opt_t begin = CFG_STR_LIST_CB(BEGIN, NULL, CFGF_NONE, on_value);
	cfg_opt_t include = CFG_FUNC("include", on_include);
	cfg_opt_t end = CFG_END();

	for (size_t i = 0; i < kind->row_count; i++)
		options[n++] = list_option(kind->rows[i].name);
	for (size_t i = 0; i < now->unknown_count; i++)
		if (now->unknown[i].kind == kind)
			options[n++] = list_option(now->unknown[i].name);
	options[n++] = include;
	options[n++] = list_option(END);
	if (kind->name[0] != '\0') {
		begin.def.parsed = arena_strdup(now->conf->arena, "{x}");
		options[n++] = begin;
		options[n] = end;
		return options;
	}
	for (size_t i = 0; i < now->conf->kind_count; i++) {
		const struct section_kind *k = now->conf->kinds[i];

		if (k->name[0] != '\0')
			options[n++] = (cfg_opt_t)CFG_SEC(k->name,
			    make_options(k), k->titled ?
			    CFGF_MULTI | CFGF_TITLE : CFGF_MULTI);
	}
	options[n] = end;
	return options;
}

/*
 * Of an empty list libconfuse tells nothing.  That it stands somewhere in the
 * section is all that can be known.
 */
static void
note_empty_lists(void)
{
	for (struct conf_raw *raw = now->first; raw != NULL; raw = raw->next) {
		const cfg_t *cfg = raw->cfg;

		for (const cfg_opt_t *o = cfg->opts; o->name != NULL; o++) {
			struct conf_setting *setting =
			    setting_find(raw, o->name);

			if (setting == NULL || setting->file != NULL ||
			    !(o->flags & CFGF_MODIFIED))
				continue;
			setting->file = raw->file;
			setting->line = raw->line;
			setting->braces = true;
		}
	}
}

/* One run over all sources. */
static void
run(void)
{
	const struct section_kind *top = kind_find("");
	cfg_t *cfg = cfg_init(make_options(top), CFGF_NONE);
	int rc = CFG_SUCCESS;

	if (cfg == NULL)
		fatal("out of memory");
	now->again = false;
	now->first = NULL;
	now->last = &now->first;
	buf_reset(&now->errors);
	cfg_set_error_function(cfg, on_error);
	raw_add(cfg, top, NULL, now->conf->name, 1);
	for (const struct conf_source *source = now->conf->sources;
	    source != NULL && rc == CFG_SUCCESS; source = source->next) {
		if (!source->top)
			continue;
		free(cfg->filename);
		if ((cfg->filename = strdup(source->name)) == NULL)
			fatal("out of memory");
		rc = parse_source(cfg, source);
	}
	if (rc != CFG_SUCCESS && now->errors.len == 0 &&
	    now->unknown_errors.len == 0)
		complain(cfg->filename, cfg->line, "syntax error");
	if (rc == CFG_SUCCESS && now->errors.len == 0)
		note_empty_lists();
	cfg_free(cfg);
}

int
conf_parse(struct conf *conf, struct conf_raw **raws, struct buf *errors)
{
	struct parser parser = { .conf = conf, .errors = BUF_INIT,
	    .unknown_errors = BUF_INIT };
	int rc;

	now = &parser;
	do
		run();
	while (parser.again);
	*raws = parser.first;
	rc = parser.errors.len + parser.unknown_errors.len == 0 ? 0 : -1;
	buf_append(errors, parser.unknown_errors.data,
	    parser.unknown_errors.len);
	buf_append(errors, parser.errors.data, parser.errors.len);
	buf_release(&parser.unknown_errors);
	buf_release(&parser.errors);
	now = NULL;
	return rc;
}
