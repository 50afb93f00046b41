/*
 * What DMARC found, on its way into the owner's aggregate report (RFC 9990):
 * one text for the published policy, the head, and one for the message, the
 * row; the policy process counts equal ones (policy/report.h).  Fields are
 * parted by tabs; none holds a tab or another control character:
 *
 *	head	discovery method, p, sp, np, adkim, aspf, fo, testing, rua
 *	row	client, disposition, DKIM and SPF ("pass", "fail"), override's
 *		type and comment, author's domain, sender's domain, SPF's domain,
 *		scope, result; then for each signature domain, selector, result
 */
#ifndef FILTERS_DMARC_REPORT_H
#define FILTERS_DMARC_REPORT_H

#include <stdbool.h>

#include "filters/dmarc_policy.h"
#include "filters/mail.h"

struct conf;
struct dmarc_reporter;

struct dmarc_facts {
	const char *disposition;	/* "none", "pass", "quarantine", ... */
	bool dkim, spf;			/* aligned */
	const char *reason, *comment;	/* of an override, or NULL */
	const char *spf_domain;		/* what SPF looked at, or NULL */
};

struct dmarc_row {
	const char *domain, *head, *row;
};

/* In the mail's arena; NULL: the domain wants no reports. */
struct dmarc_row *dmarc_report_row(const struct mail *,
    const struct dmarc_lookup *, const struct dmarc_policy *,
    const struct dmarc_facts *);

/* NULL with *why NULL: no reports are configured. */
struct dmarc_reporter *dmarc_reporter_new(const struct conf *,
    const char **why);
void dmarc_reporter_free(struct dmarc_reporter **);

/*
 * Whether a message is one of those that are reported: not if all it goes to is
 * the address that our reports come from, so that reports are not answered by
 * reports for ever.
 */
bool dmarc_reporter_wants(const struct dmarc_reporter *, const struct mail *);

/* Sends it to the policy process some time soon; never waits. */
void dmarc_reporter_add(struct dmarc_reporter *, const struct dmarc_row *);

#endif
