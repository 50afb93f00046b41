/*
 * The relay's share of DMARC aggregate reports (RFC 9990): asks the policy
 * process which are due, makes them, and sends them as mail of our own.  Of a
 * fleet with one store each report is sent by one relay.  What the outbound
 * guard has for its postmaster goes the same way, at once.
 */
#ifndef GATEWAY_REPORT_SEND_H
#define GATEWAY_REPORT_SEND_H

#include <stdbool.h>

struct buf;
struct conf;
struct notices;
struct queue;
struct report_sender;

/* NULL: neither reports nor the guard's mail are configured. */
struct report_sender *report_sender_new(const struct conf *,
    const char *hostname, struct notices *);

/*
 * Looks for reports that are due, in a task of its own; notes in the spool
 * which it has sent.
 */
void report_sender_start(struct report_sender *, struct queue *,
    const char *spool_directory);

/* Ends that task, and others between two reports; NULL is fine. */
void report_sender_stop(struct report_sender *);

/* When none of them is left. */
void report_sender_free(struct report_sender **);

/* Are reports configured?  NULL is fine. */
bool report_sender_reports(const struct report_sender *);

/*
 * Sends what there is of a domain ("": of all), due or not, and appends a line
 * for each.  NULL, or why it can't be done.  As a task.
 */
const char *report_sender_force(struct report_sender *, const char *domain,
    struct buf *lines);

/* Appends "DOMAIN, from TIME, due TIME" lines.  NULL, or why not.  As a task. */
const char *report_sender_list(struct report_sender *, struct buf *lines);

#endif
