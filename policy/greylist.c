/*
 * Greylisting.
 *
 * Two records: the triplet's (since when it waits; when it last passed, 0 if
 * never) and its network's (how many triplets passed; when last).  The times of
 * what passes again and again are written only when they are 1/32 of the
 * lifetime old: most mail is read, not written.
 */
#include "policy/greylist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "base/table.h"
#include "policy/greylist_command.h"
#include "policy/service.h"
#include "policy/store.h"
#include "policy/subject.h"

#define GROUP_SIZE	SUBJECT_NETWORK_SIZE

enum { KEY_TRIPLET, KEY_NETWORK, KEY_COUNT };
enum { ARG_DELAY, ARG_WINDOW, ARG_LIFETIME, ARG_ENOUGH, ARG_COUNT };
enum { RESULT_WAIT, RESULT_REASON, RESULT_COUNT };

/* In the script by their numbers. */
enum reason { REASON_NEW, REASON_EARLY, REASON_PASSED, REASON_KNOWN,
	REASON_NETWORK, REASON_EXEMPT, REASON_COUNT };

static const char *const reason_texts[REASON_COUNT] = {
	[REASON_NEW] = "new", [REASON_EARLY] = "early",
	[REASON_PASSED] = "passed", [REASON_KNOWN] = "known",
	[REASON_NETWORK] = "network", [REASON_EXEMPT] = "exempt",
};

struct greylist {
	const struct greylist_options *options;
	struct store *store;
	struct counter *counters[REASON_COUNT], *unknown;
};

static const struct option_row greylist_rows[] = {
	GREYLIST_OPTIONS(OPTION_ROW, greylist_options)
};

const struct section_kind greylist_section = {
	.name = "greylist",
	.doc = "Asks strangers to come back later.",
	.rows = greylist_rows,
	.row_count = OPTION_COUNT(greylist_rows),
	.size = sizeof(struct greylist_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_greylist_total", COUNTER_TOTAL,
	    "What greylisting said." },
};
COUNTER_TABLE(counter_rows)

/* --- the step --- */

static void
touch(struct store_records *records, const char *key,
    struct store_record *record, int64_t lifetime)
{
	int64_t now = store_now(records);

	if (now - record->values[1] <= lifetime / 32)
		return;
	record->values[1] = now;
	record->expires_ms = now + lifetime;
	store_put(records, key, record);
}

static enum answer
step_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record network, seen;
	int64_t now = store_now(records);

	(void)texts;
	results[RESULT_WAIT] = 0;
	store_get(records, keys[KEY_NETWORK], &network);
	if (a[ARG_ENOUGH] > 0 && network.values[0] >= a[ARG_ENOUGH]) {
		touch(records, keys[KEY_NETWORK], &network, a[ARG_LIFETIME]);
		results[RESULT_REASON] = REASON_NETWORK;
		return ANSWER_YES;
	}
	if (!store_get(records, keys[KEY_TRIPLET], &seen)) {
		seen.values[0] = now;
		seen.expires_ms = now + a[ARG_WINDOW];
		store_put(records, keys[KEY_TRIPLET], &seen);
		results[RESULT_WAIT] = a[ARG_DELAY];
		results[RESULT_REASON] = REASON_NEW;
		return ANSWER_NO;
	}
	if (seen.values[1] == 0 && now < seen.values[0] + a[ARG_DELAY]) {
		results[RESULT_WAIT] = seen.values[0] + a[ARG_DELAY] - now;
		results[RESULT_REASON] = REASON_EARLY;
		return ANSWER_NO;
	}
	results[RESULT_REASON] = seen.values[1] == 0 ? REASON_PASSED :
	    REASON_KNOWN;
	if (seen.values[1] == 0) {
		network.values[0]++;
		network.values[1] = now;
		network.expires_ms = now + a[ARG_LIFETIME];
		store_put(records, keys[KEY_NETWORK], &network);
	}
	touch(records, keys[KEY_TRIPLET], &seen, a[ARG_LIFETIME]);
	return ANSWER_YES;
}

