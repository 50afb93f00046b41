/*
 * Key tables: which private keys sign whose mail.  One key a line:
 *
 *	# pattern	domain		selector  key file	[days]
 *	example.org	example.org	s2026	s2026.pem	until 2026-12-31
 *	example.org	example.org	s2027	s2027.pem	from 2026-12-31
 *	.example.org	example.org	s2026	s2026.pem
 *	news@example.org news.example.org n1	/etc/news.pem
 *	user:alice	example.org	s2026	s2026.pem
 *
 * A file's name counts from the table's directory.  Days are those of UTC; a
 * key signs on both that it names.
 */
#ifndef BASE_KEY_TABLE_H
#define BASE_KEY_TABLE_H

#include <stddef.h>

struct arena;
struct buf;

struct key_line {
	int line;
	const char *pattern, *domain, *selector;	/* in lower case */
	size_t file;			/* index */
	int from, until;		/* days as 20261231 */
};

struct key_file {
	const char *path;
	int line;			/* the first that names it */
};

struct key_table {
	const char *name;		/* of the file, for errors */
	struct key_line *lines;		/* by pattern, then in file order */
	size_t count;
	struct key_file *files;		/* each once */
	size_t file_count;
};

/*
 * Parses the text of the table with that name, into the arena.  NULL: there is
 * no line, or one is wrong; errors get "name:line: text".
 */
const struct key_table *key_table_parse(struct arena *, const char *name,
    const char *text, size_t len, struct buf *errors);

/* The lines of exactly that pattern, in file order; NULL: none. */
const struct key_line *key_table_find(const struct key_table *,
    const char *pattern, size_t *count);

/* The day of a time since the epoch, as the lines have it. */
int key_table_day(long long seconds);

#endif
