/* Aggregate reports, from the claim to the message in the spool. */
#include "gateway/report_send.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/dmarc_external.h"
#include "filters/dmarc_policy.h"
#include "filters/dmarc_uri.h"
#include "filters/domain.h"
#include "filters/envelope.h"
#include "filters/mail.h"
#include "gateway/notice.h"
#include "gateway/queue.h"
#include "gateway/report.h"
#include "policy/client.h"
#include "policy/protocol.h"
#include "policy/report.h"

#define ASK_MS		30000
#define DNS_MS		60000
#define LOOK_MS		60000		/* for what is due, at most */
#define DAY_MS		INT64_C(86400000)
#define HEAD_FIELDS	9
#define ROW_FIELDS	11
#define DKIM_MAX	16
#define TO_MAX		10

struct report_sender {
	const struct conf *conf;
	const struct report_options *options;
	const char *hostname;
	struct notices *notices;
	struct queue *queue;
	struct task *task;
};

/* One report, from the claim to the message. */
struct work {
	const struct report_sender *sender;
	struct arena *arena;
	struct policy_client *client;
	const char *domain;
	int64_t begin_ms, id;
	const char *rua;
	struct report_facts facts;
	struct report_row *rows;
	size_t row_count;
	uint64_t messages;
	const char *to[TO_MAX];
	size_t to_count;
	struct buf *lines;		/* for who asked, or NULL */
};

/* --- to the policy process --- */

/* The answer less its first line, of which YES: OK, NO: NONE. */
static enum answer
ask(struct policy_client *client, const char *verb, const char *domain,
    const char *id, struct buf *answer, const char **why)
{
	int64_t deadline = task_deadline(ASK_MS);
	struct buf text = BUF_INIT;
	int rc;

	buf_reset(answer);
	policy_put(&text, POLICY_REQUEST, POLICY_REQUEST_REPORT);
	policy_put(&text, POLICY_REPORT_VERB, verb);
	policy_put(&text, POLICY_REPORT_DOMAIN, domain);
	policy_put(&text, POLICY_REPORT_ID, id);
	policy_end(&text);
	rc = policy_client_send(client, &text, deadline, why);
	if (rc == 0)
		rc = policy_client_receive(client, answer, deadline, why);
	buf_release(&text);
	if (rc != 0)
		return ANSWER_UNKNOWN;
	if (answer->len >= 10 && strncmp(answer->data, "action=OK\n", 10) == 0) {
		buf_drain(answer, 10);
		return ANSWER_YES;
	}
	if (answer->len >= 11 && strncmp(answer->data, "action=NONE", 11) == 0)
		return ANSWER_NO;
	*why = "the store does not answer";
	return ANSWER_UNKNOWN;
}

