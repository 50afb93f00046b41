/*
 * The log of a process: text in the shape of syslog (RFC 3164) or JSON lines,
 * to standard error, a descriptor, or the datagram socket of syslogd.
 *
 * A line costs no allocation, and at most one system call (base/log_sink.h).
 * The socket is connected when the log is opened, before the process locks
 * itself in; syslog(3) would allocate for every line, and wait without limit
 * for a stuck syslogd.
 */
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/log_line.h"
#include "base/log_sink.h"

/*
 * Room for an address (RFC 5321, 4.5.3.1), and for several such values in a line
 * even if each octet of theirs is written as six.
 */
#define VALUE_MAX 400

static struct {
	char program[32], role[32], host[256], short_host[256];
	char front[160];		/* "host millgate/gateway[123]: " */
	struct log_line json_front;	/* the same as members */
	enum log_target target;
	bool json, open;
	enum log_level level;
	pid_t pid;
} self = {
	.program = "millgate", .target = LOG_TO_STDERR,
	.level = LOG_LEVEL_INFO
};

static const struct {
	const char *name, *mark;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = { "error", "error: ", LOG_MAIL | LOG_ERR },
	[LOG_LEVEL_WARN] = { "warn", "warning: ", LOG_MAIL | LOG_WARNING },
	[LOG_LEVEL_INFO] = { "info", "", LOG_MAIL | LOG_INFO },
	[LOG_LEVEL_DEBUG] = { "debug", "", LOG_MAIL | LOG_DEBUG },
};

/* {"host":..., to stand behind the time. */
static void
json_front(struct log_line *line)
{
	line->len = 0;
	log_line_json_open(line);
	log_line_json_string(line, "host", self.host);
	log_line_json_string(line, "program", self.program);
	if (self.role[0] != '\0')
		log_line_json_string(line, "role", self.role);
	log_line_json_number(line, "pid", self.pid);
}

/* Who and where we are; later calls cost system calls that we save. */
static void
learn_self(void)
{
	self.pid = getpid();
	if (gethostname(self.host, sizeof(self.host) - 1) != 0)
		strcpy(self.host, "localhost");
	snprintf(self.short_host, sizeof(self.short_host), "%.*s",
	    (int)strcspn(self.host, "."), self.host);
	/* syslogd adds the host itself. */
	snprintf(self.front, sizeof(self.front), "%.60s%s%s%s%s[%d]: ",
	    self.target == LOG_TO_SYSLOG ? "" : self.short_host,
	    self.target == LOG_TO_SYSLOG ? "" : " ", self.program,
	    self.role[0] == '\0' ? "" : "/", self.role, (int)self.pid);
	json_front(&self.json_front);
	tzset();		/* the zone's file is out of reach in a chroot */
	self.open = true;
}

void
log_open(const struct log_settings *settings)
{
	log_sink_open(settings->target, settings->fd);
	snprintf(self.program, sizeof(self.program), "%.15s",
	    settings->program);
	snprintf(self.role, sizeof(self.role), "%.15s",
	    settings->role == NULL ? "" : settings->role);
	self.target = settings->target;
	self.json = settings->json;
	self.level = settings->level;
	learn_self();
}

bool
log_wants(enum log_level level)
{
	return level <= self.level;
}

/* "Nov 24 03:00:01 ", made once a second. */
static void
put_local_time(struct log_line *line, time_t now)
{
	static _Thread_local time_t cached = -1;
	static _Thread_local char text[32];
	struct tm tm;

	if (now != cached) {
		localtime_r(&now, &tm);
		strftime(text, sizeof(text), "%b %e %H:%M:%S ", &tm);
		cached = now;
	}
	log_line_puts(line, text);
}

/* {"time":"2026-11-24T03:00:01.123Z" (RFC 3339), made anew once a second. */
static void
put_json_time(struct log_line *line, const struct timespec *now)
{
	static _Thread_local time_t cached = -1;
	static _Thread_local char text[40];
	int ms = (int)(now->tv_nsec / 1000000);
	char tail[] = { '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10),
	    (char)('0' + ms % 10), 'Z', '"' };
	struct tm tm;

	if (now->tv_sec != cached) {
		gmtime_r(&now->tv_sec, &tm);
		strftime(text, sizeof(text), "{\"time\":\"%Y-%m-%dT%H:%M:%S",
		    &tm);
		cached = now->tv_sec;
	}
	log_line_puts(line, text);
	log_line_put(line, tail, sizeof(tail));
}

/* What stands before the text of a line in every shape. */
static void
begin(struct log_line *line, const struct log *log, enum log_level level,
    const char *mark)
{
	struct timespec now;
	char priority[16];

	if (!self.open)
		learn_self();
	line->len = 0;
	clock_gettime(CLOCK_REALTIME, &now);
	if (self.target == LOG_TO_SYSLOG) {
		snprintf(priority, sizeof(priority), "<%d>",
		    levels[level].priority);
		log_line_puts(line, priority);
	}
	if (self.target == LOG_TO_SYSLOG || !self.json) {
		put_local_time(line, now.tv_sec);
		log_line_puts(line, self.front);
	}
	if (!self.json) {
		log_line_puts(line, mark);
		if (log != NULL && log->id[0] != '\0') {
			log_line_text(line, log->id);
			log_line_put(line, ": ", 2);
		}
		return;
	}
	put_json_time(line, &now);
	log_line_put(line, ",", 1);
	log_line_put(line, self.json_front.bytes + 1, self.json_front.len - 1);
	log_line_json_string(line, "level", levels[level].name);
	if (log != NULL && log->id[0] != '\0')
		log_line_json_string(line, "id", log->id);
}

