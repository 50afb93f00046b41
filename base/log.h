/*
 * The log: one event, one line, the id first.  Text lines have the shape that
 * Postfix made the convention (ID: key=value, key=<address>); the same events
 * can be written as JSON lines.  Control characters in values are escaped.
 *
 * error: someone must act.  warn: service is degraded.  info: the life of a
 * message.  debug: off unless asked for.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG };

/* Whose line it is: a message or session id, "NOQUEUE", or "" for none. */
struct log {
	char id[32];
};

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_FD };

struct log_settings {
	const char *program;		/* "millgate" */
	const char *role;		/* "gateway", as in millgate/gateway[pid] */
	enum log_target target;
	int fd;				/* for LOG_TO_FD */
	bool json;
	enum log_level level;
};

/* Opens the log of this process; strings are copied.  Before it: stderr. */
void log_open(const struct log_settings *);
bool log_wants(enum log_level);

/* log may be NULL: the line has no id. */
void log_error(const struct log *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void log_warn(const struct log *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void log_info(const struct log *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void log_debug(const struct log *, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * An event of fields.  Text: ID: [verb: ]name=value, name=<address>, name=n
 * JSON: an object with the same names.  A NULL value leaves the field out; a
 * string or address of more than 400 bytes is cut, unlike a comment.
 *
 *	log_event(&mail->log, LOG_LEVEL_INFO, NULL, (struct log_field[]){
 *	    LOG_ADDRESS("from", sender), LOG_NUMBER("size", size), LOG_END});
 */
enum log_field_kind { LOG_FIELD_END, LOG_FIELD_STRING, LOG_FIELD_ADDRESS,
	LOG_FIELD_NUMBER, LOG_FIELD_SECONDS, LOG_FIELD_COMMENT };

struct log_field {
	enum log_field_kind kind;
	const char *name;
	const char *string;
	int64_t number;			/* SECONDS: milliseconds, shown as 1.23 */
};

#define LOG_STRING(name, value)	 { LOG_FIELD_STRING, name, value, 0 }
#define LOG_ADDRESS(name, value) { LOG_FIELD_ADDRESS, name, value, 0 }
#define LOG_NUMBER(name, value)	 { LOG_FIELD_NUMBER, name, "", value }
#define LOG_SECONDS(name, ms)	 { LOG_FIELD_SECONDS, name, "", ms }
/* Shown in text as " (value)" behind the field before it: status=sent (250 ok) */
#define LOG_COMMENT(name, value) { LOG_FIELD_COMMENT, name, value, 0 }
#define LOG_END			 { LOG_FIELD_END, NULL, NULL, 0 }

void log_event(const struct log *, enum log_level, const char *verb,
    const struct log_field *);

/*
 * Lets this thread (one of the process) gather lines of info and debug until
 * log_flush; off: flushes.  The loop does both.
 */
void log_gather(bool on);
void log_flush(void);

/* Our own code is wrong, or memory is gone: logs and aborts the process. */
void fatal(const char *format, ...)
    __attribute__((format(printf, 1, 2), noreturn));

#endif
