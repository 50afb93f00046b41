/* Rows of aggregate reports, and the task that takes them to the store. */
#include "filters/dmarc_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/filter.h"
#include "policy/client.h"
#include "policy/protocol.h"
#include "policy/report.h"

#define SIGNATURES_MAX	10
#define PENDING_MAX	5000
#define BATCH		50
#define SEND_MS		10000
#define PAUSE_MS	1000

struct pending {
	struct pending *next;
	int64_t count;
	char *domain, *head, *row;
};

struct dmarc_reporter {
	const struct conf *conf;
	const struct report_options *options;
	struct policy_client *client;
	struct pending *first, **last;
	size_t count;
	struct task *task;
	struct task_cond news;
	bool away;			/* that was logged */
	struct counter *dropped;
};

static const struct counter_row counters[] = {
	{ "millgate_dmarc_report_dropped_total", COUNTER_TOTAL,
	    "Messages that DMARC reports lack, as the policy process did not "
	    "keep up." },
};
COUNTER_TABLE(counters)

/* --- the texts --- */

static void
put(struct buf *text, const char *field)
{
	if (text->len > 0)
		buf_putc(text, '\t');
	for (; field != NULL && *field != '\0'; field++)
		buf_putc(text, *field < ' ' || *field > '~' ? '?' : *field);
}

static const char *
action(enum dmarc_action value)
{
	return value == DMARC_UNSET ? "" : dmarc_action_name(value);
}

static char *
make_head(const struct mail *mail, const struct dmarc_lookup *lookup,
    const struct dmarc_record *record)
{
	struct buf text = BUF_INIT;
	char *head;

	put(&text, lookup->suffixes != NULL ? "psl" : "treewalk");
	put(&text, action(record->p));
	put(&text, action(record->sp));
	put(&text, action(record->np));
	put(&text, record->strict_dkim ? "s" : "r");
	put(&text, record->strict_spf ? "s" : "r");
	put(&text, arena_strndup(mail->arena, record->fo, record->fo_len));
	put(&text, record->testing ? "y" : "n");
	put(&text, arena_strndup(mail->arena, record->rua, record->rua_len));
	head = arena_strdup(mail->arena, text.data);
	buf_release(&text);
	return head;
}

static const char *
domain_of(const char *address)
{
	const char *at = address != NULL ? strrchr(address, '@') : NULL;

	return at != NULL ? at + 1 : "";
}

static void
put_findings(struct buf *text, const struct mail *mail,
    const struct dmarc_facts *facts)
{
	const struct finding *spf = finding_find(mail, "spf", NULL), *dkim;
	bool null = mail->envelope.sender == NULL ||
	    mail->envelope.sender[0] == '\0';
	int count = 0;

	put(text, facts->spf_domain);
	put(text, null ? "" : "mfrom");
	put(text, spf != NULL ? spf->result : "");
	for (dkim = mail->findings; dkim != NULL && count < SIGNATURES_MAX;
	    dkim = dkim->next) {
		const char *domain;

		if (strcmp(dkim->method, "dkim") != 0 || (domain =
		    finding_value(dkim, "header", "d")) == NULL)
			continue;
		put(text, domain);
		put(text, finding_value(dkim, "header", "s"));
		put(text, dkim->result);
		count++;
	}
}

struct dmarc_row *
dmarc_report_row(const struct mail *mail, const struct dmarc_lookup *lookup,
    const struct dmarc_policy *policy, const struct dmarc_facts *facts)
{
	struct dmarc_row *row;
	struct buf text = BUF_INIT;

	if (policy->record.rua_len == 0)
		return NULL;
	row = arena_alloc(mail->arena, sizeof(*row));
	row->domain = policy->domain;
	row->head = make_head(mail, lookup, &policy->record);
	put(&text, mail->session->client_address);
	put(&text, facts->disposition);
	put(&text, facts->dkim ? "pass" : "fail");
	put(&text, facts->spf ? "pass" : "fail");
	put(&text, facts->reason);
	put(&text, facts->comment);
	put(&text, policy->author);
	put(&text, domain_of(mail->envelope.sender));
	put_findings(&text, mail, facts);
	row->row = arena_strdup(mail->arena, text.data);
	buf_release(&text);
	return row;
}

/* --- to the policy process --- */

static void
pending_free(struct pending *p)
{
	free(p->domain);
	free(p->head);
	free(p->row);
	free(p);
}

