/*
 * Known correspondents.
 *
 * A record for each pair: when it was last written to, and digests of the last
 * networks from which the other has authentically written.  A record for each
 * user: how many were new in this day, so that a stolen account does not fill
 * the store.
 */
#include "policy/correspondents.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/conf.h"
#include "base/counter.h"
#include "base/log.h"
#include "policy/authentic.h"
#include "policy/service.h"
#include "policy/store.h"
#include "policy/subject.h"

#define DAY_MS		86400000
#define BATCH		(STORE_KEYS - 1)
#define LEARN_MAX	300	/* recipients of a message */
#define CHECK_MAX	5	/* the same, when it comes in */
#define KEY_SIZE	(2 * SUBJECT_DIGEST_HEX + 16)
#define IPV4_PREFIX	24
#define IPV6_PREFIX	48

enum { PAIR_WRITTEN, PAIR_NEXT, PAIR_NETWORKS, NETWORKS = 4 };
enum { USER_SINCE, USER_NEW };

struct correspondents {
	const struct correspondents_options *options;
	struct store *store;
	struct counter *passed;
};

static const struct option_row correspondents_rows[] = {
	CORRESPONDENTS_OPTIONS(OPTION_ROW, correspondents_options)
};

const struct section_kind correspondents_section = {
	.name = "correspondents",
	.doc = "Lets answers through: mail from those whom our users wrote "
	    "to, if the sender is authentic.",
	.rows = correspondents_rows,
	.row_count = OPTION_COUNT(correspondents_rows),
	.size = sizeof(struct correspondents_options),
};

static const struct counter_row counter_rows[] = {
	{ "millgate_correspondents_passed_total", COUNTER_TOTAL,
	    "Recipients that got mail from a known correspondent." },
};
COUNTER_TABLE(counter_rows)

/* --- learning --- */

/*
 * keys: the user's, then pairs, of which a[1] count; a[2]: how long they last,
 * a[3]: how many may be new in a day.
 */
static enum answer
learn_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	int64_t now = store_now(records);
	struct store_record user, pair;
	bool added = false;

	(void)texts;
	(void)results;
	if (!store_get(records, keys[0], &user)) {
		user.values[USER_SINCE] = now;
		user.expires_ms = now + DAY_MS;
	}
	for (int64_t i = 1; i <= a[0]; i++) {
		bool known = store_get(records, keys[i], &pair);

		if (known && now - pair.values[PAIR_WRITTEN] <= a[1] / 32)
			continue;
		if (!known && user.values[USER_NEW] >= a[2])
			continue;
		user.values[USER_NEW] += !known;
		added |= !known;
		pair.values[PAIR_WRITTEN] = now;
		pair.expires_ms = now + a[1];
		store_put(records, keys[i], &pair);
	}
	if (added)
		store_put(records, keys[0], &user);
	return ANSWER_YES;
}

static const struct store_step learn_step = {
	.name = "correspondents-learn",
	.keys = STORE_KEYS, .arguments = 3,
	.run = learn_run,
	.script =
	    "local count, lifetime, most = a[1], a[2], a[3]\n"
	    "local user = get(k[1]) or { now, 0, expires = now + 86400000 }\n"
	    "local added = false\n"
	    "for i = 2, count + 1 do\n"
	    "  local pair = get(k[i])\n"
	    "  local known = pair ~= nil\n"
	    "  pair = pair or { 0, 0 }\n"
	    "  if known and now - pair[1] > lifetime / 32\n"
	    "      or not known and user[2] < most then\n"
	    "    if not known then\n"
	    "      user[2] = user[2] + 1\n"
	    "      added = true\n"
	    "    end\n"
	    "    pair[1] = now\n"
	    "    put(k[i], pair, now + lifetime)\n"
	    "  end\n"
	    "end\n"
	    "if added then put(k[1], user, user.expires) end\n"
	    "return 1\n",
};

