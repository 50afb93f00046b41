/* How long something lasts, in commands and what they show. */
#include "policy/lifetime.h"

#include <inttypes.h>

#include "base/buf.h"
#include "base/option.h"

int
lifetime_parse(const char *text, int64_t *ms, const char **why)
{
	static const struct option_row row = { "for", OPTION_duration, 0,
	    NULL, "1s", "3650d", "" };
	struct buf errors = BUF_INIT;
	int rc = option_parse(&row, text, ms, &errors);

	buf_release(&errors);
	*why = "not a duration (90s; s, m, h, d; from 1s to 3650d)";
	return rc;
}

void
lifetime_print(struct buf *out, int64_t ms)
{
	static const struct { int64_t ms; char unit; } units[] = {
		{ 86400000, 'd' }, { 3600000, 'h' }, { 60000, 'm' },
	};

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		int64_t n = (ms + units[i].ms / 2) / units[i].ms;

		if (n >= 2) {
			buf_printf(out, "%" PRId64 "%c", n, units[i].unit);
			return;
		}
	}
	buf_printf(out, "%" PRId64 "s", ms > 0 ? (ms + 999) / 1000 : 0);
}
