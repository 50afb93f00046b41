/*
 * Recipient validation.  What the next server said is kept in the store, for a
 * fleet of gateways to ask it once.
 */
#include "policy/recipient_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/table.h"
#include "base/task.h"
#include "policy/recipient_probe.h"
#include "policy/service.h"
#include "policy/store.h"
#include "policy/subject.h"

#define KEY_SIZE	(SUBJECT_DIGEST_HEX + 16)

struct recipient_check {
	const struct recipient_check_options *options;
	struct store *store;
	struct prober *prober;		/* or NULL */
	struct counter *asked[3], *cached;	/* asked: by the answer */
};

static const struct option_row recipient_check_rows[] = {
	RECIPIENT_CHECK_OPTIONS(OPTION_ROW, recipient_check_options)
};

const struct section_kind recipient_check_section = {
	.name = "recipient_check",
	.titled = true,
	.doc = "Refuses recipients that do not exist.",
	.rows = recipient_check_rows,
	.row_count = OPTION_COUNT(recipient_check_rows),
	.size = sizeof(struct recipient_check_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_call_ahead_total", COUNTER_TOTAL,
	    "Recipients that the next server was asked about, by its answer." },
	{ "millgate_call_ahead_cached_total", COUNTER_TOTAL,
	    "Recipients of which it was known what it says." },
};
COUNTER_TABLE(counter_rows)

/* --- what is kept --- */

/* a[1]: the answer; a[2]: how long it is kept; t[1]: what the server said. */
static enum answer
keep_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record record = {
		.values = { a[0] }, .note = texts[0],
		.expires_ms = store_now(records) + a[1],
	};

	(void)results;
	store_put(records, keys[0], &record);
	return ANSWER_YES;
}

static const struct store_step keep_step = {
	.name = "recipient-keep",
	.keys = 1, .arguments = 2, .texts = 1,
	.run = keep_run,
	.script =
	    "put(k[1], { a[1], note = t[1] }, now + a[2])\n"
	    "return 1\n",
};

static void
key_print(char key[KEY_SIZE], const struct recipient_check *check,
    const char *recipient)
{
	const char *const texts[] = { check->options->call_ahead, recipient };
	char hex[SUBJECT_DIGEST_HEX + 1];

	subject_digest(texts, 2, hex);
	snprintf(key, KEY_SIZE, "rcpt:{%s}", hex);
}

static bool
get_kept(const struct recipient_check *check, const char *key,
    enum answer *answer, char text[PROBE_TEXT_SIZE])
{
	char note[STORE_NOTE_MAX + 1];
	struct store_record record;
	const char *why;

	if (store_read(check->store, key, &record, note, &why) != ANSWER_YES)
		return false;
	*answer = record.values[0] == ANSWER_YES ? ANSWER_YES : ANSWER_NO;
	snprintf(text, PROBE_TEXT_SIZE, "%.255s", note);
	return true;
}

static void
keep(void *argument, const char *recipient, enum answer answer,
    const char *text)
{
	const struct recipient_check *check = argument;
	const struct recipient_check_options *o = check->options;
	const int64_t arguments[] = { answer, answer == ANSWER_YES ?
		o->cache_yes : o->cache_no };
	char key[KEY_SIZE];
	const char *const keys[] = { key };
	const char *why;

	key_print(key, check, recipient);
	store_run(check->store, &keep_step, keys, arguments, &text, NULL,
	    &why);
}

/* --- asking --- */

/* Other bytes than ASCII would need SMTPUTF8, others still would be commands. */
static bool
can_be_asked(const char *recipient)
{
	for (const char *p = recipient; *p != '\0'; p++)
		if (*p < ' ' || *p > '~')
			return false;
	return true;
}

static enum answer
call_ahead(struct recipient_check *check, const char *recipient,
    char text[PROBE_TEXT_SIZE])
{
	char key[KEY_SIZE];
	enum answer answer;

	if (!can_be_asked(recipient)) {
		strcpy(text, "an address that the server cannot be asked "
		    "about");
		return ANSWER_YES;
	}
	key_print(key, check, recipient);
	if (get_kept(check, key, &answer, text)) {
		counter_add(check->cached, 1);
		return answer;
	}
	answer = prober_ask(check->prober, recipient,
	    task_deadline(check->options->call_ahead_timeout), text);
	counter_add(check->asked[answer], 1);
	return answer;
}

