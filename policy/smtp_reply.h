/*
 * Replies of a next hop (RFC 5321, 4.2), line by line.  Pure: bytes in, a
 * reply or why not out.
 */
#ifndef POLICY_SMTP_REPLY_H
#define POLICY_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#define REPLY_LINE_MAX 2048	/* RFC 5321 says 512; some send more */
#define REPLY_LINES_MAX 100
#define REPLY_TEXT_MAX 1000
#define REPLY_ENHANCED_SIZE 12

struct reply {
	int code;			/* 200 to 599 */
	char enhanced[REPLY_ENHANCED_SIZE];	/* given, or made from code */
	bool enhanced_given;
	int lines;
	size_t text_len;
	char text[REPLY_TEXT_MAX + 1];	/* code and all lines, printable */
};

enum reply_state { REPLY_MORE, REPLY_DONE, REPLY_BAD };

/* Empties it for the next reply. */
void reply_init(struct reply *);

/* Adds a line, with or without its CRLF.  BAD: *why says what is wrong. */
enum reply_state reply_line(struct reply *, const char *line, size_t len,
    const char **why);

/* The text behind "250-" of a line without its CRLF; for EHLO's keywords. */
const char *reply_line_text(const char *line, size_t *len);

/*
 * Takes an enhanced status code (RFC 3463) off the front of text: returns its
 * length and copies it, or 0.
 */
size_t reply_enhanced_parse(const char *text, size_t len,
    char enhanced[REPLY_ENHANCED_SIZE]);

/*
 * Copies bytes as printable text: control characters become '?', UTF-8 stays,
 * other bytes above 127 become '?'.  to holds size bytes; returns the length.
 */
size_t reply_sanitize(char *to, size_t size, const char *bytes, size_t len);

#endif
