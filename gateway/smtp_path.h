/*
 * Paths of MAIL and RCPT (RFC 5321, 4.1.2), and the spans that the parser of
 * commands cuts lines into.
 */
#ifndef GATEWAY_SMTP_PATH_H
#define GATEWAY_SMTP_PATH_H

#include "gateway/smtp_command.h"

static inline bool
smtp_is_alnum(unsigned char byte)
{
	return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
	    (byte >= '0' && byte <= '9');
}

static inline bool
smtp_is_blank(unsigned char byte)
{
	return byte == ' ' || byte == '\t';
}

/* The span behind its first skip bytes. */
static inline struct smtp_span
smtp_span_behind(struct smtp_span span, size_t skip)
{
	return (struct smtp_span){ span.data + skip, span.len - skip };
}

/* Is it that word, letters' case ignored? */
bool smtp_span_is(struct smtp_span, const char *word);

/* Without blanks at both ends. */
struct smtp_span smtp_span_trim(struct smtp_span);

/*
 * Does it hold what some software takes for the end of a line: a control
 * character (C1 and U+2028, U+2029 too), or bytes that are not UTF-8?
 */
bool smtp_span_has_control(struct smtp_span);

/*
 * Takes "FROM:<path>" or "TO:<path>" (word with its colon) off the front of
 * *text.  A blank behind the colon is common, so it is let pass.  Returns
 * false if there are no brackets; *inner is what they hold.
 */
bool smtp_path_take(struct smtp_span *text, const char *word,
    struct smtp_span *inner);

/* Parses what brackets hold, not empty. */
bool smtp_path_parse(struct smtp_span inner, struct smtp_path *);

#endif
