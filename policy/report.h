/*
 * DMARC aggregate reports (RFC 9990), the part that the policy process has: it
 * keeps what the gateways found in the store, once for a fleet, and hands it to
 * one relay when a report is due.
 *
 * Our own processes ask by the policy protocol, with request=millgate_report:
 *	report_verb=add		domain, head, row, count
 *	report_verb=claim	a report that is due; with report_id=now even
 *				if it isn't, of report_domain if given
 *	report_verb=done	domain, id "BEGIN ID": it was sent
 *	report_verb=list
 * The answer's first line is action=OK, action=NONE, action=FULL or
 * action=ERROR WHY; lines of store.h follow.
 *
 * What a head and a row hold is in filters/dmarc_report.h.
 */
#ifndef POLICY_REPORT_H
#define POLICY_REPORT_H

#include <stdbool.h>

#include "base/option.h"

struct buf;
struct conf;
struct policy_request;
struct reports;
struct store;

#define REPORT_OPTIONS(ROW, o)						\
	ROW(o, email, string, NULL, NULL, NULL,				\
	    "Address that reports come from, and where their receivers "	\
	    "may ask; without it none are collected.")			\
	ROW(o, organization, string, NULL, NULL, NULL,			\
	    "Who makes the reports. Default: hostname.")		\
	ROW(o, contact, string, NULL, NULL, NULL,			\
	    "More about whom to ask, such as a web page.")		\
	ROW(o, interval, duration, "1d", "1s", "7d",			\
	    "The time that a report covers, counted from midnight UTC.")	\
	ROW(o, envelope_sender, string, NULL, NULL, NULL,		\
	    "Envelope sender of reports. Default: the null sender, so that " \
	    "none comes back.")

struct report_options { REPORT_OPTIONS(OPTION_FIELD, report_options) };

extern const struct section_kind report_section;

void report_check_options(const struct conf *, struct buf *errors);

/* How long a claim lasts: a relay must be done with a report by then. */
#define REPORT_LEASE_MS 600000

struct reports *reports_new(const struct conf *, struct store *);
void reports_free(struct reports **);

/* Answers such a request.  In a task. */
void reports_serve(struct reports *, const struct policy_request *,
    struct buf *answer);

#endif
