/* DMARC policy records (RFC 9989, 4.7 and 4.8). */
#ifndef FILTERS_DMARC_RECORD_H
#define FILTERS_DMARC_RECORD_H

#include <stdbool.h>
#include <stddef.h>

#define DMARC_RECORD_MAX 4096

/* What a domain's owner asks for, in rising strictness. */
enum dmarc_action { DMARC_UNSET, DMARC_NONE, DMARC_QUARANTINE, DMARC_REJECT };

struct dmarc_record {
	enum dmarc_action p;		/* never unset */
	enum dmarc_action sp, np;	/* below it; below it and not there */
	char psd;			/* 'y', 'n' or 'u' */
	bool testing;			/* t=y */
	bool strict_dkim, strict_spf;	/* adkim=s, aspf=s */
	const char *rua, *fo;		/* in the bytes parsed */
	size_t rua_len, fo_len;		/* 0: there is none */
};

/* Whether a TXT record begins as a DMARC record must. */
bool dmarc_is_record(const char *bytes, size_t len);

/*
 * Parses; 0, or -1 and *why if the record cannot be used.  Tags that are not
 * known, and bad values of those with a default, do not spoil it; p, sp or np
 * with bad values makes it p=none if it asks for reports, else unusable.
 */
int dmarc_record_parse(const char *bytes, size_t len, struct dmarc_record *,
    const char **why);

/* "none", "quarantine", "reject". */
const char *dmarc_action_name(enum dmarc_action);

#endif