static const struct store_step step = {
	.name = "greylist",
	.keys = KEY_COUNT, .arguments = ARG_COUNT, .results = RESULT_COUNT,
	.run = step_run,
	.script =
	    "local delay, window, lifetime, enough = a[1], a[2], a[3], a[4]\n"
	    "local function touch(key, v)\n"
	    "  if now - v[2] <= lifetime / 32 then return end\n"
	    "  v[2] = now\n"
	    "  put(key, v, now + lifetime)\n"
	    "end\n"
	    "local network = get(k[2]) or {0, 0}\n"
	    "if enough > 0 and network[1] >= enough then\n"
	    "  touch(k[2], network)\n"
	    "  return 1, 0, 4\n"
	    "end\n"
	    "local seen = get(k[1])\n"
	    "if not seen then\n"
	    "  put(k[1], {now}, now + window)\n"
	    "  return 0, delay, 0\n"
	    "end\n"
	    "if seen[2] == 0 and now < seen[1] + delay then\n"
	    "  return 0, seen[1] + delay - now, 1\n"
	    "end\n"
	    "local reason = 3\n"
	    "if seen[2] == 0 then\n"
	    "  reason = 2\n"
	    "  put(k[2], {network[1] + 1, now}, now + lifetime)\n"
	    "end\n"
	    "touch(k[1], seen)\n"
	    "return 1, 0, reason\n",
};

static bool
is_exempt(const struct greylist_options *options,
    const struct greylist_request *request,
    const struct sockaddr_storage *client)
{
	const char *value, *why;

	if (options->exempt == NULL)
		return false;
	if (client->ss_family != AF_UNSPEC &&
	    table_find_network(options->exempt,
	    (const struct sockaddr *)client, &value, &why) == ANSWER_YES)
		return true;
	return request->client_name != NULL && table_find_domain(
	    options->exempt, request->client_name, &value,
	    &why) == ANSWER_YES;
}

/* --- for others --- */

bool
greylist_keys_find(const struct greylist *greylist,
    const struct greylist_request *request, struct greylist_keys *keys)
{
	const struct greylist_options *o = greylist->options;
	const char *sender = request->sender != NULL ? request->sender : "";
	char group[GROUP_SIZE], hex[SUBJECT_DIGEST_HEX + 1];
	const char *at = strrchr(sender, '@');
	struct sockaddr_storage client;

	if (request->identity != NULL) {
		strcpy(group, "u:");
		subject_digest(&request->identity, 1, group + 2);
	} else if (subject_client(request->client_address, &client)) {
		subject_network(&client, o->ipv4_prefix, o->ipv6_prefix,
		    group);
	} else {
		return false;
	}
	if (o->sender == GREYLIST_SENDER_DOMAIN && at != NULL)
		sender = at + 1;
	subject_digest((const char *const[]){ sender, request->recipient },
	    request->recipient != NULL ? 2 : 1, hex);
	snprintf(keys->triplet, sizeof(keys->triplet), "grey:{%s}:%s", group,
	    hex);
	snprintf(keys->network, sizeof(keys->network), "grey:{%s}", group);
	return true;
}

const struct greylist_options *
greylist_options(const struct greylist *greylist)
{
	return greylist->options;
}

