/*
 * Lines that Dovecot's auth process sends (its client protocol, version 1):
 * words parted by TAB, ended by LF.  A pure function of bytes.
 */
#ifndef GATEWAY_SASL_LINE_H
#define GATEWAY_SASL_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena;

#define SASL_MECHANISM_MAX 40

enum sasl_verb {
	SASL_LINE_OTHER,		/* to be passed over */
	SASL_LINE_VERSION, SASL_LINE_MECH, SASL_LINE_DONE,
	SASL_LINE_OK, SASL_LINE_FAIL, SASL_LINE_CONT
};

struct sasl_line {
	enum sasl_verb verb;
	uint32_t version;		/* VERSION: the major one */
	const char *mechanism;		/* MECH: in capitals; NULL: not for us */
	uint32_t id;			/* OK, FAIL, CONT: whose answer it is */
	const char *challenge;		/* CONT: base64, or "" */
	const char *user, *reason;	/* OK, FAIL: or NULL */
	bool temporary;			/* FAIL: the password was not judged */
};

/*
 * Parses a line, its LF included or not; strings are in the arena.  -1 and
 * *why: it makes no sense, and nor will what follows.
 */
int sasl_line_parse(struct arena *, const char *line, size_t len,
    struct sasl_line *, const char **why);

/* Is it base64, padded (RFC 4648, 4), or nothing? */
bool sasl_is_base64(const char *text, size_t len);

#endif
