/*
 * What the policy process hands over with a report that is claimed (store.h,
 * filters/dmarc_report.h), taken apart.
 */
#ifndef GATEWAY_REPORT_CLAIM_H
#define GATEWAY_REPORT_CLAIM_H

#include <stddef.h>
#include <stdint.h>

#include "gateway/report.h"

struct arena;
struct report_options;

struct report_claim {
	const char *domain;
	int64_t begin_ms;
	const char *key;		/* "DOMAIN BEGIN ID", as "done" has it */
	const char *rua;
	struct report_facts facts;
	struct report_row *rows;
	size_t row_count;
};

/*
 * Parses where the text stands, which is written to and must last.  -1: it
 * makes no sense, or has no rows.
 */
int report_claim_parse(struct report_claim *, struct arena *,
    const struct report_options *, const char *hostname, char *text);

/* Fields parted by tabs, in place; how many there are, at most max. */
size_t report_claim_split(char *line, char **fields, size_t max);

#endif