enum answer
greylist_check(struct greylist *greylist,
    const struct greylist_request *request, int64_t *wait_ms,
    const char **why)
{
	const struct greylist_options *o = greylist->options;
	const int64_t arguments[ARG_COUNT] = { o->delay, o->retry_window,
		o->lifetime, o->auto_whitelist };
	int64_t results[RESULT_COUNT] = { 0, REASON_NEW };
	struct sockaddr_storage client;
	struct greylist_keys keys;
	enum answer answer;

	*wait_ms = 0;
	subject_client(request->client_address, &client);
	if (is_exempt(o, request, &client)) {
		counter_add(greylist->counters[REASON_EXEMPT], 1);
		*why = reason_texts[REASON_EXEMPT];
		return ANSWER_YES;
	}
	if (!greylist_keys_find(greylist, request, &keys)) {
		*why = "the client's address is not known";
		counter_add(greylist->unknown, 1);
		return ANSWER_UNKNOWN;
	}
	answer = store_run(greylist->store, &step, (const char *const[]){
	    [KEY_TRIPLET] = keys.triplet, [KEY_NETWORK] = keys.network },
	    arguments, NULL, results, why);
	if (answer == ANSWER_UNKNOWN || results[RESULT_REASON] < 0 ||
	    results[RESULT_REASON] >= REASON_COUNT) {
		counter_add(greylist->unknown, 1);
		return ANSWER_UNKNOWN;
	}
	counter_add(greylist->counters[results[RESULT_REASON]], 1);
	*why = reason_texts[results[RESULT_REASON]];
	*wait_ms = results[RESULT_WAIT];
	return answer;
}

struct greylist *
greylist_new(const struct conf *conf, struct store *store)
{
	struct greylist *greylist;

	if ((greylist = calloc(1, sizeof(*greylist))) == NULL)
		fatal("out of memory (greylist)");
	greylist->options = conf_get(conf, greylist_section.name);
	greylist->store = store;
	for (size_t i = 0; i < REASON_COUNT; i++) {
		char labels[64];

		snprintf(labels, sizeof(labels), "reason=\"%s\"",
		    reason_texts[i]);
		greylist->counters[i] = counter_get("millgate_greylist_total",
		    labels);
	}
	greylist->unknown = counter_get("millgate_greylist_total",
	    "reason=\"unknown\"");
	return greylist;
}

void
greylist_free(struct greylist **greylistp)
{
	free(*greylistp);
	*greylistp = NULL;
}

static void
check_options(const struct conf *conf, struct buf *errors)
{
	const struct greylist_options *o = conf_get(conf,
	    greylist_section.name);
	const struct conf_section *section;
	size_t count;

	section = conf_sections(conf, greylist_section.name, &count);
	if (o->delay >= o->retry_window)
		conf_error(errors, conf, section, "delay",
		    "must be less than retry_window");
	policy_check_message(conf, section, o->message, errors);
}

/* --- the service --- */

static void *
service_setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	(void)section;
	(void)why;
	return greylist_new(conf, store);
}

static void
service_release(void *instance)
{
	struct greylist *greylist = instance;

	greylist_free(&greylist);
}

/* Certificates need not be verified: who has the key is the same again. */
static const char *
identity(const struct policy_request *request)
{
	const char *user = policy_known(request, POLICY_SASL_USERNAME);

	return user != NULL ? user :
	    policy_known(request, POLICY_CCERT_PUBKEY_FINGERPRINT);
}

static void
service_decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const struct policy_request *request = query->request;
	const struct greylist_request question = {
		.identity = identity(request),
		.client_address = policy_known(request, POLICY_CLIENT_ADDRESS),
		.client_name = policy_known(request, POLICY_CLIENT_NAME),
		.sender = policy_value(request, POLICY_SENDER),
		.recipient = policy_value(request, POLICY_RECIPIENT),
	};
	struct greylist *greylist = instance;
	int64_t wait_ms;
	enum answer answer;
	const char *why;

	answer = greylist_check(greylist, &question, &wait_ms, &why);
	snprintf(decision->why, sizeof(decision->why), "%s", why);
	if (answer != ANSWER_NO)
		return;
	policy_decide(decision, POLICY_DEFER, "greylist",
	    "%s, try again in %lld seconds", greylist->options->message,
	    (long long)(wait_ms > 1000 ? (wait_ms + 999) / 1000 : 1));
	strcpy(decision->enhanced, "4.7.1");
	decision->wait_ms = wait_ms;
}

const struct policy_service greylist_service = {
	.options = &greylist_section,
	.states = POLICY_AT_RCPT,
	.strangers_only = true,
	.setup = service_setup,
	.release = service_release,
	.decide = service_decide,
	.command_word = "greylist",
	.command = greylist_command,
	.check = check_options,
};
