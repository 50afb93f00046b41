/*
 * The conversation with a milter about one SMTP session.  What SMTP has told
 * is kept here; what the milter was told belongs to the connection, so that a
 * new one can be brought to the same point.
 */
#ifndef FILTERS_MILTER_SESSION_H
#define FILTERS_MILTER_SESSION_H

#include "filters/filter.h"
#include "filters/milter_pool.h"

struct milter_session;

struct milter_session_settings {
	const char *name;
	struct milter_pool *pool;
	int64_t command_timeout_ms, content_timeout_ms, total_timeout_ms;
	size_t max_body;		/* that it may put in place */
	uint32_t allowed;		/* enum milter_action_bits */
	bool reuse;			/* QUIT_NC works there */
	bool idempotent;		/* a message may be told twice */
};

enum milter_outcome {
	MILTER_GOES_ON,
	MILTER_DECIDED,			/* the verdict says what */
	MILTER_FAILED			/* milter_session_error() says why */
};

/* settings are borrowed. */
struct milter_session *milter_session_new(const struct milter_session_settings *,
    struct session *);
void milter_session_free(struct milter_session **);

/* Events.  On MILTER_DECIDED *verdict is set. */
enum milter_outcome milter_session_connect(struct milter_session *,
    struct verdict *);
enum milter_outcome milter_session_helo(struct milter_session *,
    struct verdict *);
enum milter_outcome milter_session_mail(struct milter_session *,
    struct mail *, struct verdict *);
enum milter_outcome milter_session_rcpt(struct milter_session *,
    struct recipient *, const char *refusal, struct verdict *);
enum milter_outcome milter_session_data(struct milter_session *,
    struct verdict *);
enum milter_outcome milter_session_unknown(struct milter_session *,
    const char *line, struct verdict *);

/*
 * Header, body, end, and the answer, as filter.h says of consult.
 * MILTER_GOES_ON: accepted, its edits can be made.  On failure *half_done says
 * that a new body had begun to arrive.
 */
enum milter_outcome milter_session_consult(struct milter_session *,
    const struct filter_run *, struct verdict *, bool *half_done);
void milter_session_apply(struct milter_session *);

/*
 * In place of apply: the edits as lines of the mail's trace, their number by
 * kind appended to text.  True: one of them is quarantine.
 */
bool milter_session_show_edits(struct milter_session *, struct buf *text);

/* The message ended otherwise; doesn't wait. */
void milter_session_abort(struct milter_session *);

/*
 * After MILTER_FAILED: at what stage, and why; held off means that no attempt
 * was made, as the last ones failed; cancelled, that nobody wants to know.
 */
bool milter_session_cancelled(const struct milter_session *);
bool milter_session_held_off(const struct milter_session *);
const char *milter_session_stage(const struct milter_session *);
const char *milter_session_error(const struct milter_session *);

#endif
