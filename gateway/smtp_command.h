/*
 * SMTP command lines (RFC 5321, 4.1), parsed: a pure function of bytes.  What
 * it gives are spans of the line; nothing is copied or changed.
 */
#ifndef GATEWAY_SMTP_COMMAND_H
#define GATEWAY_SMTP_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum smtp_verb {
	SMTP_EHLO, SMTP_HELO, SMTP_MAIL, SMTP_RCPT, SMTP_DATA, SMTP_BDAT,
	SMTP_RSET, SMTP_NOOP, SMTP_VRFY, SMTP_HELP, SMTP_QUIT, SMTP_STARTTLS,
	SMTP_AUTH, SMTP_UNKNOWN,
	SMTP_FOREIGN,		/* another protocol, such as HTTP */
	SMTP_VERB_COUNT
};

/* Bytes of somebody else's. */
struct smtp_span {
	const char *data;
	size_t len;
};

/* Why a command is refused; static strings. */
struct smtp_error {
	int code;
	const char *enhanced;
	const char *text;
};

/* A command: which, and what stands behind it, outer blanks removed. */
struct smtp_command {
	enum smtp_verb verb;
	struct smtp_span argument;
};

#define SMTP_ARGUMENTS_MAX 16
#define SMTP_LOCAL_MAX 255
#define SMTP_DOMAIN_MAX 255

/*
 * A path without its brackets and source route; empty: the null reverse-path.
 * domain is empty for <postmaster>.
 */
struct smtp_path {
	struct smtp_span address, local, domain;
	bool utf8;			/* holds non-ASCII characters */
};

/* MAIL and its parameters (RFC 1870, 3461, 6152, 6531, 4954). */
struct smtp_mail {
	struct smtp_path sender;
	int64_t size;			/* 0: not given */
	bool eight_bit, smtputf8;
	const char *ret;		/* "FULL", "HDRS" or NULL */
	struct smtp_span envid;		/* xtext */
	struct smtp_span submitter;	/* AUTH: xtext; data NULL: none or <> */
	bool submitter_utf8;
	struct smtp_span arguments[SMTP_ARGUMENTS_MAX];
	size_t argument_count;
};

/* RCPT and its parameters. */
struct smtp_rcpt {
	struct smtp_path recipient;
	unsigned notify;		/* enum notify of envelope.h */
	struct smtp_span orcpt;		/* as given: type;xtext */
	struct smtp_span arguments[SMTP_ARGUMENTS_MAX];
	size_t argument_count;
};

struct smtp_bdat {
	uint64_t size;
	bool last;
};

/* AUTH (RFC 4954, 4).  initial.data NULL: no initial response. */
#define SMTP_MECHANISM_MAX 20		/* RFC 4422, 3.1 */
struct smtp_auth {
	char mechanism[SMTP_MECHANISM_MAX + 1];	/* in capitals */
	struct smtp_span initial;	/* base64; empty for "=" */
};

/*
 * Parses a line, its line end included or not.  Never fails: what is not a
 * command is SMTP_UNKNOWN.
 */
void smtp_command_parse(const char *line, size_t len, struct smtp_command *);

const char *smtp_verb_name(enum smtp_verb);

/*
 * Parse the argument of one command.  NULL, or why not.  smtp_parse_rcpt is
 * told whether the transaction has SMTPUTF8.
 */
const struct smtp_error *smtp_parse_helo(struct smtp_span);
const struct smtp_error *smtp_parse_mail(struct smtp_span, struct smtp_mail *);
const struct smtp_error *smtp_parse_rcpt(struct smtp_span, bool smtputf8,
    struct smtp_rcpt *);
const struct smtp_error *smtp_parse_bdat(struct smtp_span, struct smtp_bdat *);
const struct smtp_error *smtp_parse_auth(struct smtp_span, struct smtp_auth *);

/* A response of the client to a challenge; NULL, or why not. */
const struct smtp_error *smtp_check_response(struct smtp_span);

/* Well-formed xtext (RFC 3461, 4) that hides no control character? */
bool smtp_xtext_ok(struct smtp_span);

#endif
