/* The outbound guard as a service. */
#include "policy/guard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/table.h"
#include "policy/geo.h"
#include "policy/guard_watch.h"
#include "policy/service.h"
#include "policy/store.h"

#define TOGETHER_MS	60000		/* in one mail, unless it is sent */

struct guard {
	const struct guard_options *options;
	struct guard_limits limits;
	struct store *store;
	struct counter *levels[GUARD_SUSPEND + 1], *unknown;
};

static const struct option_row guard_rows[] = {
	GUARD_OPTIONS(OPTION_ROW, guard_options)
};

const struct section_kind guard_section = {
	.name = "outbound_guard",
	.doc = "Slows down, holds and suspends accounts that send unusually.",
	.rows = guard_rows,
	.row_count = OPTION_COUNT(guard_rows),
	.size = sizeof(struct guard_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_guard_total", COUNTER_TOTAL,
	    "Recipients of users by what the outbound guard did." },
};
COUNTER_TABLE(counter_rows)

static const char *const level_names[] = {
	[GUARD_CALM] = "pass", [GUARD_SLOW] = "slow", [GUARD_HOLD] = "hold",
	[GUARD_SUSPEND] = "suspend",
};

/* NULL: nobody who is watched. */
static const char *
watched_user(const struct guard *guard, const struct policy_request *request)
{
	const char *user = policy_known(request, POLICY_SASL_USERNAME);
	const char *value, *why;

	if (user == NULL || (guard->options->exempt != NULL && table_find(
	    guard->options->exempt, user, &value, &why) != ANSWER_NO))
		return NULL;
	return user;
}

/* A mail is made by a relay, one of the fleet. */
static void
tell_relay(struct guard *guard, const struct guard_deed *deed,
    const struct guard_state *state)
{
	int64_t now = clock_wall_ms();
	struct store_tally tally = { .subject = GUARD_TALLY, .head = "guard",
		.begin_ms = now - now % TOGETHER_MS, .count = 1 };
	char shown[GUARD_USER_SIZE];
	struct buf row = BUF_INIT;
	const char *why;

	buf_printf(&row, "%s\t%s\t%s\t%lld\t%lld\t%s",
	    guard_user_print(deed->user, shown),
	    level_names[state->level], guard_measure_names[state->worst],
	    (long long)state->count[state->worst],
	    (long long)state->limit[state->worst], deed->country);
	tally.due_ms = tally.begin_ms;
	tally.row = row.data;
	if (store_tally_add(guard->store, &tally, &why) != ANSWER_YES)
		log_warn(NULL, "guard: nobody gets a mail about user=%s: %s",
		    deed->user, why);
	buf_release(&row);
}

/* For the person on call: once a day for each level. */
static void
notify(struct guard *guard, const struct guard_deed *deed,
    const struct guard_state *state)
{
	if (!state->first)
		return;
	log_warn(NULL, "guard: user=%s action=%s measure=%s count=%lld "
	    "limit=%lld%s%s", deed->user, level_names[state->level],
	    guard_measure_names[state->worst],
	    (long long)state->count[state->worst],
	    (long long)state->limit[state->worst],
	    deed->country[0] != '\0' ? " country=" : "", deed->country);
	if (guard->options->notify[0] != NULL)
		tell_relay(guard, deed, state);
}

static void
act(const struct guard_state *state, enum answer answer, const char *user,
    struct policy_decision *decision)
{
	long long seconds = (long long)(state->wait_ms + 999) / 1000;

	if (state->level == GUARD_SUSPEND) {
		policy_decide(decision, POLICY_REJECT, "guard-suspended",
		    "This account is suspended for sending unusually; ask "
		    "your postmaster");
		decision->code = 550;
		strcpy(decision->enhanced, "5.7.1");
	} else if (state->level == GUARD_HOLD) {
		policy_decide(decision, POLICY_HOLD, "guard-hold",
		    "unusual mail of user %.100s", user);
	} else if (answer == ANSWER_NO) {
		policy_decide(decision, POLICY_DEFER, "guard-slow",
		    "You send %s usual, try again in %lld seconds",
		    state->worst == GUARD_COUNTRIES ?
		    "from more countries than" : "more than", seconds);
		decision->code = 450;
		strcpy(decision->enhanced, "4.7.1");
		decision->wait_ms = state->wait_ms;
	} else {
		return;
	}
	snprintf(decision->why, sizeof(decision->why),
	    "%.100s: %s=%lld limit=%lld", user,
	    guard_measure_names[state->worst],
	    (long long)state->count[state->worst],
	    (long long)state->limit[state->worst]);
}

