/* The services of the policy process as filters. */
#include "filters/policy.h"

#include <ctype.h>
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
#include "filters/trace.h"
#include "policy/access_list.h"
#include "policy/concurrency.h"
#include "policy/correspondents.h"
#include "policy/dnsbl.h"
#include "policy/greylist.h"
#include "policy/guard.h"
#include "policy/limit.h"
#include "policy/policy.h"
#include "policy/profile.h"
#include "policy/protocol.h"
#include "policy/recipient_check.h"
#include "policy/reputation.h"

#define ANSWER_MS	1000		/* unless a service takes longer */

struct instance {
	struct policy_link *link;
	const char *name;		/* of the service; NULL: a profile's */
	const char *profile;		/* or NULL: the default */
	struct buf services;		/* all that it asks, parted by tabs */
	char method[40];		/* "x-greylist" */
	unsigned states;
	bool strangers_only, learns;
	int64_t answer_ms;		/* of the slowest service */
};

/* What the service knows of the message that is under way. */
struct asked {
	bool any;
	bool noted;			/* with the message */
};

static void
add_service(struct instance *instance, const struct policy_service *service,
    const struct conf_section *section)
{
	instance->states |= service->filter_states != NULL ?
	    service->filter_states(section) : service->states;
	instance->learns |= service->outcome != NULL;
	buf_printf(&instance->services, "%s%s", instance->services.len > 0 ?
	    "\t" : "", section->title != NULL ? section->title :
	    section->kind->name);
	instance->strangers_only &= service->strangers_only;
	if (service->answer_ms > instance->answer_ms)
		instance->answer_ms = service->answer_ms;
}

static void
add_services(struct instance *instance, const struct conf *conf,
    const char *const *names)
{
	const struct conf_section *section;
	const struct policy_service *service;
	const char *why;

	for (; *names != NULL; names++)
		if ((service = profile_service(conf, *names, &section,
		    &why)) != NULL)
			add_service(instance, service, section);
}

static void
set_method(struct instance *instance, const char *kind)
{
	snprintf(instance->method, sizeof(instance->method), "x-%s", kind);
	for (char *c = instance->method; *c != '\0'; c++)
		if (*c == '_')
			*c = '-';
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    const char **why)
{
	const char *kind = section->kind->name;
	const struct policy_service *service =
	    policy_service_find(section->kind);
	struct instance *instance = calloc(1, sizeof(*instance));

	if (instance == NULL)
		fatal("out of memory (policy filter)");
	instance->strangers_only = true;
	instance->answer_ms = ANSWER_MS;
	set_method(instance, kind);
	if (service != NULL) {
		instance->name = section->title != NULL ? section->title :
		    kind;
		add_service(instance, service, section);
	} else if (section->title != NULL) {
		instance->profile = section->title;
		add_services(instance, conf, ((const struct profile_options *)
		    section->values)->services);
	} else {
		add_services(instance, conf, ((const struct policy_options *)
		    section->values)->services);
	}
	instance->link = policy_link_new(conf, section->title != NULL ?
	    section->title : kind, why);
	if (instance->link != NULL)
		return instance;
	buf_release(&instance->services);
	free(instance);
	return NULL;
}

static void
release(void *argument)
{
	struct instance *instance = argument;

	policy_link_free(&instance->link);
	buf_release(&instance->services);
	free(instance);
}

static void
put_addressee(struct buf *out, const struct instance *instance)
{
	if (instance->name != NULL)
		policy_put(out, POLICY_SERVICE, instance->name);
	if (instance->profile != NULL)
		policy_put(out, POLICY_POLICY_CONTEXT, instance->profile);
}

/* --- what it wants --- */

/*
 * As rules see it (RFC 8601's words where there are some): "pass" is said of
 * whom a service vouches for, which counts more than that another time, of the
 * same message, it had nothing to say.
 */
static const char *
word(const struct policy_action *action)
{
	static const char *const words[] = {
		[POLICY_DUNNO] = "none", [POLICY_PASS] = "pass",
		[POLICY_DEFER] = "defer", [POLICY_REJECT] = "reject",
		[POLICY_HOLD] = "hold", [POLICY_OTHER] = "none",
	};

	/* It would have done something, were it not told to warn only. */
	if (action->verb == POLICY_DUNNO && action->reason[0] != '\0')
		return "warn";
	return words[action->verb];
}

