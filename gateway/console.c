/* The console's section of the configuration. */
#include "gateway/console.h"

static const struct option_row rows[] = {
	CONSOLE_OPTIONS(OPTION_ROW, console_options)
};

const struct section_kind console_section = {
	.name = "console",
	.doc = "History, metrics and commands (millgatectl).",
	.rows = rows, .row_count = OPTION_COUNT(rows),
	.size = sizeof(struct console_options),
};
