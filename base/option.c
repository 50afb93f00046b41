/* Options: values of the scalar types, from text. */
#include "base/option.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/log.h"

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 }, { "K", 1024 }, { "M", 1024 * 1024 },
	{ "G", 1024 * 1024 * 1024 }, { "T", INT64_C(1) << 40 }, { NULL, 0 }
};
static const struct unit duration_units[] = {
	{ "ms", 1 }, { "s", 1000 }, { "m", 60 * 1000 }, { "h", 3600 * 1000 },
	{ "d", 24 * 3600 * 1000 }, { "w", 7 * 24 * 3600 * 1000 }, { NULL, 0 }
};
static const struct unit number_units[] = { { "", 1 }, { NULL, 0 } };

static const struct {
	const char *name, *what;
	const struct unit *units;
} types[] = {
	[OPTION_flag] = { "flag", "not a flag (yes, no)", NULL },
	[OPTION_number] = { "number", "not a number", number_units },
	[OPTION_size] = { "size", "not a size (10M; K, M, G)", size_units },
	[OPTION_duration] = { "duration",
	    "not a duration (90s; ms, s, m, h, d)", duration_units },
	[OPTION_string] = { "string", NULL, NULL },
	[OPTION_strings] = { "strings", NULL, NULL },
	[OPTION_choice] = { "choice", NULL, NULL },
	[OPTION_file] = { "file", NULL, NULL },
	[OPTION_table] = { "table", NULL, NULL },
	[OPTION_key_table] = { "key table", NULL, NULL },
};

const char *
option_type_name(enum option_type type)
{
	return types[type].name;
}

static int
parse_flag(const char *text, int64_t *value)
{
	static const char *const words[] = { "no", "yes", "false", "true",
		"off", "on" };

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcasecmp(text, words[i]) == 0) {
			*value = i % 2;
			return 0;
		}
	return -1;
}

/* A number and a unit; case counts for none of them but "m" and "ms". */
static int
parse_units(const struct unit *units, const char *text, int64_t *value)
{
	char *end;
	long long number;

	if (*text != '-' && (*text < '0' || *text > '9'))
		return -1;
	errno = 0;
	number = strtoll(text, &end, 10);
	if (errno != 0 || end == text)
		return -1;
	if (number == 0 && *end == '\0') {	/* 0 needs no unit */
		*value = 0;
		return 0;
	}
	for (; units->name != NULL; units++)
		if (strcasecmp(end, units->name) == 0)
			return __builtin_mul_overflow((int64_t)number,
			    units->factor, value) ? -1 : 0;
	return -1;
}

static int
parse_choice(const char *choices, const char *text, int64_t *value)
{
	size_t len = strlen(text), n;

	*value = 0;
	for (const char *p = choices;; p += n + 1, ++*value) {
		n = strcspn(p, "|");
		if (n == len && strncasecmp(p, text, n) == 0)
			return 0;
		if (p[n] == '\0')
			return -1;
	}
}

static void
say_choices(const char *choices, struct buf *why)
{
	buf_puts(why, "must be one of ");
	for (const char *p = choices; *p != '\0'; p++)
		if (*p == '|')
			buf_puts(why, ", ");
		else
			buf_putc(why, *p);
}

static int
check_range(const struct option_row *row, int64_t value, struct buf *why)
{
	const struct unit *units = types[row->type].units;
	int64_t min = INT64_MIN, max = INT64_MAX;

	if ((row->min != NULL && parse_units(units, row->min, &min) != 0) ||
	    (row->max != NULL && parse_units(units, row->max, &max) != 0))
		fatal("option %s: the range cannot be read", row->name);
	if (value >= min && value <= max)
		return 0;
	if (row->min != NULL && row->max != NULL)
		buf_printf(why, "must be between %s and %s", row->min,
		    row->max);
	else if (row->min != NULL)
		buf_printf(why, "must be at least %s", row->min);
	else
		buf_printf(why, "must be at most %s", row->max);
	return -1;
}

int
option_parse(const struct option_row *row, const char *text, int64_t *value,
    struct buf *why)
{
	if (row->type == OPTION_choice) {
		if (parse_choice(row->min, text, value) == 0)
			return 0;
		say_choices(row->min, why);
		return -1;
	}
	if (row->type == OPTION_flag) {
		if (parse_flag(text, value) == 0)
			return 0;
		buf_puts(why, types[row->type].what);
		return -1;
	}
	if (parse_units(types[row->type].units, text, value) != 0) {
		buf_puts(why, types[row->type].what);
		return -1;
	}
	return check_range(row, *value, why);
}

void
option_store(const struct option_row *row, void *values, int64_t value)
{
	void *at = (char *)values + row->offset;

	switch (row->type) {
	case OPTION_flag:
		*(option_flag_t *)at = value != 0;
		return;
	case OPTION_choice:
		*(option_choice_t *)at = (int)value;
		return;
	case OPTION_number:
	case OPTION_size:
	case OPTION_duration:
		*(int64_t *)at = value;
		return;
	default:
		fatal("option %s is not of a scalar type", row->name);
	}
}