/* Fields parted by tabs; how many, at most max. */
static size_t
split(char *line, char **fields, size_t max)
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
take_signatures(struct work *work, struct report_row *row, char **fields,
    size_t count)
{
	struct report_dkim *dkim = arena_alloc(work->arena,
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
take_row(struct work *work, char *line)
{
	char *fields[1 + ROW_FIELDS + 3 * DKIM_MAX], **f = fields + 1;
	size_t count = split(line, fields, sizeof(fields) / sizeof(fields[0]));
	struct report_row *row = &work->rows[work->row_count];
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
		reason = arena_alloc(work->arena, sizeof(*reason));
		*reason = (struct report_reason){ f[4], or_null(f[5]) };
		row->reasons = reason;
		row->reason_count = 1;
	}
	/* RFC 9990, 3.1.1.13: SPF's result of MAIL FROM alone. */
	if (strcmp(f[9], "mfrom") == 0 && f[8][0] != '\0')
		row->spf = (struct report_spf){ f[8], f[10] };
	take_signatures(work, row, f + ROW_FIELDS, count - 1 - ROW_FIELDS);
	work->messages += row->count;
	work->row_count++;
}

static int
take_head(struct work *work, char *line)
{
	char *f[HEAD_FIELDS];

	if (split(line, f, HEAD_FIELDS) != HEAD_FIELDS)
		return -1;
	work->facts.treewalk = strcmp(f[0], "treewalk") == 0;
	work->facts.p = or_null(f[1]);
	work->facts.sp = or_null(f[2]);
	work->facts.np = or_null(f[3]);
	work->facts.adkim = or_null(f[4]);
	work->facts.aspf = or_null(f[5]);
	work->facts.fo = or_null(f[6]);
	work->facts.testing = strcmp(f[7], "y") == 0;
	work->rua = f[8];
	return 0;
}

/* What a claim brought (store.h), taken apart where it stands. */
static int
take_claim(struct work *work, char *text)
{
	const struct report_options *options = work->sender->options;
	char *line = strsep(&text, "\n"), *head = strsep(&text, "\n"), *f[4];
	int64_t end, now = clock_wall_ms();
	size_t count = 0;

	if (line == NULL || head == NULL || split(line, f, 4) != 4)
		return -1;
	work->domain = f[0];
	work->begin_ms = strtoll(f[1], NULL, 10);
	work->id = strtoll(f[2], NULL, 10);
	end = work->begin_ms + options->interval;
	work->facts = (struct report_facts){
		.organization = options->organization != NULL ?
		    options->organization : work->sender->hostname,
		.email = options->email, .extra_contact = options->contact,
		.report_id = arena_printf(work->arena, "%" PRIx64 "x%" PRIx64,
		    work->begin_ms / 1000, work->id),
		.domain = work->domain, .begin = work->begin_ms / 1000,
		.end = (end < now ? end : now) / 1000,
	};
	if (take_head(work, head) != 0 || text == NULL)
		return -1;
	for (const char *at = text; *at != '\0'; at++)
		count += *at == '\n';
	work->rows = arena_alloc(work->arena, (count + 1) *
	    sizeof(*work->rows));
	while ((line = strsep(&text, "\n")) != NULL)
		if (*line != '\0')
			take_row(work, line);
	return work->row_count > 0 ? 0 : -1;
}

/* --- what is said of it --- */

static void
say(const struct work *work, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
say(const struct work *work, const char *format, ...)
{
	struct buf text = BUF_INIT;
	va_list arguments;

	buf_printf(&text, "dmarc-report: domain=%s, id=%s, ", work->domain,
	    work->facts.report_id);
	va_start(arguments, format);
	buf_vprintf(&text, format, arguments);
	va_end(arguments);
	log_info(NULL, "%s", text.data);
	if (work->lines != NULL)
		buf_printf(work->lines, "%s\n", text.data);
	buf_release(&text);
}

/* --- to whom --- */

static void
add_address(struct work *work, const struct dmarc_uri *uri, size_t size)
{
	for (size_t i = 0; i < work->to_count; i++)
		if (strcasecmp(work->to[i], uri->address) == 0)
			return;
	if (uri->limit > 0 && size > uri->limit)
		say(work, "to=<%s>, refused: it is larger than they take",
		    uri->address);
	else if (work->to_count < TO_MAX)
		work->to[work->to_count++] = arena_strdup(work->arena,
		    uri->address);
}

/* -1: DNS does not tell whether that one wants it. */
static int
add_destination(struct work *work, const struct dmarc_uri *uri, size_t size)
{
	const struct dmarc_lookup lookup = { .arena = work->arena,
		.deadline = task_deadline(DNS_MS) };
	struct dmarc_external external = { 0 };
	const char *host = domain_normalize(work->arena, uri->domain,
	    strlen(uri->domain)), *at, *end;
	struct dmarc_uri other;
	int rc;

	if (host == NULL) {
		say(work, "to=<%s>, refused: no domain", uri->address);
		return 0;
	}
	switch (dmarc_external_check(&lookup, work->domain, host, &external)) {
	case ANSWER_YES:
		break;
	case ANSWER_NO:
		say(work, "to=<%s>, refused: %s", uri->address, external.why);
		return 0;
	case ANSWER_UNKNOWN:
		say(work, "to=<%s>, cannot tell: %s", uri->address,
		    external.why);
		return -1;
	}
	if (external.rua == NULL) {
		add_address(work, uri, size);
		return 0;
	}
	at = external.rua;
	end = at + external.rua_len;
	while ((rc = dmarc_uri_next(&at, end, &other)) != 0)
		if (rc == 1)
			add_address(work, &other, size);
	return 0;
}

/* -1: it is to be tried again later. */
static int
find_destinations(struct work *work, size_t size)
{
	const char *at = work->rua, *end = at + strlen(at);
	bool late = clock_wall_ms() > work->begin_ms +
	    work->sender->options->interval + DAY_MS;
	struct dmarc_uri uri;
	int rc, asked = 0;

	while ((rc = dmarc_uri_next(&at, end, &uri)) != 0 && asked++ < TO_MAX)
		if (rc == 1 && add_destination(work, &uri, size) != 0 && !late)
			return -1;
	return 0;
}

/* --- the message --- */

static int
commit(struct work *work, const struct buf *gzip)
{
	const struct report_options *options = work->sender->options;
	const struct report_mail mail = { .submitter = work->sender->hostname,
		.to = work->to, .to_count = work->to_count,
		.now_ms = clock_wall_ms() };
	struct envelope envelope = { .arrived_ms = mail.now_ms,
		.sender = options->envelope_sender != NULL ?
		    options->envelope_sender : "", .client = "internal" };
	struct buf text = BUF_INIT;
	struct slice slice = { .fd = -1 };
	const char *why;
	int rc;

	envelope_id_make(envelope.id);
	for (size_t i = 0; i < work->to_count; i++)
		envelope_add_recipient(&envelope, work->arena, work->to[i]);
	rc = report_mail_print(&work->facts, &mail, gzip->data, gzip->len,
	    &text, &why);
	if (rc != 0) {
		say(work, "refused: %s", why);
		buf_release(&text);
		return 0;
	}
	slice.data = text.data;
	slice.len = text.len;
	rc = notices_send(work->sender->notices, &envelope, &slice, 1, &why);
	buf_release(&text);
	if (rc != 0) {
		say(work, "cannot store it: %s", why);
		return -1;
	}
	for (size_t i = 0; i < work->to_count; i++)
		say(work, "to=<%s>, messages=%" PRIu64 ", rows=%zu, sent: %s",
		    work->to[i], work->messages, work->row_count, envelope.id);
	queue_poll(work->sender->queue);
	return 0;
}

/* 0: there is no more to do with it; -1: somebody tries again later. */
static int
make(struct work *work)
{
	struct buf gzip = BUF_INIT;
	const char *why;
	int rc = 0;

	if (report_xml(&work->facts, work->rows, work->row_count, &gzip,
	    &why) == -1)
		say(work, "refused: %s", why);
	else if (find_destinations(work, gzip.len) != 0)
		rc = -1;
	else if (work->to_count == 0)
		say(work, "refused: nobody takes it");
	else
		rc = commit(work, &gzip);
	buf_release(&gzip);
	return rc;
}

/* Claims and sends one.  YES; NO: there is none; UNKNOWN: *why. */
static enum answer
send_one(const struct report_sender *sender, struct policy_client *client,
    const char *domain, bool now, struct buf *lines, const char **why)
{
	struct work work = { .sender = sender, .client = client,
		.lines = lines, .arena = arena_new(0) };
	struct buf text = BUF_INIT, answer = BUF_INIT;
	enum answer result;
	char id[64];

	result = ask(client, "claim", domain, now ? "now" : "", &text, why);
	if (result != ANSWER_YES)
		goto out;
	if (take_claim(&work, text.data) != 0) {
		*why = "a claim makes no sense";
		result = ANSWER_UNKNOWN;
		goto out;
	}
	if (make(&work) != 0)
		goto out;
	snprintf(id, sizeof(id), "%" PRId64 " %" PRId64, work.begin_ms,
	    work.id);
	if (ask(client, "done", work.domain, id, &answer, why) ==
	    ANSWER_UNKNOWN)
		result = ANSWER_UNKNOWN;
out:
	buf_release(&answer);
	buf_release(&text);
	arena_free(&work.arena);
	return result;
}

/* All there are.  NULL, or why not. */
static const char *
send_all(const struct report_sender *sender, const char *domain, bool now,
    struct buf *lines)
{
	const char *why = NULL;
	struct policy_client *client = policy_client_new(sender->conf, &why);
	enum answer result;

	if (client == NULL)
		return why;
	do
		result = send_one(sender, client, domain, now, lines, &why);
	while (result == ANSWER_YES);
	policy_client_free(&client);
	return result == ANSWER_NO ? NULL : why;
}

static void
look(void *argument)
{
	struct report_sender *sender = argument;
	int64_t pause = sender->options->interval / 4;
	bool away = false;
	const char *why;

	if (pause > LOOK_MS)
		pause = LOOK_MS;
	while (task_sleep(pause) == 0) {
		why = send_all(sender, NULL, false, NULL);
		if (why != NULL && !away)
			log_warn(NULL, "dmarc-report: reports wait: %s", why);
		away = why != NULL;
	}
}

struct report_sender *
report_sender_new(const struct conf *conf, const char *hostname,
    struct notices *notices)
{
	const struct report_options *options = conf_get(conf,
	    report_section.name);
	struct report_sender *sender;

	if (options->email == NULL)
		return NULL;
	if ((sender = calloc(1, sizeof(*sender))) == NULL)
		fatal("out of memory (reports)");
	*sender = (struct report_sender){ .conf = conf, .options = options,
		.hostname = hostname, .notices = notices };
	return sender;
}

void
report_sender_start(struct report_sender *sender, struct queue *queue)
{
	sender->queue = queue;
	sender->task = task_start("dmarc-reports", look, sender);
}

void
report_sender_stop(struct report_sender *sender)
{
	if (sender != NULL)
		task_reap(&sender->task);
}

const char *
report_sender_force(struct report_sender *sender, const char *domain,
    struct buf *lines)
{
	const char *why = send_all(sender, domain, true, lines);

	if (why == NULL && lines->len == 0)
		return "there is nothing to report";
	return why;
}

static void
put_time(struct buf *lines, const char *what, const char *ms)
{
	time_t seconds = (time_t)(strtoll(ms, NULL, 10) / 1000);
	struct tm parts;
	char text[32];

	localtime_r(&seconds, &parts);
	strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
	buf_printf(lines, ", %s %s", what, text);
}

const char *
report_sender_list(struct report_sender *sender, struct buf *lines)
{
	const char *why = NULL;
	struct policy_client *client = policy_client_new(sender->conf, &why);
	struct buf answer = BUF_INIT;
	char *rest, *line, *f[3];

	if (client == NULL)
		return why;
	if (ask(client, "list", NULL, NULL, &answer, &why) == ANSWER_YES) {
		why = NULL;
		rest = answer.data;
		while ((line = strsep(&rest, "\n")) != NULL)
			if (split(line, f, 3) == 3) {
				buf_puts(lines, f[0]);
				put_time(lines, "from", f[1]);
				put_time(lines, "due", f[2]);
				buf_putc(lines, '\n');
			}
	}
	buf_release(&answer);
	policy_client_free(&client);
	return why;
}
