/* "rep ...": what millgatectl shows and changes of reputation. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/log.h"
#include "policy/lifetime.h"
#include "policy/reputation.h"
#include "policy/reputation_command.h"

#define TOP_DEFAULT	20
#define TOP_MAX		1000
#define EVENTS_SHOWN	10

static const char usage[] =
    "rep show ENTITY; rep why ENTITY; rep top [N] [DIMENSION]; "
    "rep pin ENTITY good|bad|PERCENT|off [for DURATION]; rep forget ENTITY; "
    "rep report KIND EVENT ENTITY [undo]; rep export [DIMENSION] [PART/PARTS]; "
    "rep import ENTITY NUMBERS COUNTS...";

static const char *const span_names[REP_SPANS] = { "hour", "day",
	"fortnight" };

static void
put_estimate(struct buf *out, const struct rep_estimate *e)
{
	buf_printf(out, "spam=%.3f between=%.3f,%.3f messages=%.1f by=%s",
	    e->mean, e->low, e->high, e->evidence, e->pinned ?
	    "pin" : span_names[e->span]);
}

static void
put_time(struct buf *out, int64_t ms)
{
	time_t seconds = (time_t)(ms / 1000);
	char text[32];
	struct tm tm;

	gmtime_r(&seconds, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	buf_puts(out, text);
}

static int
fetch(const struct rep_words *c, struct rep_reading *reading)
{
	return rep_reading_fetch(c->store, reading, c->why) ==
	    ANSWER_UNKNOWN ? -1 : 0;
}

/* The only word as an entity, its reading and that of what is above it. */
static int
fetch_word(const struct rep_words *c, struct rep_reading *above,
    struct rep_reading *reading)
{
	if (rep_entity_parse(c->words[0], &reading->entity, c->why) != 0)
		return -1;
	rep_entity_above(&reading->entity, &above->entity);
	return fetch(c, above) != 0 ? -1 : fetch(c, reading);
}

static int
show(const struct rep_words *c)
{
	struct rep_reading above, reading;
	struct rep_estimate prior, e;
	char text[REP_TEXT_SIZE];

	if (c->count != 1)
		return -2;
	if (fetch_word(c, &above, &reading) != 0)
		return -1;
	prior = rep_prior(&reading, &above);
	e = rep_reading_estimate(&reading, &prior);
	buf_printf(c->out, "%s ", rep_entity_print(&reading.entity, text));
	put_estimate(c->out, &e);
	buf_printf(c->out, " score=%d\n", rep_score(&e));
	return 0;
}

/* --- why --- */

static void
put_weights(struct buf *out, const struct rep_state *state,
    const char *whose)
{
	for (int i = 0; i < REP_SPANS; i++)
		buf_printf(out, "  %-10s good=%.6f bad=%.6f%s\n",
		    span_names[i], (double)state->good[i] / REP_MESSAGE,
		    (double)state->bad[i] / REP_MESSAGE, whose);
}

static void
put_prior(struct buf *out, const char *what, const struct rep_estimate *prior)
{
	buf_printf(out, "prior of %s: ", what);
	put_estimate(out, prior);
	buf_printf(out, ", worth %.1f messages\n",
	    prior->evidence < REP_PRIOR_MAX ? prior->evidence : REP_PRIOR_MAX);
}

/* One after the other, up to what nothing is above of. */
static void
put_priors(const struct rep_words *c, const struct rep_reading *reading,
    const struct rep_reading *above)
{
	struct rep_estimate prior = rep_prior(reading, above), group;
	struct rep_entity parent;
	char text[REP_TEXT_SIZE];
	struct rep_state rest;

	if (!rep_entity_is_group(&reading->entity)) {
		rest = rep_without(&reading->group, &reading->own);
		group = rep_estimate(&prior, &rest, reading->now_ms);
		rep_entity_group(&reading->entity, &parent);
		put_prior(c->out, rep_entity_print(&parent, text), &group);
		put_weights(c->out, &rest, ", without it");
	}
	if (above->entity.dimension == REP_AS) {
		put_prior(c->out, rep_entity_print(&above->entity, text),
		    &prior);
		rest = rep_without(&above->group, &above->own);
		prior = rep_estimate(&rep_unknown, &rest, above->now_ms);
	}
	put_prior(c->out, prior.evidence == rep_unknown.evidence ?
	    "the unknown" : "other mail", &prior);
}

