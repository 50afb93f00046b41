/*
 * The filter "rules": evaluates the rules in their order, adds their points to
 * those of policy services, and does what the sum or a rule says.
 */
#include "filters/rules.h"

#include <math.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/counter.h"
#include "base/log.h"
#include "filters/rules_private.h"
#include "filters/trace.h"

#define NAMES_MAX 1000			/* of the list in log and field */

/* What became of the rules for a message. */
struct outcome {
	struct rules_subject subject;
	struct buf names;		/* "forged:8 spf_fail:2" */
	const struct rule *decided;	/* by its action; NULL: none */
	enum rules_fate fate;
	bool mark;
	struct rules_thresholds first;	/* of the first recipient */
};

static const struct class_options *
recipient_class(const struct filter_run *run, const struct recipient *r)
{
	return rules_class_of(run->instance, run->session->listener,
	    r->address);
}

static struct verdict
rules_rcpt(struct filter_run *run, struct recipient *recipient)
{
	const struct rules *instance = run->instance;
	const struct recipient *first = run->mail->envelope.recipients;

	if (instance->options->mixed != MIXED_APART || first == NULL ||
	    first == recipient || recipient_class(run, first) ==
	    recipient_class(run, recipient))
		return VERDICT_CONTINUE;
	return (struct verdict){ .action = ACTION_TEMPFAIL, .code = 452,
		.enhanced = "4.5.3", .reason = "rules-class",
		.text = "Send this recipient a message of its own" };
}

/* --- the score --- */

static void
add_points(struct outcome *outcome, const char *name, int64_t points,
    bool policy)
{
	struct buf *names = &outcome->names;

	outcome->subject.score += points;
	if (!policy)
		outcome->subject.own += points;
	if (names->len > NAMES_MAX)
		return;
	buf_printf(names, "%s%s:", names->len > 0 ? " " : "", name);
	option_print_decimal(names, points);
}

struct worst {
	const char *method;
	int64_t points;
	struct worst *next;
};

/* Of each service that gave some, in the order of the findings. */
static struct worst *
find_worst(const struct mail *mail, struct arena *scratch)
{
	struct worst *first = NULL, **at;
	int64_t points;

	for (const struct finding *f = mail->findings; f != NULL;
	    f = f->next) {
		if (!rules_points(f, &points))
			continue;
		for (at = &first; *at != NULL; at = &(*at)->next)
			if (strcmp((*at)->method, f->method) == 0)
				break;
		if (*at == NULL) {
			*at = arena_alloc(scratch, sizeof(**at));
			**at = (struct worst){ f->method, points, NULL };
		} else if (points > (*at)->points) {
			(*at)->points = points;
		}
	}
	return first;
}

/* A service that was asked about each recipient counts once, at its worst. */
static void
add_policy_points(struct outcome *outcome, const struct mail *mail)
{
	const struct worst *w = find_worst(mail, outcome->subject.scratch);

	for (; w != NULL; w = w->next)
		if (w->points != 0)
			add_points(outcome, w->method, w->points, true);
}

static void
complain(const struct filter_run *run, struct rule *rule, const char *why)
{
	counter_add(rule->errors, 1);
	trace_add(run->mail->trace, run->name, "%s: %s", rule->name, why);
	if (!rule->complained)
		log_warn(&run->mail->log, "filter=%s rule=%s: %s; it does not "
		    "count then, and is not told again", run->name, rule->name,
		    why);
	rule->complained = true;
}

/* The points that the rule gives; false: its condition is not true. */
static bool
ask(const struct filter_run *run, struct rule *rule,
    struct rules_subject *subject, int64_t *points)
{
	struct rules *instance = run->instance;
	const char *why;
	double number, product;

	*points = rule->options->score;
	subject->policy_seen = false;
	switch (lua_box_run(instance->box, rule->expression, subject, &number,
	    &why)) {
	case LUA_BOX_FAILED:
		complain(run, rule, why);
		return false;
	case LUA_BOX_FALSE:
		return false;
	case LUA_BOX_TRUE:
		return true;
	case LUA_BOX_NUMBER:
		break;
	}
	product = number * (double)rule->options->score;
	if (product > RULES_POINTS_MAX)
		product = RULES_POINTS_MAX;
	if (product < -RULES_POINTS_MAX)
		product = -RULES_POINTS_MAX;
	*points = llround(product);
	return number != 0;
}

static void
ask_all(const struct filter_run *run, struct outcome *outcome)
{
	struct rules *instance = run->instance;
	struct rules_subject *subject = &outcome->subject;

	for (size_t i = 0; i < instance->rule_count; i++) {
		struct rule *rule = &instance->rules[i];
		int64_t points;

		if (!ask(run, rule, subject, &points))
			continue;
		counter_add(rule->matches, 1);
		add_points(outcome, rule->name, points, subject->policy_seen);
		if (rule->options->action != RULE_NONE) {
			outcome->decided = rule;
			return;
		}
	}
}

/* --- what is done --- */

static void
decide(const struct filter_run *run, struct outcome *outcome)
{
	static const enum rules_fate fates[] = {
		[RULE_ACCEPT] = RULES_PASS, [RULE_DEFER] = RULES_DEFER,
		[RULE_QUARANTINE] = RULES_HOLD, [RULE_REJECT] = RULES_REJECT
	};
	const struct rules *instance = run->instance;
	const struct recipient *r = run->mail->envelope.recipients;
	int64_t score = outcome->subject.score;
	bool accept = outcome->decided != NULL &&
	    outcome->decided->options->action == RULE_ACCEPT;

	outcome->first = rules_thresholds_of(instance->options, r != NULL ?
	    recipient_class(run, r) : NULL);
	outcome->fate = rules_fate(&outcome->first, score);
	for (; r != NULL && !accept; r = r->next) {
		struct rules_thresholds t = rules_thresholds_of(instance->options,
		    recipient_class(run, r));

		outcome->fate = rules_fate_join(outcome->fate,
		    rules_fate(&t, score));
		outcome->mark |= t.add_header > 0 && score >= t.add_header;
	}
	if (outcome->decided != NULL)
		outcome->fate = fates[outcome->decided->options->action];
}