static void
user_key(char key[KEY_SIZE], const char *user)
{
	char hex[SUBJECT_DIGEST_HEX + 1];

	subject_digest(&user, 1, hex);
	snprintf(key, KEY_SIZE, "known:{%s}", hex);
}

static void
pair_key(char key[KEY_SIZE], const char *user, const char *address)
{
	char hex[SUBJECT_DIGEST_HEX + 1];
	size_t len;

	user_key(key, user);
	subject_digest(&address, 1, hex);
	len = strlen(key);
	snprintf(key + len, KEY_SIZE - len, ":%s", hex);
}

enum answer
correspondents_learn(struct store *store, const char *user,
    const char *const *addresses, size_t count, int64_t remember_ms,
    const char **why)
{
	char texts[STORE_KEYS][KEY_SIZE];
	const char *keys[STORE_KEYS];
	enum answer answer = ANSWER_YES;

	user_key(texts[0], user);
	for (size_t at = 0; at < count && answer == ANSWER_YES; at += BATCH) {
		size_t n = count - at < BATCH ? count - at : BATCH;
		const int64_t arguments[] = { (int64_t)n, remember_ms,
			CORRESPONDENTS_NEW_MAX };

		for (size_t i = 0; i < STORE_KEYS; i++) {
			keys[i] = texts[i <= n ? i : 0];
			if (i > 0 && i <= n)
				pair_key(texts[i], user,
				    addresses[at + i - 1]);
		}
		answer = store_run(store, &learn_step, keys, arguments, NULL,
		    NULL, why);
	}
	return answer;
}

/* --- asking --- */

/* a[1]: whether the sender is authentic; a[2]: its network's digest, or 0. */
static enum answer
check_run(struct store_records *records, const char *const *keys,
    const int64_t *a, const char *const *texts, int64_t *results)
{
	struct store_record pair;
	int64_t *networks = pair.values + PAIR_NETWORKS;

	(void)texts;
	(void)results;
	if (!store_get(records, keys[0], &pair))
		return ANSWER_NO;
	for (int i = 0; i < NETWORKS; i++)
		if (a[1] != 0 && networks[i] == a[1])
			return ANSWER_YES;
	if (a[0] == 0)
		return ANSWER_NO;
	if (a[1] != 0) {
		networks[pair.values[PAIR_NEXT] % NETWORKS] = a[1];
		pair.values[PAIR_NEXT]++;
		store_put(records, keys[0], &pair);
	}
	return ANSWER_YES;
}

static const struct store_step check_step = {
	.name = "correspondents-check",
	.keys = 1, .arguments = 2,
	.run = check_run,
	.script =
	    "local authentic, network = a[1], a[2]\n"
	    "local pair = get(k[1])\n"
	    "if not pair then return 0 end\n"
	    "for i = 3, 6 do\n"
	    "  if network ~= 0 and pair[i] == network then return 1 end\n"
	    "end\n"
	    "if authentic == 0 then return 0 end\n"
	    "if network ~= 0 then\n"
	    "  pair[3 + pair[2] % 4] = network\n"
	    "  pair[2] = pair[2] + 1\n"
	    "  put(k[1], pair, pair.expires)\n"
	    "end\n"
	    "return 1\n",
};

/* 52 bits, which Lua's numbers hold; 0: there is none. */
static int64_t
network_digest(const char *network)
{
	char hex[SUBJECT_DIGEST_HEX + 1];

	if (*network == '\0')
		return 0;
	subject_digest(&network, 1, hex);
	hex[13] = '\0';
	return (int64_t)strtoll(hex, NULL, 16);
}

enum answer
correspondents_check(struct store *store, const char *user,
    const char *address, bool authentic, const char *network,
    const char **why)
{
	const int64_t arguments[] = { authentic, network_digest(network) };
	char key[KEY_SIZE];
	const char *const keys[] = { key };

	pair_key(key, user, address);
	return store_run(store, &check_step, keys, arguments, NULL, NULL,
	    why);
}

/* --- the service --- */

