/*
 * Reputation as a service.
 *
 * What was read is kept for a moment, for there are several questions about a
 * message and many messages of a client; and longer for when the store does not
 * answer.
 */
#include "policy/reputation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/task.h"
#include "policy/reputation_request.h"

#define CACHE_SIZE	1024		/* a power of 2 */
#define FRESH_MS	2000
#define ABOVE_MS	10000		/* hardly another for one message more */
#define STALE_MS	300000		/* when the store is away */

/* Outcomes as evidence, in messages; the doc option of the section tells. */
static const struct { double good, bad; } evidence[OUTCOME_KINDS] = {
	[OUTCOME_SPAM] = { 0, 1 }, [OUTCOME_HAM] = { 1, 0 },
	[OUTCOME_MALWARE] = { 0, 3 }, [OUTCOME_TRAP] = { 0, 5 },
	[OUTCOME_BOUNCED] = { 0, 0.2 }, [OUTCOME_REPORTED_SPAM] = { 0, 2 },
	[OUTCOME_RELEASED] = { 3, 0 },
};

enum said { SAID_NEUTRAL, SAID_GOOD, SAID_BAD, SAID_UNKNOWN, SAID_COUNT };

struct cached {
	char *key;			/* NULL: none */
	int64_t read_at;		/* task_now() */
	struct rep_reading reading;
};

struct reputation {
	const struct reputation_options *options;
	struct store *store;
	unsigned dimensions;
	struct cached *cache;
	struct counter *said[SAID_COUNT], *learnt[OUTCOME_KINDS];
	struct counter *unlearnt;
};

static const struct option_row reputation_rows[] = {
	REPUTATION_OPTIONS(OPTION_ROW, reputation_options)
};

const struct section_kind reputation_section = {
	.name = "reputation",
	.doc = "What mail of a client, a domain or a user has been so far.",
	.rows = reputation_rows,
	.row_count = OPTION_COUNT(reputation_rows),
	.size = sizeof(struct reputation_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_reputation_total", COUNTER_TOTAL,
	    "What reputation said of messages and recipients." },
	{ "millgate_reputation_evidence_total", COUNTER_TOTAL,
	    "Outcomes of messages that reputation learnt from." },
	{ "millgate_reputation_lost_total", COUNTER_TOTAL,
	    "Changes of reputation that the store did not take." },
};
COUNTER_TABLE(counter_rows)

/* --- reading and telling the store --- */

enum answer
rep_reading_fetch(struct store *store, struct rep_reading *reading,
    const char **why)
{
	char key[REP_KEY_SIZE], group_key[REP_KEY_SIZE];
	struct rep_entity group;
	struct rep_state states[2];

	rep_entity_group(&reading->entity, &group);
	rep_entity_key(&reading->entity, key);
	rep_entity_key(&group, group_key);
	reading->answer = rep_read(store, key, group_key, states,
	    &reading->now_ms, why);
	reading->own = states[0];
	reading->group = states[1];
	return reading->answer;
}

enum answer
rep_tell(struct store *store, const struct rep_entity *entity,
    const char *event_id, enum policy_outcome_kind kind, bool alone,
    bool undo, const char **why)
{
	char key[REP_KEY_SIZE], group_key[REP_KEY_SIZE], event[REP_KEY_SIZE];
	struct rep_entity group;

	*why = "that is no evidence";
	if (evidence[kind].good + evidence[kind].bad == 0)
		return ANSWER_NO;
	rep_entity_group(entity, &group);
	rep_entity_key(entity, key);
	rep_entity_key(&group, group_key);
	rep_entity_event_key(entity, event_id, policy_outcome_name(kind),
	    event);
	return rep_learn(store, &(struct rep_change){
	    .first = key, .second = group_key, .event = event,
	    .id = event_id, .kind = kind,
	    .good = (int64_t)(evidence[kind].good * REP_MESSAGE),
	    .bad = (int64_t)(evidence[kind].bad * REP_MESSAGE),
	    .whole = !alone && !rep_entity_is_group(entity),
	    .undo = undo }, why);
}

/* --- estimates --- */

struct rep_estimate
rep_reading_estimate(const struct rep_reading *reading,
    const struct rep_estimate *prior)
{
	struct rep_estimate group;
	struct rep_state rest;

	if (rep_entity_is_group(&reading->entity))
		return rep_estimate(prior, &reading->own, reading->now_ms);
	rest = rep_without(&reading->group, &reading->own);
	group = rep_estimate(prior, &rest, reading->now_ms);
	return rep_estimate(&group, &reading->own, reading->now_ms);
}

