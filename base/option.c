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
	[OPTION_decimal] = { "decimal", "not a decimal (2.5)", NULL },
	[OPTION_size] = { "size", "not a size (10M; K, M, G)", size_units },
	[OPTION_duration] = { "duration",
	    "not a duration (90s; ms, s, m, h, d)", duration_units },
	[OPTION_string] = { "string", NULL, NULL },
	[OPTION_strings] = { "strings", NULL, NULL },
	[OPTION_choice] = { "choice", NULL, NULL },
	[OPTION_file] = { "file", NULL, NULL },
	[OPTION_path] = { "path", NULL, NULL },
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

/* At most three digits behind the point. */
static int
parse_decimal(const char *text, int64_t *value)
{
	bool negative = *text == '-';
	int64_t digits = 0;
	size_t whole, behind = 0;

	text += negative;
	whole = strspn(text, "0123456789");
	if (text[whole] == '.')
		behind = strspn(text + whole + 1, "0123456789");
	if (whole == 0 || whole > 9 || behind > 3 ||
	    text[whole + (text[whole] == '.' ? behind + 1 : 0)] != '\0' ||
	    (text[whole] == '.' && behind == 0))
		return -1;
	for (; *text != '\0'; text++)
		if (*text != '.')
			digits = digits * 10 + (*text - '0');
	for (; behind < 3; behind++)
		digits *= 10;
	*value = negative ? -digits : digits;
	return 0;
}

void
option_print_decimal(struct buf *out, int64_t thousandths)
{
	uint64_t size = thousandths < 0 ? -(uint64_t)thousandths :
	    (uint64_t)thousandths;
	unsigned behind = (unsigned)(size % 1000);
	int digits = 3;

	buf_printf(out, "%s%llu", thousandths < 0 ? "-" : "",
	    (unsigned long long)(size / 1000));
	if (behind == 0)
		return;
	for (; behind % 10 == 0; behind /= 10)
		digits--;
	buf_printf(out, ".%0*u", digits, behind);
}

/* Of a type that has a range. */
static int
parse_number(enum option_type type, const char *text, int64_t *value)
{
	return type == OPTION_decimal ? parse_decimal(text, value) :
	    parse_units(types[type].units, text, value);
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
	int64_t min = INT64_MIN, max = INT64_MAX;

	if ((row->min != NULL && parse_number(row->type, row->min, &min) != 0) ||
	    (row->max != NULL && parse_number(row->type, row->max, &max) != 0))
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
	if (parse_number(row->type, text, value) != 0) {
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
	case OPTION_decimal:
	case OPTION_size:
	case OPTION_duration:
		*(int64_t *)at = value;
		return;
	default:
		fatal("option %s is not of a scalar type", row->name);
	}
}