static void
refuse(struct policy_decision *decision, enum answer answer,
    bool called, const char *why)
{
	if (answer == ANSWER_NO && called)
		policy_decide(decision, POLICY_REJECT, "recipient-unknown",
		    "No such recipient");
	else if (answer == ANSWER_NO)
		policy_decide(decision, POLICY_REJECT, "user-unknown",
		    "No such recipient");
	else if (called)
		policy_decide(decision, POLICY_DEFER, "recipient-unverified",
		    "Cannot tell whether the recipient exists, try later");
	else
		policy_decide(decision, POLICY_DEFER, "recipient-check",
		    "Cannot tell whether the recipient exists, try later");
	decision->code = answer == ANSWER_NO ? 550 : 450;
	strcpy(decision->enhanced, answer == ANSWER_NO ? "5.1.1" :
	    called ? "4.4.1" : "4.4.3");
	snprintf(decision->why, sizeof(decision->why), "%s", why);
}

static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	struct recipient_check *check = instance;
	const struct recipient_check_options *o = check->options;
	const char *recipient = policy_value(query->request,
	    POLICY_RECIPIENT);
	const char *at = strrchr(recipient, '@'), *value, *why = "";
	char text[PROBE_TEXT_SIZE] = "";
	enum answer answer;

	if (at == NULL)
		return;
	answer = table_find_domain(o->domains, at + 1, &value, &why);
	if (answer == ANSWER_YES) {
		why = "not in recipients";
		answer = table_find_address(o->recipients, recipient, &value,
		    &why);
		if (answer != ANSWER_YES && check->prober != NULL) {
			answer = call_ahead(check, recipient, text);
			why = text;
		}
	} else if (answer == ANSWER_NO) {
		return;
	}
	if (answer != ANSWER_YES)
		refuse(decision, answer, *text != '\0', why);
}

/* --- setting up --- */

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	static const char *const answers[] = {
		[ANSWER_NO] = "answer=\"no\"", [ANSWER_YES] = "answer=\"yes\"",
		[ANSWER_UNKNOWN] = "answer=\"unknown\"",
	};
	struct recipient_check *check = calloc(1, sizeof(*check));
	const char *hostname = conf_top_string(conf, "hostname");

	if (check == NULL)
		fatal("out of memory (recipient_check)");
	check->options = section->values;
	check->store = store;
	for (size_t i = 0; i < 3; i++)
		check->asked[i] = counter_get("millgate_call_ahead_total",
		    answers[i]);
	check->cached = counter_get("millgate_call_ahead_cached_total", NULL);
	if (check->options->call_ahead == NULL)
		return check;
	check->prober = prober_new(check->options->call_ahead, hostname !=
	    NULL ? hostname : "localhost", keep, check, why);
	if (check->prober != NULL)
		return check;
	free(check);
	return NULL;
}

static void
release(void *instance)
{
	struct recipient_check *check = instance;

	prober_free(&check->prober);
	free(check);
}

static void
check_section(const struct conf *conf, const struct conf_section *section,
    struct buf *errors)
{
	const struct recipient_check_options *o = section->values;
	struct prober *prober;
	const char *why;

	if (o->domains == NULL)
		conf_error(errors, conf, section, "domains", "is required");
	if (o->recipients == NULL && o->call_ahead == NULL)
		conf_error(errors, conf, section, "recipients",
		    "this or call_ahead is required");
	if (o->call_ahead == NULL)
		return;
	prober = prober_new(o->call_ahead, "", NULL, NULL, &why);
	if (prober == NULL)
		conf_error(errors, conf, section, "call_ahead", "%s: %s",
		    o->call_ahead, why);
	prober_free(&prober);
}

static void
check_options(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, recipient_check_section.name, &count);
	for (size_t i = 0; i < count; i++)
		check_section(conf, &sections[i], errors);
}

const struct policy_service recipient_check_service = {
	.options = &recipient_check_section,
	.states = POLICY_AT_RCPT,
	.setup = setup,
	.release = release,
	.decide = decide,
	.check = check_options,
};
