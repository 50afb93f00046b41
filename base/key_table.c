/* Key tables: the text as lines, and looking patterns up. */
#include "base/key_table.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/net.h"

#define NAME_MAX_LEN 253	/* of a record: RFC 1035, 3.1, as text */
#define WORDS_MAX 8		/* pattern domain selector file, two dates */
#define WHITE " \t\r"

struct parser {
	struct arena *arena;
	struct key_table *table;
	const char **paths;		/* of each line */
	struct buf *errors;
	int line;
};

static int
fails(const struct parser *p, int line, const char *what, const char *why)
{
	buf_printf(p->errors, "%s:%d: \"%s\": %s\n", p->table->name, line,
	    what, why);
	return -1;
}

static int
days_of_month(int year, int month)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };
	bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

	return days[month - 1] + (month == 2 && leap);
}

/* YYYY-MM-DD as a number, or 0: it is no date. */
static int
parse_date(const char *text)
{
	int year, month, day;

	if (strlen(text) != strlen("YYYY-MM-DD") || text[4] != '-' ||
	    text[7] != '-')
		return 0;
	for (const char *c = text; *c != '\0'; c++)
		if (c != text + 4 && c != text + 7 && (*c < '0' || *c > '9'))
			return 0;
	year = atoi(text);
	month = atoi(text + 5);
	day = atoi(text + 8);
	if (month < 1 || month > 12 || day < 1 ||
	    day > days_of_month(year, month))
		return 0;
	return year * 10000 + month * 100 + day;
}

int
key_table_day(long long seconds)
{
	time_t now = (time_t)seconds;
	struct tm tm = { 0 };

	gmtime_r(&now, &tm);
	return (tm.tm_year + 1900) * 10000 + (tm.tm_mon + 1) * 100 +
	    tm.tm_mday;
}

static void
lower(char *text)
{
	for (; *text != '\0'; text++)
		*text = (char)tolower((unsigned char)*text);
}

static bool
is_pattern(const char *text)
{
	const char *at = strrchr(text, '@');

	if (strncmp(text, "user:", 5) == 0)
		return text[5] != '\0';
	if (at != NULL)
		return at > text && net_is_host_name(at + 1);
	return net_is_host_name(text[0] == '.' ? text + 1 : text);
}

/* "from DATE" and "until DATE" behind the file; ends in NULL. */
static int
parse_days(const struct parser *p, struct key_line *line, char *const *word)
{
	line->from = 0;
	line->until = INT_MAX;
	for (; word[0] != NULL; word += 2) {
		int *day = strcmp(word[0], "from") == 0 ? &line->from :
		    strcmp(word[0], "until") == 0 ? &line->until : NULL;

		if (day == NULL || (*day != 0 && *day != INT_MAX))
			return fails(p, p->line, word[0],
			    "from DATE or until DATE is wanted, each once");
		if (word[1] == NULL || (*day = parse_date(word[1])) == 0)
			return fails(p, p->line, word[1] == NULL ? word[0] :
			    word[1], "no date (2026-12-31)");
	}
	if (line->from > line->until)
		return fails(p, p->line, line->selector,
		    "the key ends before it begins");
	return 0;
}

static int
parse_words(struct parser *p, char *const *words, size_t count)
{
	struct key_line *line = &p->table->lines[p->table->count];

	if (count < 4)
		return fails(p, p->line, words[0],
		    "pattern, domain, selector and key file are wanted");
	lower(words[0]);
	lower(words[1]);
	lower(words[2]);
	if (!is_pattern(words[0]))
		return fails(p, p->line, words[0], "no pattern (example.org, "
		    ".example.org, a@example.org, user:name)");
	if (!net_is_host_name(words[1]))
		return fails(p, p->line, words[1], "no domain");
	if (!net_is_host_name(words[2]) || strlen(words[1]) +
	    strlen("._domainkey.") + strlen(words[2]) > NAME_MAX_LEN)
		return fails(p, p->line, words[2], "no selector");
	*line = (struct key_line){ .line = p->line, .pattern = words[0],
		.domain = words[1], .selector = words[2] };
	if (parse_days(p, line, words + 4) == -1)
		return -1;
	p->paths[p->table->count++] = words[3];
	return 0;
}

/* Parts a line into words, in place. */
static int
parse_line(struct parser *p, char *text)
{
	char *words[WORDS_MAX + 1] = { NULL }, *rest = NULL;
	size_t count = 0;

	for (char *word = strtok_r(text, WHITE, &rest); word != NULL &&
	    word[0] != '#'; word = strtok_r(NULL, WHITE, &rest)) {
		if (count == WORDS_MAX)
			return fails(p, p->line, word, "too many words");
		words[count++] = word;
	}
	return count == 0 ? 0 : parse_words(p, words, count);
}

