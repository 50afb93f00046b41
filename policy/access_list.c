/*
 * Lists of those who are let through, refused, put off or held.
 *
 * A record for each entry, all of a list in one group, so that one step finds
 * those that speak of a request.  A record's note is the entry's networks, a
 * line feed, and its comment; only of a hit it is read.
 */
#include "policy/access_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/table.h"
#include "policy/access_list_command.h"
#include "policy/access_list_entry.h"
#include "policy/service.h"
#include "policy/store.h"

#define FOREVER_MS	(INT64_C(36500) * 86400000)

struct access_list {
	const char *name;
	const struct access_list_options *options;
	struct store *store;
	struct counter *hits;
};

static const struct option_row access_list_rows[] = {
	ACCESS_LIST_OPTIONS(OPTION_ROW, access_list_options)
};

const struct section_kind access_list_section = {
	.name = "access_list",
	.titled = true,
	.doc = "Lets through, refuses, puts off or holds what is on a list.",
	.rows = access_list_rows,
	.row_count = OPTION_COUNT(access_list_rows),
	.size = sizeof(struct access_list_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_access_list_hits_total", COUNTER_TOTAL,
	    "Requests that an entry of a list spoke of." },
};
COUNTER_TABLE(counter_rows)

/* --- steps --- */

/* Which of the keys there are, as bits; the first a[1] of them count. */
static enum answer
find_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record record;

	(void)texts;
	results[0] = 0;
	for (int64_t i = 0; i < a[0]; i++)
		if (store_get(records, keys[i], &record))
			results[0] |= INT64_C(1) << i;
	return results[0] != 0 ? ANSWER_YES : ANSWER_NO;
}

static const struct store_step find_step = {
	.name = "list-find",
	.keys = ACCESS_CANDIDATES, .arguments = 1, .results = 1,
	.run = find_run,
	.script =
	    "local found, bit = 0, 1\n"
	    "for i = 1, a[1] do\n"
	    "  if get(k[i]) then found = found + bit end\n"
	    "  bit = bit * 2\n"
	    "end\n"
	    "return found > 0 and 1 or 0, found\n",
};

/* a[1]: how long it is kept; 0: it is removed. */
static enum answer
change_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record record;
	bool known = store_get(records, keys[0], &record);

	(void)results;
	if (a[0] == 0) {
		store_delete(records, keys[0]);
		return known ? ANSWER_YES : ANSWER_NO;
	}
	memset(&record, 0, sizeof(record));
	record.values[0] = store_now(records);
	record.note = texts[0];
	record.expires_ms = store_now(records) + a[0];
	store_put(records, keys[0], &record);
	return ANSWER_YES;
}

static const struct store_step change_step = {
	.name = "list-change",
	.keys = 1, .arguments = 1, .texts = 1,
	.run = change_run,
	.script =
	    "if a[1] == 0 then\n"
	    "  local known = get(k[1])\n"
	    "  del(k[1])\n"
	    "  return known and 1 or 0\n"
	    "end\n"
	    "put(k[1], { now, note = t[1] }, now + a[1])\n"
	    "return 1\n",
};

static void
key_print(char key[ACCESS_KEY_SIZE], const char *list, const char *entry)
{
	snprintf(key, ACCESS_KEY_SIZE, "list:{%s}:%s", list, entry);
}

static enum answer
change(struct store *store, const char *list, const char *entry,
    int64_t lifetime_ms, const char *note, const char **why)
{
	char key[ACCESS_KEY_SIZE];
	const char *const keys[] = { key };

	key_print(key, list, entry);
	return store_run(store, &change_step, keys, &lifetime_ms, &note, NULL,
	    why);
}

enum answer
access_list_add(struct store *store, const char *list, const char *entry,
    int64_t lifetime_ms, const char *networks, const char *comment,
    const char **why)
{
	char note[STORE_NOTE_MAX + 1];

	snprintf(note, sizeof(note), "%s\n%s", networks, comment);
	return change(store, list, entry, lifetime_ms == 0 ? FOREVER_MS :
	    lifetime_ms, note, why);
}

enum answer
access_list_remove(struct store *store, const char *list, const char *entry,
    const char **why)
{
	return change(store, list, entry, 0, "", why);
}

enum access_action
access_list_action(const void *instance)
{
	const struct access_list *list = instance;

	return (enum access_action)list->options->action;
}

/* --- deciding --- */

/* Whether an entry that was found may do what its list does. */
static bool
holds(const struct access_list *list, const struct access_candidates *found,
    const struct access_candidate *candidate, const char *networks)
{
	if (list->options->action != ACCESS_ALLOW || candidate->vouched)
		return true;
	return found->has_client &&
	    access_networks_hold(networks, &found->client);
}

/* The hit, or NULL. */
static const struct access_candidate *
find_static(const struct access_list *list,
    const struct access_candidates *found)
{
	const struct table *entries = list->options->entries;
	const char *value, *why;

	for (size_t i = 0; entries != NULL && i < found->count; i++) {
		const struct access_candidate *candidate = &found->items[i];

		if (table_find(entries, candidate->text, &value,
		    &why) == ANSWER_YES && holds(list, found, candidate,
		    value))
			return candidate;
	}
	return NULL;
}

/* Networks of any length, which only the configuration has. */
static bool
finds_client(const struct access_list *list,
    const struct access_candidates *found)
{
	const char *value, *why;

	return found->has_client && table_find_network(list->options->entries,
	    (const struct sockaddr *)&found->client, &value,
	    &why) == ANSWER_YES;
}

