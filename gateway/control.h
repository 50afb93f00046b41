/*
 * The control protocol between millgatectl and the console, over a UNIX
 * socket.  One connection is one request:
 *
 * Request:	a line of words, parted by blanks: "queue show 4bXk2w"
 * Answer:	any number of lines "+TEXT", then "=ok", "=error TEXT" (it
 *		can't be done) or "=usage TEXT" (there is no such command)
 *
 * All text is printable: what isn't, in mail above all, is escaped by the
 * console.  Clients of other users than root and the console's are refused.
 */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include <stdbool.h>
#include <stddef.h>

/* In the run directory; where it is unless the configuration tells. */
#define CONTROL_SOCKET "/run/millgate/control"

/* The longest request line, LF included. */
#define CONTROL_LINE_MAX 1024
#define CONTROL_WORDS_MAX 32

/* A request taken apart; the words point into text. */
struct control_request {
	char text[CONTROL_LINE_MAX];
	const char *words[CONTROL_WORDS_MAX];
	size_t count;
};

/* Takes a line, with or without its LF, apart; -1 and *why. */
int control_parse(const char *line, size_t len, struct control_request *,
    const char **why);

/* An id of a message or session, letters and digits. */
bool control_is_id(const char *);

/*
 * The words of "history [search TEXT...] [-n N]" behind the first: text is
 * the TEXT, its words parted by one blank, "" if there is none.  -1 and *why.
 */
int control_parse_history(const struct control_request *,
    char text[CONTROL_LINE_MAX], size_t *limit, const char **why);

#endif
