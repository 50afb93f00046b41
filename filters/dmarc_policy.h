/*
 * Which DMARC policy applies to an author's domain, which domains are aligned
 * with it, and what then comes out (RFC 9989, 4.10 and 5.3).
 */
#ifndef FILTERS_DMARC_POLICY_H
#define FILTERS_DMARC_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/answer.h"
#include "filters/dmarc_record.h"

struct arena;
struct domain_suffixes;

#define DMARC_QUESTIONS_MAX 8		/* of one tree walk (RFC 9989, 4.10) */

/* How to look things up. */
struct dmarc_lookup {
	struct arena *arena;
	/* Organizational domains by this list; NULL: by the tree walk. */
	const struct domain_suffixes *suffixes;
	int64_t deadline;
};

enum dmarc_found {
	DMARC_ABSENT,			/* DMARC does not apply */
	DMARC_FOUND,
	DMARC_UNUSABLE,			/* a record with errors; why */
	DMARC_UNKNOWN			/* DNS did not answer; why */
};

struct dmarc_policy {
	enum dmarc_found found;
	const char *author;
	const char *domain;		/* where the record stands */
	const char *organizational;	/* the author's */
	bool organizational_unknown;	/* DNS did not answer for all of it */
	struct dmarc_record record;
	bool exists;			/* the author's domain */
	enum dmarc_action action;	/* asked for this author, t=y heeded */
	const char *why;
};

/* All domains are normalized (domain.h).  Waits for DNS. */
void dmarc_policy_find(const struct dmarc_lookup *, const char *author,
    struct dmarc_policy *);

/* Whether an authenticated domain is aligned with the author's. */
enum answer dmarc_aligned(const struct dmarc_lookup *,
    const struct dmarc_policy *, const char *identifier, bool strict);

/* Whether the message passes; if not, *action is what the owner asks for. */
bool dmarc_evaluate(const struct dmarc_policy *, bool aligned,
    enum dmarc_action *action);

#endif
