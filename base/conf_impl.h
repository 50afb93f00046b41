/* What the conf_*.c files share. */
#ifndef BASE_CONF_IMPL_H
#define BASE_CONF_IMPL_H

#include <stdint.h>
#include <sys/stat.h>

#include "base/conf.h"

struct arena;

#define CONF_SOURCE_MAX (1024 * 1024)
#define CONF_SOURCES_MAX 200
#define CONF_FILE_MAX (1024 * 1024)
#define CONF_TABLE_MAX (512 * 1024 * 1024)

/* A text of configuration. */
struct conf_source {
	const char *name;		/* as it stands in errors */
	char *bytes;
	size_t len;
	bool top;			/* parsed by itself, not included */
	struct conf_source *next;
};

/* What a file option or a table refers to. */
struct conf_bytes {
	const char *path;
	char *bytes;
	size_t len;
	bool table;
	bool secret;			/* a table that holds a password */
	struct conf_bytes *next;
};

/* A file or directory that was read, as it was then. */
struct conf_watch {
	const char *path;		/* absolute */
	bool exists;
	struct stat status;
	struct conf_watch *next;
};

/* An environment variable that the text refers to: ${NAME}. */
struct conf_variable {
	const char *name, *value;
	struct conf_variable *next;
};

struct conf_word {
	const char *text, *file;
	int line;
};

/* An option as it is given in a section; file NULL: it is not. */
struct conf_setting {
	const char *file;
	int line;
	bool braces;
	size_t count, size, seen;
	struct conf_word *words;
};

/* A section while it is parsed. */
struct conf_raw {
	const struct section_kind *kind;
	const char *title, *file;
	int line;
	struct conf_setting *settings;	/* one for each row */
	const void *cfg;		/* libconfuse's */
	struct conf_raw *next;
};

struct conf_made_table {
	struct table *table;
	const char *path;		/* NULL: inline */
	struct conf_made_table *next;
};

/* The sections of a kind. */
struct conf_group {
	struct conf_section *sections;
	const struct conf_setting **settings;	/* of each section */
	size_t count;
};

struct conf {
	struct arena *arena;
	const struct section_kind *const *kinds;
	size_t kind_count;
	struct conf_group *groups;	/* one for each kind */
	const char *name;		/* of the main file */
	const char *directory;		/* of the main file, with "/", or "" */
	bool from_disk;
	struct conf_source *sources;
	size_t source_count;
	struct conf_bytes *files;
	struct conf_watch *watches;
	struct conf_variable *variables;
	struct conf_made_table *tables;
};

/* conf.c */
struct conf *conf_new(const struct section_kind *const *, size_t);
/* Parses the sources and checks all values; -1 if something is wrong. */
int conf_build(struct conf *, struct buf *errors);
const struct conf_group *conf_group(const struct conf *, const char *kind);

/* conf_read.c */
/* The path behind the main file's directory, unless it is absolute. */
const char *conf_path(struct conf *, const char *path);
struct conf_source *conf_source_add(struct conf *, const char *name,
    const char *bytes, size_t len, bool top);
const struct conf_source *conf_source_find(const struct conf *,
    const char *name);
/* Reads a source unless it is there already; NULL and *why. */
const struct conf_source *conf_source_get(struct conf *, const char *name,
    bool top, const char **why);
/* The bytes of a file, read if they are not there; NULL and *why. */
struct conf_bytes *conf_bytes_get(struct conf *, const char *path, bool table,
    const char **why);
struct conf_bytes *conf_bytes_add(struct conf *, const char *path,
    char *bytes, size_t len, bool table);
/* Adds the main file and conf.d beside it. */
int conf_read_all(struct conf *, const char *path, struct buf *errors);
void conf_variable_add(struct conf *, const char *name, const char *value);

/*
 * conf_text.c: makes comments blank, in place.  NULL, or what has no end and
 * in which line it begins.
 */
const char *conf_blank_comments(char *text, int *line);

/* conf_parse.c: the text as sections of words.  -1 if something is wrong. */
int conf_parse(struct conf *, struct conf_raw **, struct buf *errors);

/* conf_value.c: fills a section's values.  -1 if something is wrong. */
int conf_fill(struct conf *, const struct section_kind *,
    const struct conf_setting *, void *values, struct buf *errors);
/* Parts the text of a default into words; in the arena. */
void conf_default_words(struct arena *, const struct option_row *,
    struct conf_setting *);

#endif
