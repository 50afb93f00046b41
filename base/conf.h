/*
 * The configuration: text in libconfuse's syntax, checked against section kinds
 * (option.h), errors with file and line, each value's origin kept.
 *
 * The master loads the files once (conf_load) and hands each child a snapshot:
 * the same text, and the contents of the table files and of those files
 * (certificates, keys, key tables) that the child's role may see.  A child parses the
 * snapshot before it locks itself in, so what runs never depends on files
 * edited since.
 */
#ifndef BASE_CONF_H
#define BASE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/option.h"

struct buf;
struct conf;

/* A section as parsed. */
struct conf_section {
	const struct section_kind *kind;
	const char *title;		/* NULL if not titled */
	const void *values;		/* the kind's struct, filled */
	const char *file;		/* where it begins; "default" if absent */
	int line;
};

/* All errors go to this buffer, one line each: file:line: text. */

/*
 * Reads path and what it includes (conf.d/ *.conf beside it, include()), and
 * every table file and file option, and checks all.  path NULL: the text in
 * embedded instead.  NULL on error.
 */
struct conf *conf_load(const char *path, const char *embedded,
    const struct section_kind *const *kinds, size_t kind_count,
    struct buf *errors);

void conf_free(struct conf **);

/* Adds an error at this option of the section, for checks between options. */
void conf_error(struct buf *errors, const struct conf *,
    const struct conf_section *, const char *option, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The values of a section without title ("" is the top level).  Never NULL. */
const void *conf_get(const struct conf *, const char *kind_name);

/* Whether it was loaded with that kind of section, as tests need not all. */
bool conf_knows(const struct conf *, const char *kind_name);

/*
 * A text option of the top level, for who may not know its struct.  NULL: it is
 * not set, or there is none of that name.
 */
const char *conf_top_string(const struct conf *, const char *name);

/* The titled sections of a kind, in file order; NULL-title ended not needed. */
const struct conf_section *conf_sections(const struct conf *,
    const char *kind_name, size_t *count);

/*
 * Contents of the file of a file option or of one that a key table names; false
 * if this process may not see it.
 */
bool conf_file(const struct conf *, const char *path, const char **bytes,
    size_t *len);

/*
 * The text of a file that holds a secret, such as a password, without the end
 * of line that editors put there; to be freed.  NULL: *why.
 */
char *conf_secret(const struct conf *, const char *path, const char **why);

/*
 * Says which of the file options, key tables and descriptions of directories
 * this snapshot carries: called per section and option, true keeps the bytes,
 * those of the files that a key table names, too.  Other table files are always
 * carried; a directory whose description is not answers nothing.
 */
typedef bool conf_may_see_f(const struct conf_section *, const char *option,
    void *argument);

/* Writes a snapshot to a descriptor / reads one.  -1 or NULL: *why. */
int conf_snapshot_write(const struct conf *conf, int fd,
    conf_may_see_f *may_see, void *argument, const char **why);
struct conf *conf_snapshot_read(int fd,
    const struct section_kind *const *kinds, size_t kind_count,
    const char **why);

/* True when a file that conf_load read has changed on disk since. */
bool conf_changed_on_disk(const struct conf *);

/* Prints all effective values with their origin (millgate -T). */
void conf_print(const struct conf *, FILE *);

/* Prints a commented sample file / the mdoc list of options for the manual. */
void conf_print_sample(FILE *, const struct section_kind *const *, size_t);
void conf_print_mdoc(FILE *, const struct section_kind *const *, size_t);

/* Prints plain text as mdoc, each sentence on lines of its own. */
void conf_print_mdoc_text(FILE *, const char *text);

#endif