static struct verdict
verdict_of(struct arena *arena, const struct instance *instance,
    const struct policy_action *action)
{
	bool defer = action->verb == POLICY_DEFER;
	struct verdict verdict = VERDICT_CONTINUE;

	verdict.reason = arena_strdup(arena, action->reason[0] != '\0' ?
	    action->reason : instance->method + 2);
	if (action->verb == POLICY_HOLD) {
		verdict.hold = arena_strdup(arena, action->text[0] != '\0' ?
		    action->text : verdict.reason);
		return verdict;
	}
	if (!defer && action->verb != POLICY_REJECT)
		return VERDICT_CONTINUE;
	verdict.action = defer ? ACTION_TEMPFAIL : ACTION_REJECT;
	verdict.code = action->code != 0 ? action->code : defer ? 451 : 550;
	verdict.enhanced = action->enhanced[0] != '\0' ?
	    arena_strdup(arena, action->enhanced) : defer ? "4.7.1" : "5.7.1";
	verdict.text = arena_strdup(arena, action->text);
	return verdict;
}

static void
add_finding(struct filter_run *run, const struct recipient *recipient,
    const struct policy_action *action)
{
	const struct instance *instance = run->instance;
	struct finding *finding;

	finding = finding_add(run, instance->method, word(action),
	    action->text[0] != '\0' ? action->text : NULL);
	finding->report = false;
	if (recipient != NULL)
		finding_property(run, finding, "smtp", "rcptto",
		    recipient->address);
	if (action->score[0] != '\0')
		finding_property(run, finding, "policy", "score",
		    action->score);
	trace_add(run->mail->trace, run->name, "%s%s%s%s %s",
	    recipient != NULL ? "<" : "", recipient != NULL ?
	    recipient->address : "", recipient != NULL ? ">: " : "",
	    word(action), action->text);
}

static struct verdict
act(struct filter_run *run, struct recipient *recipient,
    const struct policy_action *action)
{
	if (run->mail != NULL)
		add_finding(run, recipient, action);
	if (action->verb != POLICY_PASS)
		return verdict_of(run->mail != NULL ? run->mail->arena :
		    run->session->arena, run->instance, action);
	if (recipient != NULL)
		recipient->welcome = true;
	else if (run->mail != NULL)
		run->mail->welcome = true;
	else
		run->session->welcome = true;
	return VERDICT_CONTINUE;
}

/* --- events --- */

static bool
is_wanted(const struct filter_run *run, const struct recipient *recipient,
    enum policy_state state)
{
	const struct instance *instance = run->instance;
	const struct session *session = run->session;

	if ((instance->states & state) == 0 || session->welcome ||
	    (run->mail != NULL && run->mail->welcome) ||
	    (recipient != NULL && recipient->welcome))
		return false;
	return !instance->strangers_only ||
	    (!session->trusted && session->user == NULL);
}

/* Who was asked about a message is told what became of it. */
static void
note_asked(struct filter_run *run)
{
	const struct instance *instance = run->instance;
	struct asked *asked = run->mail_state;
	struct mail *mail = run->mail;

	if ((instance->states & POLICY_AT_CLOSE) != 0)
		run->state = run->instance;	/* and when the session ends */
	if (mail == NULL || asked == NULL || asked->noted)
		return;
	asked->noted = true;
	mail->asked = arena_printf(mail->arena, "%s%s%s", mail->asked != NULL ?
	    mail->asked : "", mail->asked != NULL ? "\t" : "",
	    instance->services.data);
}

static struct verdict
ask(struct filter_run *run, struct recipient *recipient,
    enum policy_state state)
{
	struct instance *instance = run->instance;
	struct policy_action action;
	int64_t deadline = task_deadline(instance->answer_ms);
	struct buf request = BUF_INIT;
	const char *why;
	int rc;

	if (!is_wanted(run, recipient, state))
		return VERDICT_CONTINUE;
	note_asked(run);
	policy_put(&request, POLICY_REQUEST, "smtpd_access_policy");
	put_addressee(&request, instance);
	policy_request_of(&request, run, recipient, state);
	if (run->mail != NULL && run->mail->deadline < deadline)
		deadline = run->mail->deadline;
	rc = policy_link_ask(instance->link, &request, deadline, &action,
	    &why);
	buf_release(&request);
	if (rc == 0)
		return act(run, recipient, &action);
	if (run->mail != NULL)
		trace_add(run->mail->trace, run->name, "%s%s%sno answer: %s",
		    recipient != NULL ? "<" : "", recipient != NULL ?
		    recipient->address : "", recipient != NULL ? ">: " : "",
		    why);
	return VERDICT_CONTINUE;
}

static struct verdict
on_connect(struct filter_run *run)
{
	return ask(run, NULL, POLICY_AT_CONNECT);
}

static struct verdict
on_helo(struct filter_run *run)
{
	return ask(run, NULL, POLICY_AT_HELO);
}

