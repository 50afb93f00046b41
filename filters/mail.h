/*
 * A message on its way through the chain, and the session that it came by:
 * what filters read and change.
 *
 * Everything below the fields that we add leaves byte-identical to how it came
 * in: header fields are kept as raw bytes, the body as it arrived (dots
 * unstuffed, lines ended by CRLF).
 */
#ifndef FILTERS_MAIL_H
#define FILTERS_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/task.h"
#include "filters/envelope.h"

struct arena;
struct finding;
struct trace;

/* What is known of the client.  Strings belong to the session's arena. */
struct session {
	struct arena *arena;
	struct log log;			/* the session's id */
	const char *hostname;		/* ours */
	const char *listener;		/* title of the listener */
	struct sockaddr_storage client, local;
	const char *client_address;	/* text: "192.0.2.1", "2001:db8::1" */
	const char *client_name;	/* confirmed PTR, or NULL */
	const char *client_ptr;		/* unconfirmed PTR, or NULL */
	bool client_name_unknown;	/* DNS did not answer */
	bool client_name_asked;		/* the three above are DNS's word */
	const char *helo;		/* as given, or NULL */
	bool esmtp;
	bool trusted;			/* in trusted_networks */
	bool welcome;			/* policy wants no more questions */
	const char *user;		/* authenticated as, or NULL */
	const char *auth_method;	/* "PLAIN" */
	const char *tls_version, *tls_cipher;	/* NULL without TLS */
	int tls_bits;
	const char *tls_subject, *tls_issuer;	/* verified client certificate */
};

/* A header field.  raw: name, colon, value with folds, CRLF at the end. */
struct header {
	struct header *previous, *next;
	const char *raw;
	size_t len;
	size_t name_len;
	bool hidden;			/* our own Received: filters do not see it */
	bool deleted;			/* no longer among the message's */
	bool added;			/* it, or its value, is not the sender's */
};

struct headers {
	struct header *first, *last;
	size_t count, bytes;
};

/* Bytes in memory (data) or in a file (data NULL). */
struct slice {
	const char *data;
	int fd;
	off_t offset;
	size_t len;
};

/*
 * A body: in memory up to a limit, then in an unlinked temporary file.  Grows
 * while the message arrives; readers keep their own offset.
 */
struct body;

struct body *body_new(size_t memory_limit, const char *temporary_directory);
void body_free(struct body **);

/*
 * Another owner of a body that is complete: both free it, and neither appends.
 */
struct body *body_share(struct body *);

/* An empty body with the limits of that one, to take its place. */
struct body *body_renew(const struct body *);

/*
 * 0, or -1 with errno (disk full, too many files); then the body is cut and
 * takes no more.
 */
int body_append(struct body *, const void *bytes, size_t len);
size_t body_size(const struct body *);

/*
 * Bytes from offset on, at most 64 KB: *bytes points into the body's memory or
 * into scratch (64 KB, the caller's).  Returns the length, 0 at the end, -1
 * with errno on a read error.
 */
ssize_t body_read(const struct body *, size_t offset, char *scratch,
    const char **bytes);
#define BODY_READ_MAX 65536

/*
 * The body as slices for a writer; array in the arena.  Good until more is
 * appended.
 */
struct slice *body_slices(const struct body *, struct arena *, size_t *count);

/* How far the message has come; grows only.  Readers wait on mail->progress. */
enum mail_stage { MAIL_STAGE_ENVELOPE, MAIL_STAGE_HEADER, MAIL_STAGE_BODY,
	MAIL_STAGE_COMPLETE, MAIL_STAGE_ABORTED };

struct mail {
	struct arena *arena;
	struct log log;			/* the message's id */
	struct session *session;
	struct envelope envelope;
	struct headers headers;		/* complete from MAIL_STAGE_BODY on */
	struct body *body;
	enum mail_stage stage;
	struct task_cond progress;
	size_t received_size;		/* bytes as they came */
	struct finding *findings;	/* merged, in configured order */
	struct trace *trace;
	bool welcome;			/* policy wants no more questions */
	const char *asked;		/* services of it, NULL: none */
	bool outcome_told, opinion_told;	/* to the policy process */
	int64_t deadline;		/* for the whole message (task.h) */
};

/*
 * A message that begins now: its id and time are set, the sender is "", the
 * body empty, the deadline never, no trace.
 */
struct mail *mail_new(struct session *, size_t body_memory_limit,
    const char *temporary_directory);
void mail_free(struct mail **);

/*
 * Parses a header section: fields up to and without the blank line.  Each
 * field's raw bytes point into bytes, which must live as long as the mail.  A
 * line that is neither field nor fold ends the section: the rest is body.
 * Returns the bytes used.
 */
size_t headers_parse(struct headers *, struct arena *, const char *bytes,
    size_t len);

/*
 * Name as a string, and value without its last CRLF, both in the arena.  The
 * value is all that is behind the colon, a first space too; unfold takes the
 * CRLFs of folds out, and white space at both ends.  NULs become spaces.
 */
const char *header_name(const struct header *, struct arena *);
const char *header_value(const struct header *, struct arena *, bool unfold);
bool header_is(const struct header *, const char *name);

/* The nth (from 1; 0 is 1) field of that name but hidden ones; or NULL. */
struct header *headers_find(const struct headers *, const char *name,
    size_t nth);

/*
 * Adds a field; the value may hold LF or CRLF folds, which become CRLF; a line
 * break without white space behind it becomes a fold, CR and NUL a space, so
 * that no value can begin another field.  lead: put a space behind the colon.
 * before NULL: at the end.  Lines of more than 998 octets are folded, folds of
 * white space only dropped.  NULL: the name is none (RFC 5322, 3.6.8).
 */
struct header *headers_add(struct headers *, struct arena *,
    struct header *before, const char *name, const char *value, bool lead);
void headers_change(struct headers *, struct arena *, struct header *,
    const char *value, bool lead);
void headers_delete(struct headers *, struct header *);

/* A deleted field comes back, with that value. */
void headers_restore(struct headers *, struct arena *, struct header *,
    struct header *before, const char *value, bool lead);

/* The field at that position (from 0, hidden ones counted), or NULL. */
struct header *headers_at(const struct headers *, size_t position);

/* The whole message, header, blank line and body, for a writer. */
struct slice *mail_slices(const struct mail *, size_t *count, size_t *size);

#endif
