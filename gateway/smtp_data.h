/*
 * The content of a message as DATA or BDAT brings it (RFC 5321, 4.5.2; RFC
 * 3030), decoded: dots unstuffed, line ends checked, the header section told
 * from the body.  A pure function of bytes, whatever their chunks.
 *
 * Only CRLF ends a line, and only CRLF "." CRLF ends the data: what other
 * software takes for it (bare CR or LF, NUL between) is either refused or
 * made harmless, so that no next hop sees a second message in it.
 */
#ifndef GATEWAY_SMTP_DATA_H
#define GATEWAY_SMTP_DATA_H

#include <stdbool.h>
#include <stddef.h>

/* What becomes of a CR or LF outside CRLF, and of NUL. */
enum smtp_bare {
	SMTP_BARE_REJECT,	/* passed on, and noted in .bare or .nul */
	SMTP_BARE_NORMALIZE	/* LF: CRLF; CR and NUL: a space */
};

enum smtp_data_position { SMTP_DATA_LINE_START, SMTP_DATA_LINE,
	SMTP_DATA_CR, SMTP_DATA_DOT, SMTP_DATA_DOT_CR, SMTP_DATA_DONE };

struct smtp_data {
	enum smtp_bare policy;
	bool dots;			/* DATA; false: BDAT */
	enum smtp_data_position position;
	bool bare;			/* a bare CR or LF was seen */
	bool nul;			/* a NUL was seen */
};

/* Takes decoded bytes; those of a call are borrowed. */
typedef void smtp_data_out_f(void *argument, const char *bytes, size_t len);

void smtp_data_init(struct smtp_data *, enum smtp_bare, bool dots);

/*
 * Decodes; returns how many bytes it used: all, unless the end of the data was
 * among them (position is SMTP_DATA_DONE then).
 */
size_t smtp_data_decode(struct smtp_data *, const char *bytes, size_t len,
    smtp_data_out_f *, void *argument);

/* The last chunk of BDAT is in: completes a line that has no end. */
void smtp_data_finish(struct smtp_data *, smtp_data_out_f *, void *argument);

/*
 * Finds where the header section ends (RFC 5322, 2.1): at an empty line, or
 * before a line that is neither a field nor a fold.  scanned: where to go on
 * looking, from call to call, 0 at first.
 */
struct smtp_header_end {
	size_t header_len;		/* bytes of fields */
	size_t body;			/* where the body begins */
};
bool smtp_header_find_end(const char *bytes, size_t len, size_t *scanned,
    struct smtp_header_end *);

#endif