/* Nobody's mail tells about a user, or about what two write each other. */
struct rep_estimate
rep_prior(const struct rep_reading *reading, const struct rep_reading *above)
{
	enum rep_dimension dimension = reading->entity.dimension;
	struct rep_estimate all;
	struct rep_state rest;

	if (rep_dimension_group(dimension) == REP_ALL ||
	    dimension == REP_USER || dimension == REP_PAIR)
		return rep_unknown;
	if (above->entity.dimension == REP_AS) {
		rest = rep_without(&above->group, &above->own);
		all = rep_estimate(&rep_unknown, &rest, above->now_ms);
	} else {
		all = rep_unknown;
	}
	rest = rep_without(&above->own, &reading->group);
	return rep_estimate(&all, &rest, above->now_ms);
}

/* What is estimated so far, and whose it is. */
struct opinion {
	struct rep_estimate estimate;
	const struct rep_entity *of;	/* NULL: of all mail */
};

/* The next sender's say. */
static void
hear(struct opinion *opinion, const struct rep_reading *reading,
    const struct rep_estimate *prior)
{
	struct rep_estimate next = rep_reading_estimate(reading, prior);

	switch (reading->entity.dimension) {
	case REP_HELO:
	case REP_SENDER:
		if (next.low <= opinion->estimate.low)
			return;
		break;
	case REP_PAIR:
		if (rep_choose(&opinion->estimate, &next) != &next)
			return;
		break;
	default:
		break;
	}
	opinion->estimate = next;
	opinion->of = &reading->entity;
}

static bool
is_domain(const struct rep_reading *reading)
{
	return reading->entity.dimension == REP_DOMAIN ||
	    reading->entity.dimension == REP_SELECTOR;
}

static void
form_opinion(const struct rep_reading *above,
    const struct rep_reading *readings, size_t count, struct opinion *opinion)
{
	struct opinion worst = { rep_unknown, NULL };
	bool any = false;
	size_t i;

	*opinion = (struct opinion){ rep_prior(&readings[0], above), NULL };
	for (i = 0; i < count && !is_domain(&readings[i]) &&
	    readings[i].entity.dimension != REP_PAIR; i++)
		hear(opinion, &readings[i], &opinion->estimate);
	for (; i < count && is_domain(&readings[i]); i++) {
		struct rep_estimate next = rep_reading_estimate(&readings[i],
		    &opinion->estimate);

		if (any && next.low <= worst.estimate.low)
			continue;
		worst = (struct opinion){ next, &readings[i].entity };
		any = true;
	}
	if (any && rep_choose(&opinion->estimate, &worst.estimate) ==
	    &worst.estimate)
		*opinion = worst;
	if (i < count)
		hear(opinion, &readings[i], &opinion->estimate);
}

/* --- the cache --- */

static struct cached *
cache_place(struct reputation *reputation, const char *key)
{
	uint32_t hash = 2166136261u;

	for (; *key != '\0'; key++)
		hash = (hash ^ (unsigned char)*key) * 16777619u;
	return &reputation->cache[(hash ^ hash >> 16) & (CACHE_SIZE - 1)];
}

static bool
is_above(const struct rep_entity *entity)
{
	return rep_dimension_group(entity->dimension) == REP_ALL;
}

static bool
cache_get(struct reputation *reputation, struct rep_reading *reading,
    int64_t age_ms)
{
	char key[REP_KEY_SIZE];
	const struct cached *cached;

	rep_entity_key(&reading->entity, key);
	cached = cache_place(reputation, key);
	if (cached->key == NULL || strcmp(cached->key, key) != 0 ||
	    task_now() - cached->read_at > age_ms)
		return false;
	*reading = cached->reading;
	return true;
}

/* reading NULL: what is known of it is no longer true. */
static void
cache_put(struct reputation *reputation, const struct rep_entity *entity,
    const struct rep_reading *reading)
{
	char key[REP_KEY_SIZE];
	struct cached *cached;

	rep_entity_key(entity, key);
	cached = cache_place(reputation, key);
	if (reading == NULL) {
		if (cached->key != NULL && strcmp(cached->key, key) == 0)
			cached->read_at = task_now() - ABOVE_MS - 1;
		return;
	}
	if (cached->key == NULL || strcmp(cached->key, key) != 0) {
		free(cached->key);
		if ((cached->key = strdup(key)) == NULL)
			fatal("out of memory (reputation)");
	}
	cached->read_at = task_now();
	cached->reading = *reading;
}

void
reputation_changed(struct reputation *reputation)
{
	for (size_t i = 0; i < CACHE_SIZE; i++)
		reputation->cache[i].read_at = task_now() - ABOVE_MS - 1;
}

/* --- side by side --- */

struct job {
	struct reputation *reputation;
	struct rep_reading *reading;	/* to be read */
	const struct policy_outcome *outcome;	/* to be told: */
	const struct rep_entity *entity;
	bool alone;
};

