/* The configuration printed: as it is, as a sample, as manual text. */
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf_impl.h"

#define TEXT_WIDTH 76

/* A word as libconfuse reads it again. */
static void
print_word(FILE *out, const char *text)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

	if (text[0] != '\0' && text[strspn(text, plain)] == '\0') {
		fputs(text, out);
		return;
	}
	fputc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '\n') {
			fputs("\\n", out);
			continue;
		}
		if (strchr("\"\\$", *text) != NULL)
			fputc('\\', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static bool
is_list(const struct option_row *row)
{
	return row->type == OPTION_strings || row->type == OPTION_table;
}

static void
print_words(FILE *out, const struct option_row *row,
    const struct conf_setting *s)
{
	/* A table outside stands without braces, as in the manual. */
	if (!is_list(row) || (s->count == 1 && !s->braces)) {
		print_word(out, s->count == 0 ? "" : s->words[0].text);
		return;
	}
	fputs(s->count == 0 ? "{" : "{ ", out);
	for (size_t i = 0; i < s->count; i++) {
		if (i > 0)
			fputs(", ", out);
		print_word(out, s->words[i].text);
	}
	fputs(s->count == 0 ? "}" : " }", out);
}

static void
print_setting(FILE *out, const char *indent, const struct option_row *row,
    const struct conf_setting *given)
{
	struct arena *arena = arena_new(0);
	struct conf_setting fallback;

	if (given->file != NULL) {
		fprintf(out, "%s%s = ", indent, row->name);
		print_words(out, row, given);
		fprintf(out, "\t# %s:%d\n", given->file, given->line);
	} else if (row->fallback == NULL) {
		fprintf(out, "%s# %s is not set\n", indent, row->name);
	} else {
		conf_default_words(arena, row, &fallback);
		fprintf(out, "%s%s = ", indent, row->name);
		print_words(out, row, &fallback);
		fputs("\t# default\n", out);
	}
	arena_free(&arena);
}

static void
print_section(FILE *out, const struct conf_section *section,
    const struct conf_setting *settings)
{
	const struct section_kind *kind = section->kind;
	bool top = kind->name[0] == '\0';

	if (!top) {
		fprintf(out, "\n%s ", kind->name);
		if (section->title != NULL) {
			print_word(out, section->title);
			fputc(' ', out);
		}
		if (section->line > 0)
			fprintf(out, "{\t# %s:%d\n", section->file,
			    section->line);
		else
			fputs("{\t# default\n", out);
	}
	for (size_t i = 0; i < kind->row_count; i++)
		print_setting(out, top ? "" : "\t", &kind->rows[i],
		    &settings[i]);
	if (!top)
		fputs("}\n", out);
}

void
conf_print(const struct conf *conf, FILE *out)
{
	/* The top level first: libconfuse allows any order, people don't. */
	for (int pass = 0; pass < 2; pass++)
		for (size_t k = 0; k < conf->kind_count; k++) {
			const struct conf_group *group = &conf->groups[k];

			if ((conf->kinds[k]->name[0] == '\0') != (pass == 0))
				continue;
			for (size_t i = 0; i < group->count; i++)
				print_section(out, &group->sections[i],
				    group->settings[i]);
		}
}

/* --- the sample --- */

/*
 * Text as comment lines, broken between words.  In a section they stay
 * comments when the section's outer marks are removed.
 */
static void
print_comment(FILE *out, const char *indent, const char *text)
{
	const char *mark = indent[0] == '\0' ? "#" : "#\t#";
	size_t column = 0, len;

	while (*(text += strspn(text, " \n")) != '\0') {
		len = strcspn(text, " \n");
		if (column > 0 && column + 1 + len > TEXT_WIDTH) {
			fputc('\n', out);
			column = 0;
		}
		if (column == 0)
			column = (size_t)fprintf(out, "%s", mark);
		column += (size_t)fprintf(out, " %.*s", (int)len, text);
		text += len;
	}
	if (column > 0)
		fputc('\n', out);
}

/* Appends range and default, in sentences. */
static void
describe(const struct option_row *row, struct buf *text)
{
	if (row->type == OPTION_choice) {
		buf_puts(text, " One of ");
		for (const char *p = row->min; *p != '\0'; p++)
			if (*p == '|')
				buf_puts(text, ", ");
			else
				buf_putc(text, *p);
		buf_putc(text, '.');
	} else if (row->min != NULL && row->max != NULL) {
		buf_printf(text, " From %s to %s.", row->min, row->max);
	} else if (row->min != NULL) {
		buf_printf(text, " At least %s.", row->min);
	} else if (row->max != NULL) {
		buf_printf(text, " At most %s.", row->max);
	}
	if (row->fallback != NULL && row->fallback[0] != '\0')
		buf_printf(text, " Default: %s.", row->fallback);
	else if (strstr(row->doc, "Default:") == NULL)
		buf_puts(text, " Default: none.");
}

static void
sample_option(FILE *out, const char *indent, const struct option_row *row)
{
	struct arena *arena = arena_new(0);
	struct conf_setting fallback;
	struct buf text = BUF_INIT;

	fputc('\n', out);
	print_comment(out, indent, row->doc);
	buf_printf(&text, "Type: %s.", option_type_name(row->type));
	describe(row, &text);
	print_comment(out, indent, text.data);
	buf_release(&text);
	conf_default_words(arena, row, &fallback);
	fprintf(out, "#%s%s = ", indent, row->name);
	print_words(out, row, &fallback);
	fputc('\n', out);
	arena_free(&arena);
}

static void
sample_section(FILE *out, const struct section_kind *kind)
{
	bool top = kind->name[0] == '\0';

	fputc('\n', out);
	print_comment(out, "", kind->doc == NULL ? "" : kind->doc);
	if (!top)
		fprintf(out, "#%s%s {\n", kind->name, kind->titled ?
		    " name" : "");
	for (size_t i = 0; i < kind->row_count; i++)
		sample_option(out, top ? "" : "\t", &kind->rows[i]);
	if (!top)
		fputs("#}\n", out);
}

void
conf_print_sample(FILE *out, const struct section_kind *const *kinds,
    size_t count)
{
	fputs("# Millgate's configuration: all options, with their defaults.\n"
	    "# To set one, remove the # before it; see millgate.conf(5).\n",
	    out);
	for (int pass = 0; pass < 2; pass++)
		for (size_t k = 0; k < count; k++)
			if ((kinds[k]->name[0] == '\0') == (pass == 0))
				sample_section(out, kinds[k]);
}

/* --- the manual --- */

static void
print_mdoc_word(FILE *out, const char *word, size_t len, bool first)
{
	if (!first)
		fputc(' ', out);
	else if (word[0] == '.' || word[0] == '\'')
		fputs("\\&", out);	/* no macro */
	for (; len > 0; word++, len--)
		if (*word == '\\')
			fputs("\\e", out);
		else
			fputc(*word, out);
}

/* Nothing that mdoc takes for its own gets through. */
void
conf_print_mdoc_text(FILE *out, const char *text)
{
	size_t column = 0, len;

	while (*(text += strspn(text, " \n")) != '\0') {
		len = strcspn(text, " \n");
		if (column > 0 && column + 1 + len > TEXT_WIDTH) {
			fputc('\n', out);
			column = 0;
		}
		print_mdoc_word(out, text, len, column == 0);
		column += len + 1;
		text += len;
		if (text[-1] == '.' && *text != '\0') {
			fputc('\n', out);
			column = 0;
		}
	}
	if (column > 0)
		fputc('\n', out);
}

static void
mdoc_section(FILE *out, const struct section_kind *kind)
{
	struct buf text = BUF_INIT;

	if (kind->name[0] == '\0')
		fputs(".Ss The top level\n", out);
	else
		fprintf(out, ".Ss Section %s%s\n", kind->name,
		    kind->titled ? " name" : "");
	if (kind->doc != NULL)
		conf_print_mdoc_text(out, kind->doc);
	if (kind->row_count == 0)
		return;
	fputs(".Bl -tag -width Ds\n", out);
	for (size_t i = 0; i < kind->row_count; i++) {
		const struct option_row *row = &kind->rows[i];

		fprintf(out, ".It Ic %s No = Ar %s\n", row->name,
		    option_type_name(row->type));
		buf_reset(&text);
		buf_puts(&text, row->doc);
		describe(row, &text);
		conf_print_mdoc_text(out, text.data);
	}
	fputs(".El\n", out);
	buf_release(&text);
}

void
conf_print_mdoc(FILE *out, const struct section_kind *const *kinds,
    size_t count)
{
	for (int pass = 0; pass < 2; pass++)
		for (size_t k = 0; k < count; k++)
			if ((kinds[k]->name[0] == '\0') == (pass == 0))
				mdoc_section(out, kinds[k]);
}