static void
finish(struct log_line *line, enum log_level level)
{
	struct log_line report;
	long lost;
	int saved_errno = errno;

	if (self.json)
		log_line_json_close(line);
	log_sink_put(line, level <= LOG_LEVEL_WARN);
	if ((lost = log_sink_lost()) > 0) {
		begin(&report, NULL, LOG_LEVEL_WARN, "warning: ");
		if (self.json) {
			log_line_json_string(&report, "message",
			    "log lines were lost");
			log_line_json_number(&report, "count", lost);
			log_line_json_close(&report);
		} else {
			log_line_number(&report, lost);
			log_line_puts(&report, " log lines were lost");
		}
		log_sink_put(&report, true);
	}
	errno = saved_errno;
}

static void
message(const struct log *log, enum log_level level, const char *mark,
    const char *format, va_list ap)
{
	struct log_line line;
	char text[LOG_LINE_SIZE];
	int n = vsnprintf(text, sizeof(text), format, ap);

	if (n < 0)
		strcpy(text, "(message cannot be formatted)");
	begin(&line, log, level, mark);
	if (self.json)
		log_line_json_string(&line, "message", text);
	else
		log_line_text(&line, text);
	finish(&line, level);
}

#define MESSAGE_FUNCTION(name, level)					\
	void								\
	name(const struct log *log, const char *format, ...)		\
	{								\
		va_list ap;						\
									\
		if (!log_wants(level))					\
			return;						\
		va_start(ap, format);					\
		message(log, level, levels[level].mark, format, ap);	\
		va_end(ap);						\
	}

MESSAGE_FUNCTION(log_error, LOG_LEVEL_ERROR)
MESSAGE_FUNCTION(log_warn, LOG_LEVEL_WARN)
MESSAGE_FUNCTION(log_info, LOG_LEVEL_INFO)
MESSAGE_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

/* Postfix's way with delays: the shorter, the finer. */
static void
put_seconds(struct log_line *line, int64_t ms)
{
	char text[32];

	if (ms < 0)
		ms = 0;
	if (ms < 10000)
		snprintf(text, sizeof(text), "%d.%02d", (int)(ms / 1000),
		    (int)(ms % 1000 / 10));
	else if (ms < 100000)
		snprintf(text, sizeof(text), "%d.%d", (int)(ms / 1000),
		    (int)(ms % 1000 / 100));
	else
		snprintf(text, sizeof(text), "%lld", (long long)(ms / 1000));
	log_line_puts(line, text);
}

static void
field_text(struct log_line *line, const struct log_field *f, bool first)
{
	if (f->kind == LOG_FIELD_COMMENT) {
		log_line_put(line, " (", 2);
		log_line_text(line, f->string);
		log_line_put(line, ")", 1);
		return;
	}
	if (!first)
		log_line_put(line, ", ", 2);
	log_line_puts(line, f->name);
	log_line_put(line, "=", 1);
	switch (f->kind) {
	case LOG_FIELD_NUMBER:
		log_line_number(line, f->number);
		return;
	case LOG_FIELD_SECONDS:
		put_seconds(line, f->number);
		return;
	case LOG_FIELD_ADDRESS:
		/* "a>, status=sent"@b is a mailbox, and must not look sent. */
		log_line_put(line, "<", 1);
		log_line_address(line, f->string);
		log_line_put(line, ">", 1);
		return;
	default:
		log_line_text(line, f->string);
	}
}

static void
field_json(struct log_line *line, const struct log_field *f)
{
	switch (f->kind) {
	case LOG_FIELD_NUMBER:
		log_line_json_number(line, f->name, f->number);
		return;
	case LOG_FIELD_SECONDS:
		log_line_json_seconds(line, f->name, f->number);
		return;
	default:
		log_line_json_string(line, f->name, f->string);
	}
}

/*
 * A long value leaves room for what follows: what is told of somebody must not
 * depend on what else he writes.
 */
static struct log_field
bounded(const struct log_field *field, char cut[VALUE_MAX + sizeof("...")])
{
	struct log_field copy = *field;
	size_t len = strnlen(field->string, VALUE_MAX + 1);

	if (len <= VALUE_MAX || field->kind == LOG_FIELD_COMMENT)
		return copy;
	len = VALUE_MAX;
	while (len > 0 && (field->string[len] & 0xc0) == 0x80)
		len--;			/* whole characters of UTF-8 */
	memcpy(cut, field->string, len);
	strcpy(cut + len, "...");
	copy.string = cut;
	return copy;
}

void
log_event(const struct log *log, enum log_level level, const char *verb,
    const struct log_field *fields)
{
	char cut[VALUE_MAX + sizeof("...")];
	struct log_line line;
	struct log_field field;
	bool first = true;

	if (!log_wants(level))
		return;
	begin(&line, log, level, levels[level].mark);
	if (verb != NULL && self.json) {
		log_line_json_string(&line, "event", verb);
	} else if (verb != NULL) {
		log_line_puts(&line, verb);
		log_line_put(&line, ": ", 2);
	}
	for (const struct log_field *f = fields; f->kind != LOG_FIELD_END;
	    f++) {
		if (f->string == NULL)
			continue;
		field = bounded(f, cut);
		if (self.json)
			field_json(&line, &field);
		else
			field_text(&line, &field, first);
		first = false;
	}
	finish(&line, level);
}

void
fatal(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	message(NULL, LOG_LEVEL_ERROR, "fatal: ", format, ap);
	va_end(ap);
	abort();
}
