/* Mail of our own, on its way through the signing filters to the spool. */
#include "gateway/notice.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/chain.h"
#include "filters/mail.h"
#include "gateway/spool.h"

#define PAUSE_MS 250
#define IMPATIENT_MS 60000
#define MESSAGE_MS 120000

struct notices {
	struct notices_settings settings;
	struct chain_plan *plan;	/* NULL: no filter */
	struct spool *spool;
	int64_t impatient_until;	/* a host was waited for in vain */
	struct counter *unsigned_total;
};

static const struct counter_row counters[] = {
	{ "millgate_notices_unsigned_total", COUNTER_TOTAL,
	    "Messages of our own sent unsigned, since a host was away." },
};
COUNTER_TABLE(counters)

static int
plan_make(struct notices *notices, const char **why)
{
	const struct conf_section *sections;
	const char **names;
	size_t count;

	sections = conf_sections(notices->settings.conf, "dkim_sign", &count);
	if (count == 0)
		return 0;
	if ((names = calloc(count + 1, sizeof(*names))) == NULL)
		fatal("out of memory");
	for (size_t i = 0; i < count; i++)
		names[i] = sections[i].title;
	notices->plan = chain_plan_new(notices->settings.conf,
	    notices->settings.host_directory, names, why);
	free(names);
	return notices->plan == NULL ? -1 : 0;
}

struct notices *
notices_new(const struct notices_settings *settings, const char **why)
{
	struct notices *notices = calloc(1, sizeof(*notices));

	if (notices == NULL)
		fatal("out of memory");
	notices->settings = *settings;
	if (settings->patience_ms == 0)
		notices->settings.patience_ms = NOTICE_PATIENCE_MS;
	notices->unsigned_total = counter_get(
	    "millgate_notices_unsigned_total", NULL);
	if (plan_make(notices, why) == -1)
		notices_free(&notices);
	return notices;
}

void
notices_free(struct notices **noticesp)
{
	struct notices *notices = *noticesp;

	*noticesp = NULL;
	if (notices == NULL)
		return;
	chain_plan_free(&notices->plan);
	free(notices);
}

void
notices_set_spool(struct notices *notices, struct spool *spool)
{
	notices->spool = spool;
}

/* Ourselves, by the loopback. */
static void
session_begin(struct session *session, const struct notices *notices,
    const struct envelope *envelope)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&session->client;

	session->arena = arena_new(0);
	snprintf(session->log.id, sizeof(session->log.id), "%s",
	    envelope->id);
	session->hostname = notices->settings.hostname;
	session->listener = "notice";
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	session->client_address = "127.0.0.1";
	session->client_name = "localhost";
	session->helo = notices->settings.hostname;
	session->esmtp = true;
	session->trusted = true;
}

/* -1: a filter or we have no memory for the body. */
static int
mail_fill(struct mail *mail, const struct envelope *envelope,
    const struct slice *content, size_t count)
{
	size_t len = 0, used;
	char *bytes;

	for (size_t i = 0; i < count; i++)
		len += content[i].len;
	bytes = arena_alloc(mail->arena, len + 1);
	len = 0;
	for (size_t i = 0; i < count; i++) {
		memcpy(bytes + len, content[i].data, content[i].len);
		len += content[i].len;
	}
	mail->envelope = *envelope;
	snprintf(mail->log.id, sizeof(mail->log.id), "%s", envelope->id);
	mail->received_size = len;
	mail->deadline = task_deadline(MESSAGE_MS);
	used = headers_parse(&mail->headers, mail->arena, bytes, len);
	if (len - used >= 2 && memcmp(bytes + used, "\r\n", 2) == 0)
		used += 2;
	return body_append(mail->body, bytes + used, len - used);
}

/* All of a session; the verdict of the first event that has one. */
static struct verdict
pass_through(struct chain *chain, struct mail *mail)
{
	struct verdict v = chain_connect(chain);

	if (v.action == ACTION_CONTINUE)
		v = chain_helo(chain);
	if (v.action == ACTION_CONTINUE)
		v = chain_mail(chain, mail);
	for (struct recipient *r = mail->envelope.recipients; r != NULL &&
	    v.action == ACTION_CONTINUE; r = r->next)
		v = chain_rcpt(chain, r);
	if (v.action == ACTION_CONTINUE)
		v = chain_data(chain);
	if (v.action != ACTION_CONTINUE)
		return v;
	mail->stage = MAIL_STAGE_BODY;
	chain_header_done(chain);
	chain_body_grown(chain);
	mail->stage = MAIL_STAGE_COMPLETE;
	return chain_eom(chain);
}

static int
commit(const struct notices *notices, const struct envelope *envelope,
    const struct slice *content, size_t count, const char **why)
{
	if (notices->spool != NULL)
		return spool_commit(notices->spool, envelope, content, count,
		    why);
	*why = "there is no spool for it";
	return -1;
}

/* 0: it is sent; 1: a filter could not do its work; -1: *why. */
static int
filter_and_send(struct notices *notices, const struct envelope *envelope,
    const struct slice *content, size_t count, const char **why)
{
	struct session session = { .arena = NULL };
	struct verdict v = { .action = ACTION_TEMPFAIL };
	struct chain *chain;
	struct mail *mail;
	struct slice *slices;
	size_t n, size;
	int rc = 1;

	session_begin(&session, notices, envelope);
	chain = chain_new(notices->plan, &session);
	mail = mail_new(&session, SIZE_MAX, "/");
	if (mail_fill(mail, envelope, content, count) == 0)
		v = pass_through(chain, mail);
	if (v.action == ACTION_CONTINUE || v.action == ACTION_ACCEPT) {
		slices = mail_slices(mail, &n, &size);
		rc = commit(notices, &mail->envelope, slices, n, why);
	} else {
		chain_abort(chain);
	}
	chain_free(&chain);
	mail_free(&mail);
	arena_free(&session.arena);
	return rc;
}

/* Until the patience ends; what filter_and_send() said last. */
static int
try_to_sign(struct notices *notices, const struct envelope *envelope,
    const struct slice *content, size_t count, const char **why)
{
	int64_t end = task_now() + notices->settings.patience_ms;
	int rc;

	if (task_now() < notices->impatient_until)
		end = task_now();
	while ((rc = filter_and_send(notices, envelope, content, count,
	    why)) == 1 && task_now() < end) {
		if (task_sleep(PAUSE_MS) == 0)
			continue;
		/* We are to end: after the next start there is time. */
		*why = "its signature was waited for";
		return -1;
	}
	if (rc == 1 && task_now() >= notices->impatient_until)
		notices->impatient_until = task_now() + IMPATIENT_MS;
	else if (rc == 0)
		notices->impatient_until = 0;
	return rc;
}

int
notices_send(struct notices *notices, const struct envelope *envelope,
    const struct slice *content, size_t count, const char **why)
{
	struct log log;
	int rc;

	if (notices->plan == NULL)
		return commit(notices, envelope, content, count, why);
	rc = try_to_sign(notices, envelope, content, count, why);
	if (rc != 1)
		return rc;
	snprintf(log.id, sizeof(log.id), "%s", envelope->id);
	log_warn(&log, "sent unsigned: a filter host is away");
	counter_add(notices->unsigned_total, 1);
	return commit(notices, envelope, content, count, why);
}
