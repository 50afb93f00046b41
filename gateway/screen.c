/* Screening in a gateway. */
#include "gateway/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/log.h"
#include "base/task.h"
#include "filters/policy_link.h"
#include "filters/policy_request.h"
#include "gateway/client_key.h"
#include "gateway/smtp_session.h"
#include "policy/protocol.h"
#include "policy/screen.h"
#include "policy/service.h"

#define ASK_MS		4000		/* longer, and it waits no more */
#define KNOWN_MS	5000		/* so long nobody asks again */
#define KNOWN_MAX	4096
#define SLOW_OFFENCES	10		/* from which on a session is slow */

enum known { KNOWN_NOT, KNOWN_PASSED, KNOWN_BANNED, KNOWN_UNWELCOME };

struct known_client {
	struct client_key key;
	enum known what;
	int64_t until;
};

struct screen {
	const struct screen_options *options;
	struct policy_link *link;
	struct known_client known[KNOWN_MAX];	/* by hash */
	int64_t tarpitted;		/* sessions, now */
};

static const struct smtp_refusal refusals[] = {
	[KNOWN_BANNED] = { 421, "4.7.1",
	    "Too many errors from your network, try again later", "banned" },
	[KNOWN_UNWELCOME] = { 554, "5.7.1",
	    "Your network is not welcome here", "banned" },
};

struct screen *
screen_new(const struct conf *conf, const char **why)
{
	struct screen *screen;

	if ((screen = calloc(1, sizeof(*screen))) == NULL)
		fatal("out of memory (screen)");
	screen->options = conf_get(conf, screen_section.name);
	screen->link = policy_link_new(conf, screen_section.name, why);
	if (screen->link != NULL)
		return screen;
	free(screen);
	return NULL;
}

void
screen_free(struct screen **screenp)
{
	struct screen *screen = *screenp;

	*screenp = NULL;
	if (screen == NULL)
		return;
	policy_link_free(&screen->link);
	free(screen);
}

/* --- what is known for a moment --- */

static enum known
recall(const struct screen *screen, const struct sockaddr_storage *client)
{
	const struct known_client *known;
	struct client_key key;

	if (!client_key_make(&key, client))
		return KNOWN_NOT;
	known = &screen->known[client_key_hash(&key) % KNOWN_MAX];
	return client_key_equal(&known->key, &key) &&
	    task_now() < known->until ? known->what : KNOWN_NOT;
}

static void
remember(struct screen *screen, const struct sockaddr_storage *client,
    enum known what)
{
	struct client_key key;

	if (client_key_make(&key, client))
		screen->known[client_key_hash(&key) % KNOWN_MAX] =
		    (struct known_client){ key, what,
		    task_deadline(KNOWN_MS) };
}

const char *
screen_banned(const struct screen *screen,
    const struct sockaddr_storage *client)
{
	switch (recall(screen, client)) {
	case KNOWN_BANNED:
		return "421 4.7.1 Too many errors from your network, try "
		    "again later [banned]\r\n";
	case KNOWN_UNWELCOME:
		return "554 5.7.1 Your network is not welcome here "
		    "[banned]\r\n";
	case KNOWN_NOT:
	case KNOWN_PASSED:
		break;
	}
	return NULL;
}

/* --- a session begins --- */

static int
ask(struct smtp_session *s, struct policy_action *action)
{
	struct filter_run run = { .session = &s->peer };
	struct buf request = BUF_INIT;
	const char *why;
	int rc;

	policy_put(&request, POLICY_REQUEST, "smtpd_access_policy");
	policy_put(&request, POLICY_SERVICE, screen_section.name);
	policy_request_of(&request, &run, NULL, POLICY_AT_CONNECT);
	rc = policy_link_ask(s->server->screen->link, &request,
	    smtp_session_deadline(s, ASK_MS), action, &why);
	buf_release(&request);
	return rc;
}

static void
slow_down(struct smtp_session *s)
{
	struct screen *screen = s->server->screen;

	if (s->tarpit || screen->options->tarpit == 0 ||
	    screen->tarpitted >= screen->options->max_tarpit)
		return;
	s->tarpit = true;
	screen->tarpitted++;
}

