/* Claimed reports, parsed. */
#include "gateway/report_claim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/clock.h"
#include "policy/report.h"

#define HEAD_FIELDS	9
#define ROW_FIELDS	11
#define DKIM_MAX	16

size_t
report_claim_split(char *line, char **fields, size_t max)
{
	size_t count = 0;
	char *field;

	while (count < max && (field = strsep(&line, "\t")) != NULL)
		fields[count++] = field;
	return count;
}

static const char *
or_null(const char *text)
{
	return text[0] != '\0' ? text : NULL;
}

/* Those that pass first: a reader may heed only a few. */
static void
take_signatures(struct arena *arena, struct report_row *row, char **fields,
    size_t count)
{
	struct report_dkim *dkim = arena_alloc(arena,
	    DKIM_MAX * sizeof(*dkim));

	row->dkim = dkim;
	for (int pass = 1; pass >= 0; pass--)
		for (size_t i = 0; i + 2 < count; i += 3)
			if ((strcmp(fields[i + 2], "pass") == 0) == pass &&
			    row->dkim_count < DKIM_MAX)
				dkim[row->dkim_count++] = (struct report_dkim){
				    fields[i], fields[i + 1], fields[i + 2] };
}

static void
take_row(struct report_claim *claim, struct arena *arena, char *line)
{
	char *fields[1 + ROW_FIELDS + 3 * DKIM_MAX], **f = fields + 1;
	size_t count = report_claim_split(line, fields, sizeof(fields) / sizeof(fields[0]));
	struct report_row *row = &claim->rows[claim->row_count];
	struct report_reason *reason;

	if (count < 1 + ROW_FIELDS)
		return;
	*row = (struct report_row){
		.source_ip = f[0], .count = strtoull(fields[0], NULL, 10),
		.disposition = f[1], .dkim_aligned = strcmp(f[2], "pass") == 0,
		.spf_aligned = strcmp(f[3], "pass") == 0,
		.header_from = f[6], .envelope_from = f[7],
	};
	if (f[4][0] != '\0') {
		reason = arena_alloc(arena, sizeof(*reason));
		*reason = (struct report_reason){ f[4], or_null(f[5]) };
		row->reasons = reason;
		row->reason_count = 1;
	}
	/* RFC 9990, 3.1.1.13: SPF's result of MAIL FROM alone. */
	if (strcmp(f[9], "mfrom") == 0 && f[8][0] != '\0')
		row->spf = (struct report_spf){ f[8], f[10] };
	take_signatures(arena, row, f + ROW_FIELDS, count - 1 - ROW_FIELDS);
	claim->row_count++;
}

static int
take_head(struct report_claim *claim, char *line)
{
	char *f[HEAD_FIELDS];

	if (report_claim_split(line, f, HEAD_FIELDS) != HEAD_FIELDS)
		return -1;
	claim->facts.treewalk = strcmp(f[0], "treewalk") == 0;
	claim->facts.p = or_null(f[1]);
	claim->facts.sp = or_null(f[2]);
	claim->facts.np = or_null(f[3]);
	claim->facts.adkim = or_null(f[4]);
	claim->facts.aspf = or_null(f[5]);
	claim->facts.fo = or_null(f[6]);
	claim->facts.testing = strcmp(f[7], "y") == 0;
	claim->rua = f[8];
	return 0;
}

int
report_claim_parse(struct report_claim *claim, struct arena *arena,
    const struct report_options *options, const char *hostname, char *text)
{
	char *line = strsep(&text, "\n"), *head = strsep(&text, "\n"), *f[4];
	int64_t id, end, now = clock_wall_ms();
	size_t count = 0;

	if (line == NULL || head == NULL ||
	    report_claim_split(line, f, 4) != 4)
		return -1;
	claim->domain = f[0];
	claim->begin_ms = strtoll(f[1], NULL, 10);
	id = strtoll(f[2], NULL, 10);
	claim->key = arena_printf(arena, "%s %" PRId64 " %" PRId64,
	    claim->domain, claim->begin_ms, id);
	end = claim->begin_ms + options->interval;
	claim->facts = (struct report_facts){
		.organization = options->organization != NULL ?
		    options->organization : hostname,
		.email = options->email, .extra_contact = options->contact,
		.report_id = arena_printf(arena, "%" PRIx64 "x%" PRIx64,
		    claim->begin_ms / 1000, id),
		.domain = claim->domain, .begin = claim->begin_ms / 1000,
		.end = (end < now ? end : now) / 1000,
	};
	if (take_head(claim, head) != 0 || text == NULL)
		return -1;
	for (const char *at = text; *at != '\0'; at++)
		count += *at == '\n';
	claim->row_count = 0;
	claim->rows = arena_alloc(arena, (count + 1) * sizeof(*claim->rows));
	while ((line = strsep(&text, "\n")) != NULL)
		if (*line != '\0')
			take_row(claim, arena, line);
	return claim->row_count > 0 ? 0 : -1;
}