/* What the entity's own record says besides its weights. */
static int
put_record(const struct rep_words *c, const struct rep_reading *reading)
{
	char key[REP_KEY_SIZE], note[STORE_NOTE_MAX + 1];
	int64_t counts[OUTCOME_KINDS], pin = reading->own.pin;
	struct store_record record;

	rep_entity_key(&reading->entity, key);
	switch (store_read(c->store, key, &record, note, c->why)) {
	case ANSWER_UNKNOWN:
		return -1;
	case ANSWER_NO:
		buf_puts(c->out, "nothing was heard of it\n");
		return 0;
	case ANSWER_YES:
		break;
	}
	rep_counts_parse(note, counts);
	buf_puts(c->out, "heard of:");
	for (int i = 0; i < OUTCOME_KINDS; i++)
		if (counts[i] > 0)
			buf_printf(c->out, " %s=%" PRId64,
			    policy_outcome_name(i), counts[i]);
	buf_puts(c->out, ", last changed ");
	put_time(c->out, record.values[6]);
	buf_putc(c->out, '\n');
	if (rep_pin_score(pin, reading->now_ms) < 0)
		return 0;
	buf_printf(c->out, "pinned at %.3f",
	    rep_pin_score(pin, reading->now_ms) / 1000.0);
	if (rep_pin_until_ms(pin) != 0) {
		buf_puts(c->out, " until ");
		put_time(c->out, rep_pin_until_ms(pin));
	}
	buf_putc(c->out, '\n');
	return 0;
}

struct event {
	int64_t values[STORE_VALUES];
	char id[REP_EVENT_ID_MAX + 1];
};

struct events {
	const struct rep_entity *entity;
	struct event latest[EVENTS_SHOWN];	/* the last one first */
	size_t count;
};

static bool
had_part(const struct rep_entity *entity, const char *key,
    const struct store_record *record)
{
	int64_t kind = record->values[REP_EVENT_KIND];
	char own[REP_KEY_SIZE];

	if (kind < 0 || kind >= OUTCOME_KINDS)
		return false;
	if (rep_entity_is_group(entity) && record->values[REP_EVENT_WHOLE])
		return true;
	rep_entity_event_key(entity, record->note, policy_outcome_name(kind),
	    own);
	return strcmp(own, key) == 0;
}

static int
take_event(void *argument, const char *key, const struct store_record *record)
{
	struct events *events = argument;
	struct event *latest = events->latest;
	int64_t at = record->values[REP_EVENT_AT];
	size_t i = events->count;

	if (!had_part(events->entity, key, record) || (i == EVENTS_SHOWN &&
	    latest[i - 1].values[REP_EVENT_AT] >= at))
		return 0;
	if (i < EVENTS_SHOWN)
		events->count++;
	else
		i--;
	for (; i > 0 && latest[i - 1].values[REP_EVENT_AT] < at; i--)
		latest[i] = latest[i - 1];
	memcpy(latest[i].values, record->values, sizeof(record->values));
	snprintf(latest[i].id, sizeof(latest[i].id), "%s", record->note);
	return 0;
}

