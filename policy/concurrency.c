/*
 * Concurrency limits.  A lease is a reservation that is never charged
 * (limit_count.h).
 */
#include "policy/concurrency.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "policy/limit_command.h"
#include "policy/limit_frame.h"

#define KIND		"concurrency"
#define UNLIMITED	INT64_MAX

enum count { COUNT_CONNECTIONS, COUNT_MESSAGES };

struct concurrency {
	struct limit_frame frame;
	const struct concurrency_options *options;
};

static const struct option_row concurrency_rows[] = {
	CONCURRENCY_OPTIONS(OPTION_ROW, concurrency_options)
};

const struct section_kind concurrency_section = {
	.name = "concurrency_limit",
	.titled = true,
	.doc = "Limits how many connections or messages somebody may have at "
	    "a time.",
	.rows = concurrency_rows,
	.row_count = OPTION_COUNT(concurrency_rows),
	.size = sizeof(struct concurrency_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_concurrency_total", COUNTER_TOTAL,
	    "What concurrency limits said." },
};
COUNTER_TABLE(counter_rows)

static const struct option_row maximum_row = { "exceptions", OPTION_number, 0,
	NULL, "1", "1000000", NULL };

/* 0, or -1 with why appended. */
static int
parse_maximum(const char *text, int64_t *maximum, struct buf *why)
{
	*maximum = UNLIMITED;
	if (strcmp(text, "unlimited") == 0)
		return 0;
	return option_parse(&maximum_row, text, maximum, why);
}

/* UNLIMITED if it cannot be told. */
static int64_t
find_maximum(const struct concurrency *concurrency,
    const struct limit_subject *subject)
{
	struct buf problem = BUF_INIT;
	const char *value;
	int64_t maximum;

	switch (limit_frame_exception(&concurrency->frame, subject, &value)) {
	case ANSWER_NO:
		return concurrency->options->maximum;
	case ANSWER_UNKNOWN:
		return UNLIMITED;
	case ANSWER_YES:
		break;
	}
	parse_maximum(value, &maximum, &problem);
	buf_release(&problem);
	return maximum;
}

static struct limit_take
make_take(const struct concurrency *concurrency, struct arena *arena,
    const struct policy_request *request, const struct limit_subject *subject)
{
	return (struct limit_take){
		.scope = concurrency->frame.scope,
		.subject = subject->text,
		.message = concurrency->options->count == COUNT_CONNECTIONS ?
		    policy_value(request, POLICY_SESSION) :
		    limit_key_message(arena, request),
		.want = 1,
		.unit_us = 1,
		.burst = find_maximum(concurrency, subject),
	};
}

static void
give_back(struct concurrency *concurrency,
    const struct policy_request *request)
{
	struct arena *arena = arena_new(0);
	struct limit_subject *subjects;
	struct limit_take take;
	const char *why;
	size_t count;

	subjects = limit_key_subjects(arena, &concurrency->frame.key, request, true,
	    &count);
	for (size_t i = 0; i < count; i++) {
		take = make_take(concurrency, arena, request, &subjects[i]);
		if (take.burst != UNLIMITED)
			limit_count_settle(concurrency->frame.store, &take, 0, &why);
	}
	arena_free(&arena);
}

static void
refuse(const struct concurrency *concurrency, const struct policy_query *query,
    const struct limit_take *take, const struct limit_state *state,
    struct policy_decision *decision)
{
	policy_decide(decision, POLICY_DEFER, "concurrency-limit", "%s",
	    concurrency->options->message);
	decision->code = query->state == POLICY_AT_CONNECT ? 421 : 450;
	strcpy(decision->enhanced, query->state == POLICY_AT_CONNECT ?
	    "4.7.0" : "4.7.1");
	limit_frame_explain(take, state, decision);
}

static void
take_one(struct concurrency *concurrency, const struct policy_query *query,
    struct policy_decision *decision)
{
	struct arena *arena = arena_new(0);
	enum answer answer = ANSWER_YES;
	struct limit_subject *subjects;
	struct limit_state state;
	struct limit_take take;
	const char *why;
	size_t count;