static bool
refuse_banned(struct smtp_session *s, const struct policy_action *action)
{
	enum known what = action->verb == POLICY_REJECT ? KNOWN_UNWELCOME :
	    KNOWN_BANNED;

	remember(s->server->screen, &s->peer.client, what);
	s->screened = false;		/* it can add nothing to that */
	smtp_refuse(s, "CONNECT", NULL, &refusals[what]);
	s->closing = true;
	return false;
}

/*
 * The refusal waits for recipients, so that the log shows who is concerned, and
 * users can log in from wherever they are.
 */
static void
hold_refusal(struct smtp_session *s, const struct policy_action *action)
{
	struct arena *arena = s->peer.arena;

	s->screen_verdict = (struct verdict){
		.action = action->verb == POLICY_REJECT ? ACTION_REJECT :
		    ACTION_TEMPFAIL,
		.code = action->code,
		.enhanced = arena_strdup(arena, action->enhanced),
		.text = arena_strdup(arena, action->text),
		.reason = arena_strdup(arena, action->reason),
	};
	slow_down(s);
}

bool
screen_begin(struct smtp_session *s)
{
	struct screen *screen = s->server->screen;
	struct policy_action action;

	if (!s->listener->options->screen || s->trusted == ANSWER_YES)
		return true;
	s->screened = true;
	if (recall(screen, &s->peer.client) == KNOWN_PASSED) {
		s->passed = true;
		return true;
	}
	s->greet_wait = task_deadline(screen->options->greet_wait);
	if (ask(s, &action) != 0)
		return true;
	if (action.verb == POLICY_PASS) {
		remember(screen, &s->peer.client, KNOWN_PASSED);
		s->greet_wait = 0;
	}
	if (action.verb != POLICY_REJECT && action.verb != POLICY_DEFER)
		return true;
	if (strcmp(action.reason, "banned") == 0)
		return refuse_banned(s, &action);
	hold_refusal(s, &action);
	return true;
}

/* --- on its way, and when it ends --- */

void
screen_note_refusal(struct smtp_session *s, const char *enhanced)
{
	/* RFC 3463, 3: the second number says what it is about. */
	char subject = enhanced != NULL && strlen(enhanced) > 2 ? enhanced[2] :
	    '5';

	if (subject == '1' || subject == '2')
		s->unknown++;
	else if (strchr("346", subject) == NULL)
		s->offences++;
}

static uint32_t
count_offences(const struct smtp_session *s)
{
	uint32_t excused = s->accepted + 1;

	return s->offences + (s->unknown > excused ? s->unknown - excused : 0);
}

void
screen_delay(struct smtp_session *s)
{
	if (s->screened && s->peer.user == NULL &&
	    count_offences(s) >= SLOW_OFFENCES)
		slow_down(s);
	if (!s->tarpit || s->closing || s->peer.user != NULL)
		return;
	s->waiting = true;
	(void)task_sleep(s->server->screen->options->tarpit);
	s->waiting = false;
}

static void
report(struct smtp_session *s, enum policy_outcome_kind kind,
    const char *results)
{
	struct filter_run run = { .session = &s->peer };
	struct buf request = BUF_INIT;

	policy_put(&request, POLICY_REQUEST, POLICY_REQUEST_OUTCOME);
	policy_put(&request, POLICY_SERVICE, screen_section.name);
	policy_put(&request, POLICY_OUTCOME, policy_outcome_name(kind));
	policy_put(&request, POLICY_EVENT, s->peer.log.id);
	policy_put(&request, POLICY_RESULTS, results);
	policy_request_of(&request, &run, NULL, POLICY_AT_CONNECT);
	policy_link_tell(s->server->screen->link, &request);
	buf_release(&request);
}

void
screen_end(struct smtp_session *s)
{
	uint32_t offences = count_offences(s);
	char results[64];

	if (s->tarpit)
		s->server->screen->tarpitted--;
	if (!s->screened || s->peer.user != NULL)
		return;
	if (offences > 0) {
		snprintf(results, sizeof(results), SCREEN_OFFENCES "%u%s",
		    offences, s->early ? " " SCREEN_EARLY_TALK : "");
		report(s, OUTCOME_REFUSED, results);
	} else if (s->accepted > 0 && !s->passed) {
		report(s, OUTCOME_ACCEPTED, NULL);
	}
}