static int
put_events(const struct rep_words *c, const struct rep_entity *entity)
{
	struct events *events = calloc(1, sizeof(*events));
	char prefix[REP_KEY_SIZE];
	int rc = -1;

	if (events == NULL)
		fatal("out of memory (reputation)");
	events->entity = entity;
	rep_entity_event_prefix(entity, prefix);
	if (store_scan(c->store, prefix, take_event, events, c->why) !=
	    ANSWER_UNKNOWN)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < events->count; i++) {
		const int64_t *v = events->latest[i].values;

		buf_puts(c->out, "event ");
		put_time(c->out, v[REP_EVENT_AT]);
		buf_printf(c->out, " %s %s good=%.1f bad=%.1f%s\n",
		    policy_outcome_name(v[REP_EVENT_KIND]),
		    events->latest[i].id,
		    (double)v[REP_EVENT_GOOD] / REP_MESSAGE,
		    (double)v[REP_EVENT_BAD] / REP_MESSAGE,
		    v[REP_EVENT_STATE] == REP_EVENT_UNDONE ? " taken back" :
		    "");
	}
	free(events);
	return rc;
}

static int
why(const struct rep_words *c)
{
	struct rep_reading above, reading;

	if (c->count != 1)
		return -2;
	if (show(c) != 0 || fetch_word(c, &above, &reading) != 0)
		return -1;
	put_weights(c->out, &reading.own, "");
	put_priors(c, &reading, &above);
	if (put_record(c, &reading) != 0)
		return -1;
	return put_events(c, &reading.entity);
}

/* --- all of them --- */

struct candidate {
	struct rep_entity entity;
	struct rep_estimate estimate;
};

struct top {
	enum rep_dimension dimension;	/* REP_DIMENSIONS: of all */
	int64_t now_ms;
	struct candidate *worst;
	size_t count, limit;
};

static int
take_worst(void *argument, const char *key, const struct store_record *record)
{
	struct top *top = argument;
	struct candidate candidate;
	struct rep_state state;
	size_t i;

	if (!rep_entity_from_key(key, &candidate.entity) ||
	    (top->dimension != REP_DIMENSIONS &&
	    candidate.entity.dimension != top->dimension))
		return 0;
	rep_state_unpack(record->values, &state);
	rep_state_decay(&state, top->now_ms);
	candidate.estimate = rep_estimate(&rep_unknown, &state, top->now_ms);
	i = top->count;
	if (i == top->limit && top->worst[--i].estimate.low >=
	    candidate.estimate.low)
		return 0;
	for (; i > 0 && top->worst[i - 1].estimate.low <
	    candidate.estimate.low; i--)
		top->worst[i] = top->worst[i - 1];
	top->worst[i] = candidate;
	if (top->count < top->limit)
		top->count++;
	return 0;
}

/* Words "[N] [DIMENSION]" in any order; -2: they are none. */
static int
parse_top(const struct rep_words *c, struct top *top)
{
	for (size_t i = 0; i < c->count; i++) {
		char *end;
		long number = strtol(c->words[i], &end, 10);

		if (*end == '\0' && number > 0 && number <= TOP_MAX) {
			top->limit = (size_t)number;
			continue;
		}
		top->dimension = rep_dimension_find(c->words[i],
		    strlen(c->words[i]));
		if (top->dimension == REP_DIMENSIONS)
			return -2;
	}
	return c->count > 2 ? -2 : 0;
}

static int
top(const struct rep_words *c)
{
	struct top top = { .dimension = REP_DIMENSIONS,
		.limit = TOP_DEFAULT };
	char text[REP_TEXT_SIZE];
	struct rep_reading all;
	int rc = -1;

	if (parse_top(c, &top) != 0)
		return -2;
	rep_entity_make(REP_ALL, "", &all.entity);
	if (fetch(c, &all) != 0)
		return -1;
	top.now_ms = all.now_ms;
	if ((top.worst = calloc(top.limit, sizeof(*top.worst))) == NULL)
		fatal("out of memory (reputation)");
	if (store_scan(c->store, REP_KEYS, take_worst, &top, c->why) !=
	    ANSWER_UNKNOWN)
		rc = 0;
	for (size_t i = 0; rc == 0 && i < top.count; i++) {
		buf_printf(c->out, "%s ", rep_entity_print(
		    &top.worst[i].entity, text));
		put_estimate(c->out, &top.worst[i].estimate);
		buf_putc(c->out, '\n');
	}
	free(top.worst);
	return rc;
}

