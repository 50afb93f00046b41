/*
 * Options from rows.  An option is one row: name, type, default, range, one
 * line of documentation.  The struct that holds its value, the parser, the
 * sample file and the manual page all come from the rows:
 *
 *	#define HELO_OPTIONS(ROW, o)					\
 *		ROW(o, timeout, duration, "10s", "1s", "1m",		\
 *		    "How long one check may take.")
 *	struct helo_options { HELO_OPTIONS(OPTION_FIELD, helo_options) };
 *	static const struct option_row helo_rows[] = {
 *		HELO_OPTIONS(OPTION_ROW, helo_options)
 *	};
 *
 * type		C type			in the file		min and max
 * flag		bool			yes, no			NULL
 * number	int64_t			10			bounds
 * decimal	int64_t (thousandths)	2.5			bounds
 * size		int64_t (bytes)		10M (K, M, G)		bounds
 * duration	int64_t (ms)		90s (ms, s, m, h, d)	bounds
 * string	const char * or NULL	"text"			NULL
 * strings	const char *const *	{ "a", "b" }, NULL-ended, never NULL
 * choice	int (index in min)	one of min = "a|b|c"
 * file		const char * or NULL	a path; the master reads it and hands
 *					over its bytes (conf_file())
 * path	const char * or NULL	a path for who opens it before it is locked
 *					in: nothing of it is kept here
 * table	const struct table *	a list, or "type:..." (table.h); NULL
 *					if not set
 * key_table	const struct key_table * or NULL	a path; the master reads
 *					it and the files that it names
 *					(key_table.h, conf_file())
 * A default is text as in the file; lists: "a, b".  NULL: none.
 */
#ifndef BASE_OPTION_H
#define BASE_OPTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct key_table;
struct table;

enum option_type { OPTION_flag, OPTION_number, OPTION_decimal, OPTION_size,
	OPTION_duration, OPTION_string, OPTION_strings, OPTION_choice, OPTION_file,
	OPTION_path, OPTION_table, OPTION_key_table };

typedef bool option_flag_t;
typedef int64_t option_number_t;
typedef int64_t option_decimal_t;
typedef int64_t option_size_t;
typedef int64_t option_duration_t;
typedef const char *option_string_t;
typedef const char *const *option_strings_t;
typedef int option_choice_t;
typedef const char *option_file_t;
typedef const char *option_path_t;
typedef const struct table *option_table_t;
typedef const struct key_table *option_key_table_t;

struct option_row {
	const char *name;
	enum option_type type;
	size_t offset;			/* in the struct of the section */
	const char *fallback, *min, *max, *doc;
};

#define OPTION_FIELD(o, name, type, fallback, min, max, doc)		\
	option_##type##_t name;
#define OPTION_ROW(o, name, type, fallback, min, max, doc)		\
	{ #name, OPTION_##type, offsetof(struct o, name), fallback, min, max, \
	  doc },

/*
 * Rows of sections whose option "listen" may name UNIX sockets that are not for
 * everybody on the machine.
 */
enum option_socket_mode { SOCKET_OWNER, SOCKET_GROUP, SOCKET_ALL };
#define OPTION_SOCKET_ROWS(ROW, o)					\
	ROW(o, socket_mode, choice, "0660", "0600|0660|0666", NULL,	\
	    "Who may connect to a UNIX socket there: its owner, its "	\
	    "socket_group too, or everybody on this machine.")		\
	ROW(o, socket_group, string, NULL, NULL, NULL,			\
	    "The group of a UNIX socket there.  Default: postfix, if there " \
	    "is one.  Postfix's chroot sees what lies below "		\
	    "/var/spool/postfix.")

#define OPTION_COUNT(rows) (sizeof(rows) / sizeof((rows)[0]))

/* The type's name, as in the manual: "size". */
const char *option_type_name(enum option_type);

/*
 * Parses a value of a scalar type (flag, number, decimal, size, duration,
 * choice) and
 * checks its range.  0; or -1, and why is appended: not a size (10M; ...).
 */
int option_parse(const struct option_row *, const char *text, int64_t *value,
    struct buf *why);

/* Appends thousandths as a decimal: 2.5, -3. */
void option_print_decimal(struct buf *, int64_t thousandths);

/* Stores it in the section's struct with the row's C type. */
void option_store(const struct option_row *, void *values, int64_t value);

/*
 * A kind of section.  "" is the top level.  A titled section (listener smtp
 * { ... }) may stand any number of times, its titles differ; one without title
 * stands once and exists, with defaults, even if the file lacks it.
 */
struct section_kind {
	const char *name;
	bool titled;
	const char *doc;
	const struct option_row *rows;
	size_t row_count;
	size_t size;			/* of the struct that holds the values */
};

#endif