/* The bits of those that are in the store, 0 if it does not answer. */
static int64_t
ask_store(const struct access_list *list,
    const struct access_candidates *found)
{
	char texts[ACCESS_CANDIDATES][ACCESS_KEY_SIZE];
	const char *keys[ACCESS_CANDIDATES], *why;
	int64_t count = (int64_t)found->count, bits = 0;

	for (size_t i = 0; i < ACCESS_CANDIDATES; i++) {
		keys[i] = i < found->count ? texts[i] : texts[0];
		if (i < found->count)
			key_print(texts[i], list->name, found->items[i].text);
	}
	return store_run(list->store, &find_step, keys, &count, NULL, &bits,
	    &why) == ANSWER_YES ? bits : 0;
}

static const struct access_candidate *
find_stored(const struct access_list *list,
    const struct access_candidates *found, char comment[STORE_NOTE_MAX + 1])
{
	int64_t bits = found->count > 0 ? ask_store(list, found) : 0;
	char key[ACCESS_KEY_SIZE];
	struct store_record record;
	const char *why;
	char *end;

	for (size_t i = 0; i < found->count && bits >> i != 0; i++) {
		if ((bits >> i & 1) == 0)
			continue;
		key_print(key, list->name, found->items[i].text);
		if (store_read(list->store, key, &record, comment,
		    &why) != ANSWER_YES || (end = strchr(comment,
		    '\n')) == NULL)
			continue;
		*end = '\0';
		if (!holds(list, found, &found->items[i], comment))
			continue;
		memmove(comment, end + 1, strlen(end + 1) + 1);
		return &found->items[i];
	}
	return NULL;
}

static void
act(const struct access_list *list, const char *entry, const char *comment,
    struct policy_decision *decision)
{
	static const struct { enum policy_verb verb; int code;
	    const char *enhanced; } actions[] = {
		[ACCESS_ALLOW] = { POLICY_PASS, 0, "" },
		[ACCESS_REJECT] = { POLICY_REJECT, 550, "5.7.1" },
		[ACCESS_DEFER] = { POLICY_DEFER, 450, "4.7.1" },
		[ACCESS_HOLD] = { POLICY_HOLD, 0, "" },
	};
	enum access_action action = (enum access_action)list->options->action;

	counter_add(list->hits, 1);
	policy_decide(decision, actions[action].verb, "list-denied", "%s",
	    list->options->message);
	if (action == ACCESS_ALLOW) {
		decision->reason = NULL;
		decision->text[0] = '\0';
	}
	decision->code = actions[action].code;
	strcpy(decision->enhanced, actions[action].enhanced);
	snprintf(decision->why, sizeof(decision->why), "%s%s%s", entry,
	    *comment != '\0' ? ": " : "", comment);
}

/*
 * Our own gateways ask about each recipient and then at the end: who was not
 * refused before is so only for a domain that the message proved.
 */
static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const struct access_list *list = instance;
	bool proven_only = query->ours && query->state == POLICY_AT_END &&
	    list->options->action != ACCESS_ALLOW;
	const struct access_candidate *hit;
	char comment[STORE_NOTE_MAX + 1] = "";
	struct access_candidates found;

	access_candidates_find(&found, query, proven_only);
	hit = find_static(list, &found);
	if (hit == NULL && !proven_only && finds_client(list, &found)) {
		act(list, policy_value(query->request,
		    POLICY_CLIENT_ADDRESS), "", decision);
		return;
	}
	if (hit == NULL)
		hit = find_stored(list, &found, comment);
	if (hit != NULL)
		act(list, hit->text, comment, decision);
}

/* --- setting up --- */

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	struct access_list *list = calloc(1, sizeof(*list));
	char labels[128] = "";

	(void)conf;
	(void)why;
	if (list == NULL)
		fatal("out of memory (access_list)");
	list->name = section->title;
	list->options = section->values;
	list->store = store;
	counter_label(labels, sizeof(labels), "list", list->name);
	list->hits = counter_get("millgate_access_list_hits_total", labels);
	return list;
}

static void
release(void *instance)
{
	free(instance);
}

/* Where the errors of a list's entries go. */
struct checking {
	const struct conf *conf;
	const struct conf_section *section;
	struct buf *errors;
};

/* The value of an entry that allows names networks. */
static void
check_entry(const char *key, const char *value, void *argument)
{
	const struct checking *checking = argument;
	char one[ACCESS_ENTRY_SIZE], normal[ACCESS_ENTRY_SIZE];
	const char *why;
	size_t len;

	while (*(value += strspn(value, " ,\t")) != '\0') {
		len = strcspn(value, " ,\t");
		snprintf(one, sizeof(one), "%.*s", (int)len, value);
		if (access_network_normalize(one, normal, &why) != 0)
			conf_error(checking->errors, checking->conf,
			    checking->section, "entries", "%s: %s: %s", key,
			    one, why);
		value += len;
	}
}

static void
check(const struct conf *conf, struct buf *errors)
{
	const struct conf_section *sections;
	size_t count;

	sections = conf_sections(conf, access_list_section.name, &count);
	for (size_t i = 0; i < count; i++) {
		const struct access_list_options *o = sections[i].values;
		struct checking checking = { conf, &sections[i], errors };

		if (o->action == ACCESS_ALLOW)
			table_each(o->entries, check_entry, &checking);
		policy_check_message(conf, &sections[i], o->message, errors);
	}
}

const struct policy_service access_list_service = {
	.options = &access_list_section,
	.states = POLICY_AT_RCPT | POLICY_AT_END,
	.setup = setup,
	.release = release,
	.decide = decide,
	.command_word = "list",
	.command = access_list_command,
	.check = check,
};
