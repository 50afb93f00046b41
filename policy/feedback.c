/*
 * Feedback: a record for each accepted message, whose note holds the attributes
 * in the policy protocol's form, parted by tabs.
 */
#include "policy/feedback.h"

#include <stdio.h>
#include <string.h>

#include "policy/store.h"

#define ID_MAX	64
#define KEY_SIZE (ID_MAX + 16)

/* What is cut off if there is too much stands last. */
static const struct {
	enum policy_attribute attribute;
	const char *name;
} kept[] = {
	{ POLICY_CLIENT_ADDRESS, "client_address" },
	{ POLICY_SASL_USERNAME, "sasl_username" },
	{ POLICY_SENDER, "sender" },
	{ POLICY_AUTH_DOMAINS, "auth_domains" },
	{ POLICY_AUTH_SELECTORS, "auth_selectors" },
	{ POLICY_HELO_NAME, "helo_name" },
	{ POLICY_RECIPIENT, "recipient" },
};

static enum answer
remember_run(struct store_records *records, const char *const *keys,
    const int64_t *arguments, const char *const *texts, int64_t *results)
{
	int64_t now = store_now(records);
	const struct store_record record = { .values = { now },
		.note = texts[0], .expires_ms = now + arguments[0] };

	(void)results;
	store_put(records, keys[0], &record);
	return ANSWER_YES;
}

static const struct store_step remember = {
	.name = "remember",
	.keys = 1, .arguments = 1, .texts = 1,
	.run = remember_run,
	.script =
	    "put(k[1], {now, note = t[1]}, now + a[1])\n"
	    "return 1\n",
};

/* False: that is no id of ours. */
static bool
make_key(const char *id, char key[KEY_SIZE])
{
	static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t len = strlen(id);

	snprintf(key, KEY_SIZE, "event:{%.*s}", ID_MAX, id);
	return len > 0 && len <= ID_MAX && strspn(id, letters) == len;
}

void
feedback_remember(struct store *store, const struct policy_outcome *outcome)
{
	const int64_t arguments[] = { FEEDBACK_KEEP_MS };
	char note[STORE_NOTE_MAX + 1], key[KEY_SIZE];
	const char *const keys[] = { key }, *const texts[] = { note };
	const char *why;
	size_t len = 0;

	if (!make_key(outcome->id, key))
		return;
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
		const char *value = policy_value(outcome->request,
		    kept[i].attribute);
		size_t more = strlen(kept[i].name) + strlen(value) + 2;

		if (*value == '\0' || strchr(value, '\t') != NULL ||
		    len + more > STORE_NOTE_MAX)
			continue;
		len += (size_t)snprintf(note + len, sizeof(note) - len,
		    "%s=%s\t", kept[i].name, value);
	}
	note[len] = '\0';
	store_run(store, &remember, keys, arguments, texts, NULL, &why);
}

static void
add_line(struct policy_request *request, const char *text, size_t len)
{
	char line[STORE_NOTE_MAX + 2];
	const char *why;

	memcpy(line, text, len);
	line[len] = '\n';
	policy_request_line(request, line, len + 1, &why);
}

enum answer
feedback_recall(struct store *store, const char *id,
    struct policy_request *request, const char **why)
{
	static const char kind[] = "request=" POLICY_REQUEST_OUTCOME;
	char key[KEY_SIZE], note[STORE_NOTE_MAX + 1];
	struct store_record record;
	enum answer answer;

	*why = "that is not an id";
	if (!make_key(id, key))
		return ANSWER_NO;
	answer = store_read(store, key, &record, note, why);
	if (answer != ANSWER_YES)
		return answer;
	policy_request_reset(request);
	add_line(request, kind, strlen(kind));
	for (const char *p = note; *p != '\0'; ) {
		size_t len = strcspn(p, "\t");

		add_line(request, p, len);
		p += len + (p[len] == '\t');
	}
	return ANSWER_YES;
}

int
feedback_find(const char *word)
{
	static const struct {
		const char *word;
		enum policy_outcome_kind kind;
	} words[] = {
		{ "spam", OUTCOME_REPORTED_SPAM }, { "trap", OUTCOME_TRAP },
		{ "malware", OUTCOME_MALWARE },
		{ "released", OUTCOME_RELEASED },
	};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(words[i].word, word) == 0)
			return words[i].kind;
	return -1;
}