static size_t
put_batch(const struct dmarc_reporter *reporter, struct buf *requests)
{
	const struct pending *p = reporter->first;
	size_t n = 0;
	char count[24];

	for (; p != NULL && n < BATCH; p = p->next, n++) {
		snprintf(count, sizeof(count), "%lld", (long long)p->count);
		policy_put(requests, POLICY_REQUEST, POLICY_REQUEST_REPORT);
		policy_put(requests, POLICY_REPORT_VERB, "add");
		policy_put(requests, POLICY_REPORT_DOMAIN, p->domain);
		policy_put(requests, POLICY_REPORT_HEAD, p->head);
		policy_put(requests, POLICY_REPORT_ROW, p->row);
		policy_put(requests, POLICY_REPORT_COUNT, count);
		policy_end(requests);
	}
	return n;
}

static void
drop_first(struct dmarc_reporter *reporter)
{
	struct pending *p = reporter->first;

	reporter->first = p->next;
	if (reporter->first == NULL)
		reporter->last = &reporter->first;
	reporter->count--;
	pending_free(p);
}

/* -1: it is to be tried again, from the first that is left on. */
static int
send_batch(struct dmarc_reporter *reporter, const char **why)
{
	int64_t deadline = task_deadline(SEND_MS);
	struct buf text = BUF_INIT;
	size_t n = put_batch(reporter, &text);
	int rc;

	rc = policy_client_send(reporter->client, &text, deadline, why);
	for (; rc == 0 && n > 0; n--) {
		buf_reset(&text);
		rc = policy_client_receive(reporter->client, &text, deadline,
		    why);
		if (rc == 0 && text.len > 12 &&
		    strncmp(text.data, "action=ERROR", 12) == 0) {
			*why = "it has no store";
			rc = -1;
		}
		if (rc == 0)
			drop_first(reporter);
	}
	buf_release(&text);
	return rc;
}

static void
send_all(void *argument)
{
	struct dmarc_reporter *reporter = argument;
	const char *why;
	int rc = 0;

	while (rc == 0) {
		if (reporter->first == NULL) {
			rc = task_cond_wait(&reporter->news, DEADLINE_NEVER);
			continue;
		}
		if (send_batch(reporter, &why) == 0) {
			reporter->away = false;
			continue;
		}
		if (!reporter->away)
			log_warn(NULL, "filter=dmarc: what reports need waits "
			    "for the policy service: %s", why);
		reporter->away = true;
		/* Answers of this batch may still come: not to the next. */
		policy_client_free(&reporter->client);
		rc = task_sleep(PAUSE_MS);
		if (rc == 0)
			reporter->client = policy_client_new(reporter->conf,
			    &why);
	}
}

struct dmarc_reporter *
dmarc_reporter_new(const struct conf *conf, const char **why)
{
	const struct report_options *options;
	struct dmarc_reporter *reporter;

	*why = NULL;
	if (conf == NULL)
		return NULL;
	options = conf_get(conf, report_section.name);
	if (options->email == NULL)
		return NULL;
	if ((reporter = calloc(1, sizeof(*reporter))) == NULL)
		fatal("out of memory (dmarc)");
	reporter->options = options;
	reporter->conf = conf;
	reporter->last = &reporter->first;
	reporter->dropped = counter_get("millgate_dmarc_report_dropped_total",
	    NULL);
	reporter->client = policy_client_new(conf, why);
	if (reporter->client == NULL)
		dmarc_reporter_free(&reporter);
	return reporter;
}

void
dmarc_reporter_free(struct dmarc_reporter **reporterp)
{
	struct dmarc_reporter *reporter = *reporterp;

	*reporterp = NULL;
	if (reporter == NULL)
		return;
	task_reap(&reporter->task);
	while (reporter->first != NULL)
		drop_first(reporter);
	policy_client_free(&reporter->client);
	free(reporter);
}

bool
dmarc_reporter_wants(const struct dmarc_reporter *reporter,
    const struct mail *mail)
{
	const struct recipient *to = mail->envelope.recipients;

	for (; to != NULL; to = to->next)
		if (strcasecmp(to->address, reporter->options->email) != 0)
			return true;
	return false;
}

void
dmarc_reporter_add(struct dmarc_reporter *reporter,
    const struct dmarc_row *row)
{
	struct pending *p;

	if (reporter->count >= PENDING_MAX) {
		counter_add(reporter->dropped, 1);
		return;
	}
	if ((p = calloc(1, sizeof(*p))) == NULL ||
	    (p->domain = strdup(row->domain)) == NULL ||
	    (p->head = strdup(row->head)) == NULL ||
	    (p->row = strdup(row->row)) == NULL)
		fatal("out of memory (dmarc)");
	p->count = 1;
	*reporter->last = p;
	reporter->last = &p->next;
	reporter->count++;
	if (reporter->task == NULL)
		reporter->task = task_start("dmarc-report", send_all,
		    reporter);
	task_cond_signal(&reporter->news);
}
