/* Values of options: what is taken, what is refused, and why. */
#include "base/option.h"

#include <string.h>

#include "base/buf.h"
#include "t/unit/unit.h"

static void
values(void)
{
	static const struct {
		const char *name;
		enum option_type type;
		const char *min, *max, *text;
		int64_t want;
		const char *why;	/* NULL: it is taken */
	} cases[] = {
		{ "yes", OPTION_flag, NULL, NULL, "yes", 1, NULL },
		{ "Off", OPTION_flag, NULL, NULL, "Off", 0, NULL },
		{ "true", OPTION_flag, NULL, NULL, "true", 1, NULL },
		{ "maybe", OPTION_flag, NULL, NULL, "maybe", 0,
		    "not a flag (yes, no)" },
		{ "number", OPTION_number, NULL, NULL, "-5", -5, NULL },
		{ "number in range", OPTION_number, "1", "3", "3", 3, NULL },
		{ "too big", OPTION_number, "1", "3", "4", 0,
		    "must be between 1 and 3" },
		{ "too small", OPTION_number, "1", NULL, "0", 0,
		    "must be at least 1" },
		{ "above", OPTION_number, NULL, "3", "4", 0,
		    "must be at most 3" },
		{ "empty", OPTION_number, NULL, NULL, "", 0, "not a number" },
		{ "behind", OPTION_number, NULL, NULL, "5x", 0,
		    "not a number" },
		{ "blank before", OPTION_number, NULL, NULL, " 5", 0,
		    "not a number" },
		{ "overflow", OPTION_number, NULL, NULL,
		    "9223372036854775808", 0, "not a number" },
		{ "decimal", OPTION_decimal, NULL, NULL, "2.5", 2500, NULL },
		{ "whole", OPTION_decimal, NULL, NULL, "15", 15000, NULL },
		{ "below zero", OPTION_decimal, NULL, NULL, "-0.001", -1,
		    NULL },
		{ "decimal range", OPTION_decimal, "-1.5", "2", "2.001", 0,
		    "must be between -1.5 and 2" },
		{ "too exact", OPTION_decimal, NULL, NULL, "1.2345", 0,
		    "not a decimal (2.5)" },
		{ "a point alone", OPTION_decimal, NULL, NULL, ".", 0,
		    "not a decimal (2.5)" },
		{ "nothing behind it", OPTION_decimal, NULL, NULL, "1.", 0,
		    "not a decimal (2.5)" },
		{ "nothing before it", OPTION_decimal, NULL, NULL, ".5", 0,
		    "not a decimal (2.5)" },
		{ "a sign alone", OPTION_decimal, NULL, NULL, "-", 0,
		    "not a decimal (2.5)" },
		{ "long decimal", OPTION_decimal, NULL, NULL, "1234567890", 0,
		    "not a decimal (2.5)" },
		{ "bytes", OPTION_size, NULL, NULL, "123", 123, NULL },
		{ "K", OPTION_size, NULL, NULL, "2K", 2048, NULL },
		{ "m", OPTION_size, NULL, NULL, "50m", 50 << 20, NULL },
		{ "T", OPTION_size, NULL, "1T", "1T", INT64_C(1) << 40, NULL },
		{ "unknown unit", OPTION_size, NULL, NULL, "50X", 0,
		    "not a size (10M; K, M, G)" },
		{ "size overflow", OPTION_size, NULL, NULL, "99999999T", 0,
		    "not a size (10M; K, M, G)" },
		{ "size range", OPTION_size, "1K", "2G", "3G", 0,
		    "must be between 1K and 2G" },
		{ "ms", OPTION_duration, NULL, NULL, "100ms", 100, NULL },
		{ "m is minutes", OPTION_duration, NULL, NULL, "2m", 120000,
		    NULL },
		{ "days", OPTION_duration, NULL, NULL, "5d", 432000000,
		    NULL },
		{ "zero", OPTION_duration, NULL, NULL, "0", 0, NULL },
		{ "no unit", OPTION_duration, NULL, NULL, "90", 0,
		    "not a duration (90s; ms, s, m, h, d)" },
		{ "choice", OPTION_choice, "a|bc|d", NULL, "bc", 1, NULL },
		{ "last choice", OPTION_choice, "a|bc|d", NULL, "D", 2,
		    NULL },
		{ "part of a choice", OPTION_choice, "a|bc|d", NULL, "b", 0,
		    "must be one of a, bc, d" },
		{ "two choices", OPTION_choice, "a|bc|d", NULL, "a|bc", 0,
		    "must be one of a, bc, d" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct option_row row = { .name = "x", .type = cases[i].type,
		    .min = cases[i].min, .max = cases[i].max };
		struct buf why = BUF_INIT;
		int64_t value = -1;
		int rc = option_parse(&row, cases[i].text, &value, &why);

		if (cases[i].why == NULL)
			CASE_ASSERT(cases[i].name, rc == 0 &&
			    value == cases[i].want);
		else
			CASE_ASSERT(cases[i].name, rc == -1 &&
			    strcmp(why.data, cases[i].why) == 0);
		buf_release(&why);
	}
}

static void
decimals(void)
{
	static const struct {
		int64_t value;
		const char *want;
	} cases[] = { { 0, "0" }, { 15000, "15" }, { 2500, "2.5" },
		{ -1, "-0.001" }, { -3050, "-3.05" }, { 10, "0.01" } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf text = BUF_INIT;

		option_print_decimal(&text, cases[i].value);
		CASE_ASSERT(cases[i].want,
		    strcmp(text.data, cases[i].want) == 0);
		buf_release(&text);
	}
}

SUITE(option, { "values are parsed and bounded", values },
    { "decimals", decimals })