static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const struct policy_request *request = query->request;
	struct guard *guard = instance;
	char country[GEO_COUNTRY_SIZE];
	struct guard_deed deed = {
		.event = GUARD_RECIPIENT, .user = watched_user(guard, request),
		.message = policy_value(request, POLICY_INSTANCE),
		.recipient = policy_value(request, POLICY_RECIPIENT),
		.country = country,
	};
	struct guard_state state;
	enum answer answer;
	const char *why;

	if (deed.user == NULL)
		return;
	geo_country(policy_value(request, POLICY_CLIENT_ADDRESS), country);
	answer = guard_watch(guard->store, &guard->limits, &deed, &state,
	    &why);
	if (answer == ANSWER_UNKNOWN) {
		counter_add(guard->unknown, 1);
		return;
	}
	counter_add(guard->levels[state.level], 1);
	notify(guard, &deed, &state);
	act(&state, answer, deed.user, decision);
}

static void
outcome(void *instance, const struct policy_outcome *told)
{
	struct guard *guard = instance;
	const struct guard_deed deed = {
		.event = GUARD_BOUNCE,
		.user = watched_user(guard, told->request),
		.message = told->id,
		.recipient = policy_value(told->request, POLICY_RECIPIENT),
		.country = "",
	};
	struct guard_state state;
	const char *why;

	if (deed.user == NULL || told->kind != OUTCOME_BOUNCED || told->undo)
		return;
	if (guard_watch(guard->store, &guard->limits, &deed, &state, &why) !=
	    ANSWER_UNKNOWN)
		notify(guard, &deed, &state);
}

/* --- set-up --- */

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	const struct guard_options *o = section->values;
	struct guard *guard;

	(void)conf;
	(void)why;
	if ((guard = calloc(1, sizeof(*guard))) == NULL)
		fatal("out of memory (guard)");
	guard->options = o;
	guard->store = store;
	guard->limits = (struct guard_limits){
		.floor = { [GUARD_MESSAGES] = o->messages,
		    [GUARD_RECIPIENTS] = o->recipients,
		    [GUARD_NEW] = o->new_recipients,
		    [GUARD_BOUNCES] = o->bounces,
		    [GUARD_COUNTRIES] = o->countries },
		.factor = o->factor,
		.most = (enum guard_level)(GUARD_SLOW + o->action),
		.suspend_ms = o->suspend,
	};
	for (int i = 0; i <= GUARD_SUSPEND; i++) {
		char labels[64];

		snprintf(labels, sizeof(labels), "action=\"%s\"",
		    level_names[i]);
		guard->levels[i] = counter_get("millgate_guard_total",
		    labels);
	}
	guard->unknown = counter_get("millgate_guard_total",
	    "action=\"unknown\"");
	return guard;
}

static void
release(void *instance)
{
	free(instance);
}

static int
command(const struct policy_instance *instances, size_t count,
    struct store *store, const char *const *words, size_t word_count,
    struct buf *out, const char **why)
{
	const struct guard *guard;
	bool show = word_count >= 2 && strcmp(words[1], "show") == 0;
	const char *user = word_count == 3 ? words[2] : NULL;
	enum answer answer;

	*why = "guard show [USER], guard release USER";
	if (count == 0 || word_count < 2 || word_count > 3 || (!show &&
	    (strcmp(words[1], "release") != 0 || user == NULL)))
		return -2;
	guard = instances[0].instance;
	answer = show ? guard_watch_show(store, &guard->limits, user, out,
	    why) : guard_watch_release(store, user, why);
	if (answer == ANSWER_NO)
		*why = "nothing is known of that user";
	return answer == ANSWER_YES ? 0 : -1;
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct guard_options *o = conf_get(conf, guard_section.name);
	size_t count;

	for (const char *const *to = o->notify; *to != NULL; to++)
		policy_check_address(conf, conf_sections(conf,
		    guard_section.name, &count), "notify", *to, errors);
}

const struct policy_service guard_service = {
	.options = &guard_section,
	.states = POLICY_AT_RCPT,
	.setup = setup,
	.release = release,
	.decide = decide,
	.outcome = outcome,
	.command_word = "guard",
	.command = command,
	.check = check,
};