static int
parse_text(struct parser *p, const char *text, size_t len)
{
	const char *end = text + len;
	size_t room = 1, n;
	int rc = 0;

	for (const char *c = text; c < end; c++)
		room += *c == '\n';
	p->table->lines = arena_alloc(p->arena,
	    room * sizeof(*p->table->lines));
	p->paths = arena_alloc(p->arena, room * sizeof(*p->paths));
	for (; text < end; text += n + 1) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));

		n = (size_t)((newline == NULL ? end : newline) - text);
		p->line++;
		if (memchr(text, '\0', n) != NULL)
			rc |= fails(p, p->line, "", "there is a NUL byte");
		else
			rc |= parse_line(p, arena_strndup(p->arena, text, n));
	}
	return rc;
}

/* --- the files, each once --- */

struct named {
	const char *path;
	struct key_line *line;
};

static int
by_path(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int order = strcmp(x->path, y->path);

	return order != 0 ? order : x->line->line - y->line->line;
}

static void
collect_files(struct parser *p)
{
	struct key_table *table = p->table;
	const char *slash = strrchr(table->name, '/');
	int directory = slash == NULL ? 0 : (int)(slash + 1 - table->name);
	struct named *named = arena_alloc(p->arena,
	    (table->count + 1) * sizeof(*named));

	table->files = arena_alloc(p->arena,
	    (table->count + 1) * sizeof(*table->files));
	for (size_t i = 0; i < table->count; i++)
		named[i] = (struct named){ p->paths[i][0] == '/' ?
		    p->paths[i] : arena_printf(p->arena, "%.*s%s", directory,
		    table->name, p->paths[i]), &table->lines[i] };
	qsort(named, table->count, sizeof(*named), by_path);
	for (size_t i = 0; i < table->count; i++) {
		if (i == 0 || strcmp(named[i].path, named[i - 1].path) != 0)
			table->files[table->file_count++] = (struct key_file){
			    named[i].path, named[i].line->line };
		named[i].line->file = table->file_count - 1;
	}
}

/* --- selectors --- */

static int
by_selector(const void *a, const void *b)
{
	const struct key_line *x = a, *y = b;
	int order = strcmp(x->domain, y->domain);

	if (order == 0)
		order = strcmp(x->selector, y->selector);
	if (order == 0)
		order = strcmp(x->pattern, y->pattern);
	return order != 0 ? order : x->line - y->line;
}

/* A selector of a domain is one key, which a pattern names once. */
static int
check_selectors(const struct parser *p)
{
	struct key_line *lines = p->table->lines;
	int rc = 0;

	qsort(lines, p->table->count, sizeof(*lines), by_selector);
	for (size_t i = 1; i < p->table->count; i++) {
		const struct key_line *a = &lines[i - 1], *b = &lines[i];
		int last = a->line > b->line ? a->line : b->line;
		char why[80];

		if (strcmp(a->domain, b->domain) != 0 ||
		    strcmp(a->selector, b->selector) != 0 ||
		    (a->file == b->file &&
		    strcmp(a->pattern, b->pattern) != 0))
			continue;
		snprintf(why, sizeof(why), a->file == b->file ?
		    "the same key stands in line %d" :
		    "the selector has another key in line %d",
		    a->line + b->line - last);
		rc |= fails(p, last, b->selector, why);
	}
	return rc;
}

static int
by_pattern(const void *a, const void *b)
{
	const struct key_line *x = a, *y = b;
	int order = strcmp(x->pattern, y->pattern);

	return order != 0 ? order : x->line - y->line;
}

const struct key_table *
key_table_parse(struct arena *arena, const char *name, const char *text,
    size_t len, struct buf *errors)
{
	struct key_table *table = arena_alloc(arena, sizeof(*table));
	struct parser p = { .arena = arena, .table = table, .errors = errors };

	table->name = arena_strdup(arena, name);
	if (parse_text(&p, text, len) != 0)
		return NULL;
	if (table->count == 0) {
		buf_printf(errors, "%s:1: there is no key in it\n", name);
		return NULL;
	}
	collect_files(&p);
	if (check_selectors(&p) != 0)
		return NULL;
	qsort(table->lines, table->count, sizeof(*table->lines), by_pattern);
	return table;
}

const struct key_line *
key_table_find(const struct key_table *table, const char *pattern,
    size_t *count)
{
	size_t low = 0, high = table->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (strcmp(table->lines[middle].pattern, pattern) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	for (high = low; high < table->count; high++)
		if (strcmp(table->lines[high].pattern, pattern) != 0)
			break;
	*count = high - low;
	return high == low ? NULL : &table->lines[low];
}
