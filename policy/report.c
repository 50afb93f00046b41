/* The store of DMARC aggregate reports. */
#include "policy/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "policy/protocol.h"
#include "policy/service.h"
#include "policy/store.h"

#define SUBJECT_MAX	253
#define TEXT_MAX	12000

static const struct option_row report_rows[] = {
	REPORT_OPTIONS(OPTION_ROW, report_options)
};

const struct section_kind report_section = {
	.name = "dmarc_report",
	.doc = "Aggregate reports to the owners of domains (RFC 9990).",
	.rows = report_rows,
	.row_count = OPTION_COUNT(report_rows),
	.size = sizeof(struct report_options),
};

struct reports {
	const struct report_options *options;
	struct store *store;
	struct counter *added, *full, *failed;
};

static const struct counter_row counters[] = {
	{ "millgate_dmarc_report_messages_total", COUNTER_TOTAL,
	    "Messages counted for DMARC reports, by what became of it." },
};
COUNTER_TABLE(counters)

void
report_check_options(const struct conf *conf, struct buf *errors)
{
	const struct report_options *options = conf_get(conf,
	    report_section.name);
	const struct conf_section *section;
	size_t count;

	section = conf_sections(conf, report_section.name, &count);
	if (section->line > 0 && options->email == NULL)
		conf_error(errors, conf, section, "email", "is required");
	if (options->email != NULL)
		policy_check_address(conf, section, "email", options->email,
		    errors);
	if (options->envelope_sender != NULL &&
	    options->envelope_sender[0] != '\0')
		policy_check_address(conf, section, "envelope_sender",
		    options->envelope_sender, errors);
}

struct reports *
reports_new(const struct conf *conf, struct store *store)
{
	struct reports *reports = calloc(1, sizeof(*reports));

	if (reports == NULL)
		fatal("out of memory (reports)");
	reports->options = conf_get(conf, report_section.name);
	reports->store = store;
	reports->added = counter_get("millgate_dmarc_report_messages_total",
	    "result=\"counted\"");
	reports->full = counter_get("millgate_dmarc_report_messages_total",
	    "result=\"no-room\"");
	reports->failed = counter_get("millgate_dmarc_report_messages_total",
	    "result=\"no-store\"");
	return reports;
}

void
reports_free(struct reports **reportsp)
{
	free(*reportsp);
	*reportsp = NULL;
}

/* Not all at the same moment, but for a domain always at the same. */
static int64_t
jitter_ms(const char *domain, int64_t interval)
{
	uint32_t hash = 2166136261;	/* FNV-1a */
	int64_t most = interval / 24;

	for (; *domain != '\0'; domain++)
		hash = (hash ^ (unsigned char)*domain) * 16777619;
	/* And not before clocks of the fleet agree that the time is over. */
	return interval / 1440 + hash % (most > 0 ? most : 1);
}

static void
put_answer(struct buf *answer, enum answer result, const char *yes,
    const char *no, const char *why)
{
	switch (result) {
	case ANSWER_YES:
		buf_printf(answer, "action=%s\n", yes);
		break;
	case ANSWER_NO:
		buf_printf(answer, "action=%s\n", no);
		break;
	case ANSWER_UNKNOWN:
		buf_printf(answer, "action=ERROR %s\n", why);
		break;
	}
}

static void
add(struct reports *reports, const struct policy_request *request,
    struct buf *answer)
{
	int64_t now = clock_wall_ms(), interval = reports->options->interval;
	struct store_tally tally = {
		.subject = policy_value(request, POLICY_REPORT_DOMAIN),
		.begin_ms = now - now % interval,
		.head = policy_value(request, POLICY_REPORT_HEAD),
		.row = policy_value(request, POLICY_REPORT_ROW),
		.count = strtoll(policy_value(request, POLICY_REPORT_COUNT),
		    NULL, 10),
	};
	enum answer result = ANSWER_NO;
	const char *why = "it makes no sense";

	tally.due_ms = tally.begin_ms + interval + jitter_ms(tally.subject,
	    interval);
	if (tally.subject[0] != '\0' && strlen(tally.subject) <= SUBJECT_MAX &&
	    strchr(tally.subject, ' ') == NULL && tally.count > 0 &&
	    strlen(tally.head) <= TEXT_MAX && strlen(tally.row) <= STORE_TALLY_ROW_MAX)
		result = store_tally_add(reports->store, &tally, &why);
	counter_add(result == ANSWER_YES ? reports->added :
	    result == ANSWER_NO ? reports->full : reports->failed,
	    result == ANSWER_UNKNOWN ? 1 : tally.count);
	put_answer(answer, result, "OK", "FULL", why);
}

static void
claim(struct reports *reports, const struct policy_request *request,
    struct buf *answer)
{
	bool now = strcmp(policy_value(request, POLICY_REPORT_ID), "now") == 0;
	struct buf text = BUF_INIT;
	enum answer result;
	const char *why = "";

	result = store_tally_claim(reports->store,
	    policy_known(request, POLICY_REPORT_DOMAIN), now, REPORT_LEASE_MS,
	    &text, &why);
	put_answer(answer, result, "OK", "NONE", why);
	if (result == ANSWER_YES && text.len > 0)
		buf_append(answer, text.data, text.len);
	buf_release(&text);
}

static void
done(struct reports *reports, const struct policy_request *request,
    struct buf *answer)
{
	enum answer result = ANSWER_NO;
	int64_t begin, id;
	const char *why = "";

	if (sscanf(policy_value(request, POLICY_REPORT_ID),
	    "%" SCNd64 " %" SCNd64, &begin, &id) == 2)
		result = store_tally_done(reports->store,
		    policy_value(request, POLICY_REPORT_DOMAIN), begin, id,
		    &why);
	put_answer(answer, result, "OK", "NONE", why);
}

static void
list(struct reports *reports, const struct policy_request *request,
    struct buf *answer)
{
	struct buf text = BUF_INIT;
	enum answer result;
	const char *why = "";

	(void)request;
	result = store_tally_list(reports->store, &text, &why);
	put_answer(answer, result, "OK", "NONE", why);
	if (result == ANSWER_YES && text.len > 0)
		buf_append(answer, text.data, text.len);
	buf_release(&text);
}

static const struct {
	const char *verb;
	void (*act)(struct reports *, const struct policy_request *,
	    struct buf *);
} verbs[] = {
	{ "add", add }, { "claim", claim }, { "done", done }, { "list", list },
};

void
reports_serve(struct reports *reports, const struct policy_request *request,
    struct buf *answer)
{
	const char *verb = policy_value(request, POLICY_REPORT_VERB);

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].verb, verb) == 0) {
			verbs[i].act(reports, request, answer);
			policy_end(answer);
			return;
		}
	buf_puts(answer, "action=ERROR no such verb\n\n");
}
