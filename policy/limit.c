/* Rate limits. */
#include "policy/limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "policy/limit_command.h"
#include "policy/limit_frame.h"
#include "policy/limit_past.h"

#define KIND		"limit"
#define COUNT_MAX	1000000
#define SPAN_MAX_US	(INT64_C(1000) * 86400 * 1000000)

enum count { COUNT_MESSAGES, COUNT_RECIPIENTS };
enum action { ACT_DEFER, ACT_REJECT, ACT_HOLD, ACT_WARN };

struct limit {
	struct limit_frame frame;
	const struct limit_options *options;
	struct limit_rate rate;
	struct limit_past *past;
};

static const struct option_row limit_rows[] = {
	LIMIT_OPTIONS(OPTION_ROW, limit_options)
};

const struct section_kind limit_section = {
	.name = "rate_limit",
	.titled = true,
	.doc = "Limits how much mail somebody may send in a time.",
	.rows = limit_rows,
	.row_count = OPTION_COUNT(limit_rows),
	.size = sizeof(struct limit_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_limit_total", COUNTER_TOTAL,
	    "What rate limits said." },
};
COUNTER_TABLE(counter_rows)

/* --- rates --- */

static const struct option_row period_row = { "rate", OPTION_duration, 0,
	NULL, "1s", "366d", NULL };

/* 0, or -1 if it is no number of that range. */
static int
parse_number(const char *text, size_t len, int64_t max, int64_t *number)
{
	*number = 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return -1;
		*number = *number * 10 + text[i] - '0';
		if (*number > max)
			return -1;
	}
	return *number > 0 ? 0 : -1;
}

static int
parse_period(const char *text, size_t len, int64_t *period_ms)
{
	char copy[32];
	struct buf why = BUF_INIT;
	int rc = -1;

	if (len < sizeof(copy)) {
		memcpy(copy, text, len);
		copy[len] = '\0';
		rc = option_parse(&period_row, copy, period_ms, &why);
		buf_release(&why);
	}
	return rc;
}

int
limit_rate_parse(const char *text, int64_t burst, struct limit_rate *rate,
    const char **why)
{
	int64_t count, period_ms;
	size_t len, slash;
	const char *rest;

	memset(rate, 0, sizeof(*rate));
	*why = "is required";
	if (text == NULL)
		return -1;
	len = strcspn(text, " ");
	slash = strcspn(text, "/");
	rest = text + len + strspn(text + len, " ");
	rate->unlimited = strcmp(text, "unlimited") == 0;
	if (rate->unlimited)
		return 0;
	*why = "is not a rate (100/1h; units: s, m, h, d)";
	if (slash >= len || parse_number(text, slash, COUNT_MAX, &count) != 0
	    || parse_period(text + slash + 1, len - slash - 1,
	    &period_ms) != 0)
		return -1;
	*why = "its burst is not a number from 1 to 1000000";
	if (*rest != '\0' && parse_number(rest, strlen(rest), COUNT_MAX,
	    &burst) != 0)
		return -1;
	rate->burst = burst > 0 ? burst : count;
	rate->unit_us = period_ms * 1000 / count;
	*why = "a burst may stand for 1000 days at most";
	return rate->unit_us <= SPAN_MAX_US / rate->burst ? 0 : -1;
}

/* --- who is limited --- */

/* NO: it is not limited; UNKNOWN: cannot be told. */
static enum answer
find_rate(const struct limit *limit, const struct limit_subject *subject,
    struct limit_rate *rate)
{
	const char *value, *why;

	*rate = limit->rate;
	switch (limit_frame_exception(&limit->frame, subject, &value)) {
	case ANSWER_UNKNOWN:
		return ANSWER_UNKNOWN;
	case ANSWER_YES:
		if (limit_rate_parse(value, limit->options->burst, rate,
		    &why) != 0)
			return ANSWER_UNKNOWN;
		break;
	case ANSWER_NO:
		break;
	}
	return rate->unlimited ? ANSWER_NO : ANSWER_YES;
}

static struct limit_take
make_take(const struct limit *limit, const struct limit_subject *subject,
    const struct limit_rate *rate, const char *message)
{
	return (struct limit_take){
		.scope = limit->frame.scope,
		.subject = subject->text,
		.message = message,
		.want = limit->options->count == COUNT_RECIPIENTS ?
		    subject->recipients : 1,
		.unit_us = rate->unit_us,
		.burst = rate->burst,
	};
}

/* --- deciding --- */

static void
refuse(const struct limit *limit, const struct limit_take *take,
    const struct limit_state *state, struct policy_decision *decision)
{
	static const enum policy_verb verbs[] = {
		[ACT_DEFER] = POLICY_DEFER, [ACT_REJECT] = POLICY_REJECT,
		[ACT_HOLD] = POLICY_HOLD, [ACT_WARN] = POLICY_DUNNO,
	};
	const struct limit_options *o = limit->options;
	/* No time is enough for more than the burst. */
	bool hopeless = take->recipient == NULL && take->want > take->burst;

	if (o->action == ACT_DEFER && !hopeless)
		policy_decide(decision, POLICY_DEFER, "rate-limit",
		    "%s, try again in %lld seconds", o->message,
		    (long long)(state->wait_ms + 999) / 1000);
	else
		policy_decide(decision, verbs[o->action], "rate-limit", "%s",
		    o->action == ACT_WARN ? "" : o->message);
	if (o->action == ACT_DEFER) {
		decision->code = 450;
		strcpy(decision->enhanced, "4.7.1");
		decision->wait_ms = state->wait_ms;
	} else if (o->action == ACT_REJECT) {
		decision->code = 550;
		strcpy(decision->enhanced, "5.7.1");
	}
	limit_frame_explain(take, state, decision);
}