/* --- changes --- */

static int
forget(const struct rep_words *c)
{
	struct rep_entity entity;
	char key[REP_KEY_SIZE];

	if (c->count != 1)
		return -2;
	if (rep_entity_parse(c->words[0], &entity, c->why) != 0)
		return -1;
	rep_entity_key(&entity, key);
	switch (store_forget(c->store, key, c->why)) {
	case ANSWER_YES:
		return 0;
	case ANSWER_NO:
		*c->why = "nothing was heard of it";
		break;
	case ANSWER_UNKNOWN:
		break;
	}
	return -1;
}

/* -1: off; -2: nonsense. */
static int
parse_score(const char *text)
{
	char *end;
	double percent;

	if (strcmp(text, "off") == 0)
		return -1;
	if (strcmp(text, "good") == 0)
		return 0;
	if (strcmp(text, "bad") == 0)
		return 1000;
	percent = strtod(text, &end);
	if (end == text || *end != '\0' || !(percent >= 0 && percent <= 100))
		return -2;
	return (int)(percent * 10 + 0.5);
}

static int
pin(const struct rep_words *c)
{
	struct rep_reading reading;
	char key[REP_KEY_SIZE];
	int64_t ms = 0;
	int score;

	if ((c->count != 2 && c->count != 4) || (score = parse_score(
	    c->words[1])) == -2 || (c->count == 4 &&
	    strcmp(c->words[2], "for") != 0))
		return -2;
	if ((c->count == 4 && lifetime_parse(c->words[3], &ms, c->why) != 0) ||
	    rep_entity_parse(c->words[0], &reading.entity,
	    c->why) != 0 || fetch(c, &reading) != 0)
		return -1;
	rep_entity_key(&reading.entity, key);
	return rep_pin(c->store, key, score == -1 ? 0 : rep_pin_make(score,
	    ms == 0 ? 0 : reading.now_ms + ms), c->why) == ANSWER_UNKNOWN ?
	    -1 : 0;
}

static int
report(const struct rep_words *c)
{
	bool undo = c->count == 4 && strcmp(c->words[3], "undo") == 0;
	struct rep_entity entity;
	int kind;

	if (c->count != 3 && !undo)
		return -2;
	*c->why = "a kind is spam, ham, malware, trap, bounced, "
	    "reported-spam or released";
	if ((kind = policy_outcome_find(c->words[0])) == -1 ||
	    rep_entity_parse(c->words[2], &entity, c->why) != 0)
		return -1;
	switch (rep_tell(c->store, &entity, c->words[1], kind, false, undo,
	    c->why)) {
	case ANSWER_YES:
		return 0;
	case ANSWER_NO:
		if (**c->why == '\0')
			*c->why = undo ? "it was not told, or taken back" :
			    "it was told before";
		break;
	case ANSWER_UNKNOWN:
		break;
	}
	return -1;
}

static const struct {
	const char *word;
	int (*run)(const struct rep_words *);
} commands[] = {
	{ "show", show }, { "why", why }, { "top", top }, { "pin", pin },
	{ "forget", forget }, { "report", report },
	{ "export", rep_export },
	{ "import", rep_import },
};

int
rep_command(const struct policy_instance *instances, size_t count,
    struct store *store, const char *const *words, size_t word_count,
    struct buf *out, const char **why_not)
{
	const struct rep_words command = { store, words + 2, word_count - 2, out,
		why_not };
	int rc = -2;

	for (size_t i = 0; word_count > 1 && i < sizeof(commands) /
	    sizeof(commands[0]); i++)
		if (strcmp(words[1], commands[i].word) == 0)
			rc = commands[i].run(&command);
	for (size_t i = 0; i < count; i++)
		reputation_changed(instances[i].instance);
	if (rc == -2)
		*why_not = usage;
	return rc;
}
