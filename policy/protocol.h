/*
 * Postfix's policy delegation protocol (SMTPD_POLICY_README): a request is
 * lines of name=value up to an empty line; the answer is one line action=...
 * and an empty line.  Many requests follow each other on a connection.
 */
#ifndef POLICY_PROTOCOL_H
#define POLICY_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Attributes that Postfix sends; others are passed over. */
#define POLICY_ATTRIBUTES(ROW)						\
	ROW(REQUEST, request) ROW(PROTOCOL_STATE, protocol_state)		\
	ROW(PROTOCOL_NAME, protocol_name) ROW(HELO_NAME, helo_name)		\
	ROW(QUEUE_ID, queue_id) ROW(SENDER, sender) ROW(RECIPIENT, recipient) \
	ROW(RECIPIENT_COUNT, recipient_count)				\
	ROW(CLIENT_ADDRESS, client_address) ROW(CLIENT_NAME, client_name)	\
	ROW(REVERSE_CLIENT_NAME, reverse_client_name)			\
	ROW(CLIENT_PORT, client_port) ROW(SERVER_ADDRESS, server_address)	\
	ROW(SERVER_PORT, server_port) ROW(INSTANCE, instance)		\
	ROW(SASL_METHOD, sasl_method) ROW(SASL_USERNAME, sasl_username)	\
	ROW(SASL_SENDER, sasl_sender) ROW(SIZE, size)			\
	ROW(CCERT_SUBJECT, ccert_subject) ROW(CCERT_ISSUER, ccert_issuer)	\
	ROW(CCERT_FINGERPRINT, ccert_fingerprint)			\
	ROW(CCERT_PUBKEY_FINGERPRINT, ccert_pubkey_fingerprint)		\
	ROW(ENCRYPTION_PROTOCOL, encryption_protocol)			\
	ROW(ENCRYPTION_CIPHER, encryption_cipher)			\
	ROW(ENCRYPTION_KEYSIZE, encryption_keysize)			\
	ROW(ETRN_DOMAIN, etrn_domain) ROW(STRESS, stress)			\
	ROW(POLICY_CONTEXT, policy_context)				\
	ROW(COMPATIBILITY_LEVEL, compatibility_level)			\
	ROW(MAIL_VERSION, mail_version)					\
	/* Between our own processes, believed from them alone. */	\
	ROW(LISTENER, listener) ROW(TRUSTED, trusted)			\
	ROW(SERVICE, service) ROW(SESSION, session)						\
	ROW(AUTH_DOMAINS, auth_domains) ROW(AUTH_SELECTORS, auth_selectors) \
	ROW(RESULTS, results) ROW(SCORE, score)				\
	ROW(OUTCOME, outcome) ROW(EVENT, event) ROW(UNDO, undo)		\
	ROW(ASKED, asked)							\
	ROW(COMMAND, command)						\
	/* The same, of report.h. */					\
	ROW(REPORT_VERB, report_verb) ROW(REPORT_DOMAIN, report_domain)	\
	ROW(REPORT_HEAD, report_head) ROW(REPORT_ROW, report_row)		\
	ROW(REPORT_COUNT, report_count) ROW(REPORT_ID, report_id)

#define POLICY_ATTRIBUTE_ENUM(upper, lower) POLICY_##upper,
enum policy_attribute {
	POLICY_ATTRIBUTES(POLICY_ATTRIBUTE_ENUM)
	POLICY_ATTRIBUTE_COUNT
};

/*
 * Requests of our own processes: about DMARC reports (report.h); what became
 * of a message, and the services that were asked about it, parted by tabs; and
 * a command of millgatectl's.
 */
#define POLICY_REQUEST_REPORT "millgate_report"
#define POLICY_REQUEST_OUTCOME "millgate_outcome"
#define POLICY_REQUEST_COMMAND "millgate_command"

#define POLICY_REQUEST_MAX	65536	/* bytes */
#define POLICY_LINES_MAX	128

/* A request as far as it has come; begins as POLICY_REQUEST_INIT. */
struct policy_request {
	struct buf text;		/* the values, each ended by NUL */
	uint32_t at[POLICY_ATTRIBUTE_COUNT];	/* in text, plus 1; 0: none */
	size_t size, lines;
};

#define POLICY_REQUEST_INIT { BUF_INIT, { 0 }, 0, 0 }

void policy_request_reset(struct policy_request *);
void policy_request_release(struct policy_request *);

/*
 * Takes one line, with its LF.  1: it ended the request; 0: more is to come;
 * -1: malformed (no '=', NUL, twice the same, too much), *why.
 */
int policy_request_line(struct policy_request *, const char *line, size_t len,
    const char **why);

/* A value, "" if it was not given. */
const char *policy_value(const struct policy_request *, enum policy_attribute);

/* The same, but NULL for "" and for "unknown". */
const char *policy_known(const struct policy_request *, enum policy_attribute);

/*
 * Appends an attribute of a request; line breaks and NULs cannot get in.  NULL:
 * as "".  A request is ended by policy_end(), as an answer is.
 */
void policy_put(struct buf *, enum policy_attribute, const char *value);
void policy_end(struct buf *);

/*
 * What an answer asks for.  DUNNO: nothing; PASS: nothing, and no other service
 * need be asked; DEFER: come back later; OTHER: what we do not understand.
 */
enum policy_verb { POLICY_DUNNO, POLICY_PASS, POLICY_DEFER, POLICY_REJECT,
	POLICY_HOLD, POLICY_OTHER };

struct policy_action {
	enum policy_verb verb;
	int code;			/* 450, 554; 0: none is given */
	char enhanced[12];		/* "4.7.1", "" if there is none */
	char text[256];			/* printable; cut if it is longer */
	char reason[32];		/* reason code; among our processes */
	char score[24];			/* finding of ours, "" if none */
};

/*
 * Appends a whole answer.  ours: with what other MTAs do not know: PASS, the
 * reason, the score.
 */
void policy_answer_put(struct buf *, const struct policy_action *, bool ours);

/*
 * Parses an answer's line, with or without its LF: the first sets the whole
 * action (DEFER, DEFER_IF_PERMIT and 4xx codes are POLICY_DEFER, REJECT and 5xx
 * codes POLICY_REJECT), others add to it.  0, or -1: malformed.
 */
int policy_answer_parse(const char *line, size_t len, struct policy_action *,
    const char **why);
int policy_answer_more(const char *line, size_t len, struct policy_action *,
    const char **why);

#endif
