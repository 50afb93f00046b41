/*
 * Aggregate reports, and what the outbound guard has to say, from the claim to
 * the message in the spool.
 */
#include "gateway/report_send.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/sha.h>

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
#include "gateway/guard_mail.h"
#include "gateway/notice.h"
#include "gateway/queue.h"
#include "gateway/report.h"
#include "gateway/report_claim.h"
#include "gateway/report_ledger.h"
#include "policy/client.h"
#include "policy/guard.h"
#include "policy/protocol.h"
#include "policy/report.h"

#define ASK_MS		30000
#define DNS_MS		60000
#define LOOK_MS		60000		/* for what is due, at most */
#define WARNING_MS	2000		/* the same for a warning */
#define DAY_MS		INT64_C(86400000)
#define TO_MAX		10
#define PARTS_MAX	16
#define ID_BYTES	10		/* in hexadecimal digits */
#define LEDGER		"journal/reports-sent"	/* where the relay may write */

struct report_sender {
	const struct conf *conf;
	const struct report_options *options;
	const char *const *warned;	/* by the guard, NULL-ended; or NULL */
	const char *hostname;
	struct notices *notices;
	struct queue *queue;
	struct report_ledger *ledger;
	struct task *task;
	bool stopping;
};

/* One report, from the claim to the message. */
struct work {
	const struct report_sender *sender;
	struct arena *arena;
	struct report_claim claim;
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

/* --- what is said of it --- */

static void
say(const struct work *work, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
say(const struct work *work, const char *format, ...)
{
	struct buf text = BUF_INIT;
	va_list arguments;

	buf_printf(&text, "dmarc-report: domain=%s, id=%s, ", work->claim.domain,
	    work->claim.facts.report_id);
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
	switch (dmarc_external_check(&lookup, work->claim.domain, host, &external)) {
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
	const char *at = work->claim.rua, *end = at + strlen(at);
	bool late = clock_wall_ms() > work->claim.begin_ms +
	    work->sender->options->interval + DAY_MS;
	struct dmarc_uri uri;
	int rc, asked = 0;

	while ((rc = dmarc_uri_next(&at, end, &uri)) != 0 && asked++ < TO_MAX)
		if (rc == 1 && add_destination(work, &uri, size) != 0 && !late)
			return -1;
	return 0;
}

/* --- the message --- */

/* A report that is too large for one message goes in several. */
struct part {
	struct report_facts facts;
	struct buf gzip;
	const char *key;		/* in the ledger */
	char id[ENVELOPE_ID_SIZE];
	uint64_t messages;
	size_t rows;
};

/* The same whenever it is sent again, so that the queue knows it. */
static void
make_id(char id[ENVELOPE_ID_SIZE], const char *key)
{
	unsigned char hash[SHA256_DIGEST_LENGTH];

	SHA256((const unsigned char *)key, strlen(key), hash);
	for (size_t i = 0; i < ID_BYTES; i++)
		snprintf(id + 2 * i, 3, "%02X", hash[i]);
}

/* Number i of count parts; -1: *why. */
static int
part_make(struct work *work, struct part *part, size_t i, size_t count,
    const char **why)
{
	size_t from = work->claim.row_count * i / count;

	part->rows = work->claim.row_count * (i + 1) / count - from;
	part->facts = work->claim.facts;
	part->key = work->claim.key;
	part->messages = 0;
	if (count > 1) {
		/* RFC 9990, 3.5.2: several reports of a time, told apart. */
		part->facts.report_id = arena_printf(work->arena, "%sp%zuof%zu",
		    work->claim.facts.report_id, i + 1, count);
		part->key = arena_printf(work->arena, "%s %zu", work->claim.key,
		    i + 1);
	}
	make_id(part->id, part->key);
	for (size_t r = from; r < from + part->rows; r++)
		part->messages += work->claim.rows[r].count;
	buf_reset(&part->gzip);
	return report_xml(&part->facts, work->claim.rows + from, part->rows,
	    &part->gzip, why) == -1 ? -1 : 0;
}

/* As few parts as do.  Returns how many; 0: *why. */
static size_t
divide(struct work *work, struct part *parts, const char **why)
{
	size_t count, i;

	for (count = 1; count <= PARTS_MAX && count <= work->claim.row_count;
	    count *= 2) {
		for (i = 0; i < count; i++)
			if (part_make(work, &parts[i], i, count, why) != 0)
				break;
		if (i == count)
			return count;
	}
	return 0;
}

/* -1: *why. */
static int
enqueue(struct work *work, const char id[ENVELOPE_ID_SIZE], const char *from,
    const struct buf *text, const char **why)
{
	struct envelope envelope = { .arrived_ms = clock_wall_ms(),
		.sender = from != NULL ? from : "", .client = "internal" };
	const struct slice slice = { .fd = -1, .data = text->data,
		.len = text->len };

	memcpy(envelope.id, id, sizeof(envelope.id));
	for (size_t i = 0; i < work->to_count; i++)
		envelope_add_recipient(&envelope, work->arena, work->to[i]);
	return notices_send(work->sender->notices, &envelope, &slice, 1, why);
}

static int
commit(struct work *work, const struct part *part)
{
	const struct report_sender *sender = work->sender;
	const struct report_mail mail = { .submitter = sender->hostname,
		.to = work->to, .to_count = work->to_count,
		.now_ms = clock_wall_ms() };
	struct buf text = BUF_INIT;
	const char *why;
	int rc;

	rc = report_mail_print(&part->facts, &mail, part->gzip.data,
	    part->gzip.len, &text, &why);
	if (rc != 0) {
		say(work, "refused: %s", why);
		buf_release(&text);
		return 0;
	}
	rc = enqueue(work, part->id, sender->options->envelope_sender, &text,
	    &why);
	buf_release(&text);
	if (rc != 0) {
		say(work, "cannot store it: %s", why);
		return -1;
	}
	report_ledger_add(sender->ledger, part->key);
	for (size_t i = 0; i < work->to_count; i++)
		say(work, "to=<%s>, messages=%" PRIu64 ", rows=%zu, sent: %s",
		    work->to[i], part->messages, part->rows, part->id);
	queue_poll(sender->queue);
	return 0;
}

/* -1: it is to be tried again later, what went already excepted. */
static int
commit_all(struct work *work, const struct part *parts, size_t count)
{
	const struct report_sender *sender = work->sender;

	if (count > 1)
		say(work, "too large for one, goes in %zu parts", count);
	for (size_t i = 0; i < count; i++) {
		if (report_ledger_has(sender->ledger, parts[i].key) ||
		    queue_find(sender->queue, parts[i].id) != NULL)
			say(work, "sent before: %s", parts[i].id);
		else if (commit(work, &parts[i]) != 0)
			return -1;
	}
	report_ledger_add(sender->ledger, work->claim.key);
	return 0;
}

/* 0: there is no more to do with it; -1: somebody tries again later. */
static int
make(struct work *work)
{
	struct part parts[PARTS_MAX] = { 0 };
	size_t count, largest = 0;
	const char *why = "no rows";
	int rc = 0;

	if (report_ledger_has(work->sender->ledger, work->claim.key))
		return 0;
	count = divide(work, parts, &why);
	for (size_t i = 0; i < count; i++)
		if (parts[i].gzip.len > largest)
			largest = parts[i].gzip.len;
	if (count == 0)
		say(work, "refused: %s", why);
	else if (find_destinations(work, largest) != 0)
		rc = -1;
	else if (work->to_count == 0)
		say(work, "refused: nobody takes it");
	else
		rc = commit_all(work, parts, count);
	for (size_t i = 0; i < PARTS_MAX; i++)
		buf_release(&parts[i].gzip);
	return rc;
}

/* What the guard did, as make(). */
static int
make_warning(struct work *work, char *rows)
{
	const struct report_sender *sender = work->sender;
	char id[ENVELOPE_ID_SIZE];
	const struct guard_mail mail = { .hostname = sender->hostname,
		.to = sender->warned, .id = id, .now_ms = clock_wall_ms() };
	struct buf text = BUF_INIT;
	const char *why;
	int rc = 0;

	make_id(id, work->claim.key);
	if (sender->warned == NULL || report_ledger_has(sender->ledger,
	    work->claim.key) || queue_find(sender->queue, id) != NULL)
		return 0;
	while (work->to_count < TO_MAX &&
	    sender->warned[work->to_count] != NULL) {
		work->to[work->to_count] = sender->warned[work->to_count];
		work->to_count++;
	}
	if (guard_mail_print(&mail, rows, &text) > 0 &&
	    (rc = enqueue(work, id, NULL, &text, &why)) != 0)
		log_error(NULL, "guard: cannot store the mail of it: %s", why);
	buf_release(&text);
	if (rc != 0)
		return -1;
	report_ledger_add(sender->ledger, work->claim.key);
	log_info(NULL, "guard: told to=<%s>%s: %s", work->to[0],
	    work->to_count > 1 ? " and others" : "", id);
	queue_poll(sender->queue);
	return 0;
}

/* Tells the store, and forgets it when the store knows.  UNKNOWN: *why. */
static enum answer
tell_done(const struct report_sender *sender, struct policy_client *client,
    const char *key, const char **why)
{
	struct buf answer = BUF_INIT;
	/* The ledger's own may go while we wait. */
	char *copy = strdup(key), *domain = strdup(key);
	size_t len = strcspn(key, " ");
	enum answer result;

	if (copy == NULL || domain == NULL)
		fatal("out of memory (reports)");
	domain[len] = '\0';
	result = ask(client, "done", domain, copy + len + 1, &answer, why);
	if (result != ANSWER_UNKNOWN)
		report_ledger_remove(sender->ledger, copy);
	free(domain);
	free(copy);
	buf_release(&answer);
	return result;
}

/* Claims and sends one.  YES; NO: there is none; UNKNOWN: *why. */
static enum answer
send_one(const struct report_sender *sender, struct policy_client *client,
    const char *domain, bool now, struct buf *lines, const char **why)
{
	struct work work = { .sender = sender, .lines = lines,
		.arena = arena_new(0) };
	struct buf text = BUF_INIT;
	char *rows = NULL;
	enum answer result;

	result = ask(client, "claim", domain, now ? "now" : "", &text, why);
	if (result == ANSWER_YES)
		work.claim.key = guard_mail_claim(work.arena, text.data, &rows);
	if (result == ANSWER_YES && rows == NULL && (sender->options->email ==
	    NULL || report_claim_parse(&work.claim, work.arena,
	    sender->options, sender->hostname, text.data) != 0)) {
		*why = "a claim makes no sense";
		result = ANSWER_UNKNOWN;
	}
	if (result == ANSWER_YES && (rows != NULL ? make_warning(&work, rows) :
	    make(&work)) == 0 && tell_done(sender, client, work.claim.key,
	    why) == ANSWER_UNKNOWN)
		result = ANSWER_UNKNOWN;
	buf_release(&text);
	arena_free(&work.arena);
	return result;
}

/* What the store was not there to hear.  UNKNOWN: it still is not. */
static enum answer
catch_up(const struct report_sender *sender, struct policy_client *client,
    const char **why)
{
	const char *key;
	int blanks;

	for (size_t i = 0; (key = report_ledger_at(sender->ledger, i)) != NULL;
	    i++) {
		blanks = 0;
		for (const char *p = key; *p != '\0'; p++)
			blanks += *p == ' ';
		/* Three words: all of it. */
		if (blanks != 2)
			continue;
		if (tell_done(sender, client, key, why) == ANSWER_UNKNOWN)
			return ANSWER_UNKNOWN;
		i = SIZE_MAX;		/* the ledger has changed */
	}
	return ANSWER_YES;
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
	result = catch_up(sender, client, &why);
	while (result == ANSWER_YES && !sender->stopping)
		result = send_one(sender, client, domain, now, lines, &why);
	policy_client_free(&client);
	if (result == ANSWER_YES)
		return "the relay stops";
	return result == ANSWER_NO ? NULL : why;
}

static void
look(void *argument)
{
	struct report_sender *sender = argument;
	int64_t later = sender->options->interval / 4, pause;
	const char *subject = sender->options->email != NULL ? NULL :
	    GUARD_TALLY, *why;
	bool away = false;

	if (later > LOOK_MS)
		later = LOOK_MS;
	if (sender->warned != NULL && later > WARNING_MS)
		later = WARNING_MS;
	pause = later;
	/* What we sent before we died the store hears at once. */
	if (report_ledger_at(sender->ledger, 0) != NULL)
		pause = 0;
	while (task_sleep(pause) == 0) {
		pause = later;
		why = send_all(sender, subject, false, NULL);
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
	const struct guard_options *guard = conf_knows(conf,
	    guard_section.name) ? conf_get(conf, guard_section.name) : NULL;
	bool warns = guard != NULL && guard->notify[0] != NULL;
	struct report_sender *sender;

	if (options->email == NULL && !warns)
		return NULL;
	if ((sender = calloc(1, sizeof(*sender))) == NULL)
		fatal("out of memory (reports)");
	*sender = (struct report_sender){ .conf = conf, .options = options,
		.warned = warns ? guard->notify : NULL, .hostname = hostname,
		.notices = notices };
	return sender;
}

void
report_sender_start(struct report_sender *sender, struct queue *queue,
    const char *spool_directory)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" LEDGER, spool_directory);
	sender->ledger = report_ledger_open(path);
	sender->queue = queue;
	sender->task = task_start("dmarc-reports", look, sender);
}

void
report_sender_stop(struct report_sender *sender)
{
	if (sender == NULL)
		return;
	sender->stopping = true;
	task_reap(&sender->task);
}

void
report_sender_free(struct report_sender **senderp)
{
	struct report_sender *sender = *senderp;

	*senderp = NULL;
	if (sender == NULL)
		return;
	report_sender_stop(sender);
	report_ledger_free(&sender->ledger);
	free(sender);
}

bool
report_sender_reports(const struct report_sender *sender)
{
	return sender != NULL && sender->options->email != NULL;
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
			if (report_claim_split(line, f, 3) == 3 &&
			    strcmp(f[0], GUARD_TALLY) != 0) {
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
