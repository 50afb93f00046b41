/*
 * DMARC aggregate reports (RFC 9990): from what was counted to the message that
 * goes to the owner of a domain.
 */
#ifndef GATEWAY_REPORT_H
#define GATEWAY_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;

#define REPORT_SIZE_MAX	(4 * 1024 * 1024)	/* compressed */
#define REPORT_ID_MAX	64

/*
 * What holds for the whole report.  Texts may hold any bytes where nothing else
 * is said; NULL: absent, which organization, email, report_id and domain never
 * are.
 */
struct report_facts {
	const char *organization, *email, *extra_contact;
	/*
	 * Unique among the reports for that domain, the same whenever it is
	 * sent again; letters and digits, as it is part of the file's name.
	 */
	const char *report_id;
	const char *domain;		/* where the record was found */
	const char *p, *sp, *np, *adkim, *aspf, *fo;
	bool testing;			/* t=y */
	bool treewalk;			/* else by the Public Suffix List */
	int64_t begin, end;		/* seconds of Unix time */
};

struct report_reason {
	const char *type, *comment;	/* comment: or NULL */
};

struct report_dkim {
	const char *domain, *selector, *result;
};

struct report_spf {
	const char *domain, *result;	/* domain NULL: no SPF */
};

/* Messages that are alike. */
struct report_row {
	const char *source_ip;
	uint64_t count;
	const char *disposition;	/* none, pass, quarantine, reject */
	bool dkim_aligned, spf_aligned;
	const struct report_reason *reasons;	/* why it is not the policy's */
	size_t reason_count;
	const char *header_from;
	const char *envelope_from;	/* "": null sender; NULL: not known */
	const struct report_dkim *dkim;	/* those that pass before others */
	size_t dkim_count;
	struct report_spf spf;		/* of MAIL FROM */
};

/*
 * Appends the report as XML, gzipped: the same bytes for the same report.
 * There is one row at least.  Values that RFC 9990 doesn't know for a result
 * are replaced or left out, odd bytes become "?".  Returns the compressed size,
 * or -1 and *why (too large).  In a task it lets others run.
 */
int64_t report_xml(const struct report_facts *, const struct report_row *,
    size_t count, struct buf *, const char **why);

/* How the report travels. */
struct report_mail {
	const char *submitter;		/* our name, a domain */
	const char *const *to;		/* addresses */
	size_t to_count;
	int64_t now_ms;			/* wall clock */
};

/*
 * Appends the message (RFC 9990, 3.5) that holds such a compressed report, with
 * lines ended by CRLF, 7bit, from the facts' email.  -1 and *why if an address,
 * a domain or the report's id is not one.
 */
int report_mail_print(const struct report_facts *, const struct report_mail *,
    const void *gzip, size_t len, struct buf *, const char **why);

#endif