static struct verdict
on_mail(struct filter_run *run)
{
	struct asked *asked = arena_alloc(run->mail->arena, sizeof(*asked));

	*asked = (struct asked){ false, false };
	run->mail_state = asked;
	return ask(run, NULL, POLICY_AT_MAIL);
}

static struct verdict
on_rcpt(struct filter_run *run, struct recipient *recipient)
{
	struct asked *asked = run->mail_state;

	if (asked != NULL)
		asked->any = true;
	return ask(run, recipient, POLICY_AT_RCPT);
}

static struct verdict
on_data(struct filter_run *run)
{
	return ask(run, NULL, POLICY_AT_DATA);
}

static struct verdict
on_eom(struct filter_run *run)
{
	return ask(run, NULL, POLICY_AT_END);
}

/* --- what became of it --- */

static void
tell(struct filter_run *run, enum policy_outcome_kind kind, const char *event)
{
	struct instance *instance = run->instance;
	struct buf request = BUF_INIT;

	policy_put(&request, POLICY_REQUEST, POLICY_REQUEST_OUTCOME);
	policy_put(&request, POLICY_OUTCOME, policy_outcome_name(kind));
	policy_put(&request, POLICY_EVENT, event);
	policy_put(&request, POLICY_ASKED, run->mail == NULL ?
	    instance->services.data : run->mail->asked != NULL ?
	    run->mail->asked : "\t");
	policy_request_of(&request, run, NULL, POLICY_AT_END);
	policy_link_tell(instance->link, &request);
	buf_release(&request);
}

/* One of the filters tells for all that learn. */
static bool
is_teller(const struct filter_run *run)
{
	const struct instance *instance = run->instance;
	const struct asked *asked = run->mail_state;

	return instance->learns && asked != NULL && asked->any;
}

static void
tell_message(struct filter_run *run, enum policy_outcome_kind kind)
{
	if (run->mail->outcome_told || !is_teller(run))
		return;
	run->mail->outcome_told = true;
	tell(run, kind, run->mail->envelope.id);
}

/* RSET, a lost client, or refused by this filter or another. */
static void
on_abort(struct filter_run *run)
{
	if (run->mail != NULL)
		tell_message(run, OUTCOME_REFUSED);
}

/* What the rules think without reputation's word, lest it confirm itself. */
static void
tell_opinion(struct filter_run *run)
{
	const struct finding *rules = finding_find(run->mail, "rules", NULL);

	if (rules == NULL || run->mail->opinion_told || !is_teller(run))
		return;
	run->mail->opinion_told = true;
	if (strcmp(rules->result, "spam") == 0)
		tell(run, OUTCOME_SPAM, run->mail->envelope.id);
	else if (strcmp(rules->result, "ham") == 0)
		tell(run, OUTCOME_HAM, run->mail->envelope.id);
}

static void
on_ended(struct filter_run *run, const struct verdict *verdict)
{
	tell_message(run, verdict->action == ACTION_CONTINUE ||
	    verdict->action == ACTION_ACCEPT ? OUTCOME_ACCEPTED :
	    OUTCOME_REFUSED);
	tell_opinion(run);
}

static void
on_close(struct filter_run *run)
{
	if (run->state != NULL)
		tell(run, OUTCOME_CLOSED, run->session->log.id);
}

#define POLICY_FILTER(kind, section) {					\
	.name = kind, .options = section, .traits = FILTER_KEEPS,	\
	.setup = setup, .release = release,				\
	.connect = on_connect, .helo = on_helo, .mail = on_mail,	\
	.rcpt = on_rcpt, .data = on_data, .eom = on_eom,		\
	.abort = on_abort, .ended = on_ended, .close = on_close,	\
}

const struct filter filter_policy = POLICY_FILTER("policy", &policy_section);
const struct filter filter_policy_profile = POLICY_FILTER("policy_profile",
    &profile_section);
const struct filter filter_dnsbl = POLICY_FILTER("dnsbl", &dnsbl_section);
const struct filter filter_greylist = POLICY_FILTER("greylist",
    &greylist_section);
const struct filter filter_access_list = POLICY_FILTER("access_list",
    &access_list_section);
const struct filter filter_correspondents = POLICY_FILTER("correspondents",
    &correspondents_section);
const struct filter filter_outbound_guard = POLICY_FILTER("outbound_guard",
    &guard_section);
const struct filter filter_rate_limit = POLICY_FILTER("rate_limit",
    &limit_section);
const struct filter filter_recipient_check = POLICY_FILTER("recipient_check",
    &recipient_check_section);
const struct filter filter_concurrency_limit = POLICY_FILTER(
    "concurrency_limit", &concurrency_section);
const struct filter filter_reputation = POLICY_FILTER("reputation",
    &reputation_section);
