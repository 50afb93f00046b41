/* The frame of limits as services. */
#include "policy/limit_frame.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/table.h"

static void
get_counters(struct limit_frame *frame)
{
	static const char *const answers[] = {
		[ANSWER_NO] = "limited", [ANSWER_YES] = "pass",
		[ANSWER_UNKNOWN] = "unknown",
	};
	char counter[64];

	snprintf(counter, sizeof(counter), "millgate_%s_total",
	    frame->scope.kind);
	for (size_t i = 0; i < 3; i++) {
		char labels[256] = "";

		counter_label(labels, sizeof(labels), "limit",
		    frame->scope.name);
		counter_label(labels, sizeof(labels), "answer", answers[i]);
		frame->answers[i] = counter_get(counter, labels);
	}
}

int
limit_frame_init(struct limit_frame *frame, const char *kind,
    const struct conf_section *section, const char *const *key,
    const struct table *exceptions, struct store *store, const char **why)
{
	frame->scope = (struct limit_scope){ kind, section->title };
	frame->exceptions = exceptions;
	frame->store = store;
	get_counters(frame);
	return limit_key_parse(key, &frame->key, why);
}

enum answer
limit_frame_exception(const struct limit_frame *frame,
    const struct limit_subject *subject, const char **value)
{
	return limit_key_find(&frame->key, frame->exceptions, subject, value);
}

void
limit_frame_explain(const struct limit_take *take,
    const struct limit_state *state, struct policy_decision *decision)
{
	snprintf(decision->why, sizeof(decision->why),
	    "%.150s: used=%lld limit=%lld", take->subject,
	    (long long)state->used, (long long)take->burst);
}

/* --- errors between options --- */

struct check {
	struct buf *errors;
	const struct conf *conf;
	const struct conf_section *section;
	limit_exception_f *parse;
};

static void
check_exception(const char *key, const char *value, void *argument)
{
	const struct check *check = argument;
	struct buf why = BUF_INIT;

	if (check->parse(value, check->section, &why) != 0)
		conf_error(check->errors, check->conf, check->section,
		    "exceptions", "%s: %s", key, why.data);
	buf_release(&why);
}

void
limit_frame_check(const struct conf *conf, const struct conf_section *section,
    const struct table *exceptions, limit_exception_f *parse,
    const char *message, struct buf *errors)
{
	struct check check = { errors, conf, section, parse };

	if (exceptions != NULL)
		table_each(exceptions, check_exception, &check);
	policy_check_message(conf, section, message, errors);
}