/* The words of the recipients, which are the caller's to free. */
static char *
split(const struct policy_request *request, const char *words[], size_t max,
    size_t *countp)
{
	char *copy = strdup(policy_value(request, POLICY_RECIPIENT));
	char *p = copy;
	size_t count = 0;

	if (copy == NULL)
		fatal("out of memory (correspondents)");
	while (*(p += strspn(p, " ")) != '\0' && count < max) {
		words[count++] = p;
		p += strcspn(p, " ");
		if (*p != '\0')
			*p++ = '\0';
	}
	*countp = count;
	return copy;
}

static void
learn(const struct correspondents *correspondents,
    const struct policy_request *request)
{
	const char *sender = policy_value(request, POLICY_SENDER);
	const char *words[LEARN_MAX], *why;
	char *copy;
	size_t count;

	if (*sender == '\0')
		return;
	copy = split(request, words, LEARN_MAX, &count);
	correspondents_learn(correspondents->store, sender, words, count,
	    correspondents->options->remember, &why);
	free(copy);
}

/* All recipients must know the sender. */
static bool
is_known(const struct correspondents *correspondents,
    const struct policy_query *query)
{
	const struct policy_request *request = query->request;
	char network[SUBJECT_NETWORK_SIZE] = "";
	struct sockaddr_storage client;
	const char *words[CHECK_MAX + 1], *why;
	bool authentic = authentic_sender(query), known;
	char *copy;
	size_t count;

	if (subject_client(policy_value(request, POLICY_CLIENT_ADDRESS),
	    &client))
		subject_network(&client, IPV4_PREFIX, IPV6_PREFIX, network);
	copy = split(request, words, CHECK_MAX + 1, &count);
	known = count > 0 && count <= CHECK_MAX;
	for (size_t i = 0; i < count && known; i++)
		known = correspondents_check(correspondents->store, words[i],
		    policy_value(request, POLICY_SENDER), authentic, network,
		    &why) == ANSWER_YES;
	free(copy);
	return known;
}

/*
 * Of our own gateways' mail the outcome is told; other MTAs only ask, and tell
 * of their users.
 */
static void
decide(void *instance, const struct policy_query *query,
    struct policy_decision *decision)
{
	const struct correspondents *correspondents = instance;
	bool user = policy_known(query->request, POLICY_SASL_USERNAME) != NULL;

	if (*policy_value(query->request, POLICY_SENDER) == '\0')
		return;
	if (user || query->trusted) {
		if (user && !query->ours && query->state == POLICY_AT_RCPT)
			learn(correspondents, query->request);
		return;
	}
	if (!is_known(correspondents, query))
		return;
	counter_add(correspondents->passed, 1);
	decision->verb = POLICY_PASS;
	strcpy(decision->why, "known correspondent");
}

static void
outcome(void *instance, const struct policy_outcome *told)
{
	const struct policy_request *request = told->request;

	if (told->kind == OUTCOME_ACCEPTED && !told->undo &&
	    (policy_known(request, POLICY_SASL_USERNAME) != NULL ||
	    strcmp(policy_value(request, POLICY_TRUSTED), "yes") == 0))
		learn(instance, request);
}

static void *
setup(const struct conf *conf, const struct conf_section *section,
    struct store *store, const char **why)
{
	struct correspondents *correspondents = calloc(1,
	    sizeof(*correspondents));

	(void)conf;
	(void)why;
	if (correspondents == NULL)
		fatal("out of memory (correspondents)");
	correspondents->options = section->values;
	correspondents->store = store;
	correspondents->passed = counter_get(
	    "millgate_correspondents_passed_total", NULL);
	return correspondents;
}

static void
release(void *instance)
{
	free(instance);
}

const struct policy_service correspondents_service = {
	.options = &correspondents_section,
	.states = POLICY_AT_RCPT | POLICY_AT_END,
	.setup = setup,
	.release = release,
	.decide = decide,
	.outcome = outcome,
};