	subjects = limit_key_subjects(arena, &concurrency->frame.key,
	    query->request, false, &count);
	if (count > 0) {
		take = make_take(concurrency, arena, query->request,
		    &subjects[0]);
		if (take.burst != UNLIMITED)
			answer = limit_count_take(concurrency->frame.store, &take,
			    &state, &why);
		counter_add(concurrency->frame.answers[answer], 1);
		if (answer == ANSWER_NO)
			refuse(concurrency, query, &take, &state, decision);
	}
	arena_free(&arena);
}

/* Other MTAs: a message ends, as far as we hear, when it is complete. */
static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	struct concurrency *concurrency = instance;
	bool messages = concurrency->options->count == COUNT_MESSAGES;

	if (messages && query->state == POLICY_AT_END && !query->ours)
		give_back(concurrency, query->request);
	if (messages ? query->state == POLICY_AT_RCPT : query->ours &&
	    (query->state & (POLICY_AT_CONNECT | POLICY_AT_MAIL)) != 0)
		take_one(concurrency, query, decision);
}

static void
outcome(void *instance, const struct policy_outcome *told)
{
	struct concurrency *concurrency = instance;
	bool messages = concurrency->options->count == COUNT_MESSAGES;

	if (messages ? (told->kind == OUTCOME_ACCEPTED ||
	    told->kind == OUTCOME_REFUSED) && !told->undo :
	    told->kind == OUTCOME_CLOSED)
		give_back(concurrency, told->request);
}

/* A connection's lease is renewed by each of its messages. */
static unsigned
filter_states(const struct conf_section *section)
{
	const struct concurrency_options *o = section->values;

	return o->count == COUNT_MESSAGES ? POLICY_AT_RCPT :
	    POLICY_AT_CONNECT | POLICY_AT_MAIL | POLICY_AT_CLOSE;
}

/* --- set-up --- */

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	const struct concurrency_options *o = section->values;
	struct concurrency *concurrency;

	(void)conf;
	if ((concurrency = calloc(1, sizeof(*concurrency))) == NULL)
		fatal("out of memory (concurrency)");
	concurrency->options = o;
	if (limit_frame_init(&concurrency->frame, KIND, section, o->key,
	    o->exceptions, store, why) == 0)
		return concurrency;
	free(concurrency);
	return NULL;
}

static void
release(void *instance)
{
	free(instance);
}

/* --- errors between options --- */

static int
check_exception(const char *value, const struct conf_section *section,
    struct buf *why)
{
	int64_t maximum;

	(void)section;
	return parse_maximum(value, &maximum, why);
}

static const char *
check_key(const struct concurrency_options *o)
{
	struct limit_key key;
	const char *why;

	if (limit_key_parse(o->key, &key, &why) != 0)
		return why;
	for (size_t i = 0; i < key.count; i++)
		if (key.parts[i] != LIMIT_CLIENT &&
		    key.parts[i] != LIMIT_NETWORK &&
		    key.parts[i] != LIMIT_USER &&
		    o->count == COUNT_CONNECTIONS)
			return "connections are counted by client, network "
			    "and user only";
	return key.has_authentic ? "auth_domain is known only when the "
	    "message is over" : NULL;
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *sections;
	const char *why;
	size_t count;

	sections = conf_sections(conf, concurrency_section.name, &count);
	for (size_t i = 0; i < count; i++) {
		const struct concurrency_options *o = sections[i].values;

		if ((why = check_key(o)) != NULL)
			conf_error(errors, conf, &sections[i], "key", "%s",
			    why);
		limit_frame_check(conf, &sections[i], o->exceptions,
		    check_exception, o->message, errors);
	}
}

const struct policy_service concurrency_service = {
	.options = &concurrency_section,
	.states = POLICY_AT_CONNECT | POLICY_AT_MAIL | POLICY_AT_RCPT |
	    POLICY_AT_END | POLICY_AT_CLOSE,
	.filter_states = filter_states,
	.setup = setup,
	.release = release,
	.decide = decide,
	.outcome = outcome,
	.reserves = true,
	.command_word = KIND,
	.command = limit_command,
	.check = check,
};
