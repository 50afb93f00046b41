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
#include "base/table.h"
#include "policy/limit_command.h"
#include "policy/limit_count.h"
#include "policy/limit_key.h"
#include "policy/service.h"

#define KIND		"concurrency"	/* of keys in the store */
#define UNLIMITED	INT64_MAX

enum count { COUNT_CONNECTIONS, COUNT_MESSAGES };

struct concurrency {
	const struct concurrency_options *options;
	const char *name;
	struct limit_key key;
	struct store *store;
	struct counter *answers[3];
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
	const struct concurrency_options *o = concurrency->options;
	struct buf problem = BUF_INIT;
	const char *value;
	int64_t maximum;

	switch (limit_key_find(&concurrency->key, o->exceptions, subject,
	    &value)) {
	case ANSWER_NO:
		return o->maximum;
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
		.scope = { KIND, concurrency->name },
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

	subjects = limit_key_subjects(arena, &concurrency->key, request, true,
	    &count);
	for (size_t i = 0; i < count; i++) {
		take = make_take(concurrency, arena, request, &subjects[i]);
		if (take.burst != UNLIMITED)
			limit_count_settle(concurrency->store, &take, 0, &why);
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
	snprintf(decision->why, sizeof(decision->why),
	    "%.150s: used=%lld limit=%lld", take->subject,
	    (long long)state->used, (long long)take->burst);
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

	subjects = limit_key_subjects(arena, &concurrency->key,
	    query->request, false, &count);
	if (count > 0) {
		take = make_take(concurrency, arena, query->request,
		    &subjects[0]);
		if (take.burst != UNLIMITED)
			answer = limit_count_take(concurrency->store, &take,
			    &state, &why);
		counter_add(concurrency->answers[answer], 1);
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
	static const char *const answers[] = {
		[ANSWER_NO] = "limited", [ANSWER_YES] = "pass",
		[ANSWER_UNKNOWN] = "unknown",
	};
	struct concurrency *concurrency;

	(void)conf;
	if ((concurrency = calloc(1, sizeof(*concurrency))) == NULL)
		fatal("out of memory (concurrency)");
	concurrency->options = section->values;
	concurrency->name = section->title;
	concurrency->store = store;
	for (size_t i = 0; i < 3; i++) {
		char labels[256] = "";

		counter_label(labels, sizeof(labels), "limit",
		    section->title);
		counter_label(labels, sizeof(labels), "answer", answers[i]);
		concurrency->answers[i] = counter_get(
		    "millgate_concurrency_total", labels);
	}
	if (limit_key_parse(concurrency->options->key, &concurrency->key,
	    why) == 0)
		return concurrency;
	free(concurrency);
	return NULL;
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
	return limit_command(KIND, instances, count, store, words, word_count,
	    out, why);
}

/* --- errors between options --- */

struct check {
	struct buf *errors;
	const struct conf *conf;
	const struct conf_section *section;
};

static void
check_exception(const char *key, const char *value, void *argument)
{
	const struct check *check = argument;
	struct buf why = BUF_INIT;
	int64_t maximum;

	if (parse_maximum(value, &maximum, &why) != 0)
		conf_error(check->errors, check->conf, check->section,
		    "exceptions", "%s: %s", key, why.data);
	buf_release(&why);
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
		struct check each = { errors, conf, &sections[i] };

		if ((why = check_key(o)) != NULL)
			conf_error(errors, conf, &sections[i], "key", "%s",
			    why);
		if (o->exceptions != NULL)
			table_each(o->exceptions, check_exception, &each);
		policy_check_message(conf, &sections[i], o->message, errors);
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
	.command_word = "concurrency",
	.command = command,
	.check = check,
};
