/*
 * The chain: drives a session and its messages through the configured filters,
 * in their order, and merges what they found.  One chain per session; one
 * struct chain_plan per process and listener.
 */
#ifndef FILTERS_CHAIN_H
#define FILTERS_CHAIN_H

#include "filters/filter.h"

struct chain;
struct chain_plan;

/*
 * The filters of a listener by name: a section kind ("spf") or the title of a
 * titled one (a milter).  Sets up instances once per process, shared among
 * plans.  NULL: *why names the filter.
 *
 * An isolated filter is reached as a milter at <host_directory>/host-<title>
 * .sock; with NULL for the directory it runs here, as in its own host.
 */
struct chain_plan *chain_plan_new(const struct conf *,
    const char *host_directory, const char *const *names, const char **why);
void chain_plan_free(struct chain_plan **);

/* All filters that exist, NULL-ended; each kind's options are in the conf. */
extern const struct filter *const filters_all[];

struct chain *chain_new(const struct chain_plan *, struct session *);
void chain_free(struct chain **);	/* sends close to all */

/*
 * Events, in SMTP's order.  The verdict is the first in configured order that
 * is not CONTINUE (ACCEPT only takes its filter out).  REJECT and TEMPFAIL at
 * connect and helo hold for the session, at mail for the transaction, at rcpt
 * for the recipient, later for the message; DISCARD for the message, which is
 * still to be received.  The chain itself aborts the other filters.
 */
struct verdict chain_connect(struct chain *);
struct verdict chain_helo(struct chain *);
struct verdict chain_mail(struct chain *, struct mail *);
struct verdict chain_rcpt(struct chain *, struct recipient *);
struct verdict chain_data(struct chain *);

/* A recipient that we refuse ourselves: for milters that asked for those. */
void chain_rcpt_refused(struct chain *, struct recipient *, int code,
    const char *text);

/* A command that we do not know, for milters; the verdict replaces our text. */
struct verdict chain_unknown(struct chain *, const char *line);

/* The header is complete (mail->stage MAIL_STAGE_BODY): lookers go on. */
void chain_header_done(struct chain *);

/* More body is there. */
void chain_body_grown(struct chain *);

/*
 * The message is complete: every other filter sees it in order, the lookers'
 * findings are merged, edits applied to the mail.  On CONTINUE or ACCEPT the
 * mail is as it shall leave; hold is set if a filter wants quarantine.
 */
struct verdict chain_judge(struct chain *);

/*
 * What came of it in the end: a message that passed may still be refused, by
 * the disk or the next hop.  The filters are told, and are through with it.
 * Nothing happens if the message has ended already.
 */
void chain_end(struct chain *, const struct verdict *);

/* Both, where nothing can come between. */
struct verdict chain_eom(struct chain *);

/*
 * The message ended otherwise (RSET, lost client, refused), or is to come
 * again.  Idempotent.
 */
void chain_abort(struct chain *);

#endif
