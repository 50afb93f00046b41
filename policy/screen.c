/* The policy service "screen". */
#include "policy/screen.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "policy/ban.h"
#include "policy/dnsbl.h"
#include "policy/protocol.h"
#include "policy/service.h"
#include "policy/store.h"
#include "policy/subject.h"

#define TRAP_OFFENCES	5

struct screen {
	const struct screen_options *options;
	struct dnsbl *dnsbl;
	struct store *store;
	struct counter *bans;
};

static const struct option_row screen_rows[] = {
	SCREEN_OPTIONS(OPTION_ROW, screen_options)
};

const struct section_kind screen_section = {
	.name = "screen",
	.doc = "How listeners with screen = yes receive strangers.",
	.rows = screen_rows,
	.row_count = OPTION_COUNT(screen_rows),
	.size = sizeof(struct screen_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_bans_total", COUNTER_TOTAL,
	    "Clients banned for their offences." },
};
COUNTER_TABLE(counter_rows)

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	struct screen *screen;

	(void)why;
	if ((screen = calloc(1, sizeof(*screen))) == NULL)
		fatal("out of memory (screen)");
	screen->options = section->values;
	screen->store = store;
	screen->dnsbl = dnsbl_open(conf);
	screen->bans = counter_get(counter_rows[0].name, NULL);
	return screen;
}

static void
release(void *instance)
{
	struct screen *screen = instance;

	dnsbl_close(&screen->dnsbl);
	free(screen);
}

/* --- deciding --- */

/* An operator's ban is meant to be heard; another one only delays mail. */
static void
refuse_banned(struct policy_decision *decision, const struct ban_state *state)
{
	policy_decide(decision, state->by_operator ? POLICY_REJECT :
	    POLICY_DEFER, "banned", state->by_operator ?
	    "Your network is not welcome here" :
	    "Too many errors from your network, try again later");
	decision->code = state->by_operator ? 554 : 450;
	strcpy(decision->enhanced, state->by_operator ? "5.7.1" : "4.7.1");
	snprintf(decision->why, sizeof(decision->why), "banned for %lld s",
	    (long long)(state->banned_ms / 1000));
}

/* PASS concerns our own screening: for others it would be too much. */
static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const char *address = policy_known(query->request,
	    POLICY_CLIENT_ADDRESS);
	const struct dnsbl_question question = { .address = address };
	struct screen *screen = instance;
	struct sockaddr_storage client;
	struct ban_state state;
	struct arena *arena;
	const char *why;

	if ((query->ours && query->state != POLICY_AT_CONNECT) ||
	    !subject_client(address, &client))
		return;
	if (ban_check(screen->store, &client, &state, &why) == ANSWER_YES) {
		refuse_banned(decision, &state);
		return;
	}
	if (state.passed_ms > 0) {
		if (query->ours)
			decision->verb = POLICY_PASS;
		return;
	}
	arena = arena_new(0);
	dnsbl_decide(screen->dnsbl, arena, &question, decision);
	arena_free(&arena);
}

/* --- learning --- */

static void
offend(struct screen *screen, const struct sockaddr_storage *client,
    int64_t offences, const char *note)
{
	const struct screen_options *o = screen->options;
	const struct ban_limits limits = { o->ban_offences, o->ban_window,
		o->ban_time, o->ban_max };
	char address[SUBJECT_NETWORK_SIZE];
	struct ban_state state;
	const char *why;

	if (ban_offend(screen->store, client, &limits, offences, note, &state,
	    &why) != ANSWER_YES)
		return;
	subject_network(client, 32, 64, address);
	counter_add(screen->bans, 1);
	log_info(NULL, "screen: client=%s banned for %lld s: %s", address,
	    (long long)(state.banned_ms / 1000), note);
}

static void
outcome(void *instance, const struct policy_outcome *outcome)
{
	const char *results = policy_value(outcome->request, POLICY_RESULTS);
	bool ours = *policy_value(outcome->request, POLICY_SERVICE) != '\0';
	struct screen *screen = instance;
	struct sockaddr_storage client;
	const char *why;

	/* A user's address says nothing of the next one who has it. */
	if (outcome->undo || policy_known(outcome->request,
	    POLICY_SASL_USERNAME) != NULL || !subject_client(policy_known(
	    outcome->request, POLICY_CLIENT_ADDRESS), &client))
		return;
	if (outcome->kind == OUTCOME_TRAP)
		offend(screen, &client, TRAP_OFFENCES, "mail to a trap");
	else if (ours && outcome->kind == OUTCOME_ACCEPTED)
		ban_pass(screen->store, &client, screen->options->pass, &why);
	else if (ours && strncmp(results, SCREEN_OFFENCES,
	    strlen(SCREEN_OFFENCES)) == 0)
		offend(screen, &client, strtoll(results +
		    strlen(SCREEN_OFFENCES), NULL, 10), results);
}

/* --- for operators: ban show, ban add, ban remove --- */

static const char usage[] = "ban show | ban add ADDRESS|NETWORK [TIME "
    "[REASON ...]] | ban remove ADDRESS|NETWORK";

static int
add(struct store *store, const char *const *words, size_t count,
    const char **why)
{
	static const struct option_row time = { .name = "time",
		.type = OPTION_duration, .min = "1s", .max = "3650d" };
	struct buf reason = BUF_INIT, errors = BUF_INIT;
	int64_t ms = BAN_FOREVER_MS;
	enum answer answer;

	if (count > 1 && option_parse(&time, words[1], &ms, &errors) != 0) {
		buf_release(&errors);
		*why = "TIME is like 90s, 10m, 12h, 7d";
		return -1;
	}
	for (size_t i = 2; i < count && reason.len < 200; i++)
		buf_printf(&reason, "%s%s", i > 2 ? " " : "", words[i]);
	answer = ban_add(store, words[0], ms, reason.len > 0 ? reason.data :
	    "no reason given", why);
	buf_release(&reason);
	return answer == ANSWER_YES ? 0 : -1;
}

static int
command(const struct policy_instance *instances, size_t instance_count,
    struct store *store, const char *const *words, size_t count,
    struct buf *out, const char **why)
{
	const char *verb = count > 1 ? words[1] : "";

	(void)instances, (void)instance_count;
	if (strcmp(verb, "show") == 0 && count == 2) {
		if (ban_show(store, out, why) != ANSWER_YES)
			return -1;
		if (out->len == 0)
			buf_puts(out, "nobody is banned\n");
		return 0;
	}
	if (strcmp(verb, "add") == 0 && count > 2) {
		if (add(store, words + 2, count - 2, why) != 0)
			return -1;
		buf_printf(out, "%s banned\n", words[2]);
		return 0;
	}
	if (strcmp(verb, "remove") == 0 && count == 3) {
		if (ban_remove(store, words[2], why) != ANSWER_YES)
			return -1;
		buf_printf(out, "%s is free\n", words[2]);
		return 0;
	}
	*why = usage;
	return -2;
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct screen_options *o = conf_get(conf, screen_section.name);
	const struct conf_section *section;
	size_t count;

	section = conf_sections(conf, screen_section.name, &count);
	if (o->ban_time > o->ban_max)
		conf_error(errors, conf, section, "ban_time",
		    "must not be more than ban_max");
}

const struct policy_service screen_service = {
	.options = &screen_section,
	.states = POLICY_AT_CONNECT | POLICY_AT_RCPT,
	.strangers_only = true, .answer_ms = DNSBL_ANSWER_MS,
	.setup = setup, .release = release,
	.decide = decide, .outcome = outcome,
	.command_word = "ban", .command = command,
	.check = check,
};
