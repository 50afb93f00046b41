#include "gateway/control_format.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

#define PREFIX "millgate_"

const char *
control_format_time(int64_t wall_ms, char text[CONTROL_TIME_SIZE])
{
	time_t seconds = (time_t)(wall_ms / 1000);
	struct tm parts;
	size_t len;

	if (localtime_r(&seconds, &parts) == NULL)
		return "-";
	len = strftime(text, CONTROL_TIME_SIZE, "%Y-%m-%d %H:%M:%S", &parts);
	snprintf(text + len, CONTROL_TIME_SIZE - len, ".%03d",
	    abs((int)(wall_ms % 1000)));
	return text;
}

const char *
control_format_bytes(int64_t bytes, char text[CONTROL_BYTES_SIZE])
{
	static const char units[] = "KMGTP";
	double value = (double)bytes;
	int unit = -1;

	for (; value >= 1024 && unit < 4; unit++)
		value /= 1024;
	if (unit < 0)
		snprintf(text, CONTROL_BYTES_SIZE, "%" PRId64, bytes);
	else
		snprintf(text, CONTROL_BYTES_SIZE, "%.*f%c",
		    value < 10 ? 1 : 0, value, units[unit]);
	return text;
}

/* The two largest units that are not zero. */
const char *
control_format_span(int64_t ms, char text[CONTROL_SPAN_SIZE])
{
	static const struct {
		int64_t ms;
		const char *name;
	} units[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "m" },
		{ 1000, "s" } };
	size_t count = sizeof(units) / sizeof(units[0]), i = 0;
	int len;

	while (i < count - 1 && ms < units[i].ms)
		i++;
	len = snprintf(text, CONTROL_SPAN_SIZE, "%" PRId64 "%s",
	    ms / units[i].ms, units[i].name);
	ms %= units[i].ms;
	if (i + 1 < count && ms / units[i + 1].ms > 0)
		snprintf(text + len, CONTROL_SPAN_SIZE - (size_t)len,
		    " %" PRId64 "%s", ms / units[i + 1].ms, units[i + 1].name);
	return text;
}

void
control_format_queue_head(struct buf *out)
{
	buf_printf(out, "%-16s %8s  %-19s  %-8s  %-28s %s", "ID", "SIZE",
	    "ARRIVED", "STATE", "SENDER", "RECIPIENTS");
}

/* "ID SIZE DATE TIME STATE <SENDER> <RECIPIENT>..." */
void
control_format_queue_line(struct buf *out, const char *line)
{
	char id[32], date[16], hour[16], state[16];
	const char *end;
	int64_t size;
	int at = 0;

	if (sscanf(line, "%31s %" SCNd64 " %15s %15s %15s %n", id, &size, date,
	    hour, state, &at) != 5 || at == 0) {
		buf_puts(out, line);
		return;
	}
	line += at;
	end = strstr(line, "> <");
	at = end == NULL ? (int)strlen(line) : (int)(end - line) + 1;
	buf_printf(out, "%-16s %8" PRId64 "  %s %s  %-8s  %-28.*s %s", id,
	    size, date, hour, state, at, line, end == NULL ? "" : end + 2);
}

/* --- counters --- */

/* A line "NAME{LABELS} VALUE" or "NAME VALUE" taken apart. */
struct sample {
	char name[256];
	char labels[600];		/* values only, parted by ", " */
	char value[64];
};

/* Copies the values of name="value",... with their escapes undone. */
static const char *
parse_labels(const char *p, char *to, size_t size)
{
	size_t len = 0;
	bool in_value = false;

	to[0] = '\0';
	for (; *p != '\0' && (in_value || *p != '}'); p++) {
		if (*p == '"') {
			in_value = !in_value;
			if (in_value && len > 0 && len + 2 < size) {
				to[len++] = ',';
				to[len++] = ' ';
			}
			continue;
		}
		if (!in_value)
			continue;
		if (*p == '\\' && p[1] != '\0')
			p++;
		if (len + 1 < size)
			to[len++] = *p;
	}
	to[len] = '\0';
	return *p == '}' ? p + 1 : NULL;
}

static bool
parse_sample(const char *line, struct sample *sample)
{
	size_t len = strcspn(line, "{ ");

	if (len == 0 || len >= sizeof(sample->name) || line[0] == '#')
		return false;
	memcpy(sample->name, line, len);
	sample->name[len] = '\0';
	line += len;
	sample->labels[0] = '\0';
	if (*line == '{' && (line = parse_labels(line + 1, sample->labels,
	    sizeof(sample->labels))) == NULL)
		return false;
	return sscanf(line, " %63s", sample->value) == 1;
}

/* Takes the ending off; true if it was there. */
static bool
strip(char *name, const char *ending)
{
	size_t len = strlen(name), end = strlen(ending);

	if (len <= end || strcmp(name + len - end, ending) != 0)
		return false;
	name[len - end] = '\0';
	return true;
}

/* A blank line and the group's name before its first counter. */
static const char *
begin_group(struct buf *out, const char *name, char group[64])
{
	size_t len;

	if (strncmp(name, PREFIX, strlen(PREFIX)) == 0)
		name += strlen(PREFIX);
	len = strcspn(name, "_");
	if (strlen(group) != len || strncmp(group, name, len) != 0) {
		if (out->len > 0)
			buf_putc(out, '\n');
		snprintf(group, 64, "%.*s", (int)len, name);
		buf_printf(out, "%s\n", group);
	}
	return name[len] == '_' ? name + len + 1 : name;
}

static void
print_line(struct buf *out, const char *name, const char *labels,
    const char *value)
{
	struct buf left = BUF_INIT;

	for (; *name != '\0'; name++)
		buf_putc(&left, *name == '_' ? ' ' : *name);
	if (labels[0] != '\0')
		buf_printf(&left, " (%s)", labels);
	buf_printf(out, "  %-46s %12s\n", left.data, value);
	buf_release(&left);
}

static void
print_sample(struct buf *out, struct sample *sample, char group[64],
    double *sum, bool gauge)
{
	char value[96];
	double count;

	/* Of a histogram: buckets, then the sum, then the count. */
	if (strip(sample->name, "_seconds_bucket"))
		return;
	if (strip(sample->name, "_seconds_sum")) {
		*sum = strtod(sample->value, NULL);
		return;
	}
	if (strip(sample->name, "_seconds_count")) {
		count = strtod(sample->value, NULL);
		snprintf(value, sizeof(value), "%12s  mean %.3g ms",
		    sample->value, count > 0 ? *sum * 1000 / count : 0);
		memcpy(sample->name + strlen(sample->name), "_time", 6);
	} else {
		/* It may be named like a total. */
		if (!strip(sample->name, "_total") && gauge &&
		    strlen(sample->name) + 5 < sizeof(sample->name))
			memcpy(sample->name + strlen(sample->name), "_now", 5);
		snprintf(value, sizeof(value), "%s", sample->value);
	}
	print_line(out, begin_group(out, sample->name, group),
	    sample->labels, value);
}

void
control_format_counters(struct buf *out, const char *text)
{
	struct sample sample;
	char line[1200], group[64] = "";
	bool gauge = false;
	double sum = 0;

	while (*text != '\0') {
		size_t len = strcspn(text, "\n");

		if (len < sizeof(line)) {
			memcpy(line, text, len);
			line[len] = '\0';
			if (strncmp(line, "# TYPE ", 7) == 0)
				gauge = strstr(line, " gauge") != NULL;
			else if (parse_sample(line, &sample))
				print_sample(out, &sample, group, &sum, gauge);
		}
		text += len + (text[len] == '\n');
	}
}