static void
read_one(void *argument)
{
	struct job *job = argument;
	struct reputation *reputation = job->reputation;
	struct rep_reading *reading = job->reading;
	const char *why;

	if (rep_reading_fetch(reputation->store, reading, &why) !=
	    ANSWER_UNKNOWN)
		cache_put(reputation, &reading->entity, reading);
	else if (!cache_get(reputation, reading, STALE_MS))
		reading->answer = ANSWER_UNKNOWN;
}

static void
tell_one(void *argument)
{
	struct job *job = argument;
	const struct policy_outcome *outcome = job->outcome;
	const char *why;

	if (rep_tell(job->reputation->store, job->entity, outcome->id,
	    outcome->kind, job->alone, outcome->undo, &why) == ANSWER_UNKNOWN)
		counter_add(job->reputation->unlearnt, 1);
	if (!is_above(job->entity))
		cache_put(job->reputation, job->entity, NULL);
}

/* The last one here, the others in tasks of their own. */
static void
run_jobs(task_f *function, struct job *jobs, size_t count)
{
	struct task *tasks[REP_SENDERS_MAX + 1];

	if (count == 0)
		return;
	for (size_t i = 0; i + 1 < count; i++)
		tasks[i] = task_start("reputation", function, &jobs[i]);
	function(&jobs[count - 1]);
	for (size_t i = 0; i + 1 < count; i++)
		if (task_join(&tasks[i], DEADLINE_NEVER) != 0)
			task_reap(&tasks[i]);
}

/* UNKNOWN: some of it cannot be told. */
static enum answer
read_all(struct reputation *reputation, struct rep_reading *readings,
    size_t count)
{
	struct job jobs[REP_SENDERS_MAX + 1];
	enum answer answer = ANSWER_YES;
	size_t missing = 0;

	for (size_t i = 0; i < count; i++)
		if (!cache_get(reputation, &readings[i],
		    is_above(&readings[i].entity) ? ABOVE_MS : FRESH_MS))
			jobs[missing++] = (struct job){
			    .reputation = reputation, .reading = &readings[i] };
	run_jobs(read_one, jobs, missing);
	for (size_t i = 0; i < count; i++)
		if (readings[i].answer == ANSWER_UNKNOWN)
			answer = ANSWER_UNKNOWN;
	return answer;
}

/* --- the service --- */

static void
act(const struct reputation *reputation, const struct opinion *opinion,
    enum policy_state state, struct policy_decision *decision)
{
	const struct reputation_options *o = reputation->options;
	const struct rep_estimate *e = &opinion->estimate;
	char whose[REP_TEXT_SIZE] = "all mail";
	int score = rep_score(e);

	if (opinion->of != NULL)
		rep_entity_print(opinion->of, whose);
	snprintf(decision->score, sizeof(decision->score), "%d", score);
	snprintf(decision->why, sizeof(decision->why),
	    "spam=%.3f between=%.3f,%.3f by=%.120s", e->mean, e->low, e->high,
	    whose);
	counter_add(reputation->said[score > 0 ? SAID_BAD : score < 0 ?
	    SAID_GOOD : SAID_NEUTRAL], 1);
	if (o->reject_above > 0 && e->low * 100 > (double)o->reject_above)
		policy_decide(decision, POLICY_REJECT, "reputation",
		    "Too much mail of %.160s is spam",
		    strchr(whose, ':') != NULL ? strchr(whose, ':') + 1 :
		    whose);
	else if (o->defer_above > 0 && e->low * 100 > (double)o->defer_above)
		policy_decide(decision, POLICY_DEFER, "reputation",
		    "Much mail of %.160s is spam, try again later",
		    strchr(whose, ':') != NULL ? strchr(whose, ':') + 1 :
		    whose);
	else if (state == POLICY_AT_RCPT && o->pass_below > 0 &&
	    e->high * 100 < (double)o->pass_below)
		decision->verb = POLICY_PASS;
}

static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	struct reputation *reputation = instance;
	struct rep_reading readings[REP_SENDERS_MAX + 1];
	struct opinion opinion;
	struct rep_senders senders = { .count = 0 };

	rep_senders_of(query, reputation->dimensions, &senders);
	if (senders.count == 0)
		return;
	rep_entity_above(&senders.entities[0], &readings[0].entity);
	for (size_t i = 0; i < senders.count; i++)
		readings[i + 1].entity = senders.entities[i];
	if (read_all(reputation, readings, senders.count + 1) ==
	    ANSWER_UNKNOWN) {
		counter_add(reputation->said[SAID_UNKNOWN], 1);
		return;
	}
	form_opinion(&readings[0], readings + 1, senders.count, &opinion);
	act(reputation, &opinion, query->state, decision);
}

