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

#define PAUSE_MS 250		/* between attempts */
#define PROBE_MS 1000		/* for one with a host that was away */

/* A section dkim_sign: asked alone, so that none depends on another's host. */
struct signer {
	const char *title;
	struct chain_plan *plan;
	int64_t patience_ends;		/* 0: it answers */
};

struct notices {
	struct notices_settings settings;
	struct signer *signers;
	size_t signer_count;
	struct spool *spool;
	struct counter *unsigned_total;
};

/* A message on its way through the signers. */
struct notice {
	struct notices *notices;
	const struct envelope *envelope;
	struct slice *content;
	size_t count;
	bool *done;			/* by signer */
	struct arena *arena;
};

static const struct counter_row counters[] = {
	{ "millgate_notices_unsigned_total", COUNTER_TOTAL,
	    "Messages of our own sent without a signature, since its host "
	    "was away." },
};
COUNTER_TABLE(counters)

static int
signers_make(struct notices *notices, const char **why)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(notices->settings.conf, "dkim_sign", &count);
	notices->signers = calloc(count + 1, sizeof(*notices->signers));
	if (notices->signers == NULL)
		fatal("out of memory");
	for (size_t i = 0; i < count; i++) {
		struct signer *signer = &notices->signers[i];
		const char *const names[] = { sections[i].title, NULL };

		signer->title = sections[i].title;
		signer->plan = chain_plan_new(notices->settings.conf,
		    notices->settings.host_directory, names, why);
		if (signer->plan == NULL)
			return -1;
		notices->signer_count++;
	}
	return 0;
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
	if (signers_make(notices, why) == -1)
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
	for (size_t i = 0; i < notices->signer_count; i++)
		chain_plan_free(&notices->signers[i].plan);
	free(notices->signers);
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

/* One attempt, as a task that can be cut short. */
struct attempt {
	struct notice *notice;
	const struct signer *signer;
	int64_t deadline;
	bool worked;
};

/* What the filter made of the message is the message from now on. */
static void
keep(struct notice *notice, struct mail *mail)
{
	struct slice *slices;
	size_t count, size, at = 0;
	char *bytes;

	slices = mail_slices(mail, &count, &size);
	bytes = arena_alloc(notice->arena, size + 1);
	for (size_t i = 0; i < count; at += slices[i++].len)
		memcpy(bytes + at, slices[i].data, slices[i].len);
	notice->content = arena_alloc(notice->arena, sizeof(struct slice));
	*notice->content = (struct slice){ .data = bytes, .fd = -1,
	    .len = size };
	notice->count = 1;
}

static void
attempt_run(void *argument)
{
	struct attempt *attempt = argument;
	struct notice *notice = attempt->notice;
	struct session session = { .arena = NULL };
	struct verdict v = { .action = ACTION_TEMPFAIL };
	struct chain *chain;
	struct mail *mail;

	session_begin(&session, notice->notices, notice->envelope);
	chain = chain_new(attempt->signer->plan, &session);
	mail = mail_new(&session, SIZE_MAX, "/");
	mail->deadline = attempt->deadline;
	if (mail_fill(mail, notice->envelope, notice->content,
	    notice->count) == 0)
		v = pass_through(chain, mail);
	if (v.action == ACTION_CONTINUE || v.action == ACTION_ACCEPT) {
		keep(notice, mail);
		attempt->worked = true;
	} else {
		chain_abort(chain);
	}
	chain_free(&chain);
	mail_free(&mail);
	arena_free(&session.arena);
}

/*
 * All wait until the same moment, which is that of the first in vain: an outage
 * holds up who sends by the patience once, however long it is.
 */
static bool
sign(struct notice *notice, struct signer *signer)
{
	int64_t soon = task_deadline(PROBE_MS);
	int64_t end = signer->patience_ends != 0 ? signer->patience_ends :
	    task_deadline(notice->notices->settings.patience_ms);
	struct attempt attempt = { .notice = notice, .signer = signer,
	    .deadline = end > soon ? end : soon };
	struct task *task = task_start("notice", attempt_run, &attempt);

	/* One that hangs instead of being away does not heed the deadline. */
	if (task_join(&task, attempt.deadline) == -1)
		task_reap(&task);
	if (attempt.worked)
		signer->patience_ends = 0;
	else if (signer->patience_ends == 0)
		signer->patience_ends = end;
	return attempt.worked;
}

/* Whether one of those that did not sign may still be waited for. */
static bool
sign_all(struct notice *notice)
{
	struct notices *notices = notice->notices;
	bool hope = false;

	for (size_t i = 0; i < notices->signer_count; i++) {
		struct signer *signer = &notices->signers[i];

		if (notice->done[i])
			continue;
		notice->done[i] = sign(notice, signer);
		hope |= !notice->done[i] && task_now() < signer->patience_ends;
	}
	return hope;
}

static int
commit(const struct notice *notice, const char **why)
{
	struct notices *notices = notice->notices;
	bool all = true;
	struct log log;

	if (notices->spool == NULL) {
		*why = "there is no spool for it";
		return -1;
	}
	snprintf(log.id, sizeof(log.id), "%s", notice->envelope->id);
	for (size_t i = 0; i < notices->signer_count; i++) {
		if (notice->done[i])
			continue;
		log_warn(&log, "sent without asking dkim_sign \"%s\": its "
		    "filter host is away", notices->signers[i].title);
		all = false;
	}
	if (!all)
		counter_add(notices->unsigned_total, 1);
	return spool_commit(notices->spool, notice->envelope, notice->content,
	    notice->count, why);
}

int
notices_send(struct notices *notices, const struct envelope *envelope,
    const struct slice *content, size_t count, const char **why)
{
	struct notice notice = { .notices = notices, .envelope = envelope,
	    .count = count, .arena = arena_new(0) };
	int rc = 0;

	notice.content = arena_memdup(notice.arena, content,
	    count * sizeof(*content));
	notice.done = arena_alloc(notice.arena, notices->signer_count + 1);
	while (rc == 0 && sign_all(&notice))
		rc = task_sleep(PAUSE_MS);
	/* If we are to end: after the next start there is time. */
	*why = "its signature was waited for";
	if (rc == 0)
		rc = commit(&notice, why);
	arena_free(&notice.arena);
	return rc;
}
