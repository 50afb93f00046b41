/* One line of the log while it is put together, of bounded length. */
#ifndef BASE_LOG_LINE_H
#define BASE_LOG_LINE_H

#include <stddef.h>
#include <stdint.h>

#define LOG_LINE_SIZE 8192

struct log_line {
	size_t len;
	char bytes[LOG_LINE_SIZE];
};

/* Appends as it is; what does not fit is cut, and "..." stands there once. */
void log_line_put(struct log_line *, const char *bytes, size_t len);
void log_line_puts(struct log_line *, const char *string);
void log_line_number(struct log_line *, int64_t);

/*
 * Appends text from outside: controls, bidirectional controls, line separators
 * and bytes that are not UTF-8 become \xNN; in an address < and > do as well.
 */
void log_line_text(struct log_line *, const char *string);
void log_line_address(struct log_line *, const char *string);

/*
 * Appends a JSON member, with a comma unless it is the first.  A member that
 * doesn't fit any more is left out, so that the line stays valid JSON.
 */
void log_line_json_open(struct log_line *);
void log_line_json_string(struct log_line *, const char *name,
    const char *value);
void log_line_json_number(struct log_line *, const char *name, int64_t);
void log_line_json_seconds(struct log_line *, const char *name, int64_t ms);
void log_line_json_close(struct log_line *);

/* Ends the line with LF, for which there is always room. */
void log_line_end(struct log_line *);

#endif