/* Has one before it told that group already? */
static bool
is_alone(const struct rep_senders *senders, size_t which)
{
	const struct rep_entity *entity = &senders->entities[which];

	for (size_t i = 0; i < which; i++) {
		const struct rep_entity *e = &senders->entities[i];

		if (rep_dimension_group(e->dimension) ==
		    rep_dimension_group(entity->dimension) &&
		    strcmp(e->group, entity->group) == 0)
			return true;
	}
	return false;
}

static void
outcome(void *instance, const struct policy_outcome *outcome)
{
	const struct policy_query query = {
		.request = outcome->request, .state = POLICY_AT_END,
		.ours = true, .trusted = policy_known(outcome->request,
		    POLICY_TRUSTED) != NULL,
	};
	struct reputation *reputation = instance;
	struct job jobs[REP_SENDERS_MAX + 1];
	struct rep_senders senders = { .count = 0 };
	struct rep_entity above;
	size_t i;

	if (evidence[outcome->kind].good + evidence[outcome->kind].bad == 0)
		return;
	rep_senders_of(&query, reputation->dimensions, &senders);
	if (senders.count == 0)
		return;
	counter_add(reputation->learnt[outcome->kind], 1);
	for (i = 0; i < senders.count; i++)
		jobs[i] = (struct job){ .reputation = reputation,
			.outcome = outcome, .entity = &senders.entities[i],
			.alone = is_alone(&senders, i) };
	/* What users of ours send is not the world's mail. */
	if (senders.entities[0].dimension != REP_USER) {
		rep_entity_above(&senders.entities[0], &above);
		jobs[i++] = (struct job){ .reputation = reputation,
			.outcome = outcome, .entity = &above };
	}
	run_jobs(tell_one, jobs, i);
}

static bool
is_option(enum rep_dimension dimension)
{
	return dimension < REP_DIMENSIONS && dimension != REP_ALL &&
	    dimension != REP_AS && dimension != REP_NETWORK &&
	    dimension != REP_ORGANIZATION;
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	struct reputation *reputation = calloc(1, sizeof(*reputation));
	static const char *const said[SAID_COUNT] = { "neutral", "good",
		"bad", "unknown" };
	char labels[64];

	(void)conf;
	(void)why;
	if (reputation == NULL || (reputation->cache = calloc(CACHE_SIZE,
	    sizeof(*reputation->cache))) == NULL)
		fatal("out of memory (reputation)");
	reputation->options = section->values;
	reputation->store = store;
	for (const char *const *name = reputation->options->dimensions;
	    *name != NULL; name++)
		reputation->dimensions |= 1u << rep_dimension_find(*name,
		    strlen(*name));
	for (size_t i = 0; i < SAID_COUNT; i++) {
		snprintf(labels, sizeof(labels), "says=\"%s\"", said[i]);
		reputation->said[i] = counter_get("millgate_reputation_total",
		    labels);
	}
	for (int i = 0; i < OUTCOME_KINDS; i++) {
		if (evidence[i].good + evidence[i].bad == 0)
			continue;
		snprintf(labels, sizeof(labels), "kind=\"%s\"",
		    policy_outcome_name(i));
		reputation->learnt[i] = counter_get(
		    "millgate_reputation_evidence_total", labels);
	}
	reputation->unlearnt = counter_get("millgate_reputation_lost_total",
	    NULL);
	return reputation;
}

static void
release(void *instance)
{
	struct reputation *reputation = instance;

	for (size_t i = 0; i < CACHE_SIZE; i++)
		free(reputation->cache[i].key);
	free(reputation->cache);
	free(reputation);
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct reputation_options *o = conf_get(conf,
	    reputation_section.name);
	const struct conf_section *section;
	size_t count;

	section = conf_sections(conf, reputation_section.name, &count);
	for (const char *const *name = o->dimensions; *name != NULL; name++)
		if (!is_option(rep_dimension_find(*name, strlen(*name))))
			conf_error(errors, conf, section, "dimensions",
			    "%s: is none of address, domain, selector, helo, "
			    "sender, user, pair", *name);
	if (o->reject_above > 0 && o->defer_above > o->reject_above)
		conf_error(errors, conf, section, "defer_above",
		    "is more than reject_above");
	if ((o->defer_above > 0 && o->pass_below >= o->defer_above) ||
	    (o->reject_above > 0 && o->pass_below >= o->reject_above))
		conf_error(errors, conf, section, "pass_below",
		    "must be less than defer_above and reject_above");
}

const struct policy_service reputation_service = {
	.options = &reputation_section,
	.states = POLICY_AT_RCPT | POLICY_AT_END,
	.setup = setup,
	.release = release,
	.decide = decide,
	.outcome = outcome,
	.command_word = "rep",
	.command = rep_command,
	.check = check,
};