static enum answer
ask(struct limit *limit, const struct policy_query *query,
    const struct limit_subject *subject, const char *message,
    struct policy_decision *decision)
{
	struct limit_state state;
	struct limit_rate rate;
	struct limit_take take;
	enum answer answer;
	const char *why;

	answer = find_rate(limit, subject, &rate);
	if (answer != ANSWER_YES)
		return answer == ANSWER_NO ? ANSWER_YES : ANSWER_UNKNOWN;
	take = make_take(limit, subject, &rate, message);
	if (query->state == POLICY_AT_RCPT &&
	    limit->options->count == COUNT_RECIPIENTS)
		take.recipient = subject->recipient;
	if (!query->ours)
		take.past = limit->past;
	answer = limit_count_take(limit->frame.store, &take, &state, &why);
	if (answer == ANSWER_NO)
		refuse(limit, &take, &state, decision);
	return answer;
}

static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	struct limit *limit = instance;
	bool list = query->state != POLICY_AT_RCPT;
	struct arena *arena;
	struct limit_subject *subjects;
	enum answer answer = ANSWER_YES;
	const char *message;
	size_t count;

	if (limit->frame.key.has_authentic && (query->state != POLICY_AT_END ||
	    !query->ours))
		return;
	arena = arena_new(0);
	message = limit_key_message(arena, query->request);
	subjects = limit_key_subjects(arena, &limit->frame.key, query->request,
	    list, &count);
	for (size_t i = 0; i < count && answer == ANSWER_YES; i++)
		answer = ask(limit, query, &subjects[i], message, decision);
	if (count > 0)
		counter_add(limit->frame.answers[answer], 1);
	arena_free(&arena);
}

/* What was refused, or went to fewer recipients, is given back. */
static void
outcome(void *instance, const struct policy_outcome *told)
{
	struct limit *limit = instance;
	struct limit_subject *subjects;
	struct limit_rate rate;
	struct limit_take take;
	struct arena *arena;
	const char *message, *why;
	size_t count;

	if (told->undo || (told->kind != OUTCOME_ACCEPTED &&
	    told->kind != OUTCOME_REFUSED))
		return;
	arena = arena_new(0);
	message = limit_key_message(arena, told->request);
	subjects = limit_key_subjects(arena, &limit->frame.key, told->request, true,
	    &count);
	for (size_t i = 0; i < count; i++) {
		if (find_rate(limit, &subjects[i], &rate) != ANSWER_YES)
			continue;
		take = make_take(limit, &subjects[i], &rate, message);
		limit_count_settle(limit->frame.store, &take,
		    told->kind == OUTCOME_ACCEPTED ? take.want : 0, &why);
	}
	arena_free(&arena);
}

/* Our own filter asks no more often than it has to. */
static unsigned
filter_states(const struct conf_section *section)
{
	const struct limit_options *o = section->values;
	struct limit_key key;
	const char *why;

	return limit_key_parse(o->key, &key, &why) == 0 &&
	    key.has_authentic ? POLICY_AT_END : POLICY_AT_RCPT;
}

/* --- set-up --- */

static void
release(void *instance)
{
	struct limit *limit = instance;

	limit_past_free(&limit->past);
	free(limit);
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	const struct limit_options *o = section->values;
	struct limit *limit;

	(void)conf;
	if ((limit = calloc(1, sizeof(*limit))) == NULL)
		fatal("out of memory (limit)");
	limit->options = o;
	limit->past = limit_past_new();
	if (limit_frame_init(&limit->frame, KIND, section, o->key,
	    o->exceptions, store, why) == 0 &&
	    limit_rate_parse(o->rate, o->burst, &limit->rate, why) == 0)
		return limit;
	release(limit);
	return NULL;
}

/* --- errors between options --- */

static int
check_exception(const char *value, const struct conf_section *section,
    struct buf *errors)
{
	const struct limit_options *o = section->values;
	struct limit_rate rate;
	const char *why;
	int rc;

	if ((rc = limit_rate_parse(value, o->burst, &rate, &why)) != 0)
		buf_printf(errors, "\"%s\" %s", value, why);
	return rc;
}

static void
check_section(const struct conf *conf, const struct conf_section *section,
    struct buf *errors)
{
	const struct limit_options *o = section->values;
	struct limit_rate rate;
	struct limit_key key;
	const char *why;

	if (limit_key_parse(o->key, &key, &why) != 0)
		conf_error(errors, conf, section, "key", "%s", why);
	if (limit_rate_parse(o->rate, o->burst, &rate, &why) != 0)
		conf_error(errors, conf, section, "rate", "%s", why);
	limit_frame_check(conf, section, o->exceptions, check_exception,
	    o->message, errors);
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, limit_section.name, &count);
	for (size_t i = 0; i < count; i++)
		check_section(conf, &sections[i], errors);
}

const struct policy_service limit_service = {
	.options = &limit_section,
	.states = POLICY_AT_RCPT | POLICY_AT_DATA | POLICY_AT_END,
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