/*
 * What senders wrote into our fields goes, as receivers believe them, and where
 * ours come, those of scanners, too.
 */
static void
clear_fields(struct filter_run *run, bool all)
{
	static const char *const names[] = { "X-Spam-Flag", "X-Spam-Score",
		"X-Spam-Status" };
	const struct session *session = run->session;
	bool stranger = !session->trusted && session->user == NULL;
	struct headers *headers = &run->mail->headers;
	struct header *h, *next;

	for (h = headers->first; h != NULL; h = next) {
		bool ours = false;

		next = h->next;
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			ours |= header_is(h, names[i]);
		if (ours && (all || (stranger && !h->added)))
			headers_delete(headers, h);
	}
}

static void
add_fields(struct filter_run *run, const struct outcome *outcome)
{
	struct mail *mail = run->mail;
	struct buf value = BUF_INIT;

	headers_add(&mail->headers, mail->arena, NULL, "X-Spam-Flag", "YES",
	    true);
	option_print_decimal(&value, outcome->subject.score);
	headers_add(&mail->headers, mail->arena, NULL, "X-Spam-Score",
	    value.data, true);
	buf_reset(&value);
	buf_puts(&value, "Yes, score=");
	option_print_decimal(&value, outcome->subject.score);
	buf_puts(&value, " required=");
	option_print_decimal(&value, outcome->first.add_header);
	buf_printf(&value, "\n\trules=\"%s\"", outcome->names.len > 0 ?
	    outcome->names.data : "");
	headers_add(&mail->headers, mail->arena, NULL, "X-Spam-Status",
	    value.data, true);
	buf_release(&value);
}

/* For those that learn, and for explain. */
static void
note(struct filter_run *run, const struct outcome *outcome)
{
	static const char *const words[] = { "none", "add_header",
		"quarantine", "defer", "reject" };
	const struct rules *instance = run->instance;
	struct rules_thresholds general = rules_thresholds_of(instance->options, NULL);
	struct finding *finding;
	struct buf score = BUF_INIT, own = BUF_INIT, line = BUF_INIT;

	option_print_decimal(&score, outcome->subject.score);
	option_print_decimal(&own, outcome->subject.own);
	finding = finding_add(run, "rules", rules_opinion(&general,
	    outcome->subject.own), NULL);
	finding_property(run, finding, "rules", "score", score.data);
	finding_property(run, finding, "rules", "own", own.data);
	finding->report = false;
	buf_printf(&line, "rules=\"%s\" score=%s/", outcome->names.len > 0 ?
	    outcome->names.data : "", score.data);
	option_print_decimal(&line, outcome->first.reject);
	buf_printf(&line, " action=%s", outcome->decided != NULL &&
	    outcome->decided->options->action == RULE_ACCEPT ? "accept" :
	    words[outcome->fate]);
	if (outcome->decided != NULL)
		buf_printf(&line, " rule=%s", outcome->decided->name);
	trace_add(run->mail->trace, run->name, "%s", line.data);
	if (outcome->names.len > 0)
		log_info(&run->mail->log, "filter=%s %s", run->name,
		    line.data);
	buf_release(&score);
	buf_release(&own);
	buf_release(&line);
}

static struct verdict
act(struct filter_run *run, const struct outcome *outcome)
{
	const struct rule *rule = outcome->decided;
	const char *reason = rule != NULL ? "rule" : "score";
	const char *text = rule != NULL ? rule->options->text : NULL;
	struct envelope *envelope = &run->mail->envelope;

	if (outcome->fate == RULES_REJECT)
		return (struct verdict){ .action = ACTION_REJECT, .code = 550,
			.enhanced = "5.7.1", .reason = reason,
			.text = text != NULL ? text : rule != NULL ?
			"Message refused by local policy" :
			"Message looks like spam" };
	if (outcome->fate == RULES_DEFER)
		return (struct verdict){ .action = ACTION_TEMPFAIL,
			.code = 451, .enhanced = "4.7.1", .reason = reason,
			.text = text != NULL ? text : rule != NULL ?
			"Message deferred by local policy" :
			"Message looks suspicious, try again later" };
	if (outcome->fate == RULES_HOLD) {
		envelope->hold = true;
		envelope->hold_reason = text != NULL ? text :
		    arena_printf(run->mail->arena, "%s: %s", reason,
		    rule != NULL ? rule->name : outcome->names.data);
	}
	return VERDICT_CONTINUE;
}

static struct verdict
rules_eom(struct filter_run *run)
{
	struct rules *instance = run->instance;
	struct outcome outcome = { .subject = { .session = run->session,
		.mail = run->mail, .scratch = instance->scratch },
		.names = BUF_INIT };
	struct verdict verdict;

	add_policy_points(&outcome, run->mail);
	ask_all(run, &outcome);
	decide(run, &outcome);
	note(run, &outcome);
	clear_fields(run, outcome.mark);
	if (outcome.mark)
		add_fields(run, &outcome);
	verdict = act(run, &outcome);
	buf_release(&outcome.names);
	arena_reset(instance->scratch);
	return verdict;
}

const struct filter filter_rules = {
	.name = "rules",
	.options = &rules_scoring,
	.setup = rules_setup,
	.release = rules_release,
	.rcpt = rules_rcpt,
	.eom = rules_eom,
};
